"""plain_cnn: a generator of a few convolutions that adds detail to its input."""

import torch
from torch import nn

from networks import GENERATORS


class PlainCNN(nn.Module):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1], any size."""

    def __init__(self, o, input_nc, output_nc):
        super().__init__()
        layers = [nn.Conv2d(input_nc, o.ngf, 5, padding=2), nn.ReLU()]
        for _ in range(3):
            layers += [nn.Conv2d(o.ngf, o.ngf, 3, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(o.ngf, output_nc, 3, padding=1))

    def forward(self, x):
        return torch.tanh(self.body(x))


GENERATORS["plain_cnn"] = PlainCNN
