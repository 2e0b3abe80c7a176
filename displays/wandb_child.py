"""A process of its own that logs a run to Weights & Biases: python wandb_child.py SETTINGS.json, fed on stdin.

Losses it reads from the run's losses.jsonl, whenever a line comes in; pictures come with the line, as JSON. It imports
nothing of ours. Where the server cannot be used, it becomes a fresh process that logs to files: wandb, once it has
tried to go online, cannot be trusted to change its mind. It never asks anything: it has no terminal.
"""

import base64
import io
import json
import os
import sys
import threading
from typing import Any

INITIAL_ENVIRONMENT = dict(os.environ)
STDIN, STDOUT = os.dup(0), os.dup(1)  # to the process that started this one; what wandb asks and says goes elsewhere
FINISH_TIMEOUT_S = 60.0  # seconds for what is left to be sent once the training has ended


def send_message(**words: Any) -> None:
    """Write a line of JSON to the process that started this one, if it still listens."""
    try:
        os.write(STDOUT, json.dumps(words).encode() + b"\n")
    except OSError:  # it does not: then nobody needs to know
        return


def start_run(settings: dict[str, Any]) -> Any:
    """Return the run; where the server cannot be used, this process is replaced and nothing returns."""
    init = settings["init"]
    limit = (10 if os.environ.get("WANDB_MODE") == "offline" else 1.5) * init  # files need no answer, only a slow disk
    late = threading.Timer(limit, start_offline, [f"no answer within {limit:g} s"])
    late.daemon = True
    late.start()
    try:
        import wandb

        quiet = wandb.Settings(init_timeout=init, login_timeout=init, console="off", silent=True, disable_git=True,
                               save_code=False, x_disable_stats=True)  # fmt: skip
        run = wandb.init(settings=quiet, resume="allow", **settings["run"])
    except Exception as problem:  # whatever it is, the files remain
        start_offline((str(problem).strip() or type(problem).__name__).splitlines()[0])
    late.cancel()
    return run


def start_offline(why: str) -> None:
    """Become a fresh process that asks no server; or, if this one was that already, end."""
    if os.environ.get("WANDB_MODE") == "offline":
        send_message(off=why)
        os._exit(1)
    send_message(offline=why)
    os.dup2(STDIN, 0)
    os.dup2(STDOUT, 1)
    fresh = INITIAL_ENVIRONMENT | {"WANDB_MODE": "offline"}  # not what wandb put there meanwhile
    os.execve(sys.executable, [sys.executable, "-P", *sys.argv], fresh)


class LossReader:
    """The rows of losses.jsonl that the run does not have yet."""

    def __init__(self, path: str, run: Any):
        self.path, self.run, self.offset = path, run, 0
        self.logged_samples = run.step  # what was logged before this process is not logged again

    def log(self) -> None:
        """Log the rows written since the last time."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):  # being written
                    return
                self.offset += len(line)
                row = json.loads(line)
                values = row.get("losses") or {f"mean/{name}": mean for name, mean in row["mean"].items()}
                values |= {name: row[name] for name in ("lr",) if name in row}
                values = {name: value for name, value in values.items() if value is not None}  # NaN
                if row["samples"] >= self.logged_samples:
                    self.run.log(values, step=row["samples"])


def log_pictures(run: Any, pictures: dict[str, list[list[str]]], samples: int) -> None:
    """Log {key: [[caption, PNG in base 64], ...]}."""
    import wandb
    from PIL import Image

    made = {
        key: [wandb.Image(Image.open(io.BytesIO(base64.b64decode(png))), caption=caption) for caption, png in each]
        for key, each in pictures.items()
    }
    run.log(made, step=max(samples, run.step))


def main() -> None:
    """Log until stdin ends, then what is left."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    run = start_run(settings)
    send_message(ready=str(run.url or ""))
    losses = LossReader(settings["losses"], run)
    losses.log()
    for line in open(STDIN, encoding="utf-8"):
        if not line.endswith("\n"):  # cut off with the training: what it held is lost, the losses are not
            break
        message = json.loads(line)
        losses.log()
        if "pictures" in message:
            log_pictures(run, message["pictures"], message["samples"])
    end = threading.Timer(FINISH_TIMEOUT_S, os._exit, [1])
    end.daemon = True
    end.start()
    losses.log()
    run.finish()


if __name__ == "__main__":
    main()
