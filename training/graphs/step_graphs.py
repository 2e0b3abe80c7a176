"""Decide which training steps run as CUDA graphs, after plain steps and trials that compare both (--cuda_graphs)."""

from collections import Counter
from typing import Any

from data.batches import Batch
from registry.training_position import Now
from training.forward_pass import FullBatch, MicroBatches, run_plain_forward
from training.graphs.host_state import DeviceReads, HostState
from training.graphs.step_graph import (
    Capture,
    GraphedBatch,
    NotCapturable,
    StepGraph,
    TriedBatch,
    cuda_capture,
    shapes_of,
)
from util import ranks
from util.errors import UserError, first_line, print_line
from util.seeding import generator_states, restore_generators

WARM_UP = 3  # plain steps before a capture: libraries choose their kernels and reserve memory in them
TRIALS = 2  # further plain steps, which are compared with replays
ROUNDING = {"off": 1e-3, "bf16": 2e-2}  # what trials may differ by: some kernels add up in any order
NAMES = {"_local_scalar_dense": "item()", "index.Tensor": "a mask"}


class StepGraphs:
    """Runs steps as CUDA graphs where nothing but the batch changes from one step to the next; off by default.

    A step that a graph would not repeat is refused, with one note, and all steps are plain: one that reads values back
    (item()), draws on the CPU, reads file names or more of `now` than `due`, or changes what the model holds besides
    tensors. So are models with after_step, --grad_checkpoint, --compile, --accumulate, --amp fp16 and several
    processes. Batches of another shape, such as an epoch's last, are plain without a note. The optimiser steps outside:
    its rates change, and Python is done with it before the device is.
    exact: refuse graphs unless the trials are equal to the last bit. capture: records a function (see Capture).
    """

    def __init__(self, capture: Capture | None = None, exact: bool = False, rounding: float = ROUNDING["off"]):
        self.capture, self.exact, self.rounding = capture, exact, rounding
        self.seen: Counter[Any] = Counter()  # steps by the phases due and the shapes of the batch
        self.graphs: dict[frozenset[str], StepGraph] = {}
        self.shapes: Any = None  # those that were captured
        self.watch: HostState | None = None
        self.ready: set[frozenset[str]] = set()  # the phases whose graphs have passed their trials
        self.refusal = ""  # why no step is captured

    @classmethod
    def from_options(cls, model: Any, o: Any) -> "StepGraphs":
        """Return the graphs of --cuda_graphs."""
        mode, device = o.cuda_graphs, next((p.device.type for p in model.parameters()), "meta")
        if mode == "off" or device == "meta":
            return cls()
        self = cls(exact=mode == "auto", rounding=ROUNDING.get(o.amp, 0.0))
        if not on_cuda(model):
            self._refuse(f"there are none on {device}", quiet=mode == "auto")
        elif why := _conflict(o):
            self._refuse(why)
        elif hasattr(model, "after_step"):
            self._refuse("after_step may change what a step reads")
        else:
            self.capture = cuda_capture()
        return self

    @property
    def are_on(self) -> bool:
        """Whether a step may become a graph."""
        return self.capture is not None

    def run_forward(self, state: Any, batch: Batch, now: Now) -> "FullBatch | MicroBatches | GraphedBatch":
        """Run forward, by a graph where there is one; see run_forward in training/forward_pass.py."""
        if self.watch and (why := self.watch.changed()):
            self._refuse(why)
        self.watch, shapes = None, shapes_of(batch)
        if self.capture is None or self.shapes not in (None, shapes):
            return run_plain_forward(state.model, batch, state.micro_batches, now)
        graph = self.graphs.get(now.due) or self._next_graph(state, batch, now, shapes)
        if graph is not None and not graph.is_valid():
            self._refuse("the model's tensors, or images of its pools, were replaced")
            graph = None
        if graph is not None and graph.trials < TRIALS:
            return TriedBatch(graph, state.model, batch, now)
        if graph is not None and self._accepts(graph, now):
            return GraphedBatch(graph, batch)
        if self.capture is not None and self.watch:
            return _WatchedBatch(self, state.model, batch, now)
        return run_plain_forward(state.model, batch, state.micro_batches, now)

    def _next_graph(self, state: Any, batch: Batch, now: Now, shapes: Any) -> StepGraph | None:
        """Return the graph of a step, if enough plain ones have run; None if this one is plain."""
        self.seen[now.due, shapes] += 1
        done = self.seen[now.due, shapes] - 1
        if done < WARM_UP:
            self.watch = HostState(state.model) if done else None  # the first step may make what later ones use
            return None
        assert self.capture is not None
        generators = generator_states()
        try:
            self.graphs[now.due], self.shapes = StepGraph(state, batch, now, self.capture), shapes
        except (UserError, KeyboardInterrupt):
            raise
        except Exception as problem:  # CUDA refuses a capture with errors of many kinds
            self._refuse(str(problem) if isinstance(problem, NotCapturable) else first_line(problem))
        finally:
            restore_generators(generators)
            for phase in state.due_phases(now):
                state.optimizers.zero_grad(phase.name)
        return self.graphs.get(now.due)

    def _accepts(self, graph: StepGraph, now: Now) -> bool:
        """Whether a graph may take the place of plain steps; say so once, or refuse it."""
        if now.due not in self.ready:
            gap = f"by {graph.worst:.1e}" if graph.worst else "to the last bit"
            if graph.worst > (0.0 if self.exact else self.rounding):
                more = "; --cuda_graphs on accepts that" if graph.worst <= self.rounding else ""
                self._refuse(f"{TRIALS} steps differ {gap} from replays{more}")
            else:
                self.ready.add(now.due)
                print_line(f"steps with phases {', '.join(graph.phases)} run as CUDA graphs: "
                           f"{TRIALS} trials {'differ' if graph.worst else 'equal plain steps'} {gap}")  # fmt: skip
        return self.capture is not None

    def _refuse(self, why: str, quiet: bool = False) -> None:
        self.capture, self.watch, self.refusal = None, None, why
        self.graphs.clear()
        if not quiet:
            print_line(f"note: --cuda_graphs has no effect: {why}")

    def found_read(self, where: str, name: str) -> None:
        """Refuse graphs because a plain step waits for the device's values."""
        if self.capture is not None:
            self._refuse(f"{where} waits for values of the device ({NAMES.get(name, name)})")


class _WatchedBatch(FullBatch):
    """A plain batch, during which operations that wait for the device are reported."""

    def __init__(self, graphs: StepGraphs, model: Any, batch: Batch, now: Now):
        self.graphs, self.device = graphs, batch["A"].device
        with DeviceReads(self.device, lambda name: graphs.found_read("forward", name)):
            super().__init__(model, batch, now)

    def compute_gradients(self, phase: Any, scale_loss: Any) -> dict[str, Any]:
        """Add the gradients of a phase's loss to its networks; return the loss terms."""
        with DeviceReads(self.device, lambda name: self.graphs.found_read(f"phase {phase.name}", name)):
            return super().compute_gradients(phase, scale_loss)


def on_cuda(model: Any) -> bool:
    """Whether a model is on a CUDA device."""
    return all(p.is_cuda for p in model.parameters())


def _conflict(o: Any) -> str:
    """Return which option rules graphs out; "" if none does."""
    compiles = o.compile not in ("off", "auto")
    found = {
        "--grad_checkpoint saves random states on the CPU": o.grad_checkpoint,
        f"--compile {o.compile} launches kernels of its own": compiles,
        "--accumulate runs forward again in phases": o.accumulate > 1,
        "--amp fp16 scales losses by what the last step gave": o.amp == "fp16",
        "several processes exchange gradients": ranks.world_size() > 1,
    }
    return next((why for why, is_on in found.items() if is_on), "")
