"""scripts/draw.py serves a page on this machine alone, with files from the cache, and needs no package."""

import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import pytest

from cli.main import run_command
from inference.export.web_runtime import FILES, PACKAGE
from scripts import draw
from tests.support.runs import ROOT

NO_PACKAGES = """import runpy, sys
sys.path[:] = [path for path in sys.path if "site-packages" not in path]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@contextmanager
def killed_at_end(process):
    try:
        yield
    finally:
        process.kill()


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The folder of a page without its runtime, whose files are in a cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cached = tmp_path / "cache/ganvas/npm" / PACKAGE
    cached.mkdir(parents=True)
    for file in FILES:
        (cached / file.rpartition("/")[2]).write_text(f"the content of {file}")
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "generator.onnx").write_bytes(b"weights")
    (folder / "index.html").write_text("a page")
    return folder


def test_a_page_is_served_without_any_package_until_ctrl_c(page):
    argv = [sys.executable, "-c", NO_PACKAGES, ROOT / "scripts/draw.py", "--page", page, "--port", "0", "--no_browser"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # where the tests run in the background
    with subprocess.Popen(list(map(str, argv)), preexec_fn=hears, **pipes) as process, killed_at_end(process):
        first = process.stdout.readline()
        address, get = first.split()[0], build_opener(ProxyHandler({})).open
        assert first.endswith("shows the page; Ctrl-C ends it\n")
        assert get(f"{address}/").read() == b"a page" and get(f"{address}/generator.onnx").read() == b"weights"
        name = FILES[0].rpartition("/")[2]
        answer = get(f"{address}/runtime/{name}")
        assert answer.read().decode() == f"the content of {FILES[0]}"
        assert answer.headers["Content-Type"] == "text/javascript"
        for outside in ("runtime/../../cache", "runtime/other.mjs", "../cache"):
            with pytest.raises(HTTPError, match="404"):
                get(f"{address}/{outside}")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130 and process.stdout.read() == ""
        assert process.stderr.read() == "stopped by Ctrl-C\n"


def test_what_is_wrong_is_one_line(page, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        used = other.getsockname()[1]
        for argv, said in [
            (["--page", page, "--port", used], f"port '{used}': cannot be used (Address already in use)"),
            (["--page", page, "--port", 70000], "ports are 0 to 65535"),
            (["--page", tmp_path / "none"], "there is no such folder; write one: python scripts/export.py"),
            (["--page", tmp_path], "holds no page of a generator"),
        ]:
            code = run_command(draw.main, [*map(str, argv), "--no_browser"])
            err = capsys.readouterr().err
            assert code in (2, 3, 5) and err.count("\n") == 1 and said in err
