"""Errors that a user can act on: one line with the thing, why and the remedy, and an exit code."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

MAX_PROBLEMS_SHOWN = 10  # problems shown of a list
Problem = tuple[str, str]  # (file name, why)


def printable(text: object) -> str:
    """Return text with control characters escaped, safe for one line of a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def first_line(problem: BaseException) -> str:
    """Return the first line of an exception's message, or its class name if the message is empty."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]


def count_text(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular for 1: "1 image", "2 epochs", "3 classes"."""
    ending = "" if number == 1 else "es" if noun.endswith(("s", "x", "sh", "tch")) else "s"
    return f"{number} {noun}{ending}"


def are_text(number: int, noun: str) -> str:
    """Return a number with its noun and verb: "1 image is", "2 images are"."""
    return f"{count_text(number, noun)} {'is' if number == 1 else 'are'}"


_receivers: list[Callable[[str], None]] = []  # the last one takes messages instead of the terminal


@contextmanager
def messages_to(receive: Callable[[str], None]) -> Iterator[None]:
    """In the block, give the messages of all threads to a function, because a caller from Python has no terminal."""
    _receivers.append(receive)
    try:
        yield
    finally:
        _receivers.remove(receive)


def has_terminal() -> bool:
    """Whether messages are printed, so that there may be a progress bar."""
    return not _receivers and sys.stderr is not None and sys.stderr.isatty()


def print_line(*lines: str, is_error: bool = False) -> None:
    """Print lines and flush them; they appear above a progress bar, if there is one. is_error: print to stderr.

    Control characters are escaped, except tabs.
    """
    text = "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)
    stream, bars = sys.stderr if is_error else sys.stdout, sys.modules.get("tqdm")  # without it there are no bars
    if _receivers:
        _receivers[-1](text)
    elif stream is not None:
        bars.tqdm.write(text, file=stream) if bars else print(text, file=stream)
        stream.flush()


class UserError(ValueError):
    """A problem that the user can fix; its text is `thing 'name': why; remedy`."""

    code = 1

    def __init__(self, thing: str, name: object, why: str, remedy: str):
        super().__init__(thing, str(name), why, remedy)  # all four arguments, so that it can be pickled

    def __str__(self) -> str:
        thing, name, why, remedy = self.args
        return printable(f"{thing} '{name}': {why}; {remedy}")


class OptionError(UserError):
    """A wrong flag, value, name or combination."""

    code = 2


class UnknownName(OptionError):
    """An unknown name of a part (a model, a generator, ...)."""


class DataError(UserError):
    """A missing folder, an unreadable image, an impossible size."""

    code = 3


class CheckpointError(UserError):
    """A missing, damaged, foreign or unsafe file of weights or state."""

    code = 4


class EnvironmentFault(UserError):
    """A full disk, a missing permission or device."""

    code = 5


class Diverged(UserError):
    """Losses or weights that became NaN or Inf."""

    code = 6


class Stopped(BaseException):
    """The run was asked to stop by a signal and has saved; code is 128 + the signal's number.

    is_whole: whether the message says what is saved; else the command adds it.
    Like KeyboardInterrupt it is not an Exception, so that no handler of errors catches it.
    """

    def __init__(self, signal_number: int, message: str, is_whole: bool = True):
        super().__init__(message)
        self.is_whole = is_whole
        self.code = 128 + signal_number


def format_problems(problems: Sequence[Problem]) -> list[str]:
    """Return a line for each of the first problems, and one with the number of further ones."""
    more = [f"... and {len(problems) - MAX_PROBLEMS_SHOWN} more"] if len(problems) > MAX_PROBLEMS_SHOWN else []
    return [printable(line) for line in (*(f"{name}: {why}" for name, why in problems[:MAX_PROBLEMS_SHOWN]), *more)]


def raise_if_any(thing: str, problems: Sequence[Problem], among: str, remedy: str, is_listed: bool = True) -> None:
    """Raise DataError for the first problem, if any; with is_listed, print the first ones if there are several."""
    if not problems:
        return
    (name, why), others = problems[0], len(problems) - 1
    if others and is_listed:
        print_line(*format_problems(problems), is_error=True)
    if others:
        why += f" (and {others} more {among})"
    raise DataError(thing, name, why, remedy)
