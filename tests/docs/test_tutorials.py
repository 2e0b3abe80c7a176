"""Every tutorial's commands run in order, with tiny settings, on data that lie as the tutorial says."""

import re
import shlex
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from tests.support.images import picture
from tests.support.runs import ROOT, SMALL, Ended
from tests.support.training_runs import run_in

PAGES = sorted((ROOT / "docs/tutorials").glob("*.md"))
TINY = [*SMALL, "--max_dataset_size", "2", "--n_epochs", "1", "--n_epochs_decay", "0", "--netG"]
NETWORKS = {"few_images": "sngan_resnet", "pix2pix": "unet_32", "mine": "unet_32"}


def commands(page):
    """Return the words of each command in the page's blocks marked sh."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture
def data(tmp_path):
    """A folder with data under the names that tutorials use."""
    for folder in ("horse2zebra/trainA", "horse2zebra/trainB", "horse2zebra/testA", "horse2zebra/testB", "photos",
                   "hands/rock", "hands/paper", "paintings"):  # fmt: skip
        (tmp_path / folder).mkdir(parents=True)
        for number in range(2):
            picture(number, 40, 40).save(tmp_path / folder / f"{number}.png")
    for name in ("facades", "labels"):
        for phase in ("train", "test"):
            (tmp_path / name / phase).mkdir(parents=True)
            picture(1, 80, 40).save(tmp_path / name / phase / "1.png")
    for folder in ("trainA", "trainB", "testA", "testB"):
        (tmp_path / "scans" / folder).mkdir(parents=True)
        values = np.random.default_rng(1).integers(0, 4096, (40, 40)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / "scans" / folder / "1.png")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_tutorial_run(page, data):
    for number, code in enumerate(re.findall(r"^ *```python\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)):
        (data / ["mine.py"][number]).write_text(textwrap.dedent(code))
    needed = commands(page)
    assert needed
    if needed[0][1] == "test.py":  # of a run of another tutorial
        needed.insert(0, ["python", *"train.py --model cycle_gan --dataroot horse2zebra --name h2z".split()])
    for program, *words in needed:
        place = words.index("train.py") if program == "torchrun" else 0
        (*launcher, script), argv = words[: place + 1], words[place + 1 :]
        assert program in ("python", "torchrun") and script in ("train.py", "test.py")
        if script == "train.py" and "--continue_train" not in argv:
            kind = argv[argv.index("--recipe" if "--recipe" in argv else "--model") + 1]
            argv += [*TINY, NETWORKS.get(kind, "resnet_4blocks")] if kind != "cgan" else TINY[:-1]
        argv += ["--gpu_ids", "-1"]
        ended = run_torchrun(data, launcher, argv) if launcher else run_in(data, script.removesuffix(".py"), *argv)
        assert ended.code == 0, (argv, ended.err)


def run_torchrun(folder, launcher, argv):
    """Run train.py in several processes, as the command torchrun does."""
    command = [sys.executable, "-m", "torch.distributed.run", *launcher, ROOT / "train.py", *argv]
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    return Ended(done.returncode, done.stdout, done.stderr)


def test_links_of_the_pages_lead_to_files():
    for page in [*PAGES, ROOT / "docs/tips.md"]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).is_file(), (page.name, link)


def test_the_tutorials_of_the_site_are_all_of_them():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert {page.name for page in PAGES} == set(re.findall(r"tutorials/(\w+\.md)", navigation))
