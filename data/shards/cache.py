"""Keep shards from a server in a folder of limited size, which all processes of all runs share.

A shard is downloaded by one process while the others wait for its lock. The shards that were opened longest ago are
deleted first. A process holds a shared lock on the shard that it reads, and a locked shard is not deleted. Where a file
system has no locks, the operating system keeps the open file (POSIX) or refuses to delete it (Windows).
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from data.shards.settings import settings
from util import file_lock
from util.cache_dir import cache_folder
from util.disk_space import format_bytes
from util.errors import EnvironmentFault, OptionError

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be deleted
    fcntl = None  # type: ignore[assignment]

MAX_DOWNLOADS = 3  # of one shard that arrives damaged
BY_HAND = "check the address and the network, or copy the shards to this machine"


def shards_folder() -> Path:
    """Return the folder of downloaded shards, which is made if it is missing; raise EnvironmentFault."""
    folder = Path(settings.folder or cache_folder(), "shards")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        why = f"cannot be made ({problem.strerror})"
        raise EnvironmentFault("folder", folder, why, "choose another --cache_dir") from problem
    return folder


def open_shard(url: str, size: int, sha256: str) -> BinaryIO:
    """Return a shard from the server, opened so that no process deletes it; raise EnvironmentFault or OptionError."""
    while True:
        path = fetch_shard(url, size, sha256)
        try:
            file = open(path, "rb", buffering=0)
        except FileNotFoundError:  # deleted between the two calls, to make room
            continue
        _lock(file.fileno(), shared=True)
        if os.fstat(file.fileno()).st_nlink:
            return file  # type: ignore[return-value]
        file.close()


def fetch_shard(url: str, size: int, sha256: str) -> Path:
    """Return the path of a shard in the cache; it is downloaded if it is not there with these bytes."""
    target = _place(url, sha256)
    if _is_there(target, size):
        return target
    with only_one(target):
        if not _is_there(target, size):
            wrong = "it has another SHA-256"
            download(url, target, size, lambda part: "" if part.sha256() == sha256 else wrong)
    return target


def _is_there(path: Path, size: int) -> bool:
    """Return whether a file is complete, which is then the one that was opened last."""
    try:
        is_complete = path.stat().st_size == size
        if is_complete:
            os.utime(path)
        return is_complete
    except OSError:
        return False


def download(url: str, target: Path, size: int, check: Callable[[Any], str]) -> None:
    """Download a shard of `size` bytes (0: unknown) to `target`, and once more if `check` finds it wrong.

    check: returns what is wrong with a complete PartialFile, or "". Raises EnvironmentFault after MAX_DOWNLOADS, or if
    the server does not answer, and OptionError for a shard that is larger than the cache.
    """
    # imported here because a run that reads files on disk needs no network code
    from serialization.download.fetch import DownloadSpec, fetch
    from serialization.download.partial import PartialFile

    if size > settings.limit:
        why = f"is {format_bytes(settings.limit)}, but {url} has {format_bytes(size)}"
        raise OptionError("option", "--shard_cache_gb", why, "raise it, or make smaller shards")
    make_room(size, target)
    problems = []
    for _ in range(MAX_DOWNLOADS):
        part = PartialFile(target, copies=1, elsewhere="choose another --cache_dir")
        try:
            fetch([url], DownloadSpec(part, (b"",), lambda done, total: None, int(settings.limit)), BY_HAND)
            wrong = f"it has {part.size} bytes instead of {size}" if size and part.size != size else check(part)
            if not wrong:
                part.move_to(target)
                make_room(0, target)
                return
            problems.append(wrong)
            part.remove()
        except OSError as problem:
            why = f"cannot be written ({problem.strerror or problem})"
            raise EnvironmentFault("file", part.path, why, "choose another --cache_dir") from problem
        finally:
            part.close()
    why = f"was downloaded {MAX_DOWNLOADS} times and is not the shard that was listed: {problems[-1]}"
    remedy = "if it was changed on purpose, make the index again (docs/data.md, Shards); else try again later"
    raise EnvironmentFault("address", url, why, remedy)


def learn_shard(url: str, check: Callable[[Any], str]) -> tuple[int, str]:
    """Download a shard of which nothing is known, keep it, and return its size in bytes and its SHA-256."""
    target = shards_folder() / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.new.tar"
    known: list[str] = []

    def learn(part: Any) -> str:
        known.append(part.sha256())
        return check(part)

    with only_one(target):
        download(url, target, 0, learn)
        size = target.stat().st_size
        os.replace(target, _place(url, known[-1]))
    return size, known[-1]


def fetch_bytes(url: str, most: int) -> bytes:
    """Return a small file from a server; raise EnvironmentFault."""
    # imported here because a run that reads files on disk needs no network code
    from serialization.download.fetch import DownloadSpec, fetch
    from serialization.download.partial import PartialFile

    with tempfile.TemporaryDirectory() as folder:
        part = PartialFile(Path(folder, "file"), copies=1)
        try:
            fetch([url], DownloadSpec(part, (b"",), lambda done, total: None, most), BY_HAND)
            return part.path.read_bytes()
        finally:
            part.close()


def _place(url: str, sha256: str) -> Path:
    return shards_folder() / f"{hashlib.sha256(f'{url} {sha256}'.encode()).hexdigest()[:32]}.tar"


def make_room(needed: int, keep: Path) -> None:
    """Delete the shards opened longest ago until `needed` bytes fit; not `keep`, and none that is in use."""
    found = []
    for path in [*keep.parent.glob("*.tar"), *keep.parent.glob("*.tar.part")]:
        with suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime_ns, path, status.st_size))
    total = sum(size for _, _, size in found) + needed
    for _, path, size in sorted(found):
        if total <= settings.limit:
            return
        if path.name.removesuffix(".part") != keep.name and _delete_unused(path):
            total -= size


def _delete_unused(path: Path) -> bool:
    """Delete a file of the cache unless a process reads or downloads it; return whether it is gone."""
    try:
        if path.suffix == ".part":
            lock = file_lock.acquire(path.with_name(f"{path.name}.lock"), "a download of it")
            if lock is None:
                return False
            try:
                path.unlink(missing_ok=True)
                path.with_name(f"{path.name}.json").unlink(missing_ok=True)
            finally:
                file_lock.remove(lock)
            return True
        if fcntl is None:
            path.unlink()
            return True
        with open(path, "rb+") as file:
            if not _lock(file.fileno(), shared=False):
                return False
            path.unlink(missing_ok=True)
        return True
    except FileNotFoundError:
        return True
    except OSError:  # in use on Windows, or another user's
        return False


def _lock(descriptor: int, shared: bool) -> bool:
    """Lock a file until it is closed; return False if it is in use, which an exclusive lock does not wait for."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


@contextmanager
def only_one(target: Path) -> Iterator[None]:
    """Wait until no other process makes a file."""
    lock = file_lock.acquire(target.with_name(f"{target.name}.lock"), "a second process that makes it", wait=True)
    try:
        yield
    finally:
        if lock is not None:
            file_lock.remove(lock)
