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
from util.disk_space import ERRNO_REMEDIES
from util.errors import EnvironmentFault, Stopped, UserError, printable


class PipeSafeStream:
    """A stream whose reader may go away (train.py | head): what is written then goes nowhere, and nothing stops."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text, or let the stream go."""
        try:
            return self.stream.write(text)
        except OSError:
            self._redirect_to_null()
            return len(text)

    def flush(self) -> None:
        """Flush what was written, or let the stream go."""
        try:
            self.stream.flush()
        except OSError:
            self._redirect_to_null()

    def _redirect_to_null(self) -> None:
        """Send this and all that follows to nowhere, also what the interpreter flushes at its end."""
        with contextlib.suppress(OSError, ValueError):  # a stream without a file: then nothing flushes it either
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Report:
    """Where a command leaves word of how it ended, once it knows the run's folder."""

    exit_json: Path | None = None
    error_log: Path | None = None
    saved_text: Callable[[], str] | None = None  # tells what is saved so far
    cleanup: Callable[[], None] | None = None  # lets go of what the command held
    debug = False

    def write(self, code: int, line: str, trace: str = "") -> None:
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


def run_command(main, argv: list[str]) -> int:
    """Run `main(argv, report)` and turn however it ends into an exit code and at most one line on stderr."""
    streams = sys.stdout, sys.stderr
    for stream in streams:  # a name that its encoding (LC_ALL=C) lacks is shown escaped
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    sys.stdout, sys.stderr = (stream and PipeSafeStream(stream) for stream in streams)
    signals.raise_on_signals()
    openmp.share_cores()
    try:
        return _run_and_report(main, argv)
    finally:
        sys.stdout.flush() if sys.stdout else None
        sys.stdout, sys.stderr = streams


def _run_and_report(main, argv: list[str]) -> int:
    report = Report()
    report.debug = "--debug" in argv
    try:
        main(argv, report)
        code, line, trace = 0, "", ""
    except Stopped as stop:
        code, line, trace = stop.code, str(stop), ""
    except KeyboardInterrupt:
        safe = report.saved_text() if report.saved_text else "what was saved before stays as it was"
        code, line, trace = 130, f"stopped by Ctrl-C; {safe}", ""
    except SystemExit as ended:  # of --help and --list; a plug-in may not end a command unseen
        if attribution.plugin_line(ended) is None:
            raise
        code, line = describe_failure(ended)
        trace = traceback.format_exc()
    except Exception as problem:  # the outermost frame: every failure becomes a line, a code and a log
        code, line = describe_failure(problem)
        trace = traceback.format_exc()
    report.write(code, line, trace)
    if report.cleanup:
        report.cleanup()
    return code


def describe_failure(problem: BaseException) -> tuple[int, str]:
    """Return (exit code, the `error:` line) for any exception."""
    chain: list[BaseException] = [problem]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    user_error = next((cause for cause in chain if isinstance(cause, UserError)), None)
    if user_error is not None:  # closing things after an error may raise another one
        return user_error.code, f"error: {user_error}"
    if isinstance(problem, ModuleNotFoundError) and problem.name in _REQUIRED_PACKAGES:
        remedy = "run make, then .venv/bin/python or source .venv/bin/activate"
        error = EnvironmentFault("package", problem.name, "is not installed in this Python", remedy)
        return error.code, f"error: {error}"
    for cause in chain:
        no_memory = isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"
        text = "out of memory. Tried" if no_memory else str(cause)
        for pattern, words in _KNOWN_FAILURES:
            if re.search(pattern, text, re.DOTALL):
                error = EnvironmentFault(*words)
                return error.code, f"error: {error}"
    for cause in chain:  # torch hides a full disk behind its own errors
        if isinstance(cause, OSError) and cause.errno in ERRNO_REMEDIES:
            error = EnvironmentFault(
                "file", cause.filename or "?", cause.strerror or str(cause), ERRNO_REMEDIES[cause.errno]
            )
            return error.code, f"error: {error}"
    plugin_error = attribution.plugin_error(chain)
    if plugin_error is not None:
        return plugin_error.code, f"error: {plugin_error}"
    text = printable(str(problem).strip().split("\n")[0])[:300]
    plug_ins = " and ".join(loaded.plugin_names())
    others = f" if it happens without plug-in {plug_ins} too" if plug_ins else ""
    remedy = f"see error.log or add --debug, and please report it{others}"
    return 1, f"error: bug '{type(problem).__name__}': {text}; {remedy}"


_REQUIRED_PACKAGES = ("torch", "numpy", "PIL", "tqdm", "dominate", "yaml", "matplotlib", "imagecodecs", "tifffile")
_KNOWN_FAILURES = (  # how torch and the system put it: (thing, name, why, remedy)
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
