"""enlarge: super-resolution; the discriminator judges images four times as large as A."""

from torch import nn
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss, discriminator


class Enlarge(BaseModel):
    dataset_mode = "shrunk"
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Sequential(nn.Conv2d(spec.input_nc, 16 * 8, 3, padding=1), nn.PixelShuffle(4), nn.ReLU(),
                               nn.Conv2d(8, spec.output_nc, 3, padding=1), nn.Tanh())  # fmt: skip
        self.D = discriminator(o, spec.output_nc)
        self.gan = GANLoss(o.gan_mode)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        out = {"real_A": batch["A"], "fake_B": self.G(batch["A"])}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        return {"D_real": self.gan.real(self.D(out["real_B"])), "D_fake": self.gan.fake(self.D(out["fake_B"].detach()))}

    def loss_g(self, batch, out):
        return {"G": self.gan.generator(self.D(out["fake_B"])), "L1": F.l1_loss(out["fake_B"], out["real_B"])}
