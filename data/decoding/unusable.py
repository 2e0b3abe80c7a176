"""Name all images of a test that cannot be read, at the first one, as the start-up check of training does."""

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
    """Add the other images below --dataroot that cannot be read to the error of a test about one that cannot."""
    try:
        yield
    except DataError as problem:
        thing, name, why, remedy = problem.args
        if o.isTrain or thing != "image" or not is_folder(o.dataroot):
            raise
        others = _damaged(o.dataroot, ReadOptions.from_options(o))
        others.pop(str(name), None)
        raise_if_any("image", [(str(name), str(why)), *others.items()], f"below {o.dataroot}", remedy)


def _damaged(root: str, options: ReadOptions) -> dict[str, str]:
    """Return {path: why} of the images below root that Pillow cannot decode, as far as SEARCH_S seconds reach."""
    found, end = {}, time.monotonic() + SEARCH_S
    for path in list_files(root):
        if time.monotonic() > end:
            break
        if path.lower().endswith(COMMON):
            try:
                open_image(path, 3, options)
            except DataError as problem:
                found[path] = str(problem.args[2])
    return found
