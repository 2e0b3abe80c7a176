"""Measure the speed and memory of GANvas: python benchmarks/bench.py [--reference DIR] [--cases NAME ...].

Each case runs in a separate process, which stays warm. The two sides of a case (GANvas and, with --reference, your
checkout of junyanz/pytorch-CycleGAN-and-pix2pix) take turns and never run at once, so that other load on the machine
affects both. Times are medians of the rounds, ratios are medians of each round's ratio. If both sides train, their
first steps start from the same weights and images; a ratio is given only if their float64 losses agree to 1e-6.
A step's utilisation is its FLOP/s (FLOPs as torch counts them) divided by those of the fastest convolution, which is
measured in turns with it. See --help for the other flags.
"""

import contextlib
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import variants
from benchmarks.case_table import Case, make_cases
from benchmarks.harness import stats
from benchmarks.harness.process import OURS, ROOT, THEIRS, CaseProcess, Turn, time_interleaved
from cli.main import run_command
from cli.script import Command, positive
from util.errors import DataError, EnvironmentFault, OptionError, print_line
from util.spelling import nearest

GPU_TIME_LIMIT_S = 170  # no new case starts on a GPU after this time; with the ways this takes at most 6 minutes
PERFORMANCE_PAGE = ROOT / "docs" / "performance.md"
REFERENCE_FILES = ["train.py", "test.py", "models/base_model.py", "options/train_options.py", "data/__init__.py"]
TABLE_HEADS = ["case", "time", "reference", "ratio", "peak MB", "reference MB", "GFLOP", "GFLOP/s", "of the peak",
               "others"]  # fmt: skip


def measure_case(case: Case, reference: Path | None, rounds: int, peak: CaseProcess) -> dict[str, Any]:
    """Return a case's results in seconds per item, MB and FLOP/s; `peak` takes turns with it if FLOPs are counted."""
    sides = [("our_cases", OURS, ROOT)]
    if reference and case.compared:
        sides.append(("reference_cases", THEIRS, reference))
    with tempfile.TemporaryDirectory() as shared, contextlib.ExitStack() as stack:

        def start(kind: str, module: str, name: str, home: Path) -> CaseProcess:
            settings = case.arguments | {"shared": shared}
            return stack.enter_context(CaseProcess(f"{module}:{kind}", settings, name, home))

        losses = {}
        if len(sides) > 1 and case.counts_flops:
            for side in sides:  # in extra processes, which do not affect the memory of the timed ones
                with start("StepLosses", *side) as process:
                    losses[process.name] = process.facts
        processes = [start(case.kind, *side) for side in sides]
        timings = time_interleaved([*processes, peak] if case.counts_flops else processes, rounds, case.repeats)
        peaks_mb = [process.peak_mb() for process in processes]
    facts = {process.name: process.facts | losses.get(process.name, {}) for process in processes}
    items, medians = facts[OURS]["items"], stats.round_medians(timings)
    seconds = statistics.median(medians[OURS])
    metrics: dict[str, Any] = {"seconds": seconds / items, "items": items, "rounds": rounds, "peak_mb": peaks_mb[0]}
    metrics["others"] = statistics.median(others for turns in timings.values() for _, others in turns)
    if THEIRS in facts:
        metrics |= compare_to_reference(facts, medians, items, case.tolerance)
        metrics["reference_peak_mb"] = peaks_mb[1]
    if case.counts_flops:
        metrics |= utilisation(facts[OURS], seconds, peak.facts, timings[peak.name])
    return metrics


def compare_to_reference(facts: Any, medians: dict[str, list[float]], items: int, tolerance: float) -> dict[str, Any]:
    """Return the reference's time, its ratio to ours and the difference of the losses; no ratio if that is too big."""
    difference = max_relative_difference(*(facts[side].get("numbers", []) for side in (OURS, THEIRS)))
    ratio = stats.median_ratio(medians[THEIRS], medians[OURS])
    seconds, equal = statistics.median(medians[THEIRS]) / items, difference <= tolerance
    return {"reference_seconds": seconds, "difference": difference, "equal": equal, "ratio": ratio if equal else None}


def max_relative_difference(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> float:
    """Return the largest relative difference between numbers of the same name; inf if one is missing."""
    largest = 0.0
    for one, other in zip(ours, theirs, strict=True):
        for name, value in other.items():
            difference = abs(one.get(name, math.nan) - value) / max(abs(value), 1e-6)
            largest = max(largest, math.inf if math.isnan(difference) else difference)
    return largest


def utilisation(step: dict[str, Any], seconds: float, peak: dict[str, Any], turns: list[Turn]) -> dict[str, float]:
    """Return a step's FLOPs per image, its FLOP/s, and their share of the fastest convolution's FLOP/s."""
    rate, peak_rate = step["flops"] / seconds, peak["flops"] / min(second for times, _ in turns for second in times)
    rates = {"flops_per_second": rate, "peak_flops_per_second": peak_rate, "utilisation": rate / peak_rate}
    return {"flops": step["flops"] / step["items"]} | rates


def gpu_name(device: int) -> str:
    """Return the name of a CUDA device; raise EnvironmentFault if it does not exist."""
    import torch

    if device >= torch.cuda.device_count():
        raise EnvironmentFault("GPU", str(device), "does not exist", "run this where torch.cuda.is_available()")
    return torch.cuda.get_device_name(device)


def check_reference(home: Path) -> None:
    """Raise OptionError if a folder is not a checkout of the reference."""
    missing = [name for name in REFERENCE_FILES if not (home / name).is_file()]
    if missing:
        why = f"is not a checkout of junyanz/pytorch-CycleGAN-and-pix2pix: it has no {missing[0]}"
        raise OptionError("option", f"--reference {home}", why, "name the folder that contains its train.py")


def table_row(title: str, metrics: dict[str, Any]) -> list[str]:
    """Return a case's row of the table."""

    def cell(name: str, format_value: Any) -> str:
        return format_value(metrics[name]) if metrics.get(name) is not None else ""

    ratio = cell("ratio", lambda r: f"{r:.2f}x")
    if metrics.get("equal") is False:
        ratio = f"numbers differ by {metrics['difference']:.1g}"
    return [title, stats.format_seconds(metrics["seconds"]), cell("reference_seconds", stats.format_seconds), ratio,
            cell("peak_mb", "{:.0f}".format), cell("reference_peak_mb", "{:.0f}".format),
            cell("flops", lambda n: f"{n / 1e9:.3g}"), cell("flops_per_second", lambda n: f"{n / 1e9:.1f}"),
            cell("utilisation", "{:.0%}".format), f"{metrics['others']:.2f}"]  # fmt: skip


def select_cases(names: list[str], quick: bool, device: int = -1) -> dict[str, Case]:
    """Return the cases with these names, or all; raise OptionError for an unknown name."""
    cases = make_cases(quick, device)
    for name in names:
        if name not in cases:
            near = nearest(name, list(cases))
            remedy = f"did you mean {near}?" if near else "see --help"
            raise OptionError("option", f"--cases {name}", "is not a case", remedy)
    return {name: cases[name] for name in names or cases}


def make_parser() -> Command:
    """Return the command line."""
    command = Command(__file__, __doc__)
    command.add_argument("--cases", nargs="+", default=[], metavar="NAME", help=f"from {', '.join(make_cases(False))}")
    command.add_switch("--quick", "tiny sizes and two rounds, to check that it runs")
    command.add_argument("--rounds", type=positive, help="number of turns of each side (default: 7)")
    command.add_argument("--reference", type=Path, metavar="DIR", help="a checkout of the reference, measured in turns")
    command.add_switch("--scaling", "instead: growth of time and memory, with exponents")
    command.add_switch("--ways", "instead: effect of flags on time and memory of a step")
    text = "a CUDA device: training steps, test.py, and --ways (default: the CPU)"
    command.add_argument("--gpu_ids", type=int, default=-1, metavar="ID", help=text)
    command.add_argument("--json", type=Path, metavar="FILE", help="also write all results there")
    command.add_switch("--write", f"also write the table into docs/{PERFORMANCE_PAGE.name}")
    return command


def measure_cases(o: Any, rounds: int) -> tuple[dict[str, Any], str]:
    """Return the results of the selected cases and their table; on a GPU a failed or late one has a row with why."""
    cases, metrics, rows = select_cases(o.cases, o.quick, o.gpu_ids), {}, []
    start, peaks = time.monotonic(), {}
    with contextlib.ExitStack() as stack:
        for name, case in cases.items():
            if o.gpu_ids >= 0 and time.monotonic() - start > GPU_TIME_LIMIT_S:
                rows.append([case.title, "not measured: out of time"])
                continue
            dtype = "bfloat16" if case.is_16_bit and o.gpu_ids >= 0 else "float32"
            try:
                if dtype not in peaks:
                    settings = {"device": o.gpu_ids, "dtype": dtype}
                    peaks[dtype] = stack.enter_context(CaseProcess("our_cases:PeakConvolution", settings, "peak"))
                metrics[name] = measure_case(case, o.reference, rounds, peaks[dtype])
            except DataError as problem:  # mostly out of memory
                if o.gpu_ids < 0:
                    raise
                rows.append([case.title, stats.failure_text(problem)])
                continue
            rows.append(table_row(case.title, metrics[name]))
            print_line(" ".join(filter(None, [name, *rows[-1][1:]])))
    return metrics, stats.markdown_table(TABLE_HEADS, rows)


def main(argv, report):
    """Measure what the flags select; print its table and write it if asked."""
    # Read and check the flags.
    o = make_parser().parse_argv(argv)
    rounds = o.rounds or (2 if o.quick else 7)
    if o.reference:
        check_reference(o.reference)
        o.reference = o.reference.resolve()
    machine, gpu_prefix = stats.machine_info(), ""
    if o.gpu_ids >= 0 and o.scaling:
        raise OptionError("option", "--gpu_ids", "works only with training steps and --ways", "omit it")
    if o.ways and (o.cases or o.reference):
        raise OptionError("option", "--ways", "excludes --cases and --reference", "measure them one after the other")
    if o.gpu_ids >= 0:
        machine, gpu_prefix = machine | {"gpu": gpu_name(o.gpu_ids)}, "gpu_"

    # Measure.
    if o.scaling:
        from benchmarks import scaling

        tables = {"scaling": scaling.measure_scaling(o.cases, o.quick, rounds)}
    else:
        tables = {} if o.ways else {f"{gpu_prefix}cases": measure_cases(o, rounds)}
        if o.ways or (o.gpu_ids >= 0 and not o.cases):
            tables[f"{gpu_prefix}ways"] = variants.measure_variants(o.gpu_ids, o.quick, rounds)

    # Print and write the tables.
    for mark, (_, text) in tables.items():
        text = f"{stats.headline(machine)}\n\n{text}"
        print(f"\n{text}")
        if o.write:
            stats.write_between(PERFORMANCE_PAGE, mark, text)
    if o.json:
        report_json = {"machine": machine} | {mark: metrics for mark, (metrics, _) in tables.items()}
        o.json.write_text(json.dumps(report_json, indent=1) + "\n", encoding="utf-8")
    metrics_by_name = {name: each for metrics, _ in tables.values() for name, each in metrics.items()}
    differing = [name for name, metrics in metrics_by_name.items() if metrics.get("equal") is False]
    if differing:
        why = f"computes other losses in {', '.join(differing)}"
        raise DataError("reference", o.reference, why, "use an unchanged checkout of the released version")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
