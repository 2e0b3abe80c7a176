"""own_parts: pix2pix with modes, a recipe, an objective, a penalty and an optimiser of its own."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from models.pix2pix import Pix2Pix
from networks import OBJECTIVES, PENALTIES
from networks.gan_loss import PairedObjective
from networks.predictions import scales
from options.fields import option
from options.recipe import RECIPES
from training import OPTIMIZERS

OBJECTIVES["own_hinge"] = PairedObjective(
    discriminator=lambda real, fake: F.relu(1 - (real - fake)).mean(),
    generator=lambda real, fake: -(fake - real).mean(),
)
PENALTIES["own_drift"] = lambda D, real, fake: sum(p.square().mean() for p in scales(D(real)))
OPTIMIZERS["own_nadam"] = torch.optim.NAdam
RECIPES["own_quick"] = {"model": "own_parts", "mode": "light", "lambda_gp": 0.01, "pool_size": 2}


class OwnParts(Pix2Pix):
    defaults = {"gan_mode": "own_hinge", "penalty": "own_drift", "optimizer": "own_nadam"}
    defaults_for = {"mode": {"light": {"netG": "unet_32", "n_layers_D": 1, "lambda_mean": 2.0}}}

    @dataclass
    class Options:
        mode: str = option("full", "defaults of the two versions", choices=("full", "light"), fixed=True)
        lambda_mean: float = option(1.0, "weight of the difference in mean", at_least=0)

    def loss_g(self, batch, out):
        difference = F.l1_loss(out["fake_B"].mean((1, 2, 3)), out["real_B"].mean((1, 2, 3)))
        return super().loss_g(batch, out) | {"G_mean": self.o.lambda_mean * difference}
