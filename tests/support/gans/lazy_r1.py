"""lazy_r1: a penalty of pairs at every fifth step, on an input that is not a leaf of the graph."""

import torch

from models.base import Phase
from models.pix2pix import Pix2Pix


class LazyR1(Pix2Pix):
    defaults = {"netG": "unet_32"}

    def phases(self):
        D, G = super().phases()
        return [D, Phase("R1", [self.D], self.loss_r1, every=5), G]

    def loss_r1(self, batch, out):
        real = out["real_B"].detach().requires_grad_()
        scores = self.D(torch.cat([out["real_A"], real], 1))
        (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
        return {"D_R1": 5 * slope.square().sum((1, 2, 3)).mean()}
