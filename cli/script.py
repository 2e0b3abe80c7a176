"""The command-line parser that all scripts share, with errors in one line."""

import argparse
import math
import os
import re
import shlex
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from util.errors import OptionError
from util.size import Size, parse_size, to_size
from util.spelling import name_hint, nearest, normalise_name, unquoted_path

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


def command_name(script: str) -> str:
    """Return the `ganvas` command in use, such as "ganvas export" (see ganvas/__main__.py), or else script."""
    return sys.argv[0] if sys.argv[0].startswith("ganvas ") else script


class Command(argparse.ArgumentParser):
    """An ArgumentParser that raises OptionError and suggests the nearest flag for an unknown one."""

    def __init__(self, script: str, doc: str | None):
        first, _, rest = (doc or "").partition("\n\n")
        more = {"description": first, "epilog": rest, "allow_abbrev": False, "exit_on_error": False}
        super().__init__(prog=command_name(os.path.basename(script)), **more)  # type: ignore[arg-type]
        self.add_argument("--debug", action="store_true", help="show tracebacks")

        self.argv: list[str] = []

    def error(self, message: str):
        """Raise OptionError; if an argument is missing, it names the flag that may be meant to be it."""
        if unknown := self._first_unknown():
            raise self._unknown_flag_error(unknown)
        names = message.partition(": ")[2].split(", ") if "are required" in message else re.findall(r"--\w+", message)
        missing = [self._usage(name) for name in names]
        if len(missing) == 1:
            raise OptionError("command", self.prog, f"needs {missing[0]}", "add it; see --help")
        joint = " and " if "are required" in message else " or "
        raise OptionError("command", self.prog, f"needs {joint.join(missing)}", "add what is missing; see --help")

    def _usage(self, name: str) -> str:
        """Return a flag with what it takes, or the name of an argument."""
        action = self._action(name)
        own = f"--{action.dest}"
        name = own if "/" in name and own in action.option_strings else name
        takes = action.metavar or ("|".join(action.choices) if action.choices else action.dest.upper())
        return f"{name} {takes}" if action.option_strings and action.nargs != 0 else name

    def _action(self, name: str) -> argparse.Action:
        return next(
            a for a in self._actions if name in ("/".join(a.option_strings), a.metavar, a.dest, *a.option_strings)
        )

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        """Like ArgumentParser's; raise OptionError for what cannot be."""
        self.argv = list(args or self.argv)
        for action in self._actions:
            kind: Any = action.type or (str if action.choices else None)
            if kind and not isinstance(kind, partial):
                action.type = partial(_converted, kind, action.choices, action.default)
        try:
            return super().parse_known_args(args, namespace)
        except argparse.ArgumentError as problem:
            raise self._wrong_value(problem) from None

    def _wrong_value(self, problem: argparse.ArgumentError) -> OptionError:
        """Return the error for a flag with a value that it cannot have, or without one."""
        action, said = self._action(problem.argument_name or ""), problem.message
        name = next((word for word in action.option_strings if word in self.argv), None)
        name = name or (action.option_strings or [str(action.metavar or action.dest)])[0]
        if said.startswith("not allowed with"):
            return OptionError("option", name, f"excludes {said.rpartition(' ')[2]}", "omit one of them")
        if said.startswith("expected"):
            return OptionError("option", name, "has no value", f"write {self._usage(name)}")
        if said.startswith("ignored explicit"):
            return OptionError("option", name, "is a switch and takes no value", f"write {name} alone")
        why, _, remedy = said.partition("\n")
        return OptionError("option" if action.option_strings else "argument", name, why, remedy or "see --help")

    def parse_argv(self, argv: list[str]) -> argparse.Namespace:
        """Return the options of a command line; raise OptionError."""
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


def _converted(kind: Callable[[str], Any], choices: Any, default: Any, text: str) -> Any:
    """Return the value of a text; raise ArgumentTypeError with the reason, and in a second line what to do.

    The default may be no choice.
    """
    what = {int: "a whole number", float: "a number"}.get(kind, "such a value")  # type: ignore[call-overload]
    try:
        value = kind(text)
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}\ngive {what}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is not a finite number\ngive a number")
    if choices and value not in choices and text != default:
        remedy = f"{name_hint(text, list(choices))}choose one of {', '.join(choices)}"
        raise argparse.ArgumentTypeError(f"'{text}' is not a choice\n{remedy}")
    return value


def positive(text: str) -> int:
    """Return a whole number above 0, for `type=`."""
    if not re.fullmatch(r"\s*\+?0*[1-9]\d*\s*", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0\ngive 1 or more")
    return int(text)


def size(text: str) -> Size:
    """Return (width, height) from "256" or "512x256", for `type=`."""
    try:
        both = to_size(parse_size(text))
    except ValueError:
        both = Size(0, 0)
    if not all(0 < side <= 65_536 for side in both):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size\ngive pixels: 256, or 512x256 (width x height)")
    return both
