"""Show images, curves and tables in a notebook, as HTML that needs no script and no other file."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from util.image_io import png_base64

MAX_SHOWN = 40  # images of a list
MAX_SIDE = 512  # pixels of a shown image
CHART_WIDTH, CHART_HEIGHT = 320, 160
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e")


def pictures_html(images: Sequence[Any], labels: Sequence[str]) -> str:
    """Return the first images, each with its label: Pillow images, arrays (H, W, C) and tensors (C, H, W)."""
    shown = [f"<figure style='margin:2px'>{_image(image)}<figcaption>{html.escape(label)}</figcaption></figure>"
             for image, label in list(zip(images, labels, strict=True))[:MAX_SHOWN]]  # fmt: skip
    more = f"<p>and {len(images) - MAX_SHOWN} more</p>" if len(images) > MAX_SHOWN else ""
    return f"<div style='display:flex;flex-wrap:wrap'>{''.join(shown)}</div>{more}"


def table_html(heading: str, rows: Mapping[str, object]) -> str:
    """Return a table of names and values below a heading."""
    lines = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows.items())
    return f"<h4>{html.escape(heading)}</h4><table>{''.join(lines)}</table>"


def curves_html(x: Sequence[float], columns: Mapping[str, Sequence[float]]) -> str:
    """Return a chart of several columns over x, with a legend; numbers that are not finite leave gaps out."""
    points = {name: [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)] for name, y in columns.items()}
    points = {name: found for name, found in points.items() if found}
    if not points:
        return ""
    xs, ys = zip(*(point for found in points.values() for point in found), strict=True)
    (left, right), (low, high) = (min(xs), max(xs)), (min(ys), max(ys))

    def place(point: tuple[float, float]) -> str:
        across = (point[0] - left) / ((right - left) or 1) * CHART_WIDTH
        return f"{across:.1f},{CHART_HEIGHT * (1 - (point[1] - low) / ((high - low) or 1)):.1f}"

    lines, legend = [], []
    for number, (name, found) in enumerate(points.items()):
        colour = COLOURS[number % len(COLOURS)]
        thin = found[:: max(1, len(found) // CHART_WIDTH)]
        path = " ".join(map(place, thin))
        lines.append(f"<polyline fill='none' stroke='{colour}' stroke-width='1.5' points='{path}'/>")
        legend.append(f"<span style='color:{colour}'>{html.escape(name)} {found[-1][1]:.4g}</span>")
    box = f"0 -4 {CHART_WIDTH} {CHART_HEIGHT + 8}"
    chart = f"<svg width='{CHART_WIDTH}' height='{CHART_HEIGHT + 8}' viewBox='{box}'>{''.join(lines)}</svg>"
    return f"<div><small>{low:.4g} to {high:.4g}</small><br>{chart}<br>{' &nbsp; '.join(legend)}</div>"


def _image(image: Any) -> str:
    array = _pixels(image)
    if array is None:
        return html.escape(f"{type(image).__name__} {getattr(image, 'shape', '')}")
    step = max(1, -(-max(array.shape[:2]) // MAX_SIDE))
    return f"<img src='data:image/png;base64,{png_base64(np.ascontiguousarray(array[::step, ::step]))}'>"


def _pixels(image: Any) -> np.ndarray | None:
    """Return an image as uint8 (H, W, 1 or 3), other values scaled from their least to their greatest; else None."""
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu().numpy()
        image = np.moveaxis(image, 0, 2) if image.ndim == 3 else image
    array = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) and image.mode != "F" else image)
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3:
        return None
    array = array[:, :, : 3 if array.shape[2] > 2 else 1]
    if array.dtype == np.uint8:
        return array
    low, high = float(array.min()), float(array.max())
    return ((array - low) / ((high - low) or 1) * 255).round().astype(np.uint8)
