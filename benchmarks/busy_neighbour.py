"""A training step alone and beside one process that wants a core, under several settings of the OpenMP threads."""

import contextlib
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.case_table import CYCLE, SMALL
from benchmarks.harness import stats
from benchmarks.harness.process import Side

DEFAULT = "GNU OpenMP's default"
SETTINGS: dict[str, dict[str, str]] = {
    DEFAULT: {"GOMP_SPINCOUNT": "300000"},
    "GANvas": {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{f"GOMP_SPINCOUNT={n}": {"GOMP_SPINCOUNT": str(n)} for n in (0, 1000, 2000)},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
}
HEADS = ["setting", "alone", "of the default", "beside", "ratio"]


def measured(quick: bool, rounds: int) -> tuple[dict[str, Any], str]:
    """Return the figures of each size and setting, and their tables.

    All processes stay warm; in each round every setting has its turn alone, then all of them beside the busy process.
    """
    found, texts = {}, []
    for title, argv in sizes(quick).items():
        taken = step_times(argv, dict(list(SETTINGS.items())[: 2 if quick else None]), rounds)
        found[title] = {name: summary(times, taken[DEFAULT]) for name, times in taken.items()}
        rows = [[name, stats.in_time(f["alone"]), f"{f['of_default']:.2f}", stats.in_time(f["beside"]),
                 f"{f['ratio']:.2f}x"] for name, f in found[title].items()]  # fmt: skip
        texts.append(f"{title}:\n\n{stats.table(HEADS, rows)}")
    return found, "\n\n".join(texts)


def sizes(quick: bool) -> dict[str, list[str]]:
    """Return what is trained."""
    if quick:
        return {"Tiny CycleGAN": ["--model", "cycle_gan", *SMALL, "--ngf", "2", "--ndf", "2", "--dataroot", "demo"]}
    return {f"CycleGAN 128x128, ngf {ngf}": [*CYCLE, "--ngf", str(ngf), "--ndf", str(ngf), "--dataroot", "demo"]
            for ngf in (32, 64)}  # fmt: skip


def step_times(argv: list[str], settings: dict[str, dict[str, str]], rounds: int) -> dict[str, list[list[float]]]:
    """Return each setting's seconds, [alone, beside] by round."""
    from tempfile import TemporaryDirectory

    taken: dict[str, list[list[float]]] = {name: [[], []] for name in settings}
    with contextlib.ExitStack() as stack:
        sides = {}
        for name, env in settings.items():
            made_of = {"argv": argv, "shared": stack.enter_context(TemporaryDirectory())}
            sides[name] = stack.enter_context(Side("our_cases:Step", made_of, name, env=env))
        for _ in range(rounds):
            for name, side in sides.items():
                taken[name][0] += side.times(1)[0]
            with busy():
                for name, side in sides.items():
                    taken[name][1] += side.times(1)[0]
    return taken


@contextlib.contextmanager
def busy():
    """Keep a core busy meanwhile."""
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


def summary(times: list[list[float]], default: list[list[float]]) -> dict[str, float]:
    """Return medians: alone and beside in seconds, against the default's alone, and beside against alone."""
    alone, beside = map(statistics.median, times)
    return {"alone": alone, "beside": beside, "ratio": beside / alone,
            "of_default": statistics.median(a / b for a, b in zip(times[0], default[0]))}  # fmt: skip
