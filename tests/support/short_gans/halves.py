"""halves: unpaired translation by a generator of two halves, judged by a spectrally normalised discriminator."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from models.base import BaseModel, Phase
from networks import GANLoss, initialised


class Halves(nn.Module):
    """Images become a code, codes become images; the model calls both."""

    def __init__(self, o, channels):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(channels, o.ngf, 4, 2, 1), nn.BatchNorm2d(o.ngf), nn.ReLU(), nn.Dropout())
        self.up = nn.Sequential(nn.ConvTranspose2d(o.ngf, o.ngf, 4, 2, 1), nn.ReLU(), nn.Conv2d(o.ngf, channels, 1))

    def encode(self, image):
        return self.down(image)

    def decode(self, code):
        return self.up(code).tanh()


class HalvesModel(BaseModel):
    dataset_mode = "unaligned"
    defaults = {"gan_mode": "hinge", "init_type": "orthogonal"}
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.G = initialised(Halves(o, spec.input_nc), o)
        layers = spectral_norm(nn.Conv2d(spec.output_nc, o.ndf, 4, 2, 1)), nn.LeakyReLU(0.2)
        self.D = initialised(nn.Sequential(*layers, spectral_norm(nn.Conv2d(o.ndf, 1, 4))), o)
        self.gan = GANLoss(o.gan_mode)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        code = self.G.encode(batch["A"])
        return {"real_A": batch["A"], "fake_B": self.G.decode(code), "code": code}

    def loss_d(self, batch, out):
        return self.gan.discriminator(self.D(batch["B"]), self.D(out["fake_B"].detach()))

    def loss_g(self, batch, out):
        again = F.l1_loss(self.G.encode(out["fake_B"]), out["code"].detach())
        same = F.l1_loss(self.G.decode(self.G.down(batch["B"])), batch["B"])
        return {"G": self.gan.generator(self.D(out["fake_B"])), "code": again, "idt": torch.log1p(same)}
