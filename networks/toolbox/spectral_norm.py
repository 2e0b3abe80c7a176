"""Spectral norm for any network, whose state_dict keeps its keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from networks.frozen import frozen_parts
from networks.toolbox import tool_state

FIRST_ITERATIONS = 15  # of the power method, when weights are new
TRANSPOSED = nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d  # their outputs are the second dimension
LAYERS = nn.modules.conv._ConvNd, nn.Linear, nn.Embedding
ORIGINAL = "parametrizations.weight.original"  # where torch keeps the weight of a parametrised layer


class SpectralNorm(nn.Module):
    """weight -> weight / its largest singular value, as a matrix of outputs and inputs (Miyato et al. 2018, eq. 8).

    In training, each use makes one step of the power method, whose vector is `tool_u`. Gradients flow through the
    singular value, u W v, with u and v taken as constants.
    """

    tool_u: Tensor

    def __init__(self, weight: Tensor, dim: int):
        super().__init__()
        self.dim = dim
        rng = torch.Generator().manual_seed(0)  # the run's random numbers are not touched
        u = F.normalize(torch.randn(weight.shape[dim], generator=rng), dim=0)
        tool_state.keep(self, "u", u.to(weight.device, weight.dtype))
        self.fit(weight)

    def forward(self, weight: Tensor) -> Tensor:
        matrix = self._matrix(weight)
        with torch.autocast(weight.device.type, enabled=False) if not weight.is_meta else torch.enable_grad():
            with torch.no_grad():
                v = F.normalize(matrix.mT @ self.tool_u, dim=0)
                if self.training:
                    self.tool_u.copy_(F.normalize(matrix @ v, dim=0))
                u = self.tool_u.clone()  # the next use changes it
            return weight / torch.dot(u, matrix @ v)

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Approximate the singular vector of a new weight."""
        matrix = self._matrix(weight)
        for _ in range(FIRST_ITERATIONS):
            self.tool_u.copy_(F.normalize(matrix @ F.normalize(matrix.mT @ self.tool_u, dim=0), dim=0))

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.dim, 0).flatten(1)


def add_spectral_norm(net: nn.Module) -> int:
    """Put a spectral norm on all convolutions, linear layers and embeddings that have none; return how many.

    Layers that are parametrised already or inside a Frozen network stay as they are.
    """
    layers = [part for part in net.modules() if isinstance(part, LAYERS) and part not in frozen_parts(net)]
    plain = [part for part in layers if isinstance(part._parameters.get("weight"), nn.Parameter)]
    for layer in plain:
        weight: Any = layer.weight
        norm = SpectralNorm(weight, int(isinstance(layer, TRANSPOSED)))
        parametrize.register_parametrization(layer, "weight", norm.train(layer.training), unsafe=True)
        layer.register_state_dict_post_hook(_rename_saved)
        layer.register_load_state_dict_pre_hook(_rename_loaded)
        layer.register_load_state_dict_post_hook(_fit_loaded)
    return len(plain)


def norms(model: nn.Module) -> Iterator[tuple[Any, SpectralNorm]]:
    """Yield (the list that holds a layer's weight, its spectral norm) for each layer that has one from here."""
    for part in model.modules():
        if isinstance(part, parametrize.ParametrizationList) and isinstance(part[0], SpectralNorm):
            yield part, part[0]


@contextmanager
def normalised(model: nn.Module) -> Iterator[None]:
    """Inside the block, the weights themselves are the normalised ones: what is exported works without the norm."""
    found = [(holder, norm.training, holder.original.data) for holder, norm in norms(model)]
    try:
        for holder, _, _ in found:
            holder.eval()  # without a step of the power method
            holder.original.data = holder().detach()
        yield
    finally:
        for holder, training, weight in found:
            holder.train(training)
            holder.original.data = weight


def _rename_saved(layer: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    own = {key: state.pop(key) for key in list(state) if key.startswith(prefix)}  # the weight comes first
    state[prefix + "weight"] = own.pop(prefix + ORIGINAL)
    state.update(own)


def _rename_loaded(layer: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    if prefix + "weight" in state:
        state[prefix + ORIGINAL] = state.pop(prefix + "weight")


def _fit_loaded(layer: nn.Module, *_: Any) -> None:
    for holder, norm in norms(layer):
        norm.fit(holder.original)
