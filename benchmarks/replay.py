"""Replay recorded traces of the reference: runs tests/parity/replay.py, which moved there; the old command works on."""

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    command = Path(__file__).resolve().parents[1] / "tests/parity/replay.py"
    sys.exit(subprocess.call([sys.executable, str(command), *sys.argv[1:]]))
