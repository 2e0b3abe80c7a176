"""Name shards and what is in them: patterns of file names, the phase of a shard, the path of a member."""

import glob
import os
import re
from collections.abc import Callable, Iterator

from data.listing.paths import EXTENSIONS, PHASES
from data.shards.addresses import as_url, is_url
from util.errors import DataError

MAX_SHARDS = 1_000_000
PACKED_END = r"\.(?:tar\.(?:gz|bz2|xz|zst)|tgz|tar)"
SHARD_END = re.compile(PACKED_END + r"(?=[/\\]|\Z)", re.IGNORECASE)
BRACE = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
SIDE = re.compile(r"\.([AB]|A[1-9]\d{0,3})(?=\.[^./]+\Z)", re.IGNORECASE)  # of WebDataset's key.A.png
PHASE_WORD = re.compile(rf"(?:\A|[-_.])({'|'.join(PHASES)})(?=[-_.\d]|\Z)")
PHASE_FOLDER = re.compile(rf"({'|'.join(PHASES)})([AB]|A[1-9]\d{{0,3}})?")


def expand_braces(pattern: str) -> Iterator[str]:
    """Yield the names of a pattern with {0000..0099} and {train,val}, in order."""
    match = BRACE.search(pattern)
    if not match:
        yield pattern
        return
    words = match[1].split(",")
    if numbers := RANGE.fullmatch(match[1]):
        first, last = int(numbers[1]), int(numbers[2])
        if not 0 <= last - first < MAX_SHARDS:
            remedy = "give the first number, two dots and the last, such as {0000..0099}"
            raise DataError("pattern", pattern, f"{{{match[1]}}} names no shards", remedy)
        words = [f"{number:0{len(numbers[1])}d}" for number in range(first, last + 1)]
    for word in words:
        yield from expand_braces(pattern[: match.start()] + word + pattern[match.end() :])


def expand(pattern: str) -> list[str]:
    """Return the shards that a pattern on this machine or on a server names; [] for a wildcard that fits nothing."""
    if is_url(pattern):
        return list(expand_braces(as_url(pattern)))
    if os.path.isfile(pattern):
        return [pattern]
    names: list[str] = []
    for name in expand_braces(pattern):
        names += sorted(filter(os.path.isfile, glob.glob(name))) if glob.has_magic(name) else [name]
    return list(dict.fromkeys(names))


def is_pattern(path: str) -> bool:
    """Return whether a path may name several shards, or shards on a server."""
    return is_url(path) or bool(BRACE.search(path)) or glob.has_magic(path)


def shard_folder(folder: str, inner_shards: Callable[[str], str]) -> str:
    """Return the pattern of the shards in a folder, or in its folders of phases; "" for a folder of something else.

    inner_shards: this function, for a folder of a phase. If some shards are compressed, the result is the name of the
    first of these, which is refused when it is opened.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(EXTENSIONS):
                    return ""  # at once, because there may be a million images
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError:
        return ""
    shards = sorted(filter(SHARD_END.search, files))
    if folders and not shards and set(folders) <= set(PHASES):
        inner = [inner_shards(os.path.join(folder, name)) for name in folders]
        return os.path.join(folder, "*", "*.tar") if all(name.endswith("*.tar") for name in inner) else ""
    if not shards or folders:
        return ""
    packed = [name for name in shards if not name.lower().endswith(".tar")]
    return os.path.join(folder, packed[0] if packed else "*.tar")


def phase_of(shard: str) -> str:
    """Return the phase that the name of a shard or of its folder states; "" if none does."""
    folder, name = os.path.split(shard.replace("\\", "/"))
    match = PHASE_WORD.search(SHARD_END.sub("", name))
    parent = os.path.basename(folder)
    return match[1] if match else parent if parent in PHASES else ""


def member_path(name: str, phase: str, label: str | None = None) -> tuple[str, bool]:
    """Return the path of a member as in a folder of images, and whether its name states a side.

    In the phase train, dir/key.A.png is trainA/dir/key.png, and key.png of class cat is train/cat/key.png. A phase that
    begins the member's own name is taken before that of its shard.
    """
    first, slash, rest = name.partition("/")
    if slash and (own := PHASE_FOLDER.fullmatch(first)):
        if own[2]:
            return name, False
        phase, name = first, rest
    match = SIDE.search(name)
    if match:
        return _join(phase + match[1].upper(), name[: match.start()] + name[match.end() :]), True
    if label is not None and not name.startswith(f"{label}/"):
        name = f"{label}/{name}"
    return _join(phase, name), False


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
