"""Somebody's bare .pth: its architecture is read from keys and shapes, old quirks load, others are refused."""

import argparse
import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import picture
from PIL import Image
from torch import nn

from data.images import open_image
from data.transforms import to_tensor
from networks import discriminator, generator
from networks.infer import infer_generator
from util import checkpoint
from util.errors import CheckpointError
from util.pixels import to_pixels
from util.registry import entries

RESNETS = ["resnet_9blocks", "resnet_6blocks", "resnet_4blocks"]
UNETS = ["unet_256", "unet_128", "unet_64", "unet_32"]
USUAL = dict(netG="resnet_4blocks", netD="basic", ngf=4, ndf=4, n_layers_D=3, norm="instance", no_dropout=True,
             padding="reflect", init_type="normal", init_gain=0.02, input_nc=3, output_nc=3)  # fmt: skip


def build(**changed):
    o = SimpleNamespace(**(USUAL | changed))
    return generator(o, o.input_nc, o.output_nc)


def shapes(state):
    return {key: tuple(value.shape) for key, value in state.items()}


# --- reading the architecture ---------------------------------------------------------------------------------------

PADDED = [(netG, padding) for netG in RESNETS for padding in ("reflect", "replicate", "zero")]


@pytest.mark.parametrize("no_dropout", [True, False], ids=["no_dropout", "dropout"])
@pytest.mark.parametrize("norm", ["instance", "batch", "syncbatch", "none"])
@pytest.mark.parametrize(("netG", "padding"), PADDED + [(netG, "reflect") for netG in UNETS])
def test_the_flags_read_from_weights_rebuild_their_keys_and_shapes(netG, padding, norm, no_dropout):
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
    assert {e.name for e in entries("generator") if e.origin == "built in"} == {*RESNETS, *UNETS}


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


def test_an_old_instance_norms_statistics_do_not_make_it_a_batch_norm():
    for netG in ("resnet_4blocks", "unet_32"):
        assert infer_generator(with_instance_statistics(build(netG=netG)))["norm"] == "instance"


# --- quirks of published files --------------------------------------------------------------------------------------


def with_instance_statistics(net):
    """As torch 0.3 wrote them: running statistics of instance norms that no longer keep any."""
    state = dict(net.state_dict())
    norms = [name for name, layer in net.named_modules() if isinstance(layer, nn.InstanceNorm2d)]
    assert norms
    for name in norms:
        state |= {f"{name}.running_mean": torch.zeros(4), f"{name}.running_var": torch.ones(4)}
    return state


def prefixed(prefix):
    return lambda net: {prefix + key: value for key, value in net.state_dict().items()}


def without_counters(net):
    return {key: value for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}


QUIRKS = {  # name: (norm of the network, what of it was saved)
    "plain": ("instance", lambda net: net.state_dict()),
    "a plain dict, no _metadata": ("instance", lambda net: dict(net.state_dict())),
    "instance norm statistics": ("instance", with_instance_statistics),
    "DataParallel": ("batch", prefixed("module.")),
    "compiled": ("batch", prefixed("_orig_mod.")),
    "DataParallel of compiled": ("batch", prefixed("module._orig_mod.")),
    "compiled DataParallel": ("instance", prefixed("_orig_mod.module.")),
    "no num_batches_tracked": ("batch", without_counters),
    "inside a training state": ("batch", lambda net: {"epoch": 3, "state_dict": net.state_dict()}),
    "half precision": ("batch", lambda net: copy.deepcopy(net).half().state_dict()),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("quirk", QUIRKS)
def test_weights_with_old_quirks_load(quirk, legacy, tmp_path):
    norm, change = QUIRKS[quirk]
    torch.manual_seed(1)
    source = build(norm=norm)
    source(torch.rand(2, 3, 8, 8))  # a batch norm has seen something
    path = tmp_path / "latest_net_G.pth"
    torch.save(change(source), path, _use_new_zipfile_serialization=not legacy)
    torch.manual_seed(2)
    target = build(norm=norm)
    state = checkpoint.weights(path)
    found = infer_generator(state)
    assert (found["netG"], found["norm"], found["ngf"]) == ("resnet_4blocks", norm, 4)
    checkpoint.fit(target, state, path)
    x = torch.rand(1, 3, 8, 8)
    exact = 1e-3 if quirk == "half precision" else 0
    assert torch.allclose(source.eval()(x), target.eval()(x), rtol=0, atol=exact)
    assert all(p.dtype == torch.float32 for p in target.parameters())


def test_metadata_and_missing_counters_together_load(tmp_path):
    """Strictly, torch itself takes such a file only without its _metadata."""
    source = build(norm="batch")
    state = source.state_dict()
    for key in [key for key in state if key.endswith("num_batches_tracked")]:
        del state[key]
    assert hasattr(state, "_metadata")
    torch.save(state, tmp_path / "x.pth")
    target = build(norm="batch")
    checkpoint.fit(target, checkpoint.weights(tmp_path / "x.pth"), tmp_path / "x.pth")
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_weights_that_were_saved_on_a_gpu_load_on_the_cpu(legacy, tmp_path, monkeypatch):
    source = build()
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:3")
        torch.save(source.state_dict(), tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    state = checkpoint.weights(tmp_path / "x.pth")
    assert {value.device.type for value in state.values()} == {"cpu"}
    assert all(torch.equal(state[key], value) for key, value in source.state_dict().items())


def published(tmp_path, net, name="latest_net_G.pth", folder="published"):
    """Save a network's weights as somebody would hand them over: one file in a folder, nothing beside it."""
    path = tmp_path / "checkpoints" / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)
    return path


CPU = ("--gpu_ids", -1, "--num_threads", 0)


@pytest.mark.parametrize("how", [
    dict(netG="resnet_6blocks", norm="instance", ngf=3),
    dict(netG="resnet_4blocks", norm="batch", ngf=2, no_dropout=False),
    dict(netG="unet_32", norm="batch", ngf=2, no_dropout=False),
    dict(netG="unet_64", norm="instance", ngf=1, input_nc=1, output_nc=3),
    dict(netG="resnet_4blocks", norm="none", ngf=2, input_nc=3, output_nc=1, padding="zero"),
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
    assert ended.last.endswith("leave out --ngf")


# --- what does not fit ----------------------------------------------------------------------------------------------

WRONG = {  # what the file was made with: what the first difference from USUAL is
    "ngf": (dict(ngf=6), "'model.1.weight' is 6x3x7x7 in the file and 4x3x7x7 in the network"),
    "channels": (dict(input_nc=1), "'model.1.weight' is 4x1x7x7 in the file and 4x3x7x7 in the network"),
    "output channels": (dict(output_nc=1), "'model.21.weight' is 1x4x7x7 in the file and 3x4x7x7 in the network"),
    "norm": (dict(norm="batch"), "'model.1.bias' is absent in the file and 4 in the network"),
    "dropout": (dict(no_dropout=False), "'model.10.conv_block.5.weight' is absent in the file and 16x16x3x3 in the"),
    "fewer blocks": (
        dict(netG="resnet_6blocks"),
        "'model.14.weight' is absent in the file and 16x8x3x3 in the network",
    ),
    "another": (dict(netG="unet_32"), "'model.1.weight' is absent in the file and 4x3x7x7 in the network"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_does_not_fit_is_named_with_the_first_differing_key_and_both_shapes(case, tmp_path):
    how, difference = WRONG[case]
    path = tmp_path / "x.pth"
    torch.save(build(**how).state_dict(), path)
    net = build()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        checkpoint.fit(net, checkpoint.weights(path), path)
    text = str(caught.value)
    assert text.startswith(f"file '{path}': does not fit this network: {difference}")
    assert text.endswith("check --netG, --ngf, --norm and --no_dropout")
    assert "\n" not in text
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items()), "nothing was half loaded"


def test_a_surplus_key_is_named_too(tmp_path):
    state = build().state_dict() | {"model.99.weight": torch.zeros(2, 3), "model.99.count": torch.tensor(1)}
    with pytest.raises(CheckpointError, match=r"'model\.99.weight' is 2x3 in the file and absent in the network"):
        checkpoint.fit(build(), dict(state), tmp_path / "x.pth")


def poisoned(key, value):
    state = dict(build().state_dict())
    state[key] = value
    return state


CONTENTS = {
    "NaN": (poisoned("model.4.weight", torch.full((8, 4, 3, 3), float("nan"))), "'model.4.weight' holds NaN or Inf"),
    "Inf": (poisoned("model.4.bias", torch.full((8,), float("inf"))), "'model.4.bias' holds NaN or Inf"),
    "sparse": (poisoned("model.4.bias", torch.ones(8).to_sparse()), "'model.4.bias' is no dense tensor"),
    "a tensor": (torch.zeros(3), "holds no state_dict"),
    "nothing": ({}, "holds no state_dict"),
    "a list": ([torch.zeros(3)], "holds no state_dict"),
    "numbers": ({"a": 1}, "holds no state_dict"),
    "objects": ({"opt": argparse.Namespace(a=1)}, "holds Python objects (argparse.Namespace)"),
    "a whole network": (nn.Sequential(nn.Conv2d(3, 3, 3)), "holds Python objects ("),
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("case", CONTENTS)
def test_a_file_of_something_else_is_refused_in_one_line(case, legacy, tmp_path):
    content, why = CONTENTS[case]
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.weights(tmp_path / "x.pth")
    text = str(caught.value)
    assert why in text
    assert text.startswith(f"file '{tmp_path / 'x.pth'}': ")
    assert "\n" not in text
    assert "weights_only" not in text


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_file_cut_short_is_refused_wherever_it_was_cut(legacy, tmp_path):
    path = tmp_path / "x.pth"
    torch.save(build().state_dict(), path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for share in (0, 0.001, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(CheckpointError) as caught:
            checkpoint.weights(path)
        assert "\n" not in str(caught.value)


def test_a_missing_file_says_which_there_are(tmp_path):
    folder = published(tmp_path, build(ngf=1), "latest_net_G_A.pth").parent
    published(tmp_path, build(ngf=1), "5_net_G_A.pth")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.existing(folder / "7_net_G_A.pth")
    assert "5_net_G_A.pth, latest_net_G_A.pth" in str(caught.value)
    assert "--epoch" in str(caught.value)
    with pytest.raises(CheckpointError, match=r"latest_net_G_A.pth.*choose another --model"):
        checkpoint.existing(folder / "latest_net_G.pth")


# --- real ones ------------------------------------------------------------------------------------------------------


def test_the_references_own_files_are_read(shared):
    """Their generators' architecture is the one the trace was recorded with, and they fit it to the last key."""
    files = sorted((shared / "golden").glob("*/latest_net_G*.pth"))
    assert len(files) >= 5
    for path in files:
        recorded = json.loads((path.parent / "trace.json").read_text())["options"]
        state = checkpoint.weights(path)
        found = infer_generator(state)
        for flag in ("netG", "ngf", "norm", "input_nc", "output_nc"):
            assert found[flag] == recorded[flag], (path, flag)
        net = build(**found)
        checkpoint.fit(net, state, path)
        assert all(torch.equal(net.state_dict()[key], value) for key, value in state.items())
