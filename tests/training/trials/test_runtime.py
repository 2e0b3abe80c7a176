"""Flags that are auto take what timed steps of copies find fastest; model and random numbers stay as they are."""

import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from inference.model_state import states_equal
from registry.lookup import find
from tests.support.runs import options
from train import train_step
from training.trials import runtime
from training.trials.runtime import apply_fastest, candidates, has_16_bit_units, note_16_bits
from util.seeding import generator_states

CPU, PLAIN = torch.device("cpu"), {"amp": "off", "memory_format": "contiguous"}


@pytest.fixture
def clock(monkeypatch):
    """Replace times of steps: seconds by (amp, memory_format) of the options that a copy was built with."""
    seconds = {("off", "contiguous"): 3.0, ("bf16", "contiguous"): 2.0, ("bf16", "channels_last"): 1.5}
    built = []

    def state(self, values):
        built.append(values)
        trained = real(self, values)
        trained.way = values["amp"], values["memory_format"]
        return trained

    real, step = runtime._Trials._state, runtime._Trials._step
    monkeypatch.setattr(runtime._Trials, "_state", state)
    monkeypatch.setattr(runtime._Trials, "_step", lambda self, trained: step(self, trained) * 0 + seconds[trained.way])
    monkeypatch.setattr(runtime, "has_16_bit_units", lambda device: True)
    return seconds


def prepared(*flags):
    o = options("--model", "pix2pix", "--netG", "unet_32", "--dataroot", "demo", *flags)
    dataset = find("dataset", o.dataset_mode)(o)
    torch.manual_seed(0)
    model = find("model", "pix2pix")(o, dataset.spec())
    item = dataset[0]
    batch = {k: v[None] if torch.is_tensor(v) else [v] for k, v in item.items()}
    return o, model, SimpleNamespace(example_batch=lambda: batch)


def test_a_model_that_cannot_be_tried_trains_plainly(clock, capsys):
    o, model, loader = prepared("--amp", "auto")
    model.G.lock = threading.Lock()  # which cannot be copied
    apply_fastest(train_step, o, model, loader, CPU)
    assert o.amp == "off" and "--amp auto: no trial, because" in capsys.readouterr().out


def test_the_note_of_16_bits_leaves_spectral_norms_alone(monkeypatch):
    monkeypatch.setattr(runtime, "has_16_bit_units", lambda device: True)
    torch.manual_seed(0)
    net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(64, 64, 3)))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    note_16_bits(net, CPU)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_fastest_way_is_taken_and_stored(clock, capsys):
    o, model, loader = prepared("--amp", "auto")
    weights, generators = [p.clone() for p in model.parameters()], generator_states()
    apply_fastest(train_step, o, model, loader, CPU)
    assert (o.amp, o.memory_format, o.compile) == ("bf16", "channels_last", "off")
    line = "--amp auto takes --amp bf16 --memory_format channels_last: 1.5 s a step, 2.00 times as fast as 32 bits"
    assert line in capsys.readouterr().out
    assert all(map(torch.equal, weights, model.parameters())) and states_equal(generators, generator_states())
    weight = model.G.model.model[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)  # what was chosen is applied


def test_what_gains_little_is_not_taken(clock, capsys):
    clock |= {("bf16", "contiguous"): 2.9, ("bf16", "channels_last"): 2.95}
    o, model, loader = prepared("--amp", "auto")
    apply_fastest(train_step, o, model, loader, CPU)
    assert o.amp == "off" and "nothing is faster" in capsys.readouterr().out


def test_a_resumed_run_keeps_what_was_found(monkeypatch):
    monkeypatch.setattr(runtime, "_trial", None)
    o, model, loader = prepared("--amp", "auto")
    o.saved = {"amp": "bf16"}
    apply_fastest(train_step, o, model, loader, CPU)
    assert o.amp == "bf16"


def test_a_device_without_16_bit_units_makes_no_trial(monkeypatch, capsys):
    monkeypatch.setattr(runtime, "has_16_bit_units", lambda device: False)
    o, model, loader = prepared("--amp", "auto")
    apply_fastest(train_step, o, model, loader, CPU)
    assert (
        o.amp == "off" and "note: --amp auto: no trial, because this CPU has no 16-bit units" in capsys.readouterr().out
    )


def test_a_way_that_fails_is_left_out(clock, capsys):
    del clock["bf16", "channels_last"]
    o, model, loader = prepared("--amp", "auto")
    apply_fastest(train_step, o, model, loader, CPU)
    out = capsys.readouterr().out
    assert (o.amp, o.memory_format) == ("bf16", "contiguous")
    assert "note: --amp bf16 --memory_format channels_last fails in the trial" in out


def test_candidates_keep_what_was_given():
    """A GPU tries layouts and compilation too, where they are asked for; 32 bits alone never change on a CPU."""
    cuda = torch.device("cuda")
    assert len(candidates(PLAIN | {"compile": "off"}, {"amp", "memory_format", "compile"}, cuda)) == 7
    assert candidates({"compile": "off"}, {"compile"}, cuda) == [{"compile": "default"}]
    assert candidates({"memory_format": "contiguous"}, {"memory_format"}, CPU) == [{"memory_format": "channels_last"}]
    assert all(v["amp"] == "bf16" for v in candidates(PLAIN, {"amp"}, CPU))
    assert candidates({"amp": "off"}, {"amp"}, CPU) == [{"amp": "bf16"}]


@pytest.mark.parametrize(("gain", "says"), [(2.0, True), (1.1, False)])
def test_a_run_that_would_gain_says_so(gain, says, monkeypatch, capsys):
    monkeypatch.setattr(runtime, "has_16_bit_units", lambda device: True)
    monkeypatch.setattr(runtime, "_conv_seconds", lambda conv, dtype: gain if dtype == torch.float32 else 1.0)
    note_16_bits(nn.Conv2d(64, 64, 3), CPU)
    line = f"note: this CPU computes a convolution of 64 to 64 channels {gain} times as fast in 16 bits; --amp auto"
    assert (line in capsys.readouterr().out) == says


def test_small_layers_and_other_devices_are_not_measured(monkeypatch):
    monkeypatch.setattr(runtime, "_conv_seconds", None)
    note_16_bits(nn.Conv2d(8, 64, 3), CPU)
    note_16_bits(nn.Conv2d(64, 64, 3), torch.device("meta"))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert has_16_bit_units(CPU) and not has_16_bit_units(torch.device("meta"))


def test_times_of_convolutions_are_measured():
    assert runtime._conv_seconds(nn.Conv2d(64, 64, 3), torch.bfloat16) > 0
