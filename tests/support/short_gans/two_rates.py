"""two_rates: two networks of one phase learn at rates of their own; R1 runs at every second step, corrected."""

from torch import nn
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss, discriminator, initialised
from networks.penalties import r1

INTERVAL = 2


class TwoRates(BaseModel):
    dataset_mode = "aligned"
    defaults = {"gan_mode": "vanilla", "norm": "none", "beta1": 0.0, "beta2": 0.99, "netD": "n_layers", "n_layers_D": 1}
    averaged = ("mapping", "synthesis")

    def __init__(self, o, spec):
        super().__init__()
        self.mapping = initialised(nn.Sequential(nn.Conv2d(spec.input_nc, o.ngf, 1), nn.ReLU()), o)
        self.synthesis = initialised(nn.Sequential(nn.Conv2d(o.ngf, spec.output_nc, 5, padding=2), nn.Tanh()), o)
        self.D = discriminator(o, spec.output_nc)
        self.gan = GANLoss(o.gan_mode)

    def phases(self):
        return [
            Phase("D", [self.D], self.loss_d, lr=4e-4),
            Phase("R1", [self.D], self.loss_r1, every=INTERVAL, lazy_correction=True),
            Phase("G", [(self.mapping, 1e-5), self.synthesis], self.loss_g),
        ]

    def forward(self, batch):
        out = {"real_A": batch["A"], "fake_B": self.synthesis(self.mapping(batch["A"]))}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        return self.gan.discriminator(self.D(out["real_B"]), self.D(out["fake_B"].detach()))

    def loss_r1(self, batch, out):
        return {"D_R1": INTERVAL * r1(self.D, out["real_B"])}

    def loss_g(self, batch, out):
        return {"G_GAN": self.gan.generator(self.D(out["fake_B"])), "G_L1": F.l1_loss(out["fake_B"], out["real_B"])}
