"""PyTorch's CPU build is installed where there is no GPU, and nothing else is changed."""

import os
import subprocess
import sys
import venv
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from scripts.setup import install_torch
from tests.support.runs import ROOT


def wheel(folder, name, version):
    """Write a package of one empty module, where a simple index has it."""
    info = f"{name}-{version}.dist-info"
    path = folder / name / f"{name}-{version}-py3-none-any.whl"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}/__init__.py", f"__version__ = '{version}'\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path):
    """The address of an index that has torch and torchvision."""
    for name in ("torch", "torchvision"):
        wheel(tmp_path / "index", name, "99.0+cpu")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "index")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_a_new_environment_gets_the_cpu_build(index, tmp_path):
    """The script runs in an environment of pip alone, as `make` runs it."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    start = "import sys, scripts.setup.install_torch as t; t.has_gpu = bool; t.main(sys.argv[1:])"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | {
        "PIP_CONFIG_FILE": os.devnull
    }
    run = partial(subprocess.run, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    first = run([python, "-c", start, "--index", index]).stdout
    assert first.splitlines()[-1] == "PyTorch: there is no GPU here, so its CPU build is installed"
    shown = run([python, "-c", "import torch, torchvision; print(torch.__version__, torchvision.__version__)"]).stdout
    assert shown.split() == ["99.0+cpu", "99.0+cpu"]
    assert run([python, "-c", start, "--index", "http://127.0.0.1:9"]).stdout == ""  # it is there already


@pytest.mark.parametrize("reason", ["torch", "system", "nvidia-smi", "device"])
def test_elsewhere_nothing_is_installed(reason, monkeypatch, tmp_path, capsys):
    there = {word: word == reason for word in ("torch", "system", "nvidia-smi", "device")}
    monkeypatch.setattr(install_torch, "find_spec", lambda name: there["torch"] or None)
    monkeypatch.setattr(sys, "platform", "darwin" if there["system"] else "linux")
    monkeypatch.setattr(install_torch.shutil, "which", lambda name: name if there["nvidia-smi"] else None)
    monkeypatch.setattr(install_torch, "GPU_FILES", (str(tmp_path),) if there["device"] else ())
    monkeypatch.setattr(install_torch, "install", lambda index: pytest.fail("it installs"))
    install_torch.main([])
    assert capsys.readouterr().out == ""


def test_an_index_out_of_reach_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(install_torch, "find_spec", lambda name: None)
    monkeypatch.setattr(install_torch, "has_gpu", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    install_torch.main(["--index", "http://127.0.0.1:9"])
    line = capsys.readouterr().out
    assert line.startswith("PyTorch: its CPU build is not to be had from http://127.0.0.1:9 (")
    assert line.endswith("); pip gets the usual one, of several GB\n") and line.count("\n") == 1
