"""Mixed precision, compilation and checkpointing reach methods and parts of a network that are called by themselves."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from networks import Frozen
from networks.runtime.amp import disable_autocast
from networks.runtime.apply import apply_runtime_options
from tests.support.runs import options

IMAGE = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")


class Decoder(nn.Module):
    """A half with a checkpoint of its own; it may be called alone."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1))

    def forward(self, z):
        return checkpoint(self.conv, z, use_reentrant=False)


class Coder(nn.Module):
    """Two halves, called by forward, by methods, or from outside."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.decoder = Decoder()
        self.sizes = []

    def encode(self, x):
        return {"z": self.encoder(x), "sizes": [x.shape]}

    def decode(self, z, scale):
        return scale * self.decoder(z)

    def remember(self, size):
        self.sizes.append((size, torch.is_autocast_enabled("cpu")))

    def steps(self, x):
        yield self.encoder(x)

    def forward(self, x):
        self.remember(len(x))
        return self.decode(self.encode(x)["z"], scale=1.0)


WAYS = {  # from outside, an image to an image or to features
    "forward": lambda net, x: net(x),
    "a method": lambda net, x: net.encode(x)["z"],
    "a list of tensors": lambda net, x: net.decode(*[net.encode(x)["z"]], scale=2.0),
    "a half": lambda net, x: net.encoder(x),
    "both halves": lambda net, x: net.decoder(net.encoder(x)),
    "layer by layer": lambda net, x: net.encoder[2](net.encoder[1](net.encoder[0](x))),
    "part of a Sequential": lambda net, x: net.encoder[:1](x),
}


def tuned(*flags, net=None):
    torch.manual_seed(0)
    net = net or Coder()
    apply_runtime_options({"G": net}, options(*flags), CPU)
    return net.train()


def dtypes_in(net, call):
    """Return what a call returns, and the dtypes of its convolutions' outputs."""
    kinds = []
    convs = [part for part in net.modules() if isinstance(part, nn.Conv2d)]
    hooks = [conv.register_forward_hook(lambda part, args, out: kinds.append(out.dtype)) for conv in convs]
    made = call()
    for hook in hooks:
        hook.remove()
    return made, set(kinds)


def gradients(net, way, x=IMAGE):
    """Return the output of a call, and the gradients of the weights."""
    net.zero_grad()
    made = WAYS[way](net, x)
    made.square().mean().backward()
    return [made.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]


def equal(one, other):
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_computes_in_16_bits_and_returns_32(way):
    plain, net = tuned(), tuned("--amp", "bf16")
    made, kinds = dtypes_in(net, lambda: WAYS[way](net, IMAGE))
    layers = way in ("layer by layer", "part of a Sequential")  # they return to the caller, in 32 bits
    assert made.dtype == torch.float32 and kinds == {torch.float32 if layers else torch.bfloat16}
    exact = WAYS[way](plain, IMAGE)
    assert not torch.equal(made, exact) and torch.allclose(made, exact, atol=0.05)


@pytest.mark.parametrize("way", WAYS)
def test_evaluation_and_penalties_keep_32_bits(way):
    plain, net = tuned(), tuned("--amp", "bf16", "--grad_checkpoint")
    assert torch.equal(WAYS[way](net.eval(), IMAGE), WAYS[way](plain.eval(), IMAGE))
    slopes = []
    for one in (plain.train(), net.train()):
        x = IMAGE.clone().requires_grad_()
        with disable_autocast():
            (slope,) = torch.autograd.grad(WAYS[way](one, x).square().sum(), x, create_graph=True)
        one.zero_grad()
        slope.square().sum().backward()  # the second derivative is taken after the block
        slopes.append([slope.detach(), *(p.grad for p in one.parameters() if p.grad is not None)])
    assert equal(*slopes)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_activations_computed_again_keep_values_and_precision(way, amp):
    assert equal(gradients(tuned("--amp", amp), way), gradients(tuned("--amp", amp, "--grad_checkpoint"), way))


@pytest.mark.parametrize("way", ["a method", "a half"])
def test_checkpointing_reaches_methods_and_halves(way):
    calls = {}
    for again in ([], ["--grad_checkpoint"]):
        net = tuned(*again)
        counted = []
        net.encoder[0].register_forward_hook(lambda *_, counted=counted: counted.append(1))
        gradients(net, way)
        calls[bool(again)] = len(counted)
    assert calls == {False: 1, True: 2}


def test_a_network_that_cannot_be_checkpointed_is_named(capsys):
    tuned("--grad_checkpoint", net=nn.Conv2d(3, 3, 1))
    assert "note: --grad_checkpoint has no effect on network G, which has no nn.Sequential" in capsys.readouterr().out


def test_calls_from_within_and_without_tensors_run_as_they_are():
    net = tuned("--amp", "bf16")
    net(IMAGE)
    net.remember(5)
    assert net.sizes == [(2, True), (5, False)]
    with torch.autocast("cpu", torch.bfloat16):
        expected = Coder.forward(tuned(), IMAGE).float()
    assert torch.equal(net(IMAGE), expected)


@pytest.mark.parametrize("compiles", [True, False])
def test_methods_and_halves_are_compiled(compiles, monkeypatch, capsys):
    compiled = []

    def compile(plain, **how):
        def run(*args, **kwargs):
            if not compiles:
                raise NotImplementedError
            compiled.append(getattr(plain, "__name__", ""))
            return plain(*args, **kwargs)

        return run

    monkeypatch.setattr(torch, "compile", compile)
    net = tuned("--compile", "default")
    with torch.no_grad():  # a call with gradients is tried out before
        for way in WAYS:
            assert torch.equal(WAYS[way](net, IMAGE), WAYS[way](tuned(), IMAGE))
        net.eval()
        net.encode(IMAGE)
    notes = [line for line in capsys.readouterr().out.splitlines() if "is not compiled" in line]
    if compiles:
        assert compiled == ["forward", "encode", "encode", "decode", "forward", "forward", "forward"] and not notes
    else:
        assert [note.split()[2] for note in notes] == ["G", "G.encode", "G.decode", "G.encoder", "G.decoder"]


def test_a_copy_of_a_tuned_network_has_weights_of_its_own():
    net = tuned("--amp", "bf16", "--compile", "default", "--grad_checkpoint", "--fast_convolutions")
    twin = copy.deepcopy(net).eval()
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    for way in WAYS:
        assert not WAYS[way](twin, IMAGE).any() and WAYS[way](net.eval(), IMAGE).any()


def test_a_frozen_network_is_tuned_while_its_model_trains():
    model = nn.Module()
    model.F = tuned("--amp", "bf16", net=Frozen(Coder()))
    for call in (lambda: model.F(IMAGE), lambda: model.F.encode(IMAGE)["z"]):
        assert dtypes_in(model, call)[1] == {torch.bfloat16}, "a new model is in training mode"
        assert dtypes_in(model.eval(), call)[1] == {torch.float32}
        model.train()


def test_weights_that_are_computed_keep_their_precision():
    """Such as a spectral norm's, read by a loss."""
    net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)))
    exact = net.eval()[0].weight
    tuned("--amp", "bf16", net=net)
    for part in net[0].parametrizations.modules():
        part.eval()  # no further iteration of the norm
    assert torch.equal(net[0].weight, exact)
