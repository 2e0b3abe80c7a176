"""Weights that do not match the network are refused with the matching flags, and old weights load."""

import copy
import re
import shutil
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from networks import discriminator
from networks.architectures.dcgan import ClassDiscriminator, ClassGenerator
from networks.infer_architecture import (
    infer_class_network,
    infer_discriminator,
    infer_generator,
    mismatch_text,
    weights_description,
)
from serialization import checkpoint, weight_files
from tests.support import malicious_checkpoints as hostile
from tests.support.malicious_checkpoints import call, group, ints, name, number, storage, text
from tests.support.published_weights import USUAL, build, published, with_instance_statistics
from tests.support.runs import SMALL
from tests.support.training_runs import DEMO
from util.errors import CheckpointError

CPU = ("--gpu_ids", -1, "--num_threads", 0)
TRAIN = [*SMALL, *DEMO, "--netG", "resnet_4blocks", "--max_dataset_size", 1, "--n_epochs", 1, "--n_epochs_decay", 0,
         "--displays", "console"]  # fmt: skip


def judge(channels=3, **changed):
    return discriminator(SimpleNamespace(**(USUAL | changed)), channels)


def misfit(net, state, path="x.pth", hint=""):
    """The line with which weights that do not fit are refused; nothing of them is loaded."""
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        weight_files.load_into_network(net, dict(state), path, hint)
    after = net.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items()), "nothing was half loaded"
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- F54: another architecture

WRONG = {  # what the file was made with: the first difference from USUAL, and the flags that would fit
    "ngf": (dict(ngf=6), "'model.1.weight' is 6x3x7x7 in the file and 4x3x7x7 in the network", "--ngf 6"),
    "blocks and ngf": (dict(ngf=6, netG="resnet_6blocks"), "'model.1.weight' is 6x3x7x7 in the file and 4x3x7x7 in the "
                       "network", "--netG resnet_6blocks --ngf 6"),
    "channels": (dict(input_nc=1), "'model.1.weight' is 4x1x7x7 in the file and 4x3x7x7 in the network",
                 "--input_nc 1"),
    "output channels": (dict(output_nc=1), "'model.21.weight' is 1x4x7x7 in the file and 3x4x7x7 in the network",
                        "--output_nc 1"),
    "norm": (dict(norm="batch"), "'model.1.bias' is absent in the file and 4 in the network", "--norm batch"),
    "dropout": (dict(no_dropout=False), "'model.10.conv_block.5.weight' is absent in the file and 16x16x3x3 in the "
                "network", "--dropout"),
    "padding": (dict(padding="zero"), "'model.10.conv_block.1.weight' is absent in the file and 16x16x3x3 in the "
                "network", "--padding zero"),
    "more blocks": (dict(netG="resnet_6blocks"), "'model.14.weight' is absent in the file and 16x8x3x3 in the network",
                    "--netG resnet_6blocks"),
    "another": (dict(netG="unet_32"), "'model.1.weight' is absent in the file and 4x3x7x7 in the network",
                "--netG unet_32"),
    "another with its norm": (dict(netG="unet_64", norm="batch", no_dropout=False), "'model.1.weight' is absent in the "
                              "file and 4x3x7x7 in the network", "--netG unet_64 --norm batch"),
}  # fmt: skip


@pytest.mark.fault(54)
@pytest.mark.parametrize("case", WRONG)
def test_another_generator_names_key_shapes_and_flags(case, tmp_path):
    """Weights are from another --netG, --ngf, --norm, ...: exit 4 in one line with the first differing key, both shapes
    and only the flags that would match; nothing is partly loaded.
    """
    how, difference, flags = WRONG[case]
    torch.save(build(**how).state_dict(), tmp_path / "x.pth")
    line = misfit(build(), weight_files.load_weights(tmp_path / "x.pth"), tmp_path / "x.pth")
    assert line == f"file '{tmp_path / 'x.pth'}': does not fit this network: {difference}; it was made with {flags}"


@pytest.mark.fault(54)
@pytest.mark.parametrize(("mine", "theirs", "flags"), [
    (dict(), dict(ndf=6), "--ndf 6"),
    (dict(), dict(netD="n_layers", n_layers_D=2), "--netD n_layers --n_layers_D 2"),
    (dict(netD="n_layers", n_layers_D=5), dict(), "--netD basic"),
    (dict(netD="pixel"), dict(ndf=5), "--netD basic --ndf 5"),
    (dict(), dict(netD="pixel", norm="batch"), "--netD pixel --norm batch"),
    (dict(norm="batch"), dict(), "--norm instance"),
    (dict(netD="multiscale"), dict(netD="multiscale", num_D=3), "--num_D 3"),
    (dict(), dict(netD="multiscale"), "--netD multiscale --n_layers_D 3 --num_D 2"),
])  # fmt: skip
def test_another_discriminator_names_key_shapes_and_flags(mine, theirs, flags):
    """Weights are from another --netD, --ndf or --n_layers_D: exit 4 in one line with the same facts."""
    line = misfit(judge(**mine), judge(**theirs).state_dict())
    assert re.search(r"'[\w.]+' is (absent|[\dx]+) in the file and (absent|[\dx]+) in the network; ", line)
    assert line.endswith(f"; it was made with {flags}")


@pytest.mark.fault(54)
def test_another_gans_discriminator_is_known_by_its_channels():
    """cycle_gan gets pix2pix's discriminator, which takes two images: it is recognised by its channels."""
    line = misfit(judge(3), judge(6).state_dict())
    assert line.endswith("it takes 6 input channels, this one 3 (pix2pix's takes A and B together)")


@pytest.mark.fault(54)
@pytest.mark.parametrize("norm", ["instance", "instance_affine", "batch", "layer", "none"])
@pytest.mark.parametrize(
    "how",
    [
        dict(netD="basic"),
        dict(netD="pixel"),
        *(dict(netD="n_layers", n_layers_D=n) for n in (1, 2, 4, 8)),
        *(dict(netD="multiscale", n_layers_D=n, num_D=m) for n in (1, 3) for m in (1, 3)),
    ],
    ids=str,
)
def test_every_discriminator_here_is_recognised(norm, how):
    """A network built from the architecture read from a discriminator's weights has the same keys and shapes."""
    state = judge(4, norm=norm, ndf=3, **how).state_dict()
    found = infer_discriminator(state)
    assert found == {**how, "norm": norm, "ndf": 3, "channels": 4, "no_antialias": True}
    assert weights_description(state) == f"a discriminator (--netD {how['netD']})"
    assert infer_generator(state) == {} and infer_class_network(state) == {}
    assert infer_discriminator(build().state_dict()) == infer_discriminator(build(netG="unet_32").state_dict()) == {}


@pytest.mark.fault(54)
def test_networks_with_classes_are_recognised():
    """cgan's generator and discriminator do not match: the error names each difference, the number of classes too."""
    G, D = ClassGenerator(5, 3, 32, 20, 10, ngf=4), ClassDiscriminator(5, 3, 32, ndf=4)
    assert mismatch_text(G.state_dict(), ClassGenerator(7, 1, 64, 30, 10, ngf=6).state_dict()) == (
        "it was made with --ngf 6 --latent_dim 30 --output_nc 1 --crop_size 64, and it has 7 classes, this one 5"
    )
    other = ClassDiscriminator(5, 3, 32, ndf=4, cond="concat").state_dict()
    assert misfit(D, other).endswith("it was made with --cond concat")
    assert misfit(G, D.state_dict()).endswith("these are weights of a discriminator of --model cgan")
    assert misfit(build(), G.state_dict()).endswith("these are weights of a generator of --model cgan")


@pytest.mark.fault(54)
def test_unknown_weights_get_the_general_remedy():
    """The weights match no network of the reference: the error gives the key, the shapes and the flags to check."""
    line = misfit(build(), nn.Linear(2, 2).state_dict())
    assert line.endswith("in the network; check --netG, --ngf, --norm and --no_dropout")
    state = dict(build().state_dict()) | {"model.99.weight": torch.zeros(2, 3)}
    assert "'model.99.weight' is 2x3 in the file and absent in the network" in misfit(build(), state)


@pytest.mark.fault(54)
def test_numbers_of_another_kind_or_range_do_not_fit():
    """Integers or complex numbers in place of fractions, or values beyond float32: exit 4; they are never rounded,
    truncated or turned into Inf.
    """
    own = dict(build().state_dict())
    for other in (torch.int8, torch.complex64, torch.bool):
        line = misfit(build(), own | {"model.4.bias": own["model.4.bias"].to(other)})
        assert "'model.4.bias' is" in line and "in the file and floating point in the network" in line
    assert "too large for float32" in misfit(
        build(), own | {"model.4.bias": torch.full((8,), 1e300, dtype=torch.float64)}
    )
    fine = build()
    weight_files.load_into_network(fine, own | {"model.4.bias": torch.full((8,), 0.5).double()}, "x.pth")
    assert fine.state_dict()["model.4.bias"].tolist() == [0.5] * 8


def tiny():
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.InstanceNorm2d(3))


def changed(**changes):
    """The weights of another such network, with keys changed (a tensor), removed (None) or added."""
    state = tiny().state_dict() | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.fault(54)
@pytest.mark.parametrize(("changes", "key", "have", "want"), [
    ({"0__weight": torch.ones(4, 2, 1, 1)}, "0.weight", "4x2x1x1", "3x2x1x1"),
    ({"0__bias": None}, "0.bias", "absent", "3"),
    ({"5__weight": torch.ones(2, 7)}, "5.weight", "2x7", "absent"),
    ({"1__running_var": None}, "1.running_var", "absent", "3"),
    ({"0__weight": torch.ones(1, 2, 1, 1), "0__bias": None}, "0.weight", "1x2x1x1", "3x2x1x1"),
    ({"1__num_batches_tracked": torch.ones(2, dtype=torch.long)}, "1.num_batches_tracked", "2", "one number"),
])  # fmt: skip
def test_any_network_names_the_first_key_and_both_shapes(changes, key, have, want):
    """Weights do not match a plug-in's own network: the error gives the key, the shapes, and the caller's remedy if
    there is one.
    """
    line = misfit(tiny(), changed(**changes))
    assert f"'{key}' is {have} in the file and {want} in the network" in line
    assert line.endswith("; check --netG, --ngf, --norm and --no_dropout")
    assert misfit(tiny(), changed(**changes), "x.pth", "omit --ngf").endswith("; omit --ngf")


@pytest.mark.fault(54)
def test_train_and_test_name_fitting_flags_in_their_last_line(command, tmp_path):
    """--continue_train with bare .pth files, and test.py, get flags that do not match: exit 4 with the matching flags
    and those to omit; nothing is overwritten.
    """
    torch.manual_seed(0)
    theirs = published(tmp_path, build(ngf=6, netG="resnet_6blocks"))
    torch.save(judge().state_dict(), theirs.parent / "latest_net_D.pth")
    before = {p: p.read_bytes() for p in theirs.parent.iterdir()}
    argv = [*TRAIN, "--model", "pix2pix", "--name", "published", "--norm", "instance", "--no_dropout"]
    ended = command("train", *argv, "--continue_train")
    assert ended.code == 4 and ended.err.count("\n") == 1
    assert ended.last.endswith("; it was made with --netG resnet_6blocks --ngf 6")
    assert {p: p.read_bytes() for p in before} == before
    ended = command("test", "--name", "published", "--dataroot", "demo", "--ngf", 4, *CPU)
    assert ended.code == 4 and ended.err.count("\n") == 1
    assert ended.last.endswith("; it was made with --ngf 6; omit --ngf")


@pytest.mark.fault(54)
@pytest.mark.parametrize(("flags", "key", "remedy", "own"), [
    (["--ngf", 6], "'G.model.1.weight' is 4x3x7x7 in the file and 6x3x7x7 in the network", "--ngf", "--ngf 4"),
    (["--ngf", 6, "--lr", 0.1], "'G.model.1.weight' is", "--ngf", "--ngf 4"),
    (["--netD", "pixel", "--ndf", 5, "--netG", "resnet_4blocks"],
     "'D.net.0.weight' is absent in the file and 5x6x1x1 in the network", "--ndf, --netD",
     "--ndf 4 --netD basic"),
    (["--norm", "instance"], "in the network", "--norm", "--norm batch"),
])  # fmt: skip
def test_a_state_of_other_flags_names_the_flags_to_leave_out(command, tmp_path, flags, key, remedy, own):
    """--continue_train of a GANvas run gets other architecture flags: exit 4 with the first key, the shapes and the
    flag to omit.
    """
    argv = [*TRAIN, "--model", "pix2pix", "--name", "run"]
    assert command("train", *argv).code == 0
    before = {p: p.read_bytes() for p in (tmp_path / "checkpoints/run").glob("*.p*t*")}
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 2, *flags)
    assert ended.code == 4 and ended.err.count("\n") == 1, ended.err
    otherwise = "or give a new run another --name (--overwrite replaces this one)"
    assert key in ended.last and ended.last.endswith(f"; omit {remedy} to continue it with {own}, {otherwise}")
    assert {p: p.read_bytes() for p in before} == before
    assert command("train", "--name", "run", "--continue_train", "--n_epochs", 2).code == 0


@pytest.mark.fault(54)
def test_init_from_warns_of_a_poor_fit(command, tmp_path):
    """--init_from gets weights of other widths: a warning with the first key that does not match and the flags; exit 4
    if nothing matches.
    """
    theirs = published(tmp_path, build(ngf=6))
    argv = [*TRAIN, "--model", "pix2pix", "--norm", "instance", "--no_dropout", "--name", "x", "--init_from", theirs]
    ended = command("train", *argv)
    warning = next(line for line in ended.out.splitlines() if line.startswith("warning: "))
    assert warning == (
        "warning: most of G is not loaded from latest_net_G.pth: 'model.1.weight' is 6x3x7x7 in the file and "
        "4x3x7x7 in the network; it was made with --ngf 6"
    )
    ended = command("train", *argv, "--ngf", 6, "--overwrite")
    assert ended.code == 0 and "warning" not in ended.out
    torch.save(nn.Linear(2, 2).state_dict(), theirs)
    ended = command("train", *argv, "--overwrite")
    assert ended.code == 4 and "no tensor in it fits ('model.1.weight' is absent in the file and 4x3x7x7" in ended.last


# --- F55: another network, and other times


@pytest.mark.fault(55)
def test_a_discriminator_given_as_generator_is_recognised(command, tmp_path):
    """A discriminator's file is given as the generator's to test.py, --continue_train or --init_from: exit 4 that says
    so.
    """
    folder = published(tmp_path, judge()).parent
    torch.save(build().state_dict(), folder / "latest_net_D.pth")
    ended = command("test", "--name", "published", "--dataroot", "demo", *CPU)
    assert ended.code == 4 and "holds the weights of a discriminator (--netD basic); " in ended.last
    argv = [*TRAIN, "--model", "pix2pix", "--norm", "instance", "--no_dropout"]
    ended = command("train", *argv, "--name", "published", "--continue_train")
    assert ended.code == 4 and ended.last.endswith("; these are weights of a discriminator (--netD basic)")
    ended = command("train", *argv, "--name", "new", "--init_from", folder / "latest_net_D.pth")
    assert ended.code == 4 and "these are weights of a generator (--netG resnet_4blocks)" in ended.last


@pytest.mark.fault(55)
def test_a_and_b_swapped_load(command, tmp_path):
    """G_A's file has G_B's name and the reverse: they load, because both have one architecture."""
    argv = [*TRAIN, "--model", "cycle_gan", "--name", "run"]
    assert command("train", *argv).code == 0
    folder = tmp_path / "checkpoints" / "run"
    for path in folder.glob("state_*.pt"):
        path.unlink()
    shutil.move(folder / "latest_net_G_A.pth", folder / "kept")
    shutil.move(folder / "latest_net_G_B.pth", folder / "latest_net_G_A.pth")
    shutil.move(folder / "kept", folder / "latest_net_G_B.pth")
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 3)
    assert ended.code == 0, ended.err


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
    "metadata but no num_batches_tracked": ("batch", lambda net: _without(net.state_dict(), "num_batches_tracked")),
    "parameters": ("instance", lambda net: dict(net.named_parameters())),
    "half precision": ("batch", lambda net: copy.deepcopy(net).half().state_dict()),
    "bfloat16": ("instance", lambda net: copy.deepcopy(net).bfloat16().state_dict()),
    "double": ("batch", lambda net: copy.deepcopy(net).double().state_dict()),
    **{f"under {name}": ("batch", lambda net, name=name: {"epoch": 3, "loss": 0.5, name: net.state_dict()})
       for name in ("state_dict", "model", "generator", "G")},
}  # fmt: skip


def _without(state, word):
    for key in [key for key in state if key.endswith(word)]:
        del state[key]
    assert hasattr(state, "_metadata")
    return state


@pytest.mark.fault(55)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("quirk", QUIRKS)
def test_weights_with_old_quirks_load(quirk, legacy, tmp_path):
    """Weights have module. or _orig_mod. prefixes, statistics of old instance norms, no counters, a state_dict inside a
    checkpoint, or another precision (17 kinds, zip and old format): they load, and the network computes the same.
    """
    norm, change = QUIRKS[quirk]
    torch.manual_seed(1)
    source = build(norm=norm)
    source(torch.rand(2, 3, 8, 8))  # a batch norm has seen something
    path = tmp_path / "latest_net_G.pth"
    torch.save(change(source), path, _use_new_zipfile_serialization=not legacy)
    torch.manual_seed(2)
    target = build(norm=norm)
    state = weight_files.load_weights(path)
    found = infer_generator(state)
    assert (found["netG"], found["norm"], found["ngf"]) == ("resnet_4blocks", norm, 4)
    weight_files.load_into_network(target, state, path)
    x = torch.rand(1, 3, 8, 8)
    exact = {"half precision": 1e-3, "bfloat16": 5e-2}.get(quirk, 0)
    assert torch.allclose(source.eval()(x), target.eval()(x), rtol=0, atol=exact)
    assert all(p.dtype == torch.float32 for p in target.parameters())


def old_quirks_of_norms():
    return changed(**{"0__weight": torch.full((3, 2, 1, 1), 7.0), "1__num_batches_tracked": None,
                      "2__running_mean": torch.ones(3), "2__running_var": torch.ones(3),
                      "2__num_batches_tracked": torch.tensor(9)})  # fmt: skip


@pytest.mark.fault(55)
def test_old_quirks_of_norms_are_no_difference():
    """Old files lack counters of batches, and hold statistics of instance norms that today's networks do not have: they
    load.
    """
    state, target = old_quirks_of_norms(), tiny()
    weight_files.load_into_network(target, state, "x.pth")
    assert torch.equal(target[0].weight, state["0.weight"])
    assert target[1].num_batches_tracked == 0
    assert "2.running_mean" in state  # the caller's weights stay as they were


@pytest.mark.fault(55)
def test_a_file_of_2017_written_by_python_2_loads(tmp_path):
    """A file holds an OrderedDict as pairs, 8-bit texts, tensors in the form before torch 0.4, storages on a GPU, and
    views: it loads.
    """

    def short(value):  # how Python 2 wrote texts
        return b"U" + bytes([len(value)]) + value.encode()

    def old(view):
        where = (
            group(short("storage"), name("torch.cuda.FloatStorage"), short("140"), short("cuda:0"), number(4), view)
            + b"Q"
        )
        return where

    first = call("torch._utils._rebuild_tensor", old(b"N"), number(0), ints(2, 2), ints(2, 1))
    view = group(short("141"), number(1), number(2))
    second = call("torch._utils._rebuild_tensor", old(view), number(0), ints(2), ints(1))
    pairs = b"](](" + short("model.0.weight") + first + b"e](" + short("model.0.bias") + second + b"ee"
    pickled = b"\x80\x02" + call("collections.OrderedDict", pairs) + b"."
    path = tmp_path / "latest_net_G.pth"
    hostile.legacy(path, pickled, keys=b"\x80\x02](" + short("140") + b"e.")
    found = weight_files.load_weights(path)
    assert list(found) == ["model.0.weight", "model.0.bias"]
    assert found["model.0.weight"].tolist() == [[1, 2], [3, 4]] and found["model.0.bias"].tolist() == [2, 3]


@pytest.mark.fault(55)
def test_a_zip_of_torch_1_6_loads(tmp_path):
    """A zip file has no byte order, alignment or identity, and large numbers as names: it loads."""
    key = "94350234771568"
    pickled = b"\x80\x02}" + text("weight") + hostile.tensor(where=storage(key)) + b"s."
    hostile.zipped(tmp_path / "x.pth", pickled, {f"data/{key}": hostile.FLOATS})
    assert weight_files.load_weights(tmp_path / "x.pth")["weight"].tolist() == [1, 2, 3, 4]


@pytest.mark.fault(55)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_plain_tensors_and_containers_come_back_equal(legacy, tmp_path):
    """Every type of tensor and plain container that states and training checkpoints hold is read back equal."""
    shared = torch.arange(6.0)
    types = ("float16", "bfloat16", "float64", "int8", "int16", "int32", "int64", "uint8", "bool", "complex64",
             "complex128", *(() if legacy else ("uint16", "uint32", "uint64")))  # fmt: skip
    thing = OrderedDict(
        tensors={t: torch.tensor([0, 1]).to(getattr(torch, t)) for t in types},
        views=[shared, shared[2:], shared.view(2, 3).t(), torch.empty(0), torch.tensor(3.0), torch.zeros(0, 3)],
        plain=[1, -1, 2**40, 2**63, 1.5, float("inf"), None, True, "text \N{SNOWMAN}", b"bytes", bytearray(b"x"), 1j],
        more=({1, 2}, (), ("a", (1, "b")), {"deep": {1: [{}]}}, torch.Size((1, 2)), torch.device("cpu"), torch.float32),
        parameter=nn.Parameter(torch.ones(2)),
        long=list(range(1000)),
    )
    torch.save(thing, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    found = checkpoint.load_file(tmp_path / "x.pth")
    assert list(found) == list(thing) and found["plain"] == thing["plain"] and found["more"] == thing["more"]
    tensors = [[*whose["tensors"].values(), *whose["views"]] for whose in (found, thing)]
    for ours, theirs in zip(*tensors, strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs) and ours.stride() == theirs.stride()
    assert isinstance(found["parameter"], nn.Parameter) and found["long"] == thing["long"]


# --- F58: shapes that nobody's network has


STRANGE = [(), (0,), (5,), (3, 3), (2, 3, 4), (0, 3, 7, 7), (3, 0, 1, 1), (1, 1, 1, 1), (3, 3, 3, 3, 3)]


def known_networks():
    """The weights of one network of every kind whose architecture is read from keys and shapes."""
    return [
        build(norm="batch"),
        build(netG="unet_32"),
        build(padding="zero", no_dropout=False),
        judge(),
        judge(netD="pixel"),
        judge(netD="n_layers", n_layers_D=1),
        ClassGenerator(5, 3, 16, 9, 8, ngf=2),
        ClassDiscriminator(5, 3, 16, ndf=2),
    ]


@pytest.mark.fault(58)
@pytest.mark.parametrize("number", range(8))
def test_a_known_key_of_any_shape_fits_or_is_refused(number, full):
    """Each key of a known network gets zero to five dimensions, empty ones, or is absent: the weights load or are
    refused.
    """
    net = known_networks()[number]
    whole = dict(net.state_dict())
    for key in whole if full else [*list(whole)[:3], *list(whole)[3::7], list(whole)[-1]]:
        for shape in (*STRANGE, None):
            state = whole | ({} if shape is None else {key: torch.zeros(shape)})
            if shape is None:
                del state[key]
            assert isinstance(weights_description(state), str) and isinstance(mismatch_text(whole, state), str)
            assert isinstance(mismatch_text(state, whole), str)
            if shape is not None and tuple(whole[key].shape) != shape:
                assert key in misfit(net, state)
    assert weights_description(whole | {"model." + "9" * 5000 + ".conv_block.1.weight": torch.ones(1)}) in (
        "",
        weights_description(whole),
    )


@pytest.mark.fault(58)
@pytest.mark.parametrize("key", ["model.1.weight", "model.model.0.weight"])
def test_one_tensor_of_a_giant_network_builds_none(command, tmp_path, key):
    """The first layer in a bare .pth of 4 MB claims a million channels: test.py ends with exit 4 and builds no such
    network.
    """
    net = build(norm="batch") if key == "model.1.weight" else build(netG="unet_32")
    published(tmp_path, net)
    path = tmp_path / "checkpoints/published/latest_net_G.pth"
    torch.save(dict(net.state_dict()) | {key: torch.zeros(1_000_000, 1, 1, 1)}, path)
    ended = command("test", "--name", "published", "--dataroot", "demo", *CPU)
    assert ended.code == 4 and ended.err.count("\n") == 1, ended.err
    assert "does not match any known generator" in ended.last
