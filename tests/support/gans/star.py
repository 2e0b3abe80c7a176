"""star: an image and a class vector become an image of that class (as StarGAN); one discriminator with two heads."""

import torch
from torch import nn
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss


class Heads(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 8, 4, 2, 1))
        self.real, self.kind = nn.Conv2d(8, 1, 3), nn.Linear(8, classes)

    def forward(self, x):
        features = self.body(x)
        return self.real(features), self.kind(features.mean((2, 3)))


class Star(BaseModel):
    dataset_mode = "labeled"
    defaults = {"gan_mode": "wgangp"}
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.n = len(spec.classes)
        self.G = nn.Sequential(nn.Conv2d(spec.input_nc + self.n, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True),
                               nn.ReLU(), nn.Conv2d(8, spec.output_nc, 3, padding=1), nn.Tanh())  # fmt: skip
        self.D = Heads(spec.output_nc, self.n)
        self.gan = GANLoss(o.gan_mode)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g, every=5)]

    def translated(self, x, label):
        planes = F.one_hot(label, self.n).to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.G(torch.cat([x, planes], 1))

    def forward(self, batch):
        target = (batch["label"] + 1) % self.n
        fake = self.translated(batch["A"], target)
        return {"real": batch["A"], "fake": fake, "rec": self.translated(fake, batch["label"]), "target": target}

    def loss_d(self, batch, out):
        fake = out["fake"].detach()
        (real, kind), (made, _) = self.D(out["real"]), self.D(fake)
        terms = {"D_real": self.gan.real(real), "D_fake": self.gan.fake(made)}
        terms |= self.gan.penalty("D_gp", lambda x: self.D(x)[0], out["real"], fake)
        return terms | {"D_class": F.cross_entropy(kind, batch["label"])}

    def loss_g(self, batch, out):
        real, kind = self.D(out["fake"])
        terms = {"G": self.gan.generator(real), "G_class": F.cross_entropy(kind, out["target"])}
        return terms | {"rec": F.l1_loss(out["rec"], out["real"])}
