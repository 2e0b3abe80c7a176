"""Select classes by name, for --classes, and recognise names of masks, which are no classes."""

import os
import re
from collections.abc import Iterable, Sequence

from data.listing.paths import Paths
from util.errors import OptionError
from util.spelling import name_hint

MAX_SHOWN = 10  # names shown of a long list
MAX_LOOKED_AT = 1000  # names of a listing that are compared with those of masks, evenly spread
TARGET_NAME = re.compile(
    r"(?:\A|[\W_])(?:masks?|segs?|segmentations?|gt|labels?|annotations?|targets?|ground[\W_]?truth)\Z", re.IGNORECASE
)


def select_classes(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the classes in a comma-separated text, each once and in its order; all known classes for an empty text.

    A text that equals one known name is that class, even with a comma. Raises OptionError, with the known names, for an
    unknown one.
    """
    names = tuple(known)
    if text in names:
        return (text,)
    wanted = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip())) or names
    for name in wanted:
        if name not in names:
            remedy = f"{name_hint(name, list(names))}choose from {shorten(names)}"
            raise OptionError("option", "--classes", f"there is no class '{name}'", remedy)
    return wanted


def shorten(names: Sequence[str]) -> str:
    """Return the names joined by commas, only the first ones and the number of the others if they are many."""
    return ", ".join(names[:MAX_SHOWN]) + (f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else "")


def describe_classes(names: Sequence[str], counts: Sequence[int] = (), total: int = 0) -> str:
    """Return the line that tells the classes of a run or a data set, with the number of images of each if known.

    total: how many classes there are, if these are some of them.
    """
    shown = [f"{name} {count}" for name, count in zip(names, counts, strict=True)] if len(counts) else names
    of_all = f" of {total}" if total > len(names) else ""
    return f"classes: {len(names)}{of_all} ({shorten(shown)})"


def is_target_name(name: str) -> bool:
    """Return whether a folder or a file without extension is named like the target of other images: masks, x_gt."""
    return bool(TARGET_NAME.search(name))


def target_notes(listings: Iterable[Paths]) -> list[str]:
    """Return a note if some names of a listing, but not all, are those of masks or labels."""
    found, total = [], 0
    for paths in listings:
        number = min(len(paths), MAX_LOOKED_AT)
        looked = [os.fsdecode(paths.name(i * len(paths) // number)) for i in range(number)]
        named = [name for name in looked if any(map(is_target_name, os.path.splitext(name)[0].split("/")))]
        if 0 < len(named) < number:
            found += [os.path.join(paths.root, name) for name in named]
            total += number
    if not found:
        return []
    of_all = f"{len(found)} of {total} images looked at"
    return [f"note: {of_all} are named like masks or labels, such as '{found[0]}': all are used alike"]
