"""Train CycleGAN on the generated `demo` images for a few minutes, test it, and print where the pages are.

python scripts/demo.py [--flag value ...]: further flags go to train.py. Training sees no pairs. The test images have
true partners, so that the distance of the translations to them can be measured.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path("results/demo/test_latest")
TRAIN_FLAGS = (
    "--netG resnet_4blocks --ngf 16 --ndf 16 --load_size 72 --crop_size 64 --n_epochs 4 --n_epochs_decay 4 "
    "--print_freq 32 --num_threads 0"
)


def run(script, flags, *argv):
    """Run train.py or test.py; exit with its exit code if it fails."""
    code = subprocess.call([sys.executable, str(ROOT / script), *flags.split(), *argv])
    if code:
        sys.exit(code)


def identity_l1():
    """Return the mean |real_A - real_B| over the test images, in units of [-1, 1]: the result of the identity."""
    files = [[f, f.with_name(f.name.replace("real_A", "real_B"))] for f in RESULTS.glob("images/*_real_A.png")]
    differences = [np.subtract(*(np.asarray(Image.open(f), np.float64) for f in pair)) for pair in files]
    return float(np.mean(np.abs(differences))) / 127.5


def main(extra):
    """Train, test, and print the addresses of the pages."""
    run("train.py", f"--dataroot demo --model cycle_gan --name demo --overwrite {TRAIN_FLAGS}", *extra)
    run("test.py", "--dataroot demo --name demo --dataset_mode aligned")
    ours, nothing = json.loads((RESULTS / "metrics.json").read_text())["mean"]["L1"], identity_l1()
    print(f"mean |fake_B - true B| = {ours:.4f}, mean |real_A - true B| = {nothing:.4f}: ratio {ours / nothing:.2f}")
    for page in ("checkpoints/demo/web/index.html", RESULTS / "index.html"):
        print("open:", Path(page).resolve().as_uri())


if __name__ == "__main__":
    main(sys.argv[1:])
