"""Find the phase that goes backward through another phase's networks, where a detach() is missing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data.batches import Batch
from registry.training_position import Now, call_with_now


def advice(phases: Sequence[Any], batch: Batch, out: Any, now: Now) -> str:
    """Return which output the loss of which of these phases has to detach; "" if that is not clear.

    An output is to be detached if the loss goes backward through it and none of the phase's networks makes it. Each
    loss is computed again, which may change the model: it is for an error that ends the run.
    """
    for phase in phases if isinstance(out, Mapping) else ():
        own = {id(parameter) for net in phase.nets for parameter in net.parameters()}
        try:
            reached = _nodes(call_with_now(phase.loss, batch, out, now=now).values())
        except Exception:  # a plug-in's loss may work only once
            continue
        for key, value in out.items():
            if getattr(value, "grad_fn", None) in reached and own.isdisjoint(
                id(getattr(node, "variable", None)) for node in _nodes([value])
            ):
                where = getattr(phase.loss, "__name__", "its loss")
                return f"write out['{key}'].detach() in {where}, the loss of phase {phase.name}"
    return ""


def _nodes(values: Iterable[Any]) -> set[Any]:
    """Return the nodes of the graphs of these tensors; those of parameters have a `variable`."""
    found: set[Any] = set()
    pending = [node for value in values if (node := getattr(value, "grad_fn", None)) is not None]
    while pending:
        if (node := pending.pop()) not in found:
            found.add(node)
            pending += [inner for inner, _ in node.next_functions if inner is not None]
    return found
