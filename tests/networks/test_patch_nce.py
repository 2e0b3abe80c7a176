"""The contrastive loss of patches against sums written by hand, and the layers that are compared."""

import math

import pytest
import torch
from torch import nn

from networks import generator
from networks.patch_nce import PatchFeatures, compared_layers, draw_places, patch_nce
from tests.support.architectures import TRANSLATORS, flags
from util.errors import OptionError


def unit(*shape):
    vectors = torch.randn(*shape, dtype=torch.double)
    return vectors / vectors.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("across", [False, True])
def test_the_loss_is_that_of_the_paper(across):
    torch.manual_seed(0)
    query, key = unit(2, 3, 5).requires_grad_(), unit(2, 3, 5).requires_grad_()
    expected = []
    for n in range(2):
        for p in range(3):
            others = [(m, q) for m in range(2) for q in range(3) if across or m == n]
            scores = {(m, q): math.exp((query[n, p] @ key[m, q]).item() / 0.3) for m, q in others}
            expected.append(-math.log(scores[n, p] / sum(scores.values())))
    loss = patch_nce(query, key, 0.3, across)
    assert loss.item() == pytest.approx(sum(expected) / 6, rel=1e-12)
    loss.backward()
    assert key.grad is None
    assert query.grad.abs().sum() > 0


def test_places_differ_within_a_layer_and_are_all_of_a_small_one():
    large, small = draw_places([torch.zeros(2, 1, 8, 9), torch.zeros(2, 1, 3, 2)], 50)
    assert len(set(large.tolist())) == 50
    assert max(large.tolist()) < 72
    assert sorted(small.tolist()) == [0, 1, 2, 3, 4, 5]


def test_features_are_taken_at_the_places_with_length_one():
    maps = [torch.randn(2, 4, 3, 5), torch.randn(2, 6, 2, 2)]
    places = [torch.tensor([14, 0, 7]), torch.tensor([2, 1])]
    sampled = PatchFeatures([4, 6], 8, "sample")(maps, places)
    expected = maps[0][1, :, 1, 2]  # place 7 of 3x5
    assert torch.allclose(sampled[0][1, 2], expected / expected.norm(), atol=1e-6)
    projected = PatchFeatures([4, 6], 8)(maps, places)
    pooled = PatchFeatures([4, 6], 8, "reshape")([torch.randn(2, 4, 8, 8)], places[:1])
    assert [tuple(x.shape) for x in [*sampled, *projected, *pooled]] == [
        (2, 3, 4), (2, 2, 6), (2, 3, 8), (2, 2, 8), (2, 16, 4)]  # fmt: skip
    for vectors in [*sampled, *projected, *pooled]:
        assert torch.allclose(vectors.norm(dim=-1), torch.ones(vectors.shape[:2]), atol=1e-5)
    assert not list(PatchFeatures([4, 6], 8, "sample").parameters())


def test_features_of_zeros_have_no_gradient_instead_of_nan():
    maps = torch.zeros(1, 3, 2, 2, requires_grad=True)
    PatchFeatures([3], kind="sample")([maps], [torch.arange(4)])[0].sum().backward()
    assert bool(maps.grad.isfinite().all())


@pytest.mark.parametrize("netG", TRANSLATORS)
def test_every_generator_has_layers_to_compare_without_draws(netG):
    net = generator(flags(netG=netG, ngf=2), 3, 3)
    state = torch.get_rng_state()
    channels = compared_layers(net, "auto", (3, 32, 32))
    assert torch.equal(state, torch.get_rng_state())
    assert len(channels) >= (2 if "stylegan2" in netG else 4)
    if netG.startswith("resnet"):
        assert channels["model.0"] == 3
        assert len(channels) == 5


def test_layers_are_numbers_or_names():
    net = generator(flags(netG="resnet_4blocks", ngf=2, no_antialias=False, no_antialias_up=False), 3, 3)
    names = compared_layers(net, "0, 4,model.12.conv_block.1,16", (3, 16, 16))
    assert names == {"model.0": 3, "model.4": 4, "model.12.conv_block.1": 8, "model.16": 8}
    assert list(compared_layers(net, "2,8", (3, 16, 16))) == ["model.3", "model.8"], "2 is overwritten by 3"


def test_layers_that_do_not_exist_or_are_no_maps_are_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(5))
    net(torch.zeros(1, 3, 8, 8))
    for layers in ("0", "conv", "-1", "0,,4", ""):
        with pytest.raises(OptionError, match="'--nce_layers': the generator has no layer"):
            compared_layers(nn.ModuleDict({"other": net}), layers, (3, 8, 8))
    with pytest.raises(OptionError, match=r"the output of 'model.1' is no feature map"):
        compared_layers(Named(net), "1", (3, 8, 8))


class Named(nn.Module):
    """Has layers `model.0`, ... of a Sequential."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)
