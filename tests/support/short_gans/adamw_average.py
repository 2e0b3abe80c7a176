"""adamw_average: pix2pix by AdamW; its generator is averaged, and each phase has betas of its own."""

import torch
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss, discriminator, generator


class AdamwAverage(BaseModel):
    dataset_mode = "aligned"
    defaults = {"netG": "unet_32", "gan_mode": "hinge", "optimizer": "adamw", "ema": 0.9, "ema_rampup": 0.5}
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.G = generator(o, spec.input_nc, spec.output_nc)
        self.D = discriminator(o, spec.input_nc + spec.output_nc)
        self.gan = GANLoss(o.gan_mode)

    def phases(self):
        return [
            Phase("D", [self.D], self.loss_d, betas=(0.0, 0.9)),
            Phase("G", [self.G], self.loss_g, betas=(0.5, 0.99), optimizer="radam"),
        ]

    def forward(self, batch):
        out = {"real_A": batch["A"], "fake_B": self.G(batch["A"])}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        real = self.D(torch.cat([out["real_A"], out["real_B"]], 1))
        return self.gan.discriminator(real, self.D(torch.cat([out["real_A"], out["fake_B"].detach()], 1)))

    def loss_g(self, batch, out):
        judged = self.D(torch.cat([out["real_A"], out["fake_B"]], 1))
        return {"G_GAN": self.gan.generator(judged), "G_L1": 50 * F.l1_loss(out["fake_B"], out["real_B"])}
