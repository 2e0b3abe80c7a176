"""What the two players of a GAN minimise, as one table of formulas, and the gradient penalty."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.runtime.amp import disable_autocast
from registry.lookup import find


@dataclass(frozen=True)
class Objective:
    """Formulas over predictions of any shape, each -> scalar; `label` is what real is called (1 unless smoothed)."""

    real: Callable[[Tensor, float], Tensor]  # the discriminator on real pictures
    fake: Callable[[Tensor], Tensor]  # the discriminator on generated pictures
    generator: Callable[[Tensor], Tensor]  # the generator, on the same
    penalised: bool = False  # whether it is only sound with a gradient penalty


def _bce(p: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(p, torch.full_like(p, label))


LSGAN = Objective(  # Mao et al. 2017
    real=lambda p, label: (p - label).square().mean(),
    fake=lambda p: p.square().mean(),
    generator=lambda p: (p - 1).square().mean(),
)
VANILLA = Objective(  # Goodfellow et al. 2014, the generator's non-saturating form
    real=_bce,
    fake=lambda p: _bce(p, 0.0),
    generator=lambda p: _bce(p, 1.0),
)
WGANGP = Objective(  # Arjovsky et al. 2017, Gulrajani et al. 2017
    real=lambda p, label: -p.mean(),
    fake=lambda p: p.mean(),
    generator=lambda p: -p.mean(),
    penalised=True,
)
HINGE = Objective(  # Lim & Ye 2017, Miyato et al. 2018
    real=lambda p, label: F.relu(1 - p).mean(),
    fake=lambda p: F.relu(1 + p).mean(),
    generator=lambda p: -p.mean(),
)


class GANLoss(nn.Module):
    """The adversarial game that --gan_mode names; every method returns a scalar to minimise.

    label_smoothing: real is labelled 1 - this, for the discriminator only (Salimans et al. 2016).
    lambda_gp: weight of the gradient penalty, where the objective has one.
    """

    def __init__(self, gan_mode: str, label_smoothing: float = 0.0, lambda_gp: float = 10.0):
        super().__init__()
        self.objective: Objective = find("objective", gan_mode)
        self.label = 1.0 - label_smoothing
        self.lambda_gp = lambda_gp
        self.penalty_due = False  # fake() was called and penalty() not yet

    def real(self, prediction: Tensor) -> Tensor:
        """Return the discriminator's loss on predictions of real pictures."""
        return self.objective.real(prediction, self.label)

    def fake(self, prediction: Tensor) -> Tensor:
        """Return the discriminator's loss on predictions of generated pictures."""
        self.penalty_due = self.objective.penalised and self.lambda_gp > 0
        return self.objective.fake(prediction)

    def generator(self, prediction: Tensor) -> Tensor:
        """Return the generator's loss on predictions of generated pictures."""
        if self.penalty_due:  # the discriminator's phase is over
            self.penalty_due = False
            advice = "this objective needs its gradient penalty: add `| self.gan.penalty(...)` to the losses of D"
            warnings.warn(advice, stacklevel=2)
        return self.objective.generator(prediction)

    def penalty(self, name: str, D: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return {name: weighted gradient penalty}, or {} where the objective has none.

        real, fake: (N, C, H, W); fake is detached. A term of the discriminator's phase, to be merged with `|`.
        """
        self.penalty_due = False
        if not self.objective.penalised or self.lambda_gp == 0:
            return {}
        return {name: self.lambda_gp * gradient_penalty(D, real, fake.detach())}


def gradient_penalty(D: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean of (|grad D(x)| - 1)^2 at random points x between real and fake (Gulrajani et al. 2017, eq. 3).

    real, fake: (N, C, H, W). The norm is over all of a sample's values, D's outputs summed; differentiable.
    """
    alpha = torch.rand(real.shape[0], 1, 1, 1, device=real.device, dtype=real.dtype)
    interpolated = (alpha * real + (1 - alpha) * fake).detach().requires_grad_(True)
    with disable_autocast():
        (gradient,) = torch.autograd.grad(D(interpolated).sum(), interpolated, create_graph=True)
    return (gradient.flatten(1).norm(2, dim=1) - 1).square().mean()
