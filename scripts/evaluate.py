"""Measure generated images: python scripts/evaluate.py --real DIR --fake DIR --metrics ssim,lite0_kid.

Metrics of pairs compare images of the same name (1.jpg and 1.png, or 1_real_B.png and 1_fake_B.png as test.py writes
them), metrics of sets all images with all. Classes are the sub-folders of --real.

With --run NAME --epochs all, each kept checkpoint of a run is tested and measured, and RESULTS_DIR/NAME/evaluation
gets metrics.json and metrics.csv; what follows -- goes to test.py: -- --num_test 50. A model that generates from noise
is compared with the images it was trained on, or with those of --real.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.launch import join_others
from cli.main import run_command
from cli.script import Command, size
from data.listing.files import is_folder
from metrics import best_of, finite_or_none
from metrics.base import Result
from metrics.evaluation import Evaluation
from metrics.folders import Images, add_classes, check_apart, class_notes, evaluate_sides, list_side
from metrics.settings import Settings, parse_weights
from metrics.tables import JSON_FILE, write_tables
from options import store
from pages.names import natural_key
from pages.results_folder import check_finished, classes_of_files, folder_of_test, read_record
from registry import discovery
from serialization.download.partial import file_sha256
from serialization.run_names import suggest_folder
from serialization.weight_names import list_weights
from util import ranks
from util.device import select_device
from util.disk_space import write_error
from util.errors import CheckpointError, DataError, OptionError, count_text, print_line, printable
from util.value_range import ValueRange, option_range, parse_range, range_of_input

DEFAULT_METRICS = "L1,PSNR,ssim"
OWN_FLAGS = {"--name", "--checkpoints_dir", "--results_dir", "--epoch", "--load_iter", "--suffix"}  # set for test.py


def make_parser() -> Command:
    """Return the command-line parser."""
    parser = Command(__file__, __doc__)
    parser.add_argument("--real", metavar="FOLDER", help="the real images, or the targets")
    parser.add_argument("--fake", metavar="FOLDER", help="the generated images")
    parser.add_argument("--run", metavar="NAME", help="a run, instead of --fake")
    parser.add_value("--epochs", "all", "checkpoints of the run: all, or some as 5,10,latest")
    parser.add_value("--metrics", DEFAULT_METRICS, "comma-separated, names as python train.py --list shows them")
    parser.add_value("--side", "B", "measure what was made for this side, in folders of test.py", choices=("A", "B"))
    text = "resize all images, WIDTH or WIDTHxHEIGHT; default: real ones to the size of the generated ones, for sets"
    parser.add_argument("--size", type=size, help=text)
    text = "the values that mean black and white, LO,HI; default: those of a run, else all values of a file's type"
    parser.add_argument("--range", type=value_range, help=text)
    text = "FILE or NETWORK=FILE with published weights that a metric needs; may be repeated"
    parser.add_argument("--metric_weights", action="append", default=[], metavar="FILE", help=text)
    parser.add_switch("--download", "download published weights that a metric needs and torch's cache lacks")
    parser.add_argument("--plugin", action="append", default=[], metavar="PATH", help="a file or folder with metrics")
    parser.add_argument("--gpu_ids", help="device: -1 CPU, 0 the first GPU, mps; default: the best available")
    parser.add_value("--checkpoints_dir", "./checkpoints", "folder of the runs")
    parser.add_value("--results_dir", "./results/", "folder for the table of a run")
    parser.add_argument("--output", metavar="FOLDER", help="folder for metrics.json and metrics.csv")
    return parser


def value_range(text: str) -> ValueRange:
    """Return the range in "LO,HI", for files of any type, or "LO,HI KIND"; raise ArgumentTypeError for another text."""
    try:
        found = parse_range(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"{problem}\ngive LO,HI, such as 0,4095") from problem
    return found if "int" in text or "float" in text else found._replace(dtype="")


def make_evaluation(o: Any, classes: tuple[str, ...] = ()) -> Evaluation:
    """Return the evaluation of --metrics; raise OptionError if there are none."""
    names = [word.strip() for word in o.metrics.split(",") if word.strip()]
    if not names:
        raise OptionError("option", "--metrics", "names no metric", "python train.py --list shows their names")
    return Evaluation(names, Settings(select_device(o.gpu_ids), o.download, parse_weights(o.metric_weights), classes))


def list_sides(real: str, fake: str, side: str, given: ValueRange | None = None) -> tuple[Images, Images]:
    """Return the real and the generated images of two folders; raise DataError for a file that is in both.

    The values of images that a run made, and of what they are compared with, have the range `given`, else the run's.
    """
    records = results_record(real), results_record(fake)
    found = (
        list_side(real, (f"real_{side}", f"real_{side}_rgb"), of_test=bool(records[0])),
        list_side(fake, (f"fake_{side}", f"fake_{side}_rgb", "fake"), of_test=bool(records[1])),
    )
    check_apart(*found)
    runs = [Path(folder_of_test(Path(fake)), records[1]["checkpoint"])] if records[1] else []
    if runs and (saved := store.load(runs[0])):
        text = range_of_input(str(saved.get(f"range_{side}", "")), side)
        found[0].value_range = found[1].value_range = option_range(text)
    if given:
        found[0].value_range = found[1].value_range = given
    return found


def results_record(folder: str) -> dict[str, Any]:
    """Return what test.py noted on the images of a folder; {} for other images. Raise DataError for half a test."""
    path = folder_of_test(Path(folder))
    check_finished(path)
    return read_record(path)


def evaluate(real: Images, fake: Images, o: Any) -> tuple[dict[str, Result], dict[str, Any], list[str], dict[str, str]]:
    """Return the results, the values of each image, notes, and the better directions."""
    evaluation = make_evaluation(o, add_classes(real, fake, classes_of_files(Path(fake.folder))))
    notes = class_notes(real, fake) + evaluate_sides(evaluation, real, fake, tuple(o.size) if o.size else None)
    results = evaluation.results() if ranks.rank() == 0 else {}  # which holds what all have collected
    better = {name: evaluation.better(name) for name in results}
    return results, evaluation.per_image(), [*notes, *evaluation.notes()], better


def format_table(rows: dict[str, dict[str, Result]], better: dict[str, str]) -> str:
    """Return a table with a line for each epoch and a column for each metric: value, +- standard error, and number."""
    names = list(dict.fromkeys(name for results in rows.values() for name in results))
    heads = {"higher": " (higher is better)", "lower": " (lower is better)"}
    lines = [["", *(name + heads.get(better.get(name, ""), "") for name in names)]]
    for title, results in rows.items():
        cells = []
        for value, error, n in (results[name] for name in names):
            cells.append(f"{value:.5g}" + (f" +- {error:.2g}" if error is not None else "") + f", n={n}")
        lines.append([title, *cells])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def kept_epochs(folder: Path, wanted: str) -> list[str]:
    """Return the wanted checkpoints of a run, oldest first; raise CheckpointError for one that is not kept."""
    files = list_weights(folder, "*_net_*")
    found = {match[1] for path in files if (match := re.fullmatch(r"(.+?)_net_\w+", path.stem))}
    numbered = sorted((prefix for prefix in found if prefix.isdecimal()), key=int)
    named = sorted((prefix for prefix in found if not prefix.isdecimal()), key=natural_key)
    available = [*numbered, *named]
    if not available:
        raise CheckpointError("run", folder, "has no *_net_*.pth", "train it for an epoch first")
    if wanted == "all":
        return available
    epochs = [word.strip() for word in wanted.split(",") if word.strip()]
    for epoch in epochs:
        if epoch not in found:
            raise CheckpointError("option --epochs", epoch, "is not kept", f"choose of {', '.join(available)}")
    return epochs


def epoch_number(epoch: str) -> int | str:
    """Return an epoch as metrics.json has it: a number, or the name of a checkpoint, such as latest."""
    return int(epoch) if epoch.isdecimal() else epoch


def checksums(folder: Path, epoch: str) -> tuple[str, ...]:
    """Return the SHA-256 of the weights of a checkpoint."""
    return tuple(file_sha256(path) for path in list_weights(folder, f"{epoch}_net_*"))


def test_epoch(run: str, epoch: str, o: Any, more: list[str], folder: str, said: set[str]) -> tuple[Path, bool]:
    """Test a checkpoint into a folder; return its images, and whether the data set has pairs.

    said: the notes that earlier tests have printed; the new ones are printed and added.
    """
    iteration = re.fullmatch(r"iter_(\d+)", epoch)
    which = ["--load_iter", iteration[1]] if iteration else ["--epoch", epoch]
    device = ["--gpu_ids", o.gpu_ids] if o.gpu_ids is not None else []
    plugins = [word for path in o.plugin for word in ("--plugin", path)]
    argv = ["--name", run, "--checkpoints_dir", o.checkpoints_dir, "--results_dir", folder, *which, *device, *plugins]
    command = [sys.executable, str(ROOT / "test.py"), *argv, *more]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"WORLD_SIZE": "1"})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["test.py failed"])[-1].removeprefix("error: ")
        failure = CheckpointError("epoch", epoch, f"test.py ends with: {last}", "choose other --epochs")
        failure.code = done.returncode if 0 < done.returncode < 7 else 1
        raise failure
    for line in done.stdout.splitlines():
        if line.startswith("note: ") and line not in said:
            said.add(line)
            print_line(line)
    images = next(Path(folder).rglob("images"))
    return images, "mean" in json.loads((images.parent / JSON_FILE).read_text(encoding="utf-8"))


def evaluate_run(o: Any, more: list[str]) -> None:
    """Test and measure the kept checkpoints of a run, print the table and write the files."""
    folder = Path(o.checkpoints_dir, o.run)
    if not folder.is_dir():
        remedy = suggest_folder(folder) or "check --checkpoints_dir"
        raise OptionError("run", o.run, f"is not in {o.checkpoints_dir}", remedy)
    evaluation = make_evaluation(o)  # what a metric lacks is said before the first test
    rows: dict[str, dict[str, Result]] = {}
    better: dict[str, str] = {}
    notes: dict[str, None] = {}
    said: set[str] = set()
    measured: dict[tuple[str, ...], str] = {}  # checksums of a checkpoint -> the epoch that has them
    for epoch in kept_epochs(folder, o.epochs):
        same = measured.setdefault(checksums(folder, epoch), epoch)
        if same != epoch:  # such as the latest one
            rows[epoch] = rows[same]
            print_line(f"epoch {epoch}: has the weights of epoch {same}")
            continue
        with tempfile.TemporaryDirectory() as made:
            images, has_pairs = test_epoch(o.run, epoch, o, more, made, said)
            if evaluation.paired and not o.real and not has_pairs:
                raise evaluation.unpaired_error("the data set of the run has none")
            real, fake = list_sides(o.real or real_folder(images, folder, o.side), str(images), o.side, o.range)
            rows[epoch], _, found, better = evaluate(real, fake, o)
        notes |= dict.fromkeys(found)
        print_line(f"epoch {epoch}: " + ", ".join(f"{name} {value:.5g}" for name, (value, *_) in rows[epoch].items()))
    firsts = {
        name: best_of({epoch: row[name].value for epoch, row in rows.items()}, way) for name, way in better.items()
    }
    best = {name: (epoch_number(epoch), rows[epoch][name].value) for name, epoch in firsts.items() if epoch}
    target = Path(o.output or Path(o.results_dir, o.run, "evaluation"))
    about = {"run": o.run, "better": better, "notes": list(notes)}
    write_tables(target, [({"epoch": epoch_number(epoch)}, row) for epoch, row in rows.items()], best, about)
    for note in notes:
        print_line(f"note: {note}")
    print(format_table(rows, better))
    for name, (at, _) in best.items():
        print_line(f"best {name}: epoch {at}")
    print_line(f"{count_text(len(rows), 'checkpoint')} -> {target / JSON_FILE}")


def real_folder(images: Path, run: Path, side: str) -> str:
    """Return the folder of the real images of a test: that of the test, or for generated images the data of the run."""
    if any(re.fullmatch(rf".*_real_{side}(_rgb)?", path.stem) for path in images.rglob("*")):
        return str(images)
    saved = store.load(run)
    dataroot, phase = str(saved.get("dataroot", "")), str(saved.get("phase", "train"))
    for folder in (Path(dataroot, phase), Path(dataroot)):
        if dataroot and is_folder(str(folder)):
            return str(folder)
    raise DataError("run", run.name, "has no real images to compare with", "give their folder with --real")


def evaluate_folders(o: Any) -> None:
    """Measure two folders, print the table, and write the files if --output is given."""
    evaluation = make_evaluation(o)
    real, fake = list_sides(o.real, o.fake, o.side, o.range)
    is_one_test = folder_of_test(Path(o.real)).resolve() == folder_of_test(Path(o.fake)).resolve()
    if evaluation.paired and is_one_test and (record := results_record(o.fake)) and "mean" not in record:
        raise evaluation.unpaired_error("the data set of this test has none")
    results, images, notes, better = evaluate(real, fake, o)
    for note in notes:
        print_line(f"note: {note}")
    print_line(f"{count_text(len(fake), 'generated image')} against {count_text(len(real), 'real one')}")
    print(printable_lines(format_table({"": results}, better)))
    if o.output and ranks.rank() == 0:
        values = {name: finite_or_none(images[name]) for name in sorted(images, key=natural_key)}
        about = {"real": o.real, "fake": o.fake, "better": better, "notes": notes, "images": values}
        write_tables(Path(o.output), [({}, results)], {}, about)
        print_line(f"-> {Path(o.output, JSON_FILE)}")


def printable_lines(text: str) -> str:
    """Return text with control characters escaped, except line ends."""
    return "\n".join(map(printable, text.split("\n")))


def main(argv, report):
    """Measure two folders, or the checkpoints of a run."""
    more = argv[argv.index("--") + 1 :] if "--" in argv else []
    o = make_parser().parse_argv(argv[: len(argv) - len(more) - 1] if "--" in argv else argv)
    discovery.add_paths(o.plugin)
    if o.fake:
        join_others("evaluate", argv, report)
    elif os.environ.get("RANK", "0") != "0":  # --run starts test.py by itself
        return
    if bool(o.run) == bool(o.fake):
        raise OptionError("options", "--fake and --run", "one of them is needed", "give --real and --fake, or --run")
    if o.fake and (not o.real or more):
        why = "--fake needs --real, and no flags of test.py" if more else "--fake needs --real"
        raise OptionError("options", "--real and --fake", why, "see --help")
    if wrong := [word for word in more if word.partition("=")[0] in OWN_FLAGS]:
        raise OptionError("option", wrong[0], "is set for each checkpoint", "use --run, --epochs and --checkpoints_dir")
    try:
        evaluate_run(o, more) if o.run else evaluate_folders(o)
    except OSError as problem:  # of the temporary folder, for example
        raise write_error(Path(str(problem.filename or JSON_FILE)), problem) from problem


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
