"""recurrent: translates frames of a video; each result depends on the frames before it."""

import torch
from torch import nn
from torch.nn import functional as F

from models.base import BaseModel, Phase


class Recurrent(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Conv2d(2 * spec.input_nc, spec.output_nc, 3, padding=1)
        self.register_buffer("memory", torch.zeros(1, spec.input_nc, 1, 1))
        self.frames = 0

    def phases(self):
        return [Phase("G", [self.G], self.loss)]

    def forward(self, batch):
        x = batch["A"]
        memory = 0.5 * self.memory + 0.5 * x.detach().mean((0, 2, 3), keepdim=True)
        self.memory.copy_(memory)
        self.frames += 1
        fake = self.G(torch.cat([x, memory.expand_as(x)], 1)).tanh() * (1 - 0.5 / self.frames)
        return {"real_A": x, "fake_B": fake} | ({"real_B": batch["B"]} if "B" in batch else {})

    def get_extra_state(self):
        return {"frames": self.frames}

    def set_extra_state(self, state):
        self.frames = state["frames"]

    def loss(self, batch, out):
        return {"L1": F.l1_loss(out["fake_B"], out["real_B"])}
