"""Run tests/soak/soak.py under its former path."""

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.exit(subprocess.call([sys.executable, Path(__file__).parents[1] / "tests/soak/soak.py", *sys.argv[1:]]))
