"""Repeat the tests of processes, browsers and servers beside busy processes: make soak-tests."""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"
ROOT = Path(__file__).resolve().parents[2]
FIXTURES = {"start", "process", "interpreter", "browser"}  # of tests that start a process or a browser
MODULES = {"subprocess", "visdom_servers", "Started", "VisdomServer"}  # what modules of other such tests import


def pytest_collection_modifyitems(config, items):
    """Keep the tests that depend on when a process, a browser or a server gets its turn; pytest calls this."""
    kept = {item: None for item in items if FIXTURES & {*item.fixturenames} or MODULES & vars(item.module).keys()}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = list(kept)


def run_once() -> tuple[str, list[str]]:
    """Run these tests; return pytest's last line and the names of those that failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal", "-m", "not slow"]
    command += ["-p", "tests.soak.repeat", "--ignore=tests/distributed", "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode and not failed:  # such as an error of pytest
        failed = [f"pytest ends with {done.returncode}: {done.stderr[-2000:]}"]
    return (done.stdout.strip().splitlines() or [""])[-1], failed


def main() -> int:
    """Repeat the tests and print each pass; return 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=30, help="passes (default: 30)")
    parser.add_argument("--busy", type=int, default=2, help="busy processes beside the tests (default: 2)")
    o = parser.parse_args()
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(o.busy)]
    failures = 0
    try:
        for number in range(1, o.times + 1):
            begun = time.monotonic()
            last, failed = run_once()
            failures += bool(failed)
            print(f"pass {number}: {last} ({time.monotonic() - begun:.0f} s)", *failed, sep="\n  ", flush=True)
    finally:
        for process in busy:
            process.kill()
    print(f"{o.times - failures} of {o.times} passes without a failure, beside {o.busy} busy processes")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
