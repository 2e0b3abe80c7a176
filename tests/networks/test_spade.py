"""SPADE's networks have their authors' keys and shapes, by which their flags are inferred."""

import csv
from pathlib import Path

import pytest
import torch

from networks import discriminator, generator
from networks.architectures.spade import ImageEncoder, parsed_norm
from networks.infer_architecture import infer_discriminator, infer_generator
from networks.stored_spectral_norm import with_spectral_norm
from tests.support.runs import options
from util.errors import OptionError

FACTS = Path(__file__).resolve().parents[1] / "facts" / "spade_networks.tsv"
FLAGS = {
    "G": "--dataset_mode cityscapes --ngf 64",
    "G_vae": "--dataset_mode coco --load_size 256 --crop_size 256 --use_vae --ngf 8 --num_upsampling_layers most"
    " --norm_G spadeinstance5x5",
    "D": "--dataset_mode coco --ndf 64",
    "D_plain": "--dataset_mode coco --no_ganFeat_loss --norm_D spectralbatch --num_D 1 --n_layers_D 3 --ndf 8",
}
CHANNELS = {"G": 36, "G_vae": 184, "D": 187, "D_plain": 187}


def published(name):
    """Return {key: shape} of a network of the authors."""
    with open(FACTS, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["network"] == name]
    return {row["key"]: tuple(map(int, row["shape"].split("x"))) if row["shape"] != "-" else () for row in rows}


def shapes(net):
    return {key: tuple(value.shape) for key, value in net.state_dict().items()}


def built(name, **flags):
    o = options("--model", "spade", *FLAGS[name].split())
    vars(o).update(flags)
    channels = flags.pop("input_nc", flags.pop("channels", CHANNELS[name]))
    with torch.device("meta"):
        return generator(o, channels, 3) if name[0] == "G" else discriminator(o, channels)


@pytest.mark.parametrize("name", FLAGS)
def test_keys_and_shapes_are_the_authors_and_tell_the_flags(name):
    assert shapes(built(name)) == published(name)
    state = {key: torch.empty(shape, device="meta") for key, shape in published(name).items()}
    found = (infer_generator if name[0] == "G" else infer_discriminator)(state)
    again = built(name, **{"norm_G": "", "norm_D": ""} | found)
    assert shapes(again) == published(name)


def test_the_encoders_keys_and_shapes_are_the_authors():
    with torch.device("meta"):
        assert shapes(ImageEncoder(3, 256, 8)) == published("E")


@pytest.mark.parametrize("flags", ["", "--use_vae --z_dim 3", "--num_upsampling_layers most --norm_G spadelayer1x1"])
def test_generators_keep_every_size(flags):
    o = options(*f"--model spade --ngf 1 --load_size 64 --crop_size 64 {flags}".split())
    net = generator(o, 2, 3)
    assert net(torch.rand(2, 2, 33, 70)).shape == (2, 3, 33, 70)


def test_a_stored_spectral_norm_is_that_of_torch():
    own, theirs = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(3, 4, 3)
    own, theirs = with_spectral_norm(own), torch.nn.utils.spectral_norm(theirs)
    own.load_state_dict(theirs.state_dict())
    x = torch.rand(1, 3, 5, 5)
    for _ in range(3):
        assert torch.equal(own(x), theirs(x))
    assert shapes(own) == shapes(theirs)
    before = {key: value.clone() for key, value in own.eval().state_dict().items()}
    own(x)
    assert all(torch.equal(value, before[key]) for key, value in own.state_dict().items())


@pytest.mark.parametrize("text", ["spectral", "spadebatch", "spadebatch2x2", "spadebatch3x5", "spadefoo3x3"])
def test_a_wrong_norm_says_how_to_write_it(text):
    with pytest.raises(OptionError, match="spectralspadesyncbatch3x3"):
        parsed_norm(text)
