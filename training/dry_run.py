"""Estimate from two steps what a training run costs: parameters, operations, memory, time (--dry_run)."""

import math
import sys
import time
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from training.train_state import TrainState, TrainStep
from util.device import to_device
from util.disk_space import format_bytes, tensor_bytes
from util.errors import count_text
from util.seeding import fork_rng

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def estimate_cost(train_step: TrainStep, o: Any, model: Any, loader: Any, device: torch.device) -> str:
    """Print the notes about the data; return a report of the cost of a step and of all. The model is used up.

    Time and peak memory are measured over two real steps, because the first also warms up. Operations and activations
    are counted with meta tensors of the first batch's shape.
    """
    loader.print_notes()
    batch, epochs = loader.example_batch(), o.n_epochs + o.n_epochs_decay
    weights, numel = (sum(each) for each in zip(*((p.nbytes, p.numel()) for p in model.parameters()), strict=True))
    state = TrainState.from_options(model.to(device), o)
    # Time two real steps, in which all phases are due, and one of the others if some phases are not due at every step.
    times, cycle = [], math.lcm(*(phase.every for phase in state.phases))
    for count in (0, cycle, cycle + 1)[: 2 if cycle == 1 else 3]:
        began = time.perf_counter()
        train_step(state, to_device(batch, device), state.now(count))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    mean = (times[1] + (cycle - 1) * times[-1]) / cycle
    # Count operations and activations on meta tensors.
    try:
        flops, saved = count_flops_and_activations(train_step, o, model, batch)
        counts = f"{flops / 1e9:.1f} GFLOP a step; activations of {format_bytes(saved)} are kept for backward passes"
    except Exception as problem:  # a model may need values
        counts = f"operations and activations are not known: this model needs values ({type(problem).__name__})"
    # Write the report.
    in_all = format_bytes(2 * weights + tensor_bytes([state.optimizers.moments(), state.ema.state_dict()]))
    kept = f"gradients{', averages' if o.ema else ''} and the state of their optimisers"
    peak, memory_owner = _peak_memory_bytes(device), "the GPU" if device.type == "cuda" else "this process"
    steps = count_text(len(loader), "step")
    rows = (
        f"{count_text(len(batch['A']), 'image')} a step, {steps} an epoch, {count_text(epochs, 'epoch')}",
        f"{numel / 1e6:.3f} M parameters; {in_all} with their {kept}",
        counts,
        f"{times[0]:.2f} s for the first step, {times[1]:.2f} s for the second",
        f"{long_duration(mean * len(loader) * epochs)} for all {count_text(epochs, 'epoch')}: an extrapolation of"
        f" {'the second step' if cycle == 1 else 'steps with and without all phases'}, without loading, metrics and"
        " pages (docs/scale.md has the papers' settings)",
        f"at most {format_bytes(peak)} of memory of {memory_owner}" if peak else "the peak of memory is not known here",
    )
    return "\n".join(rows)


def long_duration(seconds: float) -> str:
    """Return seconds in minutes, hours or days."""
    for limit, size, unit in ((5400, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"


def count_flops_and_activations(train_step: TrainStep, o: Any, model: Any, batch: dict[str, Any]) -> tuple[int, int]:
    """Return (operations, bytes of activations) of a step: forward and the backward of every phase, in float32.

    Activations are the peak of the memory kept for backward passes: each storage counts once, weights do not count.
    The model is moved to the meta device and loses its values.
    """
    from torch.utils.flop_counter import FlopCounterMode  # takes 60 ms, and only --dry_run needs it

    state = TrainState.from_options(model.to("meta"), o)
    shapes = to_device(batch, torch.device("meta"))
    counter, activations = FlopCounterMode(display=False), _ActivationCounter(model)
    tracker: Any = _NoModules()  # because the counter's own cannot observe the gradients inside a penalty
    counter.mod_tracker = tracker
    with fork_rng(0), counter, torch.autograd.graph.saved_tensors_hooks(activations.add, _unpack):
        train_step(state, shapes, state.now(0))
    return counter.get_total_flops(), activations.peak


class _NoModules(nullcontext):
    """A tracker for FlopCounterMode that counts operations in all, not by module."""

    parents = ("Global",)


class _ActivationCounter:
    """Counts the bytes of the storages kept for backward passes."""

    def __init__(self, model: nn.Module):
        self.weights = {_storage_id(p) for p in model.parameters()}
        self.counts: dict[int, int] = {}  # number of saved tensors per storage
        self.current = self.peak = 0

    def add(self, x: Tensor) -> Any:
        """Return a stand-in for x that counts its bytes until the stand-in is deleted; return weights unchanged."""
        return x if _storage_id(x) in self.weights else _SavedTensor(self, x)


class _SavedTensor:
    def __init__(self, activations: _ActivationCounter, x: Tensor):
        self.activations, self.x, self.storage_id = activations, x, _storage_id(x)
        before = activations.counts.get(self.storage_id, 0)
        activations.counts[self.storage_id] = before + 1
        activations.current += 0 if before else x.untyped_storage().nbytes()
        activations.peak = max(activations.peak, activations.current)

    def __del__(self) -> None:
        self.activations.counts[self.storage_id] -= 1
        if not self.activations.counts[self.storage_id]:
            del self.activations.counts[self.storage_id]
            self.activations.current -= self.x.untyped_storage().nbytes()


def _unpack(saved: Any) -> Tensor:
    return saved.x if isinstance(saved, _SavedTensor) else saved


def _storage_id(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def _peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory use so far in bytes; 0 if the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
