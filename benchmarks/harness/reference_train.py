"""Run the reference's own train.py: python reference_train.py DIR RUN FLAGS; its code is not changed.

Each step appends a row with the number of images to RUN/losses.jsonl. At SIGTERM the step is finished, the networks are
saved as `latest`, and the process ends with 143; the reference itself would lose what it trained since its last save.
"""

import importlib
import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Start train.py of the folder, with a model that counts its steps."""
    home, run = (Path(word).resolve() for word in sys.argv[1:3])
    sys.argv, sys.path[0] = [str(home / "train.py"), *sys.argv[3:]], str(home)
    models: Any = importlib.import_module("models")  # the reference's
    run.mkdir(parents=True, exist_ok=True)
    create_model, stopped = models.create_model, []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))

    def create(opt: Any) -> Any:
        model, rows = create_model(opt), open(run / "losses.jsonl", "a", buffering=1, encoding="utf-8")
        train_step, count = model.optimize_parameters, [0]

        def step() -> None:
            train_step()
            count[0] += 1
            rows.write(json.dumps({"step": count[0], "samples": count[0] * opt.batch_size}) + "\n")
            if stopped:
                model.save_networks("latest")
                os._exit(143)

        model.optimize_parameters = step
        return model

    models.create_model = create
    os.chdir(home)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
