"""Measure how many pictures a second test.py translates after its first one, and how soon the first one is there.

python benchmarks/testing.py --dataroot FOLDER --name RUN [flags of test.py]
"""

import os
import sys
import time
from pathlib import Path

START = time.perf_counter()
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def measure(*argv: str) -> dict[str, float]:
    """Return the figures of one test.py in this process, which must be fresh; times are seconds from its start.

    A picture is done when its last file has its name; what follows the last one (pages) counts too.
    """
    import torch  # noqa: F401

    torch_loaded = time.perf_counter() - START
    from test import main
    from util.report import guarded

    done: dict[str, float] = {}  # the time of each input's last file
    real = os.replace

    def replaced(source, target):
        real(source, target)
        if str(target).endswith(".png"):
            done[Path(target).name.partition("_")[0]] = time.perf_counter() - START

    os.replace = replaced  # type: ignore[assignment]
    try:
        code = guarded(main, [str(word) for word in argv])
    finally:
        os.replace = real
    end = time.perf_counter() - START
    if code or not done:
        sys.exit(code or "test.py saved no pictures")
    first = min(done.values())
    rate = (len(done) - 1) / (end - first)
    return {"torch": torch_loaded, "first": first, "end": end, "pictures": len(done), "rate": rate}


def main():
    """Measure the test.py of the command line and print a line."""
    found = measure(*sys.argv[1:])
    print(", ".join(f"{name} {value:.2f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
