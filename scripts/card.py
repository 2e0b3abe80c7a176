"""Write a model card of a run: python scripts/card.py --name NAME --license cc-by-4.0.

README.md in the run's folder says what data and options the run was trained with, what was measured, how to use its
weights, and shows images that lie beside it. A file that this command did not write, or that was edited, stays.
"""

import hashlib
import json
import math
import re
import shlex
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.main import run_command
from cli.script import Command
from displays.loss_log import epoch_rows
from options import store
from options.fields import Flag
from options.parse import parse
from pages.names import newest_images
from serialization.mismatch import to_saved_value
from serialization.run_names import suggest_folder
from serialization.weight_names import list_weights
from util.atomic_write import replace_text
from util.disk_space import write_error
from util.errors import CheckpointError, EnvironmentFault, OptionError, count_text, print_line

MARK = re.compile(r"\n<!-- written by GANvas; SHA-256 of the text above: ([0-9a-f]{64}) -->\n\Z")
MAX_PICTURES = 4
NOT_SHOWN = {"gpu_ids", "phase", "name", "model", "dataroot", "plugin", "isTrain", "suffix", "recipe", "range_A",
             "range_B", "run_classes", "run_columns", "input_nc", "output_nc", "inputs"}  # fmt: skip


def make_parser() -> Command:
    """Return the command-line parser."""
    parser = Command(__file__, __doc__)
    parser.add_argument("--name", required=True, metavar="RUN", help="the run, a folder in --checkpoints_dir")
    parser.add_value("--checkpoints_dir", "./checkpoints", "folder of the runs")
    parser.add_argument("--license", metavar="TEXT", help="licence of the weights, as an SPDX name such as cc-by-4.0")
    parser.add_argument("--data", metavar="TEXT", help="what the images are and where they come from")
    parser.add_argument("--plugin", action="append", default=[], metavar="PATH", help="a file or folder with plug-ins")
    return parser


def changed_options(o: Any) -> dict[str, Any]:
    """Return the options of a run, by name, that are not their defaults and change what it computes."""
    found = {}
    for name, value in o.saved.items():
        flag = o.flags.get(name)
        if flag is None or name in NOT_SHOWN or flag.meta["aside"] or flag.meta["momentary"]:
            continue
        if to_saved_value(value) != _default(flag, o.saved):
            found[name] = to_saved_value(value)
    return found


def _default(flag: Flag, saved: dict[str, Any]) -> Any:
    """Return a flag's default as it is stored; one that names another flag is the value of that."""
    value = to_saved_value(flag.default)
    if isinstance(value, str) and flag.type is not str and value in saved:
        return to_saved_value(saved[value])
    return value


def _flag_text(flag: Flag, value: Any) -> str:
    if flag.is_switch:
        return f"--{flag.name if value else flag.opposite}"
    values = value if isinstance(value, list) else [value]
    return " ".join(f"--{flag.name} {shlex.quote(_value_text(one))}" for one in values)


def _value_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def trained_epochs(folder: Path) -> str:
    """Return how long a run was trained, from its log of losses."""
    epochs = [row["epoch"] for row in epoch_rows(folder / "losses.jsonl")]
    return count_text(max(epochs), "epoch") if epochs else "an unknown number of epochs"


def metric_rows(folder: Path) -> list[str]:
    """Return the lines of the table of the newest and the best values of the run's metrics.json."""
    path = folder / "metrics.json"
    if not path.is_file():
        return []
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        last, lines = table["evaluations"][-1], ["| metric | value | images | best |", "|---|---|---|---|"]
        for name, found in last["values"].items():
            best = table["best"].get(name)
            text = f"{best['value']:.5g} (epoch {best['epoch']})" if best and best["value"] is not None else ""
            value = "" if found["value"] is None or not math.isfinite(found["value"]) else f"{found['value']:.5g}"
            lines.append(f"| {name} | {value} | {found['n']} | {text} |")
        return [f"Measured at epoch {last['epoch']}.", "", *lines]
    except (ValueError, LookupError, TypeError, AttributeError) as problem:
        raise CheckpointError("file", path, f"is damaged ({problem})", "restore the file or delete it") from problem


def pictures(folder: Path) -> list[str]:
    """Return the newest images of the training page, as paths from the run's folder."""
    found = newest_images(folder)
    last = max((epoch for epoch, _ in found.values()), default=0)
    newest = sorted(file for epoch, file in found.values() if epoch == last)
    return [path.relative_to(folder).as_posix() for path in newest[:MAX_PICTURES]]


def card(o: Any, folder: Path, licence: str, data: str) -> str:
    """Return the text of a run's card."""
    saved, spec = o.saved, store.load_spec(folder)
    changed = changed_options(o)
    flags = " ".join(_flag_text(o.flags[name], value) for name, value in sorted(changed.items()))
    size = f"{spec['width']}x{spec['height']}" if spec else "unknown"
    lines = ["---", f"license: {json.dumps(licence)}", "library_name: ganvas", f"tags: [{saved['model']}]", "---", "",
             f"# {folder.name}", "", f"A {saved['model']} model, trained with GANvas for {trained_epochs(folder)}.", "",
             "## Data", "", data or f"The folder `{Path(str(saved.get('dataroot', ''))).name}`.", "",
             f"Images of {size} pixels, {saved.get('input_nc')} channels to {saved.get('output_nc')}"
             f" (`--dataset_mode {saved.get('dataset_mode')}`).", ""]  # fmt: skip
    for side in "AB":
        if values := saved.get(f"range_{side}"):
            lines += [f"Values of {side} (`--range_{side}`): {values}.", ""]
    if spec.get("classes"):
        lines += [f"Classes: {', '.join(spec['classes'])}.", ""]
    lines += ["## Options that differ from the defaults", "", "```", flags or "none", "```", ""]
    if plugins := [Path(path).name for path in saved.get("plugin", ())]:
        lines += [f"The model needs the plug-in {', '.join(plugins)}; `plugins/` holds a copy of its source.", ""]
    if rows := metric_rows(folder):
        lines += ["## Metrics", "", *rows, ""]
    if shown := pictures(folder):
        lines += ["## Images", "", *(f"![{Path(path).stem}]({path})" for path in shown), ""]
    lines += ["## Use", "", "```sh", f"python test.py --name {shlex.quote(folder.name)} --dataroot FOLDER", "```", ""]
    lines += [f"Weights: {', '.join(path.name for path in list_weights(folder, 'latest_net_*'))}.", ""]
    return "\n".join([*lines, "## Licence", "", f"{licence}."])


def write(path: Path, text: str) -> None:
    """Write a card; raise EnvironmentFault rather than replace a file that is not, or no longer, what was written."""
    if path.exists():
        old = path.read_text(encoding="utf-8", errors="replace")
        match = MARK.search(old)
        if match is None or match[1] != _digest(old[: match.start()]):
            why = "was edited since it was written" if match else "is not a card that this command wrote"
            raise EnvironmentFault("file", path, why, "move it away, or delete it")
    replace_text(path, f"{text}\n<!-- written by GANvas; SHA-256 of the text above: {_digest(text)} -->\n")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main(argv, report):
    """Write a run's model card."""
    o = make_parser().parse_argv(argv)
    folder = Path(o.checkpoints_dir, o.name)
    if not (folder / store.OPTIONS_FILE).is_file():
        why = "has no options.json" if folder.is_dir() else "there is no such run"
        raise CheckpointError("run", folder, why, suggest_folder(folder) or "check --name and --checkpoints_dir")
    if not o.license:
        why = "is needed: a card says under which licence the weights are shared"
        raise OptionError("option", "--license", why, "give one such as cc-by-4.0, or unknown")
    plugins = [word for path in o.plugin for word in ("--plugin", path)]
    options = parse(["--name", o.name, "--checkpoints_dir", o.checkpoints_dir, *plugins], "test")
    path = folder / "README.md"
    try:
        write(path, card(options, folder, o.license, o.data or ""))
    except OSError as problem:
        raise write_error(path, problem) from problem
    print_line(f"model card -> {path}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
