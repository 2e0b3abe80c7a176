"""Names of files for pictures and pages: safe, not too long, and none like another."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from itertools import chain, count
from pathlib import PurePath

MAX_NAME_BYTES = 200  # bytes of a name before its label
MAX_LABEL_BYTES = 40  # bytes of a label; with both, a number and .png.tmp a name stays below a file system's 255


class UniqueNames:
    """The names that are taken. Two that a file system may hold for one (other case, another é) are one here too.

    tails: what is taken with a name x: x with each of these behind it.
    """

    def __init__(self, tails: Iterable[str] = ("",)):
        self.tails = list(tails)
        self.taken: set[str] = set()

    def claim_input_name(self, path: PurePath) -> str:
        """Return, and take, a name for what is made of an input: its stem, with folders or extension where need be."""
        folder = [part for part in path.parts[:-1] if part not in ("/", "..", ".")]
        candidates = [path.stem, path.name] + ["/".join([*folder[-n:], path.name]) for n in range(1, len(folder) + 1)]
        if len(folder) > 0:
            candidates.insert(1, f"{folder[-1]}/{path.stem}")
        return self.claim_first_free(candidates, path.name)

    def claim_first_free(self, candidates: Iterable[str], numbered: str, tails: Iterable[str] = ()) -> str:
        """Return, and take, the first free one of some names, else `numbered` with the first free number from 2 on.

        tails: in the place of the usual ones.
        """
        every = chain(candidates, (f"{numbered}_{n}" for n in count(2)))
        used_tails = list(tails) or self.tails
        name = next(c for c in map(shorten_name, every) if not self.taken.intersection(_filesystem_keys(c, used_tails)))
        self.taken.update(_filesystem_keys(name, used_tails))
        return name


def _filesystem_keys(name: str, tails: list[str]) -> list[str]:
    """Return what file systems may make of a name with each of its tails."""
    return [unicodedata.normalize("NFC", unicodedata.normalize("NFC", name + tail).casefold()) for tail in tails]


def label_file_parts(labels: Iterable[str]) -> dict[str, str]:
    """Return, for each label of a picture, what stands for it in names of files: mostly the label itself."""
    names = UniqueNames()
    safe_names = {label: safe_file_name(label, MAX_LABEL_BYTES) for label in labels}
    return {label: names.claim_first_free([part], part) for label, part in safe_names.items()}


def colliding_tails(parts: Iterable[str]) -> tuple[str, ...]:
    """Return what makes two inputs' files meet: with labels B and real_B, 1_real + B and 1 + real_B are one name."""
    labels = list(parts)
    return ("", *{"_" + a.removesuffix("_" + b) for a in labels for b in labels if a.endswith("_" + b)})


def shorten_name(name: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return a name of at most so many bytes (its last part, if it has folders); a cut one ends in its own hash."""
    *folders, last = name.split("/")
    if len(os.fsencode(last)) > max_bytes:
        digest = hashlib.sha256(os.fsencode(last)).hexdigest()[:8]
        last = os.fsdecode(os.fsencode(last)[: max_bytes - 9]).encode(errors="ignore").decode() + "_" + digest
    return "/".join([*folders, last])


def safe_file_name(text: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return a text as one file name: no separators, no leading dot, not too long."""
    return shorten_name(re.sub(r"[/\\\x00-\x1f]|^\.", "_", text) or "_", max_bytes)
