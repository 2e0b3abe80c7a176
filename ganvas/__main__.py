"""The command `ganvas`, also `python -m ganvas`: train, test, and the scripts that belong to an installed package."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ganvas import ROOMS, __version__

SCRIPTS = {  # command: its module
    "train": "train", "test": "test", "evaluate": "scripts.evaluate", "export": "scripts.export",
    "compare": "scripts.compare", "check-data": "scripts.check_data", "download": "scripts.download",
    "card": "scripts.card",
}  # fmt: skip
WORDS = {"list": ["--list"]}  # command: arguments of train
HELP = {
    "train": "train a GAN",
    "test": "translate or generate images with a trained run",
    "evaluate": "measure generated images",
    "export": "export a run's generator, verified (ONNX, TorchScript, a web page)",
    "compare": "show the results of several runs side by side",
    "check-data": "check a data set before training on it",
    "download": "download a data set or a pretrained generator",
    "card": "write a model card of a run",
    "list": "list models, data sets, networks and all other parts",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    command, *words = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if not ROOMS:  # a clone: its modules come before those of the current folder and of Python (test)
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    present = [name for name in (*SCRIPTS, *WORDS) if is_present(name)]
    # after the path is known
    from cli.main import run_command, run_script
    from options.parse import answer_help, parse
    from util.errors import print_line
    from util.spelling import name_hint

    if command in ("-h", "--help", "--version"):
        usage = f"usage: ganvas {'|'.join(present)} [--help], ganvas --version"
        help_lines = [usage, *(f"  {name:<12}{HELP[name]}" for name in present)]
        lines = [f"ganvas {__version__}"] if command == "--version" else help_lines
        return run_command(lambda lines, report: print_line(*lines), lines)
    if command not in present:
        remedy = f"{name_hint(command, present)}choose one of {', '.join(present)}"
        print_line(f"error: command '{command}': there is no such command; {remedy}", is_error=True)
        return 2
    sys.argv[0] = f"ganvas {command}"
    if command in ("train", "test", *WORDS):
        name, words = ("train", WORDS[command] + words) if command in WORDS else (command, words)
        return run_script(name, words, answer_help, parse)
    return run_command(importlib.import_module(ROOMS + SCRIPTS[command]).main, words)


def is_present(command: str) -> bool:
    """Whether the command's script is there."""
    folder = Path(__file__).resolve().parent
    root = folder / "_rooms" if ROOMS else folder.parent
    return command in WORDS or (root / (SCRIPTS[command].replace(".", "/") + ".py")).is_file()


if __name__ == "__main__":
    sys.exit(main())
