"""Index the images in shards: made once, kept in one file, and small for a million images."""

import json
import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from data.listing.paths import COMPANION_EXTENSIONS, EXTENSIONS, Paths
from data.listing.shard_names import SHARD_END, SIDE, member_path, phase_of
from data.listing.zips import HIDDEN
from data.shards.tars import BadTar, Member, read_members
from util.errors import DataError

FORMAT = 1  # version of the index
CATALOGUE, INDEX_FILE = "shards.json", "shards.index"  # beside the shards that scripts/make_shards.py writes
CLASS_END = ".cls"  # of a member whose content is the class of a sample
MAX_CLASS_BYTES = 200
REMEDY = "plain files in an uncompressed tar (tar --dereference --hard-dereference -cf NAME.tar FOLDER)"
COMPANIONS = (*COMPANION_EXTENSIONS, CLASS_END)


class Shard(NamedTuple):
    """A tar file on disk or on a server; version: its modification time, or its SHA-256."""

    path: str
    size: int
    version: str


@dataclass(eq=False)
class Index:
    """The images of all shards, sorted by path, with where each begins in its shard (bytes)."""

    shards: list[Shard]
    paths: Paths  # below the shards; `marks` has the numbers of shard and class
    starts: np.ndarray
    classes: list[str]
    folders: list[str]  # that hold images, also in sub-folders; "" is the top
    sided_classes: bool = False  # whether a class belongs to an image of side A or B, which is in no folder of a class
    origin: str = ""  # the SHA-256 of the server's shards.json that it was made from

    def select(self, shards: Sequence[Shard]) -> "Index":
        """Return the index of some of the shards; their places in `shards` are their numbers."""
        number_of = {shard.path: number for number, shard in enumerate(shards)}
        numbers = np.array([number_of.get(shard.path, -1) for shard in self.shards], dtype=np.int32)
        kept = np.flatnonzero(numbers[self.marks[:, 0]] >= 0)
        if len(kept) < len(self.paths):
            self.paths, self.starts = self.paths.take(kept), self.starts[kept]
            self.folders = _folders(self.paths.name(i) for i in range(len(self.paths)))
        self.marks[:, 0] = numbers[self.marks[:, 0]]
        self.shards = list(shards)
        return self

    def save(self, file: IO[bytes]) -> None:
        """Write the index as an .npz file, with the same bytes for the same shards."""
        texts = {"format": FORMAT, "shards": self.shards, "classes": self.classes, "folders": self.folders}
        info = json.dumps(texts | {"sided_classes": self.sided_classes, "origin": self.origin}).encode()
        blocks = {"info": info, "names": self.paths.names, "unused": self.paths.unused}
        columns: dict[str, Any] = {name: np.frombuffer(block, np.uint8) for name, block in blocks.items()}
        columns |= {"ends": self.paths.offsets, "sizes": self.paths.sizes, "starts": self.starts}
        np.savez(file, marks=self.marks, **columns)

    @property
    def marks(self) -> np.ndarray:
        """(N, 2) int32: the numbers of the shard and the class of each image."""
        assert self.paths.marks is not None
        return self.paths.marks


def load_index(file: str | Path | IO[bytes]) -> Index:
    """Return an index from its file; raise OSError or ValueError if it is missing, damaged or of another version."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            info = json.loads(stored["info"].tobytes())
            if info["format"] != FORMAT:
                raise ValueError(f"has format {info['format']}")
            ends, sizes, starts = (stored[name].astype(np.int64) for name in ("ends", "sizes", "starts"))
            marks = stored["marks"].astype(np.int32)
            paths = Paths("", stored["names"].tobytes(), ends, sizes, stored["unused"].tobytes(), marks)
            shards = [Shard(str(path), int(size), str(version)) for path, size, version in info["shards"]]
            index = Index(shards, paths, starts, list(map(str, info["classes"])), list(map(str, info["folders"])),
                          bool(info["sided_classes"]), str(info["origin"]))  # fmt: skip
    except OSError:
        raise
    except Exception as problem:  # damage raises many types: BadZipFile, KeyError, TypeError, zlib.error, ...
        raise ValueError(f"is not an index ({type(problem).__name__}: {problem})") from problem
    _check(index)
    return index


def _check(index: Index) -> None:
    """Raise ValueError unless the columns of an index, which may come from a server, fit each other."""
    paths, marks, number = index.paths, index.marks, len(index.paths)
    ends = paths.offsets
    fits = marks.shape == (number, 2) and len(paths.sizes) == len(index.starts) == number and number
    if not fits or ends[0] != 0 or ends[-1] != len(paths.names) or (np.diff(ends) <= 0).any():
        raise ValueError("is not an index: its columns do not fit each other")
    first = np.frombuffer(paths.names, np.uint8)[ends[:-1]]
    if (
        (first == ord("/")).any()
        or min(paths.names) < ord(" ")
        or b"\\" in paths.names
        or (b".." in paths.names and any(b".." in paths.name(i).split(b"/") for i in range(number)))
    ):
        raise ValueError("is not an index: a name leads out of its folder")
    totals = np.array([shard.size for shard in index.shards], dtype=np.int64)
    for column, most in ((marks[:, 0], len(totals)), (marks[:, 1] + 1, len(index.classes) + 1)):
        if column.min() < 0 or column.max() >= most:
            raise ValueError("is not an index: a number is out of range")
    if paths.sizes.min() < 0 or index.starts.min() < 512 or (index.starts + paths.sizes > totals[marks[:, 0]]).any():
        raise ValueError("is not an index: an image lies outside its shard")


@dataclass
class IndexBuilder:
    """Collects the images of shards, one shard after another.

    classes: the names of the classes that a number in a .cls member means; without them the number is the name.
    qualify: put each image into a folder with the name of its shard, for shards that use the same names.
    """

    classes: Sequence[str] = ()
    qualify: bool = False
    shards: list[Shard] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names: list[bytes] = []
        self.sizes, self.starts, self.marks = array("q"), array("q"), array("i")
        self.labels: dict[str, int] = {}
        self.unused: list[bytes] = []
        self.sided_classes = False

    def add(self, shard: Shard, file: IO[bytes]) -> None:
        """Add the images of a shard; raise BadTar if it is refused."""
        phase, number = phase_of(shard.path), len(self.shards)
        stem = SHARD_END.sub("", os.path.basename(shard.path))
        members = [each for each in read_members(file, shard.size) if not HIDDEN.search(each.name)]
        labels = {each.name[: -len(CLASS_END)]: self._label(file, each) for each in members
                  if each.name.endswith(CLASS_END)}  # fmt: skip
        for each in members:
            lower = each.name.lower()
            if lower.endswith(COMPANIONS):
                continue
            label = labels.get(SIDE.sub("", each.name).rpartition(".")[0]) if labels else None
            name = each.name
            if self.qualify:
                name = os.path.join(os.path.dirname(name), stem, os.path.basename(name)).replace(os.sep, "/")
            path, is_sided = member_path(name, phase, label)
            if not lower.endswith(EXTENSIONS):
                self.unused.append(os.fsencode(path))
                continue
            self.sided_classes |= is_sided and label is not None
            self.names.append(os.fsencode(path))
            self.sizes.append(each.size)
            self.starts.append(each.offset)
            self.marks.extend((number, -1 if label is None else self.labels.setdefault(label, len(self.labels))))
        self.shards.append(shard)

    def _label(self, file: IO[bytes], member: Member) -> str:
        """Return the class in a .cls member."""
        file.seek(member.offset)
        text = file.read(min(member.size, MAX_CLASS_BYTES + 1)).decode("utf-8", "replace").strip()
        if text.isdecimal() and self.classes:
            if int(text) >= len(self.classes):
                raise BadTar(f"'{member.name}' names class {text} of {len(self.classes)}")
            text = self.classes[int(text)]
        if not 0 < len(text) <= MAX_CLASS_BYTES or not text.isprintable() or text[0] == "." or {"/", "\\"} & {*text}:
            raise BadTar(f"'{member.name}' does not hold the name or number of a class ({text[:40]!r})")
        return text

    def index(self) -> Index:
        """Return the index of what was added; raise BadTar for an image that occurs twice."""
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        names = [self.names[i] for i in order]
        marks = np.array(self.marks, dtype=np.int32).reshape(-1, 2)[order]
        for i in range(1, len(names)):
            if names[i] == names[i - 1]:
                first, second = (self.shards[marks[j, 0]].path for j in (i - 1, i))
                if first == second or self.qualify:
                    raise BadTar(f"'{os.fsdecode(names[i])}' occurs twice, in '{first}' and '{second}'")
                raise SameNames
        paths = Paths.from_names(names, np.array(self.sizes, dtype=np.int64)[order])
        paths.marks, paths.unused = marks, b"".join(name + b"\0" for name in sorted(self.unused))
        starts = np.array(self.starts, dtype=np.int64)[order]
        return Index(self.shards, paths, starts, list(self.labels), _folders(names), self.sided_classes)


class SameNames(Exception):
    """Two shards use one name, so that IndexBuilder must qualify names."""


def build_index(
    names: Sequence[str], classes: Sequence[str], find: Callable[[str], Shard], open_file: Callable[[Shard], IO[bytes]]
) -> Index:
    """Return the index of shards; raise DataError, naming it, for one that is refused.

    find: returns the shard of a name, before it is opened.
    """
    for qualify in (False, True):
        builder = IndexBuilder(classes, qualify)
        try:
            with tqdm(names, "reading the names in shards", unit=" shards", delay=3, disable=None, leave=False) as bar:
                for name in bar:
                    shard = find(name)
                    with open_file(shard) as file:
                        builder.add(shard, file)
            return builder.index()
        except SameNames:
            continue
        except BadTar as problem:
            raise DataError("file", name, str(problem), f"make it again: {REMEDY}") from problem
        except OSError as problem:
            raise DataError("file", name, f"cannot be read ({problem.strerror})", "check its permissions") from problem
    raise AssertionError("a qualified name is unique or refused")


def _folders(names: Iterable[bytes]) -> list[str]:
    """Return the folders of files, and all folders above them, sorted."""
    folders, pending = {b""}, {name.rpartition(b"/")[0] for name in names}
    while pending:
        folders |= pending
        pending = {name.rpartition(b"/")[0] for name in pending} - folders
    return sorted(map(os.fsdecode, folders))


def read_catalogue(content: bytes) -> dict[str, Any]:
    """Return what shards.json says: shards (name, bytes, SHA-256, images), classes, index; raise ValueError."""
    try:
        stored = json.loads(content)
        shards = [Shard(str(row["name"]), int(row["bytes"]), str(row["sha256"])) for row in stored["shards"]]
        known = {"shards": shards, "classes": [str(name) for name in stored["classes"]]}
        return known | {"index": str(stored["index"]), "complete": stored["complete"] is True}
    except (KeyError, TypeError, ValueError, RecursionError) as problem:
        raise ValueError(f"is not a list of shards ({type(problem).__name__}: {problem})") from problem
