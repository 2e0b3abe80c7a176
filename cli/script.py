"""The command-line parser that all scripts share, with errors in one line."""

import argparse
import os

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

    def add_batch_flags(self) -> None:
        """Add the flags of data/prepare/batch.py, for a script that reads images and writes others."""
        self.add_argument("--dry_run", action="store_true", help="print what would be written, and write nothing")
        self.add_argument("--overwrite", action="store_true", help="overwrite existing files")
        self.add_argument(
            "--on_bad_image",
            choices=("stop", "skip"),
            default="stop",
            help="what to do when a file cannot be read (default: %(default)s)",
        )
        self.add_batch_threads()

    def add_batch_threads(self) -> None:
        """Add the flag for the number of files processed at once."""
        self.add_argument(
            "--num_threads",
            type=positive,
            default=min(8, os.cpu_count() or 1),
            metavar="N",
            help="files processed at once (default here: %(default)s)",
        )


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
