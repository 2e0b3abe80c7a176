"""Run tests/fuzz/fuzz.py under its former path."""

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    command = Path(__file__).resolve().parents[1] / "tests/fuzz/fuzz.py"
    sys.exit(subprocess.call([sys.executable, str(command), *sys.argv[1:]]))
