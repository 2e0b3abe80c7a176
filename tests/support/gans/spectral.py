"""spectral: spectral norm as a hook in D and as a parametrisation in G, whose vectors are buffers."""

from torch import nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import spectral_norm as parametrised

from models.base import BaseModel, Phase
from networks import GANLoss, initialised


class Spectral(BaseModel):
    dataset_mode = "unaligned"
    defaults = {"gan_mode": "hinge"}
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        G = nn.Sequential(parametrised(nn.Conv2d(3, 8, 3, padding=1)), nn.ReLU(),
                          spectral_norm(nn.Conv2d(8, 3, 3, padding=1)), nn.Tanh())  # fmt: skip
        D = nn.Sequential(spectral_norm(nn.Conv2d(3, 8, 4, 2)), nn.ReLU(), parametrised(nn.Conv2d(8, 1, 4)))
        self.G, self.D = initialised(G, o), initialised(D, o)
        self.gan = GANLoss(o.gan_mode)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        return {"real_A": batch["A"], "fake_B": self.G(batch["A"])} | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        return {"D_real": self.gan.real(self.D(out["real_B"])), "D_fake": self.gan.fake(self.D(out["fake_B"].detach()))}

    def loss_g(self, batch, out):
        fake = out["fake_B"]
        return {"G": self.gan.generator(self.D(fake)), "near": F.l1_loss(fake, out["real_A"])}
