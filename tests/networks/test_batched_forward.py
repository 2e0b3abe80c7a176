"""Batches computed ahead equal those computed one by one, and occur only where this is known."""

import pytest
import torch
from torch import nn

from networks import discriminator, generator
from networks.batched_forward import batched_forward, is_samplewise
from networks.predictions import scales
from tests.support.architectures import NAMES, flags

NETS = [("generator", name) for name in NAMES["generator"]] + [
    ("discriminator", name) for name in NAMES["discriminator"]
]
BUILD = {"generator": lambda o: generator(o, 3, 3), "discriminator": lambda o: discriminator(o, 3)}


def built(kind, name, **changed):
    torch.manual_seed(0)
    o = flags(netG=name, netD=name, ngf=4, ndf=4, **changed)
    return BUILD[kind](o).double()


def pictures(seed, number=1, side=32):
    return torch.rand(number, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("kind", "name"), NETS)
@pytest.mark.parametrize("norm", NAMES["norm"])
def test_batched_calls_equal_separate_calls(kind, name, norm):
    side = 256 if name == "unet_256" else 128 if name == "unet_128" else 64
    inputs = pictures(1, 1, side), pictures(2, 2, side)
    results = []
    for at_once in (False, True):
        net = built(kind, name, norm=norm)
        call = batched_forward(net, *inputs) if at_once else net
        outputs = [p for x in inputs for p in scales(call(x))]
        sum(out.square().mean() for out in outputs).backward()
        found = {n: value for n, value in net.named_buffers()} | {n: p.grad for n, p in net.named_parameters()}
        results.append(found | dict(enumerate(outputs)))
    assert results[0].keys() == results[1].keys()
    for key, value in results[0].items():
        assert torch.allclose(value.double(), results[1][key].double(), rtol=1e-9, atol=1e-11), key


class Counted(nn.Module):
    """A stranger's network: what it does with a batch is not known."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Conv2d(3, 3, 1), 0

    def forward(self, x):
        self.calls += 1
        return self.layer(x) - x.mean()


def test_what_is_not_known_is_computed_one_by_one():
    assert is_samplewise(built("generator", "resnet_4blocks"))
    assert not is_samplewise(built("generator", "resnet_4blocks", no_dropout=False))
    assert is_samplewise(built("generator", "resnet_4blocks", no_dropout=False, norm="batch").eval())
    spectral = built("discriminator", "basic")
    nn.utils.parametrizations.spectral_norm(spectral.model[0])
    assert not is_samplewise(spectral)
    older = built("discriminator", "basic")
    nn.utils.spectral_norm(older.model[0])
    assert not is_samplewise(older)
    strange, (x, y) = Counted().double(), (pictures(1), pictures(2))
    call = batched_forward(strange, x, y)
    assert strange.calls == 0 and torch.equal(call(y), strange(y)) and strange.calls == 2
    sized = batched_forward(built("generator", "resnet_4blocks"), x, pictures(2, side=40))
    assert sized(x).shape[2:] == (32, 32) and sized(pictures(2, side=40)).shape[2:] == (40, 40)


def test_another_input_is_computed_when_it_comes():
    net, (x, y, other) = built("discriminator", "basic"), (pictures(1), pictures(2), pictures(3))
    call = batched_forward(net, x, y)
    assert torch.equal(call(other), net(other)) and call(x) is call(x)
