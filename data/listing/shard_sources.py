"""Find the shards that a pattern names, on disk or on a server, and the index of the images in them."""

import fnmatch
import hashlib
import io
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from data.listing.shard_index import (
    CATALOGUE,
    INDEX_FILE,
    Index,
    Shard,
    build_index,
    load_index,
    read_catalogue,
)
from data.listing.shard_names import expand
from data.shards import cache as shard_cache
from data.shards.addresses import as_url
from data.shards.tars import BadTar, CutTar, read_members
from util.cache_dir import cache_folder
from util.errors import DataError, EnvironmentFault, count_text, print_line

MAX_INDEX_BYTES = 1 << 32


class DiskShards:
    """Shards on this machine, with their sizes and modification times."""

    def __init__(self, pattern: str):
        self.pattern = pattern
        self.shards = self._look()
        if not self.shards:
            raise DataError("pattern", pattern, "fits no file", "name existing shards, such as 'DATA/{0000..0099}.tar'")

    def _look(self) -> list[Shard]:
        shards = []
        for path in expand(self.pattern):
            try:
                status = os.stat(path)
            except OSError as problem:
                why = f"cannot be read ({problem.strerror}), and {self.pattern} names it"
                raise DataError("file", path, why, "give the names of existing shards") from problem
            shards.append(Shard(path, status.st_size, f"{status.st_mtime_ns:x}"))
        return shards

    def has_changed(self) -> bool:
        """Return whether the pattern names other shards than before, or a shard was changed."""
        return self._look() != self.shards

    def find_index(self) -> Index:
        """Return the index: the one beside the shards, that of an earlier run, or a new one; raise DataError."""
        folders = {os.path.dirname(shard.path) for shard in self.shards}
        catalogue = _read_catalogue(Path(*folders, CATALOGUE)) if len(folders) == 1 else {}
        if catalogue and (index := self._index_beside(Path(*folders))):
            return index
        origin, known = catalogue.get("digest", ""), {shard.path: shard for shard in self.shards}

        def build() -> Index:
            index = build_index(list(known), catalogue.get("classes", ()), known.__getitem__, self.open)
            index.origin = origin
            return index

        return _kept_index(
            list(map(os.path.abspath, known)),
            lambda index: index.shards == self.shards and index.origin == origin,
            build,
        )

    def _index_beside(self, folder: Path) -> Index | None:
        """Return the part for these shards of the index that make_shards wrote; None if it does not fit them."""
        try:
            index = load_index(folder / INDEX_FILE)
        except (OSError, ValueError):  # it was not copied, or not completely: another one is made
            return None
        sizes = {shard.path: shard.size for shard in index.shards}
        if any(sizes.get(os.path.basename(shard.path)) != shard.size for shard in self.shards):
            return None
        versions = {os.path.basename(shard.path): shard for shard in self.shards}
        index.shards = [versions.get(shard.path, shard) for shard in index.shards]
        return index.select(self.shards)

    def open(self, shard: Shard) -> BinaryIO:
        """Open a shard for reading."""
        return open(shard.path, "rb", buffering=0)  # type: ignore[return-value]


class ServerShards:
    """Shards on a server, known by their SHA-256; they are kept in the cache of shards."""

    def __init__(self, pattern: str):
        self.pattern = as_url(pattern)
        self.folder = self.pattern.rpartition("/")[0]
        self.catalogue: dict[str, Any] = {}
        self.known: dict[str, Shard] = {}
        self.fault: EnvironmentFault | None = None
        try:
            content = shard_cache.fetch_bytes(f"{self.folder}/{CATALOGUE}", MAX_INDEX_BYTES)
            self.catalogue = _checked_catalogue(f"{self.folder}/{CATALOGUE}", content)
        except EnvironmentFault as problem:  # the server has none, or does not answer
            self.fault = problem
            return
        rows = self.catalogue["shards"]
        self.known = {f"{self.folder}/{row.path}": row._replace(path=f"{self.folder}/{row.path}") for row in rows}

    @property
    def names(self) -> list[str]:
        """The addresses of the shards."""
        if "*" not in self.pattern:
            return expand(self.pattern)
        if named := fnmatch.filter(self.known, self.pattern):
            return named
        said = self.fault.args[2] if self.fault else "it lists none of these"
        why = f"a server's folder is read by its {CATALOGUE} ({said})"
        remedy = (
            f"name the shards, such as '{self.folder}/{{0000..0099}}.tar', or write {CATALOGUE} with make_shards.py"
        )
        raise DataError("address", self.folder, why, remedy)

    def has_changed(self) -> bool:
        """Return False: a process asks the server once."""
        return False

    def find_index(self) -> Index:
        """Return the index: that of an earlier run, the server's, or a new one after a download of all shards."""

        def fits(index: Index) -> bool:
            if self.fault and index.origin:
                print_line(f"note: {self.folder} is not asked for changes: {self.fault.args[2]}")
            return bool(self.fault) or index.origin == self.catalogue["digest"]

        return _kept_index([self.pattern], fits, self._new_index)

    def _new_index(self) -> Index:
        names = self.names
        if not self.catalogue:
            return build_index(names, (), self._learn, self.open)
        if missing := [name for name in names if name not in self.known]:
            raise DataError("address", missing[0], f"is not among the shards of {CATALOGUE}", "name shards that are")
        url = f"{self.folder}/{INDEX_FILE}"
        content = shard_cache.fetch_bytes(url, MAX_INDEX_BYTES)
        try:
            if hashlib.sha256(content).hexdigest() != self.catalogue["index"]:
                raise ValueError(f"is not the index that {CATALOGUE} names")
            index = load_index(io.BytesIO(content))
        except ValueError as problem:
            raise DataError(
                "address", url, str(problem), "copy all files of the shards to the server again"
            ) from problem
        index.shards = [self.known.get(f"{self.folder}/{shard.path}", shard) for shard in index.shards]
        index.origin = self.catalogue["digest"]
        return index.select([self.known[name] for name in names])

    def _learn(self, url: str) -> Shard:
        """Return a shard that is downloaded for the first time."""
        if url not in self.known:
            self.known[url] = Shard(url, *shard_cache.learn_shard(url, _cut_reason))
        return self.known[url]

    def open(self, shard: Shard) -> BinaryIO:
        """Open a shard for reading; it is downloaded if it is not in the cache."""
        return shard_cache.open_shard(shard.path, shard.size, shard.version)


def _cut_reason(part: Any) -> str:
    """Return why a downloaded file is not a whole tar; "" if it is one."""
    try:
        with open(part.path, "rb") as file:
            list(read_members(file, part.size))
    except CutTar as problem:
        return str(problem)
    except BadTar:  # another download would be the same
        return ""
    return ""


def _read_catalogue(file: Path) -> dict[str, Any]:
    """Return what shards.json says, {} if there is none; raise DataError."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise DataError("file", file, f"cannot be read ({problem.strerror})", "check its permissions") from problem
    return _checked_catalogue(str(file), content)


def _checked_catalogue(name: str, content: bytes) -> dict[str, Any]:
    try:
        catalogue = read_catalogue(content)
        if not catalogue["complete"]:
            raise ValueError("says that the shards are not complete")
    except ValueError as problem:
        raise DataError("file", name, str(problem), "run make_shards.py again, to its end") from problem
    return catalogue | {"digest": hashlib.sha256(content).hexdigest()}


def _kept_index(names: Sequence[str], fits: Callable[[Index], bool], build: Callable[[], Index]) -> Index:
    """Return the index of these shards that an earlier run kept in the user's cache, or build one and keep it."""
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    file, stack = cache_folder() / "shards" / f"{digest[:32]}.npz", ExitStack()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(shard_cache.only_one(file))  # other processes of the run wait for the index
    except OSError:  # the user's cache cannot be written to
        return build()
    with stack:
        try:
            index = load_index(file)
            if fits(index):
                return index
        except (OSError, ValueError):  # there is none, or it is damaged
            pass
        index = build()
        try:
            temporary = file.with_suffix(".tmp")
            with open(temporary, "wb") as out:
                index.save(out)
            os.replace(temporary, file)
        except OSError as problem:
            print_line(f"note: the index of {count_text(len(index.shards), 'shard')} is not kept ({problem.strerror})")
        return index
