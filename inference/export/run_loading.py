"""Load a run as test.py does, for its generator, and find images to try the generator with."""

import shutil
import tempfile
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from data.colorization import Colorization
from data.published.semantic import file_ids, sees_only_pictures
from inference.export.generator_search import NUMBER, Generator, find_of_label_maps, find_sampler, find_translator
from inference.export.label_maps import OfLabelMaps, generated_labels
from inference.export.plain_network import without_noise_input
from inference.found_images import FAMILIES, find_images
from inference.network_flags import read_network_flags
from inference.run_spec import run_spec
from inference.run_weights import load_run_weights
from options import store
from options.parse import parse
from registry.lookup import find
from serialization import weight_files
from serialization.safetensors_file import read_architecture
from util.errors import CheckpointError, OptionError, UserError
from util.seeding import fork_rng
from util.size import to_size
from util.value_range import option_range

MAX_PICTURES = 3


@dataclass
class LoadedRun:
    """A run's options, model with its weights in evaluation mode, Spec, and images of its source side.

    pictures: (C, H, W) in [-1, 1]; origin says where they come from.
    """

    o: Any
    folder: Path
    which: str
    model: Any
    spec: Any
    pictures: list[Tensor] = field(default_factory=list)
    origin: str = ""
    values: dict[str, Tensor] = field(default_factory=dict)  # what else samples hold, such as labels: NUMBER of each

    @property
    def is_turned(self) -> bool:
        """Whether --direction asks for the other direction than the run's."""
        return self.o.direction != self.o.saved.get("direction", self.o.direction)

    def generator(self, wanted: str = "") -> Generator:
        """Return the generator that test.py would use; wanted: the name of another network."""
        if self.o.generate:
            return find_sampler(self.model, tuple(self.spec.classes), wanted)
        averaged = getattr(self.model, "averaged", ())
        if self.is_turned and not {"G_A", "G_B"} <= set(averaged):
            trained = self.o.saved["direction"]
            why = f"is {self.o.direction}, but this run was trained {trained} and has no other generator"
            raise OptionError("option", "--direction", why, "omit --direction")
        if not sees_only_pictures(self.o):
            return find_of_label_maps(self.model, self._label_batch(), self.o, wanted)
        return find_translator(self.model, self._batch(), "B" if self.is_turned else "A", wanted)

    def _batch(self) -> dict[str, Any]:
        """Return NUMBER small images of each side, and labels."""
        size, rng = (self.spec.height, self.spec.width), torch.Generator().manual_seed(0)
        channels = {"A": self.spec.input_nc, "B": self.spec.output_nc}
        images = {side: smooth_picture(nc, *size, rng) for side, nc in channels.items()}
        batch: dict[str, Any] = {side: torch.stack([image, image.flip(2)][:NUMBER]) for side, image in images.items()}
        if self.spec.classes:
            batch["label"] = torch.arange(NUMBER) % len(self.spec.classes)
        return batch | self.values | {f"path_{side}": ["image"] * NUMBER for side in "AB"}

    def _label_batch(self) -> dict[str, Any]:
        """Return NUMBER equal label maps with ids as in files, objects and photographs."""
        first, rng = self.pictures[0], torch.Generator().manual_seed(0)
        A = torch.stack([first[0] if self.o.label_nc else first] * NUMBER)
        objects = self.values.get("instance", A if self.o.label_nc else A[:, 0].mul(4).long())
        height, width = first.shape[-2:]
        B = torch.stack([smooth_picture(self.spec.output_nc, height, width, rng)] * NUMBER)
        return {"A": A, "instance": objects, "B": B} | {f"path_{side}": ["image"] * NUMBER for side in "AB"}

    def why_no_pixels(self, generator: Generator) -> str:
        """Return why the generator is not a function of plain 8-bit images; "" if it is."""
        o = self.o
        kind = find("dataset", o.dataset_mode)
        ours = issubclass(kind, (*FAMILIES.values(), find("dataset", "single"), find("dataset", "labeled")))
        if issubclass(kind, Colorization):
            return "it translates lightness to the colours of CIELAB"
        if "labels" in generator.inputs:
            return "it takes ids of classes, no colours"
        if "image" in generator.inputs and (o.inputs or not ours):
            return "its images are made of several files, or by a data set of a plug-in"
        if not option_range(o.range_A).is_uint8:
            return "its values are not those of 8-bit images (--range)"
        return self.why_no_picture(generator)

    def why_no_picture(self, generator: Generator) -> str:
        """Return why the generator's output is no 8-bit image; "" if it is one."""
        if not option_range(self.o.range_B).is_uint8:
            return "its values are not those of 8-bit images (--range)"
        return "" if generator.shown else "the model shows something else than the network's output"


def load_run(argv: list[str], images: str = "", number: int = MAX_PICTURES) -> LoadedRun:
    """Return the run that flags of test.py name; images: a folder or file to try the generator with.

    number: of the images, at most. Raises CheckpointError, OptionError and DataError as test.py does; without --images,
    a run whose data are not there is tried with generated images.
    """
    o = parse([*argv, "--gpu_ids", "-1", *(["--dataroot", images] if images else [])], "test")
    folder, which = Path(o.checkpoints_dir) / o.name, weight_files.file_prefix(o.epoch, o.load_iter)
    model, spec = build_model(o, folder, which)
    networks = {name: net for name, net in model.networks().items() if name in model.averaged} or model.networks()
    load_run_weights(o, folder, which, model, networks)
    model.eval().requires_grad_(False)
    run = LoadedRun(o, folder, which, model, spec)
    if not o.generate:
        channels = spec.output_nc if run.is_turned else spec.input_nc
        run.pictures, run.origin, run.values = find_samples(o, folder, type(model), channels, images, number)
    return run


def build_model(o: Any, folder: Path, which: str) -> tuple[Any, Any]:
    """Return a run's model, without its weights, and the Spec it was built with."""
    if not o.remembered:
        read_network_flags(o, folder, which)
    known = store.load_spec(folder)
    if not known:  # weights of the reference, or of other programs
        width, height = to_size(o.crop_size)
        known = dict(input_nc=o.input_nc, output_nc=o.output_nc, height=height, width=width, classes=[])
    o.run_classes = list(known["classes"])
    spec = run_spec(folder, known, None)
    return find("model", o.model)(o, spec), spec


class FoundSamples(NamedTuple):
    """Images, where they come from, and what else the samples hold; see LoadedRun."""

    pictures: list[Tensor]
    origin: str
    values: dict[str, Tensor]


def find_samples(
    o: Any, folder: Path, model_class: type, channels: int, images: str, number: int = MAX_PICTURES
) -> FoundSamples:
    """Return up to `number` source images (C, H, W) as test.py reads them, or generated ones."""
    try:
        given = copy(o)
        found = find_images(given, folder, model_class)
        found.spec()
        with fork_rng(0):
            samples = [found.dataset[index % len(found.dataset)] for index in range(number)]
        pictures = [torch.as_tensor(np.asarray(sample["A"])).float() for sample in samples]
        if is_of_labels(o):
            pictures = [file_ids(picture, o) for picture in pictures]
        elif any(picture.shape[0] != channels for picture in pictures):
            raise OptionError("images", found.o.dataroot, f"do not have {channels} channels", "give others")
        values = {key: value for key, value in found.dataset.collate(samples[:1] * NUMBER).items() if key not in "AB"}
        values = {key: value for key, value in values.items() if isinstance(value, Tensor)}
        return FoundSamples(pictures, f"images of {found.o.dataroot}", values)
    except (UserError, OSError):
        if images:
            raise
    rng = torch.Generator().manual_seed(0)
    if is_of_labels(o):
        maps = [generated_labels(o, 256, 256, rng) for _ in range(MAX_PICTURES)]
        return FoundSamples(maps, "generated label maps", {})
    return FoundSamples([smooth_picture(channels, 256, 256, rng) for _ in range(MAX_PICTURES)], "generated images", {})


def is_of_labels(o: Any) -> bool:
    """Whether a run's inputs are label maps."""
    return not sees_only_pictures(o) and bool(o.label_nc)


def smooth_picture(channels: int, height: int, width: int, rng: torch.Generator) -> Tensor:
    """Return a generated picture (channels, height, width) in [-1, 1]: smooth shapes, edges and a little noise."""
    coarse = torch.randn(1, channels, 5, 5, generator=rng)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
    edges = 0.5 * torch.sign(nn.functional.interpolate(coarse.flip(2), (height, width), mode="bilinear")[0])
    return (0.6 * smooth + edges + 0.05 * torch.randn(channels, height, width, generator=rng)).tanh()


def network_from_file(path: Path, plugins: Sequence[str] = ()) -> nn.Module:
    """Return the network of a .safetensors file that GANvas wrote, built from its metadata, with its weights.

    It takes what other exports take: noise, and ids of label maps. plugins: files of plug-ins that define it. Raises
    CheckpointError for a file of other programs.
    """
    about = read_architecture(path)
    name = about.get("network")
    if not isinstance(name, str):
        raise CheckpointError("file", path, "does not say which network it holds", "build it with --netG, and test.py")
    with tempfile.TemporaryDirectory(prefix="ganvas_network_") as place:
        folder = Path(place) / "run"
        folder.mkdir()
        shutil.copyfile(path, folder / f"latest_net_{name}.safetensors")
        more = [word for plugin in plugins for word in ("--plugin", plugin)]
        o = parse(["--name", "run", "--checkpoints_dir", place, "--gpu_ids", "-1", *more], "test")
        model, _ = build_model(o, folder, "latest")
        net = model.networks()[name]
        weight_files.load_into_network(net, weight_files.load_weights(path), path)
    net, _ = without_noise_input(net.eval().requires_grad_(False))
    return net if sees_only_pictures(o) else OfLabelMaps(net, o)
