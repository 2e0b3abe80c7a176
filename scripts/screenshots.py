"""Make a few small runs and take screenshots of every page in a browser, light and dark, wide and narrow.

python scripts/screenshots.py [--out screenshots]: needs Playwright (requirements-dev.txt) and Chromium. The screenshot
of the live plots also needs visdom's server and its page scripts. Runs are kept in OUT/runs.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.main import run_command
from cli.script import Command
from displays.visdom_server import is_visdom_running
from util.errors import EnvironmentFault

TRAIN_FLAGS = (
    "--dataroot demo --gpu_ids -1 --ngf 12 --ndf 12 --load_size 72 --crop_size 64 --print_freq 8 --overwrite "
    "--no_progress --n_epochs_decay 4"
)
RUNS = {  # name: flags of train.py
    "balls": "--model pix2pix --netG unet_64 --n_epochs 8",
    "balls_wgangp": "--model pix2pix --netG unet_64 --gan_mode wgangp --n_epochs 8",
    "shapes": "--model cgan --ngf 24 --ndf 24 --sample_epoch_freq 4 --batch_size 16 --n_epochs 36",
}
PAGES = {  # screenshot: page, relative to the folder of the runs
    "training": "checkpoints/balls/web/index.html",
    "results": "results/balls/test_latest/index.html",
    "cgan": "results/shapes/test_latest/index.html",
    "cgan_training": "checkpoints/shapes/web/index.html",
    "compare": "results/compare/index.html",
}
CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run"
)


def run(folder, script, *argv):
    """Run a script in a folder; exit with its exit code if it fails."""
    code = subprocess.call([sys.executable, str(ROOT / script), *argv], cwd=folder)
    if code:
        sys.exit(code)


def make_runs(folder):
    """Train and test everything that the pages show."""
    for name, flags in RUNS.items():
        live = ["--start_visdom", "--display_freq", "64"] if name == "balls" else ["--display_id", "0"]
        run(folder, "train.py", *TRAIN_FLAGS.split(), *flags.split(), "--name", name, *live)
        run(folder, "test.py", "--name", name, *(["--num_samples", "40"] if name == "shapes" else []))
    run(folder, "scripts/compare.py", "balls", "balls_wgangp", "--output", "results/compare")


def take_screenshots(browser, address, out, name):
    """Take a screenshot of an address in every width and colour scheme; print the errors of the page."""
    for scheme in ("light", "dark"):
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.on("console", lambda message: message.type == "error" and print(f"{name}: {message.text}"))
            page.on("pageerror", lambda error: print(f"{name}: {error}"))
            page.goto(address, wait_until="load")
            page.wait_for_load_state("networkidle")
            page.screenshot(path=out / f"{name}_{width}_{scheme}.png")
            page.close()
    print(f"{name}: {address}")


def main(argv, report):
    """Make the runs, then the screenshots."""
    command = Command(__file__, __doc__)
    command.add_value("--out", "screenshots", "output folder", metavar="FOLDER")
    out = Path(command.parse_argv(argv).out)
    runs = out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise EnvironmentFault(
            "browser", "chromium", "is not installed", "install it (Debian: apt-get install chromium)"
        )
    from playwright.sync_api import sync_playwright  # of requirements-dev.txt

    make_runs(runs)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS.split())
        for name, page in PAGES.items():
            take_screenshots(browser, (runs / page).resolve().as_uri(), out, name)
        if is_visdom_running("http://localhost:8097"):
            take_screenshots(browser, "http://localhost:8097/env/main", out, "visdom")
        else:
            print("visdom: no server answers at port 8097, so there is no screenshot of it")
        browser.close()


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
