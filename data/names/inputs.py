"""The inputs of a run: the images that are stacked to A, by --inputs or by the names of folders and columns."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from util.errors import OptionError

ONE_INPUT = ("A",)  # the inputs of a run that stacks nothing
RESERVED_NAMES = ("b", "label", "split")  # of columns with another meaning


class Input(NamedTuple):
    """One input: its name, which folders and columns bear, and its channels; 0: counted in its files."""

    name: str
    channels: int = 0


def parse_inputs(text: str) -> tuple[Input, ...]:
    """Return the inputs in "A1,A2" or "A1:3,A2:1"; () for ""; raise OptionError for any other text."""
    inputs = [_parse_input(word.strip()) for word in text.split(",")] if text.strip() else []
    names = [each.name.lower() for each in inputs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise OptionError("option", "--inputs", f"names {twice[0]} twice", "name each input once")
    return tuple(inputs)


def _parse_input(word: str) -> Input:
    match = re.fullmatch(r"([^:/\\]+?)\s*(?::\s*([1-9]\d{0,3}))?", word)
    if not match:
        remedy = "give names of inputs, with or without their channels, such as A1,A2 or A1:3,A2:1"
        raise OptionError("option", "--inputs", f"'{word}' is not the name of an input", remedy)
    if match[1].lower() in RESERVED_NAMES:
        raise OptionError(
            "option", "--inputs", f"'{match[1]}' is not an input", "name the columns or folders of inputs"
        )
    return Input(match[1], int(match[2] or 0))


def format_inputs(inputs: Iterable[Input]) -> str:
    """Return inputs in the format of --inputs: "A1:3,A2:1"."""
    return ",".join(f"{each.name}:{each.channels}" for each in inputs)


def given_names(o: Any) -> tuple[str, ...]:
    """Return the names of the inputs that --inputs or the run states; () if they are to be found in the data."""
    return tuple(each.name for each in parse_inputs(o.inputs))


def may_detect(o: Any) -> bool:
    """Whether the data may decide how many inputs there are: not for a run that is trained with one."""
    return not o.inputs and (o.isTrain or not o.remembered)


def numbered_inputs(names: Iterable[str], before: str = "") -> tuple[str, ...]:
    """Return A1, A2, ... by their numbers, as far as they occur among the names behind the text `before`."""
    found = (re.fullmatch(re.escape(before) + r"A([1-9]\d{0,3})", name) for name in names)
    return tuple(f"A{number}" for number in sorted({int(match[1]) for match in found if match}))
