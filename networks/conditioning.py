"""Give generators that start from noise, and discriminators of whole images, the class of an image."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from util.errors import OptionError


class ConditionalGenerator(nn.Module):
    """z (N, latent_dim) and labels (N,) -> images (N, output_nc, size, size) in [-1, 1], from a generator of any kind.

    The label's embedding is concatenated to z; net takes (N, latent_dim + embedding_dim). The embedding is initialised
    small (std 0.02), see ClassGenerator.
    """

    def __init__(self, net: nn.Module, classes: int, embedding_dim: int):
        super().__init__()
        self.net, self.embedding = net, nn.Embedding(classes, embedding_dim)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.net(torch.cat([z, self.embedding(label)], 1))


class ConditionalDiscriminator(nn.Module):
    """Images (N, input_nc, size, size) and labels (N,) -> logits (N, 1), by a discriminator of any kind.

    cond "concat": the label's embedding is an additional input channel (Mirza & Osindero 2014), which net must have.
    "projection": its inner product with the pooled features is added to the logit (Miyato & Koyama 2018). "acgan": a
    linear layer classifies the pooled features (Odena et al. 2017), and the output is [[class logits (N, classes),
    logits]]. The last two need a net with parts `trunk` (images -> features (N, F, h, w)) and `head` (features ->
    logits), and `features`, the number F. Features are pooled by net's method `pool`, if it has one, else by their mean
    over all positions.

    If net has spectral norms, so have the weights that multiply its features. The channel of "concat" needs none: it
    does not depend on the image, so the norms of net alone bound the gradient of the logits in the image.
    """

    def __init__(self, net: nn.Module, classes: int, cond: str, size: int):
        super().__init__()
        self.net, self.cond, self.size = net, cond, size
        if cond == "concat":
            self.embedding = nn.Embedding(classes, size * size)
            return
        if not all(hasattr(net, part) for part in ("trunk", "head", "features")):
            why = f"{cond} needs a discriminator with parts trunk and head, and features, the channels between them"
            raise OptionError("option", "--cond", why, "use --cond concat, or --netD dcgan or sngan_resnet")
        features: Any = net.features
        self.embedding = nn.Embedding(classes, features)  # for acgan the weights of a linear layer without bias
        if cond == "acgan":
            nn.init.normal_(self.embedding.weight, std=0.02)
        if any(map(is_parametrized, net.modules())):
            spectral_norm(self.embedding)

    def forward(self, image: Tensor, label: Tensor) -> Any:
        if self.cond == "concat":
            channel = self.embedding(label).view(-1, 1, self.size, self.size)
            return self.net(torch.cat([image, channel], 1))
        net: Any = self.net
        features = net.trunk(image)
        logits, pooled = net.head(features), net.pool(features) if hasattr(net, "pool") else features.mean((2, 3))
        if self.cond == "acgan":
            return [[pooled @ self.embedding.weight.T, logits]]
        return logits + (pooled * self.embedding(label)).sum(1, keepdim=True)
