"""A small paired GAN, to show the contract."""

from dataclasses import dataclass

from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss, discriminator, generator
from options.fields import option


class Tiny(BaseModel):
    dataset_mode = "aligned"  # the data it usually wants
    defaults = {"netG": "unet_128", "lr": 1e-3}  # its own defaults for flags that others own
    averaged = ("G",)  # networks kept as EMA when --ema is on, and used by test

    @dataclass
    class Options:
        lambda_pixel: float = option(50.0, "weight of the L1 term", at_least=0.0)

    def __init__(self, o, spec):  # o: all flags, typed; spec: what the data set says of its images
        super().__init__()
        self.o = o
        self.G = generator(o, spec.input_nc, spec.output_nc)
        self.D = discriminator(o, spec.output_nc)
        self.gan = GANLoss(o.gan_mode)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d, weight=0.5, every=1), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):  # {"A": (N,C,H,W), "B": ..., "label": (N,), "path_A": [...]}
        out = {"real_A": batch["A"], "fake_B": self.G(batch["A"])}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        return {"D_real": self.gan.real(self.D(out["real_B"])), "D_fake": self.gan.fake(self.D(out["fake_B"].detach()))}

    def loss_g(self, batch, out):
        return {
            "G_GAN": self.gan.generator(self.D(out["fake_B"])),
            "G_L1": self.o.lambda_pixel * F.l1_loss(out["fake_B"], out["real_B"]),
        }
