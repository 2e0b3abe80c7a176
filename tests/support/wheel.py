"""Build the package's wheel and unpack it, as pip does where its dependencies are."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from scripts.package_build import room_files
from tests.support.runs import ROOT


def unpacked_wheel(folder: Path) -> Path:
    """Build the wheel in an empty folder, and return the folder of what it installs."""
    names = [path.relative_to(ROOT).as_posix() for path in (ROOT / "ganvas").iterdir() if path.is_file()]
    names += [*room_files(), "pyproject.toml", "README.md", "LICENSE"]
    names += [path.name for path in ROOT.glob("requirements*.txt")]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"
