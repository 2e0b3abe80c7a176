"""Scale all pictures of a folder: python scripts/resize.py --input PICTURES --output SMALL --size 256.

Names, sub-folders, formats and bits are kept (JPEG is written with quality 95). Use --resample nearest for label maps:
it makes no values that were not there, and keeps palettes.
"""

import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.main import guarded
from cli.script import Command, positive, size
from data.prepare import lossless
from data.prepare.batch import Task, carry_out
from data.prepare.pairs import FORMATS, apart, heads, pictures, suffix


def wanted(width: int, height: int, o) -> tuple[int, int]:
    """Return the new size of a picture of width x height."""
    if o.size:
        return o.size
    factor = o.short_side / min(width, height) if o.short_side else o.long_side / max(width, height)
    if o.only_shrink and factor > 1:
        return width, height
    return max(1, round(width * factor)), max(1, round(height * factor))


def scale(source: Path, path: Path, kind: str, to: tuple[int, int], resample: str) -> None:
    """Write one picture at its new size."""
    lossless.write(lossless.scaled(lossless.read(source, indexed=resample == "nearest"), to, resample), path, kind)


def main(argv, report):
    """Look at the pictures' sizes, scale them."""
    command = Command(__file__, __doc__)
    command.add_argument("--input", required=True, metavar="FOLDER", help="the pictures")
    command.add_argument("--output", required=True, metavar="FOLDER", help="where the scaled ones go")
    how = command.add_mutually_exclusive_group(required=True)
    how.add_argument("--size", type=size, metavar="WxH", help="256 or 512x256 (width x height), whatever the shape was")
    how.add_argument("--short_side", type=positive, metavar="N", help="the shorter side, the other in proportion")
    how.add_argument("--long_side", type=positive, metavar="N", help="the longer side, the other in proportion")
    command.add_argument(
        "--resample", choices=tuple(lossless.FILTERS), default="bicubic", help="(default: %(default)s)"
    )
    command.add_argument("--only_shrink", action="store_true", help="with a side: leave smaller pictures their size")
    command.add_argument("--format", choices=("keep", *FORMATS), default="keep",
                         help="of the new files (default: %(default)s)")  # fmt: skip
    command.add_batch_flags()
    o = command.read(argv)
    apart(o, "input", "output")
    known, bad = heads([Path(o.input, path) for path in pictures(o.input)], o)
    tasks = []
    for source, head in known.items():
        kind = head.format if o.format == "keep" else FORMATS[o.format]
        target = Path(o.output, source.relative_to(o.input))
        target = target.with_suffix(suffix(source, head, kind, o.format))
        to = wanted(head.width, head.height, o)
        tasks.append(Task(target, source, partial(scale, source, kind=kind, to=to, resample=o.resample)))
    carry_out(tasks, o, Path(o.output), [f"{path}: {problem.args[2]}" for path, problem in bad.items()])


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
