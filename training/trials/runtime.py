"""Choose --amp auto, --compile auto and --memory_format auto by timing steps of copies, and apply what was chosen."""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from inference.model_state import ModelWatch
from networks.runtime.apply import apply_runtime_options
from training.train_state import TrainState, TrainStep
from util import ranks
from util.device import to_device
from util.errors import first_line, print_line
from util.seeding import generator_states, restore_generators

FLAGS = ("amp", "memory_format", "compile")
PLAIN = {"amp": "off", "memory_format": "contiguous", "compile": "off"}
MIN_GAIN = 1.05  # of a step's speed; less is within the noise of a measurement
TURNS, SHORT_TRIAL_S = 3, 20.0  # turns of each candidate; after so long one turn must do
MIN_NOTED_GAIN, NOTED_CHANNELS, NOTED_PRODUCTS = 1.3, 64, 2e8  # of a convolution in 16 bits; see note_16_bits
BF16 = "bf16"


def apply_fastest(train_step: TrainStep, o: Any, model: Any, loader: Any, device: torch.device) -> None:
    """Apply the run-time options to a model's networks; flags that are auto get the values that a trial found fastest.

    A trial takes place with --amp auto, and on CUDA with --compile auto or a given --memory_format auto. It trains
    copies; random numbers and the model stay as they are. Ways that are not 5 % faster are not taken. The values are
    stored with the run, so that a resumed run goes on with them.
    """
    asked = {"amp"} if o.amp == "auto" else set()
    if device.type == "cuda":
        asked |= {flag for flag in FLAGS[1:] if getattr(o, flag) == "auto" and flag in o.given}
    if asked and (kept := {flag: o.saved.get(flag, "auto") for flag in asked}) and "auto" not in kept.values():
        _set(o, kept)
        print_line(f"note: {_names(asked)} auto: the run goes on with what it began with, {_text(kept)}")
    elif asked:
        _set(o, _trial(train_step, o, model, loader, device, asked))
    elif o.amp == "off" and "amp" not in o.given:
        note_16_bits(model, device)
    apply_runtime_options(model.networks(), o, device)


def _trial(
    train_step: TrainStep, o: Any, model: Any, loader: Any, device: torch.device, asked: set[str]
) -> dict[str, str]:
    """Return the fastest values of the flags asked for, and say what was measured."""
    plain = {flag: PLAIN[flag] for flag in FLAGS if getattr(o, flag) == "auto"}
    if why := _why_no_trial(o, model, device, asked):
        print_line(f"note: {_names(asked)} auto: no trial, because {why}")
        return plain
    with _unchanged_generators():
        trials = _Trials(train_step, o, model, to_device(loader.example_batch(), device), device)
        try:
            best, gain, seconds = plain, 1.0, trials.plain_seconds(plain)
        except Exception as problem:  # such as a model that cannot be copied, or too little memory for a copy
            print_line(f"note: {_names(asked)} auto: no trial, because a step of a copy fails ({first_line(problem)})")
            return plain
        for values in candidates(plain, asked, device):
            try:
                ratio, took = trials.compare(values)
            except Exception as problem:  # such as too little memory, or a compiler that fails
                print_line(f"note: {_text(values)} fails in the trial ({first_line(problem)})")
                continue
            if ratio > max(gain, MIN_GAIN):
                best, gain, seconds = values, ratio, took
    what = f"{_text(best)}: {seconds:.3g} s a step, {gain:.2f} times as fast as {_text(plain)}"
    print_line(f"{_names(asked)} auto takes {what if best != plain else _text(plain) + ': nothing is faster'}")
    return best


def candidates(plain: dict[str, str], asked: set[str], device: torch.device) -> list[dict[str, str]]:
    """Return the values of flags that a trial compares with the plain ones."""
    found = []
    for amp in ("off", BF16) if "amp" in asked else (plain.get("amp"),):
        for layout in ("contiguous", "channels_last") if "memory_format" in plain else (None,):
            for mode in ("off", "default") if "compile" in asked else (plain.get("compile"),):
                values = {"amp": amp, "memory_format": layout, "compile": mode}
                found.append({flag: value for flag, value in values.items() if value is not None and flag in plain})
    on_cpu = device.type == "cpu"  # where channels_last pays with 16 bits alone
    return [v for v in found if v != plain and not (on_cpu and v.get("amp") == "off")]


class _Trials:
    """Times steps of copies of a model on one batch, each in turns with the plain one."""

    def __init__(self, train_step: TrainStep, o: Any, model: Any, batch: Any, device: torch.device):
        self.train_step, self.o, self.model, self.batch, self.device = train_step, o, model, batch, device
        self.began = time.monotonic()

    def plain_seconds(self, plain: dict[str, str]) -> float:
        """Return the time of a plain step, after one that warms up."""
        self.plain = self._state(plain)
        self._step(self.plain)
        return self._step(self.plain)

    def compare(self, values: dict[str, str]) -> tuple[float, float]:
        """Return how many times as fast as a plain step one with these values is, and its seconds; shortest times."""
        state = self._state(values)
        self._step(state)
        times: list[tuple[float, float]] = []
        while len(times) < TURNS and not (times and time.monotonic() - self.began > SHORT_TRIAL_S):
            times.append((self._step(self.plain), self._step(state)))
        ours, plain = (min(each) for each in reversed(list(zip(*times, strict=True))))
        return plain / ours, ours

    def _state(self, values: dict[str, str]) -> TrainState:
        changed = copy.copy(self.o)
        _set(changed, values | {"cuda_graphs": "off"})
        twin = copy.deepcopy(self.model).to(self.device)
        apply_runtime_options(twin.networks(), changed, self.device)
        return TrainState.from_options(twin, changed)

    def _step(self, state: TrainState) -> float:
        began = time.perf_counter()
        self.train_step(state, self.batch, state.now(0))  # in which all phases are due
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began


def _why_no_trial(o: Any, model: Any, device: torch.device, asked: set[str]) -> str:
    if ranks.world_size() > 1:
        return "several processes could find different answers"
    if asked == {"amp"} and not has_16_bit_units(device):
        return f"this {device.type.upper()} has no 16-bit units"
    return "" if ModelWatch(model).copyable else "the model cannot be copied"


def has_16_bit_units(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32: AMX or AVX512-BF16 of a CPU, most CUDA devices."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = [vars(torch.cpu).get(name) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")]
    return device.type == "cpu" and any(probe() for probe in probes if probe)


def note_16_bits(model: Any, device: torch.device) -> None:
    """Print how much faster the heaviest convolution is in 16 bits, if that is much and the CPU has units for it.

    It takes less than a tenth of a second, and nothing where there are no such units or only small layers.
    """
    if device.type != "cpu" or not has_16_bit_units(device):
        return
    layers = [part for part in model.modules() if isinstance(part, nn.Conv2d) and part.groups == 1]
    large = [c for c in layers if min(c.in_channels, c.out_channels) >= NOTED_CHANNELS]
    if not large:
        return
    heaviest = max(large, key=lambda c: math.prod(_weight_shape(c)))
    with _unchanged_generators():
        gain = _conv_seconds(heaviest, torch.float32) / _conv_seconds(heaviest, torch.bfloat16)
    if gain >= MIN_NOTED_GAIN:
        size = f"{heaviest.in_channels} to {heaviest.out_channels} channels"
        why = f"this CPU computes a convolution of {size} {gain:.1f} times as fast in 16 bits"
        print_line(f"note: {why}; --amp auto tries that on some steps, and takes it if it gains")


def _conv_seconds(conv: nn.Conv2d, dtype: torch.dtype) -> float:
    """Return the shortest time of a convolution, forward and backward, of maps that cost about NOTED_PRODUCTS."""
    shape = _weight_shape(conv)
    side = max(8, round((NOTED_PRODUCTS / math.prod(shape)) ** 0.5))
    x = torch.zeros(1, conv.in_channels, side, side, dtype=dtype, requires_grad=True)
    weight = torch.zeros(shape, dtype=dtype, requires_grad=True)
    times = []
    for _ in range(2):
        began = time.perf_counter()
        F.conv2d(x, weight, padding=1).sum().backward()
        times.append(time.perf_counter() - began)
    return min(times)


def _weight_shape(conv: nn.Conv2d) -> tuple[int, ...]:
    """Return the shape of a weight without reading it, which would train the vectors of a spectral norm."""
    return conv.out_channels, conv.in_channels, *conv.kernel_size


def _set(o: Any, values: dict[str, str]) -> None:
    for flag, value in values.items():
        setattr(o, flag, value)


def _names(asked: set[str]) -> str:
    return ", ".join(f"--{flag}" for flag in FLAGS if flag in asked)


def _text(values: dict[str, str]) -> str:
    on = [f"--{flag} {value}" for flag, value in values.items() if value != PLAIN[flag]]
    return " ".join(on) or "32 bits"


@contextmanager
def _unchanged_generators() -> Iterator[None]:
    """Restore all random generators after the block."""
    states = generator_states()
    try:
        yield
    finally:
        restore_generators(states)
