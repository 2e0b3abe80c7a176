"""Train CycleGAN on the generated `demo` pictures for a few minutes, test it, and print where the pages are.

python scripts/demo.py [--flag value ...]: further flags go to train.py.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--netG", "resnet_4blocks", "--ngf", "16", "--ndf", "16", "--load_size", "72", "--crop_size", "64",
         "--n_epochs", "4", "--n_epochs_decay", "4", "--print_freq", "32", "--num_threads", "0"]  # fmt: skip


def run(script, *argv):
    """Run train.py or test.py; end with its exit code if it fails."""
    code = subprocess.call([sys.executable, str(ROOT / script), *argv])
    if code:
        sys.exit(code)


def main(extra):
    """Train, test, and print the pages' addresses."""
    run("train.py", "--dataroot", "demo", "--model", "cycle_gan", "--name", "demo", "--overwrite", *SMALL, *extra)
    run("test.py", "--dataroot", "demo", "--name", "demo")
    for page in ("checkpoints/demo/web/index.html", "results/demo/test_latest/index.html"):
        print("look:", Path(page).resolve().as_uri())


if __name__ == "__main__":
    main(sys.argv[1:])
