"""A pool of earlier generated images to show to discriminators (Shrivastava et al. 2017)."""

from typing import Any

import torch
from torch import Tensor, nn

from util.device import captures


class ImagePool(nn.Module):
    """(N, C, H, W) -> (N, C, H, W): once full, swaps each image with probability 0.5 for a stored one.

    Size 0 returns images unchanged. Random numbers come from torch's CPU generator; the images are part of the state.
    """

    def __init__(self, size: int):
        super().__init__()
        self.size = size
        self.images: list[Tensor] = []

    def forward(self, batch: Tensor) -> Tensor:
        if self.size == 0:
            return batch
        if captures:
            return captures[-1].swap(self, batch)
        return torch.stack([self._swap(image, len(batch) == 1) for image in batch.detach()])

    def _swap(self, image: Tensor, alone: bool) -> Tensor:
        place, shows_stored = self.draw()
        if place == len(self.images):
            self.images.append(image.clone())
        elif shows_stored:
            stored, self.images[place] = self.images[place], image.clone()
            # a stored image of another size (--preprocess none, changed --crop_size) does not fit into a batch
            return stored.to(image.device) if alone or stored.shape == image.shape else image
        return image

    def draw(self) -> tuple[int, bool]:
        """Return (place to store the next image at, whether the image stored there is shown instead); -1: not stored.

        A place equal to the number of images is a new one.
        """
        if len(self.images) < self.size:
            return len(self.images), False
        if torch.rand(()).item() < 0.5:
            return -1, False
        return int(torch.randint(self.size, ()).item()), True

    def get_extra_state(self) -> dict[str, Any]:
        """Return the stored images, for the state file."""
        return {"images": [image.cpu() for image in self.images]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore stored images up to the pool's size; ValueError if they are not images."""
        images = list(state["images"])[: self.size]
        if not all(isinstance(image, Tensor) and image.dim() == 3 for image in images):
            raise ValueError("the stored images of a pool are not images")
        self.images = images
