"""Read what a discriminator returns: predictions, predictions at several scales, or the features of each scale."""

from typing import Any

from torch import Tensor

from util.errors import OptionError


def scales(output: Any, thing: str = "discriminator", name: str = "D") -> list[Tensor]:
    """Return the predictions of each scale, in order.

    output: a tensor (one scale), a list of tensors (always one for each scale), or a list of lists of features (one
    inner list for each scale; its last tensor is the prediction). Raises OptionError about `thing` `name` for others.
    """
    if isinstance(output, Tensor):
        return [output]
    if _all_are(Tensor, output):
        return list(output)
    if _all_are(list | tuple, output) and all(_all_are(Tensor, scale) for scale in output):
        return [scale[-1] for scale in output]
    count = f" of {len(output)}" if isinstance(output, list | tuple | dict) else ""
    why = (
        "judges a tensor of predictions, a list of them (one for each scale) or a list of lists of features, and the "
        f"discriminator returns a {type(output).__name__}{count}"
    )
    raise OptionError(thing, name, why, "let it return one of these; features of one scale are [[f1, ..., prediction]]")


def features(output: Any) -> list[list[Tensor]]:
    """Return the features of each scale, without its prediction; raise OptionError unless there are some."""
    scales(output)
    if isinstance(output, Tensor) or isinstance(output[0], Tensor) or any(len(scale) < 2 for scale in output):
        why = "returns predictions without features, and feature matching compares features"
        remedy = "build it by discriminator(o, channels, features=True), or let it return [[f1, ..., prediction], ...]"
        raise OptionError("discriminator", "D", why, remedy)
    return [list(scale[:-1]) for scale in output]


def halves(output: Any) -> tuple[Any, Any]:
    """Return what a discriminator returned for the first half of a batch, and for the second half."""
    if isinstance(output, Tensor):
        first, second = output.chunk(2)
        return first, second
    parts = [halves(each) for each in output]
    return [first for first, _ in parts], [second for _, second in parts]


def detached(output: Any) -> Any:
    """Return what a discriminator returned, without its graph."""
    return output.detach() if isinstance(output, Tensor) else [detached(each) for each in output]


def _all_are(kind: Any, values: Any) -> bool:
    return isinstance(values, list | tuple) and bool(values) and all(isinstance(value, kind) for value in values)
