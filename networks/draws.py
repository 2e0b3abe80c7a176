"""Random numbers for each sample of a batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed


def noise(batch: Mapping[str, Any] | Tensor, *shape: int, uniform: bool = False) -> Tensor:
    """Return (N, *shape) standard normal numbers, or with `uniform` numbers from [0, 1), for the N samples of a batch.

    batch: the batch, or a tensor of N samples. Device and dtype are those of its images A, or of the tensor; numbers
    for integers, such as labels, have torch's default dtype. In one process this is torch.randn, or torch.rand. Several
    processes of torch.distributed, whose generators must agree and whose batches must be of one size, draw the numbers
    of all samples and keep their part, in the order of their ranks.
    """
    samples = batch if isinstance(batch, Tensor) else batch["A"]
    draw, dtype = torch.rand if uniform else torch.randn, samples.dtype
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    rank, processes = _rank()
    numbers = draw(processes * len(samples), *shape, device=samples.device, dtype=dtype)
    return numbers if processes == 1 else numbers.chunk(processes)[rank].clone()  # without the memory of the others


def _rank() -> tuple[int, int]:
    """Return the number of this process, from 0, and how many there are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
