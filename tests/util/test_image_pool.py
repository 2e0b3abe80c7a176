"""The image pool fills, then swaps every second image, and is part of a run's state."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from util.image_pool import ImagePool


def numbered(*numbers):
    """Return images (N, 1, 2, 2), each with a value of its own."""
    return torch.tensor(numbers, dtype=torch.float).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()


def read(images):
    return [int(image.flatten()[0]) for image in images]


def test_a_pool_not_yet_full_passes_images_without_draws():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    pool = ImagePool(5)
    assert read(pool(numbered(0, 1, 2))) == [0, 1, 2]
    assert read(pool(numbered(3, 4))) == [3, 4]
    assert read(pool.images) == [0, 1, 2, 3, 4]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_may_cross_the_filling_mark():
    torch.manual_seed(0)
    pool = ImagePool(3)
    out = read(pool(numbered(*range(8))))
    assert out[:3] == [0, 1, 2]
    assert sorted(out[3:] + read(pool.images)) == list(range(8))


@pytest.mark.parametrize("batch", [1, 4])
def test_a_full_pool_swaps_half_of_the_images_for_stored_ones(batch):
    """4,000 images through a pool of 8: none lost, none twice, half swapped, every place as often as the others."""
    size, total = 8, 4008
    torch.manual_seed(1)
    pool = ImagePool(size)
    returned, places = [], [0] * size
    for start in range(0, total, batch):
        given = list(range(start, start + batch))
        before = read(pool.images)
        out = read(pool(numbered(*given)))
        if start >= size:
            returned += list(zip(given, out, strict=True))
            for place, (old, new) in enumerate(zip(before, read(pool.images), strict=True)):
                places[place] += old != new
    assert sorted([out for _, out in returned] + read(pool.images)) == list(range(total))
    assert all(out <= given for given, out in returned), "only what was seen before comes back"
    swapped = sum(out != given for given, out in returned)
    assert abs(swapped - 2000) < 4 * (4000 * 0.25) ** 0.5
    if batch == 1:
        assert sum(places) == swapped
        assert max(abs(n - swapped / size) for n in places) < 4 * (swapped / size) ** 0.5


def test_which_images_are_swapped_is_what_the_generator_says():
    """A coin for each image, heads a place, in order: the exact counts and images that the draws give."""
    size, numbers = 4, range(500)
    torch.manual_seed(2)
    stored, expected = list(numbers[:size]), list(numbers[:size])
    for number in numbers[size:]:
        if torch.rand(()).item() < 0.5:
            expected.append(number)
        else:
            place = int(torch.randint(size, ()).item())
            expected.append(stored[place])
            stored[place] = number
    torch.manual_seed(2)
    pool = ImagePool(size)
    out = [read(pool(numbered(number)))[0] for number in numbers]
    assert out == expected
    assert read(pool.images) == stored


def test_size_zero_passes_the_very_tensor_through_with_its_graph():
    pool = ImagePool(0)
    x = numbered(1, 2).requires_grad_()
    assert pool(x) is x
    assert pool.images == []


def test_draws_come_from_torchs_cpu_generator_alone():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    others = random.getstate(), np.random.get_state()[1].tolist()
    pool = ImagePool(2)
    out = [read(pool(numbered(n)))[0] for n in range(100)]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == others
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(0)
    again = ImagePool(2)
    assert [read(again(numbered(n)))[0] for n in range(100)] == out
    torch.manual_seed(1)
    other = ImagePool(2)
    assert [read(other(numbered(n)))[0] for n in range(100)] != out


def test_a_pool_keeps_and_returns_copies_without_graph():
    torch.manual_seed(0)
    pool = ImagePool(2)
    x = numbered(1, 2).requires_grad_()
    assert not pool(x).requires_grad
    with torch.no_grad():
        x.zero_()
    assert read(pool.images) == [1, 2]
    assert all(not image.requires_grad for image in pool.images)
    for n in range(3, 23):
        x = numbered(n)
        pool(x).fill_(-1)
        x.fill_(-1)
    assert all(number > 0 for number in read(pool.images))


def test_a_pool_restored_from_a_file_goes_on_the_same(tmp_path):
    torch.manual_seed(3)
    model = nn.Module()
    model.pool = ImagePool(6)
    for n in range(40):
        model.pool(numbered(n))
    torch.save({"model": model.state_dict(), "torch": torch.get_rng_state()}, tmp_path / "state.pt")
    expected = [read(model.pool(numbered(n)))[0] for n in range(40, 80)]

    torch.manual_seed(99)
    again = nn.Module()
    again.pool = ImagePool(6)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again.load_state_dict(state["model"])
    torch.set_rng_state(state["torch"])
    assert [read(again.pool(numbered(n)))[0] for n in range(40, 80)] == expected
    assert read(again.pool.images) == read(model.pool.images)


def test_a_saved_state_does_not_change_with_the_pool():
    torch.manual_seed(0)
    pool = ImagePool(3)
    pool(numbered(0, 1, 2))
    kept = pool.state_dict()
    for n in range(3, 30):
        pool(numbered(n))
    fresh = ImagePool(3)
    fresh.load_state_dict(kept)
    assert read(fresh.images) == [0, 1, 2]


def test_a_pool_of_another_size_takes_what_fits():
    full = ImagePool(5)
    full(numbered(0, 1, 2, 3, 4))
    small, large = ImagePool(3), ImagePool(7)
    for pool in (small, large):
        pool.load_state_dict(full.state_dict())
    assert read(small.images) == [0, 1, 2]
    assert read(large(numbered(5, 6))) == [5, 6]
    assert read(large.images) == list(range(7))
    torch.manual_seed(0)
    for n in range(10, 60):
        small(numbered(n))
    assert len(small.images) == 3
