"""A pool of earlier generated images, shown to discriminators instead of the newest (Shrivastava et al. 2017)."""

from typing import Any

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """(N, C, H, W) -> (N, C, H, W): fills first; then each image is, with p = 0.5, swapped for a stored one.

    size 0 passes images through. Draws come from torch's CPU generator; the stored images are part of the state.
    """

    def __init__(self, size: int):
        super().__init__()
        self.size = size
        self.images: list[Tensor] = []

    def forward(self, batch: Tensor) -> Tensor:
        if self.size == 0:
            return batch
        return torch.stack([self._swap(image, len(batch) == 1) for image in batch.detach()])

    def _swap(self, image: Tensor, alone: bool) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if torch.rand(()).item() < 0.5:
            return image
        place = int(torch.randint(self.size, ()).item())
        stored, self.images[place] = self.images[place], image.clone()
        # one of another size (--crop_size was changed, --preprocess none) cannot stand in a batch beside others
        return stored.to(image.device) if alone or stored.shape == image.shape else image

    def get_extra_state(self) -> dict[str, Any]:
        """Return the stored images, for the state file."""
        return {"images": [image.cpu() for image in self.images]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take stored images back, those beyond the pool's size dropped; ValueError if they are none."""
        images = list(state["images"])[: self.size]
        if not all(isinstance(image, Tensor) and image.dim() == 3 for image in images):
            raise ValueError("the stored images of a pool are none")
        self.images = images
