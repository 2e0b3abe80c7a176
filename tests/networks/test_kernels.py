"""Networks compute with CPU kernels and stay made of plain nn.Conv2d."""

import copy
import importlib
import io
import json
import warnings

import pytest
import torch
from torch import nn
from torch.overrides import _len_torch_function_stack

from networks.cpu import torch_private, winograd_conv
from networks.cpu.kernels import apply_cpu_kernels
from networks.cpu.narrow_conv import NarrowConv2d
from networks.cpu.winograd_conv import WinogradConv2d
from networks.predictions import scales
from options.parse import parse
from registry.lookup import find
from tests.support.architectures import NAMES
from tests.support.runs import options

CPU = torch.device("cpu")
NETWORKS = [(kind, name) for kind in ("generator", "discriminator") for name in NAMES[kind]]


def convolutions(net):
    return [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]


def with_kernels(net):
    return [layer for layer in convolutions(net) if "_conv_forward" in vars(layer)]


@pytest.fixture(params=NETWORKS, ids="-".join)
def net(request, always_halved):
    """A registered network in 64 bits with a kernel in every layer that can have one."""
    kind, name = request.param
    torch.manual_seed(0)
    o = options("--model", "pix2pix", "--ngf", "8", "--norm", "instance", "--no_dropout")
    made = find(kind, name)(o, 3, *([3] if kind == "generator" else [])).double()
    apply_cpu_kernels([made], True, CPU)
    return made


def plain_copy(net):
    """Return a copy of a network without kernels."""
    plain = copy.deepcopy(net)
    for layer in with_kernels(plain):
        del layer._conv_forward
    return plain


def flat(out):
    """Return all values of a tensor, or of the tensors of several scales."""
    return torch.cat([p.flatten() for p in scales(out)])


def image(side):
    return torch.rand(1, 3, side, side, dtype=torch.double)


def test_layers_are_plain_convolutions_with_their_keys(net):
    assert {type(layer) for layer in convolutions(net)} == {nn.Conv2d}
    assert all(key.rpartition(".")[2] in ("weight", "bias") for key in net.state_dict())
    assert net.state_dict().keys() == plain_copy(net).state_dict().keys()


def test_values_and_gradients_are_those_without_kernels(net):
    x, results = image(64), []
    for each in (net, plain_copy(net)):
        leaf = x.clone().requires_grad_()
        out = flat(each(leaf))
        gradients = torch.autograd.grad(out.square().mean(), [leaf, *each.parameters()], create_graph=True)
        second = torch.autograd.grad(gradients[0].square().sum(), list(each.parameters()), allow_unused=True)
        # compared together, because those of a bias before a norm are 0 but for rounding
        results.append([out, *gradients, torch.cat([g.flatten() for g in second if g is not None])])
    for fast, plain in zip(*results, strict=True):
        assert torch.allclose(fast, plain, rtol=1e-8, atol=1e-12 + 1e-10 * float(plain.abs().max()))


def test_exported_networks_hold_plain_convolutions(net):
    x = image(64)
    with torch.no_grad():
        expected = flat(net.eval()(x))
        program = torch.export.export(net, (x,))
        assert torch.allclose(flat(program.module()(x)), flat(plain_copy(net)(x)), rtol=1e-12, atol=1e-14)
    targets = [str(node.target) for node in program.graph.nodes if "conv2d" in str(node.target)]
    assert targets == ["aten.conv2d.default"] * len(convolutions(net))
    assert torch.allclose(flat(program.module()(x)), expected, rtol=1e-8, atol=1e-10)


def test_traced_networks_hold_plain_convolutions(net):
    x = image(256)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and fixes the branches on sizes
        traced = torch.jit.trace(net.eval(), x, check_trace=False)
        assert torch.allclose(flat(traced(x)), flat(net(x)), rtol=1e-8, atol=1e-10)
    nodes = [node for node in traced.inlined_graph.findAllNodes("aten::_convolution", True)]
    transposed = sum(isinstance(layer, nn.ConvTranspose2d) for layer in net.modules())
    assert len(nodes) == len(convolutions(net)) + transposed


def test_copies_and_pickles_compute_with_their_own_weights(always_halved):
    conv = nn.Conv2d(4, 5, 3).double()
    apply_cpu_kernels([conv], True, CPU)
    buffer = io.BytesIO()
    torch.save(conv, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(conv), torch.load(buffer, weights_only=False)):
        assert len(with_kernels(other)) == 1
        nn.init.zeros_(other.weight)
        x = torch.rand(1, 4, 9, 9, dtype=torch.double)
        assert torch.equal(other(x), other.bias[:, None, None].expand(1, 5, 7, 7))
        assert not torch.equal(conv(x), other(x))


def test_runs_of_before_have_the_former_kernels_only():
    own = nn.Sequential(nn.Conv2d(96, 96, 3), nn.Conv2d(64, 3, 7, padding=3))
    resnet = find("generator", "resnet_4blocks")(options("--model", "pix2pix"), 3, 3)
    apply_cpu_kernels([own, resnet], None, CPU)
    assert (len(with_kernels(own)), len(with_kernels(resnet))) == (0, 4 * 2 + 2)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("fast", [True, False])
def test_all_networks_have_kernels_or_none_has(fast, device):
    own = nn.Sequential(
        nn.Conv2d(64, 96, 3),
        nn.Conv2d(96, 3, 7, padding=3),
        *(nn.Conv2d(96, 96, 3, stride=2), nn.Conv2d(64, 64, 3), nn.Conv2d(96, 96, (3, 1))),
        *(nn.Conv2d(96, 3, 5), nn.Conv2d(8, 3, 7), nn.Conv2d(96, 3, (7, 1)), nn.ConvTranspose2d(96, 96, 3)),
    )
    resnet = find("generator", "resnet_4blocks")(options("--model", "pix2pix"), 3, 3)
    apply_cpu_kernels([own, resnet], fast, torch.device(device))
    expected = (2, 4 * 2 + 2) if fast and device == "cpu" else (0, 0)
    assert (len(with_kernels(own)), len(with_kernels(resnet))) == expected


def test_padded_narrow_layers_have_the_values_of_plain_ones():
    torch.manual_seed(0)
    for padding in (1, 3, (0, 2)):
        conv = nn.Conv2d(9, 3, 7, padding=padding).double()
        x = torch.rand(2, 9, 11, 12, dtype=torch.double)
        expected = conv(x)
        apply_cpu_kernels([conv], True, CPU)
        assert with_kernels(conv) and torch.allclose(conv(x), expected, rtol=1e-12, atol=1e-12)


class Scaled(nn.Conv2d):
    """A convolution that changes its weights on the way."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, 2 * weight, bias)


def test_layers_with_a_convolution_of_their_own_keep_it():
    layers = [Scaled(64, 64, 3), WinogradConv2d(64, 64, 3), NarrowConv2d(9, 3, 7, False)]
    apply_cpu_kernels(layers, True, CPU)
    assert not any(map(with_kernels, layers))
    x = torch.rand(1, 9, 8, 8)
    assert torch.allclose(layers[2](x), nn.functional.conv2d(x, layers[2].weight), atol=1e-5)


def test_earlier_layers_of_plugins_have_their_kernel(always_halved, monkeypatch):
    monkeypatch.setattr(winograd_conv._WinogradFunction, "apply", lambda *args: "winograd")
    assert WinogradConv2d(4, 4, 3)(torch.rand(1, 4, 8, 8)) == "winograd"


def test_spectral_norm_after_the_kernels_is_spectral_norm(always_halved):
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 6, 3).double()
    plain = copy.deepcopy(conv)
    apply_cpu_kernels([conv], True, CPU)
    x, made = torch.rand(1, 5, 8, 8, dtype=torch.double), []
    for each in (conv, plain):
        torch.manual_seed(0)
        normed = nn.utils.parametrizations.spectral_norm(each)
        made.append((normed(x), normed(x)))
    assert all(torch.allclose(a, b, rtol=1e-11, atol=1e-12) for a, b in zip(*made, strict=True))


def test_a_torch_without_a_private_name_gets_one_note(monkeypatch, capsys, always_halved):
    with monkeypatch.context() as patch:
        patch.delattr(torch.overrides, "_len_torch_function_stack")
        importlib.reload(torch_private)
        resnets = [
            find("generator", "resnet_4blocks")(options("--model", "pix2pix", "--dataroot", "demo"), 3, 3)
            for _ in range(2)
        ]
        apply_cpu_kernels(resnets, True, CPU)
        layer, x = WinogradConv2d(4, 4, 3), torch.rand(1, 4, 8, 8)
        assert torch.equal(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias))
    importlib.reload(torch_private)
    assert torch_private._len_torch_function_stack is _len_torch_function_stack and not torch_private.missing_name
    assert not any(map(with_kernels, resnets))
    assert capsys.readouterr().out == (
        "note: convolutions are torch's own, which are slower "
        "(cannot import name '_len_torch_function_stack' from 'torch.overrides')\n"
    )


SMALL = ("--model", "small", "--plugin", "small.py", "--dataroot", "demo", "--load_size", "32", "--crop_size", "32",
         "--max_dataset_size", "2", "--num_threads", "0", "--gpu_ids", "-1", "--displays", "console", "--n_epochs", "1",
         "--n_epochs_decay", "0")  # fmt: skip


@pytest.fixture
def seen(monkeypatch, write):
    """A plug-in whose generator is one 7x7 convolution; the result lists how many kernels each forward pass has."""
    from networks.cpu import kernels, narrow_conv
    from tests.support.plugins import SMALLEST

    write(
        "small.py",
        SMALLEST.replace(
            "nn.Conv2d(spec.input_nc, spec.output_nc, 1)",
            "nn.Sequential(nn.Conv2d(3, 9, 1), nn.Conv2d(9, 3, 7, padding=3))",
        ).replace("Smallest", "Small"),
    )
    calls, real = [], narrow_conv.convolve
    monkeypatch.setattr(kernels.narrow_conv, "convolve", lambda *args: calls.append(1) or real(*args))
    return calls


def without_the_option(folder):
    """Make a finished run one of before: its options and states do not have --fast_convolutions."""
    path = folder / "options.json"
    tables = json.loads(path.read_text())
    del tables["options"]["fast_convolutions"]
    path.write_text(json.dumps(tables))
    for file in folder.glob("state_*"):
        state = torch.load(file, weights_only=True)
        del state["options"]["fast_convolutions"]
        torch.save(state, file)


def test_networks_of_plugins_have_kernels_in_train_and_test(command, seen):
    assert command("train", *SMALL, "--name", "run").code == 0
    assert seen
    seen.clear()
    assert command("test", "--name", "run").code == 0
    assert seen
    seen.clear()
    assert command("train", *SMALL, "--name", "off", "--no_fast_convolutions").code == 0
    assert command("train", "--name", "off", "--continue_train", "--n_epochs", "2").code == 0
    assert command("test", "--name", "off").code == 0
    assert not seen


def test_a_run_from_before_the_option_continues_without(command, seen, tmp_path):
    assert command("train", *SMALL, "--name", "run").code == 0
    without_the_option(tmp_path / "checkpoints/run")
    seen.clear()
    for n_epochs in ("2", "3"):
        continued = command("train", "--name", "run", "--continue_train", "--n_epochs", n_epochs)
        assert continued.code == 0 and "fast_convolutions" not in continued.out
    assert command("test", "--name", "run").code == 0
    assert not seen
    assert parse(["--name", "run", "--continue_train"], "train").fast_convolutions is None
    without_the_option(tmp_path / "checkpoints/run")
    changed = command("train", "--name", "run", "--continue_train", "--n_epochs", "4", "--fast_convolutions")
    assert "--fast_convolutions None -> True" in changed.out and seen


def test_weights_without_options_are_tested_as_before(command, seen, tmp_path, monkeypatch):
    import networks.runtime.apply as runtime

    assert command("train", *SMALL, "--model", "pix2pix", "--netG", "unet_32", "--ngf", "4", "--name", "run").code == 0
    (tmp_path / "checkpoints/run/options.json").unlink()
    given = []
    monkeypatch.setattr(runtime, "apply_cpu_kernels", lambda networks, fast, device: given.append(fast))
    assert command("test", "--model", "pix2pix", "--name", "run", "--dataroot", "demo", "--num_test", "1").code == 0
    assert given == [None]
