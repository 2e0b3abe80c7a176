"""Noise for each sample of a batch, in one process and in two."""

import pytest
import torch
from torch import multiprocessing

from networks import noise


@pytest.mark.parametrize(("uniform", "draw"), [(False, torch.randn), (True, torch.rand)])
@pytest.mark.parametrize("shape", [(), (5,), (1, 2, 2)])
def test_in_one_process_noise_is_what_torch_draws(uniform, draw, shape):
    images = torch.zeros(3, 3, 4, 4, dtype=torch.float64)
    for batch in ({"A": images, "label": torch.arange(3)}, images):
        torch.manual_seed(1)
        expected = draw(3, *shape, dtype=torch.float64), torch.get_rng_state()
        torch.manual_seed(1)
        got = noise(batch, *shape, uniform=uniform), torch.get_rng_state()
        assert all(map(torch.equal, got, expected)) and got[0].dtype == torch.float64


def test_noise_has_the_device_of_the_images_and_never_integers():
    assert noise(torch.zeros(2, 1, device="meta"), 4).is_meta
    assert noise(torch.arange(2), 4).dtype == torch.float32


def _draw(rank, folder):
    address = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.manual_seed(1)
    part = noise(torch.zeros(3, 1), 4), noise({"A": torch.zeros(3, 1)}, uniform=True)
    torch.save((*part, torch.get_rng_state()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_share_the_draw_of_the_global_batch(tmp_path):
    multiprocessing.spawn(_draw, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    torch.manual_seed(1)
    assert torch.equal(torch.cat([parts[0][0], parts[1][0]]), torch.randn(6, 4))
    assert torch.equal(torch.cat([parts[0][1], parts[1][1]]), torch.rand(6))
    assert all(torch.equal(part[2], torch.get_rng_state()) for part in parts)
