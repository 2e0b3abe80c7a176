"""Augmentations of a discriminator's images do what their papers say, alike for all pictures of a sample."""

import pytest
import torch
from torch import nn

from networks.toolbox import diffaugment, input_augment, tool_state
from networks.toolbox.input_augment import adapt, augment_inputs
from networks.toolbox.settings import mark
from registry.lookup import entries, find

NAMES = [entry.name for entry in entries("d_augmentation")]
IMAGES = torch.linspace(-1, 1, 2 * 6 * 16 * 16).view(2, 6, 16, 16)


@pytest.fixture
def draws(monkeypatch):
    """Make each draw of an augmentation a given number."""

    def give(*numbers):
        left = list(numbers)

        def noise(images, *shape, uniform=False):
            assert uniform
            n = left.pop(0)
            values = torch.as_tensor(n, dtype=images.dtype).reshape(-1, *[1] * (len(shape) - 1))
            return (
                values.expand(len(images), *shape).clone()
                if values.shape[0] == shape[0]
                else values.expand(len(images), *shape)
            )

        monkeypatch.setattr(diffaugment, "noise", noise)
        monkeypatch.setattr(input_augment, "noise", noise)

    return give


def test_color_by_hand(draws):
    draws([0.75, 0.25, 0.9])  # brightness + 0.25, saturation x 0.5, contrast x 1.4
    images = torch.tensor([0.2, 0.4, 0.9, -0.5]).view(1, 4, 1, 1)  # a picture of 3 channels, one of 1
    found = diffaugment.color(images, (3, 1)).flatten().tolist()
    first = [0.75 + (x - 0.75) * 0.5 for x in (0.45, 0.65, 1.15)]
    mean = sum(first) / 3
    assert found == pytest.approx([*(mean + (x - mean) * 1.4 for x in first), -0.25])


def test_translation_by_hand(draws):
    draws([0.9, 0.3])  # of a side of 16: floor(0.9 x 5) - 2 = 2 down, floor(0.3 x 5) - 2 = -1: one to the left
    found = diffaugment.translation(IMAGES, (6,))
    assert not found[:, :, :2].any() and not found[:, :, :, 15:].any()
    assert torch.equal(found[:, :, 2:, :15], IMAGES[:, :, :14, 1:])


def test_cutout_by_hand(draws):
    draws([0.0, 0.5])  # of a side of 16: rows from -4 to 3, columns from floor(0.5 x 17) - 4 = 4 to 11
    found = diffaugment.cutout(IMAGES, (6,))
    hole = torch.zeros(16, 16, dtype=torch.bool)
    hole[:4, 4:12] = True
    assert torch.equal(found, torch.where(hole, 0.0, IMAGES))


def test_flip_and_rotations_by_hand(draws):
    draws(0.4, 0.6, 0.3, 0.9)
    assert torch.equal(diffaugment.flip(IMAGES, (6,)), IMAGES.flip(3))
    assert torch.equal(diffaugment.flip(IMAGES, (6,)), IMAGES)
    assert torch.equal(diffaugment.rotate90(IMAGES, (6,)), IMAGES.rot90(1, (2, 3)))
    assert torch.equal(diffaugment.rotate90(IMAGES, (6,)), IMAGES.rot90(3, (2, 3)))


@pytest.mark.parametrize("name", NAMES)
def test_every_augmentation_treats_both_pictures_of_a_pair_alike(name):
    pair = torch.rand(4, 3, 16, 16) * 2 - 1
    torch.manual_seed(1)
    a, b = find("d_augmentation", name)(torch.cat([pair, pair], 1), (3, 3)).split(3, 1)
    assert torch.equal(a, b) and not torch.equal(a, pair)


@pytest.mark.parametrize("name", NAMES)
def test_each_has_two_derivatives_and_draws_for_each_sample(name):
    image = (torch.rand(1, 3, 8, 8, dtype=torch.double) * 2 - 1).expand(32, -1, -1, -1).clone().requires_grad_()
    made = find("d_augmentation", name)(image, (3,))
    assert len({tuple(each.flatten().tolist()) for each in made}) > 1
    (slope,) = torch.autograd.grad(made.square().sum(), image, create_graph=True)
    (again,) = torch.autograd.grad(slope.sum(), image)
    assert torch.isfinite(again).all() and again.any()


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, a, label, b=None):
        self.seen = (a, b)
        return a.mean()


def test_arguments_of_one_size_are_augmented_together():
    net, hook = TwoInputs(), None
    hook = augment_inputs(net, ("cutout",), adaptive=False)
    a, label = torch.ones(4, 3, 8, 8), torch.arange(4)
    net(a, label, b=2 * a[:, :1])
    first, second = net.seen
    assert hook.was_called and (first == 0).any() and torch.equal(2 * first[:, :1], second)
    assert net.state_dict().keys() == {"weight"}
    net.eval()(a, label)
    assert torch.equal(net.seen[0], a)


def test_with_ada_the_probability_counts():
    net = mark(TwoInputs(), "D", (2, 1))
    augment_inputs(net, (), adaptive=True)
    images = torch.rand(64, 3, 8, 8)
    before = torch.get_rng_state()
    net(images, None)
    assert torch.equal(net.seen[0], images)  # p starts at 0
    torch.set_rng_state(before)
    tool_state.kept(net, "ada_p").fill_(0.5)
    net(images, None)
    changed = (net.seen[0] != images).flatten(1).any(1).float().mean()
    assert 0.5 < changed < 1.0  # of four augmentations, each for half of the images


@pytest.mark.parametrize(("total", "p"), [(80.0, 0.3 + 32 / 100), (20.0, 0.0), (60.0, 0.3)])
def test_p_rises_above_the_target_and_falls_below_it(total, p):
    """r_t is total / 100; 64 images for two discriminators are 32 each, of 100 from 0 to 1."""
    nets = [TwoInputs(), TwoInputs()]
    for net in nets:
        augment_inputs(net, (), adaptive=True)
        tool_state.kept(net, "ada_p").fill_(0.3)
    adapt(nets, torch.tensor([total, 100.0, 64.0]), 0.6, 100.0)
    assert [float(tool_state.kept(net, "ada_p")) for net in nets] == pytest.approx([p, p])
