"""A step that is split, checkpointed, compiled or in 16 bits equals the plain training step."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

from networks.gan_loss import gradient_penalty
from networks.runtime.amp import apply_autocast
from networks.runtime.compiled import compile_network
from networks.runtime.grad_checkpoint import checkpoint_activations
from registry.lookup import find
from serialization.weight_files import load_weights, save_networks
from tests.support.runs import options
from tests.support.small_models import MODELS, TINY
from tests.support.steps import ALONE, TRAINED, far, trained
from training.forward_pass import split_batch


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("model", TRAINED)
def test_a_batch_in_parts_is_the_batch_at_once(model, parts):
    """Losses, weights and pools to 1e-6 in float64, where no norm looks beyond a sample."""
    # noise: 16 draws a row
    flags = ("--norm", "none", "--batch_size", 16) if hasattr(MODELS[model], "sheets") else ALONE
    if model == "sincut":  # a part's patches are contrasted with those of the part
        flags = (*flags, "--no_nce_includes_all_negatives_from_minibatch")
    if model == "spade":  # a spectral norm makes a step of the power method for each part
        flags = (*flags, "--norm_G", "spadeinstance1x1", "--norm_D", "instance")
    whole, cut = (trained(model, *flags, "--accumulate", n, double=True) for n in (1, parts))
    assert max(far(whole, cut)) < 1e-6
    for one, other in zip(pools(whole[0]), pools(cut[0]), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def pools(run):
    return [image for m in run.model.modules() for image in getattr(m, "images", [])]


def test_pools_are_asked_once_for_each_picture():
    run, _, _ = trained("cycle_gan", *ALONE, "--accumulate", 4, steps=2)
    assert len(run.model.pool_A.images) == len(run.model.pool_B.images) == 16


def test_parts_draw_alike_in_phases_and_change_statistics_once():
    """With dropout and batch norm the generator of a part gives in its own phase what the discriminator saw."""
    seen = []

    def watch(run):
        forward = run.model.G.forward
        run.model.G.forward = lambda x: seen.append(forward(x)) or seen[-1]

    run, _, _ = trained("pix2pix", "--accumulate", 2, steps=1, prepare=watch)
    first, second, asked, *own = seen  # before the phases; whether D's phase needs it; in G's phase
    assert len(own) == 2 and torch.equal(own[0], first) and torch.equal(own[1], second) and torch.equal(asked, first)
    assert not torch.equal(first, second)
    counts = {int(m.num_batches_tracked) for m in run.model.G.modules() if isinstance(m, nn.BatchNorm2d)}
    assert counts == {2}


def test_a_batch_and_what_belongs_to_its_samples_divide_evenly():
    batch = {"A": torch.arange(5.0)[:, None], "path_A": list("abcde"), "label": torch.arange(5), "scale": 3,
             "table": torch.zeros(2, 2)}  # fmt: skip
    parts = split_batch(batch, 3)
    assert [part["path_A"] for part in parts] == [["a"], ["b", "c"], ["d", "e"]]
    assert [part["label"].tolist() for part in parts] == [[0], [1, 2], [3, 4]]
    assert all(part["scale"] == 3 and part["table"].shape == (2, 2) for part in parts)
    assert len(split_batch(batch, 9)) == 5


@pytest.mark.parametrize("model", TRAINED)
def test_activations_computed_again_are_the_same_bits(model):
    """With the model's own norm and dropout: losses, weights, running statistics."""
    assert far(trained(model), trained(model, "--grad_checkpoint")) == (0, 0)


def test_runs_of_layers_begin_anywhere():
    """Where a norm is left out, what comes before an activation that works in place is kept as the run's input."""
    assert far(trained("cgan", "--norm", "none"), trained("cgan", "--norm", "none", "--grad_checkpoint")) == (0, 0)


@pytest.mark.parametrize("netG", ["unet_32", "unet_64", "resnet_4blocks"])
def test_fewer_activations_are_kept(netG):
    kept = {}
    for again in (False, True):
        o = options("--model", "cycle_gan", "--netG", netG, "--ngf", "8")
        torch.manual_seed(0)
        net = find("generator", netG)(o, 3, 3)
        if again:
            checkpoint_activations(net)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: s.append(x.nbytes) or x, lambda x: x):
            net(torch.rand(1, 3, 64, 64, requires_grad=True))
        kept[again] = sum(sizes) - 2 * sum(p.nbytes for p in net.parameters())
    assert kept[True] < 0.5 * kept[False]


@pytest.mark.parametrize("model", TRAINED)
def test_losses_in_16_bits_are_near_those_in_32(model):
    """bfloat16 has 8 bits of precision: 2 % on losses after one step; weights keep 32 bits."""
    whole, low = (trained(model, "--amp", kind, steps=1) for kind in ("off", "bf16"))
    assert 0 < far(whole, low)[0] < 0.02
    assert {value.dtype for value in low[0].model.state_dict().values() if torch.is_tensor(value)} <= {
        torch.float32,
        torch.int64,
    }
    assert all(x.dtype == torch.float32 for x in low[2].values() if torch.is_tensor(x) and x.is_floating_point())


@pytest.mark.parametrize("model", TRAINED)
def test_half_floats_are_scaled_and_the_state_has_the_scale(model):
    run, *_ = trained(model, "--amp", "fp16", steps=3)
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    assert run.optimizers.scaler.is_enabled() and run.optimizers.scaler.get_scale() > 1
    run.optimizers.scaler.update(512.0)
    run.optimizers.load_state_dict(run.optimizers.state_dict(), {**run.optimizers.scaler.state_dict(), "scale": 256.0})
    assert run.optimizers.scaler.get_scale() == 256


def test_evaluation_and_second_derivatives_keep_32_bits():
    o = options("--model", "cycle_gan", *TINY)
    torch.manual_seed(0)
    net = find("discriminator", "basic")(o, 3)
    x, y = torch.rand(2, 1, 3, 64, 64)
    before, slope = net.eval()(x), _penalty(net.train(), x, y)
    apply_autocast(net, "bf16")
    assert torch.equal(net.eval()(x), before) and torch.equal(_penalty(net.train(), x, y), slope)
    assert not torch.equal(net(x), before), "and training does use 16"


def _penalty(net, x, y):
    torch.manual_seed(3)
    return gradient_penalty(net, x, y)


class Heads(NamedTuple):
    """What a network of two heads may return."""

    coarse: torch.Tensor
    fine: torch.Tensor


class Nested(nn.Linear):
    """A network that returns more than a tensor."""

    def forward(self, x):
        made = super().forward(x)
        return {"a": [made, (made, "x")], "b": x.double(), "heads": Heads(made, made)}


def test_nested_16_bit_outputs_are_widened():
    net = Nested(4, 4)
    assert net(torch.rand(1, 4))["heads"].fine.dtype == torch.float32
    apply_autocast(net, "bf16")
    x = torch.rand(1, 4)
    found = net(x)
    assert found["a"][0].dtype == found["a"][1][0].dtype == torch.float32 and found["a"][1][1] == "x"
    assert isinstance(found["heads"], Heads) and {each.dtype for each in found["heads"]} == {torch.float32}
    assert found["b"].dtype == torch.float64 and torch.equal(found["b"], x.double())
    assert not torch.equal(found["a"][0], nn.functional.linear(x, net.weight, net.bias)), "16 bits were used"


@pytest.mark.parametrize("model", TRAINED)
def test_channels_last_changes_nothing_but_the_layout(model):
    plain, last = (trained(model, "--memory_format", form, steps=2) for form in ("auto", "channels_last"))
    assert far(plain, last)[0] < 1e-3
    weights = [p for p in last[0].model.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert weights and all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


def test_weights_are_shared_as_they_always_lie(tmp_path):
    run, *_ = trained("pix2pix", "--memory_format", "channels_last", steps=1)
    save_networks(tmp_path, "latest", run.networks())
    for name, net in run.networks().items():
        held = load_weights(tmp_path / f"latest_net_{name}.pth")
        assert all(value.is_contiguous() for value in held.values())
        assert all(torch.equal(value, net.state_dict()[key]) for key, value in held.items())


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize(
    "flags", [["pix2pix"], pytest.param(["cgan", "--gan_mode", "wgangp"], marks=pytest.mark.slow)], ids=" ".join
)
def test_compiled_networks_are_the_networks(flags, mode, capsys):
    """The same losses, with second derivatives too; the trial before the first step leaves no trace."""
    plain, fast = (trained(*flags, "--compile", how, steps=2) for how in ("off", mode))
    assert far(plain, fast)[0] < 1e-3
    assert "is not compiled" not in capsys.readouterr().out


class Stubborn(torch.autograd.Function):
    """What cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, slope):
        raise AssertionError("expected size 8==8, stride 16==1 at dim=1\nError in op: convolution_backward")


def test_a_compiled_backward_that_fails_is_found_before_a_step(capsys, monkeypatch):
    """As torch's guesses of strides may: seen on a GPU with a transposed convolution of 1x1 pixels."""
    monkeypatch.setattr(torch, "compile", lambda plain, **how: lambda *args: Stubborn.apply(plain(*args)))
    plain, other = (trained("pix2pix", "--compile", mode, steps=2) for mode in ("off", "default"))
    assert far(plain, other) == (0, 0)
    notes = [line for line in capsys.readouterr().out.splitlines() if "is not compiled" in line]
    why = "expected size 8==8, stride 16==1 at dim=1"
    assert notes == [f"note: network {name} is not compiled ({why})" for name in "GD"]


def silent(*_args):
    raise NotImplementedError


def test_a_network_that_is_not_compiled_keeps_its_precision(capsys, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda plain, **how: silent)
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    kinds = []
    net[0].register_forward_hook(lambda layer, given, made: kinds.append(made.dtype))
    compile_network("G", net, "default")
    apply_autocast(net, "bf16")
    for _ in range(3):
        net(torch.rand(1, 3, 8, 8))
    assert kinds == [torch.bfloat16] * 3
    assert capsys.readouterr().out == "note: network G is not compiled (NotImplementedError)\n"


def test_another_way_of_compiling_is_tried_after_the_first(capsys, monkeypatch):
    """The first way cannot differentiate by the input; the second not by the weights, which the first could."""

    def compile(plain, mode=None, options=None):
        def fast(x):
            blocked = x.requires_grad if mode else not x.requires_grad
            return Stubborn.apply(plain(x)) if blocked and torch.is_grad_enabled() else plain(x)

        return fast

    monkeypatch.setattr(torch, "compile", compile)
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    compile_network("D", net, "default")
    x = torch.rand(1, 3, 8, 8)
    net(x).sum().backward()
    net[0].requires_grad_(False)
    net(x.requires_grad_() * 1).sum().backward()
    net[0].requires_grad_(True)
    net(x.detach()).sum().backward()
    assert capsys.readouterr().out.startswith("note: network D is not compiled (expected size")


def test_compiled_second_derivatives_are_refused_in_one_line():
    from cli.main import describe_failure

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 1, 3))
    x = (torch.rand(1, 3, 8, 8, requires_grad=True) * 2).cos()  # no leaf, so that it is not known beforehand
    compile_network("D", net, "default")
    made = net(x).sum()
    with pytest.raises(RuntimeError) as ended:
        torch.autograd.grad(made, x, create_graph=True)
    code, line = describe_failure(ended.value)
    assert code == 5 and line.startswith("error: option '--compile': gives networks without second derivatives")


def test_without_a_compiler_training_goes_on_as_it_was(capsys, monkeypatch, tmp_path):
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch._dynamo.reset()
    with config.patch({"cpp.cxx": ("/no/compiler",)}):
        plain, other = (trained("pix2pix", "--compile", mode, steps=2) for mode in ("off", "default"))
    assert far(plain, other) == (0, 0)
    assert capsys.readouterr().out.count("note: network G is not compiled (") == 1
