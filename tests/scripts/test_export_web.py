"""scripts/export.py --format web writes a page on which the generator gives what test.py gives."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from cli.main import run_command
from inference.export.run_loading import load_run
from inference.export.web_runtime import FILES, PACKAGE
from scripts import export
from tests.support.browser.generator_pages import after_translation, opened, pixels
from tests.support.data_folders import save_label_maps
from tests.support.images import picture
from tests.support.runs import SMALL, Ended
from tests.support.training_runs import run_in
from util.cache_dir import cache_folder

TINY = [*SMALL, "--dataroot", "demo", "--max_dataset_size", 2, "--n_epochs", 1, "--n_epochs_decay", 0]
LABELS = ["--model", "pix2pixhd", "--dataroot", "city", "--label_nc", 3, "--no_vgg_loss"]
READY = all(map(find_spec, ("onnx", "onnxscript", "onnxruntime")))
CACHED = all((cache_folder() / "npm" / PACKAGE / file.rpartition("/")[2]).is_file() for file in FILES)
needs_extras = [pytest.mark.extras, pytest.mark.skipif(not (READY and CACHED), reason="not installed: make extras")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with runs: net, which translates, and z, which draws from noise."""
    folder = tmp_path_factory.mktemp("runs")
    save_label_maps(folder / "city")
    for name, flags in {
        "net": ["--model", "cycle_gan", "--netG", "resnet_4blocks"],
        "z": ["--model", "gan", "--netG", "dcgan", "--latent_dim", 6],
        "labels": [*LABELS, "--n_blocks_global", 1, "--num_D", 1],
    }.items():
        run_in(folder, "train", *TINY, *flags, "--name", name)
    return folder


@pytest.fixture
def exported(trained, monkeypatch, capsys):
    """exported(*argv) exports a page beside the runs -> Ended."""
    monkeypatch.chdir(trained)

    def run(*argv):
        capsys.readouterr()
        code = run_command(export.main, ["--format", "web", *map(str, argv)])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.mark.parametrize(("argv", "said"), [
    (["--name", "net", "--pixels"], "--format web has no use for it"),
    (["--name", "net", "--half"], "stores 16-bit weights"),
])  # fmt: skip
def test_flags_without_effect_are_refused(argv, said, exported):
    ended = exported(*argv)
    assert ended.code in (2, 5) and ended.err.count("\n") == 1 and (said in ended.last or not READY)


def test_a_credit_belongs_to_a_page(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    code = run_command(export.main, ["--name", "net", "--format", "torch_export", "--credit", "by me"])
    assert code == 2 and "is a line of the page of --format web" in capsys.readouterr().err


class TestWithExtras:
    pytestmark = needs_extras

    def test_the_browser_gives_the_pixels_of_test_py(self, exported, trained, browser):
        (trained / "given").mkdir()
        picture(3, 57, 45).save(trained / "given/1.png")
        ended = exported("--name", "net", "--direction", "AtoB", "--output", "page", "--credit", "drawn by a test")
        assert ended.code == 0 and "a page for any web server" in ended.out, ended.err
        run_in(trained, "test", "--name", "net", "--dataroot", "given", "--gpu_ids", "-1")
        (fake,) = trained.glob("results/net/*/images/*fake*.png")
        with opened(browser, trained / "page") as page:
            after_translation(page, lambda: page.set_input_files("input[type=file]", trained / "given/1.png"))
            made = pixels(page, ".stage > canvas").astype(int)
            assert page.get_by_text("drawn by a test").is_visible() and page.get_by_text("ms on CPU").is_visible()
        assert np.abs(made - np.asarray(Image.open(fake).convert("RGB"))).max() <= 2

    def test_a_label_map_is_drawn_in_the_colours_of_classes(self, exported, trained, browser):
        ended = exported("--name", "labels", "--output", "labels")
        assert ended.code == 0 and "objects of one class that touch are drawn as one object" in ended.out, ended.err
        given = trained / "city/test_label/0.png"
        picture(1, 40, 32).save(trained / "city/photo.png")
        with opened(browser, trained / "labels") as page:
            size = pixels(page, "canvas.easel").shape[1::-1]
            after_translation(page, lambda: page.set_input_files("input[type=file]", given))
            made, drawn = (pixels(page, selector).astype(int) for selector in (".stage > canvas", "canvas.easel"))
            page.set_input_files("input[type=file]", trained / "city/photo.png")
            page.get_by_text("is no label map").wait_for()
            titles = page.locator("button.swatch").evaluate_all("all => all.map(each => each.title)")
            assert len(titles) == 2 and titles[1] == "Class 2"  # the rarest comes last, the commonest is the paper
        ids = np.asarray(Image.open(given).resize(size, Image.Resampling.NEAREST)).astype(np.int64)
        assert {tuple(colour) for colour in np.unique(drawn.reshape(-1, 3), axis=0)} <= {(0, 0, 0), (128, 0, 0)}
        assert np.array_equal(drawn[:, :, 0] // 128, ids)
        run = load_run(["--name", "labels"])
        ids = torch.from_numpy(ids)[None]
        wanted = (run.generator().net(ids, ids).clamp(-1, 1) + 1) * 127.5
        assert np.abs(made - wanted[0].permute(1, 2, 0).round().numpy()).max() <= 2

    def test_noise_gives_pictures_of_every_class(self, exported, trained, browser):
        ended = exported("--name", "z", "--output", "sampler")
        assert ended.code == 0, ended.err
        with opened(browser, trained / "sampler") as page:
            page.wait_for_function("() => document.querySelectorAll('.choice canvas').length === 12")
            seen = set()
            for name in ("ball", "box", "cone", "ring"):
                after_translation(page, lambda: page.get_by_role("button", name=name).click())  # noqa: B023
                seen.add(pixels(page, ".stage > canvas").tobytes())
        assert len(seen) == 4
