"""Make pairs of a folder with trainA and trainB, testA and testB: python scripts/make_aligned.py --dataset-path DATA.

DATA/trainA/1.png and DATA/trainB/1.jpg become DATA/train/1.png, A on the left; likewise val and test. Partners have
equal names, extensions aside, or end in _A and _B; --by_order pairs sorted names instead, which mispairs all that
follows a missing picture, and is refused unless there are as many of both.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.main import guarded
from cli.script import Command
from data.listing.layouts import phases
from data.prepare.batch import Task, carry_out, some
from data.prepare.pairs import Pair, add_joining_flags, join_tasks, pairs, pictures
from util.errors import DataError, say


def by_order(A: Path, B: Path) -> list[Pair]:
    """Return pairs of sorted names, named after A; DataError if there are not as many of both."""
    sides = pictures(A), pictures(B)
    if len(sides[0]) != len(sides[1]):
        why = f"hold {len(sides[0])} and {len(sides[1])} pictures"
        raise DataError("folders", f"{A} and {B}", why, "remove those without a partner, or leave out --by_order")
    return [Pair(a.with_suffix("").as_posix(), A / a, B / b) for a, b in zip(*sides, strict=True)]


def main(argv, report):
    """Find the phases and their pairs, check all, write all."""
    command = Command(__file__, __doc__)
    command.add_argument("--dataset-path", "--dataset_path", "--dataroot", dest="dataroot", required=True,
                         metavar="DATA", help="the folder that holds trainA and trainB")  # fmt: skip
    command.add_argument("--output", metavar="FOLDER", help="where train, val and test go (default: DATA)")
    command.add_argument("--by_order", action="store_true", help="pair the first of A with the first of B, and so on")
    add_joining_flags(command)
    command.add_batch_flags()
    o = command.read(argv)
    root = Path(o.dataroot)
    found_in = phases(str(root), ["sides"])
    if not found_in:
        beside = some(sorted(path.name for path in root.iterdir())) if root.is_dir() else "no such folder"
        why = f"holds neither trainA nor testA ({beside or 'it is empty'})"
        raise DataError("folder", root, why, "give the folder above them, or use scripts/combine_A_and_B.py")
    output = Path(o.output or root)
    tasks: list[Task] = []
    left_out: list[str] = []
    for phase in found_in:
        A, B = root / f"{phase}A", root / f"{phase}B"
        found = by_order(A, B) if o.by_order else pairs(A, B, o.use_AB, o.allow_missing)
        say(f"{phase}: {len(found)} pairs, the first {found[0].A.name} and {found[0].B.name}")
        made, bad = join_tasks(found, output / phase, o)
        tasks, left_out = tasks + made, left_out + bad
    carry_out(tasks, o, output, left_out)


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
