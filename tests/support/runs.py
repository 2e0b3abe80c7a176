"""Flags of the smallest networks, the result of a command, and parsed options, for tests of train.py and test.py."""

import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
# the smallest networks that still have every kind of layer
SMALL = ["--gpu_ids", "-1", "--ngf", "4", "--ndf", "4", "--load_size", "36", "--crop_size", "32", "--num_threads", "0",
         "--display_id", "0"]  # fmt: skip


@dataclass
class Ended:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


def options(*argv: str):
    """Return the options of a small model as train.py parses them."""
    from options.parse import parse

    return parse([*SMALL, *argv], "train")


def printed_by(lines: str, run, *more: str) -> str:
    """Run a document's lines `python SCRIPT.py ...` by run(script, *argv), each with more; return what they print.

    A line that fails is an AssertionError.
    """
    printed = ""
    for line in lines.splitlines():
        python, script, *argv = shlex.split(line)
        ended = run(script.removesuffix(".py"), *argv, *more)
        assert (python, ended.code) == ("python", 0), f"{line}\n{ended.err[-2000:]}"
        printed += ended.out + ended.err
    return printed
