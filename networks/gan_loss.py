"""Adversarial losses of the discriminator and the generator as one table of formulas, and the gradient penalty."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.draws import noise
from networks.runtime.amp import disable_autocast
from registry.lookup import find
from util.errors import OptionError


@dataclass(frozen=True)
class Objective:
    """Loss formulas, predictions of any shape -> scalar; `label` is the target for real images (1 unless smoothed)."""

    real: Callable[[Tensor, float], Tensor]  # the discriminator's loss on real images: (predictions, label)
    fake: Callable[[Tensor], Tensor]  # the discriminator's loss on generated images
    generator: Callable[[Tensor], Tensor]  # the generator's loss on generated images
    penalised: bool = False  # whether it needs a gradient penalty


def _bce(p: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(p, torch.full_like(p, label))


LSGAN = Objective(  # Mao et al. 2017
    real=lambda p, label: (p - label).square().mean(),
    fake=lambda p: p.square().mean(),
    generator=lambda p: (p - 1).square().mean(),
)
VANILLA = Objective(  # Goodfellow et al. 2014, with the non-saturating generator loss
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
    """The adversarial loss that --gan_mode selects; `real`, `fake` and `generator` return a scalar to minimise.

    label_smoothing: the discriminator's target for real images is 1 - label_smoothing (Salimans et al. 2016).
    lambda_gp: weight of the gradient penalty if the objective has one.
    """

    def __init__(self, gan_mode: str, label_smoothing: float = 0.0, lambda_gp: float = 10.0):
        super().__init__()
        self.gan_mode, self.objective = gan_mode, find("objective", gan_mode)
        self.label = 1.0 - label_smoothing
        self.lambda_gp = lambda_gp
        self.penalty_due = False  # fake() was called, penalty() was not called yet

    def real(self, prediction: Tensor) -> Tensor:
        """Return the discriminator's loss for its predictions on real images."""
        return self.objective.real(self._checked(prediction), self.label)

    def fake(self, prediction: Tensor) -> Tensor:
        """Return the discriminator's loss for its predictions on generated images."""
        self.penalty_due = self.objective.penalised and self.lambda_gp > 0
        return self.objective.fake(self._checked(prediction))

    def generator(self, prediction: Tensor) -> Tensor:
        """Return the generator's loss for the discriminator's predictions on generated images."""
        if self.penalty_due:  # the discriminator's phase ended without the penalty
            self.penalty_due = False
            advice = "this objective needs its gradient penalty: add `| self.gan.penalty(...)` to the losses of D"
            warnings.warn(advice, stacklevel=2)
        return self.objective.generator(self._checked(prediction))

    def _checked(self, prediction: Tensor) -> Tensor:
        """Return a prediction; raise OptionError if it is not a tensor."""
        if not isinstance(prediction, Tensor):
            count = f" of {len(prediction)}" if isinstance(prediction, list | tuple | dict) else ""
            why = (
                f"judges one tensor of predictions, and the discriminator returns a {type(prediction).__name__}{count}"
            )
            remedy = "let it return one tensor, or add up what GANLoss returns for each"
            raise OptionError("objective", self.gan_mode, why, remedy)
        return prediction

    def penalty(self, name: str, D: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return {name: weighted gradient penalty}, or {} if the objective has none.

        real, fake: (N, C, H, W); fake is detached here. Merge the result into the discriminator's terms with `|`.
        """
        self.penalty_due = False
        if not self.objective.penalised or self.lambda_gp == 0:
            return {}
        return {name: self.lambda_gp * gradient_penalty(D, real, fake.detach())}


def gradient_penalty(D: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean of (|grad D(x)| - 1)^2 at random points x between real and fake (Gulrajani et al. 2017, eq. 3).

    real, fake: (N, C, H, W). The gradient is that of the sum of D's outputs; its norm is taken over all values of a
    sample. Differentiable.
    """
    alpha = noise(real, 1, 1, 1, uniform=True)
    interpolated = (alpha * real + (1 - alpha) * fake).detach().requires_grad_(True)
    with disable_autocast():
        (gradient,) = torch.autograd.grad(D(interpolated).sum(), interpolated, create_graph=True)
    return (gradient.flatten(1).norm(2, dim=1) - 1).square().mean()
