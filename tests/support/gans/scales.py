"""scales: a discriminator that returns lists of features for each of two scales (as pix2pixHD)."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss, generator


class Scale(nn.Module):
    def __init__(self, channels):
        super().__init__()
        widths = [channels, 4, 8, 1]
        layers = [nn.Sequential(nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        features = []
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features


class Scales(BaseModel):
    dataset_mode = "aligned"
    defaults = {"netG": "unet_32"}
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.G = generator(o, spec.input_nc, spec.output_nc)
        self.D = nn.ModuleList([Scale(spec.output_nc), Scale(spec.output_nc)])
        self.gan = GANLoss(o.gan_mode)

    def phases(self):
        return [Phase("D", self.D, self.loss_d, weight=0.5), Phase("G", [self.G], self.loss_g)]

    def judged(self, x):
        return [D(F.avg_pool2d(x, 2**n)) for n, D in enumerate(self.D)]

    def forward(self, batch):
        out = {"real_A": batch["A"], "fake_B": self.G(batch["A"])}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        real, fake = self.judged(out["real_B"]), self.judged(out["fake_B"].detach())
        return {"D": sum(self.gan.real(r[-1]) + self.gan.fake(f[-1]) for r, f in zip(real, fake))}

    def loss_g(self, batch, out):
        fake = self.judged(out["fake_B"])
        with torch.no_grad():
            real = self.judged(out["real_B"])
        matching = sum(F.l1_loss(a, b) for r, f in zip(real, fake) for a, b in zip(r[:-1], f[:-1]))
        return {"G": sum(self.gan.generator(f[-1]) for f in fake), "features": matching}
