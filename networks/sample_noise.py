"""Random numbers for each sample of a batch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from util import ranks
from util.device import captures
from util.seeding import common_draws


def noise(batch: Mapping[str, Any] | Tensor, *shape: int, uniform: bool = False) -> Tensor:
    """Return (N, *shape) standard normal numbers, or with `uniform` numbers from [0, 1), for the N samples of a batch.

    batch: the batch, or a tensor of N samples. Device and dtype are those of its images A, or of the tensor; numbers
    for integers, such as labels, have torch's default dtype. In one process this is torch.randn, or torch.rand. Several
    processes that train draw the numbers of all samples, as one process would, and keep those of their own. Of a
    tensor that holds every sample several times, one batch after the other, they keep those of each time.
    """
    samples = batch if isinstance(batch, Tensor) else batch["A"]
    draw, dtype = torch.rand if uniform else torch.randn, samples.dtype
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    share, number = ranks.pulse.share, len(samples)
    if not ranks.is_shared():
        return draw(number, *shape, device=samples.device, dtype=dtype)
    share = share or ranks.Share((number,) * ranks.world_size(), ranks.rank())
    own = max(1, share.count)  # a process without a sample computes one
    times, per_time = (number // own, share.total) if number % own == 0 else (1, number * len(share.counts))
    start = share.start if number % own == 0 else number * share.rank
    with common_draws():
        numbers = draw(times, per_time, *shape, device=samples.device, dtype=dtype)
    return numbers[:, min(start, per_time - 1) :][:, : number // times].flatten(0, 1).clone()


def from_host(make: Callable[[], Tensor], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return make(), integers of a shape that the CPU draws, on a device; CUDA graphs have it done for each replay."""
    return captures[-1].values(make, shape, device) if captures else upload(make(), device)


def upload(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device, without waiting for the device."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)
