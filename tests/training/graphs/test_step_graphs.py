"""Steps as graphs: the bits of plain steps, static tensors, and one note where a graph would freeze something."""

import random

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from data.loading.loader import Loader
from models.base import BaseModel, Phase
from registry.lookup import find
from tests.support.graphs.tapes import tape_capture
from tests.support.runs import options
from tests.support.steps import TRAINED, far, trained
from train import train_step
from training.graphs.host_state import DeviceReads
from training.graphs.step_graphs import TRIALS, WARM_UP, StepGraphs
from training.train_state import TrainState
from util.image_pool import ImagePool

FIRST = WARM_UP + TRIALS  # the first step, from 0, that is only replayed


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = ImagePool.draw

    def on_host(pool):  # beside a CUDA device, pools draw with tensors of the CPU, which need no waiting
        with _disable_current_modes():
            return draw(pool)

    monkeypatch.setattr(ImagePool, "draw", on_host)


def with_tape(run, **named):
    run.train_state.graphs = StepGraphs(tape_capture(**named), exact=True)


@pytest.mark.parametrize("model", TRAINED)
def test_graphs_give_the_bits_of_plain_steps(model, capsys):
    """Losses, weights, statistics and pools of all models, whose pools swap images here."""
    flags = ("--pool_size", 20)
    plain = trained(model, *flags, steps=8)
    graphed = trained(model, *flags, steps=8, prepare=with_tape)
    assert far(plain, graphed) == (0, 0)
    assert graphed[0].train_state.graphs.ready, graphed[0].train_state.graphs.refusal
    assert "run as CUDA graphs: 2 trials equal plain steps to the last bit" in capsys.readouterr().out
    for one, other in zip(
        *([p for p in run.model.modules() if isinstance(p, ImagePool)] for run in (plain[0], graphed[0]))
    ):
        assert all(map(torch.equal, one.images, other.images)) and len(one.images) == len(other.images)


@pytest.mark.parametrize("model", TRAINED)
def test_no_step_reads_values_back(model):
    """Neither forward, phases, optimisers nor the loss meter wait for a device, so that the next step is queued."""
    run, _, _ = trained(model, "--pool_size", 20, "--ema", 0.9, steps=2)
    run.train_state.check_losses = lambda terms, batch: True  # the NaN guard waits a step later, for its own copy
    found = []
    batch = next(iter(Loader(find("dataset", run.o.dataset_mode)(run.o), run.o, shuffle=True).epoch(1)))
    for step in (2, 3):
        with DeviceReads(torch.device("cpu"), found.append):
            _, losses = train_step(run.train_state, batch, run.train_state.now(step))
            run.losses.add(losses)
    assert found == []


class Pair(BaseModel):
    """A generator and a judge with dropout, whose parts tests replace."""

    def __init__(self):
        super().__init__()
        self.G = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh())
        self.D = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Dropout(0.5), nn.Conv2d(2, 1, 1))
        self.pool, self.seen, self.extra = ImagePool(3), 0, lambda: 0.0

    def phases(self):
        return [Phase("G", [self.G], self.loss_g), Phase("D", [self.D], self.loss_d, every=2)]

    def forward(self, batch):
        self.seen_batch = None
        return {"fake_B": self.G(batch["A"])}

    def loss_g(self, batch, out):
        return {"G": self.D(out["fake_B"]).square().mean() + self.extra(), "idle": 0.0}

    def loss_d(self, batch, out):
        return {"D": self.D(self.pool(out["fake_B"].detach())).mean() - self.D(batch["A"]).mean()}


def state_of(model, *flags, capture=None, exact=True):
    state = TrainState.from_options(model, options(*flags))
    state.graphs = StepGraphs(capture or tape_capture(), exact=exact)
    return state


def run_steps(state, steps, sides=None):
    found = []
    for step in steps:
        size = (sides or {}).get(step, (2, 8))
        rng = torch.Generator().manual_seed(step)
        batch = {"A": torch.rand(size[0], 3, size[1], size[1], generator=rng), "path_A": [str(step)] * size[0]}
        out, losses = train_step(state, batch, state.now(step))
        found.append({n: float(torch.as_tensor(v).detach()) for terms in losses.values() for n, v in terms.items()})
    return found, out


def pair():
    torch.manual_seed(0)
    return Pair().train()


def plain_steps(number, sides=None, model=None):
    state = TrainState.from_options(model or pair(), options())
    torch.manual_seed(1)
    return run_steps(state, range(number), sides)[0], state.model.state_dict()


def graphed_steps(number, sides=None, model=None, **named):
    state = state_of(model or pair(), **named)
    torch.manual_seed(1)
    found, _ = run_steps(state, range(number), sides)
    return found, state.model.state_dict(), state


def same(one, other):
    return one[0] == other[0] and all(torch.equal(value, other[1][key]) for key, value in one[1].items()
                                      if isinstance(value, torch.Tensor))  # fmt: skip


def test_a_phase_of_every_second_step_has_graphs_of_its_own():
    graphed = graphed_steps(14)
    assert same(plain_steps(14), graphed)
    assert graphed[2].graphs.ready == {frozenset("G"), frozenset("GD")}


def test_a_replay_reads_the_batch_and_leaves_static_tensors():
    """Outputs are where they were, losses are copies, and Python does not run again."""
    state = graphed_steps(2 * FIRST)[2]
    calls = []
    state.model.register_forward_pre_hook(lambda *_: calls.append("forward"))
    state.graphs.graphs[frozenset("GD")].model.D.register_forward_pre_hook(lambda *_: calls.append("D"))
    graph = state.graphs.graphs[frozenset("GD")]
    batch = {"A": torch.rand(2, 3, 8, 8), "path_A": ["a", "b"]}
    out, losses = train_step(state, batch, state.now(20))
    assert not calls and torch.equal(graph.batch["A"], batch["A"]) and graph.batch["A"] is not batch["A"]
    assert out["fake_B"].data_ptr() == graph.out["fake_B"].data_ptr() and not out["fake_B"].requires_grad
    first = {**losses["G"], **losses["D"]}
    kept = {name: float(torch.as_tensor(value).detach()) for name, value in first.items()}
    assert first["G"].requires_grad and first["idle"] == 0.0
    stepped, gradients = [], graph.phases["G"].gradients
    state.optimizers["G"].register_step_pre_hook(lambda *_: stepped.extend(p.grad is each for p, each in gradients))
    train_step(state, {"A": torch.rand(2, 3, 8, 8), "path_A": ["a", "b"]}, state.now(22))
    assert kept == {name: float(torch.as_tensor(value).detach()) for name, value in first.items()}
    assert stepped == [True] * len(gradients)


def test_batches_of_another_shape_are_plain(capsys):
    sides = {3: (1, 8), 16: (1, 8), 17: (2, 12)}
    assert same(plain_steps(20, sides), graphed := graphed_steps(20, sides))
    assert graphed[2].graphs.ready and "cuda_graphs" not in capsys.readouterr().out


def test_a_resumed_run_ends_with_the_same_bits():
    """It starts with plain steps and trials again."""
    whole = graphed_steps(30)
    state = graphed_steps(15)[2]
    generator, second = torch.get_rng_state(), state_of(pair())
    second.model.load_state_dict(state.model.state_dict())
    second.optimizers.load_state_dict(state.optimizers.state_dict())
    torch.set_rng_state(generator)
    found, _ = run_steps(second, range(15, 30))
    assert second.graphs.ready and same((whole[0][15:], whole[1]), (found, second.model.state_dict()))


def reads_back(model):
    model.extra = lambda: model.G[0].weight.sum().item()


def draws_on_the_cpu(model):
    model.extra = lambda: random.random()


def counts(model):
    def extra():
        model.seen += 1
        return float(model.seen)

    model.extra = extra


def reads_a_name(model):
    forward = model.forward
    model.forward = lambda batch: forward(batch) | {"name": batch["path_A"][0]}


def masks(model):
    model.extra = lambda: model.G[0].weight[model.G[0].weight > 0].sum()


def swaps_in_forward(model):
    forward = model.forward
    model.forward = lambda batch: {"fake_B": forward(batch)["fake_B"] + 0 * model.pool(batch["A"])}


def has_nothing_to_do(model):
    loss = model.loss_g
    model.loss_g = lambda batch, out: loss(batch, out) if model.G[0].weight.grad is None and len(RAN) < 0 else {}


RAN: list[int] = []
REFUSED = {
    reads_back: "phase G waits for values of the device (item())",
    masks: "phase G waits for values of the device (a mask)",
    draws_on_the_cpu: "it draws random numbers on the CPU",
    counts: "a step changes what Pair holds besides tensors",
    reads_a_name: "it reads batch['path_A'], which is no tensor",
    swaps_in_forward: "forward calls an image pool",
    has_nothing_to_do: "phase G may have nothing to do",
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_a_graph_would_freeze_is_refused_in_one_note(change, capsys):
    """And the run goes on with the bits that it has without the flag."""
    models = [pair(), pair()]
    for model in models:
        random.seed(0)
        change(model)
    random.seed(0)
    plain = plain_steps(12, model=models[0])
    random.seed(0)
    graphed = graphed_steps(12, model=models[1])
    assert same(plain, graphed)
    notes = [line for line in capsys.readouterr().out.splitlines() if "cuda_graphs" in line]
    assert notes == [f"note: --cuda_graphs has no effect: {REFUSED[change]}"]


class Informed(Pair):
    """Its forward is told where training stands, and reads a part of that."""

    reads = "due"

    def forward(self, batch, now):
        assert getattr(now, self.reads) is not None
        return super().forward(batch)


def test_phases_that_are_due_may_be_read():
    graphed = graphed_steps(14, model=informed("due"))
    assert same(plain_steps(14), graphed) and len(graphed[2].graphs.ready) == 2


def informed(part):
    torch.manual_seed(0)
    model = Informed().train()
    model.reads = part
    return model


@pytest.mark.parametrize("part", ["step", "epoch", "share"])
def test_numbers_that_change_with_every_step_are_refused(part, capsys):
    assert same(plain_steps(10), graphed_steps(10, model=informed(part)))
    assert f"has no effect: it reads now.{part}, which changes from step to step" in capsys.readouterr().out


@pytest.mark.parametrize(("flags", "why"), [
    (("--grad_checkpoint",), "saves random states"), (("--accumulate", "2"), "runs forward again"),
    (("--amp", "fp16"), "scales losses"), (("--compile", "default"), "launches kernels"),
])  # fmt: skip
def test_flags_that_rule_graphs_out_are_named(flags, why, monkeypatch, capsys):
    monkeypatch.setattr("training.graphs.step_graphs.on_cuda", lambda model: True)
    o = options("--cuda_graphs", "on", *flags)
    assert StepGraphs.from_options(pair(), o).capture is None
    assert f"{flags[0]}" in (line := capsys.readouterr().out) and why in line


@pytest.mark.parametrize(("mode", "says"), [("on", True), ("auto", False), ("off", False)])
def test_a_cpu_has_none(mode, says, capsys):
    StepGraphs.from_options(pair(), options("--cuda_graphs", mode))
    assert ("note: --cuda_graphs has no effect: there are none on cpu" in capsys.readouterr().out) == says


def drifting(scale):
    """Return a capture whose replays change the output a little, as other kernels would."""
    capture = tape_capture()

    def captured(function):
        replay = capture(function)
        weights = [args[1] for _, args, _, _ in capture.tapes[-1].calls if len(args) > 1]

        def run():
            replay()
            for call in capture.tapes[-1].calls[-1:]:
                assert weights
                call[3].mul_(1 + scale) if isinstance(call[3], torch.Tensor) else None

        return run

    return captured


@pytest.mark.parametrize(("exact", "scale", "says"), [
    (False, 1e-5, "2 trials differ by"), (True, 1e-5, "--cuda_graphs on accepts that"),
    (False, 0.5, "note: --cuda_graphs has no effect: 2 steps differ by"),
])  # fmt: skip
def test_trials_judge_the_replays(exact, scale, says, capsys):
    """Steps are plain until they have passed; what differs too much never takes part."""
    _, _, state = graphed_steps(14, capture=drifting(scale), exact=exact)
    out = capsys.readouterr().out
    assert says in out and bool(state.graphs.ready) == ("2 trials" in says)
    if not state.graphs.ready:
        assert same(plain_steps(14), graphed_steps(14, capture=drifting(scale), exact=exact))


def test_replaced_weights_end_the_graphs(capsys):
    state = graphed_steps(14)[2]
    state.model.G[0].weight.data = state.model.G[0].weight.data.clone()
    run_steps(state, [14])
    assert "the model's tensors, or images of its pools, were replaced" in capsys.readouterr().out
    assert state.graphs.capture is None
