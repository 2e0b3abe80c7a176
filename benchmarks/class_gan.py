"""Measure whether cgan generates the requested classes, as a classifier of real images sees them, and their variety.

python benchmarks/class_gan.py --dataroot DIR [--size 32 --channels 1 --minutes 10 --samples 100] [-- train.py flags]
Trains with train.py for the given minutes (then sends Ctrl-C, like a user) and generates images with test.py. Prints
the classifier's accuracy on held-out real images and on generated ones, and the mean pixel distance within a class.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from data.decoding.images import open_image
from data.listing.files import list_files, list_folders
from data.transforms import to_tensor
from util.errors import print_line


def load_images(files, size, channels):
    """Return images (N, C, size, size) in [-1, 1]."""
    scaled = (open_image(f, channels).resize((size, size), Image.Resampling.BICUBIC) for f in files)
    return torch.stack([to_tensor(picture) for picture in scaled])


def make_classifier(channels, classes, size):
    """Return a small convolutional classifier: (N, C, size, size) -> (N, classes)."""
    layers, width, side = [], channels, size
    for n in (32, 64, 128):
        layers += [nn.Conv2d(width, n, 3, padding=1), nn.BatchNorm2d(n), nn.ReLU(), nn.MaxPool2d(2)]
        width, side = n, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(width * side * side, classes))


def train_classifier(images, labels, channels, classes, size, epochs):
    """Train a classifier on 4/5 of the images; return it and its accuracy on the held-out 1/5."""
    torch.manual_seed(0)
    order = torch.randperm(len(images))
    held_out, train_set = order[: len(order) // 5], order[len(order) // 5 :]
    net = make_classifier(channels, classes, size)
    adam = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(epochs):
        for batch in train_set[torch.randperm(len(train_set))].split(64):
            shift = torch.randint(-2, 3, (2,)).tolist()
            loss = F.cross_entropy(net(images[batch].roll(shift, (2, 3))), labels[batch])
            adam.zero_grad()
            loss.backward()
            adam.step()
    return net.eval(), accuracy(net, images[held_out], labels[held_out])


def accuracy(net, images, labels):
    """Return the share of images that the classifier assigns to their label."""
    with torch.no_grad():
        guesses = torch.cat([net(batch).argmax(1) for batch in images.split(256)])
    return (guesses == labels).float().mean().item()


def class_spread(images, labels, classes):
    """Return the mean L2 pixel distance between images of a class, averaged over the classes."""
    distances = [torch.pdist(images[labels == c].flatten(1)).mean().item() for c in range(classes)]
    return float(np.mean(distances))


def train_and_generate(args, extra):
    """Train for `args.minutes` and generate images; return their folder and the seconds of training."""
    name = f"class_gan_{Path(args.dataroot).name}"
    flags = f"--model cgan --crop_size {args.size} --output_nc {args.channels} --overwrite --display_id 0"
    flags += " --n_epochs 100000 --n_epochs_decay 0 --save_latest_freq 1000000"
    command = [sys.executable, str(ROOT / "train.py"), "--dataroot", args.dataroot, "--name", name, *flags.split()]
    start = time.monotonic()
    run = subprocess.Popen([*command, *extra], stdout=subprocess.DEVNULL)
    try:
        run.wait(args.minutes * 60)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGINT)
        run.wait()
    seconds = time.monotonic() - start
    if run.returncode not in (0, 130):
        sys.exit(run.returncode)
    results = tempfile.mkdtemp(prefix="class_gan_")  # new, so that no image of an earlier run is measured
    test = [sys.executable, str(ROOT / "test.py"), "--name", name, "--num_samples", str(args.samples)]
    subprocess.run([*test, "--results_dir", results], check=True)
    return Path(results, name, "test_latest", "images"), seconds


def main():
    """Train a classifier and cgan, generate images, and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataroot", required=True)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--samples", type=int, default=100, help="generated images of each class")
    parser.add_argument("--epochs", type=int, default=20, help="of the classifier")
    parser.add_argument("flags", nargs="*", help="further flags of train.py, after --")
    args = parser.parse_args()

    # Train the classifier on real images.
    classes = list_folders(args.dataroot)
    files = [list_files(str(Path(args.dataroot, name))) for name in classes]
    real = load_images(chain(*files), args.size, args.channels)
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(of_class) for of_class in files]))
    net, held_out = train_classifier(real, labels, args.channels, len(classes), args.size, args.epochs)
    print_line(f"classifier on {len(real)} real images, {len(classes)} classes: held-out accuracy {held_out:.4f}")

    # Train cgan and classify what it generates.
    folder, seconds = train_and_generate(args, args.flags)
    generated = [str(folder / f"{name}_{i:04d}_fake.png") for name in classes for i in range(args.samples)]
    fake = load_images(generated, args.size, args.channels)
    requested = torch.arange(len(classes)).repeat_interleave(args.samples)
    correct = accuracy(net, fake, requested)
    print(f"trained {seconds:.0f} s; {len(fake)} generated images: classified as requested {correct:.4f}")
    ratio = class_spread(fake, requested, len(classes)) / class_spread(real, labels, len(classes))
    print(f"mean pixel distance within a class, generated / real: {ratio:.4f}")


if __name__ == "__main__":
    main()
