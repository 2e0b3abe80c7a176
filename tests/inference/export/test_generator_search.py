"""What is exported of a model is what makes its images: a network, or the model itself."""

import pytest
import torch
from torch import nn

from data.base import Spec
from data.published.semantic import LabelMaps, LabelSpec, class_numbers, file_ids, semantic_input
from inference.export.generator_search import find_of_label_maps, find_sampler, find_translator
from inference.sampling import has_sampler
from models.base import BaseModel
from registry.training_position import call_with_now
from tests.support.runs import options
from tests.support.small_models import MODELS, TINY, own_networks
from util.errors import OptionError

CHANNELS = {"colorization": (1, 2)}
OF_CLASSES = ("cgan", "stargan")


def built(name):
    nc = CHANNELS.get(name, (3, 3))
    o = options("--model", name, *TINY, "--batch_size", "2", *own_networks(name))
    if name == "gan":
        o.crop_size = 32
    torch.manual_seed(0)
    model = MODELS[name](o, Spec(*nc, 32, 32, ("a", "b") if name in OF_CLASSES else ())).eval()
    batch = {side: torch.rand(2, n, 32, 32) for side, n in zip("AB", nc, strict=True)}
    return model, batch | {"path_A": ["", ""], "path_B": ["", ""], "label": torch.tensor([0, 1])}


@pytest.mark.parametrize("name", MODELS)
def test_the_generator_of_each_model_is_found(name):
    model, batch = built(name)
    if has_sampler(model):
        found = find_sampler(model, ("a", "b") if name == "cgan" else ())
        assert list(found.inputs) == ["z", "label"] * (name == "cgan") or list(found.inputs) == ["z"]
        assert found.net(*found.inputs.values()).shape[1:] == (3, 32, 32)
        return
    found = find_translator(model, batch)
    names = ["image", "domain"] if name == "stargan" else ["image"]
    assert found.is_network and list(found.inputs) == names and found.name in ("G", "G_A")
    out = call_with_now(model, {key: value for key, value in batch.items() if key != "B"})
    fake = {"test": "fake", "stargan": "fake_a"}.get(name, "fake_B")
    assert torch.equal(found.net(batch["A"], *list(found.inputs.values())[1:]), out[fake])
    assert found.shown == (name != "colorization")


def test_the_other_direction_is_the_other_generator():
    model, batch = built("cycle_gan")
    assert find_translator(model, batch, "B").net is model.G_B


class Model(BaseModel):
    """A plug-in's model whose images come from two networks and a class."""

    averaged = ("E", "G")

    def __init__(self, draw=False):
        super().__init__()
        self.draw = draw
        self.E, self.G, self.D = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1), nn.Conv2d(3, 1, 1)

    def forward(self, batch, now=None):
        planes = batch["label"].to(batch["A"].dtype)[:, None, None, None]
        noise = torch.randn_like(batch["A"]) if self.draw else 0
        return {"real_A": batch["A"], "fake_B": (self.G(self.E(batch["A"])) + planes + noise).tanh()}


def test_a_model_of_several_networks_is_exported_whole():
    model, batch = Model().eval(), built("pix2pix")[1]
    found = find_translator(model, batch)
    assert not found.is_network and list(found.inputs) == ["image", "label"]
    assert torch.equal(found.net(batch["A"], batch["label"]), model(batch)["fake_B"])
    assert isinstance(found.net.model.D, nn.Identity) and isinstance(model.D, nn.Conv2d)
    with pytest.raises(OptionError, match="reads 'label' of a batch, which an export cannot give"):
        find_translator(model, {key: value for key, value in batch.items() if key != "label"})


def test_random_images_and_wrong_names_are_refused():
    batch = built("pix2pix")[1]
    with pytest.raises(OptionError, match="draws random numbers"):
        find_translator(Model(draw=True).eval(), batch)
    with pytest.raises(OptionError, match="there is no 'F'; choose of E, G, D"):
        find_translator(Model().eval(), batch, wanted="F")
    assert find_translator(Model().eval(), batch, wanted="E").net is not None


OF_ADE20K = ["--layout", "ade20k"]
FLAGS_OF_LABELS = {  # and what a file takes
    "pix2pixhd": (("--no_vgg_loss", "--preprocess", "none"), ["labels", "instances"]),
    "spade": ((*own_networks("spade"), "--use_vae", "--z_dim", "4"), ["labels", "z"]),
}


@pytest.mark.parametrize("unknown", [[], ["--contain_dontcare_label"], ["--contain_dontcare_label", *OF_ADE20K]])
@pytest.mark.parametrize("name", FLAGS_OF_LABELS)
def test_a_generator_of_label_maps_takes_the_ids_of_files(name, unknown):
    flags, names = FLAGS_OF_LABELS[name]
    o = options("--model", name, *TINY, *flags, "--label_nc", "3", *unknown)
    model = MODELS[name](o, LabelSpec(1, 3, 32, 32, (), label_nc=3)).eval()
    classes = torch.randint(3 + len(unknown[:1]), (2, 1, 32, 32))
    batch = {"A": classes.float(), "instance": classes[:, 0] * 7, "B": torch.rand(2, 3, 32, 32), "path_A": ["", ""]}
    found = find_of_label_maps(model, batch | {"A": file_ids(classes[:, 0], o)}, o)
    assert list(found.inputs) == names and found.shown
    z = found.inputs.get("z")
    wanted = model.G(semantic_input(batch, o), *([] if z is None else [z]))
    assert torch.equal(found.net(*found.inputs.values()), wanted)
    assert torch.equal(class_numbers(file_ids(classes, o), o), classes)


class Mapped(LabelMaps, BaseModel):
    """A plug-in's model of label maps: two networks, or one that takes the classes' numbers."""

    averaged = ("E", "G")

    def __init__(self, o, kind):
        super().__init__()
        self.o, self.kind = o, kind
        self.E, self.G, self.table = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 1), nn.Embedding(3, 4)

    def forward(self, batch):
        if self.kind == "numbers":
            return {"fake_B": self.G(self.table(batch["A"][:, 0].long()).movedim(-1, 1))}
        style = batch["B"].mean() if self.kind == "photograph" else 0
        return {"fake_B": self.G(self.E(semantic_input(batch, self.o)) + style)}


@pytest.mark.parametrize("kind", ["two networks", "numbers", "photograph"])
def test_a_plug_in_of_label_maps_is_exported_whole(kind):
    o = options("--model", "pix2pixhd", "--no_vgg_loss", "--label_nc", "3")
    model, ids = Mapped(o, kind).eval(), torch.randint(3, (2, 16, 16))
    batch = {"A": ids, "instance": ids * 5, "B": torch.rand(2, 3, 16, 16), "path_A": ["", ""]}
    if kind == "photograph":
        with pytest.raises(OptionError, match="sees more than label maps"):
            find_of_label_maps(model, batch, o)
        return
    found = find_of_label_maps(model, batch, o)
    assert list(found.inputs) == ["labels", "instances"][: 1 + (kind != "numbers")] and not found.is_network
    wanted = model(batch | {"A": ids[:, None].float()})["fake_B"]
    assert torch.equal(found.net(*found.inputs.values()), wanted)
