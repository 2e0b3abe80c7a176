"""Read manifests: CSV or JSON tables whose columns a, b, label and split list the images of a dataset."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product

from data.listing import zips
from data.listing.files import dataset_root, is_file, open_binary
from data.listing.paths import Paths
from util.errors import DataError, OptionError, Problem

MANIFEST_EXTENSIONS = (".csv", ".tsv", ".json", ".jsonl")
SPLIT_ALIASES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
Row = dict[str, str]


@dataclass
class Manifest:
    """The rows of a manifest for one phase: paths of a and b, and labels; "" for an empty field."""

    file: str
    root: str
    rows: list[tuple[str, str, str]] = field(default_factory=list)  # a, b, label
    problems: list[Problem] = field(default_factory=list)
    splits: set[str] = field(default_factory=set)


def find_manifest(dataroot: str, pairs_flag: str) -> str | None:
    """Return the manifest given by --pairs or --dataroot, or the file named pairs.* or manifest.* in dataroot."""
    if pairs_flag not in ("auto", "joined", "sides", "nested"):
        for folder in ("", dataroot, dataset_root(dataroot)):
            if is_file(path := os.path.join(folder, pairs_flag)):
                return path
        why = "is neither joined, sides, nested nor the name of a file"
        raise OptionError("option", "--pairs", f"{pairs_flag!r} {why}", "give one of these, or a CSV or JSON file")
    if pairs_flag != "auto":
        return None
    if is_manifest(dataroot):
        return dataroot
    names = product(dict.fromkeys((dataroot, dataset_root(dataroot))), ("pairs", "manifest"), MANIFEST_EXTENSIONS)
    return next((path for folder, stem, end in names if is_file(path := os.path.join(folder, stem + end))), None)


def is_manifest(path: str) -> bool:
    """Return whether a path is a file with the extension of a manifest."""
    return path.lower().endswith(MANIFEST_EXTENSIONS) and os.path.isfile(path)


def read_manifest(file: str, dataroot: str, phase: str) -> Manifest:
    """Return the rows of a phase, or all rows without a column split; raise DataError if the file is not a table.

    Paths are relative to the manifest's folder, or to dataroot if the manifest's folder has no such file.
    """
    table, columns = Manifest(file, os.path.dirname(file)), None
    resolve = _path_resolver(
        table.root, dataroot if os.path.isdir(dataroot) or zips.split_zip_path(dataroot) else table.root
    )
    # Collect the rows of the phase, and the files that are missing.
    for number, row in enumerate(_read_rows(file), 1):
        columns = columns or set(row)
        split = row.get("split", "").lower()
        split = SPLIT_ALIASES.get(split, split)
        table.splits |= {split} - {""}
        if split not in ("", phase):
            continue
        paths = []
        for side in ("a", "b"):
            path = resolve(row.get(side, "")) if row.get(side) else ""
            if path is None:
                table.problems.append((row[side], f"does not exist (row {number} of {file})"))
            paths.append(path or "")
        if not row.get("a") and not row.get("b"):
            table.problems.append((file, f"names no file in row {number}"))
        table.rows.append((paths[0], paths[1], row.get("label", "")))
    # Check that the table has columns and rows to use.
    if not columns or not columns & {"a", "b"}:
        why = f"has no column a and no column b (it has {', '.join(sorted(columns or ())) or 'no rows'})"
        raise DataError("file", file, why, "name its columns a, b, label, split")
    if not table.rows:
        why = f"{file} has no rows for it (its column split has {', '.join(sorted(table.splits))})"
        raise DataError("phase", phase, why, "give one of these with --phase, or remove the column split")
    return table


def paths_with_sizes(files: list[str]) -> Paths:
    """Return the files named in a manifest with their sizes in bytes; the size is 0 for files in zip files."""
    return Paths.from_names(files, [os.path.getsize(name) if os.path.isfile(name) else 0 for name in files])


def _read_rows(file: str) -> Iterator[Row]:
    """Yield the rows of a file, with column names in lower case and spaces around values removed."""
    try:
        with io.TextIOWrapper(open_binary(file), encoding="utf-8-sig", newline="") as text:
            rows = _json_rows(text.read()) if file.lower().endswith((".json", ".jsonl")) else _csv_rows(text)
            for row in rows:
                if not isinstance(row, dict):
                    raise ValueError(f"{str(row)[:40]!r} is not a row of named columns")
                yield {str(k).strip().lower(): "" if v is None else str(v).strip() for k, v in row.items()}
    except (OSError, ValueError, csv.Error, RecursionError) as problem:
        why = f"cannot be read as a table ({problem})"
        raise DataError("file", file, why, "give CSV, a JSON list of objects, or one JSON object per line") from problem


def _csv_rows(text) -> Iterator[dict]:
    head = text.readline()
    text.seek(0)
    delimiter = max(",;\t", key=head.count)
    return iter(csv.DictReader(text, delimiter=delimiter, restkey=""))


def _json_rows(text: str) -> Iterator[object]:
    if text.lstrip().startswith("["):
        return iter(json.loads(text))
    return (json.loads(line) for line in text.splitlines() if line.strip())


def _path_resolver(*roots: str) -> Callable[[str], str | None]:
    """Return a function that finds a file of a manifest in these folders, and returns its path or None."""

    def resolve(name: str) -> str | None:
        for root, written in product(dict.fromkeys(roots), dict.fromkeys((name, name.replace("\\", "/")))):
            path = os.path.normpath(os.path.join(root, written))
            if is_file(path):
                return path
        return None

    return resolve
