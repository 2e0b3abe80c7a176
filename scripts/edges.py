"""Draw the edges of photographs, for edges2photos: python scripts/edges.py --input PHOTOS --output PAIRS.

Each photograph becomes a pair: black lines on white on the left, the photograph on the right. Sub-folders are kept:
PHOTOS/train becomes PAIRS/train, and python train.py --model pix2pix --dataroot PAIRS trains on it. The detector is
Canny's (1986), not HED, which made the edges of edges2shoes and edges2handbags. HED is a network that finds the
outlines of objects from their texture and draws calmer lines, so a network trained on its drawings does worse on these.
It needs scikit-image: make extras.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

try:
    from skimage.feature import canny
    from skimage.morphology import remove_small_objects, skeletonize
except ModuleNotFoundError:  # optional: make extras
    canny = None  # type: ignore[assignment]

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli.main import run_command
from cli.script import Command, positive
from data.prepare import lossless
from data.prepare.batch import Task, run_tasks
from data.prepare.pairs import FORMATS, check_folders_apart, list_images, read_headers
from util.errors import EnvironmentFault, OptionError, are_text, print_line


def detect_edges(photo: np.ndarray, sigma: float, low: float, high: float, min_length: int) -> np.ndarray:
    """Return the edges of a photograph, uint8 (H, W, 3), as lines one pixel wide: bool (H, W).

    Each channel is blurred by a Gaussian of `sigma` pixels and searched for edges by Canny's detector. A line is kept
    where its slope, a fraction of white per pixel, is above `low`, if it is above `high` somewhere. The lines of all
    channels are joined and thinned. Lines of fewer than `min_length` pixels are dropped.
    """
    mask = np.zeros(photo.shape[:2], bool)
    for channel in np.moveaxis(photo.astype(np.float32) / 255, 2, 0):  # its slopes are sums of 8 differences
        mask |= canny(channel, sigma, 8 * low, 8 * high, mode="nearest")
    return remove_small_objects(skeletonize(mask), max_size=min_length - 1, connectivity=2)


def draw_edges(mask: np.ndarray, width: int = 1) -> np.ndarray:
    """Return a mask of edges as black lines on white, `width` pixels wide: uint8 (H, W)."""
    image = Image.fromarray(np.where(mask, 0, 255).astype(np.uint8))
    if width > 1:  # a minimum over an odd square; an even one would be half a pixel off
        image = image.filter(ImageFilter.MinFilter(width | 1))
    return np.asarray(image)


def write_pair(source: Path, path: Path, o, empty: list[Path]) -> None:
    """Write the drawing of one photograph, beside it unless --only_edges; `empty` gets photographs without a line."""
    photo = lossless.read_image(source)
    mask = detect_edges(lossless.to_rgb8(photo, source), o.sigma, o.low, o.high, o.min_length)
    empty += [] if mask.any() else [source]
    lines = lossless.LosslessImage(draw_edges(mask, o.line_width), o.format)
    if not o.only_edges:  # black and white are the same in any profile
        lines = lossless.join_side_by_side(replace(lines, profile=photo.profile), photo, str(source))
    lossless.write_image(lines, path, o.format)


def main(argv, report):
    """Find the photographs and draw their edges."""
    command = Command(__file__, __doc__)
    command.add_folder("--input", "the photographs")
    command.add_folder("--output", "output folder for the pairs")
    command.add_switch("--only_edges", "write only the drawings, in grey")
    command.add_value("--sigma", 1.5, "blur before; more draws less texture", metavar="PIXELS")
    slope = "slope that a line must reach somewhere, a share of white per pixel; more draws less"
    command.add_value("--high", 0.06, slope, metavar="SLOPE")
    command.add_value("--low", 0.03, "slope that it must have everywhere", metavar="SLOPE")
    command.add_value("--min_length", 10, "omit lines of fewer pixels", type=positive, metavar="PIXELS")
    command.add_value("--line_width", 1, "1, 3, 5, ...", type=positive, metavar="PIXELS")
    command.add_value("--format", "png", choices=("png", "jpg"))
    command.add_batch_flags()
    o = command.parse_argv(argv)
    if not (0 <= o.low <= o.high <= 1 and 0 < o.sigma <= 100):
        why = f"{o.sigma:g}, {o.low:g} and {o.high:g} are out of range"
        raise OptionError("options", "--sigma, --low and --high", why, "give 0 < sigma <= 100, 0 <= low <= high <= 1")
    if canny is None:
        raise EnvironmentFault("package", "scikit-image", "is not installed in this Python", "run make extras")
    check_folders_apart(o, "input", "output")
    o.format = FORMATS[o.format]
    headers, skipped = read_headers([Path(o.input, path) for path in list_images(o.input)], o)
    tasks, empty = [], list[Path]()
    for source in headers:
        target = Path(o.output, source.relative_to(o.input)).with_suffix(lossless.SUFFIXES[o.format])
        tasks.append(Task(target, source, partial(write_pair, source, o=o, empty=empty)))
    run_tasks(tasks, o, Path(o.output), skipped)
    if empty:
        said = f"{are_text(len(empty), 'drawing')} without a line, such as that of '{min(empty)}'"
        why = "no edge is as steep as --high and as long as --min_length"
        print_line(f"note: {said}: {why}; images of 12 bits and masks of 0 and 1 are almost black: brighten them first")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
