"""Exchange values between the processes of a run; what comes from another process is read as weights are, unpickled."""

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed

from util import ranks


def from_first(make: Callable[[], Any]) -> Any:
    """Return in all processes what `make` returns in process 0: tensors, numbers, texts, lists and dictionaries."""
    if ranks.world_size() == 1:
        return make()
    data = _pack(make()) if ranks.rank() == 0 else torch.empty(0, dtype=torch.uint8)
    size = torch.tensor([len(data)])
    with ranks.waiting():
        distributed.broadcast(size, 0)
        data = data if ranks.rank() == 0 else torch.empty(int(size), dtype=torch.uint8)
        distributed.broadcast(data, 0)
    return _unpack(data)


def gather(value: Any) -> list[Any]:
    """Return in process 0 the values of all processes, of the kinds of `from_first`; [] in the others."""
    if ranks.world_size() == 1:
        return [value]
    data, sizes = _pack(value), [torch.zeros(1, dtype=torch.int64) for _ in range(ranks.world_size())]
    with ranks.waiting():
        distributed.all_gather(sizes, torch.tensor([len(data)]))
        padded = data.new_zeros(max(map(int, sizes)))
        padded[: len(data)] = data
        found = [torch.empty_like(padded) for _ in sizes] if ranks.rank() == 0 else []
        distributed.gather(padded, found or None, 0)
    return [_unpack(each[: int(size)]) for each, size in zip(found, sizes)]


def first_found(text: str) -> str:
    """Return in all processes the first text of any of them that is not empty, else an empty one."""
    each = gather(text)
    return from_first(lambda: next(filter(None, each), ""))


def _pack(value: Any) -> Tensor:
    file = io.BytesIO()
    torch.save(value, file)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def _unpack(data: Tensor) -> Any:
    return torch.load(io.BytesIO(data.numpy().tobytes()), map_location="cpu", weights_only=True)
