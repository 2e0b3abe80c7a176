"""What the host draws for CUDA graphs: it does so before each replay, and the device reads it in the replay."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from networks.sample_noise import upload
from util.device import captures
from util.image_pool import ImagePool


class _Store:
    """A pool's images in one tensor, whose place in memory does not change."""

    def __init__(self, pool: ImagePool, like: Tensor):
        self.pool, self.stack = pool, like.new_empty((pool.size, *like.shape))
        self.views = list(self.stack.unbind())

    def fits(self) -> bool:
        """Whether the pool's images have the shape of these."""
        return all(image.shape == self.stack.shape[1:] for image in self.pool.images)

    def fetch(self) -> None:
        """Take over images that steps without a graph, or a saved state, have put into the pool."""
        for place, image in enumerate(self.pool.images):
            if image is not self.views[place]:
                self.views[place].copy_(image)
                self.pool.images[place] = self.views[place]


class _Swap:
    """One call of a pool. Before each replay it draws for each image (place, whether to show that one, to store)."""

    def __init__(self, store: _Store, batch: Tensor):
        self.store, self.plan = store, batch.new_empty((3, len(batch)), dtype=torch.int64)

    def record(self, batch: Tensor) -> Tensor:
        """Return the images to show, computed by operations that do not depend on the plan's values."""
        place, shows, stores = self.plan.unbind()
        shown = []
        for i, image in enumerate(batch.detach()):
            stored = self.store.stack.index_select(0, place[i : i + 1])[0]
            shown.append(torch.where(shows[i] > 0, stored, image))
            self.store.stack.index_copy_(0, place[i : i + 1], torch.where(stores[i] > 0, image, stored)[None])
        return torch.stack(shown)

    def draw(self) -> None:
        """Draw the plan of the next replay, as the pool itself would."""
        self.store.fetch()
        pool, rows = self.store.pool, []
        for _ in range(self.plan.shape[1]):
            place, shows_stored = pool.draw()
            if place == len(pool.images):
                pool.images.append(self.store.views[place])
            rows.append((max(place, 0), shows_stored, place >= 0))
        self.plan.copy_(upload(torch.tensor(rows, dtype=torch.int64).T.contiguous(), self.plan.device))


class _Values:
    """Integers that a captured function asks for by from_host."""

    def __init__(self, make: Callable[[], Tensor], shape: tuple[int, ...], device: torch.device):
        self.make, self.values = make, torch.empty(shape, dtype=torch.int64, device=device)

    def draw(self) -> None:
        """Make the values of the next replay."""
        self.values.copy_(upload(self.make(), self.values.device))


class HostInputs:
    """What captured functions ask of the host; `inputs` are those recorded since the list was last taken, in order."""

    def __init__(self) -> None:
        self.stores: dict[ImagePool, _Store] = {}
        self.inputs: list[_Swap | _Values] = []

    def values(self, make: Callable[[], Tensor], shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Take the place of from_host in a capture."""
        asked = _Values(make, shape, device)
        self.inputs.append(asked)
        return asked.values

    def swap(self, pool: ImagePool, batch: Tensor) -> Tensor:
        """Take the place of a pool's call in a capture."""
        if pool not in self.stores:
            self.stores[pool] = _Store(pool, batch[0].detach())
        asked = _Swap(self.stores[pool], batch.detach())
        self.inputs.append(asked)
        return asked.record(batch)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Inside the block, calls of pools and of from_host are recorded."""
        captures.append(self)
        try:
            yield
        finally:
            captures.pop()

    def take(self) -> list[_Swap | _Values]:
        """Return what was recorded since."""
        taken, self.inputs = self.inputs, []
        return taken

    def fit(self) -> bool:
        """Whether the pools hold images of the captured shapes only."""
        return all(store.fits() for store in self.stores.values())

    def images(self) -> dict[ImagePool, list[Tensor]]:
        """Return what the pools hold."""
        return {pool: list(pool.images) for pool in self.stores}

    @contextmanager
    def holding(self, images: dict[ImagePool, list[Tensor]]) -> Iterator[None]:
        """Inside the block, the pools hold these images, and after it again what they hold now."""
        now: Any = self.images()
        for pool, held in images.items():
            pool.images = list(held)
        try:
            yield
        finally:
            for pool, held in now.items():
                pool.images = held
