"""Find installed optional packages, and mark the tests that need one."""

import importlib.util

import pytest


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
