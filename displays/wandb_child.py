"""The child process that logs a run to Weights & Biases: python wandb_child.py SETTINGS.json, with messages on stdin.

Each line on stdin makes it read new losses from the run's losses.jsonl; images are part of the line, as JSON. It
imports nothing from this project. If the server cannot be used, it restarts itself to log to files, because wandb
does not switch reliably after it has tried to go online. It never prompts, because it has no terminal.
"""

import base64
import io
import json
import os
import sys
import threading
from contextlib import suppress
from typing import Any

INITIAL_ENVIRONMENT = dict(os.environ)
STDIN, STDOUT = os.dup(0), os.dup(1)  # connected to the parent process; wandb's own input and output go elsewhere
FINISH_TIMEOUT_S = 60.0  # seconds to send the remaining data after training ends


def say(text: str) -> None:
    """Let the parent process print a text, if it still listens."""
    with suppress(OSError):  # the parent process ended
        os.write(STDOUT, json.dumps(text).encode() + b"\n")


def start_run(settings: dict[str, Any]) -> Any:
    """Start and return the wandb run; if the server cannot be used, start_offline replaces this process instead."""
    init = settings["init"]
    limit = (10 if os.environ.get("WANDB_MODE") == "offline" else 1.5) * init  # offline, only a slow disk delays it
    late = threading.Timer(limit, start_offline, [f"no answer within {limit:g} s"])
    late.daemon = True
    late.start()
    try:
        import wandb  # an extra, and it may hang: the watch above is running

        quiet: dict[str, Any] = {
            "console": "off",
            "silent": True,
            "disable_git": True,
            "save_code": False,
            "x_disable_stats": True,
        }
        limited = wandb.Settings(init_timeout=init, login_timeout=init, **quiet)
        run = wandb.init(settings=limited, resume="allow", **settings["run"])
    except Exception as problem:  # on any error, log to files
        start_offline((str(problem).strip() or type(problem).__name__).splitlines()[0])
    late.cancel()
    return run


def start_offline(why: str) -> None:
    """Replace this process with one that logs offline; exit if this process already does."""
    if os.environ.get("WANDB_MODE") == "offline":
        say(f"note: Weights & Biases is off ({why})")
        os._exit(1)
    later = f"send it later with: wandb sync {os.path.dirname(sys.argv[1])}/offline-run-*"
    say(f"note: Weights & Biases is logged to files ({why}); {later}")
    os.dup2(STDIN, 0)
    os.dup2(STDOUT, 1)
    fresh = INITIAL_ENVIRONMENT | {"WANDB_MODE": "offline"}  # without the variables that wandb has set since
    os.execve(sys.executable, [sys.executable, "-P", *sys.argv], fresh)


class LossReader:
    """Reads the rows of losses.jsonl that are not logged yet."""

    def __init__(self, path: str, run: Any):
        self.file, self.run = open(path, "rb"), run
        self.logged_samples = run.step  # rows up to here were logged by an earlier process

    def log(self) -> None:
        """Log the rows written since the last time."""
        while (line := self.file.readline()).endswith(b"\n"):
            row = json.loads(line)
            values = dict(row.get("losses", {})) | {f"mean/{name}": mean for name, mean in row.get("mean", {}).items()}
            values |= {name: row[name] for name in ("lr",) if name in row}
            values |= {f"metric/{name}": value for name, (value, *_) in row.get("metrics", {}).items()}
            values = {name: value for name, value in values.items() if value is not None}  # NaN
            if row["samples"] >= self.logged_samples:
                self.run.log(values, step=row["samples"])
        self.file.seek(-len(line), os.SEEK_CUR)  # a row that is still being written is read again


def log_pictures(run: Any, pictures: dict[str, list[list[str]]], samples: int) -> None:
    """Log images given as {key: [[caption, PNG in base64], ...]}."""
    import wandb  # an extra
    from PIL import Image

    made = {
        key: [wandb.Image(Image.open(io.BytesIO(base64.b64decode(png))), caption=caption) for caption, png in each]
        for key, each in pictures.items()
    }
    run.log(made, step=max(samples, run.step))


def main() -> None:
    """Log until stdin ends, then log the remaining losses."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    # Start the run and log the losses so far.
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    run = start_run(settings)
    if run.url:
        say(f"Weights & Biases: {run.url}")
    losses = LossReader(settings["losses"], run)
    losses.log()
    # Log losses and images with each message.
    for line in open(STDIN, encoding="utf-8"):
        if not line.endswith("\n"):
            break  # cut off because training was killed; its images are lost, its losses are in the log
        message = json.loads(line)
        losses.log()
        if message["pictures"]:
            log_pictures(run, message["pictures"], message["samples"])
    # Log the rest, within FINISH_TIMEOUT_S seconds.
    end = threading.Timer(FINISH_TIMEOUT_S, os._exit, [1])
    end.daemon = True
    end.start()
    losses.log()
    run.finish()


if __name__ == "__main__":
    main()
