"""Train two runs for tests of test.py, and check the pages and images that it writes."""

from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
from PIL import Image

from pages.results import Results
from tests.support.galleries import check_gallery
from tests.support.images import picture
from tests.support.runs import SMALL
from tests.support.training_runs import Page, run_in

TINY = [*SMALL, "--netG", "resnet_4blocks", "--n_epochs", 1, "--n_epochs_decay", 0]


def save_pairs(folder, count, first=0):
    """Write image pairs: A on the left and its negative on the right."""
    folder.mkdir(parents=True)
    for i in range(count):
        left = np.asarray(picture(first + i))
        Image.fromarray(np.concatenate([left, 255 - left], axis=1)).save(folder / f"{i}.png")


def pixels(path):
    return np.asarray(Image.open(path))


def pictures(folder):
    """Return {path below the folder: pixels} of all PNG files."""
    return {str(p.relative_to(folder)): pixels(p) for p in sorted(folder.rglob("*.png"))}


def make_results(folder, run, compare=True, generated=False, **flags):
    """Return the Results of a test of a run, below a folder, without the run."""
    o = {"results_dir": folder, "name": run, "phase": "test", "epoch": "latest", "load_iter": 0, "dataroot": "demo",
         "pairs": "auto", "checkpoints_dir": folder / "checkpoints", "display_winsize": 64, "aspect_ratio": 1.0,
         "range_A": "", "range_B": "", "results_only": "", "format": "auto", "num_results": 1, "metrics": (),
         "metric_weights": (), "download": False, "gpu_ids": "-1", "run_classes": [], "saved": {}}  # fmt: skip
    return Results(SimpleNamespace(**o | flags), "latest", compare, generated)


def check_page(page, again=()):
    """Check that each image is on exactly one page and that the gallery is valid; return the first page.

    again: images that a second row shows too, because unpaired sides have unequal numbers.
    """
    pages = check_gallery(page.parent)
    links = [unquote(src) for parsed in pages.values() for src in parsed.values("img", "src")]
    assert sorted(links) == sorted("images/" + name for name in [*pictures(page.parent / "images"), *again])
    return Page(page)


def trained(where):
    """Write the datasets `pairs` and `sides`, and train the runs p2p (batch norm, dropout) and cyc in a folder."""
    save_pairs(where / "pairs" / "train", 3, 50)
    save_pairs(where / "pairs" / "test", 7)
    for name, count in (("trainA", 2), ("trainB", 2), ("testA", 3), ("testB", 2)):
        (where / "sides" / name).mkdir(parents=True)
        for i in range(count):
            picture(len(name) * 1000 + ord(name[-1]) + i).save(where / "sides" / name / f"{i}.png")
    for flags in (
        ["--model", "pix2pix", "--dataroot", "pairs", "--name", "p2p", "--batch_size", 3, "--n_epochs", 3],
        ["--model", "cycle_gan", "--dataroot", "sides", "--name", "cyc"],
    ):
        ended = run_in(where, "train", *TINY, "--save_epoch_freq", 1, *flags)
        assert ended.code == 0, ended.err
    return where
