"""Write small label maps, instance maps and photographs in the folders of pix2pixHD."""

from pathlib import Path

import numpy as np
from PIL import Image


def save_label_maps(folder: Path, classes: int = 2, size: tuple[int, int] = (40, 32), number: int = 2) -> Path:
    """Write `number` images of each kind and phase, of width and height `size`; return the folder."""
    rng = np.random.default_rng(0)
    for phase in ("train", "test"):
        for index in range(number):
            ids = np.kron(rng.integers(0, classes, (4, 4)), np.ones((size[1] // 4, size[0] // 4))).astype(np.uint8)
            objects = ids.astype(np.uint16) * 1000
            for kind, pixels in {"label": ids, "inst": objects, "img": np.stack([ids * 60] * 3, -1)}.items():
                (folder / f"{phase}_{kind}").mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{phase}_{kind}" / f"{index}.png")
    return folder
