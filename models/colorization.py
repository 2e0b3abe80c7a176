"""colorization: pix2pix from lightness to colour (Isola et al. 2017; CIELAB as in Zhang et al. 2016)."""

import torch

from data.decoding.cielab import lab_to_rgb
from models.pix2pix import Pix2Pix
from util.errors import OptionError


class Colorization(Pix2Pix):
    """G: L -> ab; displays the lightness, and the real and generated colours as RGB."""

    dataset_mode = "colorization"

    def __init__(self, o, spec):
        if (spec.input_nc, spec.output_nc) != (1, 2):
            why = f"{o.dataset_mode} does not give lightness as 'A' (1 channel) and colour as 'B' (2 channels)"
            raise OptionError("option", "--dataset_mode", why, "use colorization")
        super().__init__(o, spec)

    def show(self, out):
        shown = {"real_A": out["real_A"]}
        if "real_B" in out:
            shown["real_B_rgb"] = to_rgb(out["real_A"], out["real_B"])
        return shown | {"fake_B_rgb": to_rgb(out["real_A"], out["fake_B"])}


def to_rgb(A, B):
    """Return RGB (N, 3, H, W) of lightness A (N, 1, H, W) and colour B (N, 2, H, W), all in [-1, 1]."""
    return lab_to_rgb(torch.cat([(A + 1) * 50, B * 110], 1).detach()) * 2 - 1
