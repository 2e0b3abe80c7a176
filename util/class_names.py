"""Select classes by name, for --classes."""

from collections.abc import Iterable

from util.errors import OptionError


def select_classes(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the classes in a comma-separated text, each once and in its order; all known classes for an empty text.

    A text that equals one known name is that class, even with a comma. Raises OptionError, with the known names, for an
    unknown one.
    """
    names = tuple(known)
    if text in names:
        return (text,)
    wanted = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip())) or names
    for name in wanted:
        if name not in names:
            raise OptionError("option", "--classes", f"there is no class '{name}'", "choose from " + ", ".join(names))
    return wanted
