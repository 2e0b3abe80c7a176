"""What a page with a generator needs to know of it: colours to draw with, and directions of its noise."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inference.export.generator_search import Generator

MAX_COLOURS = 24
MIN_SHARE = 0.002  # of the pixels: a rarer colour is a blend between two others
NEAR = 40  # two colours whose largest difference of a channel is less are one
EXACT = 4  # a pixel that differs less from a colour is of it
MAX_LINES = 0.25  # of the pixels that lines take; a mask of two classes has more
MIN_DRAWN = 0.3  # of the pixels that are not background, in images that are drawn with few colours
DIRECTIONS, SIDE = 6, 32
Palette = tuple[list[int], list[list[int]]]  # ids of classes and their colours
SAMPLES, SAMPLES_PER_NUMBER = 192, 3  # at least, and for each number of the noise


def colours(pictures: Sequence[Tensor]) -> list[list[int]]:
    """Return the colours [R, G, B] that images (C, H, W) in [-1, 1] are drawn with, the commonest first.

    The list is empty for photographs: fewer than MIN_DRAWN of what is not the commonest colour has exact colours.
    """
    pixels = [((p.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).reshape(-1, len(p)) for p in pictures]
    values = torch.cat(pixels).expand(-1, 3).numpy().astype(np.int16) if pixels else np.zeros((0, 3), np.int16)
    _, index, counts = np.unique(values // 8, axis=0, return_inverse=True, return_counts=True)
    found: list[tuple[np.ndarray, int]] = []
    for place in np.argsort(-counts, kind="stable"):
        if counts[place] < MIN_SHARE * len(values) or len(found) == MAX_COLOURS:
            break
        exact, number = np.unique(values[index.reshape(-1) == place], axis=0, return_counts=True)
        colour = exact[number.argmax()]
        if all(_apart(colour, other) >= NEAR for other, _ in found) and not _is_blend(colour, counts[place], found):
            found.append((colour, counts[place]))
    if len(found) < 2:
        return []
    found.sort(key=lambda each: -np.count_nonzero(_apart(values, each[0]) < NEAR / 2))
    drawn = values[_apart(values, found[0][0]) > 4 * EXACT]
    exactly = np.min([_apart(drawn, colour) for colour, _ in found[1:]], axis=0) <= EXACT
    return [colour.tolist() for colour, _ in found] if exactly.mean() >= MIN_DRAWN else []


def kind(found: list[list[int]], pictures: Sequence[Tensor]) -> str:
    """Return what images with these colours are: a "label map", "lines" or a "photograph"."""
    if not found:
        return "photograph"
    paper = torch.tensor(found[0][: len(pictures[0])]).view(-1, 1, 1) / 127.5 - 1
    drawn = [((picture - paper).abs().amax(0) > 2 * NEAR / 255).float().mean() for picture in pictures]
    return "lines" if len(found) == 2 and torch.stack(drawn).mean() <= MAX_LINES else "label map"


def _apart(values: np.ndarray, colour: np.ndarray) -> Any:
    """Return the largest difference of a channel between colours (..., 3) and one colour."""
    return np.abs(values - colour).max(-1)


def _is_blend(colour: np.ndarray, count: int, found: list[tuple[np.ndarray, int]]) -> bool:
    """Whether a colour lies between two that are at least twice as common, as at smoothed edges."""
    common = [other.astype(float) for other, number in found if number >= 2 * count]
    for one, two in combinations(common, 2):
        line = two - one
        share = np.dot(colour - one, line) / np.dot(line, line)
        if 0 < share < 1 and _apart(one + share * line, colour) < NEAR / 4:
            return True
    return False


def directions(generator: Generator, classes: int) -> list[list[float]]:
    """Return unit vectors of a generator's noise that change its images most, strongest first.

    The images of random noises are regressed on the noise by least squares; the directions are the left singular
    vectors of the coefficients (after Härkönen et al. 2020, "GANSpace", which takes principal components of features).
    """
    rng = torch.Generator().manual_seed(0)
    number = max(SAMPLES, SAMPLES_PER_NUMBER * generator.inputs["z"][0].numel())
    z = torch.randn(number, *generator.inputs["z"].shape[1:], generator=rng)
    label = torch.arange(number) % max(1, classes)
    images = []
    with torch.no_grad():
        for start in range(0, number, 16):
            part = {"z": z[start : start + 16], "label": label[start : start + 16]}
            made = generator.net(*(part[name] for name in generator.inputs))
            images.append(F.interpolate(made, (SIDE, SIDE), mode="area").flatten(1))
    values = torch.cat(images)
    for index in range(max(1, classes)):  # differences between classes do not come from the noise
        values[label == index] -= values[label == index].mean(0)
    slopes = torch.linalg.lstsq(z.flatten(1), values).solution
    left, _, _ = torch.linalg.svd(slopes, full_matrices=False)
    return [[round(float(x), 5) for x in column] for column in left.T[:DIRECTIONS]]


def page_facts(
    generator: Generator, pictures: Sequence[Tensor], about: dict[str, Any], palette: Palette | None = None
) -> dict[str, Any]:
    """Return the table that the page's scripts read. about: that of the exported file; palette: of label maps."""
    inputs = {name: list(value.shape[1:]) for name, value in generator.inputs.items()}
    facts = {"inputs": inputs, "classes": about["classes"], "sizes": about["sizes"]}
    if palette:
        return facts | {"ids": palette[0], "colours": palette[1], "kind": "label map"}
    if "image" in inputs:
        found = colours(pictures)
        return facts | {"colours": found, "kind": kind(found, pictures)}
    return facts | {"directions": directions(generator, len(about["classes"]))}
