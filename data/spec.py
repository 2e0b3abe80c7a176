"""The properties of a data set's images, and the fields that a plug-in adds to them."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from registry import loaded
from registry.contract import contract_error

MAX_OWN_CHARACTERS = 100_000  # of own fields as JSON, because options.json is read whole
REMEDY = "give numbers, texts, lists, tuples, and dictionaries whose keys are texts"


@dataclass(frozen=True)
class Spec:
    """Properties of a dataset's images; height and width are those of its first sample, in pixels.

    A data set's spec() may return a subclass, a frozen dataclass with fields of its own that have defaults.
    """

    input_nc: int
    output_nc: int
    height: int
    width: int
    classes: tuple[str, ...] = ()
    range_A: str = ""  # the file values that become -1 and 1, in the format of the flag of this name
    range_B: str = ""
    pair_proportions: tuple[float, ...] = ()  # least and greatest width / height of an image of the pairs
    inputs: str = ""  # the inputs that are stacked to A, in the format of --inputs
    columns: dict[str, Any] = field(default_factory=dict)  # kinds of a manifest's further columns, by name


COMMON = {each.name for each in fields(Spec)}


def common_fields(spec: Any) -> dict[str, Any]:
    """Return the fields of Spec itself, by name."""
    return {name: value for name, value in vars(spec).items() if name in COMMON}


def own_fields(spec: Any) -> dict[str, Any]:
    """Return the class of a subclass of Spec and its own fields as a table for JSON; {} for a Spec.

    Raises OptionError for a value that JSON cannot hold, and for a class that another process cannot find.
    """
    kind = type(spec)
    plug_in = loaded.plugin_of_module(kind.__module__) or kind.__module__
    if not isinstance(spec, Spec):
        raise contract_error(plug_in, f"its spec() returns a {kind.__name__}, not a Spec", "return one of data.base")
    if kind is Spec:
        return {}
    if "." in kind.__qualname__:
        raise contract_error(plug_in, f"its {kind.__qualname__} is defined inside a function or class", "move it out")
    own = {each.name: getattr(spec, each.name) for each in fields(kind) if each.name not in COMMON}
    made = {name: _encode(value, f"{kind.__name__}.{name}", plug_in) for name, value in own.items()}
    if (length := len(json.dumps(made))) > MAX_OWN_CHARACTERS:
        why = f"the own fields of its {kind.__name__} take {length} characters, more than {MAX_OWN_CHARACTERS}"
        raise contract_error(plug_in, why, "keep large tables in a file, and its path in the field")
    return {"class": kind.__name__, "module": kind.__module__, "plug_in": plug_in, "fields": made}


def with_own_fields(spec: Spec, table: dict[str, Any]) -> Spec:
    """Return a Spec as the class that `own_fields` describes, with the values of that table.

    Raises OptionError if no loaded plug-in defines the class, LookupError, TypeError or AttributeError for a damaged
    table.
    """
    kind = _find_class(table)
    known = {each.name for each in fields(kind)} - COMMON
    found = {name: value for name, value in vars(spec).items() if name in known}
    stored = {name: _decode(value) for name, value in table["fields"].items() if name in known}
    return kind(**common_fields(spec), **found | stored)


def _find_class(table: dict[str, Any]) -> type[Spec]:
    """Return the class of a table; a plug-in that was moved defines it in a module of another name."""
    kinds, new = [], [Spec]
    while new:
        new = [kind for parent in new for kind in parent.__subclasses__() if kind.__name__ == kind.__qualname__]
        kinds += new
    name, module, plug_in = (str(table[key]) for key in ("class", "module", "plug_in"))
    # a module that was imported again leaves its former class behind
    kinds = [kind for kind in kinds if getattr(sys.modules.get(kind.__module__), name, None) is kind]
    kinds.sort(key=lambda kind: (kind.__module__ != module, loaded.plugin_of_module(kind.__module__) != plug_in))
    if not kinds:
        why = f"no plug-in in use defines {name}, the Spec of the run's data set"
        raise contract_error(plug_in, why, "give the file that defines it with --plugin")
    return kinds[0]


def _encode(value: Any, name: str, plug_in: str) -> Any:
    """Return a value for JSON: tuples and dictionaries as {"tuple": [...]} and {"dict": {...}}."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if type(value) in (list, tuple):
        made = [_encode(each, name, plug_in) for each in value]
        return made if type(value) is list else {"tuple": made}
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {"dict": {key: _encode(each, name, plug_in) for key, each in value.items()}}
    what = "a dictionary whose keys are no texts" if isinstance(value, Mapping) else f"a {type(value).__name__}"
    raise contract_error(plug_in, f"its field {name} is {what}, which JSON cannot hold", REMEDY)


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(each) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    return tuple(map(_decode, inside)) if kind == "tuple" else {key: _decode(each) for key, each in inside.items()}
