"""The process of one side of a measurement: makes a case, then does it as often as it reads on its standard input.

Started by benchmarks/harness/process.py: worker.py MODULE:CLASS HOME SETTINGS. It answers in lines of JSON: first what
the case says of itself, then the seconds of each time it did it; "peak" is answered by the most memory there was.
"""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Make the case, say what it says of itself, and serve."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anybody prints is no answer
    case_class, home, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    sys.path[0] = str(ROOT)
    if home == str(ROOT):
        from cli.openmp import share_cores  # as every command of ours does

        share_cores()
    else:  # a checkout's packages have the names of ours: its own come first
        sys.path.insert(0, home)
    module, _, name = case_class.partition(":")
    case = getattr(importlib.import_module(f"benchmarks.{module}"), name)(home=home, **settings)
    print(json.dumps(case.facts), file=answers, flush=True)
    for line in sys.stdin:
        if line.strip() == "peak":
            print(json.dumps(peak_memory_mb()), file=answers, flush=True)
            continue
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            own_seconds = case.once()  # the seconds themselves, where not all it does counts
            seconds.append(own_seconds if isinstance(own_seconds, float) else time.perf_counter() - start)
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


def peak_memory_mb() -> dict[str, float]:
    """Return the most memory this process or one of its children had, and its tensors on a GPU, in MB."""
    rows = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    own = next(int(row.split()[1]) for row in rows if row.startswith("VmHWM"))
    torch = sys.modules.get("torch")
    gpu = torch.cuda.max_memory_allocated() if torch and torch.cuda.is_initialized() else 0
    return {"host": max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024, "gpu": gpu / 1e6}


if __name__ == "__main__":
    main()
