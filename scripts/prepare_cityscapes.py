"""Make pairs from Cityscapes: python scripts/prepare_cityscapes.py --gtFine_dir gtFine --leftImg8bit_dir leftImg8bit --output_dir DATA.

Cityscapes may not be redistributed: register at https://www.cityscapes-dataset.com, download gtFine_trainvaltest.zip
and leftImg8bit_trainvaltest.zip there, and unpack both. Its train becomes train (photograph on the left, colours of
labels on the right), trainA (photographs) and trainB (labels). Its val becomes test, testA and testB. Files keep
Cityscapes' names: CITY_SEQUENCE_FRAME.
"""  # noqa: E501

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli.main import run_command
from cli.script import Command, size
from data.prepare import lossless
from data.prepare.batch import Task, format_names, run_tasks
from data.prepare.pairs import FORMATS, Pair
from util.errors import DataError, count_text, print_line

PHASES = {"train": "train", "val": "test"}  # Cityscapes' phase: our phase; the labels of its test are not public
PHOTO_SUFFIX, LABELS_SUFFIX = "_leftImg8bit.png", "_gtFine_color.png"


def find_pairs(photos: Path, labels: Path, phase: str) -> list[Pair]:
    """Return the pairs of a phase of Cityscapes, in order of name; raise DataError naming files without a partner."""
    sides = []
    for root, ending in ((photos, PHOTO_SUFFIX), (labels, LABELS_SUFFIX)):
        folder = root / phase
        side = {path.name.removesuffix(ending): path for path in sorted(folder.glob("*/*" + ending))}
        if not side:
            inside = format_names(sorted(path.name for path in root.iterdir())) if root.is_dir() else "no such folder"
            why = f"holds no CITY/*{ending} ({root} has {inside or 'nothing'})"
            raise DataError("folder", folder, why, "unpack Cityscapes' zip files and give their folders")
        sides.append(side)
    unpaired = sorted(sides[0].keys() ^ sides[1].keys())
    if unpaired:
        why = f"{len(unpaired)} have only a photograph or only labels: {format_names(unpaired)}"
        raise DataError("folders", f"{photos / phase} and {labels / phase}", why, "unpack both zip files again")
    return [Pair(name, sides[0][name], sides[1][name]) for name in sorted(sides[0])]


def read_resized(path: Path, o, resample: str) -> lossless.LosslessImage:
    """Return an image at the requested size, without the alpha of Cityscapes' labels, which has no meaning."""
    image = lossless.read_image(path)
    return lossless.resize(lossless.LosslessImage(image.values[..., :3], image.format), o.size, resample)


def write_picture(pair: Pair, path: Path, o, content: str) -> None:
    """Write a pair's photograph (content "A"), its labels ("B"), or both side by side ("AB")."""
    sources = {"A": (pair.A, "bicubic"), "B": (pair.B, o.resample_labels)}
    images = [read_resized(source, o, resample) for source, resample in (sources[side] for side in content)]
    image = images[0] if len(images) == 1 else lossless.join_side_by_side(images[0], images[1], pair.name)
    lossless.write_image(image, path, o.format, quality=100)


def main(argv, report):
    """Find the pairs of both phases, check that each is complete, and write three images for each."""
    command = Command(__file__, __doc__)
    command.add_folder("--gtFine_dir", "folder of the labels, with train and val")
    command.add_folder("--leftImg8bit_dir", "folder of the photos, with train and val")
    command.add_folder("--output_dir", "output folder for train, trainA, ...")
    text = "size of each half (default: 256)"
    command.add_argument("--size", type=size, default=(256, 256), metavar="WxH", help=text)
    text = "bicubic mixes colours at borders, as in published results; nearest does not"
    command.add_value("--resample_labels", "bicubic", text, choices=tuple(lossless.RESAMPLE_FILTERS))
    command.add_value("--format", "jpg", "jpg has quality 100", choices=("jpg", "png"))
    command.add_batch_flags()
    o = command.parse_argv(argv)
    o.format, suffix = FORMATS[o.format], "." + o.format
    tasks = []
    for phase, our_phase in PHASES.items():
        pairs = find_pairs(Path(o.leftImg8bit_dir), Path(o.gtFine_dir), phase)
        print_line(f"{phase}: {count_text(len(pairs), 'pair')}")
        for pair in pairs:
            for folder, content in (("", "AB"), ("A", "A"), ("B", "B")):
                target = Path(o.output_dir, our_phase + folder, pair.name + suffix)
                tasks.append(Task(target, pair.A, partial(write_picture, pair, o=o, content=content)))
    run_tasks(tasks, o, Path(o.output_dir))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
