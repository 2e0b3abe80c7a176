"""Show the results of several runs side by side on one page: python scripts/compare.py RUN_A RUN_B."""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.main import run_command
from cli.script import Command
from displays.curves import read_curves
from pages.compare import read_results, write_comparison
from pages.names import safe_file_name
from serialization.run_names import suggest_run
from util.errors import DataError, EnvironmentFault, OptionError


def make_parser() -> Command:
    """Return the command-line parser."""
    parser = Command("compare.py", __doc__)
    parser.add_argument(
        "run", nargs="+", metavar="RUN", help="a run's name, or a folder that test.py wrote; two or more"
    )
    parser.add_argument(
        "--results_dir", default="./results/", help="folder that test.py wrote to (default: %(default)s)"
    )
    parser.add_argument(
        "--checkpoints_dir", default="./checkpoints", help="folder of the runs, for their losses (default: %(default)s)"
    )
    parser.add_argument("--phase", default="test", help="phase of the results (default: %(default)s)")
    parser.add_argument("--epoch", default="latest", help="epoch of the results (default: %(default)s)")
    parser.add_argument("--output", help="output folder (default: compare/RUN_A_RUN_B in results_dir)")
    parser.add_argument(
        "--display_winsize", type=int, default=256, help="width of an image in pixels (default: %(default)s)"
    )
    return parser


def find_results(run: str, o: argparse.Namespace) -> Path:
    """Return a run's folder of results, given the run's name, the run's folder, or that folder itself."""
    phase_epoch = f"{o.phase}_{o.epoch}"
    for folder in (Path(o.results_dir) / run / phase_epoch, Path(run) / phase_epoch, Path(run)):
        if (folder / "images").is_dir():
            return folder
    available = sorted(p.parent.name for p in (Path(o.results_dir) / run).glob("*/images"))
    if available:
        why = f"has no results of phase {o.phase}, epoch {o.epoch}, only of {', '.join(available)}"
        raise DataError("run", run, why, "choose with --phase and --epoch, or name the folder")
    why = f"has no results in {Path(o.results_dir) / run}"
    if (Path(o.checkpoints_dir) / run).is_dir():
        raise DataError("run", run, why, f"run python test.py --name {run}, or give --results_dir")
    tested_runs = sorted({path.parent.parent.name for path in Path(o.results_dir).glob("*/*/images")})
    raise DataError("run", run, why, suggest_run(run, tested_runs) or "run test.py first, or give --results_dir")


def loss_log_path(run: str, o: argparse.Namespace) -> Path:
    """Return the path of the loss log of a run given by name.

    A folder of results does not record its run, so the path for it has no log.
    """
    is_name = (Path(o.results_dir) / run / f"{o.phase}_{o.epoch}").is_dir()
    return Path(o.checkpoints_dir, run if is_name else "", "losses.jsonl")


def short_names(folders: list[Path]) -> list[str]:
    """Return a unique short name for each folder of results: its run's name, with more of its path where needed."""
    for parts in (slice(-2, -1), *(slice(-n, None) for n in range(2, 9))):
        names = ["/".join(folder.parts[parts]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


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
    names = short_names(folders)
    runs = [read_results(name, folder) for name, folder in zip(names, folders)]
    curves = [read_curves(loss_log_path(run, o)) for run in o.run]
    output = Path(o.output or Path(o.results_dir) / "compare" / safe_file_name("_".join(names)))
    if output.resolve() in folders:
        raise OptionError("option", "--output", f"{output} holds results", "choose another folder")

    # Write the page.
    try:
        missing = write_comparison(output.resolve(), runs, curves, o.display_winsize)
    except PermissionError as problem:
        raise EnvironmentFault(
            "folder", output, problem.strerror or "cannot be written", "choose another --output"
        ) from problem
    for line in missing[:10]:
        print(f"not shown: {line}")
    if len(missing) > 10:
        print(f"not shown: {len(missing) - 10} more, see {output / 'unmatched.txt'}")
    print(f"{len(runs)} runs -> {os.path.relpath(output / 'index.html')}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
