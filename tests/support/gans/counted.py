"""counted: numbers its images in a value of its module, which all copies of the model share."""

from torch import nn
from torch.nn import functional as F

from models.base import BaseModel, Phase

shown = []


class Counted(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)
    images = 0

    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Conv2d(3, 3, 3, padding=1)
        self.first = bool(o.isTrain)

    def phases(self):
        return [Phase("G", [self.G], self.loss)]

    def forward(self, batch):
        fake = self.G(batch["A"]).tanh()
        if not self.training and not self.first:
            shown.append(0)
            Counted.images += 1
            fake = fake * 0.5 + len(shown) / 40 + Counted.images / 40
        return {"real_A": batch["A"], "fake_B": fake} | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss(self, batch, out):
        return {"L1": F.l1_loss(out["fake_B"], out["real_B"])}
