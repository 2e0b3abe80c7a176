"""Draw the latents of generated images, and generate sheets of them for models that draw images from noise."""

from collections.abc import Callable
from dataclasses import replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from inference.sampling import Request
from util.errors import OptionError
from util.seeding import mix_seed

SAMPLE_BATCH_SIZE = 64  # images generated at a time
MAX_ENDED = 4096  # generators of 5 kB

# Generators of latents by (seed, class, latent_dim, place of the next latent): the next part of a request continues
# with one, instead of drawing all earlier latents again.
_ended: dict[tuple[int, int, int, int], torch.Generator] = {}


def latents(request: Request, number: int, latent_dim: int) -> Tensor:
    """Return (request.number, latent_dim) standard normal latents of a class, `number` being its place in the order.

    A class's n-th latent depends only on the seed, the class and n, not on the rest of the request. Those of an
    interpolation are the steps from the first to the last, or with `ends` between the first latents of two seeds.
    """
    if request.ends is not None:
        first, last = (_end(end, request, number, latent_dim) for end in request.ends)
        return _steps(first, last, request.number)
    rng = _ended.pop((request.seed, number, latent_dim, request.start), None)
    if rng is None:
        rng = torch.Generator().manual_seed(mix_seed(request.seed, number, 0))
        for _ in range(request.start):
            torch.randn(latent_dim, generator=rng)  # the latents of earlier images
    z = torch.stack([torch.randn(latent_dim, generator=rng) for _ in range(request.number)])
    if request.kind == "per_class":
        if len(_ended) >= MAX_ENDED:
            _ended.clear()
        _ended[request.seed, number, latent_dim, request.start + request.number] = rng
    if request.kind == "interpolation":
        return _steps(z[:1], z[-1:], request.number)
    return z


def _end(end: Any, request: Request, number: int, latent_dim: int) -> Tensor:
    """Return one end of an interpolation, (1, latent_dim); OptionError for numbers of another count."""
    if isinstance(end, Integral):
        return latents(replace(request, kind="grid", number=1, seed=int(end), ends=None), number, latent_dim)
    given = torch.as_tensor(end, dtype=torch.float32, device="cpu")
    if given.numel() != latent_dim:
        why = f"has {given.numel()} numbers, and the model's have {latent_dim}"
        raise OptionError("latent", tuple(given.shape), why, f"give a seed, or a latent of {latent_dim} numbers")
    return given.reshape(1, latent_dim)


def _steps(first: Tensor, last: Tensor, number: int) -> Tensor:
    fraction = torch.linspace(0, 1, number)[:, None]
    return (1 - fraction) * first + fraction * last


def sheets_from_latents(
    request: Request,
    classes: tuple[str, ...],
    latent_dim: int,
    generate: Callable[[Tensor, Tensor], Tensor],
    device: torch.device,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what a model's sheets(request) returns: {sheet: (images (N, C, H, W), labels (N,))}.

    classes: all classes of the model, in order; a model without classes has one sheet, "samples", even if its data
    had classes. A grid holds the images of all classes of the request. generate(latents, labels) returns images.
    """
    sheets, wanted = {}, request.classes if classes else ()
    for name in wanted or ("samples",):
        number = classes.index(name) if wanted else 0
        label = torch.full((request.number,), number, device=device)
        z = latents(request, number, latent_dim).to(device)
        parts = zip(z.split(SAMPLE_BATCH_SIZE), label.split(SAMPLE_BATCH_SIZE), strict=True)
        sheets[name] = (torch.cat([generate(*part) for part in parts]), label)
    if request.kind != "grid":
        return sheets
    images, labels = (torch.cat(parts) for parts in zip(*sheets.values(), strict=True))
    return {"grid": (images, labels)}
