"""A generator of label maps as a function of ids: what networks see of them is made inside an exported file."""

from typing import Any

import torch
from torch import Tensor, nn

from data.labels import label_colours
from data.published.semantic import class_numbers, count_classes, file_ids, semantic_input

NAMES_OF_MAPS = {"instance": "instances"}  # names in batches: names of inputs
COARSE = 5  # rows and columns of areas in a generated label map


class OfLabelMaps(nn.Module):
    """(labels (N, H, W)[, instances (N, H, W)][, z (N, z_dim)]) -> image: a generator of classes and edges of objects.

    labels: the ids of the run's files, or with --label_nc 0 the picture (N, C, H, W). Ids that are no class are an
    error. instances: numbers of objects, unless the run has --no_instance.
    """

    def __init__(self, net: nn.Module, o: Any):
        super().__init__()
        self.net, self.o = net, o

    def forward(self, labels: Tensor, *others: Tensor) -> Tensor:
        batch = {"A": as_networks_see(labels, self.o).to(next(self.net.parameters()).dtype)}
        if not self.o.no_instance:
            batch["instance"], *others = others  # type: ignore[assignment]
        return self.net(semantic_input(batch, self.o), *others)


class OfClasses(nn.Module):
    """(labels (N, H, W), others) -> image: a network, or a whole model, that takes the classes themselves."""

    def __init__(self, net: nn.Module, o: Any):
        super().__init__()
        self.net, self.o = net, o

    def forward(self, labels: Tensor, *others: Tensor) -> Tensor:
        return self.net(as_networks_see(labels, self.o).to(next(self.net.parameters()).dtype), *others)


def as_networks_see(labels: Tensor, o: Any) -> Tensor:
    """Return ids of files (N, H, W) as classes (N, 1, H, W); a picture as it is."""
    return class_numbers(labels, o)[:, None].float() if o.label_nc else labels


def labels_given(labels: Tensor, o: Any) -> dict[str, Tensor]:
    """Return the input of an exported file by its name."""
    return {"labels" if o.label_nc else "image": labels}


def generated_labels(o: Any, height: int, width: int, rng: torch.Generator) -> Tensor:
    """Return a label map (1, H, W) with ids of files: areas of random classes."""
    classes = torch.randint(count_classes(o), (1, 1, COARSE, COARSE), generator=rng)
    return file_ids(nn.functional.interpolate(classes.double(), (height, width), mode="nearest")[0], o)


def label_palette(o: Any, maps: list[Tensor]) -> tuple[list[int], list[list[int]]]:
    """Return the ids of all classes and their colours [R, G, B], those that label maps hold most of first."""
    classes = torch.arange(count_classes(o))
    ids = file_ids(classes, o)
    pixels = torch.cat([picture.flatten() for picture in maps])
    order = sorted(range(len(ids)), key=lambda n: -int((pixels == ids[n]).sum()))
    shown = label_colours(torch.eye(len(ids))[:, :, None, None])[:, :, 0, 0]  # (classes, 3)
    colours = ((shown + 1) * 127.5).round().int().tolist()
    return [int(ids[n]) for n in order], [colours[n] for n in order]
