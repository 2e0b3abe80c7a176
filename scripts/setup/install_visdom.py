"""Ensure that visdom, the optional live-plot server, is in this Python environment.

`pip install -r requirements.txt` installs visdom 0.3 where that works directly. Python 3.11 needs visdom 0.2.4, whose
build needs a setuptools older than 81. This script installs it in a separate pip run, so that the limit applies only to
the build of visdom and torch is not changed. Training works without visdom, so a failure prints one line and the exit
code is still 0.

Usage: python scripts/setup/install_visdom.py
"""

import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

TORNADO_REQUIREMENT = "tornado<6.6"  # with 6.6 or later, visdom's pages answer 403
IMPORT_CHECK = "import tornado, visdom.server.run_server; assert tornado.version_info < (6, 6), tornado.version"


def visdom_works() -> bool:
    """Return whether the visdom server can be imported, with a tornado that it works with."""
    return subprocess.run([sys.executable, "-c", IMPORT_CHECK], capture_output=True, check=False).returncode == 0


def install() -> str:
    """Install the visdom that fits this Python; return the last line of pip's error, or "" on success."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", TORNADO_REQUIREMENT]
    with tempfile.TemporaryDirectory() as folder:
        environment, visdom = dict(os.environ), "visdom>=0.3.0,<0.4"
        if sys.version_info < (3, 12):
            visdom, limit = "visdom==0.2.4", Path(folder, "constraints.txt")
            limit.write_text("setuptools<81\n", encoding="utf-8")
            environment["PIP_CONSTRAINT"] = str(limit)  # older versions of pip apply this one to builds
            environment["PIP_BUILD_CONSTRAINT"] = str(limit)  # newer versions apply this one
        result = subprocess.run([*command, visdom], env=environment, capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else (result.stderr.strip() or "pip failed").splitlines()[-1].strip()


def main() -> None:
    """Install visdom unless it works already, and print the result in one line."""
    error = "" if visdom_works() else install()
    if not error and not visdom_works():
        error = "it does not import"
    if error:
        print(f"visdom: not installed, so no live plots; all else works, and this script can be run again ({error})")
    else:
        print(f"visdom: {metadata.version('visdom')} is installed; make visdom installs the scripts of its page")


if __name__ == "__main__":
    main()
