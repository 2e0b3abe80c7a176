"""Between sRGB and CIE L*a*b* (D65, 2 degree observer; IEC 61966-2-1, CIE 15:2004)."""

import numpy as np

_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.95047, 1.0, 1.08883])
_KNEE = 0.008856  # where the cube root becomes a line


def rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """Return L* in [0, 100], a* and b* in about [-110, 110], for sRGB values in [0, 1]; (..., 3) both."""
    rgb = np.asarray(rgb, np.float64)
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > _KNEE, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """Return sRGB values, clipped to [0, 1], for L*a*b*; (..., 3) both."""
    lightness, a, b = np.moveaxis(np.asarray(lab, np.float64), -1, 0)
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, np.maximum(y - b / 200, 0)], -1)
    xyz = np.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787) * _WHITE
    linear = xyz @ np.linalg.inv(_TO_XYZ).T
    rgb = np.where(linear > 0.0031308, 1.055 * np.power(np.maximum(linear, 0), 1 / 2.4) - 0.055, 12.92 * linear)
    return rgb.clip(0, 1)
