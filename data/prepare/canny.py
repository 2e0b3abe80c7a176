"""Draw the edges of photographs with Canny's detector, which needs no weights but differs from learned ones."""

import numpy as np
from PIL import Image, ImageFilter


def detect_edges(photo: np.ndarray, sigma: float, low: float, high: float, min_length: int) -> np.ndarray:
    """Return the edges of a photograph, uint8 (H, W, 3), as lines one pixel wide: bool (H, W).

    J. Canny, "A computational approach to edge detection", IEEE PAMI 8(6), 1986. The photograph is blurred by a
    Gaussian of `sigma` pixels. The slope is the Sobel gradient of the channel that changes most, as a fraction of white
    per pixel. A pixel is kept if no neighbour across the edge is steeper, its slope is above `low`, and the slope
    somewhere on its line is above `high`. Lines of fewer than `min_length` pixels are dropped.
    """
    blurred = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(sigma)), np.float32) / 255
    across, down = _sobel(blurred)
    steepest = np.hypot(across, down).argmax(axis=2)[..., None]
    across, down = (np.take_along_axis(one, steepest, axis=2)[..., 0] for one in (across, down))
    slope = np.hypot(across, down)
    thin = _suppress_non_maxima(slope, across, down) & (slope > low)
    lines = label_components(thin)
    strong, long_enough = np.zeros(lines.max() + 1, bool), np.bincount(lines.ravel()) >= min_length
    strong[np.unique(lines[thin & (slope > high)])] = True
    strong[0] = False  # label 0 is the background
    return (strong & long_enough)[lines]


def draw_edges(mask: np.ndarray, width: int = 1) -> np.ndarray:
    """Return a mask of edges as black lines on white, `width` pixels wide: uint8 (H, W)."""
    image = Image.fromarray(np.where(mask, 0, 255).astype(np.uint8))
    if width > 1:  # a minimum over an odd square; an even one would be half a pixel off
        image = image.filter(ImageFilter.MinFilter(width | 1))
    return np.asarray(image)


def label_components(mask: np.ndarray) -> np.ndarray:
    """Return labels 1, 2, ... for the 8-connected components of a mask, and 0 elsewhere: int (H, W).

    Each pixel repeatedly takes the smallest number among its neighbours, and then the number of the pixel with that
    number, until nothing changes: about log(size) rounds.
    """
    # Number the pixels and list all pairs of neighbours.
    height, width = mask.shape
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(np.count_nonzero(mask))
    neighbours = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        near = number[: height - dy, max(0, -dx) : width - max(0, dx)]
        far = number[dy:, max(0, dx) : width + min(0, dx)]
        both = (near >= 0) & (far >= 0)
        neighbours.append(np.stack([near[both], far[both]]))
    one, other = np.concatenate(neighbours, axis=1)

    # Propagate the smallest numbers.
    root = np.arange(np.count_nonzero(mask))
    while not np.array_equal(root[one], root[other]):
        least = np.minimum(root[one], root[other])
        for side in (one, other):
            np.minimum.at(root, root[side], least)
        while not np.array_equal(root, root[root]):
            root = root[root]
    parts = np.zeros(mask.shape, np.intp)
    parts[mask] = np.unique(root, return_inverse=True)[1] + 1
    return parts


def _sobel(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives (H, W, C) across and down, per pixel."""
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    smooth_down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    smooth_across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (smooth_down[:, 2:] - smooth_down[:, :-2]) / 8, (smooth_across[2:] - smooth_across[:-2]) / 8


def _suppress_non_maxima(slope: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return where a slope is not below its two neighbours along the gradient, in one of four directions."""
    padded = np.pad(slope, 1)
    height, width = slope.shape
    direction = np.round(np.arctan2(down, across) / (np.pi / 4)).astype(int) % 4
    is_ridge = np.zeros(slope.shape, bool)
    for number, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        before = padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        after = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        is_ridge |= (direction == number) & (slope > before) & (slope >= after)  # keeps one of two equal ones
    return is_ridge
