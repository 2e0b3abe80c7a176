"""Parse --augment, e.g. `rotation(10) apply(p=0.3: gaussian_blur(3)) choice(invert | equalize)`, into nodes."""

import ast
import re
from dataclasses import dataclass, field, replace
from typing import Any

from data.augment.table import CONTAINERS
from util.errors import OptionError
from util.spelling import normalise_name

SEPARATORS = re.compile(r"[\s,;]+")
NODE_START = re.compile(r"([A-Za-z_][\w-]*)(\s*\()?")
CLOSING_BRACKETS = {"(": ")", "[": "]", "{": "}"}
MAX_CONTAINER_DEPTH = 20  # levels of nested containers
# levels of nested values: far below the limits of Python versions, which differ in number and error
MAX_LITERAL_DEPTH = 100
CONSTANTS = {"true": True, "false": False, "none": None}
DOCS_HINT = "see docs/augment.md"


@dataclass(frozen=True)
class SpecNode:
    """One augmentation of a spec with its arguments, or a container with its parts."""

    name: str
    text: str  # the source text
    position: int  # of its first character in the spec, from 1
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    branches: tuple[tuple["SpecNode", ...], ...] = ()  # the parts of a container

    def error(self, flag: str, why: str, remedy: str = DOCS_HINT) -> OptionError:
        """Return an error that names this node and its position."""
        return spec_error(flag, self.text, self.position, why, remedy)


def spec_error(flag: str, text: str, position: int, why: str, remedy: str = DOCS_HINT) -> OptionError:
    """Return an error about a part of a spec; position: of its first character, from 1."""
    excerpt = " ".join(text.split())
    excerpt = excerpt if len(excerpt) <= 60 else excerpt[:57] + "..."
    return OptionError("option", flag, f"'{excerpt}' at character {position}: {why}", remedy)


def parse_spec(spec: str, flag: str) -> tuple[SpecNode, ...]:
    """Return the nodes of a spec; raise OptionError, naming text and position, if it is invalid."""
    nodes = _Parser(spec, flag).parse_nodes(0, len(spec), 0)
    if not nodes:
        raise OptionError("option", flag, f"'{spec}' names no augmentation", "omit it, or " + DOCS_HINT)
    return nodes


class _Parser:
    """Parses spans of one text; `start`, `end` and other positions are indices into it, from 0."""

    def __init__(self, text: str, flag: str):
        self.text, self.flag = text, flag

    def error(self, start: int, end: int, why: str, remedy: str = DOCS_HINT) -> OptionError:
        return spec_error(self.flag, self.text[start:end], start + 1, why, remedy)

    def parse_nodes(self, start: int, end: int, depth: int) -> tuple[SpecNode, ...]:
        """Return the nodes in a span: NAME or NAME(...), separated by spaces, commas or semicolons."""
        nodes = []
        while start < end:
            if separators := SEPARATORS.match(self.text, start, end):
                start = separators.end()
            elif head := NODE_START.match(self.text, start, end):
                first = last = stop = head.end()
                if head[2]:
                    if (last := self._find(")", first, end)) == end:
                        raise self.error(first - 1, end, "its ( is never closed", "add the )")
                    stop = last + 1
                nodes.append(self._parse_node(head[1], self.text[start:stop], start, first, last, depth))
                start = stop
            else:
                remedy = "write for example rotation(10), or a container with its arguments: apply(p=0.3: rotation(10))"
                raise self.error(start, end, "expected the name of an augmentation here", remedy)
        return tuple(nodes)

    def _parse_node(self, name: str, text: str, start: int, first: int, last: int, depth: int) -> SpecNode:
        """Return the node NAME, with its arguments or parts from `first` to `last`."""
        kind = normalise_name(name).removeprefix("random")
        if kind not in CONTAINERS:
            return SpecNode(name, text, start + 1, *self._parse_arguments(first, last))
        whole = SpecNode(kind, text, start + 1)
        if depth >= MAX_CONTAINER_DEPTH:
            raise whole.error(self.flag, f"is nested in {MAX_CONTAINER_DEPTH} containers", "use fewer containers")
        # Parse the arguments before the colon, then the parts between bars.
        args, kwargs, branches = (), dict[str, Any](), list[tuple[SpecNode, ...]]()
        if (colon := self._find(":", first, last)) < last:
            args, kwargs = self._parse_arguments(first, colon)
            first = colon + 1
        while first <= last:
            bar = self._find("|", first, last)
            branches.append(self.parse_nodes(first, bar, depth + 1))
            first = bar + 1
        if kind == "apply" and (len(branches) > 1 or not branches[0]):
            raise whole.error(self.flag, "takes exactly one part", "write apply(p=0.3: rotation(10) invert)")
        if kind != "apply" and (len(branches) < 2 or not all(branches)):
            remedy = f"write {kind}(invert | jpeg(50))"
            raise whole.error(self.flag, "takes two or more parts, with | between them", remedy)
        return replace(whole, args=args, kwargs=kwargs, branches=tuple(branches))

    def _find(self, mark: str, start: int, end: int) -> int:
        """Return the position of a mark outside brackets and quotes, `end` if there is none; start: behind a bracket.

        Raise OptionError for a wrong bracket or an open quote.
        """
        expected: list[str] = []  # the closing brackets of those that are open
        quote = ""
        for position in range(start, end):
            character = self.text[position]
            if quote:
                quote = "" if character == quote else quote
            elif character == mark and not expected:
                return position
            elif character in "'\"":
                quote = character
            elif character in CLOSING_BRACKETS:
                expected.append(CLOSING_BRACKETS[character])
            elif character in CLOSING_BRACKETS.values() and (not expected or expected.pop() != character):
                raise self.error(position, end, "this bracket closes no other", "check that brackets match")
        if quote:
            raise self.error(start - 1, end, f"a quote {quote} is never closed", "add the closing quote")
        return end

    def _parse_arguments(self, start: int, end: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and keyword arguments in a span: literals, and bare words as strings."""
        remedy = "write numbers, (1, 2), [1, 2], words and name=value, separated by commas"
        try:
            call = ast.parse(f"f({self.text[start:end]})", mode="eval").body
            if _is_too_deep(call):
                raise RecursionError
        except (SyntaxError, ValueError) as problem:
            said = getattr(problem, "msg", problem)
            raise self.error(start, end, f"is not a list of arguments ({said})", remedy) from None
        except (MemoryError, RecursionError):
            raise self.error(start, end, "is nested too deeply", remedy) from None
        if not isinstance(call, ast.Call):  # oddly quoted brackets, which close the call early
            raise self.error(start, end, "is not a list of arguments", remedy)
        named = {keyword.arg or "**": self._parse_value(start, keyword.value) for keyword in call.keywords}
        if len(named) < len(call.keywords):
            raise self.error(start, end, "names an argument twice", "remove one")
        return tuple(self._parse_value(start, node) for node in call.args), named

    def _parse_value(self, start: int, node: ast.expr) -> Any:
        try:
            return ast.literal_eval(_NamesToConstants().visit(node))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            first = start + node.col_offset - len("f(") if node.lineno == 1 else start
            last = start + (node.end_col_offset or 0) - len("f(") if node.end_lineno == 1 else first + 20
            remedy = "write a number, (1, 2), [1, 2], a word, or a 'text' in quotes"
            raise self.error(first, last, "is not a value", remedy) from None


def _is_too_deep(node: ast.AST) -> bool:
    """Return whether more than MAX_LITERAL_DEPTH nodes are nested; without recursion, which has its own limit."""
    level = [node]
    for _ in range(MAX_LITERAL_DEPTH):
        level = [child for parent in level for child in ast.iter_child_nodes(parent)]
    return bool(level)


class _NamesToConstants(ast.NodeTransformer):
    """Turns bare words into strings, and true, false and none in any letter case into Python's constants."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(CONSTANTS.get(node.id.lower(), node.id))
