"""What the flags for less time and less memory do to a training step: each way in turns with the plain one."""

import statistics
import time
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import figures
from benchmarks.plan import CYCLE, TINY
from benchmarks.sides import Side, in_turns
from util.errors import EnvironmentFault

LIMIT = 400  # seconds after which no further way is begun: with the last one it stays within eight minutes
PLAIN = ["--amp", "off", "--memory_format", "contiguous", "--compile", "off"]
WAYS = {
    "--amp bf16": ["--amp", "bf16"],
    "--memory_format channels_last": ["--memory_format", "channels_last"],
    "--grad_checkpoint": ["--grad_checkpoint"],
    "--accumulate 4": ["--accumulate", "4"],
    "--compile default": ["--compile", "default"],
}
CUDA = {
    "--amp fp16": ["--amp", "fp16"],
    "--amp bf16 --memory_format channels_last": ["--amp", "bf16", "--memory_format", "channels_last"],
    "--amp bf16 --memory_format channels_last --compile default": [
        "--amp", "bf16", "--memory_format", "channels_last", "--compile", "default"],
}  # fmt: skip
HEADS = ["training", "with", "time of a step", "of the plain one's speed", "peak MB", "GFLOP/s"]


def check(device: int) -> str:
    """Return the name of a CUDA device, "the CPU" for -1; EnvironmentFault if there is none."""
    import torch

    if device < 0:
        return "the CPU"
    if device >= torch.cuda.device_count():
        raise EnvironmentFault("GPU", str(device), "is not there", "run this where torch.cuda.is_available()")
    return torch.cuda.get_device_name(device)


def trainings(device: int, quick: bool) -> dict[str, list[str]]:
    """Return what is trained: on a GPU at its usual sizes, on a CPU smaller."""
    if quick:
        return {"pix2pix, tiny": ["--model", "pix2pix", *TINY, "--batch_size", "4"]}
    if device < 0:
        argv = [*CYCLE, "--ngf", "32", "--ndf", "32", "--batch_size", "4"]
        return {"CycleGAN 128x128, ngf 32, batch 4": argv}
    return {f"{model} 256x256, batch {batch}": ["--model", model, "--batch_size", str(batch)]
            for model, batch in (("pix2pix", 4), ("cycle_gan", 4), ("pix2pix", 64))}  # fmt: skip


def measured(device: int, quick: bool, rounds: int) -> tuple[dict[str, Any], str]:
    """Return the figures of each training and way, and their table."""
    began, found, rows = time.monotonic(), {}, []
    name, ways = check(device), WAYS | (CUDA if device >= 0 else {})
    for title, argv in trainings(device, quick).items():
        with TemporaryDirectory() as folder, _side([*argv, *PLAIN], device, folder, "plain") as plain:
            for way, more in ways.items():
                if time.monotonic() - began > LIMIT and device >= 0:
                    rows.append([title, way, "not measured: out of time", "", "", ""])
                    continue
                with TemporaryDirectory() as other, _side([*argv, *PLAIN, *more], device, other, way) as side:
                    figure = _beside(plain, side, rounds, 2 if quick or device < 0 else 10)
                found[f"{title}, {way}"] = figure
                rows.append(_row(title, f"`{way}`", figure))
                print(" | ".join(rows[-1]), flush=True)
            rows.append([title, "nothing", "", "", f"{_peak(plain):.0f}", ""])
    text = f"On {name}; above 1 is faster than fp32 in contiguous tensors, without any of these flags."
    return found, f"{text}\n\n{figures.table(HEADS, rows)}"


def _side(argv: list[str], device: int, folder: str, name: str) -> Side:
    return Side("cases:Step", {"argv": [*argv, "--dataroot", "demo"], "shared": folder, "device": device}, name)


def _peak(side: Side) -> float:
    found = side.peak()
    return found["gpu"] or found["host"]


def _beside(plain: Side, side: Side, rounds: int, times: int) -> dict[str, float]:
    """Return the figures of a way, measured in turns with the plain one."""
    medians = figures.medians(in_turns([plain, side], rounds, times))
    seconds = statistics.median(medians[side.name])
    return {"seconds": seconds, "ratio": figures.ratio(medians["plain"], medians[side.name]), "peak_mb": _peak(side),
            "flops_per_second": side.facts["flops"] / seconds}  # fmt: skip


def _row(title: str, way: str, figure: dict[str, float]) -> list[str]:
    return [title, way, figures.in_time(figure["seconds"]), f"{figure['ratio']:.2f}x", f"{figure['peak_mb']:.0f}",
            f"{figure['flops_per_second'] / 1e9:.0f}"]  # fmt: skip
