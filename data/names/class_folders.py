"""Tell folders of classes from those of phases, sides, masks and other classes, by their names."""

import os
from collections.abc import Collection, Iterator, Sequence

from data.listing.files import list_folders
from data.names.class_names import is_target_name, shorten
from data.names.phase_names import divided_phases, spelled_phases, without_side
from util.errors import DataError

MAX_SIDES = 3  # folders that may be the sides of pairs, and not classes


def check_phases(root: str, names: Sequence[str], phase: str) -> None:
    """Raise DataError if folders of root are phases such as Training and Testing, and not classes.

    They are if two different phases are there, if all folders are phases, or if one of them holds folders itself.
    """
    spelled = spelled_phases(names)
    are_all = bool(spelled) and len(spelled) == len(names)
    if not (are_all or divided_phases(names) or any(list_folders(os.path.join(root, name)) for name in spelled)):
        return
    why = f"has no folders of classes: {shorten(list(spelled))} are folders of phases or sides"
    own = next((name for name, of_phase in spelled.items() if of_phase == phase), "")
    remedy = f"use --phase {own}" if own else f"name the folder of {phase} with --phase"
    if own != without_side(own):
        remedy = f"give the folder of one kind of images, such as --dataroot {os.path.join(root, own)}"
    raise DataError("folder", root, why, f"{remedy} (if they are classes: --classes {','.join(names)})")


def folder_questions(root: str, names: Sequence[str], phase: str) -> Iterator[str]:
    """Yield questions about folders that are probably no classes: those of sides or masks, those around others."""
    if [name.lower() for name in names] == ["a", "b"]:
        yield f"are {names[0]} and {names[1]} two classes? They may be the two sides of other models' data"
    elif len(names) <= MAX_SIDES and (other := next(filter(is_target_name, names), "")):
        yield f"is {other} a class? It may hold the other sides of pairs, which belong into {phase}B"
    inner = {name: set(list_folders(os.path.join(root, name))) for name in names}
    if len(names) == 1 and len(inner[names[0]]) > 1:
        yield _outer_question(root, names, inner[names[0]])
    for name in names if len(names) > 1 else ():
        others = set(names).union(*(inner[other] for other in names if other != name))
        if len(inner[name]) > 1 and inner[name] <= others and not any(map(is_target_name, inner[name])):
            yield _outer_question(root, [other for other in names if inner[other] & inner[name]], inner[name])
            return


def _outer_question(root: str, outer: Sequence[str], inner: Collection[str]) -> str:
    asked = f"is {outer[0]} one class" if len(outer) == 1 else f"are {shorten(outer)} classes"
    return f"{asked}? With --dataroot {os.path.join(root, outer[0])}, its folders are classes: {shorten(sorted(inner))}"
