"""Install PyTorch's CPU build where there is no GPU: a fifth of the download and disk space of the usual Linux build.

It runs before `pip install -r requirements.txt`, which keeps what is installed. Where there is a GPU, on other systems
than Linux, or if the index of CPU builds does not answer, it installs nothing: then pip gets the usual build.

Usage: python scripts/setup/install_torch.py [--index URL]
"""

import argparse
import shutil
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements.txt"
GPU_FILES = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, Windows' Linux
TIMEOUT_S = 10  # seconds for the index to answer; pip alone would try for a minute and more


def has_gpu() -> bool:
    """Return whether this machine seems to have a GPU that a build of PyTorch for Linux can use."""
    return shutil.which("nvidia-smi") is not None or any(Path(path).exists() for path in GPU_FILES)


def install(index: str) -> str:
    """Install torch and torchvision from an index; return an error in one line, or "" on success."""
    wanted = [line.partition("#")[0].strip() for line in REQUIREMENTS.read_text("utf-8").splitlines()]
    wanted = [requirement for requirement in wanted if requirement.startswith("torch")]
    try:
        urllib.request.urlopen(f"{index}/torch/", timeout=TIMEOUT_S).close()
    except OSError as problem:
        return str(problem)
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--index-url", index, *wanted]
    return "" if subprocess.run(pip, check=False).returncode == 0 else "pip failed"


def main(argv: list[str]) -> None:
    """Install the CPU build if it is the right one here, and print in one line what was done; never fail."""
    command = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    command.add_argument("--index", default=CPU_INDEX, metavar="URL", help="index of wheels (default: %(default)s)")
    index = command.parse_args(argv).index
    if find_spec("torch") or sys.platform != "linux" or has_gpu():
        return
    if error := install(index):
        print(f"PyTorch: its CPU build is not to be had from {index} ({error}); pip gets the usual one, of several GB")
    else:
        print("PyTorch: there is no GPU here, so its CPU build is installed")


if __name__ == "__main__":
    main(sys.argv[1:])
