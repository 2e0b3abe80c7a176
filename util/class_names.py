"""Choosing among the names of classes."""

from collections.abc import Iterable

from util.errors import OptionError


def select_classes(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the classes that a comma-separated text names, each once, in its order; all of them for an empty text.

    A name that holds a comma itself is found as a whole. Raises OptionError, with those there are, for another name.
    """
    names = tuple(known)
    if text in names:
        return (text,)
    wanted = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip())) or names
    for name in wanted:
        if name not in names:
            raise OptionError("option", "--classes", f"there is no class '{name}'", "choose from " + ", ".join(names))
    return wanted
