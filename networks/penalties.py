"""Gradient penalties of the discriminator: functions of (D, real, fake) that return an unweighted scalar.

D is called with images alone, so conditions are bound: partial(D, label=label), lambda x: D(torch.cat([A, x], 1)). It
returns what GANLoss takes; the gradient is that of the sum of all its predictions, at all scales. real and fake are
(N, C, H, W); gradients of weights reach D alone. A norm is taken over all values of a sample.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from networks.predictions import scales
from networks.runtime.amp import disable_autocast
from networks.sample_noise import noise
from networks.whole_batch import std

Predict = Callable[[Tensor], Any]


def none(D: Predict, real: Tensor, fake: Tensor) -> Tensor:
    """Return 0; GANLoss does not call it."""
    return real.new_zeros(())


def gradient_penalty(D: Predict, real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean of (|grad D(x)| - 1)^2 at points x between real and fake (Gulrajani et al. 2017, eq. 3)."""
    return (_norms(D, _between(real, fake)) - 1).square().mean()


def one_sided_gp(D: Predict, real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean of max(0, |grad D(x)| - 1)^2 at points between real and fake (Petzka et al. 2018)."""
    return (_norms(D, _between(real, fake)) - 1).relu().square().mean()


def zero_centred_gp(D: Predict, real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean of |grad D(x)|^2 at points between real and fake (Thanh-Tung et al. 2019)."""
    return _squares(D, _between(real, fake)).mean()


def r1(D: Predict, real: Tensor, fake: Tensor | None = None) -> Tensor:
    """Return half the mean of |grad D(x)|^2 at real images (Mescheder et al. 2018, eq. 9); its weight is gamma."""
    return 0.5 * _squares(D, real).mean()


def r2(D: Predict, real: Tensor | None, fake: Tensor) -> Tensor:
    """Return half the mean of |grad D(x)|^2 at generated images (Mescheder et al. 2018, eq. 10)."""
    return 0.5 * _squares(D, fake).mean()


def r1r2(D: Predict, real: Tensor, fake: Tensor) -> Tensor:
    """Return r1 + r2, the penalty of R3GAN (Huang et al. 2024)."""
    return r1(D, real) + r2(D, None, fake)


def dragan(D: Predict, real: Tensor, fake: Tensor | None = None) -> Tensor:
    """Return the mean of (|grad D(x)| - 1)^2 near real images (Kodali et al. 2017).

    x is real + 0.5 s u, with s the standard deviation of all values of `real` and u drawn from U(0, 1) for each value.
    """
    near = real + 0.5 * std(real) * noise(real, *real.shape[1:], uniform=True)
    return (_norms(D, near) - 1).square().mean()


dragan.of_batch = True  # type: ignore[attr-defined]  # it uses a statistic of the batch: noted with --accumulate


def _between(real: Tensor, fake: Tensor) -> Tensor:
    """Return one random point between each real and generated image."""
    alpha = noise(real, *[1] * (real.dim() - 1), uniform=True)
    return alpha * real + (1 - alpha) * fake


def _slopes(D: Predict, x: Tensor) -> Tensor:
    """Return the gradient of the sum of D's predictions at x, (N, values of a sample), differentiable."""
    x = x.detach().requires_grad_(True)
    with disable_autocast():
        total: Any = sum(prediction.sum() for prediction in scales(D(x)))
        (gradient,) = torch.autograd.grad(total, x, create_graph=True)
    return gradient.flatten(1)


def _norms(D: Predict, x: Tensor) -> Tensor:
    return _slopes(D, x).norm(2, dim=1)


def _squares(D: Predict, x: Tensor) -> Tensor:
    return _slopes(D, x).square().sum(1)  # not the square of a norm, whose slope at 0 is not defined
