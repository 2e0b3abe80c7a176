"""Match the images of two sides by their names, and say which have no partner."""

import os

import numpy as np

from data.listing.files import find_storage
from data.listing.paths import EXTENSIONS, Paths, has_image_extension
from util.errors import MAX_PROBLEMS_SHOWN, raise_if_any


def match_partners(A: Paths, B: Paths, remedy: str) -> Paths:
    """Return B in the order of A; partners have equal names below the two folders, apart from extensions.

    Raises DataError for images without a partner.
    """
    a, b = A.keys(), B.keys()
    problems = []
    for paths, own_keys, other_keys, other_paths in ((A, a, b, B), (B, b, a, A)):
        _, first, counts = np.unique(own_keys, return_index=True, return_counts=True)
        twice = f"differs from another file in {paths.root} only in its extension"
        problems += [(paths[int(index)], twice) for index in first[counts > 1]]
        unmatched = np.flatnonzero(~np.isin(own_keys, other_keys))
        hints = _partner_hints(paths, unmatched, other_paths) if len(unmatched) else {}
        problems += [(paths[int(i)], f"has no partner in {other_paths.root}{hints.get(int(i), '')}") for i in unmatched]
    if problems:
        are_pairs = 2 * int(np.isin(a, b).sum()) >= min(len(A), len(B)) or any(
            "(there is" in why for _, why in problems
        )
        raise_if_any("pair", problems, f"among {len(A)} + {len(B)} images", remedy, is_listed=are_pairs)
    if np.array_equal(a, b):
        return B
    order = np.argsort(b)
    return B.take(order[np.searchsorted(b, a, sorter=order)])


def _partner_hints(paths: Paths, unmatched: np.ndarray, other_paths: Paths) -> dict[int, str]:
    """Return index -> hint for the first images without a partner: a file that has nearly the wanted name.

    Names may differ in upper and lower case or in the folder, or the file is none that is read.
    """
    folded = {int(key): index for index, key in enumerate(other_paths.keys(fold=True))}
    stems = {_folded_stem(path): path for path in reversed(other_paths)}
    hints = {}
    for index in map(int, unmatched[:MAX_PROBLEMS_SHOWN]):
        name, key = os.fsdecode(paths.name(index)), int(paths.take([index]).keys(fold=True)[0])
        beside = os.path.join(other_paths.root, os.path.dirname(name))
        unread = [each for each in find_storage(beside).list_names(beside) if _folded_stem(name) == _folded_stem(each)]
        if key in folded:
            hints[index] = f" (there is {other_paths[folded[key]]})"
        elif unread:
            hints[index] = f" (there is {_unread_text(os.path.join(beside, unread[0]))})"
        elif _folded_stem(name) in stems:
            hints[index] = f" (there is {stems[_folded_stem(name)]})"
    return hints


def _unread_text(path: str) -> str:
    """Return a file that no listing has, and why."""
    if not has_image_extension(os.path.basename(path)):
        return f"{path}, not read because of its extension"
    return f"{path}, a link to {'an image that is used already' if os.path.exists(path) else 'nothing'}"


def _folded_stem(path: str) -> str:
    """Return a file's name in lower case, without folders and without everything after a known extension."""
    stem, extension = os.path.splitext(os.path.basename(path).lower())
    return os.path.splitext(stem)[0] if extension not in EXTENSIONS and stem.endswith(EXTENSIONS) else stem


def case_clash_note(paths: Paths) -> str:
    """Return a note if names differ only in upper and lower case, else ""."""
    _, first, counts = np.unique(paths.keys(fold=True), return_index=True, return_counts=True)
    clashing = first[counts > np.unique(paths.keys(), return_counts=True)[1].max()]
    return f"note: {paths[int(clashing[0])]} and another file differ only in letter case" if len(clashing) else ""
