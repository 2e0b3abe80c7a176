"""Feature matching for any discriminator, by repeating its calls with the real image (Wang et al. 2018)."""

from typing import Any

import torch
from torch import Tensor, nn

from networks.frozen import without
from networks.predictions import scales
from networks.runtime.eager import eager
from util.errors import OptionError
from util.seeding import generator_states, restore_generators

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus,
               nn.Tanh, nn.ReLU6, nn.Hardswish)  # fmt: skip
WEIGHTED = nn.modules.conv._ConvNd, nn.Linear
Call = tuple[nn.Module, tuple, dict[str, Any]]  # a discriminator and the arguments that it was called with


def record(calls: list[Call], D: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
    """Add a call of a discriminator to a list; with the list, a hook before its forward."""
    calls.append((D, args, kwargs))


def matched_calls(calls: list[Call], fake: Tensor, real: Tensor) -> list[tuple[nn.Module, Any, Any]]:
    """Return (D, its arguments, the same with `real` in place of `fake`) for the calls that judge `fake`.

    The generated image is an argument itself, or a part of the channels of one.
    """
    found = []
    for D, args, kwargs in calls:
        values = [*args, *kwargs.values()]
        others = [_exchanged(value, fake, real) for value in values]
        if any(other is not value for other, value in zip(others, values, strict=True)):
            words, n = list(kwargs), len(args)
            others_by_word = dict(zip(words, others[n:], strict=True))
            found.append((D, (args, kwargs), (tuple(others[:n]), others_by_word)))
    return found


def _exchanged(value: Any, fake: Tensor, real: Tensor) -> Any:
    """Return an argument with `real` in place of `fake`, the argument itself if it does not hold it."""
    if value is fake:
        return real.detach()
    parts = [node for node, _ in getattr(getattr(value, "grad_fn", None), "next_functions", ())]
    joined = isinstance(value, Tensor) and value.dim() == 4 and fake.grad_fn is not None and fake.grad_fn in parts
    n = fake.shape[1]
    if not joined or (len(value), *value.shape[2:]) != (len(fake), *fake.shape[2:]) or value.shape[1] <= n:
        return value
    places: Any = range(value.shape[1] - n + 1)
    if fake.grad_fn in (parts[0], parts[-1]):  # without values, the first or the last part is known by its place
        places = range(1) if parts[0] is fake.grad_fn else places[-1:]
    elif not value.is_meta:
        places = [i for i in places if torch.equal(value[:, i : i + n], fake)]
    if not places:
        return value
    return torch.cat([value[:, : places[0]], real, value[:, places[0] + n :]], 1).detach()


def feature_distance(D: nn.Module, fake: Any, real: Any) -> Tensor:
    """Return the sum over layers of the mean absolute differences of D's features (Wang et al. 2018, eq. 3).

    Scales are averaged, as GANLoss does. Augmentations and dropout of D draw the same numbers for both images.
    """
    with without(D):  # D does not learn from this term in any phase
        before = generator_states()
        own, n_scales = _features(D, *fake)
        restore_generators(before)
        with torch.no_grad():
            wanted, _ = _features(D, *real)
    gaps = [(f - r).abs().mean() for f, r in zip(own, wanted, strict=True)]
    return torch.stack(gaps).sum() / n_scales


def _features(D: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[list[Tensor], int]:
    """Return the outputs of D's activations in the order of their calls, and how many scales it judges.

    Of a network without layers for activations, those of all convolutions and linear layers but the last.
    """
    kept: list[Tensor] = []
    layers: list[nn.Module] = [part for part in D.modules() if isinstance(part, ACTIVATIONS)]
    last = not layers
    layers = layers or [part for part in D.modules() if isinstance(part, WEIGHTED)]

    def keep(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        kept.append(output)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with eager():
            judged = D(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    found = kept[:-1] if last else kept
    if not found:
        why = f"{type(D).__name__} has no layers whose features could be compared"
        raise OptionError("option", "--lambda_feat", why, "omit it, or use --netD basic or multiscale")
    return found, len(scales(judged))
