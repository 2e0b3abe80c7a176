"""The latents of a request are the same in one part and in several, and each is drawn once."""

import pytest
import torch

from inference import latents as module
from inference.latents import latents
from inference.sampling import Request


@pytest.fixture
def drawn(monkeypatch):
    """One entry for each latent that is drawn."""
    monkeypatch.setattr(module, "_ended", {})
    calls, real = [], torch.randn
    monkeypatch.setattr(torch, "randn", lambda *args, **more: calls.append(1) or real(*args, **more))
    return calls


def part(start, number, place=0, seed=3, kind="per_class", latent_dim=5):
    return latents(Request(kind, ("a", "b"), number, seed, start), place, latent_dim)


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_parts_are_one_request_and_draw_each_latent_once(drawn, monkeypatch, limit):
    whole = {place: part(0, 12, place) for place in (0, 1)}
    drawn.clear()
    monkeypatch.setattr(module, "MAX_ENDED", limit)
    parts = {0: [], 1: []}
    for start in (0, 3, 6, 9):
        for place, found in parts.items():
            found.append(part(start, 3, place))
    assert all(torch.equal(torch.cat(parts[place]), whole[place]) for place in whole)
    assert (len(drawn) == 24) == (limit > 1) and len(module._ended) <= limit


def test_a_part_does_not_depend_on_what_was_asked_before(drawn):
    whole = part(0, 9)
    for start, number in ((4, 2), (4, 2), (6, 3), (0, 4), (4, 5), (6, 1)):
        assert torch.equal(part(start, number), whole[start : start + number])
    for other in ({"seed": 4}, {"place": 1}, {"kind": "interpolation"}):
        assert not torch.equal(part(0, 4, **other)[1:3], whole[1:3])
        assert torch.equal(part(4, 2), whole[4:6])
    assert part(4, 2, latent_dim=6).shape == (2, 6)
