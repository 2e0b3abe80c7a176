"""Keep the random numbers, settings, messages and plug-ins of GANvas apart from those of the calling program."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from cli.main import user_error
from cli.signals import is_main_thread
from registry import discovery
from util.errors import messages_to
from util.seeding import generator_states, restore_generators

LOCK = threading.RLock()  # of all sessions, because random generators and plug-ins belong to the process
LOGGER = logging.getLogger("ganvas")
ATTENTION = ("note:", "hint:", "warning:")  # lines that begin so say that something may not be as the user expects


def log(text: str) -> None:
    """Give a message to logging: at level WARNING if it is a note, else at level INFO."""
    for line in text.splitlines():
        LOGGER.log(logging.WARNING if line.lstrip().startswith(ATTENTION) else logging.INFO, "%s", line)


class Session:
    """What one trained generator, or one training, sets in the process while it works.

    In `with session.active()` its own random generators, settings and plug-ins apply; after the block those of the
    caller apply again. One session is active at a time; other threads wait. Errors are raised as a command prints them:
    as the UserError that names the cause, if there is one.
    """

    def __init__(self, plugins: list[str] | None = None):
        self.settings: dict[str, Any] | None = None
        self.plugins = plugins

    @contextmanager
    def active(self) -> Iterator[None]:
        """Apply the session's settings in the block."""
        with LOCK, messages_to(log):
            callers = _settings()
            try:
                self._begin()
                yield
            except (Exception, SystemExit) as problem:
                error = user_error(problem)
                if error is None or error is problem:
                    raise
                raise error from (problem if error.__traceback__ is None else error.__cause__)
            finally:
                self.settings, self.plugins = _settings(), discovery.paths()
                _apply(callers)

    def _begin(self) -> None:
        if self.settings is not None:
            _apply(self.settings)
        tqdm.monitor_interval = 0  # no thread that watches progress bars, as there are none
        if self.plugins is not None and discovery.paths() != self.plugins:
            discovery.forget_run()
            discovery.add_paths(self.plugins, of_run=True)

    @classmethod
    def of_now(cls) -> "Session":
        """Return a session that begins with the random generators, settings and plug-ins that apply now."""
        session = cls(discovery.paths())
        session.settings = _settings()
        return session

    def restarted(self) -> "Session":
        """Return a session that begins with the present random generators and settings of this one."""
        other = Session(self.plugins)
        other.settings = self.settings
        return other


def _settings() -> dict[str, Any]:
    """Return the random generators' states and all other values of the process that GANvas sets."""
    has_handler = hasattr(signal, "SIGCHLD") and is_main_thread()
    return {
        "generators": generator_states(),
        "device": torch.cuda.current_device() if torch.cuda.is_initialized() else None,
        "deterministic": _deterministic(),
        "benchmark": torch.backends.cudnn.benchmark,
        "environment": dict(os.environ),  # cuBLAS's workspace, and what torch's compiler sets
        "threads": torch.get_num_threads(),  # a translator's threads set the number that later threads begin with
        "pixels": Image.MAX_IMAGE_PIXELS,
        "monitor": tqdm.monitor_interval,
        "sigchld": signal.getsignal(signal.SIGCHLD) if has_handler else None,  # torch's loader replaces it
    }


def _apply(values: dict[str, Any]) -> None:
    """Set what `_settings` has returned."""
    restore_generators(values["generators"])
    if values["device"] is not None:
        torch.cuda.set_device(values["device"])
    if _deterministic() != values["deterministic"]:  # the call imports torch's compiler, which takes 0.8 s
        torch.use_deterministic_algorithms(values["deterministic"][0], warn_only=values["deterministic"][1])
    torch.backends.cudnn.benchmark = values["benchmark"]
    for name in os.environ.keys() - values["environment"].keys():
        del os.environ[name]
    os.environ |= {n: text for n, text in values["environment"].items() if os.environ.get(n) != text}
    torch.set_num_threads(values["threads"])
    Image.MAX_IMAGE_PIXELS = values["pixels"]
    tqdm.monitor_interval = values["monitor"]
    if values["sigchld"] is not None and is_main_thread() and signal.getsignal(signal.SIGCHLD) is not values["sigchld"]:
        signal.signal(signal.SIGCHLD, values["sigchld"])


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
