"""n_critic: WGAN-GP from noise, which builds the generator's graph only at steps that train it."""

from dataclasses import dataclass

import torch
from torch import nn

from models.base import BaseModel, Phase
from networks import GANLoss, initialised, noise
from options.fields import option


class NCritic(BaseModel):
    dataset_mode = "single"
    defaults = {"gan_mode": "wgangp", "beta1": 0.0, "beta2": 0.9}
    averaged = ("G",)

    @dataclass
    class Options:
        n_critic: int = option(3, "the generator is trained at every n-th step", at_least=1)
        head_start: int = option(1, "epochs in which only the critic is trained", at_least=0)

    def __init__(self, o, spec):
        super().__init__()
        self.o = o
        layers = nn.ConvTranspose2d(4, o.ngf, 8), nn.BatchNorm2d(o.ngf), nn.ReLU()
        self.G = initialised(nn.Sequential(*layers, nn.ConvTranspose2d(o.ngf, spec.input_nc, 4, 4), nn.Tanh()), o)
        self.D = initialised(nn.Sequential(nn.Conv2d(spec.input_nc, o.ndf, 4, 4), nn.ReLU(), nn.Conv2d(o.ndf, 1, 8)), o)
        self.gan = GANLoss(o.gan_mode, 0.0, o.lambda_gp, o.penalty)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g, every=self.o.n_critic)]

    def forward(self, batch, now):
        with torch.set_grad_enabled("G" in now.due and now.epoch > self.o.head_start):
            return {"real": batch["A"], "fake": self.G(noise(batch, 4, 1, 1))}

    def loss_d(self, batch, out):
        real, fake = out["real"], out["fake"].detach()
        return self.gan.discriminator(self.D(real), self.D(fake)) | self.gan.penalty("D_gp", self.D, real, fake)

    def loss_g(self, batch, out, now):
        return {"G": self.gan.generator(self.D(out["fake"]))} if now.epoch > self.o.head_start else {}

    def sheets(self, request):
        rng = torch.Generator().manual_seed(request.seed)
        z = torch.randn(request.number, 4, 1, 1, generator=rng).to(next(self.G.parameters()).device)
        return {"images": (self.G(z), torch.zeros(request.number))}
