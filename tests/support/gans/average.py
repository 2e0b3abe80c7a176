"""average: keeps an exponential moving average of its generator's weights, and translates with it."""

from copy import deepcopy

import torch
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import generator


class Average(BaseModel):
    dataset_mode = "aligned"
    defaults = {"netG": "unet_32", "norm": "batch"}

    def __init__(self, o, spec):
        super().__init__()
        self.G = generator(o, spec.input_nc, spec.output_nc)
        self.G_ema = deepcopy(self.G).requires_grad_(False).eval()

    def phases(self):
        return [Phase("G", [self.G], self.loss)]

    def forward(self, batch):
        fake = (self.G if self.training else self.G_ema)(batch["A"])
        return {"real_A": batch["A"], "fake_B": fake} | ({"real_B": batch["B"]} if "B" in batch else {})

    @torch.no_grad()
    def update(self):
        for mean, now in zip(self.G_ema.state_dict().values(), self.G.state_dict().values()):
            mean.copy_(0.5 * mean + 0.5 * now)

    def loss(self, batch, out):
        self.update()
        return {"L1": F.l1_loss(out["fake_B"], out["real_B"])}
