"""One training step as CUDA graphs: one of the forward pass, and one of the loss and backward pass of each phase."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from data.batches import Batch
from networks.runtime.snapshot import Snapshot
from registry.training_position import Now
from training.forward_pass import FullBatch, ScaleLoss
from training.graphs.host_inputs import HostInputs
from training.graphs.host_state import HostDraws
from util.device import map_leaves

Capture = Callable[[Callable[[], Any]], Callable[[], None]]  # records what a function computes; returns its replay


class NotCapturable(Exception):
    """A step depends on more than the device's values; the message says on what."""


def cuda_capture() -> Capture:
    """Return what captures CUDA graphs that share their memory and are replayed in the order of their capture."""
    pool = torch.cuda.graph_pool_handle()

    def capture(function: Callable[[], Any]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):  # other threads pin memory
            function()
        return graph.replay

    return capture


class StepGraph:
    """The graphs of a step for the phases that are due, with static tensors for its batch, outputs and gradients.

    Capturing computes nothing and changes no value. Raise NotCapturable if a step draws numbers on the host, reads
    what is no tensor from the batch, or has a phase with nothing to do.
    """

    def __init__(self, state: Any, batch: Batch, now: Now, capture: Capture):
        self.model, self.batch, self.host = state.model, TensorsOf(batch), HostInputs()
        self.places = places(self.model)
        self.worst, self.trials = 0.0, 0  # the largest difference from plain steps, and how many were compared
        before = HostDraws()
        with self.host.recording():
            made: list[FullBatch] = []
            self._forward = capture(lambda: made.append(FullBatch(self.model, self.batch, DueOnly(now.due))))
            if self.host.stores:
                raise NotCapturable("forward calls an image pool")
            self._inputs = self.host.take()
            self.phases = {phase.name: self._phase(state, phase, made[0], capture) for phase in state.due_phases(now)}
        if before.were_made():
            raise NotCapturable("it draws random numbers on the CPU")
        self.out = map_leaves(_detached, made[0].out)

    def _phase(self, state: Any, phase: Any, full: FullBatch, capture: Capture) -> "PhaseGraph":
        optimizers, terms = state.optimizers, dict[str, Any]()
        with state.only_trainable(phase):
            optimizers.zero_grad(phase.name)
            replay = capture(lambda: terms.update(full.compute_gradients(phase, lambda loss: loss)))
            trained = [p for group in optimizers[phase.name].param_groups for p in group["params"]]
            gradients = [(p, p.grad) for p in trained if p.grad is not None]
            optimizers.zero_grad(phase.name)
        if not terms:
            raise NotCapturable(f"phase {phase.name} may have nothing to do")
        return PhaseGraph(replay, terms, gradients, self.host.take())

    def is_valid(self) -> bool:
        """Whether the model's tensors are where they were captured, and its pools hold images of that shape."""
        return self.host.fit() and places(self.model) == self.places

    def run_forward(self, batch: Batch) -> None:
        """Replay the forward pass of a batch."""
        self.batch.load(batch)
        for asked in self._inputs:
            asked.draw()
        self._forward()


class PhaseGraph:
    """The loss and backward pass of a phase. gradients: pairs of a parameter and its static gradient."""

    def __init__(self, replay: Callable[[], None], terms: Mapping[str, Any], gradients: list, inputs: list):
        self._replay, self._inputs, self.gradients = replay, inputs, gradients
        self.terms = {name: (_detached(value), getattr(value, "requires_grad", False)) for name, value in terms.items()}

    def replay(self) -> None:
        """Compute terms and gradients, after what the host draws for them."""
        for asked in self._inputs:
            asked.draw()
        self._replay()

    def current_terms(self) -> dict[str, Any]:
        """Return copies of the terms, because the next replay overwrites them."""
        return {name: value.clone().requires_grad_(has_grad) if isinstance(value, Tensor) else value
                for name, (value, has_grad) in self.terms.items()}  # fmt: skip


class GraphedBatch:
    """A batch whose step is a replay; used like FullBatch. `out` is overwritten by the next step."""

    def __init__(self, graph: StepGraph, batch: Batch):
        self.graph, self.out = graph, graph.out
        graph.run_forward(batch)

    def compute_gradients(self, phase: Any, scale_loss: ScaleLoss) -> dict[str, Any]:
        """Replay a phase; return its loss terms."""
        graph = self.graph.phases[phase.name]
        graph.replay()
        for p, gradient in graph.gradients:
            p.grad = gradient
        return graph.current_terms()


class TriedBatch(FullBatch):
    """A plain batch that is also replayed, to compare both; what changes is what the plain one changes."""

    def __init__(self, graph: StepGraph, model: Any, batch: Batch, now: Now):
        self.graph, snapshot = graph, Snapshot(model)
        super().__init__(model, batch, now)
        with snapshot.restored():
            graph.run_forward(batch)
            self._compare(self.out, graph.out)
        graph.trials += 1

    def compute_gradients(self, phase: Any, scale_loss: ScaleLoss) -> dict[str, Any]:
        """Compute a phase both ways; return the plain loss terms, and leave the plain gradients."""
        graph, snapshot, images = self.graph.phases[phase.name], Snapshot(self.model), self.graph.host.images()
        terms = super().compute_gradients(phase, scale_loss)
        with snapshot.restored(), self.graph.host.holding(images):
            graph.replay()
        self._compare([p.grad for p, _ in graph.gradients], [gradient for _, gradient in graph.gradients])
        self._compare(terms, graph.current_terms())
        return terms

    def _compare(self, plain: Any, replayed: Any) -> None:
        sums = torch.zeros(2, dtype=torch.float64)
        map_leaves(partial(_add_difference, sums), plain, replayed)
        gap, size = sums.tolist()
        self.graph.worst = max(self.graph.worst, (gap / max(size, 1e-30)) ** 0.5 if gap == gap else float("inf"))


@torch.no_grad()
def _add_difference(sums: Tensor, plain: Any, replayed: Any) -> None:
    """Add the squared distance of two tensors, and the square of the first, to sums; other values must be equal."""
    if isinstance(plain, Tensor) and isinstance(replayed, Tensor):
        one, other = plain.double(), replayed.double()
        gap = torch.where((one == other) | (one.isnan() & other.isnan()), 0.0, one - other)
        sums += torch.stack([gap.square().sum(), one.nan_to_num().square().sum()]).cpu()
    elif plain is not replayed and plain != replayed:
        sums[0] = float("inf")


class DueOnly(Now):
    """A Now whose phases alone may be read, because a graph belongs to them; other numbers change with every step."""

    def __init__(self, due: frozenset[str]):
        object.__setattr__(self, "due", due)

    def __getattribute__(self, name: str) -> Any:
        if name in ("step", "epoch", "share"):
            raise NotCapturable(f"it reads now.{name}, which changes from step to step")
        return super().__getattribute__(name)


class TensorsOf(dict[str, Any]):
    """The entries of a batch that consist of tensors, copied; reading another one raises NotCapturable."""

    def __init__(self, batch: Batch):
        self.hidden = {key for key, value in batch.items() if not _is_of_tensors(value)}
        super().__init__({k: map_leaves(torch.clone, v) for k, v in batch.items() if k not in self.hidden})

    def load(self, batch: Batch) -> None:
        """Copy the values of another batch."""
        for key, value in self.items():
            map_leaves(Tensor.copy_, value, batch[key])

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401  # the other form calls this method

    def __contains__(self, key: Any) -> bool:
        return key in self.hidden or super().__contains__(key)

    def __missing__(self, key: Any) -> Any:
        if key in self.hidden:
            raise NotCapturable(f"it reads batch['{key}'], which is no tensor")
        raise KeyError(key)


def shapes_of(batch: Batch) -> tuple[Any, ...]:
    """Return the names, shapes and dtypes of a batch's tensors."""
    found: list[Any] = []
    for key, value in batch.items():
        found.append(key)
        map_leaves(lambda x: found.append((x.shape, x.dtype) if isinstance(x, Tensor) else type(x)), value)
    return tuple(found)


def places(model: Any) -> list[tuple[int, bool]]:
    """Return where the parameters and buffers of a model are, and which require gradients."""
    return [(x.data_ptr(), x.requires_grad) for x in (*model.parameters(), *model.buffers())]


def _is_of_tensors(value: Any) -> bool:
    leaves: list[bool] = []
    map_leaves(lambda x: leaves.append(isinstance(x, Tensor)), value)
    return all(leaves)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
