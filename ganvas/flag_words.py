"""Write keyword arguments as the flags of a command line."""

import os
from collections.abc import Mapping
from typing import Any

from options.fields import Flag, flags_of
from options.parse import FLAG_CLASSES
from util.errors import OptionError
from util.size import Size


def command_line(flags: Mapping[str, Any], phase: str) -> list[str]:
    """Return `{"lr": 1e-3, "no_flip": True}` as the words of a command, ["--lr=0.001", "--no_flip"].

    phase: "train" or "test". None omits a flag; a list is a flag's list of values, or the width and height of a size.
    Raise OptionError for flags that only a command has.
    """
    holders = FLAG_CLASSES[phase]
    known = {flag.name: flag for holder in holders for flag in flags_of(holder, str(holder.__doc__))}
    words: list[str] = []
    for name, value in flags.items():
        if name in ("help", "list", "watch"):
            raise OptionError("option", f"--{name}", "is for the command line", f"use the command {phase} --{name}")
        words += [] if value is None else _words(name, value, known.get(name))
    return words


def _words(name: str, value: Any, flag: Flag | None) -> list[str]:
    if isinstance(value, bool):
        opposite = name.removeprefix("no_") if name.startswith("no_") else f"no_{name}"
        return [f"--{name if value else opposite}"]
    if not isinstance(value, list | tuple):
        return [f"--{name}={os.fspath(value) if isinstance(value, os.PathLike) else value}"]
    texts = [os.fspath(one) if isinstance(one, os.PathLike) else str(one) for one in value]
    if flag is not None and flag.type == tuple[str, ...]:
        return [f"--{name}={text}" for text in texts]
    return [f"--{name}={('x' if flag is not None and flag.type == int | Size else ',').join(texts)}"]
