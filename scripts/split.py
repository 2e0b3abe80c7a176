"""Split one folder of images into train, val and test: python scripts/split.py --input PICTURES --output DATA.

The part that an image goes to depends only on its name (a hash of it), so adding images moves none of the others, and
images of equal names in two folders go to the same part. The fractions are therefore approximate. Sub-folders are kept.
"""

import os
import re
import shutil
import sys
from collections import Counter
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli.main import run_command
from cli.script import Command
from data.names.class_names import is_target_name
from data.names.phase_names import divided_phases
from data.prepare.batch import Task, run_tasks
from data.prepare.pairs import check_folders_apart, hash_fraction, list_images
from util.errors import DataError, OptionError, count_text, print_line

SPLITS = ("train", "val", "test")


def parse_args(argv):
    """Return the options of a command line; raise OptionError."""
    command = Command(__file__, __doc__)
    command.add_folder("--input", "folder of the images")
    command.add_folder("--output", "output folder for train, val and test")
    command.add_value("--train", 0.8, "0 to 1", metavar="SHARE")
    command.add_value("--val", 0.1, "0 to 1; test gets the rest", metavar="SHARE")
    text = (
        "keep images together if this matches the same text in their path below --input, or in its bracketed part: "
        "'^[^_]*' for cat_001.png, cat_002.png; '^[^/]+' for one folder per patient"
    )
    command.add_argument("--group", metavar="REGEX", default="", help=text)
    command.add_argument("--suffix", default="", metavar="TEXT", help="A makes trainA, valA and testA, for CycleGAN")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="another seed gives another split")
    transfer = command.add_mutually_exclusive_group()
    transfer.add_argument("--move", action="store_true", help="move the files; the default is to copy them")
    transfer.add_argument("--link", action="store_true", help="make symbolic links, which take no disk space")
    command.add_batch_flags()
    o = command.parse_argv(argv)
    if not (0 <= o.train <= 1 and 0 <= o.val <= 1 and o.train + o.val <= 1 + 1e-9):
        why = f"{o.train:g} and {o.val:g} are not fractions of one whole"
        raise OptionError("options", "--train and --val", why, "give two numbers from 0 to 1 with a sum of at most 1")
    if os.sep in o.suffix or "/" in o.suffix:
        raise OptionError("option", "--suffix", f"'{o.suffix}' cannot be part of a folder name", "give one such as A")
    try:
        o.group = re.compile(o.group)
    except re.error as problem:
        raise OptionError("option", "--group", f"is not a regular expression ({problem})", "see --help") from problem
    check_folders_apart(o, "input", "output")
    return o


def split_key(path: Path, group: re.Pattern) -> str | None:
    """Return the text that decides where an image goes, its name or its group's; None if --group does not match."""
    if not group.pattern:
        return path.with_suffix("").as_posix()
    match = group.search(path.as_posix())
    return match and (match[1] if group.groups else match[0])


def assign_split(name: str, o) -> str:
    """Return train, val or test for the name of an image or group."""
    position = hash_fraction(name, o.seed)
    return "train" if position < o.train else "val" if position < o.train + o.val else "test"


def _hard_link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)  # the file has two names until the source is deleted
    except OSError:  # another disk, or one without hard links
        shutil.copy2(source, path)


def main(argv, report):
    """Assign the images to parts by the hashes of their names, and copy, move or link them."""
    o = parse_args(argv)
    paths = list_images(o.input)
    keys = {path: name for path in paths if (name := split_key(path, o.group)) is not None}
    if len(keys) < len(paths):
        unmatched = next(path for path in paths if path not in keys)
        why = f"matches nothing in {len(paths) - len(keys)} of {len(paths)} names, such as {unmatched}"
        raise OptionError("option", "--group", why, "make it match all names")
    divided = sorted(divided_phases({path.parts[0] for path in paths if len(path.parts) > 1}))
    if divided and not o.group.pattern:
        remedy = f"give one of them, such as --input {Path(o.input, divided[-1])}, or mix them with --group"
        raise DataError("folder", o.input, f"is divided already, into {', '.join(divided)}", remedy)
    masks = [path for path in paths if is_target_name(path.stem)]
    if 0 < len(masks) < len(paths) and not o.group.pattern:
        said = f"note: {len(masks)} of {count_text(len(paths), 'image')} are named like masks, such as '{masks[0]}'"
        print_line(f"{said}: images and their masks go to one part only with --group, such as '^([^_.]+)'")
    counts: Counter[str] = Counter()
    tasks = []
    for path in paths:
        split, source = assign_split(keys[path], o), Path(o.input, path)
        target = Path(o.output, split + o.suffix, path)
        counts[split] += 1
        link = os.path.relpath(source.resolve(), target.parent.resolve())
        write = partial(os.symlink, link) if o.link else partial(_hard_link if o.move else shutil.copy2, source)
        others = (Path(o.output, other + o.suffix, path) for other in SPLITS if other != split)
        if there := next(filter(os.path.lexists, others), None):
            remedy = "use the --seed, --train, --val and --group of before, or another --output"
            raise DataError("image", there, f"is of an earlier split, and this one puts it into {split}", remedy)
        tasks.append(Task(target, source, write, move_source=o.move))
    groups = f" in {len(set(keys.values()))} groups" if o.group.pattern else ""
    images = count_text(len(paths), "image")
    print_line(f"{images}{groups}: " + ", ".join(f"{split} {counts[split]}" for split in SPLITS))
    if not counts["train"] and o.train:
        raise DataError("folder", o.input, f"none of {images}{groups} goes to train", "use another --seed")
    run_tasks(tasks, o, Path(o.output))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
