"""Make a benchmark case and run it as often as each line of standard input says.

benchmarks/harness/process.py starts it: worker.py MODULE:CLASS HOME SETTINGS. It answers in lines of JSON: first the
case's facts, then the seconds of each run; it answers "peak" with the peak memory.
"""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Make the case, send its facts, and answer requests."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that printed text does not mix with the answers
    case_class, home, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    sys.path[0] = str(ROOT)
    if home == str(ROOT):
        from cli.startup import share_cores  # as every command of ours does

        share_cores()
    else:  # the checkout's packages have the same names as GANvas's and must come first
        sys.path.insert(0, home)
    module, _, name = case_class.partition(":")
    case = getattr(importlib.import_module(f"benchmarks.{module}"), name)(home=home, **settings)
    print(json.dumps(case.facts), file=answers, flush=True)
    for line in sys.stdin:
        answer = peak_memory_mb() if line.strip() == "peak" else time_runs(case, int(line))
        print(json.dumps(answer), file=answers, flush=True)


def time_runs(case: Any, number: int) -> list[float]:
    """Return the seconds of each of `number` runs of a case."""
    seconds = []
    for _ in range(number):
        start = time.perf_counter()
        own_seconds = case.once()  # a number if not all of the time counts
        seconds.append(own_seconds if isinstance(own_seconds, float) else time.perf_counter() - start)
    return seconds


def peak_memory_mb() -> float:
    """Return the peak MB of this process's tensors on a GPU, else of this process or its largest child."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e6
    rows = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    own = next(int(row.split()[1]) for row in rows if row.startswith("VmHWM"))
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


if __name__ == "__main__":
    main()
