"""adaptive: paired translation whose discriminator sees images with noise, more of it the surer it is (as ADA)."""

import torch
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss, discriminator, generator, noise


class Adaptive(BaseModel):
    dataset_mode = "aligned"
    defaults = {"netG": "unet_32", "gan_mode": "vanilla"}
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.G = generator(o, spec.input_nc, spec.output_nc)
        self.D = discriminator(o, spec.output_nc)
        self.gan = GANLoss(o.gan_mode)
        self.register_buffer("share", torch.tensor(0.5))  # of the images that get noise
        self.register_buffer("sure", torch.zeros(2))  # sum and number of the signs of D(real) in this step

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        out = {"real_A": batch["A"], "fake_B": self.G(batch["A"])}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def judge(self, images):
        chosen = noise(images, 1, 1, 1, uniform=True) < self.share
        return self.D(torch.where(chosen, images + 0.3 * noise(images, *images.shape[1:]), images))

    def loss_d(self, batch, out):
        real = self.judge(out["real_B"])
        signs = real.detach().sign()
        self.sure += torch.stack([signs.sum(), torch.ones_like(signs).sum()])
        return self.gan.discriminator(real, self.judge(out["fake_B"].detach()))

    def loss_g(self, batch, out):
        return {
            "G_GAN": self.gan.generator(self.judge(out["fake_B"])),
            "G_L1": 10 * F.l1_loss(out["fake_B"], out["real_B"]),
        }

    def after_step(self, now):
        step = 0.05 * (1 - now.share) * torch.sign(self.sure[0] / self.sure[1] - 0.6)
        self.share.add_(step).clamp_(0, 1)
        self.sure.zero_()
