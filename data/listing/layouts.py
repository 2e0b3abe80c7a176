"""Where the two sides of a data set lie: joined files, two folders, or a manifest; found by looking."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.listing import demo, manifest
from data.listing.files import is_folder, is_readable, list_files, list_folders, start_of
from data.listing.paths import Paths
from util.errors import DataError, OptionError, refuse

USUAL_PHASES = ("train", "val", "test")
KINDS = ("joined", "sides", "nested")


@dataclass(frozen=True)
class Sides:
    """The files of A and of B, or those alone that hold both; `notes` tell people what was found, a line each."""

    paths: list[Paths]
    notes: list[str]


def find(o: Any, root: str, paired: bool) -> Sides:
    """Return the files of both sides for --phase, by --pairs, --split and what lies in root.

    A manifest goes before files of A|B, these before two folders. Paired: B[i] is the partner of A[i], in order of A.
    Raises DataError if nothing is there, or partners are missing.
    """
    file = manifest.find(o.dataroot, o.pairs)
    if file:
        return _of_manifest(file, o, root, paired)
    kinds: tuple[str, ...] = KINDS if paired else KINDS[1:]
    if o.pairs in KINDS:
        if o.pairs not in kinds:
            why = f"{o.dataset_mode} takes pictures of two folders, which need not be pairs"
            raise OptionError("option", "--pairs", why, "use --dataset_mode aligned, or --pairs sides or nested")
        kinds = (o.pairs,)
    phased = {kind: folders_of(root, o.phase, kind) for kind in kinds}
    there = [kind for kind in kinds if all(map(is_folder, phased[kind]))]
    if len(there) > 1:  # an empty folder does not hide the others
        there.sort(key=lambda kind: not list_files(phased[kind][0]))
    divided = bool(there) or o.split is None
    folders = phased[(there or kinds)[0]] if divided else _undivided(root, kinds)
    found = [listed(folder, root, o) for folder in folders]
    if not divided:
        found = [part(paths, o) for paths in found]
    if paired and len(found) == 2:
        found[1] = _partners(*found)
    said = _said(found, [os.path.relpath(folder, root) for folder in folders], paired)
    said += "" if divided else f", the part of {o.phase} (--split {o.split:g})"
    said += f" (--pairs {there[1]} would take others)" if len(there) > 1 and not demo.is_demo(root) else ""
    return Sides(found, [said, *filter(None, map(_twins, found))])


def phases(dataroot: str, kinds: Sequence[str] = KINDS) -> list[str]:
    """Return which of the phases train, val and test have folders in one of these layouts."""
    return [phase for phase in USUAL_PHASES for root in [start_of(dataroot, phase)]
            if any(is_folder(folder) for kind in kinds for folder in folders_of(root, phase, kind))]  # fmt: skip


def of_phase(o: Any, root: str) -> tuple[Paths, list[str]]:
    """Return the pictures of --phase, or of a root that is not divided the part that --split gives it; notes."""
    folder = str(Path(root, o.phase))
    if is_folder(folder) or o.split is None:
        return listed(folder, root, o), []
    found = part(listed(root, root, o), o)
    return found, [f"{len(found)} pictures, the part of {o.phase} (--split {o.split:g})"]


def pictures(folder: str, o: Any) -> Paths:
    """Return the pictures under a folder; a continued run trusts no index of them, but looks what has changed."""
    return list_files(folder, anew=o.isTrain and o.continue_train)


def listed(folder: str, root: str, o: Any) -> Paths:
    """Return the pictures under a folder of root; DataError, saying what is there instead, if there are none."""
    found = pictures(folder, o)
    if not found:
        raise DataError("folder", folder, *what_is_there(folder, root, o.dataroot))
    return found


def part(paths: Paths, o: Any) -> Paths:
    """Return the pictures that --split gives to --phase: by a hash of each one's name, so that none ever moves."""
    return paths.take(_chosen(paths, o))


def _chosen(paths: Paths, o: Any) -> np.ndarray:
    trains = paths.keys() < np.uint64(o.split * 2**64)
    chosen = np.flatnonzero(trains if o.phase == "train" else ~trains)
    if not len(chosen):
        why = f"--split {o.split:g} leaves none of {len(paths)} pictures for it"
        raise DataError("phase", o.phase, why, "use another --split")
    return chosen


def what_is_there(folder: str, root: str, dataroot: str) -> tuple[str, str]:
    """Return (why, remedy) for a folder without images: what it holds, or what stands where it should be."""
    wanted = os.path.relpath(folder, root)
    layout = f"expected images in {'it' if wanted == '.' else wanted}; see --dataroot, --phase and --dataset_mode"
    if not is_folder(root):
        why = "is a file, not a folder" if os.path.exists(root) else "there is no such folder"
        return (why if root == folder else f"--dataroot {dataroot}: {why}"), "give --dataroot a folder of images"
    if not is_folder(folder):
        beside = [repr(name) for name in list_folders(root)[:8]]
        if not beside or {"'A'", "'B'"} <= set(beside):
            plain = len(list_files(root))
            if plain:
                why = f"there is no such folder ({dataroot} has {plain} pictures, not divided into phases)"
                return why, "use --split 0.9 to train on nine tenths of them, by their names"
        return f"there is no such folder ({dataroot} has {', '.join(beside) or 'no folders'})", layout
    names = sorted(e.name for e in os.scandir(folder) if e.is_file()) if os.path.isdir(folder) else []
    if not names:
        return "holds no files", layout
    bad = [name for name in names if not is_readable(name)]
    return f"holds no images, but {len(bad)} other files such as {bad[0]!r}", layout


def folders_of(root: str, phase: str, kind: str) -> list[str]:
    """Return where the files of a phase lie in a layout of KINDS: one folder of A|B, or those of A and of B."""
    inside = {"joined": [phase], "sides": [f"{phase}A", f"{phase}B"],
              "nested": [os.path.join("A", phase), os.path.join("B", phase)]}[kind]  # fmt: skip
    return [str(Path(root, name)) for name in inside]


def _undivided(root: str, kinds: Sequence[str]) -> list[str]:
    """Return the folders of a root that is not divided into phases: A and B, or itself with files of A|B."""
    two = [str(Path(root, side)) for side in "AB"]
    joined = kinds[0] == "joined" and (len(kinds) == 1 or not all(map(is_folder, two)))
    return [root] if joined else two


def _partners(A: Paths, B: Paths) -> Paths:
    """Return B in the order of its partners in A: files of equal names below the two folders, extensions aside."""
    a, b = A.keys(), B.keys()
    problems = []
    for paths, own, other, beside in ((A, a, b, B), (B, b, a, A)):
        _, first, counts = np.unique(own, return_index=True, return_counts=True)
        for index in first[counts > 1]:
            problems.append((paths[int(index)], f"differs from another one in {paths.root} in its extension alone"))
        lacking = np.flatnonzero(~np.isin(own, other))
        hints = _other_case(paths, lacking, beside) if len(lacking) else {}
        for index in lacking:
            problems.append((paths[int(index)], f"has no partner in {beside.root}{hints.get(int(index), '')}"))
    refuse("pair", problems, f"among {len(A)} + {len(B)} pictures",
           "give both sides pictures of the same names, or use --dataset_mode unaligned")  # fmt: skip
    if np.array_equal(a, b):
        return B
    order = np.argsort(b)
    return B.take(order[np.searchsorted(b, a, sorter=order)])


def _other_case(paths: Paths, lacking: np.ndarray, beside: Paths) -> dict[int, str]:
    """Return what to add for pictures whose partner's name differs in capitals alone."""
    folded = {int(key): index for index, key in enumerate(beside.keys(fold=True))}
    own = paths.take(lacking).keys(fold=True)
    return {int(i): f" (there is {beside[folded[int(key)]]})" for i, key in zip(lacking, own, strict=True)
            if int(key) in folded}  # fmt: skip


def _twins(paths: Paths) -> str:
    """Return a note if names differ in capitals alone, "" if none do."""
    if paths.names == paths.names.lower():
        return ""
    _, first, counts = np.unique(paths.keys(fold=True), return_index=True, return_counts=True)
    twins = first[counts > np.unique(paths.keys(), return_counts=True)[1].max()]
    return f"note: {paths[int(twins[0])]} and another one differ in capitals alone" if len(twins) else ""


def _of_manifest(file: str, o: Any, root: str, paired: bool) -> Sides:
    table = manifest.read(file, root, o.phase)
    problems = list(table.problems)
    if paired:
        problems += [(a or b, f"has no partner in {file}") for a, b, _ in table.rows if bool(a) != bool(b)]
    refuse("file", problems, f"in {file}", "mend the manifest, or take these rows out of it")
    rows = sorted({(a, b) for a, b, _ in table.rows})
    columns = [[row[side] for row in rows] for side in (0, 1)]
    if not paired:
        columns = [sorted({name for name in names if name}) for names in columns]
    if not all(columns):
        why = f"has no files in column {'b' if columns[0] else 'a'}"
        raise DataError("file", file, why, "name pictures of both sides")
    sides = [manifest.sized(names) for names in columns]
    if o.split is not None and not table.splits:
        chosen = [_chosen(side, o) for side in sides]
        sides = [side.take(chosen[0] if paired else own) for side, own in zip(sides, chosen, strict=True)]
    every = "" if table.splits or o.split is not None else ", for every phase (it has no column split)"
    return Sides(sides, [_said(sides, [file], paired) + every])


def _said(found: list[Paths], names: list[str], paired: bool) -> str:
    if len(found) == 1:
        return f"pairs: {names[0]}, {len(found[0])} files of A|B"
    what = f"{len(found[0])} pairs" if paired else f"{len(found[0])} + {len(found[1])} pictures"
    by_name = " by name" if paired and len(names) > 1 else ""
    return f"{'pairs' if paired else 'unpaired'}: {' + '.join(names)}, {what}{by_name}"
