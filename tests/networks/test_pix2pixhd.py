"""pix2pixHD's networks have their authors' keys and shapes, by which their flags are inferred; features are pooled."""

import csv
from pathlib import Path

import pytest
import torch

from data.published.semantic import LabelSpec
from networks import discriminator, generator
from networks.architectures.pix2pixhd import InstanceEncoder, object_means
from networks.infer_architecture import infer_discriminator, infer_generator, mismatch_text
from registry.lookup import find
from tests.support.runs import options
from util.errors import EnvironmentFault, OptionError

FACTS = Path(__file__).resolve().parents[1] / "facts" / "pix2pixhd_networks.tsv"
FLAGS = {
    "G_global": "--netG global --ngf 64 --n_downsample_global 4 --n_blocks_global 9",
    "G_local": "--netG local --ngf 32 --n_local_enhancers 1 --n_blocks_local 3",
    "G_batch": "--netG global --ngf 8 --n_downsample_global 3 --n_blocks_global 2 --norm batch",
    "D_2": "--ndf 64 --num_D 2", "D_3": "--ndf 64 --num_D 3", "D_plain": "--ndf 64 --no_ganFeat_loss",
}  # fmt: skip
SIZES = [(1, 3, 1, 1), (2, 0, 2, 2), (0, 5, 3, 0), (2, 1, 1, 1), (2, 4, 1, 2)]


def published(name):
    """Return {key: shape} of a network of the authors."""
    with open(FACTS, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["network"] == name]
    return {row["key"]: tuple(map(int, row["shape"].split("x"))) if row["shape"] != "-" else () for row in rows}


def shapes(net):
    return {key: tuple(value.shape) for key, value in net.state_dict().items()}


def built(name, *argv, **flags):
    o = options("--model", "pix2pixhd", *FLAGS.get(name, "").split(), *map(str, argv))
    vars(o).update(flags)
    with torch.device("meta"):
        return generator(o, 38 if name == "G_batch" else 36, 3) if name[0] == "G" else discriminator(o, 39)


@pytest.mark.parametrize("name", FLAGS)
def test_keys_and_shapes_are_the_authors(name):
    assert shapes(built(name)) == published(name)


def test_the_encoders_keys_and_shapes_are_the_authors():
    with torch.device("meta"):
        assert shapes(InstanceEncoder(3, 3)) == published("E")


@pytest.mark.parametrize("name", FLAGS)
def test_flags_are_read_from_published_weights(name):
    state = {key: torch.empty(shape, device="meta") for key, shape in published(name).items()}
    found = (infer_generator if name[0] == "G" else infer_discriminator)(state)
    o = vars(options("--model", "pix2pixhd", *FLAGS[name].split()))
    channels = {"input_nc": 38 if name == "G_batch" else 36} if name[0] == "G" else {"channels": 39}
    assert found == {flag: o[flag] for flag in found if flag not in channels} | channels


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("netG", ["global", "local"])
def test_inferred_flags_rebuild_any_generator(netG, sizes):
    names = ("n_downsample_global", "n_blocks_global", "n_local_enhancers", "n_blocks_local")
    flags = [word for name, size in zip(names, sizes, strict=True) for word in (f"--{name}", size)]
    own = built("G", "--netG", netG, "--ngf", 3, *flags)
    found = infer_generator(own.state_dict())
    if not sizes[1]:  # without residual blocks the file could be of many networks
        assert not found
        return
    again = built("G", **found)
    assert shapes(again) == shapes(own)


def test_a_misfit_names_the_flags():
    one, other = (built("G", "--netG", netG, "--ngf", 4).state_dict() for netG in ("global", "local"))
    assert mismatch_text(one, other).startswith("it was made with --netG local")


@pytest.mark.parametrize("side", [5, 33, 64])
@pytest.mark.parametrize("netG", ["global", "local"])
def test_generators_keep_every_size(netG, side):
    flags = f"--model pix2pixhd --netG {netG} --ngf 1 --n_downsample_global 2 --n_blocks_global 1"
    o = options(*flags.split())
    assert generator(o, 2, 3)(torch.rand(1, 2, side, 48)).shape == (1, 3, side, 48)


@pytest.mark.parametrize("flag", ["--instance_feat", "--label_feat"])
def test_features_of_objects_need_photographs(flag):
    o = options(*f"--model pix2pixhd --label_nc 2 --no_vgg_loss --n_downsample_global 1 {flag}".split())
    model = find("model", "pix2pixhd")(o, LabelSpec(1, 3, 32, 32, label_nc=2))
    maps = {"A": torch.zeros(1, 1, 32, 32), "instance": torch.zeros(1, 32, 32).long()}
    with pytest.raises(OptionError, match=f"'{flag}': encodes photographs, and there are none"):
        model(maps)


def test_without_weights_of_vgg_a_flag_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    o = options(*"--model pix2pixhd --label_nc 2 --ngf 1 --ndf 1 --n_downsample_global 1 --n_blocks_global 1".split())
    with pytest.raises(EnvironmentFault, match="do without them: --no_vgg_loss") as caught:
        find("model", "pix2pixhd")(o, LabelSpec(1, 3, 32, 32, label_nc=2))
    assert caught.value.code == 5


def test_object_means_are_those_of_each_image():
    ids = torch.randint(-2, 4, (2, 5, 7)) * 1000
    x = torch.rand(2, 3, 5, 7, requires_grad=True)
    pooled = object_means(x, ids)
    for image in range(2):
        for number in ids[image].unique():
            inside = ids[image] == number
            expected = x[image][:, inside].mean(1, keepdim=True).expand(-1, int(inside.sum()))
            assert torch.allclose(pooled[image][:, inside], expected)
    weights = torch.rand_like(pooled)
    (slope,) = torch.autograd.grad((pooled * weights).sum(), x)
    assert torch.allclose(slope, object_means(weights, ids), atol=1e-6)  # the mean is its own transpose
    assert object_means(x.bfloat16(), ids).dtype == torch.bfloat16
