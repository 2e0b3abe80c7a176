"""The command-line parser that all scripts share, with errors in one line."""

import argparse
import os
from typing import Any

from util.errors import OptionError
from util.size import Size, parse_size, to_size
from util.spelling import nearest


class Command(argparse.ArgumentParser):
    """An ArgumentParser that raises OptionError and suggests the nearest flag for an unknown one."""

    def __init__(self, script: str, doc: str | None):
        first, _, rest = (doc or "").partition("\n\n")
        super().__init__(prog=os.path.basename(script), description=first, epilog=rest, allow_abbrev=False)
        self.add_argument("--debug", action="store_true", help="show tracebacks")

    def error(self, message: str):
        """Raise OptionError."""
        raise OptionError("command", self.prog, message, "see --help")

    def parse_argv(self, argv: list[str]) -> argparse.Namespace:
        """Return the options of a command line; raise OptionError."""
        options, unknown = self.parse_known_args(argv)
        if unknown:
            near = nearest(unknown[0], [word for action in self._actions for word in action.option_strings])
            raise OptionError("option", unknown[0], "is not a flag", f"did you mean {near}?" if near else "see --help")
        return options

    def add_switch(self, name: str, help: str) -> None:
        """Add a flag without a value."""
        self.add_argument(name, action="store_true", help=help)

    def add_folder(self, name: str, help: str) -> None:
        """Add a required flag for a folder."""
        self.add_argument(name, required=True, metavar="FOLDER", help=help)

    def add_value(self, name: str, default: Any, help: str = "", **more: Any) -> None:
        """Add a flag of the default's type, unless `type` is given; the default is added to the help text."""
        help = f"{help} (default: %(default)s)".lstrip()
        self.add_argument(name, default=default, help=help, **{"type": type(default)} | more)

    def add_batch_flags(self) -> None:
        """Add the flags of data/prepare/batch.py, for a script that reads images and writes others."""
        self.add_switch("--dry_run", "print what would be written, and write nothing")
        self.add_switch("--overwrite", "overwrite existing files")
        self.add_value("--on_bad_image", "stop", "what to do when a file cannot be read", choices=("stop", "skip"))
        self.add_batch_threads()

    def add_batch_threads(self) -> None:
        """Add the flag for the number of files processed at once."""
        threads, text = min(8, os.cpu_count() or 1), "files processed at once (default here: %(default)s)"
        self.add_argument("--num_threads", type=positive, default=threads, metavar="N", help=text)


def positive(text: str) -> int:
    """Return a whole number above 0, for `type=`."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def size(text: str) -> Size:
    """Return (width, height) from "256" or "512x256", for `type=`."""
    try:
        both = to_size(parse_size(text))
    except ValueError:
        both = Size(0, 0)
    if not all(0 < side <= 65_536 for side in both):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 256 or 512x256 (width x height)")
    return both
