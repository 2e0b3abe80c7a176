"""Make pairs from a folder with trainA and trainB, testA and testB: python scripts/make_aligned.py --dataset-path DATA.

DATA/trainA/1.png and DATA/trainB/1.jpg become DATA/train/1.png with A on the left; the same holds for val and test.
Partners have equal names, extensions aside, or end in _A and _B. --by_order pairs sorted names instead. It mispairs
everything after a missing image, so it is refused unless there are as many of both.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli.main import run_command
from cli.script import Command
from data.listing.layouts import list_phases
from data.prepare.batch import Task, format_names, run_tasks
from data.prepare.pairs import Pair, add_joining_flags, find_pairs, join_tasks, list_images
from util.errors import DataError, count_text, print_line


def pair_by_order(A: Path, B: Path) -> list[Pair]:
    """Return pairs of the sorted names, named after A; raise DataError if there are not as many of both."""
    sides = list_images(A), list_images(B)
    if len(sides[0]) != len(sides[1]):
        why = f"hold {len(sides[0])} and {len(sides[1])} images"
        raise DataError("folders", f"{A} and {B}", why, "remove those without a partner, or omit --by_order")
    return [Pair(a.with_suffix("").as_posix(), A / a, B / b) for a, b in zip(*sides, strict=True)]


def main(argv, report):
    """Find the phases and their pairs, check all, and write all."""
    command = Command(__file__, __doc__)
    names, text = ("--dataset-path", "--dataset_path", "--dataroot"), "the folder that holds trainA and trainB"
    command.add_argument(*names, dest="dataroot", required=True, metavar="DATA", help=text)
    command.add_argument("--output", metavar="FOLDER", help="output folder for train, val and test (default: DATA)")
    command.add_switch("--by_order", "pair the first of A with the first of B, and so on")
    add_joining_flags(command)
    command.add_batch_flags()
    o = command.parse_argv(argv)
    root = Path(o.dataroot)
    phases_found = list_phases(str(root), ["sides"])
    if not phases_found:
        contents = format_names(sorted(path.name for path in root.iterdir())) if root.is_dir() else "no such folder"
        why = f"holds neither trainA nor testA ({contents or 'it is empty'})"
        raise DataError("folder", root, why, "give the folder above them, or use scripts/combine_A_and_B.py")
    output = Path(o.output or root)
    tasks: list[Task] = []
    left_out: list[str] = []
    for phase in phases_found:
        A, B = root / f"{phase}A", root / f"{phase}B"
        phase_pairs = pair_by_order(A, B) if o.by_order else find_pairs(A, B, o.use_AB, o.allow_missing)
        first = f"the first {phase_pairs[0].A.name} and {phase_pairs[0].B.name}"
        print_line(f"{phase}: {count_text(len(phase_pairs), 'pair')}, {first}")
        phase_tasks, phase_left_out = join_tasks(phase_pairs, output / phase, o)
        tasks, left_out = tasks + phase_tasks, left_out + phase_left_out
    run_tasks(tasks, o, output, left_out)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
