"""The outputs of a network's layers by name."""

import pytest
import torch
from torch import nn

from networks import Frozen, features
from networks.runtime.apply import apply_runtime_options
from registry.lookup import find
from tests.support.architectures import NAMES, TRANSLATORS, flags
from tests.support.runs import options
from util.errors import OptionError

IMAGE = torch.randn(2, 3, 16, 16)
CPU = torch.device("cpu")


def small():
    torch.manual_seed(0)
    halves = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)), nn.Sequential(nn.Conv2d(4, 2, 3), nn.Tanh())
    return nn.Sequential(*halves)


def by_hand(net, x):
    first = net[0][0](x)
    second = net[1][0](first.clone().relu())
    return {"0.0": first, "1.0": second, "1": second.tanh()}


def test_features_equal_the_layers_called_by_hand():
    net = small()
    got = features(net, IMAGE, ["1", "0.0", "1.0"])
    assert list(got) == ["1", "0.0", "1.0"]
    assert all(torch.equal(got[name], value) for name, value in by_hand(net, IMAGE).items())
    assert not any(layer._forward_hooks for layer in net.modules())


def test_gradients_flow_to_the_input_and_the_weights():
    net, x = small(), IMAGE.clone().requires_grad_()
    features(net, x, "0.0")["0.0"].sum().backward()
    assert x.grad.any() and net[0][0].weight.grad.any() and net[1][0].weight.grad is None


def test_the_pass_ends_at_the_last_layer():
    class Half(nn.Sequential):
        def forward(self, x):
            try:
                super().forward(x)
            except Exception:  # a network may catch what it likes
                raise AssertionError from None
            raise AssertionError("the pass went on")

    net = Half(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert features(net, IMAGE, ["0"])["0"].shape == (2, 4, 14, 14)


@pytest.mark.parametrize("way", [["--grad_checkpoint"], ["--compile", "default"]])
def test_checkpointed_and_compiled_networks_give_equal_features(way):
    net = small()
    expected = by_hand(net, IMAGE)
    apply_runtime_options({"G": net}, options(*way), CPU)
    got = features(net.train(), IMAGE, list(expected))
    assert all(torch.equal(got[name], value) for name, value in expected.items())


def test_features_have_the_precision_of_the_network():
    net = small()
    exact = features(net, IMAGE, ["1.0", ""])
    apply_runtime_options({"G": net}, options("--amp", "bf16"), CPU)
    rounded = features(net.train(), IMAGE, ["1.0", ""])
    assert rounded["1.0"].dtype == torch.float32 and not torch.equal(rounded["1.0"], exact["1.0"])
    assert torch.equal(rounded["1.0"], rounded["1.0"].bfloat16().float()) and torch.equal(rounded[""], net(IMAGE))


def test_a_frozen_network_has_the_names_of_the_network_it_holds():
    net = small()
    expected = by_hand(net, IMAGE)
    assert torch.equal(features(Frozen(net), IMAGE, ["0.0"])["0.0"], expected["0.0"])
    with pytest.raises(OptionError, match=r"Sequential has no such layer; the nearest names are 0.0"):
        features(Frozen(net), IMAGE, ["net.0.0"])


def test_shapes_are_known_without_values():
    assert features(small().to("meta"), IMAGE.to("meta"), "1")["1"].shape == (2, 2, 12, 12)


def test_a_network_of_several_inputs_takes_a_tuple():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(6, 2, 1)

        def forward(self, a, b):
            return self.conv(torch.cat((a, b), 1))

    net = Both()
    assert torch.equal(features(net, (IMAGE, IMAGE), ["conv"])["conv"], net(IMAGE, IMAGE))


class Twice(nn.Module):
    """Calls one layer twice, one never, and overwrites an output."""

    def __init__(self):
        super().__init__()
        self.conv, self.twice, self.unused = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.pair = nn.RNN(3, 3)

    def forward(self, x):
        x = self.conv(x)
        x += 1
        self.pair(x[0, 0, :3, :3])
        return self.twice(self.twice(x))


@pytest.mark.parametrize(("layers", "words"), [
    (["convv"], "no such layer; the nearest names are conv"),
    (["twice", "unused"], "calls it more than once"),
    (["unused"], "does not call it"),
    (["conv", "twice"], "overwrites its output"),
    (["pair"], "returns a tuple"),
])  # fmt: skip
def test_layers_without_one_output_are_refused(layers, words):
    net = Twice()
    with pytest.raises(OptionError, match=words):
        features(net, IMAGE, layers)
    assert not any(layer._forward_hooks for layer in net.modules())


@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_every_layer_of_our_networks_has_features(kind):
    for name in TRANSLATORS if kind == "generator" else NAMES[kind]:
        args = (3, 3) if kind == "generator" else (3,)
        net = find(kind, name)(flags(ngf=2, ndf=2), *args).eval()
        layers = [n for n, layer in net.named_modules() if n and not any(layer.children())]
        size = int(name.rpartition("_")[2]) if "unet" in name else 64
        x = torch.rand(1, 3, size, size)
        layers += [""] if isinstance(net(x), torch.Tensor) else []  # the network itself; multiscale returns a list
        got = features(net, x, layers)
        assert [*got] == layers and all(value.isfinite().all() for value in got.values())
