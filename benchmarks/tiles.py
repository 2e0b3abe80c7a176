"""Measure tiled inference: its difference from the whole image, its seams, and its memory.

python benchmarks/tiles.py [--run CHECKPOINTS/NAME] [--unet CHECKPOINTS/NAME] [--side 8192] [--tile 512]
--run: a trained ResNet run, --unet: a trained U-Net run; without them, small ones are trained on generated images for
some minutes. Prints the largest difference between tiles and the whole at 1024x1024, a U-Net's gradient energy at tile
borders relative to elsewhere, and the peak memory and time of a separate test.py process at --side.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image

from data.transforms import to_tensor
from inference.receptive_field import receptive_field
from inference.tiling import TiledForward, tile_spans
from networks import generator
from options.parse import parse
from serialization import weight_files
from util.errors import print_line
from util.size import Size

ROOT = Path(__file__).resolve().parent.parent
TRAIN_FLAGS = (
    "--model pix2pix --norm instance --ngf 8 --ndf 8 --no_dropout --gpu_ids -1 --n_epochs 12 --n_epochs_decay 4 "
    "--num_threads 0 --displays console"
)


def train_generator(folder, netG, side):
    """Train a small generator on generated images; return its run's folder."""
    flags = f"{TRAIN_FLAGS} --netG {netG} --name {netG} --load_size {side} --crop_size {side}".split()
    command = [sys.executable, str(ROOT / "train.py"), "--checkpoints_dir", str(folder), *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / netG


def load_generator(run):
    """Return a run's trained generator, G or G_A, in evaluation mode."""
    o = parse(["--name", run.name, "--checkpoints_dir", str(run.parent)], "test")
    path = next(p for p in (run / "latest_net_G.pth", run / "latest_net_G_A.pth") if p.is_file())
    net = generator(o, o.input_nc, o.output_nc)
    weight_files.load_into_network(net, weight_files.load_weights(path), path)
    return net.eval()


def make_scene(side):
    """Return a generated image with coarse and fine structure, darker on one side."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    coarse = coarse.resize((side, side), Image.Resampling.BICUBIC)
    for step in range(0, side, 1024):  # in strips, so that a huge image needs no more memory than its pixels
        strip = np.asarray(coarse.crop((step, 0, min(step + 1024, side), side))).astype(np.int16)
        strip = strip * 3 // 4 + rng.integers(0, 24, strip.shape, dtype=np.int16) + 40 * step // side
        coarse.paste(Image.fromarray(strip.astype(np.uint8)), (step, 0))
    return coarse


def tile_difference(net, tile):
    """Return the largest difference between tiles and the whole at 1024x1024, in 1/255 of the range, and seconds."""
    x, field = to_tensor(make_scene(1024))[None], receptive_field(net)
    assert field is not None, "a generator's output has the size of its input"
    with torch.inference_mode():
        whole = net(x)
        start = time.perf_counter()
        tiled = TiledForward(net, Size(tile, tile), int(np.ceil(field.radius)), field, shared=True)(x)
    return (tiled - whole).abs().max().item() / 2 * 255, time.perf_counter() - start


def seam_energy(net, tile, overlap):
    """Return (the energy of pixel differences across tile borders / elsewhere, the standard error of that ratio).

    Other places are multiples of 32, because a U-Net's output has a periodic pattern.
    """
    x, field = to_tensor(make_scene(1024))[None], receptive_field(net)
    assert field is not None, "a generator's output has the size of its input"
    with torch.inference_mode():
        tiled = TiledForward(net, Size(tile, tile), overlap, field, shared=True)(x)
    energy: list[float] = []
    others: list[float] = []
    for dim in (2, 3):
        steps = tiled.diff(dim=dim).square().mean([d for d in range(4) if d != dim])
        edges = {s.first - 1 for s in tile_spans(1024, tile, overlap, field.multiple, overlap)[1:]}
        energy += [steps[edge].item() for edge in edges]
        others += [steps[n].item() for n in range(31, len(steps), 32) if n not in edges]
    return float(np.mean(energy) / np.mean(others)), float(np.std(others) / np.mean(others) / len(energy) ** 0.5)


def translate_large(run, side, tile, folder):
    """Translate an image of side x side with test.py; return the peak memory in MB and the seconds."""
    (folder / "huge").mkdir()
    make_scene(side).save(folder / "huge" / "0.png", compress_level=1)
    argv = ["--name", run.name, "--checkpoints_dir", run.parent, "--results_dir", folder, "--dataroot", folder / "huge"]
    argv += f"--model test --dataset_mode single --preprocess none --gpu_ids -1 --tile {tile}".split()
    start = time.perf_counter()
    subprocess.run([sys.executable, ROOT / "test.py", *argv], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6  # of the largest child process
    return peak, time.perf_counter() - start


def main():
    """Run all measurements and print their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--unet", type=Path)
    parser.add_argument("--side", type=int, default=8192, help="0 skips this part")
    parser.add_argument("--tile", type=int, default=512)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = args.run or train_generator(folder, "resnet_9blocks", 64)
        unet = args.unet or train_generator(folder, "unet_64", 64)
        difference, seconds = tile_difference(load_generator(run), args.tile)
        against = f"tiles of {args.tile} against the whole at 1024"
        print_line(f"resnet, {against}: {difference:.5f}/255 at most, {seconds:.0f} s")
        for overlap in (args.tile // 8, 0):
            ratio, noise = seam_energy(load_generator(unet), args.tile // 2, overlap)
            print_line(f"U-Net, energy at borders, overlap {overlap}: {ratio:.3f} of elsewhere, noise {noise:.3f}")
        if args.side:
            peak, seconds = translate_large(run, args.side, args.tile, folder)
            print_line(f"test.py at {args.side}x{args.side}: peak {peak:.0f} MB, {seconds:.0f} s")


if __name__ == "__main__":
    main()
