"""Adversarial losses of the discriminator and the generator as one table of formulas, and feature matching."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_pre_hook

from networks.penalties import gradient_penalty as gradient_penalty  # for plug-ins
from networks.predictions import features, scales
from networks.toolbox.lecam import Judgements
from networks.whole_batch import mean
from registry.lookup import find
from util.errors import OptionError


@dataclass(frozen=True)
class Objective:
    """Loss formulas, predictions of any shape -> scalar; `label` is the target for real images (1 unless smoothed)."""

    real: Callable[[Tensor, float], Tensor]  # the discriminator's loss on real images: (predictions, label)
    fake: Callable[[Tensor], Tensor]  # the discriminator's loss on generated images
    generator: Callable[[Tensor], Tensor]  # the generator's loss on generated images
    penalised: bool = False  # whether it needs a gradient penalty: the default of --penalty is then gp
    uses_label: bool = True  # whether `real` uses the label; --label_smoothing is refused if not
    boundary: float | None = 0.0  # predictions above it say real; None: a prediction says so only beside others


@dataclass(frozen=True)
class PairedObjective:
    """Loss formulas that compare predictions on real images with those on generated ones, of one shape -> scalar."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # (predictions on real images, on generated images)
    generator: Callable[[Tensor, Tensor], Tensor]  # the same arguments
    penalised: bool = False
    uses_label: bool = False
    of_batch: bool = False  # whether a prediction is compared with means over the batch


def _bce(p: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(p, torch.full_like(p, label))


LSGAN = Objective(  # Mao et al. 2017
    real=lambda p, label: (p - label).square().mean(),
    fake=lambda p: p.square().mean(),
    generator=lambda p: (p - 1).square().mean(),
    boundary=0.5,
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
    uses_label=False,
    boundary=None,
)
HINGE = Objective(  # Lim & Ye 2017, Miyato et al. 2018
    real=lambda p, label: F.relu(1 - p).mean(),
    fake=lambda p: F.relu(1 + p).mean(),
    generator=lambda p: -p.mean(),
    uses_label=False,
)
RELATIVISTIC = PairedObjective(  # RSGAN of Jolicoeur-Martineau 2018; RpGAN of Huang et al. 2024
    discriminator=lambda real, fake: F.softplus(fake - real).mean(),
    generator=lambda real, fake: F.softplus(real - fake).mean(),
)
RAGAN = PairedObjective(  # RaSGAN of Jolicoeur-Martineau 2018; means are over all predictions
    discriminator=lambda real, fake: _bce(real - mean(fake), 1.0) + _bce(fake - mean(real), 0.0),
    generator=lambda real, fake: _bce(real - mean(fake), 0.0) + _bce(fake - mean(real), 1.0),
    of_batch=True,
)
RALSGAN = PairedObjective(  # RaLSGAN of Jolicoeur-Martineau 2018
    discriminator=lambda real, fake: (real - mean(fake) - 1).square().mean() + (fake - mean(real) + 1).square().mean(),
    generator=lambda real, fake: (real - mean(fake) + 1).square().mean() + (fake - mean(real) - 1).square().mean(),
    of_batch=True,
)


class GANLoss(nn.Module):
    """The adversarial loss that --gan_mode selects; its methods return scalars to minimise.

    A prediction is what a discriminator returns: a tensor, a list of tensors (always scales), or a list of lists of
    features, one inner list for each scale, whose last is judged ([[f1, ..., prediction]] for one scale). The loss is
    the mean over scales, as in SPADE (Park et al. 2019), so that the weights of other terms keep their meaning;
    pix2pixHD (Wang et al. 2018, eq. 2) adds the scales up.

    label_smoothing: the discriminator's target for real images is 1 - label_smoothing (Salimans et al. 2016).
    penalty: a name of PENALTIES, "" for that of the objective; lambda_gp: its weight.
    """

    def __init__(self, gan_mode: str, label_smoothing: float = 0.0, lambda_gp: float = 10.0, penalty: str = ""):
        super().__init__()
        self.gan_mode, self.objective = gan_mode, find("objective", gan_mode)
        self.label = 1.0 - label_smoothing
        self.lambda_gp = lambda_gp
        self.penalty_name = penalty or ("gp" if self.objective.penalised else "none")
        self._penalty = find("penalty", self.penalty_name)
        self._judged = self._penalised = self._mixes = False  # see penalty_notes
        self.judgements, self._watches = Judgements(), True  # nothing is watched until a run's toolbox says so

    @classmethod
    def from_options(cls, o: Any) -> "GANLoss":
        """Return the loss of --gan_mode, --label_smoothing, --lambda_gp and --penalty."""
        return cls(o.gan_mode, o.label_smoothing, o.lambda_gp, o.penalty)

    @property
    def paired(self) -> bool:
        """Whether the objective compares predictions on real images with those on generated ones."""
        return isinstance(self.objective, PairedObjective)

    @property
    def has_penalty(self) -> bool:
        """Whether there is a gradient penalty with a weight."""
        return self.penalty_name != "none" and self.lambda_gp != 0

    def norm_of_D(self, norm: str, otherwise: str = "instance") -> str:
        """Return --norm, or another one instead of batch norm if there is a gradient penalty.

        It is defined for each image, and batch norm would make it depend on the others (Gulrajani et al. 2017).
        """
        return otherwise if self.penalty_name != "none" and "batch" in norm else norm

    def discriminator(self, real: Any, fake: Any, name: str = "D") -> dict[str, Tensor]:
        """Return the discriminator's terms for its predictions on real and on generated images, for any objective.

        {"D_real", "D_fake"}, or {"D_GAN"} if the objective compares both; `name` replaces D, and tells discriminators
        apart that share this loss. With --lambda_lecam also {"D_lecam"}.
        """
        self._judged = True
        if self.paired:
            terms = {name + "_GAN": self._compare(self.objective.discriminator, real, fake)}
        else:
            self._watches = False  # both sides are shown below, by the discriminator's name
            terms = {name + "_real": self.real(real), name + "_fake": self.fake(fake)}
            self._watches = True
        sides = self._watch(real, True, name, fake), self._watch(fake, False, name)
        added = [side for side in sides if side is not None]
        return terms | ({name + "_lecam": sum(added[1:], added[0])} if added else {})

    def real(self, prediction: Any) -> Tensor:
        """Return the discriminator's loss for its predictions on real images, with its part of --lambda_lecam."""
        self._refuse_one_side("real(prediction)")
        loss = self._mean_over_scales(lambda p: self.objective.real(p, self.label), prediction)
        added = self._watch(prediction, True) if self._watches else None
        return loss if added is None else loss + added

    def fake(self, prediction: Any) -> Tensor:
        """Return the discriminator's loss for its predictions on generated images, with its part of --lambda_lecam."""
        self._refuse_one_side("fake(prediction)")
        self._judged = True
        loss = self._mean_over_scales(self.objective.fake, prediction)
        added = self._watch(prediction, False) if self._watches else None
        return loss if added is None else loss + added

    def generator(self, prediction: Any, real: Any = None) -> Tensor:
        """Return the generator's loss for the discriminator's predictions on generated images.

        real: the predictions on real images, or a function without arguments that returns them; only objectives that
        compare both need them, and only these call the function.
        """
        if not self.paired:
            return self._mean_over_scales(self.objective.generator, prediction)
        if real is None:
            self._refuse_one_side("generator(prediction)")
        return self._compare(self.objective.generator, real() if callable(real) else real, prediction)

    def _watch(self, prediction: Any, real: bool, name: str = "D", other: Any = None) -> Tensor | None:
        """Show the toolbox a discriminator's predictions on one side; return LeCam's penalty, if it is on."""
        if not self.judgements.is_on:
            return None
        found = scales(prediction, "objective", self.gan_mode)
        if real:
            self.judgements.signs(found, scales(other) if self.paired else None)
        return self.judgements.side(found, real, name)

    def _mean_over_scales(self, formula: Callable[..., Tensor], *outputs: Any) -> Tensor:
        predictions = [scales(output, "objective", self.gan_mode) for output in outputs]
        losses = [formula(*scale) for scale in zip(*predictions, strict=True)]
        return losses[0] if len(losses) == 1 else sum(losses[1:], losses[0]) / len(losses)

    def _compare(self, formula: Callable[[Tensor, Tensor], Tensor], real: Any, fake: Any) -> Tensor:
        """Return the loss of a paired objective; raise OptionError for predictions of unequal shapes."""
        shapes = [
            [tuple(scale.shape) for scale in scales(output, "objective", self.gan_mode)] for output in (real, fake)
        ]
        if shapes[0] != shapes[1]:
            why = f"compares predictions of one shape, and those on real images have {shapes[0]}, on fakes {shapes[1]}"
            remedy = "use images of one size (--preprocess), and as many fakes as real ones, or another --gan_mode"
            raise OptionError("objective", self.gan_mode, why, remedy)
        return self._mean_over_scales(formula, real, fake)

    def _refuse_one_side(self, call: str) -> None:
        if self.paired:
            why = f"compares predictions on real and generated images, and GANLoss.{call} was given one of them"
            remedy = (
                "let the model call gan.discriminator(D(real), D(fake)) and gan.generator(D(fake), lambda: D(real)), "
                "or choose another --gan_mode"
            )
            raise OptionError("objective", self.gan_mode, why, remedy)

    def penalty(self, name: str, D: Callable[[Tensor], Any], real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return {name: weighted gradient penalty}, or {} if there is none.

        real, fake: (N, C, H, W); fake is detached here. D: see networks/penalties.py. Merge the result into the
        discriminator's terms with `|`.
        """
        if not self.has_penalty:
            return {}
        if self._penalised:
            return {name: self.lambda_gp * self._penalty(D, real, fake.detach())}
        self._penalised = True
        return {name: self.lambda_gp * self._penalty(partial(self._watched, D), real, fake.detach())}

    def _watched(self, D: Callable[[Tensor], Any], images: Tensor) -> Any:
        # A penalty of a plug-in may take no gradient of each image.
        mixing = len(images) > 1 and images.requires_grad

        def watch(net: nn.Module, args: Any) -> None:
            self._mixes |= mixing and isinstance(net, _BatchNorm) and net.training

        with register_module_forward_pre_hook(watch):  # D may be any function
            return D(images)

    def penalty_notes(self) -> list[str]:
        """Return notes about the penalty, after a step in which all phases ran."""
        if self._judged and not self._penalised and self.has_penalty:
            advice = f"add `| self.gan.penalty(...)` to the losses of D, or use --penalty none ({self.gan_mode})"
            return [f"note: the gradient penalty {self.penalty_name} is not applied: {advice}"]
        if self._mixes:
            why = "is for each image, but batch norm lets the images of a batch change each other's predictions"
            return [f"note: the gradient penalty {self.penalty_name} {why}: use --norm none or instance"]
        return []


def feature_matching(real: Any, fake: Any) -> Tensor:
    """Return the L1 distance of a discriminator's features of real and generated images (Wang et al. 2018, eq. 3).

    real, fake: lists of lists as GANLoss takes them; predictions do not count. The mean absolute differences of the
    layers are added up, and the scales averaged as in GANLoss, so the paper's weight of 10 keeps its proportion.
    Raises OptionError for predictions without features.
    """
    pairs = zip(features(real), features(fake), strict=True)
    per_scale = [torch.stack([F.l1_loss(f, r) for r, f in zip(*pair, strict=True)]).sum() for pair in pairs]
    return torch.stack(per_scale).mean()


def objective_notes(model: nn.Module, o: Any) -> list[str]:
    """Return notes on a model's objectives and penalties, after a step in which all its phases ran."""
    losses = [part for part in model.modules() if isinstance(part, GANLoss)]
    notes = [note for gan in losses for note in gan.penalty_notes()]
    if "penalty" in o.given and losses and all(gan.penalty_name != o.penalty for gan in losses):
        why = "the model does not pass it on, by GANLoss.from_options(o)"
        notes.append(f"note: --penalty {o.penalty} has no effect on GANLoss: {why}")
    parts = f"which are those of each of its {o.accumulate} parts (--accumulate)"
    for gan in losses if o.accumulate > 1 else ():
        if getattr(gan.objective, "of_batch", False):
            notes.append(f"note: --gan_mode {gan.gan_mode} compares with means over the batch, {parts}")
        if gan.has_penalty and getattr(gan._penalty, "of_batch", False):
            notes.append(f"note: the gradient penalty {gan.penalty_name} uses statistics of the batch, {parts}")
    return list(dict.fromkeys(notes))
