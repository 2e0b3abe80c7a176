"""Many things wrong at once: told one a line on stderr, then as one error that names the first."""

import sys
from collections.abc import Sequence

from util.errors import DataError, printable

SHOWN = 10
Problem = tuple[str, str]  # the file's name, what is wrong with it


def told(problems: Sequence[Problem]) -> list[str]:
    """Return the first problems, a line each, and how many more there are."""
    more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return [printable(line) for line in (*(f"{name}: {why}" for name, why in problems[:SHOWN]), *more)]


def refuse(thing: str, problems: Sequence[Problem], among: str, remedy: str) -> None:
    """Raise DataError for the first problem, if there is any; if there are several, they are printed before."""
    if not problems:
        return
    (name, why), others = problems[0], len(problems) - 1
    if others:
        print(*told(problems), sep="\n", file=sys.stderr, flush=True)
        why += f" (and {others} more {among})"
    raise DataError(thing, name, why, remedy)
