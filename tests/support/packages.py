"""Which optional packages are installed, and the mark of tests that need one."""

import importlib.util

import pytest


def is_installed(package: str) -> bool:
    """Whether an optional package is there; a folder of its name, as runs of the reference leave one, is none."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def needs(*packages: str):
    """A mark for tests of real packages that `make extras` installs: without them the tests are skipped."""
    missing = [package for package in packages if not is_installed(package)]
    skipped = pytest.mark.skipif(bool(missing), reason=f"not installed ({', '.join(missing)}): make extras")
    return lambda test: pytest.mark.extras(skipped(test))
