"""Detect where the two sides of a dataset are: in joined files, in two folders, or in a manifest."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.listing import manifest
from data.listing.columns import Columns, find_kinds
from data.listing.demo import Demo
from data.listing.files import dataset_root, find_storage, is_folder, list_files, list_folders
from data.listing.partners import case_clash_note, match_partners
from data.listing.paths import LABEL_MAP_KINDS, PHASE_FOLDERS, Paths, has_image_extension
from data.listing.shards import Shards
from data.names.inputs import ONE_INPUT, given_names, may_detect, numbered_inputs
from data.names.phase_names import spelled_phases, without_side
from util.errors import DataError, OptionError, Problem, count_text, raise_if_any
from util.spelling import nearest, path_hint

STANDARD_PHASES = ("train", "val", "test")
LABEL_MAP_FOLDERS = {f"{phase}_{kind}" for phase in STANDARD_PHASES for kind in LABEL_MAP_KINDS}
MAX_OUTER_FOLDERS = 4  # folders, each the only one in its parent, that are entered to find a data set
LAYOUTS = {"joined": "{phase}", "sides": "{phase}{side}", "nested": "{side}/{phase}"}  # the folder of a side


@dataclass(frozen=True)
class SideFiles:
    """The files of each input and of B, or only the files that hold both; and the parts of the line about them."""

    paths: list[Paths]
    kind: str  # "pairs", "unpaired" or "images": inputs without B
    places: list[str]  # the folders, or the manifest
    scope: str = ""
    warnings: tuple[str, ...] = ()  # further lines
    inputs: tuple[str, ...] = ()  # the names of the inputs that are stacked to A; () if A is one image
    columns: Columns | None = None  # of a manifest, in the order of the files

    @property
    def is_joined(self) -> bool:
        """Whether each file holds A and B side by side."""
        return len(self.paths) == 1 and self.kind != "images"

    @property
    def notes(self) -> list[str]:
        """Lines for the user."""
        counts = [len(side) for side in self.paths]
        if self.is_joined:
            return [self.describe(f"{count_text(counts[0], 'file')} of A|B"), *self.warnings]
        by_name = " by name" if self.kind == "pairs" and len(self.places) > 1 else ""
        counted = {"pairs": count_text(counts[0], "pair"), "images": f"{counts[0]} without targets"}
        what = counted.get(self.kind) or f"{counts[0]} + {counts[-1]} images"
        return [self.describe(what + by_name), *self.warnings]

    def describe(self, what: str) -> str:
        """Return the line that says what was found."""
        return f"{self.kind}: {' + '.join(self.places)}, {what}{self.scope}"


def find_sides(o: Any, root: str, paired: bool, inputs: tuple[str, ...] = ()) -> SideFiles:
    """Return the files of both sides for --phase, by --pairs, --split and the folders in root.

    A manifest takes precedence over files of A|B, and these over two folders. paired: B[i] is the partner of A[i], in
    the order of A. inputs: the names of several inputs, if the folders have been found to hold them. Raises DataError
    if there are no files or partners are missing.
    """
    if file := manifest.find_manifest(o.dataroot, o.pairs, root):
        return _sides_of_manifest(file, o, root, paired)
    # Choose the layout: the one of --pairs, or the first whose folders exist.
    inputs = given_names(o) if o.inputs else inputs
    has_joined = paired and not inputs
    kinds = [kind for kind in LAYOUTS if (has_joined or kind != "joined") and o.pairs in ("auto", kind)]
    if not kinds:
        why, remedy = f"the inputs {', '.join(inputs)} are in a folder each", "use --pairs sides or nested"
        if not inputs:
            why = f"{o.dataset_mode} takes images of two folders, which need not be pairs"
            remedy = "use --dataset_mode aligned, or --pairs sides or nested"
        raise OptionError("option", "--pairs", why, remedy)
    storage = find_storage(root)
    folders_by_layout = {kind: phase_folders(root, o.phase, kind, inputs or ONE_INPUT) for kind in kinds}
    if inputs and not o.isTrain:
        folders_by_layout = {kind: _without_empty_target(folders) for kind, folders in folders_by_layout.items()}
    existing = [kind for kind in kinds if all(find_storage(f).entry_type(f) for f in folders_by_layout[kind])]
    if paired and not existing and not inputs and (inputs := _detect_inputs(o, root)):
        return find_sides(o, root, paired, inputs)
    if len(existing) > 1:  # a layout with an empty folder comes last
        existing.sort(key=lambda kind: not list_files(folders_by_layout[kind][0]))
    # List the files; a root without phases is divided by --split.
    has_phases = bool(existing) or not _is_undivided(o, root)
    folders = folders_by_layout[(existing or kinds)[0]] if has_phases else _unsplit_folders(root, kinds, o, inputs)
    sides = [list_files(folder) for folder in folders]
    for folder, paths in zip(folders, sides, strict=True):
        if not paths:
            kinds_read = ["joined", *kinds] if inputs else kinds  # pairs, though the inputs are in a folder each
            raise _missing_images_error(folder, root, o, kinds_read)
    if not has_phases and o.split is not None:
        sides = [select_split(paths, o) for paths in sides]
    if paired and len(sides) > 1:
        other_way = "" if o.isTrain or inputs else f", or test one folder alone, such as {sides[0].root}"
        remedy = f"give {'every folder' if inputs else 'both sides'} images of the same names{other_way}"
        sides[1:] = [match_partners(sides[0], each, remedy) for each in sides[1:]]
    # Describe the result to the user.
    places = [
        os.path.basename(os.path.abspath(root)) if folder == root else os.path.relpath(folder, root)
        for folder in folders
    ]
    scope = "" if has_phases else _scope_text(o)
    scope += (
        f" (--pairs {existing[1]} would use other files)"
        if existing[1:] and o.phase and not isinstance(storage, Demo)
        else ""
    )
    clashes = filter(None, (case_clash_note(p) for p in sides if p.names != p.names.lower()))
    warnings = (*clashes, *(unused_split_notes(o) if has_phases and o.split is not None else []))
    has_targets = not inputs or len(sides) > len(inputs)
    kind = "unpaired" if not paired else "pairs" if has_targets else "images"
    found = SideFiles(sides, kind, places, scope, warnings, inputs)
    return _with_labels(found, storage, o, paired) if isinstance(storage, Shards) else found


def _with_labels(found: SideFiles, shards: Shards, o: Any, paired: bool) -> SideFiles:
    """Return the files with the column `label` of the classes that the shards state for pairs."""
    labels = shards.labels(found.paths[0])
    if not any(labels):
        return found
    if not paired:
        note = f"note: the classes in the shards are not used: {o.dataset_mode} pairs images at random"
        return replace(found, warnings=(*found.warnings, note))
    row_of = {label: {"label": label} for label in set(labels)}  # shared, because there may be a million rows
    rows = [row_of[label] for label in labels]
    kinds, notes = find_kinds(shards.file, rows, o.saved.get("run_columns", {}))
    columns = Columns(rows, kinds)
    return replace(found, columns=columns, warnings=(*found.warnings, columns.describe(), *notes))


def _detect_inputs(o: Any, root: str) -> tuple[str, ...]:
    """Return the names of the inputs of folders such as trainA1, where there is no A; () if a run has one input."""
    return numbered_folders(root, o.phase) if may_detect(o) and not is_folder(str(Path(root, "A"))) else ()


def numbered_folders(root: str, phase: str) -> tuple[str, ...]:
    """Return the names of the inputs A1, A2, ... that have folders such as trainA1 or A1."""
    names = list_folders(root)
    return numbered_inputs(names, phase) or numbered_inputs(names)


def _without_empty_target(folders: list[str]) -> list[str]:
    """Return the folders without that of B, the last, if it has no images, as in a test of inputs alone."""
    return folders if len(list_files(folders[-1])) else folders[:-1]


def list_phases(dataroot: str, kinds: Iterable[str] = LAYOUTS) -> list[str]:
    """Return the phases among train, val and test that have folders in one of these layouts."""
    phases = []
    for phase in STANDARD_PHASES:
        root = dataset_root(dataroot, phase)
        names = list_folders(root)
        inputs = [f"{phase}{name}" for name in numbered_inputs(names, phase)]
        inputs += [f"{name}/{phase}" for name in numbered_inputs(names)]
        folders = [folder for kind in kinds for folder in phase_folders(root, phase, kind)]
        if any(map(is_folder, [*folders, *(str(Path(root, name)) for name in inputs)])):
            phases.append(phase)
    return phases


def list_phase_images(o: Any, root: str) -> tuple[Paths, list[str]]:
    """Return the images of --phase, or its --split part of a root without phases; and notes."""
    folder = str(Path(root, o.phase))
    if is_folder(folder) or not _is_undivided(o, root):
        return list_images(folder, root, o), unused_split_notes(o)
    paths = list_images(root, root, o)
    paths = paths if o.split is None else select_split(paths, o)
    return paths, [f"{count_text(len(paths), 'image')}{_scope_text(o)}"]


def _is_undivided(o: Any, root: str) -> bool:
    """Return whether a root without a folder for --phase is read as a whole: by --split, or if its shards name none.

    Folders of label maps, such as train_label and train_img, are those of a phase.
    """
    storage = find_storage(root)
    if o.split is not None:
        return LABEL_MAP_FOLDERS.isdisjoint(list_folders(root))
    return isinstance(storage, Shards) and not storage.has_phases


def _scope_text(o: Any) -> str:
    """Return which part of an undivided root is used."""
    if o.split is None:
        return ", for every phase (the names of the shards have none)"
    return f", the part of {o.phase} (--split {o.split:g})"


def list_images(folder: str, root: str, o: Any) -> Paths:
    """Return the images under a folder of root; if there are none, raise DataError with what is there instead."""
    paths = list_files(folder)
    if not paths:
        raise _missing_images_error(folder, root, o)
    return paths


def select_split(paths: Paths, o: Any) -> Paths:
    """Return the --split part of --phase, chosen by a hash of each name so that no image changes its part later."""
    return paths.take(split_indices(paths, o))


def unused_split_notes(o: Any) -> list[str]:
    """Return a note if --split is given for images that are divided into phases already."""
    given = o.split is not None and "split" in o.given
    return ["note: --split has no effect: the images are divided into phases already"] if given else []


def split_indices(paths: Paths, o: Any) -> np.ndarray:
    """Return which of the paths are in the part of --phase, by --split; raise DataError if none is."""
    in_training = paths.keys() < np.uint64(o.split * 2**64)
    indices = np.flatnonzero(in_training if o.phase == "train" else ~in_training)
    if not len(indices):
        why = f"--split {o.split:g} leaves none of {count_text(len(paths), 'image')} for it"
        raise DataError("phase", o.phase, why, "use another --split")
    return indices


def _missing_images_error(folder: str, root: str, o: Any, kinds: Sequence[str] = ("joined",)) -> DataError:
    """Return the error for a folder without images or a --dataroot that is none; kinds: the layouts that are read."""
    if find_storage(root).entry_type(root) == "folder":
        return DataError("folder", folder, *_missing_images_reason(folder, root, o, kinds))
    means_file = has_image_extension(o.dataroot) or o.dataroot.lower().endswith((".zip", ".tar"))
    thing = "file" if means_file else "folder"
    why = "is a file, not a folder" if os.path.exists(root) else f"there is no such {thing}"
    remedy = "give --dataroot a folder of images" if o.isTrain else "give a folder, a zip file or an image"
    return DataError(thing, o.dataroot, why, path_hint(o.dataroot) or remedy)


def _missing_images_reason(folder: str, root: str, o: Any, kinds: Sequence[str]) -> tuple[str, str]:
    """Return (why, remedy) for a folder without images: its contents, or the folders that exist instead in root."""
    within = os.path.basename(os.path.abspath(o.dataroot))
    relative = os.path.relpath(folder, root)
    layout = f"expected images in {'it' if relative == '.' else relative}; see --dataroot, --phase and --dataset_mode"
    storage = find_storage(root)
    if storage.entry_type(folder) != "folder":
        neighbours = storage.list_folders(root)
        has_sides = "B" in neighbours and bool("A" in neighbours or numbered_inputs(neighbours))
        hint = _other_folder_hint(root, relative, o, kinds) or _several_inputs_hint(root, o, kinds)
        if (has_sides or not neighbours) and (count := len(storage.list_images(root))):
            why = f"there is no such folder ({within} has {count_text(count, 'image')}, not divided into phases)"
            return why, hint or _undivided_remedy(o, has_sides or "joined" in kinds)
        there = ", ".join(map(repr, neighbours[:8])) or "no folders"
        return f"there is no such folder ({within} has {there})", hint or layout
    deeper = os.fsdecode(storage.list_images(folder).unused).split("\0")[:-1]
    names = list(dict.fromkeys([*storage.list_names(folder), *deeper]))
    if not names:
        return "holds no files", layout
    if links := [name for name in deeper if has_image_extension(name)]:
        what = count_text(len(links), "link")
        return f"holds no images, but {what} to nothing such as {links[0]!r}", "restore these files"
    return f"holds no images, but {count_text(len(names), 'other file')} such as {names[0]!r}", layout


def _other_folder_hint(root: str, missing: str, o: Any, kinds: Sequence[str]) -> str:
    """Return the remedy if root holds a phase of similar name, or one above or below it what is missing; else ""."""

    def holds_phase(other: str, phase: str = o.phase) -> bool:
        return any(all(map(is_folder, phase_folders(other, phase, kind))) for kind in kinds)

    names = list_folders(root)
    there = [name for name in (*names, *(each[:-1] for each in names)) if name and holds_phase(root, name)]
    if "phase" in o.given and (near := nearest(o.phase, there)):
        return f"did you mean --phase {near}?"
    if alike := [name for name in other_phases(root, o) if holds_phase(root, name)]:
        return f"use --phase {alike[0]}"
    above = str(Path(root).parent)
    if above != root and (holds_phase(above) or ("joined" in kinds and is_folder(str(Path(above, missing))))):
        return f"give --dataroot {above}, the folder above it"
    inner = list(filter(holds_phase, inner_roots(root)))
    return f"give --dataroot {' or '.join(inner[:4])}" if inner else ""


def other_phases(root: str, o: Any) -> list[str]:
    """Return what --phase could be, unless it is given: the names of folders that mean the same phase."""
    names = [] if "phase" in o.given else dict.fromkeys(map(without_side, list_folders(root)))
    return [name for name, phase in spelled_phases(names).items() if phase == o.phase and name not in PHASE_FOLDERS]


def _several_inputs_hint(root: str, o: Any, kinds: Sequence[str]) -> str:
    """Return the remedy if there are several inputs, but not all of --inputs, or no pairs that use them; else ""."""
    inputs = numbered_folders(root, o.phase)
    if given := given_names(o):
        others = f", or name those that are there (--inputs {','.join(inputs)})" if inputs else ""
        return f"put the inputs into {', '.join(o.phase + name for name in given)}, and B into {o.phase}B{others}"
    takes_pairs = "joined" in kinds or not inputs
    return "" if takes_pairs else f"use --dataset_mode aligned (--model pix2pix), which stacks {' and '.join(inputs)}"


def inner_roots(root: str) -> list[str]:
    """Return the folders below root, or below its only folder, that hold folders of phases; [] if root itself does."""
    for _ in range(MAX_OUTER_FOLDERS):
        if list_phases(root):
            return []
        folders = [os.path.join(root, name) for name in list_folders(root) if name != "__MACOSX"]
        if (inner := [folder for folder in folders if list_phases(folder)]) or len(folders) != 1:
            return inner
        root = folders[0]
    return []


def _undivided_remedy(o: Any, can_split: bool) -> str:
    """Return the remedy for a folder of images without folders of phases."""
    if not o.isTrain:
        flags = [f"--{flag}" for flag in ("phase", "pairs", "dataset_mode") if flag in o.given]
        return f"omit {' and '.join(flags)} to test all of them" if flags else "give the folder of the images itself"
    if can_split:
        return "use --split 0.9 to train on nine tenths of them, by their names"
    return f"{o.dataset_mode} needs images of two kinds: put them into {o.phase}A and {o.phase}B"


def phase_folders(root: str, phase: str, kind: str, inputs: Sequence[str] = ONE_INPUT) -> list[str]:
    """Return the folders of a phase in a layout of LAYOUTS: one folder of A|B, or those of the inputs and of B."""
    sides = ("",) if kind == "joined" else (*inputs, "B")
    return [str(Path(root, LAYOUTS[kind].format(side=side, phase=phase))) for side in sides]


def _unsplit_folders(root: str, kinds: Sequence[str], o: Any, inputs: Sequence[str]) -> list[str]:
    """Return the folders of a root without phases: inputs and B, or the root itself with files of A|B."""
    folders = [str(Path(root, side)) for side in (*(inputs or ONE_INPUT), "B")]
    joined = kinds[0] == "joined" and (len(kinds) == 1 or not all(map(is_folder, folders)))
    return [root] if joined else _without_empty_target(folders) if inputs and not o.isTrain else folders


def find_manifest_inputs(o: Any, root: str) -> SideFiles:
    """Return the files of column a of the manifest --dataroot, with its further columns; column b is not read."""
    return _sides_of_manifest(o.dataroot, o, root, paired=True, targets=False)


def _sides_of_manifest(file: str, o: Any, root: str, paired: bool, targets: bool = True) -> SideFiles:
    names: tuple[str, ...] | None = ONE_INPUT
    if paired and targets:
        names = given_names(o) if o.inputs else None if o.isTrain or not o.remembered else ONE_INPUT
    table = manifest.read_manifest(file, root, o.phase, names)
    inputs = () if table.inputs == ONE_INPUT else table.inputs
    may_lack_targets = paired and not o.isTrain and o.direction == "AtoB"
    has_targets = targets and (not may_lack_targets or any(row.files[-1] for row in table.rows))
    number = len(table.inputs) + has_targets  # of files in each row
    others = bool(table.problems)  # than rows without partners
    if paired and not all(all(row.files[:number]) for row in table.rows):
        table.problems += _partial_rows(table, number)
    if table.problems:
        has_pairs = not paired or others or any(all(row.files[:number]) for row in table.rows)
        remedy = "fix the manifest, or remove these rows"
        raise_if_any("file", table.problems, f"in {file}", remedy, is_listed=has_pairs)
    # Collect the files of each side, and the other columns.
    different = {(row.files, str([*row.others.values()] if paired else "")): row for row in table.rows}
    rows = sorted(different.values(), key=lambda row: row.files)
    lists = [list(names) for names in zip(*(row.files for row in rows), strict=True)][:number]
    if not paired:
        lists = [sorted({name for name in names if name}) for names in lists]
    if not all(lists):
        empty = "b" if lists[0] else "a"
        raise DataError("file", file, f"has no files in column {empty}", "name images of both sides")
    sides, columns, described = [manifest.paths_with_sizes(names) for names in lists], None, tuple[str, ...]()
    if paired and any(table.all_others):
        kinds, notes = find_kinds(file, table.all_others, o.saved.get("run_columns", {}))
        columns = Columns([row.others for row in rows], kinds)
        described = (columns.describe(), *notes)
    # Take the part of --split, and describe the result.
    if o.split is not None and not table.splits:
        chosen = [split_indices(side, o) for side in sides]
        sides = [side.take(chosen[0] if paired else own) for side, own in zip(sides, chosen, strict=True)]
        columns = columns and columns.take(chosen[0])
    described += tuple(manifest_notes(table, o))
    kind = "unpaired" if not paired else "pairs" if has_targets else "images"
    return SideFiles(sides, kind, [file], manifest_scope(table, o), described, inputs, columns)


def manifest_scope(table: manifest.Manifest, o: Any) -> str:
    """Return which part of a manifest is used, unless it has a column split."""
    if table.splits:
        return ""
    return ", for every phase (it has no column split)" if o.split is None else _scope_text(o)


def manifest_notes(table: manifest.Manifest, o: Any) -> list[str]:
    """Return notes about a manifest's column split, and about a --split beside it."""
    return [*table.split_notes, *unused_split_notes(o)] if table.splits else table.unused_splits


def _partial_rows(table: manifest.Manifest, number: int) -> list[Problem]:
    """Return the problems of rows that name some of their files only; number: of the files in a row, b comes last."""
    sides, problems = (*table.inputs, "b")[:number], []
    for row in table.rows:
        lacking = [side.lower() for side, path in zip(sides, row.files) if not path]
        if lacking and (path := next(filter(None, row.files), "")):
            where = f" in column {lacking[0]}" if table.inputs != ONE_INPUT else ""
            problems.append((path, f"has no partner{where} in {table.file}"))
    return problems
