"""SinCUT's networks of StyleGAN2's layers: keys, widths, sizes, noise, and the flags read from their weights."""

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from inference.receptive_field import receptive_field
from inference.tiling import TiledForward
from networks import discriminator, features, generator
from networks.infer_architecture import infer_discriminator, infer_generator, weights_description
from networks.patch_nce import PatchFeatures, compared_layers
from networks.summary import layer_table
from tests.support.architectures import flags
from tests.support.steps import far, trained
from util.errors import DataError, OptionError
from util.size import Size

FACTS = Path(__file__).resolve().parents[1] / "facts" / "sincut_networks.tsv"
GENERATORS = ("stylegan2", "smallstylegan2")
WIDTHS = [  # (--load_size, --crop_size, --ngf, halvings)
    (1024, 64, 10, 1), (64, 64, 1, 2), (286, 256, 2, 3), (90, 90, 5, 0), (32, 32, 3, 1), (1024, 1024, 3, 1),
    (128, 128, 64, 1), (60, Size(70, 50), 4, 1)]  # fmt: skip


def shapes(net):
    return {key: "x".join(map(str, value.shape)) for key, value in net.state_dict().items()}


def built(netG="stylegan2", strength=0.5, **changed):
    """Return a generator whose noise has some strength."""
    torch.manual_seed(0)
    net = generator(flags(netG=netG, **{"ngf": 1, **changed}), 3, 3)
    for key, p in net.named_parameters():
        if key.endswith("noise.weight"):
            nn.init.constant_(p, strength)
    return net


def test_keys_and_shapes_are_those_of_sincuts_networks():
    with open(FACTS, encoding="utf-8", newline="") as file:
        facts = list(csv.DictReader(file, delimiter="\t"))
    o = dict(ngf=10, ndf=8, load_size=1024, crop_size=64)
    with torch.device("meta"):
        nets = {f"G {netG}": generator(flags(netG=netG, **o), 3, 3) for netG in GENERATORS}
        for name, netD in {"D": "stylegan2", "D tile": "tilestylegan2"}.items():
            nets[name] = discriminator(flags(netD=netD, **o), 3)
    compared = compared_layers(built(**o), "auto", (3, 64, 64))
    nets["F"] = PatchFeatures(list(compared.values()))
    assert nets.keys() == {row["network"] for row in facts}
    for name, net in nets.items():
        assert shapes(net) == {row["key"]: row["shape"] for row in facts if row["network"] == name}


@pytest.mark.parametrize("netG", GENERATORS)
def test_every_size_is_translated_with_gradients(netG):
    net = built(netG, stylegan2_G_num_downsampling=2)
    for height, width in ((1, 1), (2, 3), (7, 5), (30, 37), (64, 16)):
        x = torch.randn(2, 3, height, width, requires_grad=True)
        out = net(x)
        assert out.shape == x.shape
        slopes = torch.autograd.grad(out.square().sum(), [x, *net.parameters()], allow_unused=netG == "smallstylegan2")
        assert all(slope.isfinite().all() for slope in slopes if slope is not None)
    assert receptive_field(net).multiple == 4


def test_channels_are_those_of_the_flags():
    net, o = generator(flags(netG="stylegan2", ngf=1), 1, 4), flags(netD="stylegan2", ndf=1)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 4, 8, 8)
    assert discriminator(o, 6)(torch.zeros(2, 6, 64, 64)).shape == (2, 1)
    assert receptive_field(generator(flags(netG="stylegan2", ngf=1), 1, 1)) is not None


def test_noise_is_drawn_in_training_and_fixed_in_evaluation():
    x = torch.rand(3, 3, 16, 12)
    net, small = built(), built("smallstylegan2")
    assert not torch.equal(net(x), net(x)) and torch.equal(small(x), small(x))
    net.eval()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    whole = net(x)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.allclose(whole, torch.cat([net(image[None]) for image in x]), atol=1e-5)
    assert not torch.allclose(whole, built(strength=0.0).eval()(x), atol=1e-2)


@pytest.mark.parametrize(("netG", "exact"), [("stylegan2", False), ("smallstylegan2", True)])
def test_tiles_join_to_the_whole_or_are_blended(netG, exact):
    net, x = built(netG).eval(), torch.rand(1, 3, 96, 120)
    seen = receptive_field(net)
    with torch.inference_mode():
        tiled = TiledForward(net, Size(80, 80), round(seen.radius + 0.5), seen, False)(x)
        assert torch.allclose(tiled, net(x), atol=1e-4) == exact


def test_layers_are_numbered_as_in_the_authors_code():
    net, image = built(), (3, 64, 64)
    numbered = [f"encoder.convs.{n}" for n in (0, 2, 4)]
    assert list(compared_layers(net, "auto", image)) == list(compared_layers(net, "0,2,4", image)) == numbered
    assert list(compared_layers(built("smallstylegan2"), "auto", image)) == numbered[:2]
    with pytest.raises(OptionError, match=r"has no layer 'encoder.convs.6'.*Sequential encoder.convs"):
        compared_layers(net, "0,6", image)
    x = torch.rand(2, 3, 16, 16)
    found = features(net, x, numbered)
    assert torch.equal(found[numbered[0]], x)
    assert [tuple(value.shape[2:]) for value in found.values()] == [(16, 16), (8, 8), (8, 8)]


@pytest.mark.parametrize("netG", GENERATORS)
@pytest.mark.parametrize(("load", "crop", "ngf", "halvings"), WIDTHS)
def test_flags_read_from_a_generator_rebuild_it(netG, load, crop, ngf, halvings):
    o = dict(netG=netG, load_size=load, crop_size=crop, ngf=ngf, stylegan2_G_num_downsampling=halvings)
    with torch.device("meta"):
        net = generator(flags(**o), 4, 1)
        found = infer_generator(net.state_dict())
        again = generator(flags(**found, crop_size=256), 4, 1)
    assert (found["netG"], found["input_nc"], found["output_nc"]) == (netG, 4, 1)
    assert found["stylegan2_G_num_downsampling"] == halvings
    assert shapes(again) == shapes(net)
    assert infer_discriminator(net.state_dict()) == {}


@pytest.mark.parametrize(("load", "crop", "ndf"), [(load, crop, ndf) for load, crop, ndf, _ in WIDTHS])
def test_flags_read_from_a_discriminator_rebuild_it(load, crop, ndf):
    with torch.device("meta"):
        net = discriminator(flags(netD="stylegan2", load_size=load, crop_size=crop, ndf=ndf), 2)
        found = infer_discriminator(net.state_dict())
        again = discriminator(flags(**found, load_size=2048), 2)
    assert (found["netD"], found["channels"]) == ("stylegan2", 2)
    assert shapes(again) == shapes(net)
    assert weights_description(net.state_dict()) == "a discriminator (--netD stylegan2)"


def test_damaged_weights_are_of_no_known_network():
    G, D = built().state_dict(), discriminator(flags(netD="stylegan2", ndf=1), 3).state_dict()
    for state, missing in ((G, "encoder.convs.2.conv2.2.bias"), (G, "decoder.convs.4.0.weight"),
                           (D, "convs.1.conv2.2.bias")):  # fmt: skip
        rest = {key: value for key, value in state.items() if key != missing}
        assert infer_generator(rest) == infer_discriminator(rest) == {}


def test_weights_that_do_not_fit_name_the_flags():
    assert built().explain_misfit(built(ngf=3).state_dict()) == "it was made with --ngf 3"
    one, other = (discriminator(flags(netD="stylegan2", ndf=1, crop_size=side), 3) for side in (64, 32))
    assert one.explain_misfit(other.state_dict()) == "it was made with --crop_size 32"


def test_a_discriminator_judges_images_of_its_size():
    net = discriminator(flags(netD="stylegan2", ndf=1, load_size=100, crop_size=90), 3)
    for height, width in ((64, 64), (79, 66)):
        assert net(torch.rand(2, 3, height, width)).shape == (2, 1)
    for height, width in ((63, 64), (64, 80)):
        with pytest.raises(DataError, match="sides of 64 to 79"):
            net(torch.rand(2, 3, height, width))
    assert torch.equal(net.head(net.trunk(x := torch.rand(2, 3, 64, 64))), net(x))


def test_sizes_that_leave_too_few_pixels_are_refused():
    with pytest.raises(OptionError, match="'--stylegan2_G_num_downsampling': 5 halvings of 64 pixels"):
        built(stylegan2_G_num_downsampling=5)
    with pytest.raises(OptionError, match="'--crop_size': 2 pixels are too few"):
        discriminator(flags(netD="stylegan2", crop_size=2), 3)


def test_the_summary_has_shapes_and_no_receptive_field():
    text = layer_table("D", discriminator(flags(netD="stylegan2", ndf=1), 3), 64, 64)
    assert " 64x4x4 " in text and "receptive field" not in text


SINCUT = ("sincut", "--netG", "stylegan2", "--netD", "stylegan2", "--ngf", 1, "--ndf", 1, "--netF_nc", 4)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_training_is_the_same_with_activations_computed_again(elsewhere):
    assert far(trained(*SINCUT), trained(*SINCUT, "--grad_checkpoint")) == (0, 0)


def test_the_layout_of_weights_changes_nothing(elsewhere):
    plain, last = (trained(*SINCUT, "--memory_format", form, steps=1) for form in ("auto", "channels_last"))
    assert far(plain, last)[0] < 1e-3


def test_losses_in_16_bits_are_near_those_in_32(elsewhere):
    whole, low = (trained(*SINCUT, "--amp", kind, steps=1) for kind in ("off", "bf16"))
    assert 0 < far(whole, low)[0] < 0.02
