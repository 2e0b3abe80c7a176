"""Convert between sRGB and CIE L*a*b* (D65, 2 degree observer; IEC 61966-2-1, CIE 15:2004)."""

import torch
from torch import Tensor

_TO_XYZ = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
_WHITE = [0.95047, 1.0, 1.08883]
_KNEE = 0.008856  # below it, a line replaces the cube root


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Return L* in [0, 100], a* and b* in about [-110, 110], for sRGB in [0, 1]; both (N, 3, H, W)."""
    rgb, device = rgb.cpu().double(), rgb.device  # some devices have no float64
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = _apply_matrix(linear, torch.tensor(_TO_XYZ)) / _white_point(rgb)
    f = torch.where(xyz > _KNEE, xyz.clamp_min(0) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1).float().to(device)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Return sRGB, clamped to [0, 1], for L*a*b*; both (N, 3, H, W)."""
    lightness, a, b = lab.cpu().double().unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, (y - b / 200).clamp_min(0)], 1)
    xyz = torch.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787) * _white_point(f)
    linear = _apply_matrix(xyz, torch.tensor(_TO_XYZ, dtype=torch.float64).inverse())
    rgb = torch.where(linear > 0.0031308, 1.055 * linear.clamp_min(0) ** (1 / 2.4) - 0.055, 12.92 * linear)
    return rgb.clamp(0, 1).float().to(lab.device)


def _apply_matrix(image: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("ij,njhw->nihw", matrix.to(image), image)


def _white_point(like: Tensor) -> Tensor:
    return torch.tensor(_WHITE).to(like)[:, None, None]
