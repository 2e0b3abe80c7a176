"""The language of --augment: `rotation(10) apply(p=0.3: gaussian_blur(3)) choice(invert | equalize)`, read to words."""

import ast
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from data.augment.table import CONTAINERS
from util.errors import OptionError
from util.spelling import plain

NAME = re.compile(r"[A-Za-z_][\w-]*")
BETWEEN = re.compile(r"[\s,;]*")
CLOSING = {"(": ")", "[": "]", "{": "}"}
DEPTH = 20  # containers in containers
CONSTANTS = {"true": True, "false": False, "none": None}
PAGE = "see docs/augment.md"


@dataclass(frozen=True)
class Word:
    """One augmentation of a spec with its arguments, or a container with the parts it holds."""

    name: str
    text: str  # as it is written
    at: int  # the number of its first character
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    parts: tuple[tuple["Word", ...], ...] = ()  # of a container

    def wrong(self, flag: str, why: str, remedy: str = PAGE) -> OptionError:
        """Return the error that names this word and where it stands."""
        return wrong(flag, self.text, self.at, why, remedy)


def wrong(flag: str, text: str, at: int, why: str, remedy: str = PAGE) -> OptionError:
    """Return the error for a text of a spec and the number of its first character."""
    shown = " ".join(text.split())
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return OptionError("option", flag, f"'{shown}' at character {at}: {why}", remedy)


def read_spec(spec: str, flag: str) -> tuple[Word, ...]:
    """Return the words of a spec; OptionError, naming word and place, for what is none."""
    words = _Reader(spec, flag).words(0, len(spec), 0)
    if not words:
        raise OptionError("option", flag, f"'{spec}' names no augmentation", "leave it out, or " + PAGE)
    return words


class _Reader:
    """Reads spans of one text; places are indices into it, from 0."""

    def __init__(self, text: str, flag: str):
        self.text, self.flag = text, flag

    def wrong(self, start: int, end: int, why: str, remedy: str = PAGE) -> OptionError:
        return wrong(self.flag, self.text[start:end], start + 1, why, remedy)

    def words(self, start: int, end: int, depth: int) -> tuple[Word, ...]:
        """Return the words between two places: NAME or NAME(...), with blanks, commas or semicolons between them."""
        found = []
        while (start := self._after(BETWEEN, start, end)) < end:
            if not (name := NAME.match(self.text, start, end)):
                remedy = "write rotation(10), say, and what a container takes first: apply(p=0.3: rotation(10))"
                raise self.wrong(start, end, "expected the name of an augmentation here", remedy)
            stop, opening = name.end(), self._after(re.compile(r"\s*"), name.end(), end)
            inside = None
            if opening < end and self.text[opening] == "(":
                stop = self._closing(opening, end) + 1
                inside = (opening + 1, stop - 1)
            found.append(self._word(name[0], start, stop, inside, depth))
            start = stop
        return tuple(found)

    def _after(self, pattern: re.Pattern[str], start: int, end: int) -> int:
        match = pattern.match(self.text, start, end)
        return match.end() if match else start

    def _word(self, name: str, start: int, stop: int, inside: tuple[int, int] | None, depth: int) -> Word:
        text = self.text[start:stop]
        kind = plain(name).removeprefix("random")
        if kind not in CONTAINERS:
            args, kwargs = self._arguments(*inside) if inside else ((), {})
            return Word(name, text, start + 1, args, kwargs)
        if depth >= DEPTH:
            raise self.wrong(start, stop, f"there are {DEPTH} containers around it", "write it with fewer")
        first, last = inside or (stop, stop)
        args, kwargs = (), {}
        if colons := self._marks(":", first, last):
            args, kwargs = self._arguments(first, colons[0])
            first = colons[0] + 1
        edges = [first - 1, *self._marks("|", first, last), last]
        parts = tuple(self.words(a + 1, b, depth + 1) for a, b in pairwise(edges))
        if kind == "apply" and (len(parts) > 1 or not parts[0]):
            raise self.wrong(start, stop, "holds what is applied together", "write apply(p=0.3: rotation(10) invert)")
        if kind != "apply" and (len(parts) < 2 or not all(parts)):
            remedy = f"write {kind}(invert | jpeg(50))"
            raise self.wrong(start, stop, "holds two parts or more, with | between them", remedy)
        return Word(kind, text, start + 1, args, kwargs, parts)

    def _closing(self, opening: int, end: int) -> int:
        """Return the place of the bracket that closes the one at a place."""
        for place, expected in self._walk(opening, end):
            if not expected:
                return place
        raise self.wrong(opening, end, "its ( is never closed", "add the )")

    def _marks(self, mark: str, start: int, end: int) -> list[int]:
        """Return the places of a mark that stand in no brackets and quotes."""
        return [place for place, expected in self._walk(start, end) if not expected and self.text[place] == mark]

    def _walk(self, start: int, end: int):
        """Yield each place outside quotes with the brackets still open after it; OptionError for one out of turn."""
        expected: list[str] = []
        quote = ""
        for place in range(start, end):
            letter = self.text[place]
            if quote:
                quote = "" if letter == quote else quote
                continue
            if letter in "'\"":
                quote = letter
            elif letter in CLOSING:
                expected.append(CLOSING[letter])
            elif letter in CLOSING.values() and (not expected or expected.pop() != letter):
                raise self.wrong(place, end, "this bracket closes none", "count the brackets")
            yield place, expected
        if quote:
            raise self.wrong(start, end, f"a quote {quote} is never closed", "add it")

    def _arguments(self, start: int, end: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and the named arguments between two places: literals, and words as texts."""
        remedy = "write numbers, (1, 2), [1, 2], words and name=value, with commas"
        try:
            call = ast.parse(f"f({self.text[start:end]})", mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as problem:
            said = str(getattr(problem, "msg", problem)) or type(problem).__name__
            raise self.wrong(start, end, f"is no list of arguments ({said})", remedy) from None
        if not isinstance(call, ast.Call):  # brackets in a text that is oddly quoted
            raise self.wrong(start, end, "is no list of arguments", remedy)
        named = {keyword.arg or "**": self._value(start, keyword.value) for keyword in call.keywords}
        if len(named) < len(call.keywords):
            raise self.wrong(start, end, "names an argument twice", "leave one out")
        return tuple(self._value(start, node) for node in call.args), named

    def _value(self, start: int, node: ast.expr) -> Any:
        try:
            return ast.literal_eval(_Words().visit(node))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            first = start + node.col_offset - len("f(") if node.lineno == 1 else start
            last = start + (node.end_col_offset or 0) - len("f(") if node.end_lineno == 1 else first + 20
            remedy = "write a number, (1, 2), [1, 2], a word, or a 'text' in quotes"
            raise self.wrong(first, last, "is no value", remedy) from None


class _Words(ast.NodeTransformer):
    """Turns bare words into texts, and true, false and none, however capitalised, into what they mean."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(CONSTANTS.get(node.id.lower(), node.id))
