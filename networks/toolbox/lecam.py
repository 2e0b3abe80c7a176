"""What a discriminator says of real and of generated images: the source of LeCam's penalty and of ADA's p."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.toolbox import tool_state
from networks.toolbox.input_augment import SIGNS
from networks.whole_batch import own_weight
from util import ranks

LECAM_DECAY = 0.99  # of the averages (Tseng et al. 2021)


class Judgements(nn.Module):
    """Watches the predictions that a GANLoss judges in the phases of discriminators.

    LeCam (Tseng et al. 2021, eq. 7): predictions on real images are pulled below the average of those on generated
    images, alpha_F, and these above the average of the former, alpha_R: lambda (mean relu(D(x) - alpha_F)^2
    + mean relu(alpha_R - D(G))^2). Averages are those of earlier steps, for each discriminator and scale; without any,
    there is no penalty. They change at the end of a step, so that the parts of a batch (--accumulate) share them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lambda_lecam, self.counts_signs, self.boundary = 0.0, False, 0.0  # boundary: of predictions, see Objective
        self.watching = True  # whether a discriminator is trained now
        self.seen: set[str] = set()  # of the flags: those that had something to work on

    def tool_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a buffer that this part makes when it first needs it."""
        return (3,) if name == SIGNS else (4, 2)

    @property
    def is_on(self) -> bool:
        """Whether predictions are of interest now."""
        return self.watching and (self.counts_signs or self.lambda_lecam > 0)

    def side(self, predictions: list[Tensor], real: bool, name: str) -> Tensor | None:
        """Return LeCam's penalty of predictions on one side, a tensor for each scale; None if it is off."""
        if not self.lambda_lecam:
            return None
        self.seen.add("lambda_lecam")
        terms = [self._penalty(p, real, f"lecam_{name}_{scale}") for scale, p in enumerate(predictions)]
        return self.lambda_lecam * torch.stack(terms).mean()

    def _penalty(self, p: Tensor, real: bool, key: str) -> Tensor:
        key = key.replace(".", "_")
        if tool_state.PREFIX + key not in self._buffers:  # alpha_R, alpha_F; how many were averaged; sums of this step
            tool_state.keep(self, key, torch.zeros(self.tool_shape(key), device=p.device, dtype=torch.float32))
        state = tool_state.kept(self, key)
        own, other = (0, 1) if real else (1, 0)
        with torch.no_grad():
            known = p.isfinite()  # one NaN, of a batch that is skipped (--on_nan), would stay in the averages
            state[2, own] += own_weight() * p.detach().float().where(known, 0.0).sum()
            state[3, own] += own_weight() * known.sum()
        anchor, is_known = state[0, other].clone(), (state[1, other] > 0).to(p.dtype)
        gap = p - anchor if real else anchor - p
        return is_known * F.relu(gap).square().mean()

    def signs(self, real: list[Tensor], fake: list[Tensor] | None = None) -> None:
        """Count the signs of predictions on real images, of a paired objective less those on generated ones."""
        if not self.counts_signs:
            return
        self.seen.add("ada")
        if tool_state.PREFIX + SIGNS not in self._buffers:
            tool_state.keep(self, SIGNS, torch.zeros(self.tool_shape(SIGNS), device=real[0].device))
        with torch.no_grad():
            for scale, p in enumerate(real):
                gap = p - self.boundary if fake is None else p - fake[scale]
                counted = torch.stack([gap.sign().nansum(), (~gap.isnan()).sum()]).float()
                tool_state.kept(self, SIGNS)[:2] += own_weight() * counted
            tool_state.kept(self, SIGNS)[2] += own_weight() * len(real[0])

    @torch.no_grad()
    def take_signs(self) -> Tensor | None:
        """Return [sum, number, images] of the signs since the last call, and clear them; None if there are none."""
        if tool_state.PREFIX + SIGNS not in self._buffers:
            return None
        signs = tool_state.kept(self, SIGNS)
        taken = ranks.add(signs.clone())
        signs.zero_()
        return taken

    @torch.no_grad()
    def end_step(self) -> None:
        """Average the predictions of the step for LeCam."""
        for name, state in self._buffers.items():
            if not name.startswith(f"{tool_state.PREFIX}lecam_") or state is None:
                continue
            ranks.add(state[2:])
            alpha, times, sums, numbers = state.clone()
            decay = torch.where(times > 0, LECAM_DECAY, 0.0)
            mean = decay * alpha + (1 - decay) * sums / numbers.clamp(min=1)
            came = numbers > 0
            state[0], state[1] = torch.where(came, mean, alpha), torch.where(came, times + 1, times)
            state[2:] = 0
