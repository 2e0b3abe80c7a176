"""The architecture of a bare .pth file is read from its keys and shapes, and its images are reproduced."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from data.decoding.images import open_image
from data.transforms import to_tensor
from networks import discriminator
from networks.infer_architecture import infer_generator
from serialization import weight_files
from tests.support.architectures import NAMES, OF_PIX2PIXHD
from tests.support.images import picture
from tests.support.published_weights import USUAL, build, published, with_instance_statistics
from util.image_io import to_pixels

RESNETS = ["resnet_9blocks", "resnet_6blocks", "resnet_4blocks"]
UNETS = ["unet_256", "unet_128", "unet_64", "unet_32"]


def shapes(state):
    return {key: tuple(value.shape) for key, value in state.items()}


# --- reading the architecture ---------------------------------------------------------------------------------------

PADDED = [(netG, padding) for netG in RESNETS for padding in ("reflect", "replicate", "zero")]


@pytest.mark.parametrize("no_dropout", [True, False], ids=["no_dropout", "dropout"])
@pytest.mark.parametrize("norm", ["instance", "batch", "syncbatch", "layer", "none"])
@pytest.mark.parametrize(("netG", "padding"), PADDED + [(netG, "reflect") for netG in UNETS])
def test_flags_read_from_weights_rebuild_keys_and_shapes(netG, padding, norm, no_dropout):
    """For every generator of the reference, four channel counts and three widths."""
    for ngf, (input_nc, output_nc) in zip((1, 5, 64, 64), ((3, 3), (1, 3), (3, 1), (4, 2)), strict=True):
        how = dict(netG=netG, norm=norm, no_dropout=no_dropout, padding=padding, ngf=ngf)
        with torch.device("meta"):
            state = build(**how, input_nc=input_nc, output_nc=output_nc).state_dict()
            found = infer_generator(state)
            rebuilt = build(**found).state_dict()
        assert shapes(rebuilt) == shapes(state)
        expected = {"netG": netG, "ngf": ngf, "input_nc": input_nc, "output_nc": output_nc,
                    "norm": "batch" if norm == "syncbatch" else norm}  # fmt: skip
        assert {name: found[name] for name in expected} == expected
        if netG in RESNETS:  # replicate and reflect leave the same keys
            assert found["no_dropout"] == no_dropout
            assert found["padding"] == ("zero" if padding == "zero" else "reflect")


def test_every_generator_of_ours_is_known():
    assert set(NAMES["generator"]) == {*RESNETS, *UNETS, *OF_PIX2PIXHD}


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("netD", ["basic", "pixel", "n_layers"])
def test_a_discriminator_is_not_taken_for_a_generator(netD, norm):
    assert (
        infer_generator(discriminator(SimpleNamespace(**(USUAL | {"netD": netD, "norm": norm})), 3).state_dict()) == {}
    )


def test_other_networks_are_not_taken_for_a_generator():
    assert infer_generator({}) == {}
    assert infer_generator(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3)).state_dict()) == {}
    whole = build().state_dict()
    for missing in ("model.1.weight", "model.21.weight"):
        assert infer_generator({key: value for key, value in whole.items() if key != missing}) == {}
    unet = build(netG="unet_32").state_dict()
    assert infer_generator({key: value for key, value in unet.items() if key != "model.model.3.weight"}) == {}


def test_statistics_do_not_make_an_instance_norm_a_batch_norm():
    for netG in ("resnet_4blocks", "unet_32"):
        assert infer_generator(with_instance_statistics(build(netG=netG)))["norm"] == "instance"


# --- published files -----------------------------------------------------------------------------------------------


CPU = ("--gpu_ids", -1, "--num_threads", 0)


@pytest.mark.parametrize("how", [
    dict(netG="resnet_6blocks", norm="instance", ngf=3),
    dict(netG="resnet_4blocks", norm="batch", ngf=2, no_dropout=False),
    dict(netG="unet_32", norm="batch", ngf=2, no_dropout=False),
    dict(netG="unet_64", norm="instance", ngf=1, input_nc=1, output_nc=3),
    dict(netG="resnet_4blocks", norm="none", ngf=2, input_nc=3, output_nc=1, padding="zero"),
    dict(netG="resnet_6blocks", norm="instance", ngf=2, no_antialias=False, no_antialias_up=False),
    dict(netG="stylegan2", norm="none", ngf=2, load_size=128, crop_size=128, stylegan2_G_size=0,
         stylegan2_G_num_downsampling=2),
], ids=lambda how: f"{how['netG']}-{how['norm']}")  # fmt: skip
def test_a_bare_file_translates_without_an_architecture_flag(how, command, tmp_path):
    """The pictures of test.py are those of the network itself."""
    torch.manual_seed(0)
    net = build(**how, init_gain=0.3)
    net(torch.rand(2, how.get("input_nc", 3), 64, 64))
    published(tmp_path, net)
    (tmp_path / "pictures").mkdir()
    picture(0, 64, 64).save(tmp_path / "pictures" / "one.png")
    ended = command("test", "--name", "published", "--dataroot", "pictures", "--crop_size", 64, *CPU)
    assert ended.code == 0, ended.err
    assert f"--netG {how['netG']}" in ended.out
    source = to_tensor(open_image(str(tmp_path / "pictures" / "one.png"), how.get("input_nc", 3)))
    with torch.no_grad():
        expected = to_pixels(net.eval()(source[None])[0])
    got = np.asarray(Image.open(tmp_path / "results/published/test_latest/images/one_fake.png"))
    assert (got.reshape(expected.shape) == expected).all()


def test_a_given_flag_beats_the_one_read_from_the_file(command, tmp_path):
    published(tmp_path, build(netG="resnet_4blocks"))
    (tmp_path / "pictures").mkdir()
    picture(0, 32, 32).save(tmp_path / "pictures" / "one.png")
    ended = command("test", "--name", "published", "--dataroot", "pictures", "--crop_size", 32, "--ngf", 6, *CPU)
    assert ended.code == 4
    assert "'model.1.weight' is 4x3x7x7 in the file and 6x3x7x7 in the network" in ended.last
    assert ended.last.endswith("omit --ngf")


# --- real ones ------------------------------------------------------------------------------------------------------


def test_the_references_own_files_are_read(shared):
    """Their generators' architecture is the one the trace was recorded with, and they fit it to the last key."""
    files = sorted((shared / "golden").glob("*/latest_net_G*.pth"))
    assert len(files) >= 5
    for path in files:
        recorded = json.loads((path.parent / "trace.json").read_text())["options"]
        state = weight_files.load_weights(path)
        found = infer_generator(state)
        for flag in ("netG", "ngf", "norm", "input_nc", "output_nc"):
            assert found[flag] == recorded[flag], (path, flag)
        net = build(**found)
        weight_files.load_into_network(net, state, path)
        assert all(torch.equal(net.state_dict()[key], value) for key, value in state.items())
