"""The further columns of a manifest: numbers, vectors and texts that arrive in a batch beside the images."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from util.errors import DataError
from util.value_range import NUMBER_PATTERN

RESERVED_KEYS = ("A", "B", "path_A", "path_B", "skipped")  # of samples
VECTOR_PREFIX = "attr_"  # number columns of this prefix form one vector
INTEGERS, NUMBERS, TEXTS, VECTORS = "int64", "float32", "text", "vector"
Kind = str | list[str]  # INTEGERS, NUMBERS, TEXTS, "vector 5", or the columns that form a vector
Row = dict[str, Any]  # the values of a row as they are stored: texts; in JSON also numbers and lists


class Columns:
    """The columns of the chosen rows: arrays (N,) and (N, k), and lists of texts, by their names in a batch."""

    def __init__(self, rows: Sequence[Row], kinds: dict[str, Kind]):
        self.kinds = kinds
        self.values = {name: _convert_column(name, kind, rows) for name, kind in kinds.items()}

    def take(self, indices: Iterable[int]) -> "Columns":
        """Return the rows at these indices, in this order."""
        chosen, taken = list(map(int, indices)), Columns([], {})
        taken.kinds = self.kinds
        taken.values = {
            name: values[chosen] if isinstance(values, np.ndarray) else [values[i] for i in chosen]
            for name, values in self.values.items()
        }
        return taken

    def describe(self) -> str:
        """Return the line that names the columns, such as "columns: age (numbers), caption (texts)"; "" for none."""
        parts = [f"{name} ({_kind_text(kind)})" for name, kind in self.kinds.items()]
        return f"columns in each batch: {', '.join(parts)}" if parts else ""


def find_kinds(
    file: str, rows: Sequence[Row], known: dict[str, Kind], own: Sequence[str] = ()
) -> tuple[dict[str, Kind], list[str]]:
    """Return what the columns of all rows hold, and notes.

    known: the kinds that a run was trained with. own: the columns, in lower case, that a data set uses itself. Raises
    DataError for a column that has not its known kind, and for a name that samples use already.
    """
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name.lower() not in own]
    if taken := [name for name in names if name in RESERVED_KEYS]:
        raise DataError("file", file, f"has a column {taken[0]}, a name that batches use already", "rename the column")
    kinds: dict[str, Kind] = {}
    notes = []
    for name in names:
        kinds[name], note = _guess_kind(file, name, [row.get(name) for row in rows])
        notes += note
    parts = [name for name in names if name.lower().startswith(VECTOR_PREFIX) and kinds[name] in (INTEGERS, NUMBERS)]
    vector = VECTOR_PREFIX.rstrip("_")
    if parts and vector not in kinds:
        kinds = {name: kind for name, kind in kinds.items() if name not in parts} | {vector: parts}
    for name, kind in known.items():
        if name in kinds or isinstance(kind, list):
            _check_kind(file, name, kind, kinds, rows)
            kinds[name] = kind
    return kinds, notes


def _guess_kind(file: str, name: str, values: list[Any]) -> tuple[Kind, list[str]]:
    numbers = [_as_number(value) for value in values]
    vectors = [_as_vector(value) for value in values]
    if None not in numbers:
        return (INTEGERS if all(isinstance(number, int) for number in numbers) else NUMBERS), []
    lengths = {len(vector) if vector else 0 for vector in vectors}
    if len(lengths) == 1 and 0 not in lengths:
        return f"{VECTORS} {lengths.pop()}", []
    known = numbers if any(number is not None for number in numbers) else vectors
    if all(value is None for value in known):
        return TEXTS, []
    row = next((i for i, value in enumerate(known, 1) if value is None), 0)
    why = f"row {row} holds '{_as_text(values[row - 1])[:40]}'" if row else "its lists differ in length"
    return TEXTS, [f"note: column {name} of {file} arrives as texts, because {why}"]


def _check_kind(file: str, name: str, kind: Kind, kinds: dict[str, Kind], rows: Sequence[Row]) -> None:
    """Raise DataError unless a column can be read as the kind that the run was trained with."""
    wanted = f"the run was trained with {name} as {_kind_text(kind)}"
    if isinstance(kind, list):
        missing = [part for part in kind if any(_as_number(row.get(part)) is None for row in rows)]
        if missing:
            raise DataError("file", file, f"has no number in each row of column {missing[0]}; {wanted}", "add them")
        return
    now = kinds[name]
    if kind not in (now, TEXTS) and not (kind == NUMBERS and now == INTEGERS):
        raise DataError("file", file, f"has a column {name} of {_kind_text(now)}; {wanted}", "correct the column")


def _convert_column(name: str, kind: Kind, rows: Sequence[Row]) -> np.ndarray | list[str]:
    if isinstance(kind, list):
        return np.array([[_as_number(row.get(part)) for part in kind] for row in rows], dtype=np.float32)
    values = [row.get(name) for row in rows]
    if kind == TEXTS:
        return [_as_text(value) for value in values]
    if kind in (INTEGERS, NUMBERS):
        return np.array([_as_number(value) for value in values], dtype=kind)
    return np.array([_as_vector(value) for value in values], dtype=np.float32)


def _kind_text(kind: Kind) -> str:
    if isinstance(kind, list):
        return f"vectors of {len(kind)}: {', '.join(kind[:3])}{', ...' * (len(kind) > 3)}"
    plain = {INTEGERS: "whole numbers", NUMBERS: "numbers", TEXTS: "texts"}
    return plain.get(kind) or f"vectors of {kind.removeprefix(VECTORS).strip()}"


def _as_number(value: Any) -> int | float | None:
    """Return the finite number in a value, None if it is none; "007" is a text, as in JSON."""
    if isinstance(value, str):
        if not re.fullmatch(NUMBER_PATTERN, value) or re.match(r"[-+]?0\d", value):
            return None
        value = int(value) if re.fullmatch(r"[-+]?\d+", value) else float(value)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value if isinstance(value, float) or abs(value) < 2**63 else None


def _as_vector(value: Any) -> list[float] | None:
    """Return the numbers in a JSON list, None if the value is none of numbers."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not value:
        return None
    numbers = [_as_number(each) if not isinstance(each, str) else None for each in value]
    return None if None in numbers else [float(number) for number in numbers if number is not None]


def _as_text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
