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

    @dataclass
    class Options:
        lambda_L1: float = option(100.0, "weight of the L1 term", at_least=0)

    def __init__(self, o, spec):
        super().__init__()
        self.o = o
        self.G = generator(o, spec.input_nc, spec.output_nc)
        self.D = discriminator(o, spec.input_nc + spec.output_nc)
        self.gan = GANLoss(o.gan_mode, o.label_smoothing, o.lambda_gp)
        self.pool = ImagePool(o.pool_size)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d, weight=0.5), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        out = {"real_A": batch["A"], "fake_B": self.G(batch["A"])}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        real = torch.cat([out["real_A"], out["real_B"]], 1)
        fake = self.pool(torch.cat([out["real_A"], out["fake_B"].detach()], 1))
        terms = {"D_fake": self.gan.fake(self.D(fake)), "D_real": self.gan.real(self.D(real))}
        return terms | self.gan.penalty("D_gp", self.D, real, fake)

    def loss_g(self, batch, out):
        prediction = self.D(torch.cat([out["real_A"], out["fake_B"]], 1))
        pixel = F.l1_loss(out["fake_B"], out["real_B"])
        return {"G_GAN": self.gan.generator(prediction), "G_L1": self.o.lambda_L1 * pixel}
