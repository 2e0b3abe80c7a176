"""Run a command and report how it ends: one line on stderr, an exit code, and the traceback in error.log."""

import atexit
import contextlib
import importlib
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from cli import launch, signals, startup
from registry import attribution, loaded
from util.disk_space import ERRNO_REMEDIES
from util.errors import EnvironmentFault, Stopped, UserError, printable


class PipeSafeStream:
    """A stream whose reader may close it (train.py | head): later output is discarded and the run continues."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text; discard it and all later output if the stream is closed."""
        try:
            return self.stream.write(text)
        except OSError:
            self._redirect_to_null()
            return len(text)

    def flush(self) -> None:
        """Flush the stream; discard all later output if it is closed."""
        try:
            self.stream.flush()
        except OSError:
            self._redirect_to_null()

    def _redirect_to_null(self) -> None:
        """Redirect the file descriptor to /dev/null, including what the interpreter flushes at exit."""
        with contextlib.suppress(OSError, ValueError):  # a stream without a file descriptor needs no redirection
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Report:
    """Files and callbacks for the end of a command; the command sets them once it knows the run's folder."""

    exit_json: Path | None = None
    error_log: Path | None = None
    saved_text: Callable[[], str] | None = None  # returns what is saved so far
    safe_text = ""  # what is said of a command that saves, before saved_text is there
    cleanup: Callable[[], None] | None = None  # releases what the command holds
    group: Any = None  # the processes of which this is one
    run: Any = None  # the training run, once it has started
    debug = False
    of_command = False  # whether run_command writes it at the end, then calls cleanup

    def log_errors(self, path: Path, cleanup: Callable[[], None] | None = None) -> None:
        """Write the traceback of an error to this file from now on; remove that of an earlier command."""
        self.cleanup = cleanup or self.cleanup
        with contextlib.suppress(OSError):  # a file that cannot be removed is reported when it is written
            path.unlink(missing_ok=True)
        self.error_log = path

    def stopped_line(self, what: str) -> str:
        """Return what ended the command, and what is saved if it is a command that saves."""
        safe = self.saved_text() if self.saved_text else self.safe_text
        return f"{what}; {safe}" if safe else what

    def write(self, code: int, line: str, trace: str = "") -> None:
        """Print the line, with --debug also the traceback; write exit.json and error.log."""
        if trace and self.debug:
            print(*map(printable, trace.splitlines()), sep="\n", file=sys.stderr)
        exit_text = json.dumps({"code": code, "message": line}) + "\n"
        for path, text in ((self.error_log, trace), (self.exit_json, exit_text)):
            try:
                if path is not None and text:
                    path.write_text(text, encoding="utf-8")
            except OSError as problem:  # the disk itself may have failed; the line on stderr still appears
                print(printable(f"note: {path} could not be written ({problem.strerror})"), file=sys.stderr)
        if line:
            print(printable(line), file=sys.stderr, flush=True)


def run_script(
    name: str, argv: list[str], answer_help: Callable[[list[str], str], None], parse: Callable[..., Any] | None = None
) -> int:
    """Run main(argv, report) of the script `name`, imported after answer_help(argv, name); return its exit code.

    With `parse` of options/parse.py, several --gpu_ids start a process each.
    """

    def main(argv: list[str], report: Report) -> None:
        answer_help(argv, name)
        report.safe_text = "earlier saves are unchanged" if name == "train" else ""
        launch.hide_store_warnings()
        startup.import_torch_fast()
        if parse and (devices := launch.listed_devices(argv)):
            raise SystemExit(launch.start_processes(name, argv, devices, parse))
        argv = launch.join_others(name, argv, report)
        importlib.import_module(loaded.PREFIX + name).main(argv, report)

    codes: list[int] = []
    # Registered first, so called last: skip the interpreter's shutdown, a tenth of the time of a short test.py.
    atexit.register(lambda: os._exit(codes[0]) if codes else None)
    codes.append(_run(main, argv))
    return codes[0]


def run_command(main, argv: list[str]) -> int:
    """Run `main(argv, report)`; return its exit code and print at most one line on stderr.

    Signal handlers, streams and environment are as before at its end.
    """
    with signals.kept_handlers():
        return _run(main, argv)


def _run(main, argv: list[str]) -> int:
    """Like run_command, for a process that ends then: its signal handlers answer to the end."""
    with startup.shared_cores(), _safe_streams(), signals.quiet_finalizers():
        signals.raise_on_signals()
        return _run_and_report(main, argv)


@contextlib.contextmanager
def _safe_streams() -> Iterator[None]:
    """Make stdout and stderr PipeSafeStreams that escape characters which their encoding (LC_ALL=C) lacks."""
    streams = sys.stdout, sys.stderr
    errors = [getattr(stream, "errors", None) for stream in streams]
    _set_errors(streams, ("backslashreplace", "backslashreplace"))
    sys.stdout, sys.stderr = (stream and PipeSafeStream(stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout.flush() if sys.stdout else None
        sys.stdout, sys.stderr = streams
        _set_errors(streams, errors)


def _set_errors(streams: Iterable[Any], handlers: Iterable[str | None]) -> None:
    for stream, errors in zip(streams, handlers, strict=True):
        getattr(stream, "reconfigure", lambda **_: None)(errors=errors)


def _run_and_report(main, argv: list[str]) -> int:
    report = Report()
    report.debug, report.of_command = "--debug" in argv, True
    try:
        main(argv, report)
        code, line, trace = 0, "", ""
    except Stopped as stop:
        code, line, trace = stop.code, str(stop) if stop.is_whole else report.stopped_line(str(stop)), ""
    except KeyboardInterrupt:
        code, line, trace = 130, report.stopped_line("stopped by Ctrl-C"), ""
    except SystemExit as ended:  # raised by --help and --list; in a plug-in it is an error
        if attribution.plugin_line(ended) is None:
            raise
        code, line = describe_failure(ended, report.error_log)
        trace = traceback.format_exc()
    except Exception as problem:  # every other failure becomes a line, an exit code and a log
        code, line = describe_failure(problem, report.error_log)
        trace = traceback.format_exc()
    if report.group:  # of several processes one reports
        code, line, trace = report.group.outcome(code, line, trace)
        if (code or report.group.rank) and not line:
            report.exit_json = report.error_log = None  # another process writes them
    report.write(code, line, trace)
    if report.group:
        report.group.end(line)
    if report.cleanup:
        report.cleanup()
    return code


def describe_failure(problem: BaseException, error_log: Path | None = None) -> tuple[int, str]:
    """Return (exit code, the `error:` line) for any exception; error_log: the file that gets its traceback."""
    if (error := user_error(problem)) is not None:
        return error.code, f"error: {error}"
    text = printable(str(problem).strip().split("\n")[0])[:300]
    plug_ins = " and ".join(loaded.plugin_names())
    others = f" if it also happens without plug-in {plug_ins}" if plug_ins else ""
    see = f"see {error_log} or add --debug" if error_log else "add --debug"
    remedy = f"{see}, and please report it{others}"
    return 1, f"error: bug '{type(problem).__name__}': {text}; {remedy}"


def user_error(problem: BaseException) -> UserError | None:
    """Return the error that tells the user the cause of an exception; None if it is a bug of ours."""
    chain: list[BaseException] = [problem]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    for cause in chain:
        if isinstance(cause, UserError):  # cleanup after an error may raise another one
            return cause
    if isinstance(problem, ModuleNotFoundError) and problem.name in _REQUIRED_PACKAGES:
        remedy = "run make, then .venv/bin/python or source .venv/bin/activate"
        return EnvironmentFault("package", problem.name, "is not installed in this Python", remedy)
    for cause in chain:
        no_memory = isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"
        text = "out of memory. Tried" if no_memory else str(cause)
        for pattern, words in _KNOWN_FAILURES:
            if re.search(pattern, text, re.DOTALL):
                return EnvironmentFault(*words)
    for cause in chain:  # torch wraps a full disk in its own errors
        if isinstance(cause, OSError) and cause.errno in ERRNO_REMEDIES:
            remedy = ERRNO_REMEDIES[cause.errno]
            return EnvironmentFault("file", cause.filename or "?", cause.strerror or str(cause), remedy)
    return attribution.plugin_error(chain)


_REQUIRED_PACKAGES = (
    *("torch", "torchvision", "numpy", "PIL", "tqdm", "dominate", "yaml", "matplotlib", "imagecodecs", "tifffile"),
    *("filelock", "urllib3", "safetensors"),
)
_KNOWN_FAILURES = (  # (pattern of the message of torch or the system, (thing, name, why, remedy))
    (r"can't allocate memory|not enough memory|Cannot allocate memory|out of memory\.? Tried",
     ("memory", "RAM or GPU", "ran out", "lower --batch_size, --crop_size, --ngf or --ndf, or try --grad_checkpoint, "
      "--accumulate or --amp; with test.py --tile")),
    (r"compiled with non-empty donated buffers|does not currently support double backward",
     ("option", "--compile", "gives networks without second derivatives, which this model needs",
      "train without --compile")),
    (r"DataLoader worker .*Bus error|unable to \w+ (?:shared memory|.*/torch_)|<.*/torch_.*>.*No space left",
     ("shared memory", "/dev/shm", "is too small to pass images between processes",
      "start the container with a larger --shm-size, or use --num_threads 0")),
    (r"DataLoader worker .*(?:killed by signal|exited unexpectedly)",
     ("worker", "that loads images", "died (killed; out of memory?)", "lower --num_threads")),
)  # fmt: skip
