"""encoder: a generator with the code of an encoder that has a phase of its own and is not in `averaged`."""

import torch
from torch import nn
from torch.nn import functional as F

from models.base import BaseModel, Phase


class Encoder(nn.Sequential):
    def __init__(self, channels):
        super().__init__(nn.Conv2d(channels, 4, 4, 4), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1))

    def code(self, x):  # a method beside forward
        return self(x).sigmoid()


class Codes(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.E, self.G = Encoder(spec.input_nc), nn.Conv2d(spec.input_nc + 4, spec.output_nc, 3, padding=1)

    def phases(self):
        return [Phase("G", [self.G], self.loss_g), Phase("E", [self.E], self.loss_e, lr=0.01)]

    def forward(self, batch):
        code = self.E.code(batch["A"])
        planes = code.expand(-1, -1, *batch["A"].shape[2:])
        out = {"real_A": batch["A"], "code": code, "fake_B": self.G(torch.cat([batch["A"], planes.detach()], 1)).tanh()}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_g(self, batch, out):
        return {"L1": F.l1_loss(out["fake_B"], out["real_B"])}

    def loss_e(self, batch, out):
        return {"E": (out["code"].mean() - out["real_B"].mean()).square()}
