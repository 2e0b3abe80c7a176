"""pix2pix: paired translation, with a discriminator of pairs (Isola et al. 2017)."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss, discriminator, generator
from options.fields import option
from util.image_pool import ImagePool


class Pix2Pix(BaseModel):
    """G: A -> B; D: (A, B) -> real or not. The generator's loss is adversarial + lambda_L1 |fake - real|."""

    dataset_mode = "aligned"
    defaults = {"norm": "batch", "netG": "unet_256", "pool_size": 0, "gan_mode": "vanilla"}
    averaged = ("G",)
    pairs = (("fake_B", "real_B"),)

    @dataclass
    class Options:
        lambda_L1: float = option(100.0, "weight of the L1 term", at_least=0)

    def __init__(self, o, spec):
        super().__init__()
        self.o = o
        self.G = generator(o, spec.input_nc, spec.output_nc)
        pair = spec.input_nc, spec.output_nc
        self.D = discriminator(o, sum(pair), channels=pair)
        self.gan = GANLoss.from_options(o)
        self.pool = ImagePool(o.pool_size)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d, weight=0.5), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        out = {"real_A": batch["A"], "fake_B": self.G(batch["A"])}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        real = torch.cat([out["real_A"], out["real_B"]], 1)
        fake = self.pool(torch.cat([out["real_A"], out["fake_B"].detach()], 1))
        on_fake, on_real = self.D(fake), self.D(real)  # in the reference's order
        return self.gan.discriminator(on_real, on_fake) | self.gan.penalty("D_gp", self.D, real, fake)

    def loss_g(self, batch, out):
        A, B, fake = out["real_A"], out["real_B"], out["fake_B"]
        prediction = self.D(torch.cat([A, fake], 1))
        gan = self.gan.generator(prediction, lambda: self.D(torch.cat([A, B], 1)))
        return {"G_GAN": gan, "G_L1": self.o.lambda_L1 * F.l1_loss(fake, B)}
