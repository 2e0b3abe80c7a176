"""Measure how fast image pairs load: with plain Pillow like the reference, uncached, and from the cache.

python benchmarks/loading.py [--dataroot FOLDER] [--rounds 5] [--pairs 200] [--workers 0,2]
Images are scaled to 286 and cropped to 256; without --dataroot, 512x256 JPEG files are generated. The variants take
turns, so that other load on the machine affects each of them. Prints medians of pairs per second, their ratios to plain
Pillow, and whether the pixels are the same.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from data.listing.demo import Demo, draw_image
from data.listing.files import list_files
from data.loading.loader import Loader
from options.parse import parse
from registry.lookup import find

LOAD_SIZE, CROP_SIZE = 286, 256


class PlainDataset(Dataset):
    """A|B files through Pillow and torchvision, step by step: decode, split, scale, crop, flip, normalise."""

    def __init__(self, folder, count):
        self.paths = list(list_files(str(Path(folder, "train"))))[:count]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        pair = Image.open(self.paths[index]).convert("RGB")
        width, height = pair.size
        halves = pair.crop((0, 0, width // 2, height)), pair.crop((width // 2, 0, width, height))
        crop_position = random.randint(0, LOAD_SIZE - CROP_SIZE), random.randint(0, LOAD_SIZE - CROP_SIZE)
        flip = random.random() > 0.5
        A, B = (reference_transform(half, crop_position, flip) for half in halves)
        return {"A": A, "B": B, "A_paths": self.paths[index], "B_paths": self.paths[index]}


def reference_transform(image, crop_position, flip):
    """Return an image transformed like in the reference, (C, H, W) in [-1, 1]."""
    left, top = crop_position
    steps = [
        transforms.Resize([LOAD_SIZE, LOAD_SIZE], transforms.InterpolationMode.BICUBIC),
        transforms.Lambda(lambda i: i.crop((left, top, left + CROP_SIZE, top + CROP_SIZE))),
        transforms.Lambda(lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else i),
        transforms.ToTensor(),
        transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ]
    return transforms.Compose(steps)(image)


def write_pairs(folder, count):
    """Write generated demo pairs, enlarged to 512x256, as JPEG files."""
    (folder / "train").mkdir()
    names = Demo().list_images("demo/train")
    for number in range(count):
        image = draw_image(names[number % len(names)]).resize((512, 256), Image.Resampling.BICUBIC)
        image.save(folder / "train" / f"{number:04d}.jpg", quality=90)


def make_loader(folder, count, workers, cache):
    """Return a loader of the same dataset that train.py uses."""
    o = parse(
        [
            "--model",
            "pix2pix",
            "--dataroot",
            str(folder),
            "--name",
            "loading",
            "--num_threads",
            str(workers),
            "--cache",
            cache,
            "--max_dataset_size",
            str(count),
            "--overwrite",
        ],
        "train",
    )
    dataset = find("dataset", "aligned")(o)
    dataset.spec()
    loader = Loader(dataset, o, shuffle=True)
    loader.example_batch()  # as train.py does for its trial step
    return loader


def batches_per_second(batches):
    """Return batches per second without the first batch, which starts the workers."""
    next(batches)
    start, number = time.perf_counter(), 0
    for _ in batches:
        number += 1
    return number / (time.perf_counter() - start)


def same_pixels(folder):
    """Return whether cached images equal uncached ones, and one of them equals plain Pillow's, bit for bit."""
    plain, cached = (make_loader(folder, 8, 0, cache) for cache in ("off", "ram"))
    for epoch in (1, 2):
        for one, other in zip(plain.epoch(epoch), cached.epoch(epoch), strict=True):
            if not (torch.equal(one["A"], other["A"]) and torch.equal(one["B"], other["B"])):
                return False
    batch = next(plain.epoch(1))
    pair = Image.open(batch["path_A"][0]).convert("RGB")
    half = pair.crop((0, 0, pair.width // 2, pair.height))
    positions = range(LOAD_SIZE - CROP_SIZE + 1)
    every = (reference_transform(half, (x, y), flip) for x in positions for y in positions for flip in (False, True))
    return any(torch.equal(batch["A"][0], one) for one in every)


def main():
    """Print a line for each variant and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataroot", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--workers", default="0,2")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.dataroot or Path(scratch)
        if not args.dataroot:
            write_pairs(folder, args.pairs)
        print(f"pixels equal plain Pillow's, cached or not: {same_pixels(folder)}")
        for workers in map(int, args.workers.split(",")):
            loaders = {cache: make_loader(folder, args.pairs, workers, cache) for cache in ("off", "ram")}

            # Measure the variants in turns.
            rates: dict[str, list[float]] = {"plain": [], "off": [], "ram": []}
            for _ in loaders["ram"].epoch(1):
                pass  # fills the cache
            for number in range(args.rounds):
                plain = DataLoader(PlainDataset(folder, args.pairs), batch_size=1, shuffle=True, num_workers=workers)
                rates["plain"].append(batches_per_second(iter(plain)))
                for cache, loader in loaders.items():
                    rates[cache].append(batches_per_second(loader.epoch(2 + number)))

            # Print their medians and ratios.
            for variant, description in (("plain", "plain Pillow"), ("off", "uncached"), ("ram", "from the cache")):
                median = statistics.median(rates[variant])
                ratio = statistics.median(x / y for x, y in zip(rates[variant], rates["plain"], strict=True))
                print(f"{workers} workers, {description:<16} {median:7.0f} pairs/s   {ratio:5.2f}x", flush=True)
            for loader in loaders.values():
                loader.close()


if __name__ == "__main__":
    main()
