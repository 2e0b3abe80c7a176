"""Name all images of a test that cannot be read, at the first one, as the start-up check of training does."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from data.decoding.images import ReadOptions, open_image
from data.listing.files import is_folder, list_files
from util.errors import DataError, raise_if_any

COMMON = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")  # which Pillow reads whole
SEARCH_S = 10.0  # seconds, of a test that has failed


@contextmanager
def naming_all_unusable(o: Any) -> Iterator[None]:
    """Add the other images of its folder that cannot be read to the error of a test about one that cannot."""
    try:
        yield
    except DataError as problem:
        thing, name, why, remedy = problem.args
        folder, options = os.path.dirname(str(name)), ReadOptions.from_options(o)
        if o.isTrain or thing != "image" or not is_folder(folder) or not _damage(str(name), options):
            raise
        found, end = [(str(name), str(why))], time.monotonic() + SEARCH_S
        for path in list_files(folder):
            if time.monotonic() > end:
                break
            if path != str(name) and path.lower().endswith(COMMON) and (other := _damage(path, options)):
                found.append((path, other))
        raise_if_any("image", found, f"below {folder}", remedy)


def _damage(path: str, options: ReadOptions) -> str:
    """Return why an image cannot be decoded, "" if it can."""
    try:
        open_image(path, 3, options)
    except DataError as problem:
        return str(problem.args[2])
    return ""
