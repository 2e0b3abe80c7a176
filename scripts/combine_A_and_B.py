"""Join images of two folders side by side, as pix2pix reads them: python scripts/combine_A_and_B.py --fold_A A --fold_B B --fold_AB AB.

A/train/1.png and B/train/1.jpg become AB/train/1.png with A on the left; the same holds for val, test, any other
sub-folders, or none. Partners have equal names, extensions aside, or end in _A and _B. The values are kept exactly,
except that two JPEG files become one of quality 95 (--format png keeps these exactly, too). To train on the result:
python train.py --model pix2pix --dataroot AB
"""  # noqa: E501

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli.main import run_command
from cli.script import Command, positive
from data.prepare.batch import run_tasks
from data.prepare.pairs import add_joining_flags, check_folders_apart, find_pairs, join_tasks, top_folder
from util.errors import count_text, print_line


def main(argv, report):
    """Find the pairs, check them, and write them."""
    command = Command(__file__, __doc__)
    command.add_folder("--fold_A", "images of A, with or without sub-folders")
    command.add_folder("--fold_B", "images of B, in the same sub-folders")
    command.add_folder("--fold_AB", "output folder for the pairs")
    text = "maximum number of pairs per sub-folder"
    command.add_value("--num_imgs", 1_000_000, text, type=positive, metavar="N")
    add_joining_flags(command)
    command.add_batch_flags()
    command.add_switch("--no_multiprocessing", "same as --num_threads 1")
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
    places = ", ".join(f"{count} in {top or 'no sub-folder'}" for top, count in counts.items())
    print_line(f"{count_text(len(chosen_pairs), 'pair')}: {places}")
    if "" in counts:
        remedy = "scripts/split.py splits one folder into train, val and test"
        print_line(f"note: pix2pix reads the sub-folder train; {remedy}")
    tasks, left_out = join_tasks(chosen_pairs, Path(o.fold_AB), o)
    run_tasks(tasks, o, Path(o.fold_AB), left_out)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
