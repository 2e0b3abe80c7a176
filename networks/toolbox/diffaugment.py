"""Augmentations of a discriminator's images through which gradients flow (Zhao et al. 2020, Karras et al. 2020).

Each is a function of (images, channels): images (N, C, H, W) hold one or several pictures of a sample, of so many
channels each; the same random numbers are used for all pictures of a sample. It returns images of the same shape.
Second derivatives exist, for gradient penalties.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from networks.sample_noise import noise

TRANSLATION_SHARE, CUTOUT_SHARE = 0.125, 0.5  # of each side (Zhao et al. 2020)


def color(images: Tensor, channels: Sequence[int]) -> Tensor:
    """Change brightness by up to 0.5, saturation by a factor up to 2, contrast by one from 0.5 to 1.5.

    Saturation scales the distances to a pixel's mean over the channels, contrast those to a picture's mean.
    """
    brightness, saturation, contrast = noise(images, 3, 1, 1, 1, uniform=True).unbind(1)
    found = []
    for picture in (images + (brightness - 0.5)).split(list(channels), 1):
        picture = _spread(picture, picture.mean(1, keepdim=True), 2 * saturation)
        found.append(_spread(picture, picture.mean((1, 2, 3), keepdim=True), contrast + 0.5))
    return torch.cat(found, 1)


def translation(images: Tensor, channels: Sequence[int]) -> Tensor:
    """Move by up to an eighth of each side, a whole number of pixels; what comes in is 0."""
    index = []
    for share, side in zip(noise(images, 2, uniform=True).unbind(1), images.shape[2:], strict=True):
        most = int(side * TRANSLATION_SHARE + 0.5)
        shift = (share * (2 * most + 1)).floor().long() - most
        places = torch.arange(side, device=images.device)[None] - shift[:, None] + 1  # 0 and side + 1 are the border
        index.append(places.clamp(0, side + 1))
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    return padded[batch, index[0][:, :, None], index[1][:, None, :]].permute(0, 3, 1, 2).contiguous()


def cutout(images: Tensor, channels: Sequence[int]) -> Tensor:
    """Set a rectangle of half of each side to 0; its centre may be anywhere, so that a part of it may be outside."""
    inside = []
    for share, side in zip(noise(images, 2, uniform=True).unbind(1), images.shape[2:], strict=True):
        size = int(side * CUTOUT_SHARE + 0.5)
        first = (share * (side + 1 - size % 2)).floor().long()[:, None] - size // 2
        places = torch.arange(side, device=images.device)[None]
        inside.append((places >= first) & (places < first + size))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return images * (~hole[:, None]).to(images.dtype)


def flip(images: Tensor, channels: Sequence[int]) -> Tensor:
    """Mirror half of the samples."""
    return torch.where(noise(images, 1, 1, 1, uniform=True) < 0.5, images.flip(3), images)


def rotate90(images: Tensor, channels: Sequence[int]) -> Tensor:
    """Turn square images by 0, 90, 180 or 270 degrees, others by 0 or 180."""
    turns = (noise(images, 1, 1, 1, uniform=True) * 4).floor()
    if images.shape[2] != images.shape[3]:
        return torch.where(turns < 2, images, images.rot90(2, (2, 3)))
    for n in (1, 2, 3):
        images = torch.where(turns >= n, images.rot90(1, (2, 3)), images)
    return images


def _spread(picture: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    return (picture - mean) * factor + mean


Augmentation = Callable[[Tensor, Sequence[int]], Tensor]
