"""A spectral norm that keeps both of its vectors, under the keys of torch.nn.utils.spectral_norm."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

INSIDE = {"_orig": "parametrizations.weight.original", "_u": "parametrizations.weight.0.u",
          "_v": "parametrizations.weight.0.v"}  # fmt: skip


class StoredSpectralNorm(nn.Module):
    """weight -> weight / its largest singular value, as a matrix of outputs and inputs (Miyato et al. 2018, eq. 8).

    In training each use makes one step of the power method, v before u; in evaluation the vectors are those kept.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        for name, side in zip("uv", weight.flatten(1).shape, strict=True):
            self.register_buffer(name, F.normalize(torch.randn(side, device=weight.device), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        with torch.autocast(weight.device.type, enabled=False) if not weight.is_meta else nullcontext():
            if self.training:
                with torch.no_grad():
                    self.v.copy_(F.normalize(matrix.mT @ self.u, dim=0))
                    self.u.copy_(F.normalize(matrix @ self.v, dim=0))
            u, v = self.u.clone(), self.v.clone()  # the next use changes them
            return weight / torch.dot(u, matrix @ v)


def with_spectral_norm(layer: nn.Module, when: bool = True) -> nn.Module:
    """Return a convolution or linear layer with a spectral norm; its keys are weight_orig, weight_u and weight_v."""
    if when:
        parametrize.register_parametrization(layer, "weight", StoredSpectralNorm(layer.weight), unsafe=True)  # type: ignore[arg-type]
        layer.register_state_dict_post_hook(_rename_saved)
        layer.register_load_state_dict_pre_hook(_rename_loaded)
    return layer


def _rename_saved(layer: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for end, inside in INSIDE.items():
        state[f"{prefix}weight{end}"] = state.pop(prefix + inside)


def _rename_loaded(layer: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for end, inside in INSIDE.items():
        if f"{prefix}weight{end}" in state:
            state[prefix + inside] = state.pop(f"{prefix}weight{end}")
