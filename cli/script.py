"""The command-line parser that all scripts share, with errors in one line."""

import argparse
import os
import re
import shlex
from typing import Any

from util.errors import OptionError
from util.size import Size, parse_size, to_size
from util.spelling import nearest, normalise_name, unquoted_path

SYNONYMS = (  # names of one thing in scripts, here and elsewhere, without "_" and "-"
    "input in inputdir inputfolder src source from i folder",
    "output out outdir outputdir outputfolder outputpath dst dest target to o save savedir foldab",
    "numthreads workers numworkers nworkers jobs njobs threads j nthreads processes numproc",
    "overwrite force f existok clobber",
    "dataroot data datadir dataset datapath root input",
    "size imagesize imgsize resolution res finesize loadsize cropsize shape",
    "format ext extension filetype",
    "checkpointsdir checkpoints checkpointdir runs logdir",
    "train split trainsplit ratio trainratio",
    "dryrun test simulate n",
)


class Command(argparse.ArgumentParser):
    """An ArgumentParser that raises OptionError and suggests the nearest flag for an unknown one."""

    def __init__(self, script: str, doc: str | None):
        first, _, rest = (doc or "").partition("\n\n")
        super().__init__(prog=os.path.basename(script), description=first, epilog=rest, allow_abbrev=False)
        self.add_argument("--debug", action="store_true", help="show tracebacks")

        self.argv: list[str] = []

    def error(self, message: str):
        """Raise OptionError; if an argument is missing, it names the flag that may be meant to be it."""
        if "are required" in message and (unknown := self._first_unknown()):
            raise self._unknown_flag_error(unknown)
        raise OptionError("command", self.prog, message, "see --help")

    def parse_argv(self, argv: list[str]) -> argparse.Namespace:
        """Return the options of a command line; raise OptionError."""
        self.argv = argv
        options, unknown = self.parse_known_args(argv)
        if not unknown:
            return options
        if word := self._first_unknown():
            raise self._unknown_flag_error(word)
        place = argv.index(unknown[0])
        if path := unquoted_path(argv[max(0, place - 1) :]):
            raise OptionError("path", path, "contains a space", f"put it in quotes: {shlex.quote(path)}")
        raise OptionError("argument", unknown[0], "does not belong to a flag", "see --help")

    def _flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]

    def _first_unknown(self) -> str:
        words = (word.partition("=")[0] for word in self.argv)
        return next((word for word in words if re.match(r"-+[a-zA-Z]", word) and word not in self._flags()), "")

    def _unknown_flag_error(self, word: str) -> OptionError:
        """Return the error for a flag that has another name here, or one of similar spelling."""
        alike = [name for names in SYNONYMS if normalise_name(word) in names.split() for name in names.split()]
        near = next((f for f in self._flags() if normalise_name(f) in alike), None) or nearest(word, self._flags())
        return OptionError("option", word, "is not a flag", f"did you mean {near}?" if near else "see --help")

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
