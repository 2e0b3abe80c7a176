"""attributes: faces get other attributes, which columns of a manifest name, or are made from noise (as StarGAN)."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from data.base import Spec
from data.single import Single
from models.base import BaseModel, Phase
from networks import GANLoss, initialised


@dataclass(frozen=True)
class FaceSpec(Spec):
    n_attributes: int = 0


class Attributes(Single):
    def spec(self):
        return FaceSpec(**vars(super().spec()), n_attributes=len(self[0]["attr"]))


class Heads(nn.Module):
    """Return predictions, and the attributes that images seem to have."""

    def __init__(self, channels, n):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 8, 4, 4), nn.LeakyReLU(0.2))
        self.real, self.attr = nn.Conv2d(8, 1, 3), nn.Conv2d(8, n, 8)

    def forward(self, x):
        seen = self.body(x)
        return self.real(seen), self.attr(seen)[:, :, 0, 0]


class AttributesModel(BaseModel):
    dataset_mode = "attributes"
    defaults = {"gan_mode": "wgangp"}
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.n, self.shape = spec.n_attributes, (spec.input_nc, spec.height, spec.width)
        layers = nn.Conv2d(spec.input_nc + self.n, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, spec.input_nc, 1)
        self.G = initialised(nn.Sequential(*layers, nn.Tanh()), o)
        self.D = initialised(Heads(spec.input_nc, self.n), o)
        self.gan = GANLoss(o.gan_mode, 0.0, o.lambda_gp, o.penalty)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g, every=2)]

    def made(self, image, attr):
        return self.G(torch.cat([image, attr[:, :, None, None].expand(*attr.shape, *image.shape[2:])], 1))

    def forward(self, batch):
        wanted = 1 - batch["attr"]
        fake = self.made(batch["A"], wanted)
        return {"real": batch["A"], "fake": fake, "rec": self.made(fake, batch["attr"]), "wanted": wanted}

    def loss_d(self, batch, out):
        fake = out["fake"].detach()
        real, attr = self.D(out["real"])
        terms = self.gan.discriminator(real, self.D(fake)[0])
        terms |= self.gan.penalty("D_gp", lambda x: self.D(x)[0], out["real"], fake)
        return terms | {"D_attr": F.binary_cross_entropy_with_logits(attr, batch["attr"].float())}

    def loss_g(self, batch, out):
        real, attr = self.D(out["fake"])
        terms = {"G": self.gan.generator(real), "rec": F.l1_loss(out["rec"], out["real"])}
        return terms | {"G_attr": F.binary_cross_entropy_with_logits(attr, out["wanted"].float())}

    def sheets(self, request):
        rng = torch.Generator().manual_seed(request.seed)
        drawn = [torch.randn(self.shape, generator=rng) for _ in range(request.start + request.number)]
        images = torch.stack(drawn[request.start :]).to(next(self.G.parameters()).device)
        return {"faces": (self.made(images, images.new_ones(len(images), self.n)), torch.zeros(len(images)))}
