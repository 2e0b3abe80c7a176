"""perceptual: features of a frozen network with batch norm and dropout, read by forward hooks."""

from torch import nn
from torch.nn import functional as F

from models.base import BaseModel, Phase


class Perceptual(BaseModel):
    dataset_mode = "aligned"

    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1), nn.Tanh())
        self.F = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Conv2d(8, 8, 3))
        self.F.requires_grad_(False).eval()
        self.features = {}
        for name, layer in self.F.named_children():
            layer.register_forward_hook(lambda _, args, out, name=name: self.features.__setitem__(name, out))

    def phases(self):
        return [Phase("G", [self.G], self.loss)]

    def of(self, x):
        self.F(x)
        return dict(self.features)

    def forward(self, batch):
        fake = self.G(batch["A"])
        strength = self.of(fake)["3"].std((1, 2, 3), keepdim=True)  # of this image, if its features are
        out = {"real_A": batch["A"], "fake_B": fake * strength.sigmoid()}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss(self, batch, out):
        fake, real = self.of(out["fake_B"]), self.of(out["real_B"])
        return {"features": sum(F.l1_loss(fake[name], real[name]) for name in fake)}
