"""test.py writes every image once, under its own name, with the right pixels, on one page."""

import json
import math
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from data.decoding.images import open_image
from data.transforms import to_tensor
from networks import generator
from options.parse import parse
from serialization import weight_files
from tests.support.architectures import NAMES
from tests.support.images import picture
from tests.support.runs import SMALL
from tests.support.tested_runs import TINY, check_page, pictures, pixels
from tests.support.training_runs import Page

GENERATORS = NAMES["generator"]
NORMS = NAMES["norm"]


# --- names and numbers of files


def test_the_names_and_the_folder_are_the_references(tested, runs, tmp_path):
    done = tested("--name", "p2p", "--dataroot", runs / "pairs")
    assert done.folder == tmp_path / "results" / "p2p" / "test_latest"
    expected = {f"{stem}_{label}.png" for stem in range(7) for label in ("real_A", "fake_B", "real_B")}
    assert set(os.listdir(done.images)) == expected
    assert set(os.listdir(done.folder)) == {"images", "index.html", "rows.js", "metrics.json"}
    page = check_page(done.page)
    assert page.texts["title"] == ["Experiment = p2p, Phase = test, Epoch = latest"]
    assert page.texts["h3"] == [str(stem) for stem in range(7)]
    assert page.images[:3] == [f"images/0_{label}.png" for label in ("real_A", "fake_B", "real_B")]
    assert "7 images -> results/p2p/test_latest/index.html" in done.out
    assert (runs / "checkpoints" / "p2p" / "test_opt.txt").is_file()


def test_more_than_fifty_pictures_are_all_tested(tested, tmp_path):
    """The reference stops at 50."""
    (tmp_path / "many" / "test").mkdir(parents=True)
    pair = np.concatenate([np.asarray(picture(1)), np.asarray(picture(2))], axis=1)
    for i in range(53):
        Image.fromarray(pair).save(tmp_path / "many" / "test" / f"{i:02d}.png")
    done = tested("--name", "p2p", "--dataroot", tmp_path / "many")
    assert len(os.listdir(done.images)) == 53 * 3 and "53 images" in done.out
    check_page(done.page)


@pytest.mark.parametrize("more", [[], ["--batch_size", 4], ["--batch_size", 2]], ids=["one", "four", "two"])
def test_num_test_is_exact(tested, runs, more):
    done = tested("--name", "p2p", "--dataroot", runs / "pairs", "--num_test", 5, *more)
    assert {name.split("_")[0] for name in os.listdir(done.images)} == {"0", "1", "2", "3", "4"}
    assert "5 images" in done.out


@pytest.mark.parametrize(
    ("flags", "folder", "prefix"),
    [
        (["--epoch", "1"], "test_1", "1"),
        (["--phase", "train"], "train_latest", "latest"),
        (["--epoch", "2", "--phase", "train"], "train_2", "2"),
        (["--load_iter", "6"], "test_latest_iter6", "iter_6"),
    ],
)
def test_phase_and_epoch_choose_folder_data_and_weights(tested, runs, tmp_path, flags, folder, prefix):
    run = tmp_path / "ck" / "p2p"
    shutil.copytree(runs / "checkpoints" / "p2p", run)
    shutil.copy(run / "1_net_G.pth", run / "iter_6_net_G.pth")
    for other in {p.name for p in run.glob("*_net_G.pth")} - {f"{prefix}_net_G.pth"}:
        (run / other).unlink()  # so that no others can be read
    done = tested("--name", "p2p", "--dataroot", runs / "pairs", "--checkpoints_dir", tmp_path / "ck", *flags)
    assert done.folder.name == folder
    assert len(os.listdir(done.images)) == 3 * (3 if "train" in flags else 7)
    phase, epoch = folder.split("_", 1)
    assert Page(done.page).texts["title"] == [f"Experiment = p2p, Phase = {phase}, Epoch = {epoch}"]


def test_the_results_dir_is_where_it_is_told(command, runs, tmp_path):
    ended = command(
        "test",
        "--name",
        "p2p",
        "--checkpoints_dir",
        runs / "checkpoints",
        "--dataroot",
        runs / "pairs",
        "--num_test",
        1,
        "--results_dir",
        "else where/r",
    )
    assert ended.code == 0, ended.err
    assert (tmp_path / "else where" / "r" / "p2p" / "test_latest" / "index.html").is_file()
    assert not (tmp_path / "results").exists()


def test_a_cycle_gan_shows_both_ways_and_no_identities(tested, runs):
    """Three pictures of A and two of B: as many rows as the larger side."""
    done = tested("--name", "cyc", "--dataroot", runs / "sides")
    of_B = [f"{i}_{label}.png" for i in range(2) for label in ("real_B", "fake_A", "rec_B")]
    of_A = [f"{i}_{label}.png" for i in range(3) for label in ("real_A", "fake_B", "rec_A")]
    assert sorted(os.listdir(done.images)) == sorted(of_A + of_B)
    check_page(done.page, again=of_B[:3])  # in order: the third of two is the first
    assert len(Page(done.page).texts["h3"]) == 3
    assert "mean" not in json.loads((done.folder / "metrics.json").read_text())  # nobody knows the true translations
    first = pixels(runs / "sides" / "testB" / "0.png")
    expected = np.asarray(Image.fromarray(first).resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(pixels(done.images / "0_real_B.png"), expected)


def test_more_targets_than_sources_keep_a_row_each(tested, runs, tmp_path):
    shutil.copytree(runs / "sides", tmp_path / "sides")
    shutil.move(tmp_path / "sides" / "testA", tmp_path / "sides" / "x")
    shutil.move(tmp_path / "sides" / "testB", tmp_path / "sides" / "testA")
    shutil.move(tmp_path / "sides" / "x", tmp_path / "sides" / "testB")
    done = tested("--name", "cyc", "--dataroot", tmp_path / "sides")
    assert len(pictures(done.images)) == (2 + 3) * 3
    check_page(done.page, again=[f"0_{label}.png" for label in ("real_A", "fake_B", "rec_A")])
    assert len(Page(done.page).texts["h3"]) == 3


def test_a_second_test_replaces_the_first(tested, runs):
    first = pictures(tested("--name", "p2p", "--dataroot", runs / "pairs").images)
    done = tested("--name", "p2p", "--dataroot", runs / "pairs")
    again = pictures(done.images)
    assert first.keys() == again.keys() and all(np.array_equal(first[k], again[k]) for k in first)
    check_page(done.page)


# --- pixels


def translated(runs, run, net, image):
    """What a run's generator makes of a picture in evaluation mode, computed from its .pth alone."""
    o = parse(["--name", run, "--checkpoints_dir", str(runs / "checkpoints")], "test")
    G = generator(o, 3, 3)
    G.load_state_dict(torch.load(runs / "checkpoints" / run / f"latest_net_{net}.pth", weights_only=True))
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        out = G.eval()(tensor)[0]
    return ((out.clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()


def close(a, b):
    """Whether two pictures are equal but for rounding: at most one level, in hardly any place."""
    difference = np.abs(a.astype(float) - b.astype(float))
    return difference.max() <= 1 and (difference > 0.5).mean() < 0.001


def test_the_pixels_are_the_networks_own(tested, runs):
    """From load_size = crop_size without flips, unlike training: the whole picture, scaled to 32x32."""
    done = tested("--name", "p2p", "--dataroot", runs / "pairs")
    for i in range(7):
        pair = Image.open(runs / "pairs" / "test" / f"{i}.png")
        A, B = (pair.crop(box).resize((32, 32), Image.Resampling.BICUBIC) for box in ((0, 0, 48, 40), (48, 0, 96, 40)))
        assert np.array_equal(pixels(done.images / f"{i}_real_A.png"), np.asarray(A))
        assert np.array_equal(pixels(done.images / f"{i}_real_B.png"), np.asarray(B))
        fake = pixels(done.images / f"{i}_fake_B.png")
        assert np.abs(fake - translated(runs, "p2p", "G", A)).max() <= 0.51
        assert fake.std() > 0


@pytest.mark.parametrize("suffix", ["_A", "_B"])
def test_one_side_of_a_cycle_gan_by_model_test(tested, runs, suffix):
    folder = runs / "sides" / f"test{suffix[-1]}"
    done = tested("--name", "cyc", "--model", "test", "--model_suffix", suffix, "--dataroot", folder)
    count = len(os.listdir(folder))
    assert set(os.listdir(done.images)) == {f"{i}_{label}.png" for i in range(count) for label in ("real", "fake")}
    for i in range(count):
        image = Image.open(folder / f"{i}.png").resize((32, 32), Image.Resampling.BICUBIC)
        fake = pixels(done.images / f"{i}_fake.png")
        assert np.abs(fake - translated(runs, "cyc", "G" + suffix, image)).max() <= 0.51


def test_the_batch_size_and_repeating_do_not_matter(tested, runs):
    """In evaluation mode no picture sees its neighbours; convolutions of batches may round otherwise."""
    one, again, three = (
        pictures(tested("--name", "p2p", "--dataroot", runs / "pairs", "--batch_size", n).images) for n in (1, 1, 3)
    )
    assert one.keys() == again.keys() == three.keys()
    assert all(np.array_equal(one[k], again[k]) for k in one)
    assert all(close(one[k], three[k]) for k in one)


def test_no_eval_uses_the_batch_and_dropout(tested, runs):
    one = pictures(tested("--name", "p2p", "--dataroot", runs / "pairs").images)
    as_trained = pictures(tested("--name", "p2p", "--dataroot", runs / "pairs", "--no_eval").images)
    three = pictures(tested("--name", "p2p", "--dataroot", runs / "pairs", "--no_eval", "--batch_size", 3).images)
    fakes = [f"{i}_fake_B.png" for i in range(7)]
    assert all(not close(one[k], as_trained[k]) for k in fakes)
    assert any(not close(as_trained[k], three[k]) for k in fakes)  # other companions, other statistics
    assert all(np.array_equal(one[k], as_trained[k]) for k in one.keys() - set(fakes))


def test_eval_is_accepted_as_in_the_reference(tested, runs):
    default = pictures(tested("--name", "p2p", "--dataroot", runs / "pairs").images)
    given = pictures(tested("--name", "p2p", "--dataroot", runs / "pairs", "--eval").images)
    assert all(np.array_equal(default[k], given[k]) for k in default)


@pytest.mark.parametrize(
    ("ratio", "size"), [("1.0", (32, 32)), ("2.0", (64, 32)), ("1.5", (48, 32)), ("0.5", (32, 64))]
)
def test_the_aspect_ratio_stretches_what_is_saved(tested, runs, ratio, size):
    done = tested("--name", "p2p", "--dataroot", runs / "pairs", "--num_test", 1, "--aspect_ratio", ratio)
    assert {Image.open(p).size for p in done.images.iterdir()} == {size}
    A = Image.open(runs / "pairs" / "test" / "0.png").crop((0, 0, 48, 40)).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(pixels(done.images / "0_real_A.png"), np.asarray(A.resize(size, Image.Resampling.BICUBIC)))


def test_display_winsize_is_the_width_on_the_page(tested, runs):
    done = tested("--name", "p2p", "--dataroot", runs / "pairs", "--num_test", 1, "--display_winsize", 99)
    assert [attrs["style"] for tag, attrs in Page(done.page).tags if tag == "main"] == ["--width:99px"]
    shown = [attrs for tag, attrs in Page(done.page).tags if tag == "img"]
    assert {(attrs["width"], attrs["height"]) for attrs in shown} == {("32", "32")}  # their own, for the aspect


def test_figures_of_pairs_equal_those_of_the_pictures(tested, runs):
    done = tested("--name", "p2p", "--dataroot", runs / "pairs")
    kept = json.loads((done.folder / "metrics.json").read_text())
    assert set(kept["images"]) == {str(i) for i in range(7)}
    for i in range(7):
        fake, real = (pixels(done.images / f"{i}_{x}_B.png") / 127.5 - 1 for x in ("fake", "real"))
        l1, psnr = np.abs(fake - real).mean(), 10 * math.log10(4 / np.square(fake - real).mean())
        assert kept["images"][str(i)]["L1"] == pytest.approx(l1, abs=0.5 / 127.5)
        assert kept["images"][str(i)]["PSNR"] == pytest.approx(psnr, abs=0.05)
    for name in ("L1", "PSNR"):
        mean = np.mean([figures[name] for figures in kept["images"].values()])
        assert kept["mean"][name] == pytest.approx(mean)
        assert f"{name} {mean:.4f}" in done.out
    notes = [text for text in Page(done.page).texts["p"] if "PSNR" in text]
    assert notes == [f"L1 {f['L1']:.4g}, PSNR {f['PSNR']:.4g}" for f in kept["images"].values()]


def test_direction_is_remembered(command, tested, runs, tmp_path):
    plain = pictures(tested("--name", "p2p", "--dataroot", runs / "pairs").images)
    ended = command(
        "train",
        *TINY,
        "--model",
        "pix2pix",
        "--dataroot",
        runs / "pairs",
        "--direction",
        "BtoA",
        "--name",
        "back",
        "--checkpoints_dir",
        tmp_path / "ck",
    )
    assert ended.code == 0, ended.err
    shutil.rmtree(tmp_path / "results")
    remembered = pictures(
        tested("--name", "back", "--dataroot", runs / "pairs", "--checkpoints_dir", tmp_path / "ck").images
    )
    assert np.array_equal(remembered["0_real_A.png"], plain["0_real_B.png"])


# --- no flag is repeated


def make_run(folder, name, *flags):
    """A run folder as training leaves it, without the training: options.json and a generator with lively weights."""
    from options import store

    o = parse(
        [
            *map(str, SMALL),
            "--model",
            "pix2pix",
            "--ngf",
            "2",
            "--name",
            name,
            "--checkpoints_dir",
            str(folder),
            *flags,
        ],
        "train",
    )
    torch.manual_seed(3)
    G = generator(o, 3, 3)
    for module in G.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
        elif getattr(module, "bias", None) is not None:
            torch.nn.init.normal_(module.bias, 0, 0.1)
    for parameter in G.parameters():
        parameter.data.mul_(4)
    (folder / name).mkdir(parents=True)
    store.save(o, folder / name, "train")
    weight_files.save_networks(folder / name, "latest", {"G": G})
    return G.eval()


SIDES = {"unet_256": 256, "unet_128": 128, "unet_64": 64}


@pytest.mark.parametrize("net", GENERATORS)
def test_no_flag_is_needed_for_any_generator_norm_and_dropout(command, tmp_path, net):
    """Neither with the run's options.json nor, by model test, with nothing but the .pth file."""
    side = SIDES.get(net, 32)
    (tmp_path / "data" / "test").mkdir(parents=True)
    pair = np.concatenate([np.asarray(picture(n, side, side)) for n in (8, 9)], axis=1)
    Image.fromarray(pair).save(tmp_path / "data" / "test" / "x.png")
    Image.fromarray(pair[:, :side]).save(tmp_path / "alone.png")
    tensor = to_tensor(open_image(str(tmp_path / "alone.png"), 3))[None]
    (tmp_path / "one").mkdir()
    shutil.move(tmp_path / "alone.png", tmp_path / "one" / "x.png")
    for number, norm in enumerate(NORMS):
        for dropout in (True, False) if side == 32 else (number % 2 == 0,):
            name = f"{norm}_{dropout}"
            drops = "--dropout" if dropout else "--no_dropout"
            sizes = ["--crop_size", str(side), "--load_size", str(side)]
            G = make_run(tmp_path / "checkpoints", name, "--netG", net, "--norm", norm, drops, *sizes)
            with torch.inference_mode():
                expected = ((G(tensor)[0].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
            assert expected.std() > 5, "lively enough to notice a difference"
            ended = command("test", "--name", name, "--dataroot", "data")
            assert ended.code == 0, ended.err
            fake = pixels(tmp_path / "results" / name / "test_latest" / "images" / "x_fake_B.png")
            assert np.abs(fake - expected).max() <= 0.51
            (tmp_path / "checkpoints" / name / "options.json").unlink()
            size = ["--crop_size", side] if side != 256 else []  # a file of weights knows no sizes
            ended = command("test", "--name", name, "--dataroot", "one", *size)
            assert ended.code == 0, ended.err
            assert f"--netG {net}" in ended.out and "--ngf 2" in ended.out
            bare = pixels(tmp_path / "results" / name / "test_latest" / "images" / "x_fake.png")
            assert np.array_equal(bare, fake), name


@pytest.mark.parametrize("dropout", ["--dropout", "--no_dropout"])
def test_zero_padding_is_read_from_a_bare_file(command, tmp_path, dropout):
    """It moves the places of all layers in a residual block, as dropout does."""
    (tmp_path / "data").mkdir()
    picture(5, 32, 32).save(tmp_path / "data" / "x.png")
    G = make_run(tmp_path / "checkpoints", "run", "--netG", "resnet_4blocks", "--padding", "zero", dropout)
    (tmp_path / "checkpoints" / "run" / "options.json").unlink()
    ended = command("test", "--name", "run", "--dataroot", "data", "--crop_size", 32)
    assert ended.code == 0, ended.err
    assert "--padding zero" in ended.out and f"--no_dropout {dropout == '--no_dropout'}" in ended.out
    with torch.inference_mode():
        out = G(to_tensor(open_image(str(tmp_path / "data" / "x.png"), 3))[None])[0]
    fake = pixels(tmp_path / "results" / "run" / "test_latest" / "images" / "x_fake.png")
    assert np.abs(fake - ((out + 1) * 127.5).permute(1, 2, 0).numpy()).max() <= 0.51


@pytest.mark.parametrize("padding", ["reflect", "replicate", "zero"])
def test_padding_and_channels_are_remembered(command, tmp_path, padding):
    ended = command(
        "train",
        *TINY,
        "--model",
        "pix2pix",
        "--dataroot",
        "demo",
        "--max_dataset_size",
        1,
        "--input_nc",
        1,
        "--padding",
        padding,
        "--name",
        "run",
    )
    assert ended.code == 0, ended.err
    ended = command("test", "--name", "run", "--num_test", 1)
    assert ended.code == 0, ended.err
    modes = {p.name: Image.open(p).mode for p in (tmp_path / "results/run/test_latest/images").iterdir()}
    assert modes == {"0000_real_A.png": "L", "0000_fake_B.png": "RGB", "0000_real_B.png": "RGB"}


def test_a_folder_with_somebodys_file_says_what_it_read(command, runs, tmp_path):
    theirs = tmp_path / "checkpoints" / "theirs"
    theirs.mkdir(parents=True)
    shutil.copy(runs / "checkpoints" / "cyc" / "latest_net_G_A.pth", theirs / "latest_net_G.pth")
    ended = command("test", "--name", "theirs", "--dataroot", runs / "sides" / "testA", "--crop_size", 32)
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.out.splitlines() if line.startswith("read from latest_net_G.pth: ")]
    for said in (
        "--netG resnet_4blocks",
        "--ngf 4",
        "--norm instance",
        "--no_dropout True",
        "--input_nc 3",
        "--output_nc 3",
    ):
        assert said in line
    image = Image.open(runs / "sides" / "testA" / "1.png").resize((32, 32), Image.Resampling.BICUBIC)
    fake = pixels(tmp_path / "results" / "theirs" / "test_latest" / "images" / "1_fake.png")
    assert np.abs(fake - translated(runs, "cyc", "G_A", image)).max() <= 0.51


def test_the_references_command_for_published_weights(command, runs, tmp_path):
    """--model test --no_dropout, as its README has it; flags that agree with the file are no conflict."""
    theirs = tmp_path / "checkpoints" / "horse2zebra_pretrained"
    theirs.mkdir(parents=True)
    shutil.copy(runs / "checkpoints" / "cyc" / "latest_net_G_A.pth", theirs / "latest_net_G.pth")
    ended = command(
        "test",
        "--dataroot",
        runs / "sides" / "testA",
        "--name",
        theirs.name,
        "--model",
        "test",
        "--no_dropout",
        "--load_size",
        32,
        "--crop_size",
        32,
        "--netG",
        "resnet_4blocks",
    )
    assert ended.code == 0, ended.err
    assert "3 images" in ended.out


@pytest.mark.parametrize("flag", [["--netG", "resnet_6blocks"], ["--ngf", 8], ["--norm", "batch"], ["--input_nc", 1]])
@pytest.mark.parametrize("bare", [True, False], ids=["bare", "run"])
def test_a_flag_that_contradicts_the_weights_is_named(command, runs, tmp_path, flag, bare):
    run = tmp_path / "checkpoints" / "cyc"
    shutil.copytree(runs / "checkpoints" / "cyc", run)
    if bare:
        (run / "options.json").unlink()
    ended = command("test", "--name", "cyc", "--dataroot", runs / "sides", "--crop_size", 32, *flag)
    assert ended.code == 4
    assert ended.last.startswith("error: file 'checkpoints/cyc/latest_net_G_A.pth': does not fit this network: 'model.")
    assert ended.last.endswith(f"; omit {flag[0]}")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_both_sides_of_somebodys_cycle_gan(command, runs, tmp_path):
    """A folder with latest_net_G_A and _G_B alone is a CycleGAN's."""
    theirs = tmp_path / "checkpoints" / "theirs"
    theirs.mkdir(parents=True)
    for side in "AB":
        shutil.copy(runs / "checkpoints" / "cyc" / f"latest_net_G_{side}.pth", theirs)
    ended = command("test", "--name", "theirs", "--dataroot", runs / "sides", "--crop_size", 32)
    assert ended.code == 0, ended.err
    fake = pixels(tmp_path / "results" / "theirs" / "test_latest" / "images" / "0_fake_B.png")
    image = Image.open(runs / "sides" / "testA" / "0.png").resize((32, 32), Image.Resampling.BICUBIC)
    assert np.abs(fake - translated(runs, "cyc", "G_A", image)).max() <= 0.51


def test_a_cycle_gans_images_are_two_lines_of_three(browser, tested, runs):
    """On a page that has room for four of them."""
    done = tested("--name", "cyc", "--dataroot", runs / "sides", "--num_test", 1)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(done.page.as_uri())
    boxes = [page.locator(".row td").nth(i).bounding_box() for i in range(6)]
    assert len({round(box["y"]) for box in boxes[:3]}) == len({round(box["y"]) for box in boxes[3:]}) == 1
    assert boxes[3]["y"] > boxes[0]["y"] and boxes[3]["x"] == boxes[0]["x"]
    page.close()
