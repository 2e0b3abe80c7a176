"""labels_wgan: images of a class from noise, with a gradient penalty of a discriminator that takes the class."""

from functools import partial

import torch
from torch import nn

from models.base import BaseModel, Phase
from networks import GANLoss


class Generator(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.embed = nn.Embedding(classes, 8)
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, channels, 4, 4), nn.Tanh()
        )

    def forward(self, z, label):
        return self.layers(torch.cat([z, self.embed(label)], 1)[:, :, None, None])


class Critic(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 4, 4), nn.LeakyReLU(0.2), nn.Conv2d(8, 8, 4, 4), nn.Flatten()
        )
        self.head = nn.Linear(32, classes)

    def forward(self, x, label):
        return self.head(self.layers(x)).gather(1, label[:, None])


class LabelsWgan(BaseModel):
    dataset_mode = "labeled"
    defaults = {"gan_mode": "wgangp", "batch_size": 4, "load_size": 32, "crop_size": 32}
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.classes = spec.classes
        self.G, self.D = Generator(len(spec.classes), spec.output_nc), Critic(len(spec.classes), spec.output_nc)
        self.gan = GANLoss(o.gan_mode, 0.0, 10.0)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g, every=2)]

    def forward(self, batch):
        z = torch.randn(len(batch["A"]), 8, device=batch["A"].device)
        return {"real": batch["A"], "fake": self.G(z, batch["label"])}

    def loss_d(self, batch, out):
        D, fake = partial(self.D, label=batch["label"]), out["fake"].detach()
        terms = {"D_real": self.gan.real(D(out["real"])), "D_fake": self.gan.fake(D(fake))}
        return terms | self.gan.penalty("D_gp", D, out["real"], fake)

    def loss_g(self, batch, out):
        return {"G": self.gan.generator(self.D(out["fake"], batch["label"]))}

    def sheets(self, request):
        device, made = next(self.G.parameters()).device, {}
        for name in request.classes:
            z = torch.randn(request.number, 8, generator=torch.Generator().manual_seed(request.seed)).to(device)
            label = torch.full((request.number,), self.classes.index(name), device=device)
            made[name] = self.G(z, label), label
        return made if request.kind != "grid" else {"all": tuple(map(torch.cat, zip(*made.values())))}
