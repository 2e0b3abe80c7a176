"""Log a run to Weights & Biases from a separate process that cannot delay or fail the run."""

import importlib.util
import json
import os
import secrets
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from displays.base import Pictures, Sink
from util.atomic_write import replace_text
from util.errors import EnvironmentFault, print_line
from util.image_io import png_base64
from util.progress import Progress

CHILD_SCRIPT = Path(__file__).with_name("wandb_child.py")
INIT_TIMEOUT_S = 10.0  # seconds for the server to respond before the run is logged to files
CLOSE_TIMEOUT_S = 1.5  # seconds to wait for the process when the run ends; it then continues alone

Message = dict[str, Any]


class Wandb(Sink):
    """Logs the losses of losses.jsonl, images as `results/LABEL`, and fixed samples; a resumed run continues its log.

    Raise EnvironmentFault if the package wandb is not installed.
    """

    def __init__(self, o: Any, folder: Path):
        if not _is_wandb_installed():
            raise EnvironmentFault("package", "wandb", "is not installed", "pip install -r requirements-extras.txt")
        self.loss_freq, self.image_freq = o.print_freq, o.display_freq
        self.folder = folder.resolve()
        self.run = {"project": o.wandb_project_name, "name": o.name, "dir": str(self.folder),
                    "config": {k: v for k, v in vars(o).items() if k in o.flags}}  # fmt: skip
        self.waiting: dict[str, Message] = {}  # the newest message of each kind
        self.changed = threading.Condition()
        self.ending = False
        self.process: subprocess.Popen | None = None

    def start(self, progress: Progress) -> None:
        # Write the settings of the child process, with the run's id.
        (self.folder / "wandb").mkdir(exist_ok=True)
        settings = self.folder / "wandb" / "settings.json"
        if "WANDB_RUN_ID" not in os.environ:
            self.run["id"] = (progress.step and _saved_run_id(settings)) or secrets.token_hex(4)
        message = {"run": self.run, "losses": str(self.folder / "losses.jsonl"), "init": INIT_TIMEOUT_S}
        replace_text(settings, json.dumps(message, default=str) + "\n")
        # Start the child process.
        command = [sys.executable, "-P", str(CHILD_SCRIPT), str(settings)]  # -P: else displays/ hides the package
        unbuffered: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}  # a buffer could block
        environment = {**os.environ, "WANDB_SILENT": "true"}
        with open(self.folder / "wandb" / "output.log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stderr=log, start_new_session=True, env=environment, **unbuffered)
        # Start a thread for each direction.
        for work in (self._write_messages, self._read_messages):
            threading.Thread(target=work, args=(self.process,), daemon=True).start()

    def losses(self, progress: Progress, values: dict[str, float]) -> None:
        self._send("losses", progress, {})  # the process reads them from the log

    def epoch(self, progress: Progress, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        self._send("losses", progress, {})

    def images(self, progress: Progress, pictures: Pictures) -> None:
        self._send("results", progress, {label: {label: array} for label, array in pictures.items()})

    def sheets(self, progress: Progress, pictures: Pictures) -> None:
        self._send("sheets", progress, {label: {label: array} for label, array in pictures.items()})

    def samples(self, progress: Progress, samples: dict[str, Pictures]) -> None:
        labels = next(iter(samples.values()), {})
        by_label = {label: {file: made[label] for file, made in samples.items() if label in made} for label in labels}
        self._send("samples", progress, by_label)

    def _send(self, kind: str, progress: Progress, pictures: dict[str, Pictures]) -> None:
        """Make the process read new losses, and log images given by label and caption."""
        with self.changed:
            by_key = {f"{kind}/{label}": captioned for label, captioned in pictures.items()}
            self.waiting[kind] = {"samples": progress.samples, "pictures": by_key}
            self.changed.notify()

    def close(self) -> None:
        """Wait CLOSE_TIMEOUT_S seconds for the process; after that it finishes alone, from the log on disk."""
        with self.changed:
            self.ending = True
            self.changed.notify()
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(CLOSE_TIMEOUT_S)

    def _write_messages(self, process: Any) -> None:
        """Write the waiting messages to the process until the run ends, then close its stdin."""
        try:
            while True:
                with self.changed:
                    self.changed.wait_for(lambda: self.waiting or self.ending)
                    if not self.waiting:
                        break
                    message = self.waiting.pop(next(iter(self.waiting)))
                line = memoryview(json.dumps(_as_json(message)).encode() + b"\n")
                while line:
                    line = line[process.stdin.write(line) :]
            process.stdin.close()
        except (OSError, ValueError):  # the process ended, and has reported why
            return

    def _read_messages(self, process: Any) -> None:
        """Print the messages of the process."""
        for line in process.stdout:
            _print_line(json.loads(line))


def _print_line(text: str) -> None:
    print_line(text)  # above a progress bar


def _is_wandb_installed() -> bool:
    """Whether the package is installed; a folder wandb/ of an earlier run does not count."""
    try:
        spec = importlib.util.find_spec("wandb")
    except ValueError:  # sys.modules holds an entry without a spec
        return False
    return spec is not None and spec.origin is not None


def _saved_run_id(settings: Path) -> str | None:
    """Return the id of the run from its earlier settings, or None."""
    try:
        return str(json.loads(settings.read_text(encoding="utf-8"))["run"]["id"])
    except (OSError, ValueError, KeyError, TypeError):  # this run has not been logged before
        return None


def _as_json(message: Message) -> Message:
    """Return a message with its images as [caption, PNG in base64]."""
    pictures = message["pictures"].items()
    return message | {"pictures": {key: [[text, png_base64(a)] for text, a in each.items()] for key, each in pictures}}
