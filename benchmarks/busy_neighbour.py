"""Measure a training step alone and beside a process that keeps one core busy, under several OpenMP settings."""

import contextlib
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.case_table import CYCLE_GAN_FLAGS, SMALL_FLAGS
from benchmarks.harness import stats
from benchmarks.harness.process import CaseProcess

OPENMP_DEFAULT = "GNU OpenMP's default"
SETTINGS: dict[str, dict[str, str]] = {
    OPENMP_DEFAULT: {"GOMP_SPINCOUNT": "300000"},
    "GANvas": {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{f"GOMP_SPINCOUNT={n}": {"GOMP_SPINCOUNT": str(n)} for n in (0, 3000)},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
}
TABLE_HEADS = ["setting", "alone", "of the default", "beside", "ratio"]


def measure_busy_neighbour(quick: bool, rounds: int) -> tuple[dict[str, Any], str]:
    """Return the results of each size and setting, and their tables.

    All processes stay warm. In each round every setting takes a turn alone, then every setting beside the busy process.
    """
    metrics, texts = {}, []
    for title, argv in training_flags(quick).items():
        timings = step_times(argv, dict(list(SETTINGS.items())[: 2 if quick else None]), rounds)
        metrics[title] = {name: summarize(times, timings[OPENMP_DEFAULT]) for name, times in timings.items()}
        rows = [
            [
                name,
                stats.format_seconds(m["alone"]),
                f"{m['of_default']:.2f}",
                stats.format_seconds(m["beside"]),
                f"{m['ratio']:.2f}x",
            ]
            for name, m in metrics[title].items()
        ]
        texts.append(f"{title}:\n\n{stats.markdown_table(TABLE_HEADS, rows)}")
    return metrics, "\n\n".join(texts)


def training_flags(quick: bool) -> dict[str, list[str]]:
    """Return {title: flags of the training}."""
    if quick:
        return {
            "Tiny CycleGAN": ["--model", "cycle_gan", *SMALL_FLAGS, "--ngf", "2", "--ndf", "2", "--dataroot", "demo"]
        }
    flags = [*CYCLE_GAN_FLAGS, "--dataroot", "demo"]
    return {f"CycleGAN 128x128, ngf {ngf}": [*flags, "--ngf", str(ngf), "--ndf", str(ngf)] for ngf in (32, 64)}


def step_times(argv: list[str], settings: dict[str, dict[str, str]], rounds: int) -> dict[str, list[list[float]]]:
    """Return each setting's [seconds alone, seconds beside the busy process], each a list by round."""
    from tempfile import TemporaryDirectory

    timings: dict[str, list[list[float]]] = {name: [[], []] for name in settings}
    with contextlib.ExitStack() as stack:
        processes = {}
        for name, env in settings.items():
            arguments = {"argv": argv, "shared": stack.enter_context(TemporaryDirectory())}
            processes[name] = stack.enter_context(CaseProcess("our_cases:TrainingStep", arguments, name, env=env))
        for _ in range(rounds):
            for name, process in processes.items():
                timings[name][0] += process.time_runs(1)[0]
            with busy_core():
                for name, process in processes.items():
                    timings[name][1] += process.time_runs(1)[0]
    return timings


@contextlib.contextmanager
def busy_core():
    """Keep one core busy in the context."""
    process = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def summarize(times: list[list[float]], default: list[list[float]]) -> dict[str, float]:
    """Return medians: seconds alone and beside, beside / alone, and alone / the default setting's alone."""
    alone, beside = map(statistics.median, times)
    return {"alone": alone, "beside": beside, "ratio": beside / alone,
            "of_default": statistics.median(a / b for a, b in zip(times[0], default[0]))}  # fmt: skip
