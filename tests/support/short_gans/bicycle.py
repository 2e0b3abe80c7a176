"""bicycle: one input has several translations, because a latent is drawn for each (as BicycleGAN)."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss, discriminator, initialised, noise, without
from options.fields import option


class Bicycle(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)

    @dataclass
    class Options:
        nz: int = option(4, "numbers of a latent", at_least=1, fixed=True)
        lambda_kl: float = option(0.01, "weight of the Kullback-Leibler divergence", at_least=0)

    def __init__(self, o, spec):
        super().__init__()
        self.o = o
        layers = nn.Conv2d(spec.input_nc + o.nz, o.ngf, 5, padding=2), nn.ReLU(), nn.Conv2d(o.ngf, spec.output_nc, 1)
        self.G = initialised(nn.Sequential(*layers, nn.Tanh()), o)
        layers = nn.Conv2d(spec.output_nc, o.ndf, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.E = initialised(nn.Sequential(*layers, nn.Linear(o.ndf, 2 * o.nz)), o)
        self.D, self.D2 = discriminator(o, spec.output_nc), discriminator(o, spec.output_nc)
        self.gan = GANLoss(o.gan_mode)

    def phases(self):
        return [Phase("D", [self.D, self.D2], self.loss_d), Phase("G", [self.G, self.E], self.loss_g)]

    def made(self, image, z):
        return self.G(torch.cat([image, z[:, :, None, None].expand(*z.shape, *image.shape[2:])], 1))

    def forward(self, batch):
        z = noise(batch, self.o.nz)
        out = {"real_A": batch["A"], "fake_B": self.made(batch["A"], z), "z": z}
        if "B" not in batch:
            return out
        mean, logvar = self.E(batch["B"]).chunk(2, 1)
        encoded = self.made(batch["A"], mean + noise(mean, self.o.nz) * (0.5 * logvar).exp())
        shown = {"encoded_B": encoded} if self.training else {}
        return out | {"real_B": batch["B"], "mean": mean, "logvar": logvar} | shown

    def loss_d(self, batch, out):
        terms = self.gan.discriminator(self.D(out["real_B"]), self.D(out["fake_B"].detach()))
        return terms | self.gan.discriminator(self.D2(out["real_B"]), self.D2(out["encoded_B"].detach()), "D2")

    def loss_g(self, batch, out):
        mean, logvar = out["mean"], out["logvar"]
        kl = -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(1).mean()
        terms = {"G_GAN": self.gan.generator(self.D(out["fake_B"])), "kl": self.o.lambda_kl * kl}
        terms |= {"G2_GAN": self.gan.generator(self.D2(out["encoded_B"]))}
        with without(self.E):
            terms["z"] = F.l1_loss(self.E(out["fake_B"]).chunk(2, 1)[0], out["z"])
        return terms | {"L1": 10 * F.l1_loss(out["encoded_B"], out["real_B"])}
