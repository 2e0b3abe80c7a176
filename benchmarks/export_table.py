"""Measure how much exports differ from their networks: every generator, norm and format (make export-table).

Networks have random weights, --ngf 8 and images of 64x64 pixels and another, odd size. Each file is loaded in a fresh
process. Writes the table of docs/export.md.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch
from torch import nn

from inference.export.exportable import Exportable
from inference.export.formats import FORMATS, write
from inference.export.generator_search import Generator
from inference.export.run_loading import smooth_picture
from inference.export.verification import Case, Verdict, samples_of, two_sizes, verify
from networks import GENERATORS, NORMS, generator
from networks.architectures.dcgan import ClassGenerator
from networks.architectures.stargan import StarGANGenerator
from networks.architectures.stylegan2 import NoiseInjection

PAGE, SIDE, LATENT_DIM, CLASSES = ROOT / "docs" / "export.md", 64, 16, 3
START, END = "<!-- table -->\n", "<!-- end of the table -->\n"
FILES = ("onnx", "torchscript", "torch_export")  # a file of safetensors holds the weights themselves
FLAGS: dict[str, Any] = dict(ngf=8, norm="instance", no_dropout=True, padding="reflect", init_type="normal",
                             init_gain=0.1, resize_conv=False, load_size=SIDE, crop_size=SIDE,
                             stylegan2_G_num_downsampling=1, stylegan2_G_size=0, n_downsample_global=4,
                             n_blocks_global=9, n_local_enhancers=1, n_blocks_local=3)  # fmt: skip
CLASS_GENERATOR, DOMAIN_GENERATOR = "cgan's own", "stargan's own"


def make_item(name: str, norm: str) -> Exportable:
    """Return a generator of the registry, or a model's own, with a norm and random weights and statistics."""
    torch.manual_seed(0)
    if name == CLASS_GENERATOR:
        net: nn.Module = ClassGenerator(CLASSES, 3, SIDE, LATENT_DIM, LATENT_DIM, 8, norm)
        inputs = {"z": torch.randn(2, LATENT_DIM), "label": torch.arange(2)}
    elif name == DOMAIN_GENERATOR:
        net, inputs = StarGANGenerator(3, CLASSES, 8), {"image": _images(), "domain": torch.eye(2, CLASSES)}
    else:
        from_noise = name in ("dcgan", "sngan_resnet")
        net = generator(SimpleNamespace(**FLAGS | {"netG": name, "norm": norm}), LATENT_DIM if from_noise else 3, 3)
        inputs = {"z": torch.randn(2, LATENT_DIM)} if from_noise else {"image": _images()}
    for part in net.modules():
        if isinstance(part, NoiseInjection):
            nn.init.constant_(part.weight, 0.3)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 2)  # type: ignore[arg-type]
    item = Exportable(Generator("G", net.eval().requires_grad_(False), inputs), (SIDE, SIDE), classes=CLASSES)
    return replace(item, free="N" if item.why_not_free() else "NHW")


def _images() -> torch.Tensor:
    return torch.stack([smooth_picture(3, SIDE, SIDE, torch.Generator().manual_seed(n)) for n in range(2)])


def norms_of(name: str) -> list[str]:
    """Return the norms that change a generator; StyleGAN2's have none, and StarGAN's has its own."""
    return ["none"] if "stylegan2" in name else ["instance"] if name == DOMAIN_GENERATOR else list(NORMS)


def measure(rows: list[tuple[str, str]], formats: tuple[str, ...], folder: Path) -> dict[tuple[str, str, str], Any]:
    """Return {(generator, norm, format): Verdict, or the text of an error}."""
    found: dict[tuple[str, str, str], Any] = {}
    cases: dict[tuple[str, str, str], Case] = {}
    for number, (name, norm) in enumerate(rows):
        item = make_item(name, norm)
        for kind in formats:
            file = folder / f"{number}{FORMATS[kind].suffix}"
            try:
                write(kind, item, file)
            except Exception as problem:  # of any library: a cell of the table
                found[name, norm, kind] = f"{type(problem).__name__}: {problem}".splitlines()[0][:80]
                continue
            cases[name, norm, kind] = Case(kind, item, file, samples_of(item, []))
            print(name, norm, kind, flush=True)
    return found | dict(zip(cases, verify(list(cases.values())), strict=True))


def format_table(rows: list[tuple[str, str]], formats: tuple[str, ...], found: dict[tuple[str, str, str], Any]) -> str:
    """Return the table in Markdown: a row for each generator and norm."""

    def cell(verdict: Any) -> str:
        if not isinstance(verdict, Verdict):
            return str(verdict)
        return verdict.error or f"{verdict.largest:.1e}"

    lines = [f"| generator | norm | sizes | {' | '.join(formats)} |", "|---|---|---|" + "---|" * len(formats)]
    for name, norm in rows:
        sizes = ", ".join(f"{w}x{h}" for h, w in dict.fromkeys(two_sizes(make_item(name, norm))))
        lines.append(f"| {name} | {norm} | {sizes} | {' | '.join(cell(found[name, norm, f]) for f in formats)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all rows, print them and write them to the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--formats", default=",".join(FILES), help="comma-separated")
    parser.add_argument(
        "--generators", default=",".join([*GENERATORS, CLASS_GENERATOR, DOMAIN_GENERATOR]), help="comma-separated"
    )
    parser.add_argument("--norms", default="", help="comma-separated; default: all")
    parser.add_argument("--dry_run", action="store_true", help="write nothing")
    o = parser.parse_args()
    formats, wanted = tuple(o.formats.split(",")), o.norms.split(",") if o.norms else list(NORMS)
    rows = [(name, norm) for name in o.generators.split(",") for norm in norms_of(name)]
    rows = [(name, norm) for name, norm in rows if norm in wanted or "stylegan2" in name]
    with tempfile.TemporaryDirectory(prefix="ganvas_table_") as folder:
        text = format_table(rows, formats, measure(rows, formats, Path(folder)))
    print(text)
    if not o.dry_run:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page[: page.index(START) + len(START)], page[page.index(END) :]
        PAGE.write_text(before + text + after, encoding="utf-8")


if __name__ == "__main__":
    main()
