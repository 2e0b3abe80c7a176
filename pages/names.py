"""Choose safe, short and unique file names for images and pages."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path, PurePath

MAX_NAME_BYTES = 200  # before the label
MAX_LABEL_BYTES = 40  # name, label, a number and .png.tmp together stay below a file system's limit of 255 bytes


class UniqueNames:
    """A set of taken names. Names that a file system may treat as equal (case, Unicode normal form) count as equal.

    A name x takes x + tail for each of the `tails` with which it is claimed.
    """

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def claim_input_name(self, path: PurePath, tails: Iterable[str] = ("",)) -> str:
        """Return and take a name for an input's outputs: its stem, with folders or extension if needed."""
        folder = [part for part in path.parts[:-1] if part not in ("/", "..", ".")]
        candidates = [path.stem, path.name] + ["/".join([*folder[-n:], path.name]) for n in range(1, len(folder) + 1)]
        if len(folder) > 0:
            candidates.insert(1, f"{folder[-1]}/{path.stem}")
        return self.claim_first_free(candidates, path.name, tails)

    def claim_first_free(self, candidates: Iterable[str], numbered: str, tails: Iterable[str] = ("",)) -> str:
        """Return and take the first free candidate, else `numbered` with the first free number from 2."""
        tails = list(tails)
        for name in map(shorten_name, chain(candidates, (f"{numbered}_{n}" for n in count(2)))):
            keys = [filesystem_key(name + tail) for tail in tails]
            if not self.taken.intersection(keys):
                break
        self.taken.update(keys)
        return name


def filesystem_key(name: str) -> str:
    """Return the same text for all names that a file system may treat as equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def natural_key(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """Return a sort key that orders the numbers in names by value: 2 before 10."""
    parts = re.split(r"([0-9]+)", name)  # texts and numbers by turns
    numbers = (digits.lstrip("0") for digits in parts[1::2])
    return [*chain(*zip(parts[::2], ((len(digits), digits) for digits in numbers))), parts[-1]], name


def newest_images(run: Path) -> dict[str, tuple[int, Path]]:
    """Return {label: (epoch, file)} of the newest image of each label that the training page of a run shows."""
    newest: dict[str, tuple[int, Path]] = {}
    for file in sorted(run.glob("web/images/epoch*.png")):
        if match := re.fullmatch(r"epoch(\d+)_(.+)", file.stem):
            newest[match[2]] = max(newest.get(match[2], (0, file)), (int(match[1]), file))
    return newest


def label_file_parts(labels: Iterable[str]) -> dict[str, str]:
    """Return each label's part of a file name: the label itself unless it is unsafe, too long or taken."""
    names = UniqueNames()
    safe_names = {label: safe_file_name(label, MAX_LABEL_BYTES) for label in labels}
    return {label: names.claim_first_free([part], part) for label, part in safe_names.items()}


def shorten_name(name: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return a name whose last part has at most `max_bytes` bytes; a shortened one ends in a hash of the original."""
    *folders, last = name.split("/")
    if len(os.fsencode(last)) > max_bytes:
        digest = hashlib.sha256(os.fsencode(last)).hexdigest()[:8]
        last = os.fsdecode(os.fsencode(last)[: max_bytes - 9]).encode(errors="ignore").decode() + "_" + digest
    return "/".join([*folders, last])


def safe_file_name(text: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return a text as one file name without separators, control characters or a leading dot, of limited length."""
    return shorten_name(re.sub(r"[/\\\x00-\x1f]|^\.", "_", text) or "_", max_bytes)
