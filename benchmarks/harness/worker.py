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
        if line.strip() == "peak":
            print(json.dumps(peak_memory_mb()), file=answers, flush=True)
            continue
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            own_seconds = case.once()  # set if not all of the time counts
            seconds.append(own_seconds if isinstance(own_seconds, float) else time.perf_counter() - start)
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


def peak_memory_mb() -> dict[str, float]:
    """Return peak MB: "host" of this process or its largest child, "gpu" of this process's tensors."""
    rows = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    own = next(int(row.split()[1]) for row in rows if row.startswith("VmHWM"))
    torch = sys.modules.get("torch")
    gpu = torch.cuda.max_memory_allocated() if torch and torch.cuda.is_initialized() else 0
    return {"host": max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024, "gpu": gpu / 1e6}


if __name__ == "__main__":
    main()
