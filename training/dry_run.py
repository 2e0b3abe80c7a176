"""What a training would take, told without training: parameters, operations, memory, time (--dry_run)."""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from training import accumulation
from training.optim import Gates, Optimizers
from util.device import move
from util.disk_space import in_units
from util.seeding import seeded

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

KEPT = 4  # times the weights: weights, gradients, two moments


def dry_run(o: Any, model: Any, loader: Any, device: torch.device, step: Callable[..., Any]) -> str:
    """Return the lines that tell what each step takes; nothing is written. The model is of no use afterwards.

    step: what trains one batch. Time and the peak of memory are of two real steps, the first of which also prepares;
    operations and activations are counted on tensors without values, of the first batch's size.
    """
    batch, epochs = loader.sample(), o.n_epochs + o.n_epochs_decay
    weights, number = (sum(each) for each in zip(*((p.nbytes, p.numel()) for p in model.parameters()), strict=True))
    phases = model.to(device).train().phases()
    gates = Gates(phases)
    optimizers = Optimizers(phases, o)
    times = []
    for count in range(2):
        began = time.perf_counter()
        step(model, phases, optimizers, gates, move(batch, device), count, parts=o.accumulate)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    gates.open_all()
    whole = times[1] * len(loader) * epochs / 3600
    try:
        flops, kept = counted(model, batch, o.accumulate)
        counts = f"{flops / 1e9:.1f} GFLOP a step; activations of {in_units(kept)} are kept for backward passes"
    except Exception as problem:  # a model may need values; the two steps have told what they can
        counts = f"operations and activations are not known: this model needs values ({type(problem).__name__})"
    peak, where = _peak(device), "the GPU" if device.type == "cuda" else "this process"
    return "\n".join([
        f"{len(batch['A'])} images a step, {len(loader)} steps an epoch, {epochs} epochs",
        f"{number / 1e6:.3f} M parameters; {in_units(KEPT * weights)} with their gradients and Adam's moments",
        counts,
        f"{times[0]:.2f} s for the first step, {times[1]:.2f} s for the second: {whole:.1f} h for all, without loading",
        f"at most {in_units(peak)} of memory of {where}" if peak else "how much memory is not known here",
    ])  # fmt: skip


def counted(model: Any, batch: dict[str, Any], parts: int) -> tuple[int, int]:
    """Return (operations, bytes of activations) of a step: forward and every phase's backward, in 32 bits.

    Activations are what is kept for backward passes at the moment when it is most, each storage once, weights not.
    The model loses its values.
    """
    from torch.utils.flop_counter import FlopCounterMode  # trainings have no use for it

    model.to("meta")
    shapes = {k: v.to("meta") if isinstance(v, Tensor) else v for k, v in batch.items()}
    phases, kept = model.phases(), _Kept(model)
    gates = Gates(phases)
    counter, hooks = FlopCounterMode(display=False), torch.autograd.graph.saved_tensors_hooks(kept.add, _taken)
    with seeded(0), counter, hooks:
        gates.open_all()
        work = accumulation.begin(model, shapes, parts)
        for phase in phases:
            gates.open_only(phase.name)
            work.backward(phase, lambda loss: loss)
    return counter.get_total_flops(), kept.most


class _Kept:
    """Counts the bytes of storages that are kept for backward passes."""

    def __init__(self, model: nn.Module):
        self.weights = {_storage(p) for p in model.parameters()}
        self.times: dict[int, int] = {}  # how often each storage is kept
        self.now = self.most = 0

    def add(self, x: Tensor) -> Any:
        """Count a tensor as long as what is returned in its place lives."""
        return x if _storage(x) in self.weights else _Held(self, x)


class _Held:
    def __init__(self, kept: _Kept, x: Tensor):
        self.kept, self.x, self.storage = kept, x, _storage(x)
        before = kept.times.get(self.storage, 0)
        kept.times[self.storage] = before + 1
        kept.now += 0 if before else x.untyped_storage().nbytes()
        kept.most = max(kept.most, kept.now)

    def __del__(self) -> None:
        self.kept.times[self.storage] -= 1
        if not self.kept.times[self.storage]:
            del self.kept.times[self.storage]
            self.kept.now -= self.x.untyped_storage().nbytes()


def _taken(held: Any) -> Tensor:
    return held.x if isinstance(held, _Held) else held


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def _peak(device: torch.device) -> int:
    """Return the most memory that was in use so far, in bytes; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
