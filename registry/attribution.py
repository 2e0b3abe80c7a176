"""Find the plug-in that caused an exception, with file, line and phase."""

import builtins
import inspect
import traceback
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from registry import loaded
from util.errors import OptionError
from util.spelling import nearest

KNOWN_ERRORS = (  # (text in the message of torch or Python, why in the terms of a plug-in's author, remedy)
    ("Trying to backward through the graph a second time",
     "its loss goes backward through a graph that an earlier phase has already freed",
     "detach the outputs of other phases' networks with .detach(), in the loss of the earlier phase too"),
    ("does not require grad and does not have a grad_fn",
     "its loss does not depend on the networks of the phase",
     "compute it from the outputs of these networks, without detach(), item() or no_grad() in between"),
    ("has been modified by an inplace operation",
     "its loss needs a tensor that was changed after it was computed, such as an output of networks that an earlier "
     "phase has trained since",
     "compute it again inside the loss, or detach it, and do not use x += ... on tensors that a loss needs"),
    ("before Module.__init__() call",
     "a network is assigned before super().__init__() was called",
     "make super().__init__() the first line of __init__"),
    ("Expected more than 1 value per channel when training",
     "its batch norm gets a single value per channel",
     "use a larger --batch_size, --drop_last for an epoch's last batch, or another --norm"),
)  # fmt: skip
PIP_NAMES = {"cv2": "opencv-python", "sklearn": "scikit-learn", "skimage": "scikit-image", "PIL": "pillow",
             "yaml": "PyYAML"}  # fmt: skip


@dataclass(frozen=True)
class SourceLine:
    """A line of a plug-in's source."""

    plug_in: str
    file: str
    line: int
    function: str

    def __str__(self) -> str:
        inside = "" if self.function == "<module>" else f", in {self.function}"
        return f"{self.file}, line {self.line}{inside}"


class RemedyNote(str):
    """A note on an exception that says what to do, where more is known than its text tells."""


class DuringNote(str):
    """A note on an exception about what a model was doing: `module` is its class's, `loss` the phase's loss."""

    module: str
    activity: str
    loss: Callable[..., Any] | None


@contextmanager
def error_context(activity: str, model: Any, loss: Callable[..., Any] | None = None):
    """Add a note to exceptions raised inside: the model was doing `activity` ("forward", "phase G")."""
    try:
        yield
    except (Exception, SystemExit) as problem:
        note = DuringNote(f"in {activity} of {type(model).__module__}.{type(model).__qualname__}")
        note.activity, note.module, note.loss = activity, type(model).__module__, loss
        problem.add_note(note)
        raise


def plugin_error(chain: Iterable[BaseException]) -> OptionError | None:
    """Return the error that names the plug-in behind an exception and its causes; None if no plug-in is involved.

    That is the plug-in with the innermost line in the traceback. If no line belongs to a plug-in (backward, an
    optimiser's step, methods inherited from a built-in model), it is the plug-in that defines the model.
    """
    every = list(chain)
    note = next((n for c in every for n in getattr(c, "__notes__", ()) if isinstance(n, DuringNote)), None)
    problem, line = next(((c, found) for c in every if (found := plugin_line(c))), (every[0], None))
    plug_in = line.plug_in if line else loaded.plugin_of_module(note.module) if note else None
    if plug_in is None:
        return None
    if line is None and note is not None and note.loss is not None:
        line = _definition_line(note.loss)
    phase = note.activity if note is not None and note.activity.startswith("phase ") else ""
    place = ", ".join(filter(None, [str(line) if line else f"in {note.activity}" if note and not phase else "", phase]))
    why, remedy = explain_exception(problem)
    remedy = next((str(n) for c in every for n in getattr(c, "__notes__", ()) if isinstance(n, RemedyNote)), remedy)
    return OptionError("plug-in", plug_in, f"{why} ({place})" if place else why, remedy)


def worker_error(problem: BaseException) -> OptionError | None:
    """Return the `plugin_error` of an exception in a loading worker, with the traceback as a note.

    Unlike some exceptions it can be pickled and sent to the main process. None if no plug-in is at fault, for example
    when memory or a disk is full.
    """
    of_machine = isinstance(problem, MemoryError | OSError) and not isinstance(problem, FileNotFoundError)
    error = None if of_machine else plugin_error([problem])
    if error is not None:
        error.add_note("".join(traceback.format_exception(problem)))
    return error


def plugin_line(problem: BaseException) -> SourceLine | None:
    """Return the innermost line of a plug-in in an exception's traceback, None without one."""
    frames = [(f.f_code.co_filename, line, f.f_code.co_name) for f, line in traceback.walk_tb(problem.__traceback__)]
    if isinstance(problem, SyntaxError) and problem.filename:
        frames.append((problem.filename, problem.lineno or 0, "<module>"))
    for file, line, function in reversed(frames):
        plug_in = loaded.plugin_of_file(file)
        if plug_in is not None:
            return SourceLine(plug_in, file, line, function)
    return None


def explain_exception(problem: BaseException) -> tuple[str, str]:
    """Return (why, remedy), one line each."""
    text = str(problem)
    for pattern, why, remedy in KNOWN_ERRORS:
        if pattern in text:
            return why, remedy
    if isinstance(problem, SystemExit):
        return "it calls sys.exit()", "raise ValueError(why) instead"
    if isinstance(problem, ModuleNotFoundError) and problem.name:
        return f"{type(problem).__name__}: {text}", pip_hint(problem.name)
    if isinstance(problem, KeyError):
        text = f"there is no key {text}"
    first, *more = text.strip().splitlines() or [""]
    if first.endswith(":"):  # torch lists mismatches in the following lines
        first = " ".join([first, *(line.strip() for line in more)])
    near = _similar_name(problem)
    why = ": ".join(filter(None, [type(problem).__name__, first[:300]])) + (f" (did you mean {near}?)" if near else "")
    return why, "correct that line, or add --debug for the traceback"


def pip_hint(module: str) -> str:
    """Return the remedy for a missing module."""
    top = module.partition(".")[0]
    return "correct the import" if loaded.is_importable(top) else f"pip install {PIP_NAMES.get(top, top)}"


def _definition_line(function: Callable[..., Any]) -> SourceLine | None:
    """Return the line where a plug-in defines a function; None for other functions."""
    function = inspect.unwrap(function)
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    plug_in = loaded.plugin_of_file(code.co_filename) if code else None
    return SourceLine(plug_in, code.co_filename, code.co_firstlineno, code.co_name) if code and plug_in else None


def _similar_name(problem: BaseException) -> str | None:
    """Return the most similar existing name for a misspelt variable or attribute; None without one."""
    if isinstance(problem, AttributeError) and problem.name and problem.obj is not None:
        try:
            known = dir(problem.obj)
        except Exception:  # dir() may fail on a half-built object; then there is no suggestion
            return None
        return nearest(problem.name, [name for name in known if name[:1] != "_"])
    if isinstance(problem, NameError) and problem.name:
        *_, (frame, _) = traceback.walk_tb(problem.__traceback__)
        return nearest(problem.name, [*frame.f_locals, *frame.f_globals, *vars(builtins)])
    return None
