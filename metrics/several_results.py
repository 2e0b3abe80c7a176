"""Metrics of several results for one input: the best of them, and how much they differ."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

DIFFERENCE = "L1 between results"


def measure_several(
    results: Sequence["Tensor"], real: "Tensor | None", metrics: dict[str, Callable], better: dict[str, str]
) -> dict[str, float]:
    """Return each metric's best value, or its mean if its better direction is unknown, and the mean difference.

    results: two or more (C, H, W) in [-1, 1]; real: their target, without which there is only the difference.
    """
    found = {}
    for name, measure in metrics.items() if real is not None else ():
        values = [measure(fake, real) for fake in results]
        best: Callable = {"lower": min, "higher": max}.get(better[name], lambda them: sum(them) / len(them))
        found[several_name(name, better[name], len(results))] = best(values)
    return found | {DIFFERENCE: mean_difference(results)}


def several_name(metric: str, better: str, number: int) -> str:
    """Return what a metric of several results is called: "L1 best of 5"."""
    return f"{metric} {'best' if better else 'mean'} of {number}"


def mean_difference(results: Sequence["Tensor"]) -> float:
    """Return the mean absolute difference between two results over all pairs and values, in units of [-1, 1] (0 to 2).

    Sorted along the results, the k-th of n values is counted 2k - n + 1 times in the sum over the n(n - 1)/2 pairs.
    """
    import torch  # --list needs the tables of this folder without torch

    number = len(results)
    ordered = torch.stack([result.float() for result in results]).sort(dim=0).values
    counts = (2 * torch.arange(number) - number + 1).to(ordered).view(-1, 1, 1, 1)
    return ((ordered * counts).sum(0).mean().double() / (number * (number - 1) / 2)).item()


def explanation(number: int, has_target: bool) -> str:
    """Return what the names of these metrics mean, for a page."""
    best = f"Best of {number}: each image counts with the best of its {number} results. " if has_target else ""
    return f"{best}{DIFFERENCE}: mean absolute difference between two results of one image, over all pairs, 0 to 2."
