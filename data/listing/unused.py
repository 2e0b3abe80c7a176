"""Describe the files that a listing left out: they have no extension of an image, or are links to nothing."""

import os
from collections import Counter
from collections.abc import Iterable

from data.listing.paths import has_image_extension
from util.errors import are_text

MAX_KINDS_SHOWN = 3  # extensions that a note counts


def unused_notes(left_out: Iterable[tuple[str, bytes]]) -> list[str]:
    """Return notes about the files that were left out, each a line with count and example.

    left_out: `root` and `unused` of the Paths of each listing.
    """
    names = [(root, os.fsdecode(name)) for root, unused in left_out for name in unused.split(b"\0")[:-1]]
    dangling = [(root, name) for root, name in names if has_image_extension(name)]
    others = [(root, name) for root, name in names if not has_image_extension(name)]
    notes = []
    if others:
        kinds = Counter(os.path.splitext(name)[1].lower() or "without an extension" for _, name in others)
        counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(MAX_KINDS_SHOWN))
        more = ", ..." if len(kinds) > MAX_KINDS_SHOWN else ""
        why = "only names with the extension of an image are read"
        remedy = "rename JPEGs to .jpg, convert other images to PNG"
        notes.append(
            f"note: {are_text(len(others), 'file')} not used ({counted}{more}), {_example(others)}: {why}; {remedy}"
        )
    if dangling:
        why = "links to files that do not exist"
        notes.append(
            f"note: {are_text(len(dangling), 'file')} not used, {_example(dangling)}: {why}; restore these files"
        )
    return notes


def _example(files: list[tuple[str, str]]) -> str:
    return f"such as '{os.path.join(*files[0])}'"
