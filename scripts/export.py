"""Export a run's generator, verified: python scripts/export.py --name NAME --format onnx.

The file is loaded again in a fresh process and compared with the network on images of two sizes; it is only kept if no
value differs by more than 1/255 of the range. Formats: onnx (ONNX Runtime and others), torch_export
(torch.export.load), torchscript (torch.jit.load, C++), safetensors (weights and architecture), web (a folder for a web
host: a page on which the generator runs in the browser). docs/export.md shows how to use them.
Flags after -- are those of test.py, such as the architecture of other programs' weights: -- --netG unet_256.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.main import run_command
from cli.script import Command, size
from inference.export.exportable import Exportable
from inference.export.formats import FORMATS, check_format
from inference.export.generator_search import Generator
from inference.export.label_maps import label_palette
from inference.export.page_facts import page_facts
from inference.export.run_loading import LoadedRun, load_run
from inference.export.verification import Verdict, check_target, export_verified, two_sizes
from inference.export.web_runtime import runtime_files
from options import store
from pages.generator_page import GENERATOR, write_generator_page
from registry import discovery
from util.disk_space import format_bytes
from util.errors import OptionError, print_line

MAX_SIDE = 512  # pixels of the images that a generator with free sizes is recorded with
WEB, WEB_PICTURES = "web", 24  # of these images are the colours that the page draws with
WEB_INPUTS = ({"image"}, {"image", "z"}, {"z"}, {"z", "label"}, {"labels"}, {"labels", "z"}, {"labels", "instances"},
              {"labels", "instances", "z"})  # fmt: skip


def make_parser() -> Command:
    """Return the command-line parser."""
    parser = Command(__file__, __doc__)
    parser.add_argument("--name", required=True, metavar="RUN", help="the run, a folder in --checkpoints_dir")
    parser.add_argument("--format", required=True, choices=(*FORMATS, WEB), help="what is written")
    parser.add_value("--checkpoints_dir", "./checkpoints", "folder of the runs")
    parser.add_value("--results_dir", "./results/", "the file goes to NAME/export in this folder")
    parser.add_argument("--output", metavar="FILE", help="write this file instead; of --format web, this folder")
    parser.add_value("--epoch", "latest", "weights: an epoch's number, latest, best or best_METRIC")
    parser.add_argument("--load_iter", type=int, help="weights saved as iter_N instead")
    parser.add_argument("--direction", choices=("AtoB", "BtoA"), help="which generator of a run that has two")
    parser.add_argument("--network", default="", metavar="NAME", help="another network of the model, by its name")
    parser.add_argument("--size", type=size, help="for images of this size alone, WIDTH or WIDTHxHEIGHT")
    parser.add_switch("--pixels", "take and give uint8 (H, W, C) instead of float (N, C, H, W) in [-1, 1]")
    parser.add_switch("--half", "16-bit weights and computation: half the size of the file")
    parser.add_argument("--images", default="", metavar="PATH", help="verify with these images; default: the run's own")
    parser.add_argument("--credit", default="", metavar="TEXT", help="a line for the page of --format web, on its data")
    parser.add_argument("--plugin", action="append", default=[], metavar="PATH", help="a file or folder with plug-ins")
    return parser


def test_flags(o: Any, more: list[str]) -> list[str]:
    """Return the flags of test.py that find the run."""
    argv = ["--name", o.name, "--checkpoints_dir", o.checkpoints_dir, "--epoch", o.epoch, *more]
    argv += ["--load_iter", str(o.load_iter)] if o.load_iter else []
    argv += ["--direction", o.direction] if o.direction else []
    return argv + [word for path in o.plugin for word in ("--plugin", path)]


def make_item(run: LoadedRun, generator: Generator, o: Any) -> Exportable:
    """Return what is exported of a run."""
    if o.pixels and (why := run.why_no_pixels(generator)):
        raise OptionError("option", "--pixels", f"{run.o.model} cannot be a function of pixels: {why}", "omit it")
    if o.size and not generator.takes_image:
        raise OptionError("option", "--size", f"{run.o.model} makes images of one size, from noise", "omit it")
    if o.images and not generator.takes_image:
        raise OptionError("option", "--images", f"{run.o.model} makes images from noise", "omit it")
    width, height = o.size or (min(run.spec.width, MAX_SIDE), min(run.spec.height, MAX_SIDE))
    item = Exportable(generator, (height, width), o.pixels, o.half, max(1, len(run.spec.classes)))
    item.about = about(run, generator, item)
    return item


def about(run: LoadedRun, generator: Generator, item: Exportable) -> dict[str, Any]:
    """Return the table that a file holds: its inputs, the range of its values, and the run's architecture."""
    values = "pixels 0 to 255, uint8, (H, W, C)" if item.pixels else "-1 to 1, float32, (N, C, H, W)"
    maps = " and ".join(name for name in item.names if name in ("labels", "instances"))
    values = f"{maps}: ids, int64, (N, H, W); others {values}" if maps else values
    found = {"network": generator.name, "inputs": item.names, "values": values, "classes": list(run.spec.classes)}
    ranges = {"range_A": run.o.range_A or "0,255 uint8", "range_B": run.o.range_B or "0,255 uint8"}
    return found | ranges | store.architecture(run.o, run.folder)


def default_target(run: LoadedRun, generator: Generator, o: Any) -> Path:
    """Return RESULTS_DIR/NAME/export/WHICH_net_NETWORK with what tells the files of several exports apart."""
    marks = [f"_{o.size.width}x{o.size.height}"] if o.size else []
    marks += [f"_{name}" for name in ("pixels", "half") if getattr(o, name)]
    stem = f"{run.which}_net_{generator.name}{''.join(marks)}"
    suffix = "_web" if o.format == WEB else FORMATS[o.format].suffix
    return Path(o.results_dir, run.o.name, "export", stem + suffix)


def check_options(o: Any) -> None:
    """Raise an error for options that have no effect on a format, and if a package of it is missing."""
    check_format("onnx" if o.format == WEB else o.format, o.pixels)
    if o.format == "safetensors" and o.size:
        raise OptionError("option", "--size", "safetensors hold weights alone, for any size", "omit it")
    if o.format == WEB and (o.pixels or o.half):
        which = "--pixels" if o.pixels else "--half"
        why = "--format web has no use for it: the page converts pixels, and stores 16-bit weights"
        raise OptionError("option", which, why, "omit it")
    if o.format != WEB and o.credit:
        raise OptionError("option", "--credit", "is a line of the page of --format web", "omit it")


def export_file(run: LoadedRun, generator: Generator, o: Any) -> None:
    """Export a generator to one file."""
    if o.format == "safetensors" and not generator.is_network:
        why = "holds one network, and several make this model's images"
        raise OptionError("option", "--format safetensors", why, "name one with --network, or use another format")
    item, target = make_item(run, generator, o), Path(o.output) if o.output else default_target(run, generator, o)
    check_target(target, o.format)
    if o.format == "torchscript":
        print_line("note: Python 3.14 and later have no TorchScript: for them use --format torch_export, or onnx")
    written, verdict = export_one(o.format, item, target, run, o)
    print_line(f"{target}: {', '.join(written.names)} -> picture, {json.dumps(written.about['values'])[1:-1]}")
    print_verdict(written, verdict, run)


def export_page(run: LoadedRun, generator: Generator, o: Any) -> None:
    """Export a generator to a folder with a page on which it runs."""
    is_of_labels = "labels" in generator.inputs
    why = run.why_no_picture(generator) if is_of_labels else run.why_no_pixels(generator)
    if set(generator.inputs) not in WEB_INPUTS:
        why = f"it needs {', '.join(generator.inputs)}, and a page can give images, noise and classes alone"
    if why:
        raise OptionError("option", "--format web", f"{run.o.model} cannot run on a page: {why}", "use --format onnx")
    item = make_item(run, generator, o)
    target = Path(o.output) if o.output else default_target(run, generator, o)
    check_target(target / GENERATOR, "onnx")
    runtime = runtime_files()
    item.small = True
    written, verdict = export_one("onnx", item, target / GENERATOR, run, o)
    height, width = (run.spec.height, run.spec.width) if written.about["sizes"] == "any" else written.size
    palette = label_palette(run.o, run.pictures) if is_of_labels else None
    facts = {"width": width, "height": height} | page_facts(generator, run.pictures, written.about, palette)
    write_generator_page(target, run.o.name, facts, runtime, o.credit)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print_line(f"{target}: a page for any web server, {format_bytes(size)}, with weights of 16 bits")
    print_verdict(written, verdict, run)
    if "instances" in generator.inputs:
        print_line("note: the page has no instance maps: objects of one class that touch are drawn as one object")
    print_line(f"try it: python scripts/draw.py --page {shlex.quote(str(target))}")


def export_one(name: str, item: Exportable, target: Path, run: LoadedRun, o: Any) -> tuple[Exportable, Verdict]:
    """Write and verify a file; say if it is for one size alone."""
    plugins = tuple(discovery.paths())
    written, verdict, reason = export_verified(name, item, target, run.pictures, plugins, bool(o.size))
    if reason:
        height, width = item.size
        print_line(f"note: {item.generator.name} is exported for images of {width}x{height} alone: {reason}")
    return written, verdict


def print_verdict(written: Exportable, verdict: Verdict, run: LoadedRun) -> None:
    """Say with which images a file was verified, and how much it differs."""
    sizes = " and ".join(f"{width}x{height}" for height, width in dict.fromkeys(two_sizes(written)))
    tried = f"{run.origin}, {sizes}" if written.takes_image else f"noise, {sizes}"
    print_line(
        f"verified in a fresh process on {tried}: largest difference {verdict.largest:.2g} of the range of values"
    )


def main(argv, report):
    """Export the generator of a run."""
    more = argv[argv.index("--") + 1 :] if "--" in argv else []
    o = make_parser().parse_argv(argv[: len(argv) - len(more) - 1] if "--" in argv else argv)
    check_options(o)
    run = load_run(test_flags(o, more), o.images, *([WEB_PICTURES] if o.format == WEB else []))
    export = export_page if o.format == WEB else export_file
    export(run, run.generator(o.network), o)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
