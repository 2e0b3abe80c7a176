"""Antialiased networks: blurs against sums written by hand, keys and shapes of CUT's networks, flags read from them."""

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from inference.receptive_field import receptive_field
from networks import discriminator, generator
from networks.antialias import BlurPool, BlurUpsample
from networks.batched_forward import is_samplewise
from networks.infer_architecture import infer_discriminator, infer_generator
from networks.patch_nce import PatchFeatures
from tests.support.architectures import flags

FACTS = Path(__file__).resolve().parents[1] / "facts" / "cut_networks.tsv"
BLURS = [dict(no_antialias=down, no_antialias_up=up) for down, up in product((False, True), repeat=2)]


def shapes(net):
    return {key: "x".join(map(str, value.shape)) for key, value in net.state_dict().items()}


@pytest.mark.parametrize(("height", "width"), [(6, 8), (5, 7)])
def test_blur_pool_is_the_weighted_mean_of_nine_pixels(height, width):
    x = torch.randn(2, 3, height, width, dtype=torch.double)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    row = np.array([1, 2, 1]) / 4
    expected = [[(padded[:, :, i : i + 3, j : j + 3] * np.outer(row, row)).sum((2, 3)) for j in range(0, width, 2)]
                for i in range(0, height, 2)]  # fmt: skip
    got = BlurPool(3).double()(x)
    assert np.allclose(got.permute(2, 3, 0, 1), expected, rtol=0, atol=1e-14)


def test_blur_upsample_inserts_zeros_and_blurs_with_its_filter():
    layer, x = BlurUpsample(3).double(), torch.randn(2, 3, 5, 4, dtype=torch.double)
    blurred = F.conv_transpose2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), layer.filt, stride=2, groups=3)
    assert torch.allclose(layer(x), blurred[:, :, 3:-3, 3:-3], rtol=0, atol=1e-14)


def test_weights_with_another_upsampling_filter_are_refused():
    net = BlurUpsample(2)
    with pytest.raises(RuntimeError, match="filt is another filter than"):
        net.load_state_dict({"filt": torch.ones(2, 1, 4, 4)})
    net.load_state_dict({"filt": net.filt.half()})


def test_keys_and_shapes_are_those_of_cuts_networks():
    with open(FACTS, encoding="utf-8", newline="") as file:
        facts = list(csv.DictReader(file, delimiter="\t"))
    o = flags(no_antialias=False, no_antialias_up=False)
    with torch.device("meta"):
        nets = {"G": generator(o, 3, 3), "D": discriminator(o, 3), "F": PatchFeatures([3, 128, 256, 256, 256])}
    for name, net in nets.items():
        assert shapes(net) == {row["key"]: row["shape"] for row in facts if row["network"] == name}


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("how", BLURS)
def test_flags_read_from_weights_rebuild_keys_and_shapes(how, norm):
    for netG, dropout, padding in (("resnet_9blocks", False, "reflect"), ("resnet_4blocks", True, "zero")):
        net = generator(flags(netG=netG, norm=norm, ngf=3, no_dropout=not dropout, padding=padding, **how), 3, 1)
        found = infer_generator(net.state_dict())
        assert {name: found[name] for name in how} == how
        assert (found["netG"], found["ngf"], found["norm"], found["output_nc"]) == (netG, 3, norm, 1)
        assert shapes(generator(flags(**found), 3, 1)) == shapes(net)
    for layers in (1, 3, 4):
        net = discriminator(flags(netD="n_layers", n_layers_D=layers, norm=norm, ndf=3, **how), 2)
        found = infer_discriminator(net.state_dict())
        assert (found["no_antialias"], found["ndf"], found["channels"]) == (how["no_antialias"], 3, 2)
        assert shapes(discriminator(flags(**found), 2)) == shapes(net)


def test_weights_that_do_not_fit_name_the_flag():
    plain, blurred = (generator(flags(netG="resnet_4blocks", ngf=2, **how), 3, 3) for how in (BLURS[3], BLURS[0]))
    assert plain.explain_misfit(blurred.state_dict()) == "it was made with --antialias --antialias_up"
    assert blurred.explain_misfit(plain.state_dict()) == "it was made with --no_antialias --no_antialias_up"


@pytest.mark.parametrize("how", BLURS)
def test_every_size_is_translated_sample_by_sample(how):
    net = generator(flags(netG="resnet_4blocks", ngf=2, **how), 3, 3)
    assert net(torch.zeros(1, 3, 18, 9)).shape == (1, 3, 18, 9)
    assert is_samplewise(net)
    assert receptive_field(net).multiple == 4


@pytest.mark.parametrize(("netD", "layers"), [("basic", 3), ("n_layers", 1), ("n_layers", 4)])
def test_the_smallest_image_of_a_discriminator_has_an_output(netD, layers):
    net = discriminator(flags(netD=netD, n_layers_D=layers, ndf=2, no_antialias=False), 3)
    assert net(torch.randn(1, 3, net.min_side, net.min_side)).shape == (1, 1, 1, 1)
