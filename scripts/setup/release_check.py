"""Check a release: its versions agree, wheel and sdist build, and both pass the public tests in an empty environment.

It copies what git knows, builds from the copy, and makes an environment of its own in a temporary folder (1.5 GB with
PyTorch's CPU build). Other tests are those of `make test`.

Usage: python scripts/setup/release_check.py
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSION = r"(\d+\.\d+\.\d+\S*)"
PLACES = {  # file: how it states the version
    "ganvas/__init__.py": rf'(?m)^__version__ = "{VERSION}"',
    "CHANGELOG.md": rf"(?m)^## {VERSION}",  # the first one
    "CITATION.cff": rf"(?m)^version: {VERSION}",
}
DYNAMIC = 'version = {attr = "ganvas.__version__"}'  # in pyproject.toml


class ReleaseError(Exception):
    """The reason why this cannot be released."""


def version(root: Path) -> str:
    """Return the version that all files state; raise ReleaseError if they differ."""
    stated = {name: re.search(pattern, (root / name).read_text("utf-8")) for name, pattern in PLACES.items()}
    found = {name: match[1] if match else "no version" for name, match in stated.items()}
    if len(set(found.values())) > 1:
        raise ReleaseError("versions differ: " + ", ".join(f"{name} has {text}" for name, text in found.items()))
    if DYNAMIC not in (root / "pyproject.toml").read_text("utf-8"):
        raise ReleaseError(f"pyproject.toml does not take its version from ganvas/__init__.py: {DYNAMIC}")
    return found["CHANGELOG.md"]


def run(*words: object, **more: object) -> None:
    """Run a command; raise ReleaseError if it fails."""
    if subprocess.run([str(word) for word in words], check=False, **more).returncode:  # type: ignore[call-overload]
        raise ReleaseError(f"failed: {' '.join(map(str, words))}")


def copy_tracked(target: Path) -> None:
    """Copy the files that git knows, so that a file which was not added is missing here too."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in map(os.fsdecode, listed.split(b"\0")[:-1]):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)


def make_environment(folder: Path) -> Path:
    """Make an empty environment; return its Python."""
    venv.create(folder, with_pip=True)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def build(source: Path, folder: Path) -> list[Path]:
    """Build the sdist, and from it the wheel, in an environment of their own; return both."""
    python = make_environment(folder / "builder")
    pip_install(python, "build")
    run(python, "-m", "build", "--outdir", folder / "dist", source, cwd=folder)
    shutil.rmtree(folder / "builder")
    return [next((folder / "dist").glob(ending)) for ending in ("*.whl", "*.tar.gz")]


def pip_install(python: Path, *words: object) -> None:
    """Install packages without a look at the version of pip."""
    run(python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", *words)


def try_in_empty_environment(packages: list[Path], folder: Path) -> None:
    """Install each package and run the public tests; the second one finds what it depends on in place."""
    python = make_environment(folder / "empty")
    run(python, ROOT / "scripts" / "setup" / "install_torch.py", cwd=folder)
    pip_install(python, "ipykernel")  # in which the notebooks run
    for number, package in enumerate(packages):
        pip_install(python, *(("--force-reinstall", "--no-deps") if number else ()), package)
        run(python, "-m", "pip", "check")
        run(python.with_name("ganvas" + python.suffix), "list", cwd=folder, stdout=subprocess.DEVNULL)
        run(sys.executable, "-m", "pytest", "-q", "-m", "public", "tests", "--installed", python, cwd=ROOT)
        print(f"{package.name}: works in an empty environment", flush=True)


def main() -> int:
    """Check everything; return 0 if it can be released, else print in one line why not."""
    try:
        print(f"version {version(ROOT)} in {', '.join(PLACES)}", flush=True)
        with tempfile.TemporaryDirectory(prefix="ganvas_release_") as temporary:
            folder = Path(temporary)
            copy_tracked(folder / "source")
            try_in_empty_environment(build(folder / "source", folder), folder)
    except ReleaseError as problem:
        print(f"release-check: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
