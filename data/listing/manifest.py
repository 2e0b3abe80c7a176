"""Read manifests: CSV or JSON tables whose columns a (or a1, a2, ...), b, label and split list a dataset's images."""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product, starmap
from typing import Any, NamedTuple

from data.listing.files import dataset_root, find_storage
from data.listing.paths import Paths
from data.names.inputs import ONE_INPUT, numbered_inputs
from util.errors import DataError, OptionError, Problem, count_text
from util.spelling import name_hint

MANIFEST_EXTENSIONS = (".csv", ".tsv", ".json", ".jsonl")
MANIFEST_NAMES = [stem + end for stem in ("pairs", "manifest") for end in MANIFEST_EXTENSIONS]
USUAL_SPLITS = {"train", "val", "test"}
SPLIT_ALIASES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
RawRow = dict[str, Any]  # column names as they are written, texts without spaces around them, other JSON values


class Row(NamedTuple):
    """One row: the paths of the inputs and of b, "" for an empty field; and the values of all other columns."""

    files: tuple[str, ...]  # b comes last
    label: str
    others: RawRow


@dataclass
class Manifest:
    """The rows of a manifest for one phase; all_others: the other columns of the rows of every phase."""

    file: str
    root: str
    inputs: tuple[str, ...] = ONE_INPUT
    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    splits: set[str] = field(default_factory=set)  # the phases in the column split
    counts: Counter[str] = field(default_factory=Counter)  # of the rows of each phase; "" if a row names none
    all_others: list[RawRow] = field(default_factory=list)
    unused_splits: list[str] = field(default_factory=list)  # notes about columns that seem to be a split
    in_several: list[str] = field(default_factory=list)  # the first files of rows that another phase has too

    @property
    def split_notes(self) -> list[str]:
        """Return notes about a column split: phases of other names, empty cells, and rows of two phases."""
        notes, other = [], sorted(self.splits - USUAL_SPLITS)
        if other:
            counts = ", ".join(f"{name} {self.counts[name]}" for name in sorted(self.splits))
            notes.append(f"note: rows for each phase in the column split of {self.file}: {counts}")
        if empty := self.counts[""]:
            notes.append(f"note: {count_text(empty, 'row')} of {self.file} without a split: used in every phase")
        if self.in_several:
            rows = f"{count_text(len(self.in_several), 'row')} of {self.file}"
            notes.append(f"note: {rows}, such as that of '{self.in_several[0]}', repeat rows of another phase")
        return notes


def find_manifest(dataroot: str, pairs_flag: str, root: str = "") -> str | None:
    """Return the manifest of --pairs, or else dataroot or a file in it or in root (default: found in dataroot)."""
    if pairs_flag in ("joined", "sides", "nested"):
        return None
    folders = dict.fromkeys((dataroot, root or dataset_root(dataroot)))
    own = [(dataroot,)] if dataroot.lower().endswith(MANIFEST_EXTENSIONS) else []
    auto = [*own, *product(folders, MANIFEST_NAMES)]
    for path in starmap(os.path.join, auto if pairs_flag == "auto" else product(("", *folders), [pairs_flag])):
        if find_storage(path).entry_type(path) == "file":
            return path
    if pairs_flag == "auto":
        return None
    why = "is neither joined, sides, nested nor the name of a file"
    files = [name for folder in folders for name in find_storage(folder).list_names(folder)]
    tables = [name for name in files if name.lower().endswith(MANIFEST_EXTENSIONS)]
    hint = name_hint(pairs_flag, ["joined", "sides", "nested", *tables])
    raise OptionError("option", "--pairs", f"{pairs_flag!r} {why}", f"{hint}give one of these, or a CSV or JSON file")


def is_manifest(path: str) -> bool:
    """Return whether a path is a file with the extension of a manifest."""
    return path.lower().endswith(MANIFEST_EXTENSIONS) and find_storage(path).entry_type(path) == "file"


def read_manifest(file: str, dataroot: str, phase: str, inputs: tuple[str, ...] | None = ONE_INPUT) -> Manifest:
    """Return the rows of a phase, or all rows without a column split; raise DataError if the file is not a table.

    Paths are relative to the manifest's folder, or to dataroot if the manifest's folder has no such file. inputs: the
    columns of the inputs; None: a, or else a1, a2, ...
    """
    table, columns = Manifest(file, os.path.dirname(file), inputs or ONE_INPUT), set[str]()
    roots = (table.root, dataroot) if find_storage(dataroot).entry_type(dataroot) == "folder" else (table.root,)
    phases: dict[int, str] = {}  # of rows, by hashes of their files
    # Collect the rows of the phase, and the files that are missing.
    for number, raw in enumerate(_read_rows(file), 1):
        row = {name.lower(): "" if value is None else str(value) for name, value in raw.items()}
        if number == 1:
            columns = set(row)
            table.inputs = inputs or ("a" not in row and numbered_inputs(map(str.upper, row))) or ONE_INPUT
            sides = {name: name.lower() for name in (*table.inputs, "b")}
        others = {k: v for k, v in raw.items() if k and k.lower() not in ("split", *sides.values())}
        table.all_others.append(others)
        split = row.get("split", "").lower()
        split = SPLIT_ALIASES.get(split, split)
        table.counts[split] += 1
        names = tuple(row.get(side, "") for side in sides.values())
        if split and phases.setdefault(hash(names), split) != split:
            table.in_several.append(names[0])
        if split not in ("", phase):
            continue
        paths = []
        for side in sides.values():
            name = row.get(side, "")
            places = starmap(os.path.join, product(roots, (name, name.replace("\\", "/"))))
            found = (path for path in map(os.path.normpath, places) if find_storage(path).entry_type(path) == "file")
            paths.append(next(found, ""))
            if name and not paths[-1]:
                where = f"row {number} of {file}" if len(sides) == 2 else f"column {side}, row {number} of {file}"
                table.problems.append((name, f"does not exist ({where})"))
        if not any(row.get(side) for side in sides.values()):
            table.problems.append((file, f"names no file in row {number}"))
        table.rows.append(Row(tuple(paths), row.get("label", ""), others))
    table.splits = set(table.counts) - {""}
    for name in table.all_others[0] if table.all_others and not table.splits else ():
        words = {str(row.get(name, "")).lower() for row in table.all_others}
        if len(words) > 1 and words <= {*USUAL_SPLITS, *SPLIT_ALIASES}:
            said = f"note: column {name} seems to name phases, but all rows are used; rename it to split to use it"
            table.unused_splits.append(said)
    # Check that the table has columns and rows to use.
    here, plain = ", ".join(sorted(columns)) or "no rows", table.inputs == ONE_INPUT
    missing = [name for name in table.inputs if name.lower() not in columns]
    if missing and not (plain and "b" in columns):
        what = "a and no column b" if plain else missing[0]
        remedy = "name its columns a, b, label, split; if the file is not a list of images, rename it"
        if not plain:
            remedy = f"{name_hint(missing[0], sorted(columns))}add the column, or name others with --inputs"
        raise DataError("file", file, f"has no column {what} (it has {here})", remedy)
    if not table.rows:
        why = f"{file} has no rows for it (its column split has {', '.join(sorted(table.splits))})"
        remedy = f"{name_hint(phase, sorted(table.splits))}give one of these with --phase, or remove the column split"
        raise DataError("phase", phase, why, remedy)
    return table


def paths_with_sizes(files: list[str]) -> Paths:
    """Return the files named in a manifest with their sizes in bytes; the size is 0 for files in zip files."""
    return Paths.from_names(files, [os.path.getsize(name) if os.path.isfile(name) else 0 for name in files])


def _read_rows(file: str) -> Iterator[RawRow]:
    """Yield the rows of a file, without spaces around names and texts."""
    try:
        with io.TextIOWrapper(find_storage(file).open(file), encoding="utf-8-sig", newline="") as text:
            rows: Iterable[Any]
            if not file.lower().endswith((".json", ".jsonl")):
                head = text.readline()
                text.seek(0)
                rows = csv.DictReader(text, delimiter=max(",;\t", key=head.count), restkey="")
                names = Counter(str(name).strip().lower() for name in rows.fieldnames or ())
                doubled = [name for name in names if name and names[name] > 1]  # only the last would be read
                if doubled and any(re.fullmatch(r"a\d*|b", name) for name in names):  # else the first row has no names
                    why = f"has {names[doubled[0]]} columns called {doubled[0]}"
                    raise DataError("file", file, why, "rename or remove all but one of them")
            elif (content := text.read()).lstrip().startswith("["):
                rows = json.loads(content)
            else:
                rows = (json.loads(line) for line in content.splitlines() if line.strip())
            for row in rows:
                if not isinstance(row, dict):
                    raise ValueError(f"{str(row)[:40]!r} is not a row of named columns")
                yield {str(k).strip(): v.strip() if isinstance(v, str) else v for k, v in row.items()}
    except DataError:
        raise
    except (OSError, ValueError, csv.Error, RecursionError) as problem:
        why = f"cannot be read as a table ({problem})"
        raise DataError("file", file, why, "give CSV, a JSON list of objects, or one JSON object per line") from problem
