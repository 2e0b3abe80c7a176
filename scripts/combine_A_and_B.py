"""Join images of two folders side by side, as pix2pix reads them: python scripts/combine_A_and_B.py --fold_A A --fold_B B --fold_AB AB.

A/train/1.png and B/train/1.jpg become AB/train/1.png with A on the left; the same holds for val, test, any other
sub-folders, or none. Partners have equal names, extensions aside, or end in _A and _B. The values are kept exactly,
except that two JPEG files become one of quality 95 (--format png keeps these exactly, too). To train on the result:
python train.py --model pix2pix --dataroot AB
"""  # noqa: E501

import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.main import run_command
from cli.script import Command, positive
from data.prepare.batch import run_tasks
from data.prepare.pairs import add_joining_flags, check_folders_apart, find_pairs, join_tasks, top_folder
from util.errors import print_line


def main(argv, report):
    """Find the pairs, check them, and write them."""
    command = Command(__file__, __doc__)
    command.add_argument("--fold_A", required=True, metavar="FOLDER", help="images of A, with or without sub-folders")
    command.add_argument("--fold_B", required=True, metavar="FOLDER", help="images of B, in the same sub-folders")
    command.add_argument("--fold_AB", required=True, metavar="FOLDER", help="output folder for the pairs")
    command.add_argument(
        "--num_imgs",
        type=positive,
        default=1_000_000,
        metavar="N",
        help="maximum number of pairs per sub-folder (default: %(default)s)",
    )
    add_joining_flags(command)
    command.add_batch_flags()
    command.add_argument("--no_multiprocessing", action="store_true", help="same as --num_threads 1")
    o = command.parse_argv(argv)
    if o.no_multiprocessing:
        o.num_threads = 1
    for side in ("fold_A", "fold_B"):
        check_folders_apart(o, side, "fold_AB")
    chosen_pairs, counts = [], Counter[str]()
    for pair in find_pairs(o.fold_A, o.fold_B, o.use_AB, o.allow_missing):
        if counts[top_folder(pair.name)] < o.num_imgs:
            counts[top_folder(pair.name)] += 1
            chosen_pairs.append(pair)
    print_line(
        f"{len(chosen_pairs)} pairs: "
        + ", ".join(f"{count} in {top or 'no sub-folder'}" for top, count in counts.items())
    )
    if "" in counts:
        print_line(
            "note: pix2pix reads the sub-folder train; scripts/split.py splits one folder into train, val and test"
        )
    tasks, left_out = join_tasks(chosen_pairs, Path(o.fold_AB), o)
    run_tasks(tasks, o, Path(o.fold_AB), left_out)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
