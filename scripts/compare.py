"""Show the results of several runs side by side on one page: python scripts/compare.py RUN_A RUN_B."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli.main import run_command
from cli.script import Command
from displays.loss_log import read_curves
from options import best, store
from pages.compare import read_results, write_comparison
from pages.names import natural_key, safe_file_name
from pages.results_folder import METRICS_FILE, check_finished, read_record
from serialization.run_names import suggest_run
from util.errors import DataError, EnvironmentFault, OptionError, count_text, print_line


def make_parser() -> Command:
    """Return the command-line parser."""
    parser = Command("compare.py", __doc__)
    text = "a run's name, or a folder that test.py wrote; two or more"
    parser.add_argument("run", nargs="+", metavar="RUN", help=text)
    parser.add_value("--results_dir", "./results/", "folder that test.py wrote to")
    parser.add_value("--checkpoints_dir", "./checkpoints", "folder of the runs, where results do not tell it")
    parser.add_value("--phase", "test", "phase of the results")
    parser.add_value("--epoch", "latest", "epoch of the results")
    parser.add_argument("--output", help="output folder (default: compare/RUN_A_RUN_B in results_dir)")
    parser.add_value("--display_winsize", 256, "width of an image in pixels")
    return parser


def results_name(run: str, o: argparse.Namespace) -> str:
    """Return PHASE_EPOCH of a run's results, with best_METRIC for --epoch best."""
    folder = Path(o.checkpoints_dir) / run
    saved = store.load(folder)
    return f"{o.phase}_{best.resolve_best(o, folder, saved) if saved else o.epoch}"


def find_results(run: str, o: argparse.Namespace) -> Path:
    """Return a run's folder of results, given the run's name, the run's folder, or that folder itself."""
    phase_epoch = results_name(run, o)
    for folder in (Path(o.results_dir) / run / phase_epoch, Path(run) / phase_epoch, Path(run)):
        if (folder / "images").is_dir():
            return folder
    available = sorted((p.parent.name for p in (Path(o.results_dir) / run).glob("*/images")), key=natural_key)
    if available:
        epoch = phase_epoch.removeprefix(f"{o.phase}_")
        why = f"has no results of phase {o.phase}, epoch {epoch}, only of {', '.join(available)}"
        raise DataError("run", run, why, "choose with --phase and --epoch, or name the folder")
    why = f"has no results in {Path(o.results_dir) / run}"
    if (Path(o.checkpoints_dir) / run).is_dir():
        raise DataError("run", run, why, f"run python test.py --name {run}, or give --results_dir")
    tested_runs = sorted({path.parent.parent.name for path in Path(o.results_dir).glob("*/*/images")})
    raise DataError("run", run, why, suggest_run(run, tested_runs) or "run test.py first, or give --results_dir")


def loss_log_path(run: str, folder: Path, o: argparse.Namespace) -> Path:
    """Return the path of the loss log of the run that a folder of results names, else of the run of that name."""
    recorded = folder / read_record(folder).get("checkpoint", "") / "losses.jsonl"
    is_name = (Path(o.results_dir) / run / results_name(run, o)).is_dir()
    return Path(o.checkpoints_dir, run, "losses.jsonl") if is_name and not recorded.is_file() else recorded


def short_names(folders: list[Path]) -> list[str]:
    """Return a unique short name for each folder of results: its run's name, with more of its path where needed.

    Results of different phases or epochs have PHASE_EPOCH in their names.
    """
    of_run = [slice(-2, -1)] if len({folder.name for folder in folders}) == 1 else []
    for parts in (*of_run, *(slice(-n, None) for n in range(2, 9))):
        names = ["/".join(folder.parts[parts]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def other_data_note(names: list[str], folders: list[Path]) -> str:
    """Return a note if the results are of different data; "" if they are of the same, or if that is not known."""
    tested: dict[str, str] = {}  # the data: the first run that was tested on them
    for name, folder in zip(names, folders, strict=True):
        if data := read_record(folder).get("data"):
            path = folder / data  # but of generated images, demo
            tested.setdefault(os.path.realpath(path) if path.exists() else data, name)
    if len(tested) < 2:
        return ""
    said = ", ".join(f"{name} on {data}" for data, name in tested.items())
    return f"note: the runs were tested on different data ({said}): images of one name may not be the same"


def other_range_note(names: list[str], folders: list[Path]) -> str:
    """Return a note if the values of the runs' results have other ranges; "" if they have one, or it is not known."""
    ranges: dict[str, str] = {}  # the range: the first run that has it
    for name, folder in zip(names, folders, strict=True):
        checkpoint = read_record(folder).get("checkpoint")
        if saved := store.load(folder / checkpoint) if checkpoint else {}:
            ranges.setdefault(str(saved.get("range_B", "")) or "uint8", name)
    if len(ranges) < 2:
        return ""
    said = ", ".join(f"{name} of {text}" for text, name in ranges.items())
    return f"note: the runs' values have different ranges ({said}): L1, PSNR and the like cannot be compared"


def main(argv, report):
    """Read the results of the runs, write the page, and print its path."""
    o = make_parser().parse_argv(argv)
    if len(o.run) < 2:
        raise OptionError("runs", o.run[0], "is only one run", "give two or more")
    if not 1 <= o.display_winsize <= 4096:
        raise OptionError("option", "--display_winsize", f"{o.display_winsize} is not a valid width", "give 1 to 4096")

    # Find the results and losses.
    folders = [find_results(run, o).resolve() for run in o.run]
    if len(set(folders)) < len(folders):
        raise OptionError("runs", " ".join(o.run), "are not all different", "give each once")
    for folder in folders:
        check_finished(folder)
    names = short_names(folders)
    for line in filter(None, (other_data_note(names, folders), other_range_note(names, folders))):
        print_line(line)
    runs = [read_results(name, folder) for name, folder in zip(names, folders)]
    curves = [read_curves(loss_log_path(run, folder, o)) for run, folder in zip(o.run, folders)]
    output = Path(o.output or Path(o.results_dir) / "compare" / safe_file_name("_".join(names)))
    if output.resolve() in folders or (output / METRICS_FILE).exists():
        raise OptionError("option", "--output", f"{output} holds results", "choose another folder")

    # Write the page.
    try:
        missing = write_comparison(output.resolve(), runs, curves, o.display_winsize)
    except PermissionError as problem:
        why = problem.strerror or "cannot be written"
        raise EnvironmentFault("folder", output, why, "choose another --output") from problem
    for line in missing[:10]:
        print(f"not shown: {line}")
    if len(missing) > 10:
        print(f"not shown: {len(missing) - 10} more, see {output / 'unmatched.txt'}")
    print(f"{count_text(len(runs), 'run')} -> {os.path.relpath(output / 'index.html')}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
