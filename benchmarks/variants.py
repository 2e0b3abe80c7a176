"""What the flags for less time and less memory do to a training step: each way in turns with the plain one."""

import gc
import statistics
import time
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.case_table import CYCLE, TINY
from benchmarks.harness import stats
from benchmarks.harness.process import Side, Warm, in_turns

LIMIT = 200  # seconds after which no further way is begun on a GPU: with the cases it stays within eight minutes
TURN = 0.5  # seconds that a turn takes at least
PLAIN = ["--amp", "off", "--memory_format", "contiguous", "--compile", "off"]
LAST, LOW, BOTH = "--memory_format channels_last", "--amp bf16", "--amp bf16 --memory_format channels_last"
LESS, COMPILED = ["--grad_checkpoint", "--accumulate 4"], "--compile default"
ON_CPU = [LOW, LAST, *LESS, COMPILED]
ON_GPU = {  # model and batch: its ways; what compiles comes late, for it takes long
    ("cycle_gan", 8): [LAST, LOW, BOTH, f"--amp fp16 {LAST}", *LESS],
    ("pix2pix", 64): [LAST, LOW, BOTH],
    ("pix2pix", 1): [LAST, LOW, BOTH, "--compile reduce-overhead"],
    ("cycle_gan", 1): [LAST, LOW, BOTH, "--compile reduce-overhead", COMPILED],
}
NOTE = """Plain is 32 bits, contiguous, without flags; both take turns. GFLOP/s count what is computed, so what
`--grad_checkpoint` and `--accumulate` compute twice counts twice."""
HEADS = ["training", "with", "time of a step", "plain", "ratio", "peak MB", "plain", "GFLOP/s"]


def trainings(device: int, quick: bool) -> dict[str, tuple[list[str], list[str]]]:
    """Return what is trained, and in which ways: on a GPU at its usual sizes, on a CPU smaller."""
    if quick:
        return {"pix2pix, tiny": (["--model", "pix2pix", *TINY, "--batch_size", "4"], ON_CPU)}
    if device < 0:
        argv = [*CYCLE, "--ngf", "32", "--ndf", "32", "--batch_size", "4"]
        return {"CycleGAN 128x128, ngf 32, batch 4": (argv, ON_CPU)}
    return {f"{model} 256x256, batch {batch}": (["--model", model, "--batch_size", str(batch)], ways)
            for (model, batch), ways in ON_GPU.items()}  # fmt: skip


def measured(device: int, quick: bool, rounds: int) -> tuple[dict[str, Any], str]:
    """Return the figures of each training and way, and their table; what fails (want of memory) is told there."""
    began, found, rows = time.monotonic(), {}, []
    for title, (argv, ways) in trainings(device, quick).items():
        way = "plain"
        try:
            with TemporaryDirectory() as folder, opened([*argv, *PLAIN], device, folder, way) as plain:
                times = max(1, round(TURN / plain.times(1)[0][0]))
                for way in ways:
                    if device >= 0 and time.monotonic() - began > LIMIT:
                        rows.append(told(title, way, "not measured: out of time"))
                        continue
                    try:
                        figure = beside(plain, [*argv, *PLAIN, *way.split()], device, way, rounds, times)
                    except Exception as problem:  # the other ways are to be known all the same
                        rows.append(told(title, way, stats.failed(problem)))
                        continue
                    found[f"{title}, {way}"] = figure
                    rows.append([title, f"`{way}`", *row(figure)])
                    print(" | ".join(rows[-1]), flush=True)
        except Exception as problem:  # and the other trainings
            rows.append(told(title, way, stats.failed(problem)))
    return found, f"{NOTE}\n\n{stats.table(HEADS, rows)}"


def told(title: str, way: str, why: str) -> list[str]:
    """Return the line of a way that has no figures."""
    return [title, f"`{way}`", why, *[""] * (len(HEADS) - 3)]


class Here:
    """A step measured in this process: a GPU's memory is counted by what is made, and processes take long to start."""

    def __init__(self, argv: list[str], device: int, folder: str, name: str):
        import torch

        from benchmarks.our_cases import Step

        before, self.name = torch.cuda.memory_allocated(device), name
        self.step = Step("", argv, folder, device)
        torch.cuda.reset_peak_memory_stats(device)  # cuDNN's search took room of its own
        self.times(2)
        self.memory, self.facts = (torch.cuda.max_memory_allocated(device) - before) / 1e6, self.step.facts

    def times(self, number: int) -> tuple[list[float], float]:
        """Return the seconds of so many steps."""
        seconds = []
        for _ in range(number):
            began = time.perf_counter()
            self.step.once()
            seconds.append(time.perf_counter() - began)
        return seconds, 0.0

    def most(self) -> float:
        """Return the most memory it had on the GPU, in MB."""
        return self.memory

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None:
        import torch

        del self.step
        gc.collect()
        torch._dynamo.reset()
        torch.cuda.empty_cache()


def opened(argv: list[str], device: int, folder: str, name: str) -> Warm:
    """Return a training's step with these flags, warm."""
    argv = [*argv, "--dataroot", "demo"]
    if device >= 0:
        return Here(argv, device, folder, name)
    return Side("our_cases:Step", {"argv": argv, "shared": folder}, name)


def beside(plain: Warm, flags: list[str], device: int, way: str, rounds: int, times: int) -> dict[str, float]:
    """Return the figures of a way, measured in turns with the plain one."""
    with TemporaryDirectory() as folder, opened(flags, device, folder, way) as side:
        medians = stats.medians(in_turns([plain, side], rounds, times))
        seconds = statistics.median(medians[way])
        return {"seconds": seconds, "plain_seconds": statistics.median(medians["plain"]),
                "ratio": stats.ratio(medians["plain"], medians[way]), "peak_mb": side.most(),
                "plain_peak_mb": plain.most(), "flops_per_second": side.facts["flops"] / seconds}  # fmt: skip


def row(figure: dict[str, float]) -> list[str]:
    """Return what a line of the table says of a way."""
    return [stats.in_time(figure["seconds"]), stats.in_time(figure["plain_seconds"]), f"{figure['ratio']:.2f}x",
            f"{figure['peak_mb']:.0f}", f"{figure['plain_peak_mb']:.0f}",
            f"{figure['flops_per_second'] / 1e9:.0f}"]  # fmt: skip
