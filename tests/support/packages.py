"""Find installed optional packages and mark the tests that need one; build our own package."""

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.package_build import room_files
from tests.support.runs import ROOT


def is_installed(package: str) -> bool:
    """Return whether an optional package is installed; a folder of its name (runs of the reference make one) is not."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def marks(*packages: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a case of packages that `make extras` installs; it is skipped without them."""
    missing = [package for package in packages if not is_installed(package)]
    skip = pytest.mark.skipif(bool(missing), reason=f"not installed ({', '.join(missing)}): make extras")
    return [pytest.mark.extras, skip]


def needs(*packages: str):
    """Mark a test of packages that `make extras` installs; it is skipped without them."""
    extras, skip = marks(*packages)
    return lambda test: extras(skip(test))


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
