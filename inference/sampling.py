"""Images generated from noise: a grid, images of each class, or an interpolation between two latents."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from data.names.class_names import describe_classes, select_classes
from util.errors import OptionError, print_line
from util.image_io import SHEET_COLUMNS, to_pixels
from util.seeding import mix_seed

INTERPOLATION_STEPS = 10  # images in one interpolation
MAX_PART_IMAGES = 512  # images of one request, of all classes together
MAX_PART_PIXELS = 1 << 24  # and their pixels: 200 MB of RGB in 32 bits
PART_MULTIPLE = 64  # parts are cut where a model's own batches end, so that rounding is that of one request


@dataclass(frozen=True)
class Request:
    """The argument of a model's optional method `sheets(request) -> {name: (images, labels)}`.

    images: (N, C, H, W) in [-1, 1]; labels: (N,). Equal requests give equal images. Many images of kind "per_class"
    are asked for in parts: images start, start + 1, ... of each class, which a longer request also holds.
    """

    kind: str  # "grid": one sheet, one row per class; "per_class": one sheet per class; "interpolation": two latents
    classes: tuple[str, ...]
    number: int  # images of each class
    seed: int
    start: int = 0  # the number of the first image of each class; 0 for the other kinds
    ends: tuple[Any, Any] | None = None  # of an interpolation: the latents it joins, each as a seed, of which it is the
    # first, or as numbers; None: those of `seed`


class _WatchedRequest(Request):
    """A request that knows whether its `start` and its `ends` were read."""

    start_was_read = ends_were_read = False

    def __getattribute__(self, name: str) -> Any:
        if name in ("start", "ends"):  # the request is frozen for plug-ins
            object.__setattr__(self, {"start": "start_was_read", "ends": "ends_were_read"}[name], True)
        return super().__getattribute__(name)


def has_sampler(model: Any) -> bool:
    """Whether a model has the optional method `sheets` and so needs no input images."""
    return callable(getattr(model, "sheets", None))


def generate(o: Any, model: Any, results: Any, spec: Any) -> None:
    """Add to `results` a grid, interpolations and single images of each class, or of --classes, made from noise."""
    wanted = select_classes(o.classes, spec.classes)
    if spec.classes and vars(o).get("cond") != "none":  # then the model uses no classes
        print_line(describe_classes(wanted, total=len(spec.classes)))
    for kind, number in {"grid": min(SHEET_COLUMNS, o.num_samples), "interpolation": INTERPOLATION_STEPS}.items():
        sheets = sample_sheets(model, Request(kind, wanted, number, o.seed))
        results.add_sheets(kind, sheets, min(number, SHEET_COLUMNS), wanted if kind == "grid" else ())
    for samples in sample_parts(model, Request("per_class", wanted, o.num_samples, o.seed), spec.height, spec.width):
        results.add_samples(samples)
        samples.clear()  # so that their memory is free for the next part


def sample_sheets(model: Any, request: Request) -> dict[str, list[np.ndarray]]:
    """Return {sheet: images (H, W, C) uint8}; the networks keep their train or eval mode and record no gradients."""
    return _pixels(_call_sheets(model, request))


def sample_between(model: Any, request: Request) -> dict[str, list[np.ndarray]]:
    """Return the sheets of an interpolation between `request.ends`; OptionError if the model does not read them."""
    asked = _WatchedRequest(**vars(request))
    made = _call_sheets(model, asked)
    if not asked.ends_were_read:
        why = "its sheets(request) does not read request.ends, so it cannot join the images of two seeds"
        raise OptionError("plug-in", type(model).__name__, why, "use sample(n), or latents() of inference.latents")
    return _pixels(made)


def sample_parts(model: Any, request: Request, height: int, width: int) -> Iterator[dict[str, list[np.ndarray]]]:
    """Yield the images of a request in parts that bound the memory, as `sample_sheets` returns them."""
    for made in sample_tensors(model, request, height, width):
        held = [_pixels(made)]
        made.clear()
        yield held.pop()  # no reference stays here, so that memory is free for the next part


def sample_tensors(
    model: Any, request: Request, height: int, width: int
) -> Iterator[dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Yield what sheets() returns, {sheet: (images, labels)}, in parts that bound the memory.

    height, width: of an image, in pixels. If sheets() reads `request.start`, the parts together are the images of one
    request. A model that ignores it would repeat the first part, so each further part has a seed of its own.
    """
    size, ignores_start = part_size(len(request.classes), height, width), False
    first: dict[str, torch.Tensor] = {}
    for part, start in enumerate(range(0, request.number, size)):
        number = min(size, request.number - start)
        asked = _WatchedRequest(request.kind, request.classes, number, request.seed, start)
        other = replace(request, number=number, seed=mix_seed(request.seed, part, 0) % 2**31) if part else request
        made = _call_sheets(model, other if ignores_start else asked)
        if part == 0:
            ignores_start = not asked.start_was_read
            first = {name: images[:1].clone() for name, (images, _) in made.items()}
        elif not ignores_start and all(_begins_with(images, first.get(name)) for name, (images, _) in made.items()):
            ignores_start, made = True, _call_sheets(model, other)  # it read `start` to copy or print the request
        held = [dict(made)]
        del made
        yield held.pop()  # as above


def part_size(classes: int, height: int, width: int) -> int:
    """Return how many images of each class one request asks for."""
    size = max(1, min(MAX_PART_IMAGES, MAX_PART_PIXELS // (height * width)) // max(1, classes))
    return size - size % PART_MULTIPLE or size


def _call_sheets(model: Any, request: Request) -> dict[str, Any]:
    with torch.no_grad():
        return model.sheets(request)


def _pixels(made: dict[str, Any]) -> dict[str, list[np.ndarray]]:
    return {name: [to_pixels(image) for image in images] for name, (images, _) in made.items()}


def _begins_with(images: torch.Tensor, first: torch.Tensor | None) -> bool:
    return first is not None and torch.allclose(images[:1], first, rtol=0, atol=1e-5)  # batches of other sizes round
