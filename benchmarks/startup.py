"""Measure how soon --help of both commands ends, and how long `import torch` takes, each in a fresh process.

python benchmarks/startup.py [ROUNDS]
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "torch": ["-c", "import torch"],
    "train --help": ["train.py", "--help"],
    "test --help": ["test.py", "--help"],
}


def measure(rounds: int = 5) -> dict[str, float]:
    """Return the median seconds of each command; they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, words in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def main():
    """Print a line for each command."""
    for name, seconds in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 5).items():
        print(f"{name:14} {seconds:.2f} s")


if __name__ == "__main__":
    main()
