"""How a command ends: one line on stderr, an exit code, the traceback kept in the run's error.log."""

import contextlib
import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli import openmp, signals
from registry import attribution, loaded
from util.disk_space import REMEDIES
from util.errors import EnvironmentFault, Stopped, UserError, printable


class Unbreakable:
    """A stream whose reader may go away (train.py | head): what is written then goes nowhere, and nothing stops."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text, or let the stream go."""
        try:
            return self.stream.write(text)
        except OSError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        """Flush what was written, or let the stream go."""
        try:
            self.stream.flush()
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        """Send this and all that follows to nowhere, also what the interpreter flushes at its end."""
        with contextlib.suppress(OSError, ValueError):  # a stream without a file: then nothing flushes it either
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Report:
    """Where a command leaves word of how it ended, once it knows the run's folder."""

    exit_json: Path | None = None
    error_log: Path | None = None
    stands: Callable[[], str] | None = None  # tells what is saved so far
    release: Callable[[], None] | None = None  # lets go of what the command held
    debug = False

    def ended(self, code: int, line: str, trace: str = "") -> None:
        """Print the one line (and with --debug the traceback); write exit.json and error.log."""
        if trace and self.debug:
            print(trace, file=sys.stderr)
        exit_text = json.dumps({"code": code, "message": line}) + "\n"
        for path, text in ((self.error_log, trace), (self.exit_json, exit_text)):
            try:
                if path is not None and text:
                    path.write_text(text, encoding="utf-8")
            except OSError as problem:  # the disk may be what failed: then the line on stderr has to do
                print(printable(f"note: {path} could not be written ({problem.strerror})"), file=sys.stderr)
        if line:
            print(printable(line), file=sys.stderr, flush=True)


def guarded(main, argv: list[str]) -> int:
    """Run `main(argv, report)` and turn however it ends into an exit code and at most one line on stderr."""
    kept = sys.stdout, sys.stderr
    for stream in kept:  # a name that its encoding (LC_ALL=C) lacks is shown escaped
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    sys.stdout, sys.stderr = (stream and Unbreakable(stream) for stream in kept)
    signals.end_at_once()
    openmp.share_cores()
    try:
        return _ended(main, argv)
    finally:
        sys.stdout.flush() if sys.stdout else None
        sys.stdout, sys.stderr = kept


def _ended(main, argv: list[str]) -> int:
    report = Report()
    report.debug = "--debug" in argv
    try:
        main(argv, report)
        code, line, trace = 0, "", ""
    except Stopped as stop:
        code, line, trace = stop.code, str(stop), ""
    except KeyboardInterrupt:
        safe = report.stands() if report.stands else "what was saved before stays as it was"
        code, line, trace = 130, f"stopped by Ctrl-C; {safe}", ""
    except SystemExit as ended:  # of --help and --list; a plug-in may not end a command unseen
        if attribution.place(ended) is None:
            raise
        code, line = explain(ended)
        trace = traceback.format_exc()
    except Exception as problem:  # the outermost frame: every failure becomes a line, a code and a log
        code, line = explain(problem)
        trace = traceback.format_exc()
    report.ended(code, line, trace)
    if report.release:
        report.release()
    return code


def explain(problem: BaseException) -> tuple[int, str]:
    """Return (exit code, the `error:` line) for any exception."""
    chain: list[BaseException] = [problem]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(before)
    said = next((cause for cause in chain if isinstance(cause, UserError)), None)
    if said is not None:  # closing things after an error may raise another one
        return said.code, f"error: {said}"
    if isinstance(problem, ModuleNotFoundError) and problem.name in _PACKAGES:
        remedy = "run make, then .venv/bin/python or source .venv/bin/activate"
        fault = EnvironmentFault("package", problem.name, "is not installed in this Python", remedy)
        return fault.code, f"error: {fault}"
    for cause in chain:
        no_memory = isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"
        text = "out of memory. Tried" if no_memory else str(cause)
        for said_so, words in _SAID:
            if re.search(said_so, text, re.DOTALL):
                fault = EnvironmentFault(*words)
                return fault.code, f"error: {fault}"
    for cause in chain:  # torch hides a full disk behind its own errors
        if isinstance(cause, OSError) and cause.errno in REMEDIES:
            fault = EnvironmentFault("file", cause.filename or "?", cause.strerror or str(cause), REMEDIES[cause.errno])
            return fault.code, f"error: {fault}"
    culprit = attribution.blamed(chain)
    if culprit is not None:
        return culprit.code, f"error: {culprit}"
    text = printable(str(problem).strip().split("\n")[0])[:300]
    others = " if it happens without plug-in " + " and ".join(loaded.in_use()) + " too" if loaded.in_use() else ""
    remedy = f"see error.log or add --debug, and please report it{others}"
    return 1, f"error: bug '{type(problem).__name__}': {text}; {remedy}"


_PACKAGES = ("torch", "numpy", "PIL", "tqdm", "dominate", "yaml", "matplotlib", "imagecodecs", "tifffile")
_SAID = (  # how torch and the system put it: (thing, name, why, remedy)
    (r"can't allocate memory|not enough memory|Cannot allocate memory|out of memory\.? Tried",
     ("memory", "RAM or GPU", "ran out", "lower --batch_size, --crop_size, --ngf or --ndf, or try --grad_checkpoint, "
      "--accumulate or --amp; with test.py --tile")),
    (r"compiled with non-empty donated buffers|does not currently support double backward",
     ("option", "--compile", "gives networks without second derivatives, which this model asks for",
      "train without --compile")),
    (r"DataLoader worker .*Bus error|unable to \w+ (?:shared memory|.*/torch_)|<.*/torch_.*>.*No space left",
     ("shared memory", "/dev/shm", "is too small to hand over pictures",
      "start the container with a larger --shm-size, or use --num_threads 0")),
    (r"DataLoader worker .*(?:killed by signal|exited unexpectedly)",
     ("worker", "that loads pictures", "died (killed; out of memory?)", "lower --num_threads")),
)  # fmt: skip
