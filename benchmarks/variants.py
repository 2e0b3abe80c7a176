"""Measure how flags for less time or memory affect a training step, each in turns with a plain step."""

import gc
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.case_table import CYCLE_GAN_FLAGS, TINY_FLAGS
from benchmarks.harness import stats, worker
from benchmarks.harness.process import CaseProcess, TimedCase, Turn, time_interleaved

GPU_TIME_LIMIT_S = 130  # no new variant starts on a GPU after this time; with the cases this takes at most 6 minutes
MIN_TURN_S = 0.5  # the shortest time of a turn
PLAIN_FLAGS = "--amp off --memory_format contiguous --compile off --cuda_graphs off".split()
CHANNELS_LAST, BF16 = "--memory_format channels_last", "--amp bf16"
BF16_CHANNELS_LAST = f"{BF16} {CHANNELS_LAST}"
GRAPHS = "--cuda_graphs on"
LOW_MEMORY, COMPILED = ["--grad_checkpoint", "--accumulate 4"], "--compile default"
CPU_VARIANTS = [BF16, BF16_CHANNELS_LAST, CHANNELS_LAST, *LOW_MEMORY, COMPILED]
GPU_VARIANTS = {  # (model, batch size): variants; those that compile come last, because they take long
    ("cycle_gan", 1): [GRAPHS, f"{BF16_CHANNELS_LAST} {GRAPHS}", CHANNELS_LAST, BF16, BF16_CHANNELS_LAST],
    ("pix2pix", 1): [GRAPHS, f"{BF16_CHANNELS_LAST} {GRAPHS}", CHANNELS_LAST, BF16, BF16_CHANNELS_LAST],
    ("cycle_gan", 8): [GRAPHS, CHANNELS_LAST, BF16, BF16_CHANNELS_LAST, f"--amp fp16 {CHANNELS_LAST}", *LOW_MEMORY],
    ("pix2pix", 64): [CHANNELS_LAST, BF16, BF16_CHANNELS_LAST],
    ("pix2pix", 2): ["--compile reduce-overhead", COMPILED],
    ("cycle_gan", 2): ["--compile reduce-overhead", COMPILED],
}
NOTE = """Plain is float32, contiguous and without flags; both take turns. GFLOP/s count all FLOPs computed, so
what `--grad_checkpoint` and `--accumulate` compute twice counts twice."""
TABLE_HEADS = ["training", "with", "time of a step", "plain", "ratio", "peak MB", "plain", "GFLOP/s"]


def trainings(device: int, quick: bool) -> dict[str, tuple[list[str], list[str]]]:
    """Return {title: (flags of the training, its variants)}: the usual sizes on a GPU, smaller ones on a CPU."""
    if quick:
        return {"pix2pix, tiny": (["--model", "pix2pix", *TINY_FLAGS, "--batch_size", "4"], CPU_VARIANTS)}
    if device < 0:
        argv = ["--model", "cycle_gan", *CYCLE_GAN_FLAGS]
        small = [*argv, *"--ngf 32 --ndf 32 --batch_size 4".split()]
        sixteen_bits = [BF16, BF16_CHANNELS_LAST]
        return {
            "CycleGAN 128x128, ngf 32, batch 4": (small, CPU_VARIANTS),
            "CycleGAN 128x128, ngf 64": (argv, sixteen_bits),
        }
    return {
        f"{model} 256x256, batch {batch}": (["--model", model, "--batch_size", str(batch)], variants)
        for (model, batch), variants in GPU_VARIANTS.items()
    }


def measure_variants(device: int, quick: bool, rounds: int) -> tuple[dict[str, Any], str]:
    """Return the results of each training and variant, and their table; a failed one has a row with its error."""
    start, metrics, rows = time.monotonic(), {}, []

    @contextmanager
    def failure_as_row(title: str, variant: str) -> Iterator[None]:
        try:
            yield
        except Exception as problem:  # so that the others are still measured
            rows.append([title, f"`{variant}`", stats.failure_text(problem)])

    for title, (argv, flag_sets) in trainings(device, quick).items():
        argv = [*argv, *PLAIN_FLAGS]
        with failure_as_row(title, "plain"), TemporaryDirectory() as folder, open_case(argv, device, folder) as plain:
            repeats = max(1, round(MIN_TURN_S / plain.time_runs(1)[0][0]))
            for variant in flag_sets:
                if device >= 0 and time.monotonic() - start > GPU_TIME_LIMIT_S:
                    rows.append([title, f"`{variant}`", "not measured: out of time"])
                    continue
                with failure_as_row(title, variant):
                    case_argv = [*argv, *variant.split()]
                    variant_metrics = compare_to_plain(plain, case_argv, device, variant, rounds, repeats)
                    metrics[f"{title}, {variant}"] = variant_metrics
                    rows.append([title, f"`{variant}`", *table_row(variant_metrics)])
                    print(" | ".join(rows[-1]), flush=True)
    return metrics, f"{NOTE}\n\n{stats.markdown_table(TABLE_HEADS, rows)}"


class LocalCase(TimedCase):
    """A step measured in this process, because torch counts GPU memory by its tensors and processes start slowly."""

    def __init__(self, argv: list[str], device: int, folder: str, name: str):
        import torch

        from benchmarks.our_cases import TrainingStep

        before, self.name = torch.cuda.memory_allocated(device), name
        self.step = TrainingStep("", argv, folder, device)
        torch.cuda.reset_peak_memory_stats(device)  # because cuDNN's search for algorithms used extra memory
        self.time_runs(2)
        self.gpu_peak_mb, self.facts = (torch.cuda.max_memory_allocated(device) - before) / 1e6, self.step.facts

    def time_runs(self, number: int) -> Turn:
        return worker.time_runs(self.step, number), 0.0  # the load of other processes is not measured

    def peak_mb(self) -> float:
        return self.gpu_peak_mb

    def close(self) -> None:
        import torch

        del self.step
        gc.collect()
        torch._dynamo.reset()
        torch.cuda.empty_cache()


def open_case(argv: list[str], device: int, folder: str, name: str = "plain") -> TimedCase:
    """Return a warm training step with these flags."""
    argv = [*argv, "--dataroot", "demo"]
    if device >= 0:
        return LocalCase(argv, device, folder, name)
    return CaseProcess("our_cases:TrainingStep", {"argv": argv, "shared": folder}, name)


def compare_to_plain(
    plain: TimedCase, flags: list[str], device: int, variant: str, rounds: int, repeats: int
) -> dict[str, float]:
    """Return the results of a variant, measured in turns with the plain step."""
    with TemporaryDirectory() as folder, open_case(flags, device, folder, variant) as case:
        medians = stats.round_medians(time_interleaved([plain, case], rounds, repeats))
        seconds = statistics.median(medians[variant])
        return {"seconds": seconds, "plain_seconds": statistics.median(medians["plain"]),
                "ratio": stats.median_ratio(medians["plain"], medians[variant]), "peak_mb": case.peak_mb(),
                "plain_peak_mb": plain.peak_mb(), "flops_per_second": case.facts["flops"] / seconds}  # fmt: skip


def table_row(metrics: dict[str, float]) -> list[str]:
    """Return a variant's cells of the table."""
    return [stats.format_seconds(metrics["seconds"]), stats.format_seconds(metrics["plain_seconds"]),
            f"{metrics['ratio']:.2f}x", f"{metrics['peak_mb']:.0f}", f"{metrics['plain_peak_mb']:.0f}",
            f"{metrics['flops_per_second'] / 1e9:.0f}"]  # fmt: skip
