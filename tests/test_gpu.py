"""A CUDA device computes the CPU's numbers, at each precision, without waiting, within its memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.loading.loader import Loader
from inference.batch_translator import BATCHING_TOLERANCE
from networks.norm import InstanceNorm
from networks.runtime.amp import apply_autocast
from registry.lookup import find
from tests.support.runs import SMALL, options
from tests.support.small_models import MODELS
from tests.support.steps import ALONE, TRAINED, far, trained
from train import train_step
from util.device import to_device

if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device here", allow_module_level=True)
pytestmark = pytest.mark.gpu

GPU = torch.device("cuda", 0)
ON_GPU = [word if word != "-1" else "0" for word in SMALL]
RUN = ["--dataroot", "demo", "--max_dataset_size", "4", "--n_epochs", "1", "--n_epochs_decay", "0", "--name", "run",
       "--print_freq", "1"]  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def exact(monkeypatch):
    """Convolutions in 32 bits, not in TensorFloat-32, whose products have 10 bits of precision."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def one_noise(monkeypatch):
    """Noise drawn on the CPU, so that it is the same for every device."""
    for name in ("rand", "randn"):
        draw = getattr(torch, name)
        monkeypatch.setattr(
            torch, name, lambda *size, device=None, draw=draw, **named: draw(*size, **named).to(device or "cpu")
        )


@pytest.mark.parametrize("model", TRAINED)
def test_losses_and_weights_are_those_of_the_cpu(model, one_noise):
    """Three steps in 64 bits, to 1e-6."""
    flags = ("--norm", "none") if hasattr(MODELS[model], "sheets") else ALONE
    assert max(far(*(trained(model, *flags, double=True, device=where) for where in (torch.device("cpu"), GPU)))) < 1e-6


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("model", TRAINED)
def test_a_step_waits_for_nothing(model, amp):
    """No value is read back from the device while a step is trained, so that the next one is already queued."""
    run, _, _ = trained(model, "--amp", amp, device=GPU, steps=2)
    batch = next(iter(batches(model)))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(2, 5):
            _, losses = train_step(run.train_state, batch, run.train_state.now(step))
            run.losses.add(losses)
            run.progress.advance(len(batch["A"]), 0.0, 0.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(np.isfinite(float(value)) for value in run.losses.latest.values())


def batches(model):
    """Yield the first batch of a model's demo, on the device."""
    o = options("--model", model, "--dataroot", "demo", "--batch_size", "8", "--load_size", "32", "--crop_size", "32")
    for batch in Loader(find("dataset", o.dataset_mode)(o), o, shuffle=True).epoch(1):
        yield to_device(batch, GPU)


@pytest.mark.parametrize(("flag", "value", "bound"), [
    ("--amp", "bf16", 0.03), ("--amp", "fp16", 0.01), ("--memory_format", "channels_last", 1e-3),
    ("--grad_checkpoint", None, 1e-4), ("--accumulate", "4", 1e-4), ("--compile", "default", 1e-3),
])  # fmt: skip
@pytest.mark.parametrize("model", TRAINED)
def test_a_flag_leaves_the_losses(model, flag, value, bound, exact, capsys):
    """Losses of a first step beside those without the flag; no network goes on without what was asked for."""
    flags = ("--norm", "none") if hasattr(MODELS[model], "sheets") else ALONE
    torch._dynamo.reset()
    plain = trained(model, *flags, steps=1, device=GPU)
    other = trained(model, *flags, flag, *filter(None, [value]), steps=1, device=GPU)
    assert (flag == "--amp") <= (far(plain, other)[0] > 0) and far(plain, other)[0] < bound
    assert "is not compiled" not in capsys.readouterr().out


@pytest.mark.parametrize("model", TRAINED)
def test_steps_as_cuda_graphs_are_the_steps(model, exact, one_noise, capsys):
    """What one call made is whole after the next one: pictures in pools, those of three calls of one network."""
    flags = ("--norm", "none") if hasattr(MODELS[model], "sheets") else (*ALONE, "--pool_size", 3)
    torch._dynamo.reset()
    both = [trained(model, *flags, "--compile", how, steps=4, device=GPU) for how in ("off", "reduce-overhead")]
    assert far(*both)[0] < 0.02
    assert "is not compiled" not in capsys.readouterr().out


@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("model", TRAINED)
def test_whole_steps_as_graphs_are_the_steps(model, amp, exact, capsys):
    """Pools swap, CUT draws places, dropout draws on the device; the trials of both modes say what they found."""
    flags = ("--pool_size", 20, "--amp", amp)
    plain = trained(model, *flags, steps=8, device=GPU)
    graphed = trained(model, *flags, "--cuda_graphs", "on", steps=8, device=GPU)
    graphs = graphed[0].train_state.graphs
    assert graphs.ready, graphs.refusal
    print(model, amp, "differs", far(plain, graphed), "trials", [graph.worst for graph in graphs.graphs.values()])
    assert far(plain, graphed)[0] < (0.02 if amp == "off" else 0.1)


def test_a_step_as_graphs_waits_for_nothing_and_keeps_its_memory():
    run, _, _ = trained("cycle_gan", "--pool_size", 20, "--cuda_graphs", "on", device=GPU, steps=8)
    batch = next(iter(batches("cycle_gan")))
    assert run.train_state.graphs.ready
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(8, 12):
            _, losses = train_step(run.train_state, batch, run.train_state.now(step))
            run.losses.add(losses)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(np.isfinite(float(value)) for value in run.losses.latest.values())
    assert torch.cuda.memory_allocated() - before < 1e6


def test_a_value_read_back_is_refused_and_training_goes_on(capsys):
    def prepare(run):
        loss = run.model.loss_g
        for phase in run.phases:
            if phase.name == "G":
                object.__setattr__(phase, "loss", lambda *args: loss(*args) | {"G_read": loss(*args)["G_L1"].item()})

    run, _, _ = trained("pix2pix", "--cuda_graphs", "on", device=GPU, steps=8, prepare=prepare)
    assert "phase G waits for values of the device (item())" in capsys.readouterr().out
    assert not run.train_state.graphs.ready


def test_a_run_with_graphs_resumes_and_is_tested(process):
    """Whole commands: trials, replays, a save, plain steps and trials again, and test.py."""
    flags = [*ON_GPU, "--netG", "resnet_4blocks", "--model", "cycle_gan", *RUN, "--max_dataset_size", 16]
    for more in ([], ["--continue_train", "--n_epochs", 2]):
        done = process("train", *flags, "--cuda_graphs", "on", *more)
        assert done.code == 0, done.err
        assert "run as CUDA graphs: 2 trials" in done.out
    done = process("test", "--name", "run", "--gpu_ids", "0")
    assert done.code == 0, done.err


def test_autos_take_what_a_trial_finds(process):
    flags = [*ON_GPU, "--netG", "resnet_4blocks", "--model", "pix2pix", *RUN]
    done = process("train", *flags, "--amp", "auto", "--memory_format", "auto", "--cuda_graphs", "auto")
    assert done.code == 0, done.err
    assert "--amp, --memory_format auto takes " in done.out


def test_16_bits_keep_channels_last():
    """From the first convolution to the last, through instance norm, padding and residual sums."""
    run, _, _ = trained("cycle_gan", "--netG", "resnet_4blocks", "--amp", "bf16", "--memory_format", "channels_last",
                        device=GPU, steps=1)  # fmt: skip
    seen = []
    for part in run.model.G_A.modules():
        if not any(part.children()):
            part.register_forward_hook(lambda part, args, out: seen.append((type(part).__name__, out.stride(1))))
    run.model.G_A(torch.rand(2, 3, 32, 32, device=GPU))
    assert {step for name, step in seen[1:]} == {1}, seen  # the first one pads the image


@pytest.mark.parametrize("channels_last", [False, True])
def test_activation_after_instance_norm_copies_nothing_back(channels_last):
    """torch's own instance norm returns a view; a step of CycleGAN made 282 copies for that."""
    x = torch.rand(2, 8, 16, 16, device=GPU, requires_grad=True)
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    made = InstanceNorm(8)(x)
    assert not made._is_view()
    assert torch.allclose(made, torch.nn.functional.instance_norm(x), atol=1e-5)


def test_weights_and_moments_keep_32_bits(exact):
    run, _, _ = trained("pix2pix", "--amp", "bf16", device=GPU, steps=1)
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}
    assert {m.dtype for m in run.optimizers.moments().values()} == {torch.float32}
    net = run.model.G
    x = torch.rand(1, 3, 32, 32, device=GPU)
    net.eval()
    before = net(x)
    apply_autocast(net, "fp16")
    assert torch.equal(net(x), before)  # evaluation is not lowered


@pytest.mark.parametrize("first", ["0", "-1"])
def test_a_run_goes_on_elsewhere(process, first):
    """Trained on one device, continued on the other, and tested on both: the same pictures but for rounding."""
    flags = [*SMALL, "--netG", "resnet_4blocks", "--num_threads", 2, *RUN, "--model", "cycle_gan"]
    other = {"0": "-1", "-1": "0"}[first]
    begun = process("train", *flags, "--gpu_ids", first)
    assert begun.code == 0, begun.err
    assert f"on {'cuda:0' if first == '0' else 'cpu'}" in begun.out
    again = process("train", *flags, "--continue_train", "--n_epochs", 2, "--gpu_ids", other)
    assert again.code == 0, again.err
    assert "epoch: 2" in again.out
    for where in ("0", "-1"):
        done = process("test", "--name", "run", "--gpu_ids", where, "--results_dir", f"results{where}")
        assert done.code == 0, done.err
    pages = [sorted(p for p in Path(f"results{where}").rglob("*.png")) for where in ("0", "-1")]
    assert len(pages[0]) == len(pages[1]) >= 8
    for one, two in zip(*pages):
        assert one.name == two.name
        apart = np.abs(np.asarray(Image.open(one)).astype(int) - np.asarray(Image.open(two)))
        assert apart.max() <= 2 and (apart > 1).mean() < 0.01


def test_the_best_device_is_taken_by_itself(process):
    flags = [word for word in SMALL if word not in ("--gpu_ids", "-1")]
    done = process("train", *flags, "--netG", "resnet_4blocks", *RUN, "--model", "pix2pix")
    assert done.code == 0, done.err
    assert ", on cuda:0, files in" in done.out


def test_the_memory_of_a_step_is_told_of_the_gpu(process):
    done = process("train", *ON_GPU, "--model", "pix2pix", "--netG", "unet_32", *RUN, "--dry_run")
    assert done.code == 0, done.err
    assert "of memory of the GPU" in done.out


def little_memory():
    """Leave this process 40 MB of the GPU."""
    torch.cuda.set_per_process_memory_fraction(40e6 / torch.cuda.get_device_properties(0).total_memory)


def test_too_little_memory_is_one_line_that_names_the_flags(process):
    wide = [*ON_GPU, "--ngf", "64", "--ndf", "64", "--load_size", "256", "--crop_size", "256"]
    done = process("train", *wide, "--model", "pix2pix", *RUN, before=little_memory)
    assert done.code == 5, done.err
    assert done.last.startswith("error: memory 'RAM or GPU': ran out; lower --batch_size")
    assert "--grad_checkpoint" in done.last and "--accumulate" in done.last


def test_pictures_of_one_size_go_together_on_a_gpu():
    """A batch of pictures gives what each gives alone, as `test.py` relies on."""
    run, _, _ = trained("cycle_gan", *ALONE, device=GPU, steps=1)
    net = run.model.G_A.eval()
    x = torch.rand(8, 3, 64, 64, device=GPU) * 2 - 1
    with torch.inference_mode():
        assert torch.allclose(net(x), torch.cat([net(one[None]) for one in x]), rtol=0, atol=BATCHING_TOLERANCE)


def test_a_loss_that_is_no_number_is_found_a_step_later(process, tmp_path):
    """The guard does not wait for a GPU: it judges one step later, and names the step that was bad."""
    (tmp_path / "bad.py").write_text(BAD)
    done = process("train", *ON_GPU, "--plugin", ".", "--model", "bad", *RUN)
    assert done.code == 6, done.err
    assert "loss 'G': is nan in epoch 1, step 2" in done.last


BAD = '''
"""A model whose second loss is no number."""
from torch import nn

from models.base import BaseModel, Phase


class Bad(BaseModel):
    dataset_mode = "aligned"

    def __init__(self, o, spec):
        super().__init__()
        self.G, self.count = nn.Conv2d(3, 3, 1), 0

    def phases(self):
        return [Phase("G", [self.G], self.loss)]

    def forward(self, batch):
        return {"real_A": batch["A"], "fake_B": self.G(batch["A"])}

    def loss(self, batch, out):
        self.count += 1
        return {"G": out["fake_B"].mean() * (float("nan") if self.count == 2 else 1.0)}
'''
