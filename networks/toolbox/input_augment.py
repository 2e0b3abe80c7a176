"""Augment the images that a discriminator is given, wherever it is called (--diffaugment, --ada)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from networks.sample_noise import noise
from networks.toolbox import tool_state
from networks.toolbox.diffaugment import Augmentation
from networks.toolbox.settings import channels_of
from registry.lookup import find
from util.errors import OptionError

ADA_DEFAULT = ("flip", "rotate90", "translation", "color")  # "blit" and "color" of Karras et al. 2020, table 3
ADA_INTERVAL = 4  # steps between two changes of p
P, SIGNS = "ada_p", "ada_signs"


class InputAugmentation:
    """A hook before a discriminator's forward: in training, its images are augmented.

    Images are the arguments (N, C, H, W) of the size of the first one. All of a sample, such as the A and B of a pair,
    are augmented with the same random numbers, in one argument or in several. With `adaptive`, each augmentation is
    applied with the probability p, the network's buffer, for each sample by itself.
    """

    def __init__(self, names: Sequence[str], adaptive: bool):
        self.names, self.adaptive, self.was_called = tuple(names), adaptive, False

    def __call__(self, net: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        values = [*args, *kwargs.values()]
        first = next((x for x in values if _is_image(x)), None)
        if first is None or not net.training:
            return None
        self.was_called = True
        places = [i for i, x in enumerate(values) if _is_image(x) and _size(x) == _size(first)]
        images, widths = torch.cat([values[i] for i in places], 1), [values[i].shape[1] for i in places]
        told = channels_of(net)
        pictures = told if sum(told) == images.shape[1] else widths
        p = tool_state.kept(net, P).to(images.dtype) if self.adaptive else None
        for name in self.names:
            images = _checked(name, images, _apply(find("d_augmentation", name), images, pictures, p))
        for i, x in zip(places, images.split(widths, 1), strict=True):
            values[i] = x
        return tuple(values[: len(args)]), dict(zip(kwargs, values[len(args) :], strict=True))


def augment_inputs(net: nn.Module, names: Sequence[str], adaptive: bool) -> InputAugmentation:
    """Augment the images that a network is given from now on, by names of --diffaugment; return the hook."""
    hook = InputAugmentation(names or ADA_DEFAULT, adaptive)
    if adaptive:
        tool_state.keep(net, P, torch.zeros((), device=next(net.parameters()).device))
    net.register_forward_pre_hook(hook, with_kwargs=True)
    return hook


def augmentation_of(net: nn.Module) -> InputAugmentation | None:
    """Return the hook of a network that `augment_inputs` was called for, else None."""
    return next((hook for hook in net._forward_pre_hooks.values() if isinstance(hook, InputAugmentation)), None)


@torch.no_grad()
def adapt(nets: Sequence[nn.Module], signs: Tensor, target: float, images: float) -> None:
    """Change the probability p of the networks by as much as the images seen ask for (Karras et al. 2020, section 3.2).

    signs: [sum, number, images] of the signs of predictions on real images since the last change. Their mean is r_t; p
    rises if it is above the target, else it falls, at a rate of 1 in `images` images.
    """
    total, number, seen = signs
    step = torch.sign(total / number.clamp(min=1) - target) * seen / len(nets) / images
    for net in nets:
        p = tool_state.kept(net, P)
        p.copy_((p + step.to(p) * (number > 0)).clamp(0, 1))


def _apply(augment: Augmentation, images: Tensor, pictures: Sequence[int], p: Tensor | None) -> Tensor:
    if p is None:
        return augment(images, pictures)
    chosen = noise(images, 1, 1, 1, uniform=True) < p
    return torch.where(chosen, augment(images, pictures), images)


def _checked(name: str, before: Tensor, after: Any) -> Tensor:
    if not isinstance(after, Tensor) or after.shape != before.shape:
        is_now = tuple(after.shape) if isinstance(after, Tensor) else type(after).__name__
        why = f"returns {is_now} of images of shape {tuple(before.shape)}"
        raise OptionError("augmentation", name, why, "let it return images of the same shape")
    return after


def _is_image(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() == 4 and x.is_floating_point()


def _size(x: Tensor) -> tuple[int, ...]:
    return len(x), *x.shape[2:]
