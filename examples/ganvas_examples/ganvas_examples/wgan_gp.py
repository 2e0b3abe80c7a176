"""WGAN-GP: pictures from noise, without classes (Gulrajani et al. 2017)."""

from dataclasses import dataclass

import torch
from torch import nn

from models.base import BaseModel, Phase
from networks import GANLoss, initialised
from networks.architectures.dcgan import count_doublings
from options.fields import option


class WGANGP(BaseModel):
    """G: z -> picture; the critic D is stepped n_critic times as often."""

    dataset_mode = "single"
    defaults = dict(gan_mode="wgangp", crop_size=64, load_size="crop_size", batch_size=32, lr=1e-4, beta1=0.0)
    averaged = ("G",)

    @dataclass
    class Options:
        z_dim: int = option(100, "numbers in a noise vector", at_least=1, of_run=True)
        n_critic: int = option(5, "steps of the critic for one of the generator", at_least=1)

    def __init__(self, o, spec):
        super().__init__()
        self.o, times = o, count_doublings(spec.height)
        widths = [o.ngf * min(2**n, 8) for n in reversed(range(times))]
        ups = [nn.ConvTranspose2d(o.z_dim, widths[0], 4), nn.ReLU()]
        for before, after in zip(widths, [*widths[1:], spec.input_nc], strict=True):
            ups += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.ReLU()]
        downs, before = [], spec.input_nc
        for width in reversed(widths):
            downs += [nn.Conv2d(before, width, 4, 2, 1), nn.LeakyReLU(0.2)]
            before = width
        self.G = initialised(nn.Sequential(*ups[:-1], nn.Tanh()), o)
        self.D = initialised(nn.Sequential(*downs, nn.Conv2d(before, 1, 4)), o)
        self.gan = GANLoss(o.gan_mode, lambda_gp=o.lambda_gp)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g, every=self.o.n_critic)]

    def forward(self, batch):
        z = torch.randn(len(batch["A"]), self.o.z_dim, 1, 1, device=batch["A"].device, dtype=batch["A"].dtype)
        return {"real": batch["A"], "fake": self.G(z)}

    def loss_d(self, batch, out):
        real, fake = out["real"], out["fake"].detach()
        terms = {"D_real": self.gan.real(self.D(real)), "D_fake": self.gan.fake(self.D(fake))}
        return terms | self.gan.penalty("D_gp", self.D, real, fake)

    def loss_g(self, batch, out):
        return {"G_GAN": self.gan.generator(self.D(out["fake"]))}

    def sheets(self, request):
        device = next(self.G.parameters()).device
        rng = torch.Generator(device).manual_seed(request.seed)
        z = torch.randn(request.number, self.o.z_dim, 1, 1, generator=rng, device=device)
        if request.kind == "interpolation":
            share = torch.linspace(0, 1, request.number, device=device)[:, None, None, None]
            z = (1 - share) * z[:1] + share * z[-1:]
        return {"samples": (self.G(z), torch.zeros(request.number))}
