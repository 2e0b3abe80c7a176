"""r3: images from noise by a relativistic objective, with R1 and R2 (as R3GAN)."""

import torch
from torch import nn

from models.base import BaseModel, Phase
from networks import GANLoss, initialised, noise

LATENT = 6


class R3(BaseModel):
    dataset_mode = "single"
    defaults = {"gan_mode": "relativistic", "penalty": "r1r2", "beta1": 0.0, "beta2": 0.99, "ema": 0.9, "ema_rampup": 1}
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        layers = nn.ConvTranspose2d(LATENT, o.ngf, 8), nn.GroupNorm(2, o.ngf), nn.LeakyReLU(0.2)
        self.G = initialised(nn.Sequential(*layers, nn.ConvTranspose2d(o.ngf, spec.input_nc, 4, 4), nn.Tanh()), o)
        layers = nn.Conv2d(spec.input_nc, o.ndf, 4, 4), nn.LeakyReLU(0.2), nn.Conv2d(o.ndf, 1, 8), nn.Flatten()
        self.D = initialised(nn.Sequential(*layers), o)
        self.gan = GANLoss(o.gan_mode, o.label_smoothing, o.lambda_gp, o.penalty)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        return {"real": batch["A"], "fake": self.G(noise(batch, LATENT, 1, 1))}

    def loss_d(self, batch, out):
        real, fake = out["real"], out["fake"].detach()
        return self.gan.discriminator(self.D(real), self.D(fake)) | self.gan.penalty("D_r1r2", self.D, real, fake)

    def loss_g(self, batch, out):
        return {"G": self.gan.generator(self.D(out["fake"]), lambda: self.D(out["real"]))}

    def sheets(self, request):
        rng = torch.Generator().manual_seed(request.seed)
        z = torch.stack([torch.randn(LATENT, 1, 1, generator=rng) for _ in range(request.start + request.number)])
        z = z[request.start :]
        if request.kind == "interpolation":
            z = torch.lerp(z[:1], z[-1:], torch.linspace(0, 1, len(z))[:, None, None, None])
        return {"all": (self.G(z.to(next(self.G.parameters()).device)), torch.zeros(len(z)))}
