"""Declare flags as dataclass fields: `option()` gives one its default, help text, range and meaning."""

import math
import re
import types
import typing
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from registry.lookup import entry
from util.errors import OptionError
from util.size import Size, parse_size
from util.spelling import name_hint


def option(
    default: Any,
    help: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] | str | None = None,
    of_run: bool = False,
    endless: bool = False,
    momentary: bool = False,
    aside: bool = False,
    fixed: bool = False,
    valued: bool = False,
    listed: bool = False,
) -> Any:
    """Declare a flag inside a dataclass; its type is the field's annotation.

    at_least and at_most are inclusive bounds, above and below exclusive ones. `choices` is a tuple of words or the
    name of a registry kind ("generator"). `of_run`: the flag shapes networks or images, so test.py takes it from the
    run. `endless` allows inf. `momentary`: the flag affects one command only, so a run does not store it.
    `aside`: the flag affects how a run is shown, saved or sped up; its value does not change the numbers.
    `fixed`: trained weights depend on the value, so a run cannot resume with another one.
    `valued`: a switch that true or false may follow, as in other programs: --nce_idt False. `listed`: a text whose
    words may also follow one after another, as in other programs: --selected_attrs Male Young.
    Types: int, float, str, bool, `int | None`, `bool | None`, tuple[str, ...] (repeatable), and `int | Size` for 256 or
    512x256, where the bounds apply to each side.
    """
    text_and_range = dict(help=help, at_least=at_least, at_most=at_most, above=above, below=below, choices=choices)
    meanings = dict(of_run=of_run, endless=endless, momentary=momentary, aside=aside, fixed=fixed, valued=valued,
        listed=listed)  # fmt: skip
    return field(default=default, metadata=text_and_range | meanings)


@dataclass(frozen=True)
class Flag:
    """A flag as the parser sees it: a dataclass field with its owner ("all runs", "cycle_gan", ...)."""

    name: str
    type: Any
    default: Any
    owner: str
    meta: Any

    @property
    def is_switch(self) -> bool:
        """Whether the command line sets and unsets the flag by its name alone."""
        return self.type in (bool, bool | None)

    @property
    def opposite(self) -> str:
        """The flag that reverses a boolean one: --dropout for --no_dropout, --no_eval for --eval."""
        return self.name[3:] if self.name.startswith("no_") else "no_" + self.name

    @property
    def names(self) -> tuple[str, ...]:
        """The names on the command line, without the dashes."""
        return (self.name, self.opposite) if self.is_switch else (self.name,)

    def check(self, value: Any, given_in: str = "") -> Any:
        """Return `value` as the flag's type, within its range and choices; raise OptionError otherwise.

        `value` is text from the command line, or a value from a YAML or JSON file named by `given_in`.
        """
        try:
            return self._check_range(self._convert(value))
        except _InvalidValue as invalid:
            thing = "option" if not given_in else f"option in {given_in}"
            raise OptionError(thing, "--" + self.name, *invalid.args) from None

    def _convert(self, value: Any) -> Any:
        wanted = self.type
        listed = isinstance(value, (list, tuple))
        scalars = listed and all(isinstance(one, (str, int, float)) for one in value)
        if isinstance(value, (dict, set, bytes)) or listed != scalars:
            raise _InvalidValue("is a table, a list of lists or bytes", "write one value, or a list of values")
        if typing.get_origin(wanted) is tuple:
            if not isinstance(value, str) and not (listed and all(isinstance(one, str) for one in value)):
                raise _InvalidValue(f"'{_shorten(value)}' is not a list of texts", "write a list")
            return tuple(_check_no_nul(one) for one in (value if listed else [value]))
        if wanted == int | Size:
            return _parse_size(value)
        if typing.get_origin(wanted) in (types.UnionType, typing.Union):
            if value is None or str(value).lower() in ("none", "all", "auto", ""):
                return None
            wanted = next(t for t in typing.get_args(wanted) if t is not type(None))
        if wanted is bool:
            if isinstance(value, bool):
                return value
            if self.meta["valued"] and str(value).lower() in TRUTH_WORDS:
                return TRUTH_WORDS[str(value).lower()]
            raise _InvalidValue(f"'{_shorten(value)}' is not true or false", "write true or false")
        if isinstance(value, bool) or value is None:
            raise _InvalidValue(f"'{value}' is not a single value", f"give {_TYPE_NAMES[wanted]}{self._range_text()}")
        if listed:
            value = ",".join(map(str, value))
        try:
            return _check_no_nul(str(value)) if wanted is str else int(str(value)) if wanted is int else wanted(value)
        except (ValueError, TypeError) as problem:  # TypeError: YAML also has dates, sets and bytes
            if isinstance(problem, _InvalidValue):
                raise
            why, number = f"'{_shorten(value)}' is not {_TYPE_NAMES[wanted]}", _number_meant(str(value), wanted)
            remedy = f"give {_TYPE_NAMES[wanted]}{self._range_text()}"
            raise _InvalidValue(why, remedy + (f"; did you mean {number}?" if number else "")) from None

    def _check_range(self, value: Any) -> Any:
        m = self.meta
        for one in value if isinstance(value, tuple) else [value]:  # several texts, or the sides of a size
            if isinstance(one, float) and not math.isfinite(one) and not (m["endless"] and one == math.inf):
                raise _InvalidValue(f"{one} is not a finite number", f"give a number{self._range_text()}")
            if isinstance(one, int) and abs(one) >= 2**63:
                raise _InvalidValue(f"{_shorten(one)} is out of range", "give a number of less than 19 digits")
            if isinstance(one, (int, float)) and not isinstance(one, bool) and not self._is_in_bounds(one):
                raise _InvalidValue(f"{one} is out of range", f"give a number{self._range_text()}")
        if isinstance(m["choices"], tuple) and value not in m["choices"]:
            remedy = f"{name_hint(str(value), list(m['choices']))}choose one of {', '.join(m['choices'])}"
            raise _InvalidValue(f"'{_shorten(value)}' is not a choice", remedy)
        if isinstance(m["choices"], str):
            return self._registered(m["choices"], value)
        return value

    def _registered(self, kind: str, value: Any) -> Any:
        """Return the registered spelling of a name, or of each of a comma-separated tuple of names."""
        if isinstance(value, tuple):
            words = (word.strip() for one in value for word in one.split(","))
            return tuple(entry(kind, word, "--" + self.name).name for word in words if word)
        return entry(kind, value, "--" + self.name).name if value else value

    def _is_in_bounds(self, number: float) -> bool:
        m = self.meta
        return not (
            (m["at_least"] is not None and number < m["at_least"])
            or (m["at_most"] is not None and number > m["at_most"])
            or (m["above"] is not None and number <= m["above"])
            or (m["below"] is not None and number >= m["below"])
        )

    def _range_text(self) -> str:
        m = self.meta
        words = {"at_least": "of at least", "above": "above", "at_most": "of at most", "below": "below"}
        parts = [f"{text} {m[key]:g}" for key, text in words.items() if m[key] is not None]
        return " " + " and ".join(parts) if parts else ""


class _InvalidValue(ValueError):
    """(why, remedy) for a value that its flag does not accept."""


def _shorten(value: Any) -> str:
    """Return a value as an error message shows it, at most 80 characters."""
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _parse_size(value: Any) -> int | Size:
    try:
        return parse_size("x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
    except ValueError:
        text = re.sub(r"\.0+(?!\d)", "", str(value))
        sides = re.findall(r"\d+", text) if "." not in text else []
        meant = f"; did you mean {'x'.join(sides)}?" if len(sides) in (1, 2) and "-" not in str(value) else ""
        raise _InvalidValue(
            f"'{_shorten(value)}' is not a size", "give pixels: 256, or 512x256 (WxH)" + meant
        ) from None


def _number_meant(text: str, wanted: type) -> str | None:
    """Return the number in a text with a comma or a needless fraction (0,5 or 4.0); None if it has none."""
    text = re.sub(r"(?<=\d),(?=\d)", ".", text.strip(" ,;'\""))
    try:
        number = float(text.removesuffix("f"))
    except ValueError:
        return None
    if wanted is int:
        return str(int(number)) if number.is_integer() else None
    return text.removesuffix("f") if math.isfinite(number) else None


def _check_no_nul(text: str) -> str:
    if "\0" in text:  # no path or name can contain it
        raise _InvalidValue("contains a NUL character", "remove it")
    return text


TRUTH_WORDS = dict.fromkeys(("true", "yes", "on", "t", "y", "1"), True)
TRUTH_WORDS |= dict.fromkeys(("false", "no", "off", "f", "n", "0"), False)
_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text"}


def flags_of(holder: type, owner: str) -> list[Flag]:
    """Return the flags a dataclass declares, in order; OptionError for a class with fields that is not a dataclass."""
    if not hasattr(holder, "__dataclass_fields__"):
        if typing.get_type_hints(holder):
            raise OptionError("plug-in", owner, "its class Options is not a dataclass", "write @dataclass above it")
        return []
    hints = typing.get_type_hints(holder)
    plain_meta = option(None, "").metadata  # a plain dataclass field, without option(), is a flag without help
    return [Flag(f.name, hints[f.name], f.default, owner, dict(f.metadata or plain_meta)) for f in fields(holder)]


class Options:
    """All flags of a run as typed attributes; `vars(o)` is the plain dictionary of them."""

    __slots__ = ("__dict__", "flags", "given", "input", "run_classes", "saved")

    if TYPE_CHECKING:  # the attributes are known only at run time

        def __setattr__(self, name: str, value: Any) -> None: ...

    def __init__(self, values: dict[str, Any], given: set[str], flags: dict[str, Flag]):
        self.__dict__.update(values)
        self.given = given  # names given on the command line or in --config
        self.flags = flags
        self.saved: dict[str, Any] = {}  # the options stored with the run, if its options.json was read
        self.run_classes: list[str] = []  # the classes of the images that the run is trained on
        self.input = ""  # the folder or file given by position, which is --dataroot too

    @property
    def remembered(self) -> bool:
        """Whether the run's own options.json was read."""
        return bool(self.saved)

    def __getattr__(self, name: str) -> Any:  # called only for missing attributes
        raise AttributeError(f"there is no option '{name}'")
