"""Scale all images of a folder: python scripts/resize.py --input PICTURES --output SMALL --size 256.

Names, sub-folders, formats and bit depths are kept (JPEG is written with quality 95). Use --resample nearest for label
maps: it creates no new values and keeps palettes.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli.main import run_command
from cli.script import Command, positive, size
from data.notes.label_maps import resampling_note
from data.prepare import lossless
from data.prepare.batch import Task, run_tasks
from data.prepare.pairs import FORMATS, check_folders_apart, list_images, output_suffix, read_headers
from util.errors import print_line


def target_size(width: int, height: int, o) -> tuple[int, int]:
    """Return the new size of an image of width x height."""
    if o.size:
        return o.size
    factor = o.short_side / min(width, height) if o.short_side else o.long_side / max(width, height)
    if o.only_shrink and factor > 1:
        return width, height
    return max(1, round(width * factor)), max(1, round(height * factor))


def write_resized(source: Path, path: Path, file_format: str, new_size: tuple[int, int], resample: str) -> None:
    """Write one image at its new size."""
    image = lossless.read_image(source, indexed=resample == "nearest")
    lossless.write_image(lossless.resize(image, new_size, resample), path, file_format)


def main(argv, report):
    """Read the sizes of the images and scale them."""
    command = Command(__file__, __doc__)
    command.add_folder("--input", "folder of the images")
    command.add_folder("--output", "output folder")
    sizes, text = command.add_mutually_exclusive_group(required=True), "256 or 512x256 (width x height)"
    sizes.add_argument("--size", type=size, metavar="WxH", help=f"{text}, for any aspect ratio")
    for name, side in (("--short_side", "shorter"), ("--long_side", "longer")):
        sizes.add_argument(name, type=positive, metavar="N", help=f"length of the {side} side; keeps proportions")
    command.add_value("--resample", "bicubic", choices=tuple(lossless.RESAMPLE_FILTERS))
    command.add_switch("--only_shrink", "with --short_side or --long_side: do not enlarge images")
    command.add_value("--format", "keep", "format of the new files", choices=("keep", *FORMATS))
    command.add_batch_flags()
    o = command.parse_argv(argv)
    check_folders_apart(o, "input", "output")
    headers, skipped = read_headers([Path(o.input, path) for path in list_images(o.input)], o)
    tasks = []
    for source, header in headers.items():
        file_format = header.format if o.format == "keep" else FORMATS[o.format]
        target = Path(o.output, source.relative_to(o.input))
        target = target.with_suffix(output_suffix(source, header, file_format, o.format))
        new_size = target_size(header.width, header.height, o)
        write = partial(write_resized, source, file_format=file_format, new_size=new_size, resample=o.resample)
        tasks.append(Task(target, source, write))
    if tasks and o.resample != "nearest" and (note := resampling_note(list(headers), "--resample nearest")):
        print_line(note)
    run_tasks(tasks, o, Path(o.output), skipped)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
