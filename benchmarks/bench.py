"""Measure GANvas: python benchmarks/bench.py [--reference DIR] [--cases NAME ...]; others: see --help.

Every case runs in a process of its own, which stays warm; the two sides of a case (GANvas, and with --reference a
checkout of junyanz/pytorch-CycleGAN-and-pix2pix of yours) take turns, never at once, so that a busy machine is busy for
both. Times are medians of rounds, ratios medians of each round's ratio. Where both sides train, their first steps start
from the same weights and pictures and their losses in 64 bits have to agree to 1e-6, or no ratio is given. A step's
utilisation is the FLOPs that torch counts for it over the FLOP/s of the fastest convolution, measured in turns with it.
"""

import contextlib
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from benchmarks import variants
from benchmarks.case_table import Case, plan
from benchmarks.harness import stats
from benchmarks.harness.process import OURS, THEIRS, Side, in_turns, open_all
from cli.main import guarded
from cli.script import Command, positive
from util.errors import DataError, EnvironmentFault, OptionError, say
from util.spelling import nearest

PAGE = ROOT / "docs" / "performance.md"
NEEDED = ["train.py", "test.py", "models/base_model.py", "options/train_options.py", "data/__init__.py"]
HEADS = ["case", "time", "reference", "ratio", "peak MB", "reference MB", "GFLOP", "GFLOP/s", "of the peak", "others"]


def measure(case: Case, reference: Path | None, rounds: int, peak: Side) -> dict[str, Any]:
    """Return the figures of a case, in seconds an item, MB and FLOP/s; `peak` has its turns where FLOPs are counted."""
    with tempfile.TemporaryDirectory() as shared, contextlib.ExitStack() as stack:
        makers = [(case.maker, case.settings(shared), OURS, ROOT)]
        if reference and case.theirs:
            makers.append((case.theirs, case.settings(shared), THEIRS, reference))
        numbers = told(case, shared, reference) if reference and case.numbers else {}
        sides = [stack.enter_context(side) for side in open_all(makers)] + [peak] * case.computes
        taken = in_turns(sides, rounds, case.times)
        facts = {side.name: side.facts | numbers.get(side.name, {}) for side in sides}
        items = facts[OURS]["items"]
        medians = stats.medians(taken)
        found: dict[str, Any] = {"seconds": statistics.median(medians[OURS]) / items, "items": items, "rounds": rounds,
                                 "peak_mb": sides[0].most()}  # fmt: skip
        found["others"] = statistics.median(others for turns in taken.values() for _, others in turns)
        if THEIRS in facts:
            found |= beside(facts, medians, items, case.within) | {"reference_peak_mb": sides[1].most()}
        if case.computes:
            found |= used(facts, found["seconds"] * items, taken["peak"])
    return found


def told(case: Case, shared: str, reference: Path) -> dict[str, dict[str, Any]]:
    """Return the numbers of both sides, each from a process of its own, whose memory is not that of what is timed."""
    found = {}
    for module, name, home in (("our_cases", OURS, ROOT), ("reference_cases", THEIRS, reference)):
        with Side(f"{module}:{case.numbers}", case.settings(shared), name, home) as side:
            found[name] = side.facts
    return found


def beside(facts: dict[str, Any], medians: dict[str, list[float]], items: int, within: float) -> dict[str, Any]:
    """Return the reference's time, the ratio to ours, and how far the numbers differ; no ratio if they do."""
    far = difference(facts[OURS].get("numbers", []), facts[THEIRS].get("numbers", []))
    ratio = stats.ratio(medians[THEIRS], medians[OURS])
    return {"reference_seconds": statistics.median(medians[THEIRS]) / items, "difference": far, "equal": far <= within,
            "ratio": ratio if far <= within else None}  # fmt: skip


def difference(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> float:
    """Return the largest relative difference between numbers of the same name; infinite if one is missing."""
    far = 0.0
    for one, other in zip(ours, theirs, strict=True):
        for name, value in other.items():
            got = one.get(name, float("nan"))
            apart = abs(got - value) / max(abs(value), 1e-6)
            far = max(far, apart if apart == apart else float("inf"))
    return far


def used(facts: dict[str, Any], seconds: float, peak: list[tuple[list[float], float]]) -> dict[str, float]:
    """Return the FLOPs of a picture in a step, its FLOP/s, and what share of the fastest convolution's that is."""
    best = facts["peak"]["flops"] / min(second for seconds, _ in peak for second in seconds)
    rate = facts[OURS]["flops"] / seconds
    return {"flops": facts[OURS]["flops"] / facts[OURS]["items"], "flops_per_second": rate,
            "peak_flops_per_second": best, "utilisation": rate / best}  # fmt: skip


def gpu(device: int) -> str:
    """Return the name of a CUDA device; EnvironmentFault if there is none of this number."""
    import torch

    if device >= torch.cuda.device_count():
        raise EnvironmentFault("GPU", str(device), "is not there", "run this where torch.cuda.is_available()")
    return torch.cuda.get_device_name(device)


def check_reference(home: Path) -> None:
    """Raise OptionError if a folder is no checkout of the reference."""
    missing = [name for name in NEEDED if not (home / name).is_file()]
    if missing:
        why = f"is no checkout of junyanz/pytorch-CycleGAN-and-pix2pix: it has no {missing[0]}"
        raise OptionError("option", f"--reference {home}", why, "name the folder that holds its train.py")


def row(title: str, found: dict[str, Any]) -> list[str]:
    """Return a case's line of the table."""

    def shown(name: str, how: Any) -> str:
        return how(found[name]) if found.get(name) is not None else ""

    ratio = shown("ratio", lambda r: f"{r:.2f}x")
    if found.get("equal") is False:
        ratio = f"numbers differ by {found['difference']:.1g}"
    return [title, stats.in_time(found["seconds"]), shown("reference_seconds", stats.in_time), ratio,
            shown("peak_mb", "{:.0f}".format), shown("reference_peak_mb", "{:.0f}".format),
            shown("flops", lambda n: f"{n / 1e9:.3g}"), shown("flops_per_second", lambda n: f"{n / 1e9:.1f}"),
            shown("utilisation", "{:.0%}".format), f"{found['others']:.2f}"]  # fmt: skip


def chosen(names: list[str], quick: bool, device: int = -1) -> dict[str, Case]:
    """Return the cases that were asked for; OptionError for a name that is none."""
    every = plan(quick, device)
    for name in names:
        if name not in every:
            near = nearest(name, list(every))
            raise OptionError("option", f"--cases {name}", "is no case",
                              f"did you mean {near}?" if near else "see --help")  # fmt: skip
    return {name: every[name] for name in names or every}


def flags() -> Command:
    """Return the command line."""
    command = Command(__file__, __doc__)
    command.add_argument("--cases", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(plan(False))}")
    command.add_argument("--quick", action="store_true", help="tiny sizes and two rounds: whether it runs, no figures")
    command.add_argument("--rounds", type=positive, help="how often the sides take turns (default: 7)")
    command.add_argument("--reference", type=Path, metavar="DIR", help="a checkout of the reference, measured beside")
    command.add_argument("--scaling", action="store_true", help="instead: how time and memory grow, with exponents")
    command.add_argument("--neighbour", action="store_true", help="instead: a step beside a process that wants a core")
    command.add_argument("--ways", action="store_true", help="instead: what flags do for time and memory of a step")
    command.add_argument("--gpu_ids", type=int, default=-1, metavar="ID",
                         help="a CUDA device: steps of training alone, and --ways too (default: the CPU)")  # fmt: skip
    command.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    command.add_argument("--write", action="store_true", help=f"also write the table into docs/{PAGE.name}")
    return command


def compared(o: Any, rounds: int) -> tuple[dict[str, Any], str]:
    """Return the figures of the cases that were asked for, and their table; on a GPU what fails is told there."""
    cases, found, rows = chosen(o.cases, o.quick, o.gpu_ids), {}, []
    with Side("our_cases:Peak", {"device": o.gpu_ids}, "peak") as peak:
        for name, case in cases.items():
            try:
                found[name] = measure(case, o.reference, rounds, peak)
            except DataError as problem:
                if o.gpu_ids < 0:
                    raise
                rows.append([case.title, stats.failed(problem), *[""] * (len(HEADS) - 2)])  # for want of memory
                continue
            rows.append(row(case.title, found[name]))
            say(" ".join(filter(None, [name, *rows[-1][1:]])))
    return found, stats.table(HEADS, rows)


def main(argv, report):
    """Measure what was asked for; print, and write, its table."""
    o = flags().read(argv)
    report.debug = o.debug
    rounds = o.rounds or (2 if o.quick else 7)
    if o.reference:
        check_reference(o.reference)
        o.reference = o.reference.resolve()
    of, on = stats.machine(), ""
    if o.gpu_ids >= 0 and (o.scaling or o.neighbour):
        raise OptionError("option", "--gpu_ids", "goes with training steps and --ways", "leave it out")
    if o.ways and (o.cases or o.reference):
        raise OptionError(
            "option", "--ways", "goes without --cases and --reference", "measure them one after the other"
        )
    if o.gpu_ids >= 0:
        of, on = of | {"gpu": gpu(o.gpu_ids)}, "gpu_"
    if o.scaling:
        from benchmarks import scaling

        done = {"scaling": scaling.measured(o.cases, o.quick, rounds)}
    elif o.neighbour:
        from benchmarks import busy_neighbour

        done = {"neighbour": busy_neighbour.measured(o.quick, rounds)}
    else:
        done = {} if o.ways else {f"{on}cases": compared(o, rounds)}
        if o.ways or (o.gpu_ids >= 0 and not o.cases):
            done[f"{on}ways"] = variants.measured(o.gpu_ids, o.quick, rounds)
    for mark, (_, text) in done.items():
        text = f"{stats.headline(of)}\n\n{text}"
        print(f"\n{text}")
        if o.write:
            stats.write_between(PAGE, mark, text)
    if o.json:
        every = {"machine": of} | {mark: found for mark, (found, _) in done.items()}
        o.json.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")
    differing = [name for found, _ in done.values() for name, one in found.items() if one.get("equal") is False]
    if differing:
        raise DataError("reference", o.reference, f"computes other numbers in {', '.join(differing)}",
                        "take a checkout of the released version, without changes")  # fmt: skip


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
