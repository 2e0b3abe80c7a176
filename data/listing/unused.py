"""Describe files that a listing left out, such as links to nothing, and those that it may not be meant to hold."""

import os
from collections import Counter
from collections.abc import Iterable

import numpy as np

from data.listing.paths import Paths, has_image_extension
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


def nested_notes(lists: Iterable[Paths]) -> list[str]:
    """Return a note if there are images directly in a folder and others in folders inside, such as thumbnails.

    lists: of folders or zip files; all their images are used.
    """
    found, total, few = [], 0, ""
    for paths in lists:
        if paths.marks is not None or not paths.root:  # of shards or a manifest
            continue
        slashes = np.flatnonzero(np.frombuffer(paths.names, dtype=np.uint8) == ord("/"))
        is_nested = np.diff(np.searchsorted(slashes, paths.offsets)) > 0
        count = int(is_nested.sum())
        if 0 < count < len(paths):
            is_few = 2 * count <= len(paths)  # the fewer are more likely those that are not meant
            few = few or paths[int(np.argmax(is_nested == is_few))]
            found.append((count, paths.root))
            total += len(paths)
    if not found:
        return []
    count = sum(number for number, _ in found)
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    said = f"{count} of the {total} images of '{found[0][1]}'{more} are in folders inside, the others are not"
    return [f"note: {said}: all are used; move away those that you do not mean, such as '{few}'"]


def _example(files: list[tuple[str, str]]) -> str:
    return f"such as '{os.path.join(*files[0])}'"
