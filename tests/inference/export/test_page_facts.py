"""What a page knows of its generator: the colours that its images are drawn with, and directions of its noise."""

import numpy as np
import pytest
import torch
from torch import nn

from inference.export.generator_search import Generator
from inference.export.page_facts import DIRECTIONS, colours, directions, kind
from inference.export.run_loading import smooth_picture

MAP = [(0, 0, 200), (255, 90, 0), (60, 200, 60), (250, 250, 40), (120, 0, 120)]


def label_map(seed, noise=0, side=64, blended=False):
    """Return a map of rectangles in the colours of MAP, the first one behind, as a tensor in [-1, 1]."""
    rng = np.random.default_rng(seed)
    image = np.empty((side, side, 3))
    image[:] = MAP[0]
    for number in range(12):
        top, left = rng.integers(0, side - 16, 2)
        image[top : top + 14, left : left + 14] = MAP[1 + number % 4]
    if blended:
        image[1:] = (image[1:] + image[:-1]) / 2
    image = (image + rng.integers(-noise, noise + 1, image.shape)).clip(0, 255).round()
    return torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1


def test_the_colours_of_a_label_map_are_found_background_first():
    found = colours([label_map(seed) for seed in range(4)])
    assert found[0] == list(MAP[0]) and sorted(map(tuple, found)) == sorted(MAP)


def test_compressed_and_blended_maps_keep_their_colours():
    found = colours([label_map(seed, noise=2, blended=True) for seed in range(4)])
    assert len(found) == len(MAP)
    assert all(min(np.abs(np.subtract(colour, each)).max() for each in found) <= 4 for colour in MAP)


def test_the_grey_of_smoothed_lines_is_no_colour():
    line = torch.ones(1, 32, 32)
    line[:, 8:12], line[:, 12] = -1, 0
    assert colours([line]) == [[255, 255, 255], [0, 0, 0]]


@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_have_no_colours_to_draw_with(channels):
    photos = [smooth_picture(channels, 64, 64, torch.Generator().manual_seed(seed)) for seed in range(3)]
    assert colours(photos) == []


def test_one_colour_and_no_image_give_no_colours():
    assert colours([torch.ones(3, 8, 8)]) == colours([]) == []


class Blobs(nn.Module):
    """Noise 2 moves all pixels, noise 0 a few, the others none; the class makes the greatest difference."""

    def forward(self, z, label):
        image = 0.2 * z[:, 2].view(-1, 1, 1, 1).expand(-1, 1, 8, 8).clone()
        image[:, :, :2, :2] += 0.1 * z[:, 0].view(-1, 1, 1, 1)
        return image + 5.0 * label.view(-1, 1, 1, 1)


def test_directions_are_those_that_change_the_image_most():
    inputs = {"z": torch.zeros(2, 8), "label": torch.zeros(2, dtype=torch.long)}
    found = np.array(directions(Generator("G", Blobs(), inputs), 3))
    assert found.shape == (DIRECTIONS, 8)
    np.testing.assert_allclose(found @ found.T, np.eye(DIRECTIONS), atol=1e-3)
    assert abs(found[0, 2]) > 0.9 and abs(found[1, 0]) > 0.9


def test_maps_lines_and_photographs_are_told_apart():
    line = torch.ones(1, 32, 32)
    line[:, 8:10] = -1
    mask = torch.ones(1, 32, 32)
    mask[:, 8:24, 8:28] = -1
    photo = [smooth_picture(3, 64, 64, torch.Generator().manual_seed(1))]
    kinds = [kind(colours(images), images) for images in ([line], [mask], [label_map(1)], photo)]
    assert kinds == ["lines", "label map", "label map", "photograph"]
