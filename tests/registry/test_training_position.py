"""Methods that declare `now` are told where training stands; others are called as before."""

import gc
import inspect
import weakref
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from models.base import BaseModel, Now, Phase
from registry.training_position import AFTER_TRAINING, call_with_now
from tests.support.runs import SMALL, options
from train import train_step
from training.loss_meter import LossMeter
from training.train_state import TrainState
from util.progress import Progress

WATCHER = '''"""A GAN that prints what it is told."""
from models.base import BaseModel, Now, Phase
from networks import GANLoss, discriminator, generator


class Watcher(BaseModel):
    dataset_mode = "single"
    defaults = {"netG": "unet_32", "netD": "n_layers"}
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.G, self.D = generator(o, 3, 3), discriminator(o, 3)
        self.gan = GANLoss("lsgan")

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g, every=3)]

    def say(self, what, now):
        device = next(self.parameters()).device.type
        if device != "meta":
            print(what, now.step, now.epoch, round(now.share, 3), "+".join(sorted(now.due)), flush=True)

    def forward(self, batch, now):
        self.say("forward" if self.training else "shown", now)
        return {"real_A": batch["A"], "fake_B": self.G(batch["A"])}

    def loss_d(self, batch, out):
        return {"D": self.gan.real(self.D(batch["A"])) + self.gan.fake(self.D(out["fake_B"].detach()))}

    def loss_g(self, batch, out, now: Now):
        self.say("loss", now)
        return {"G": self.gan.generator(self.D(out["fake_B"]))}

    def after_step(self, now):
        self.say("after", now)
'''


class Recorder(BaseModel):
    """Two weights; its second phase has nothing to do at the steps in `idle`."""

    def __init__(self, idle=(), on_forward=None):
        super().__init__()
        self.x, self.y = nn.Linear(1, 1), nn.Linear(1, 1)
        self.idle, self.calls = idle, []

    def phases(self):
        return [Phase("x", [self.x], self.loss_x), Phase("y", [self.y], self.loss_y, every=2)]

    def forward(self, batch, now):
        self.calls.append(("forward", now))
        return {"y": self.y(batch["A"]).mean() if "y" in now.due else None}

    def loss_x(self, batch, out):
        return {"x": self.x(batch["A"]).mean()}

    def loss_y(self, batch, out, now):
        self.calls.append(("loss", now))
        return {} if now.step in self.idle else {"y": out["y"].square()}

    def after_step(self, now):
        assert not torch.is_grad_enabled()
        self.calls.append(("after", now))


def trained(model: BaseModel, steps: int, accumulate: int = 1, amp: str = "off"):
    """Train some steps; return the losses of each and the weight y before and after each."""
    state = TrainState.from_options(model, options("--lr", "0.1", "--amp", amp, "--accumulate", str(accumulate)))
    losses, weights = [], [float(model.y.weight.detach())]
    for step in range(steps):
        now = state.now(step, epoch=1 + step // 2, share=step / steps)
        losses.append(train_step(state, {"A": torch.ones(4, 1)}, now)[1])
        weights.append(float(model.y.weight.detach()))
    return losses, weights


@pytest.mark.parametrize("accumulate", [1, 2])
def test_methods_are_told_step_epoch_share_and_phases(accumulate):
    model = Recorder()
    trained(model, 3, accumulate)
    both, alone = frozenset("xy"), frozenset("x")
    first, second, third = Now(0, 1, 0.0, both), Now(1, 1, 1 / 3, alone), Now(2, 2, 2 / 3, both)
    assert [now for what, now in model.calls if what == "after"] == [first, second, third]  # once a step
    assert {now for what, now in model.calls if what == "forward"} == {first, second, third}
    assert [now for what, now in model.calls if what == "loss"] == [first] * accumulate + [third] * accumulate


@pytest.mark.parametrize("amp", ["off", "fp16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_phase_with_nothing_to_do_changes_nothing(accumulate, amp):
    """Also without a step of its optimiser's momentum; its last value stays in the log."""
    losses, weights = trained(Recorder(idle=(2,)), 5, accumulate, amp)
    assert losses[2]["y"] == {}
    assert [before != after for before, after in pairwise(weights)] == [True, False, False, False, True]
    meter = LossMeter()
    for terms in losses[:3]:
        meter.add(terms)
    assert float(meter.latest["y"]) == float(losses[0]["y"]["y"])


def test_progress_counts_the_share_of_training():
    progress = Progress(epoch=3, seen=5, epoch_size=10, last_epoch=4)
    assert progress.share == (2 + 0.5) / 4
    assert (Progress(last_epoch=4, epoch_size=10).share, Progress(epoch=5, epoch_size=10, last_epoch=4).share) == (0, 1)


def test_a_function_without_now_is_called_as_before():
    assert call_with_now(lambda batch: batch, 3) == 3
    assert call_with_now(lambda batch, now: now, 3) == AFTER_TRAINING
    assert call_with_now(abs, -3) == 3


def test_a_method_that_is_replaced_is_inspected_again(monkeypatch):
    class Plain(BaseModel):
        def forward(self, batch):
            return batch

    class Caller:
        def __call__(self, batch):
            return batch

    model, caller = Plain(), Caller()
    assert [call_with_now(model, 3), call_with_now(model, 3), call_with_now(caller, 3)] == [3] * 3
    monkeypatch.setattr(Caller, "__call__", lambda self, batch, now: now)
    assert call_with_now(caller, 3) == AFTER_TRAINING
    with monkeypatch.context() as patch:
        patch.setattr(Plain, "forward", lambda self, batch, now: now)
        assert call_with_now(model, 3) == AFTER_TRAINING
    model.forward = partial(lambda batch, now: now)
    assert call_with_now(model, 3) == AFTER_TRAINING
    del model.forward
    assert call_with_now(model, 3) == 3


def test_a_function_is_inspected_once_and_not_kept(monkeypatch):
    calls, own = [], lambda batch, now: now
    monkeypatch.setattr(
        inspect, "signature", lambda function, real=inspect.signature: calls.append(1) or real(function)
    )
    assert [call_with_now(own, 3) for _ in range(3)] == [AFTER_TRAINING] * 3
    assert len(calls) == 1
    held = weakref.ref(own)
    del own
    gc.collect()
    assert held() is None


def test_now_on_the_command_line(process, tmp_path):
    """Training tells the step, the epoch and the share; the fixed samples the same, test.py that training is done."""
    (tmp_path / "watcher.py").write_text(WATCHER)
    flags = [*SMALL, "--plugin", "watcher.py", "--dataroot", "demo", "--displays", "html", "--name", "w"]
    done = process("train", "--model", "watcher", *flags, "--max_dataset_size", "2", "--n_epochs", "1",
                   "--n_epochs_decay", "1", "--fixed_samples", "1", "--val_phase", "train")  # fmt: skip
    assert done.code == 0, done.err
    said = [line for line in done.out.splitlines() if line.split(" ")[0] in ("forward", "loss", "after", "shown")]
    assert [line for line in said if not line.startswith("shown")] == [
        "forward 0 1 0.0 D+G", "loss 0 1 0.0 D+G", "after 0 1 0.0 D+G",
        "forward 1 1 0.25 D", "after 1 1 0.25 D",
        "forward 2 2 0.5 D", "after 2 2 0.5 D",
        "forward 3 2 0.75 D+G", "loss 3 2 0.75 D+G", "after 3 2 0.75 D+G",
    ]  # fmt: skip
    assert [line for line in said if line.startswith("shown")] == ["shown 2 1 0.5 ", "shown 4 2 1.0 "]
    done = process("test", "--name", "w", "--num_test", "1")
    assert done.code == 0, done.err
    assert "shown 0 0 1.0 " in done.out.splitlines()
