"""Local visdom servers for tests: a real one, and fakes that misbehave.

VISDOM_PYTHON=/path/to/python runs the real server with another Python, and so with another version of visdom.
"""

import base64
import contextlib
import importlib.util
import io
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.runs import SMALL
from tests.support.training_runs import DEMO

place = SMALL.index("--display_id")  # this flag turns visdom off
FEW = [*SMALL[:place], *SMALL[place + 2 :], *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", 2,
       "--n_epochs_decay", 0, "--max_dataset_size", 3, "--print_freq", 1, "--display_freq", 1]  # fmt: skip
LONG = [*FEW, "--n_epochs", 100_000]  # the test stops it
PYTHON = os.environ.get("VISDOM_PYTHON", sys.executable)
NOT_THERE = "visdom is not installed: python scripts/setup/install_visdom.py"


def free_port():
    """Return a free local port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(address, path, body):
    """Return the server's answer to a JSON request as text, None if there is no answer."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.read().decode()
    except (OSError, urllib.error.HTTPError):
        return None


def about(text):
    """Return the lines of a run's output about live plots."""
    return [line for line in text.splitlines() if "visdom" in line or "live plots" in line]


class RealServer:
    """A visdom server in a separate process, which keeps its port when it is restarted."""

    def __init__(self, folder, path=""):
        if sys.executable == PYTHON and importlib.util.find_spec("visdom") is None:
            pytest.skip(NOT_THERE)
        self.folder, self.port, self.starts = folder, free_port(), 0
        self.path = path
        self.address = f"http://127.0.0.1:{self.port}{path}"
        self.start()

    def start(self):
        """Start the server without saved environments and wait until it answers."""
        self.starts += 1
        memory = self.folder / f"memory{self.starts}"
        memory.mkdir()
        command = [PYTHON, "-c", "from visdom.server.run_server import main; main()", "-port", str(self.port)]
        command += ["-base_url", self.path] if self.path else []
        with open(self.folder / "log.txt", "a+") as log:
            self.process = subprocess.Popen(
                [*command, "-bind_local", "-env_path", f"{memory}/"], stdout=log, stderr=log, cwd=self.folder
            )
            deadline = time.monotonic() + 90
            while ask(self.address, "/win_exists", {"win": "x"}) != "false":
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.1)
                assert self.process.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()

    def stop(self):
        """Kill the server."""
        self.process.kill()
        self.process.wait()

    def memory(self):
        """Return its resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def windows(self, env, complete, seconds=60):
        """Wait until the windows of an environment satisfy `complete`, or for `seconds`; return them."""
        return windows(self.address, env, complete, seconds)

    def on(self, env):
        """Return the flags that send a run's plots to this server."""
        return ["--display_server", "http://127.0.0.1", "--display_port", self.port, "--display_env", env]


def needs_page_scripts():
    """Skip the test if the scripts of visdom's page are not installed."""
    code = "import importlib.util as u; print(u.find_spec('visdom').origin)"
    found = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(NOT_THERE)
    if not Path(found.stdout.strip()).with_name("static").joinpath("js", "plotly-plotly.min.js").is_file():
        pytest.skip("the scripts of visdom's page are not installed: python scripts/setup/visdom_scripts.py")


def windows(address, env, complete, seconds=60):
    """Wait until `complete(windows)` holds for an environment's windows, or for `seconds`; return the windows."""
    deadline = time.monotonic() + seconds
    while True:
        text = ask(address, "/win_data", {"eid": env, "win": None})
        found = json.loads(text) if text and text.startswith("{") else {}
        if complete(found) or time.monotonic() > deadline:
            return found
        threading.Event().wait(0.05)


def lines(window):
    """Return {loss: (x, y)} of a window with curves."""
    return {trace["name"]: (trace["x"], trace["y"]) for trace in window["content"]["data"]}


def shown(window):
    """Return the pixels of a window with an image."""
    kind, _, data = window["content"]["src"].partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def has(window, points):
    """Return a condition for `windows`: every curve of a window has `points` points."""
    return lambda found: window in found and {len(x) for x, _ in lines(found[window]).values()} == {points}


class Fake:
    """A local server that answers each connection with a function in a new thread."""

    def __init__(self, answer):
        def handle(handler):
            self.hits.release()
            with contextlib.suppress(OSError):
                answer(handler.request, self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = allow_reuse_address = True
            block_on_close = False

        self.hits = threading.Semaphore(0)
        self.released = threading.Event()  # set at the end of the test, when a server that never stops must stop
        self.sent = 0
        handlers = type("Handler", (socketserver.BaseRequestHandler,), {"handle": handle})
        self.server = Server(("127.0.0.1", 0), handlers)
        self.port = self.server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.flags = ["--display_server", "http://127.0.0.1", "--display_port", self.port]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextlib.contextmanager
def fakes():
    """Yield `fake(answer)`, which starts a server; stop all servers at the end."""
    started = []

    def start(answer):
        started.append(Fake(answer))
        return started[-1]

    try:
        yield start
    finally:
        for one in started:
            one.close()
        for thread in threading.enumerate():  # wait for the senders, so that what they print belongs to this test
            if thread.name == "visdom":
                thread.join(5)


def http(status, body, *headers):
    """Return a function that answers each request with valid HTTP."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]

    def answer(connection, fake):
        connection.recv(65536)
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return answer


def never(connection, fake):
    """Accept the connection and never answer."""
    fake.released.wait(100)


def dripping(connection, fake):
    """Send 1 GiB byte by byte."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    while not fake.released.wait(0.05):
        connection.sendall(b"x")


def dripping_from_the_start(connection, fake):
    """Send an endless status line byte by byte."""
    while not fake.released.wait(0.05):
        connection.sendall(b"H")


def flooding(connection, fake):
    """Send 1 GiB as fast as the client reads."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    while not fake.released.is_set() and fake.sent < 2**30:
        fake.sent += connection.send(b"x" * 65536)


def stalling(connection, fake):
    """Send 1 GiB of interim (100 Continue) responses, because HTTP allows any number of them."""
    connection.recv(65536)
    while not fake.released.is_set() and fake.sent < 2**30:
        fake.sent += connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000)


def closing(connection, fake):
    """Close the connection."""


def babbling(connection, fake):
    """Answer in another protocol."""
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 100)


class Recorder(BaseHTTPRequestHandler):
    """Answer like visdom, but answer the first requests with an error."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append((self.path, body))
        good = len(self.server.bodies) > self.server.failures
        self.send_response(200 if good else 500)
        self.end_headers()
        self.wfile.write(body["win"].encode())
        if good:
            self.server.done.release()

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def recording():
    """Yield a server that records all requests; its first `failures` requests fail."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        server.bodies, server.failures, server.done = [], 0, threading.Semaphore(0)
        server.daemon_threads = True
        server.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def retry_at_once():
    """Retry a failed server after 0.1 s; call this in the process that trains."""
    from displays import visdom_sender

    visdom_sender.RETRY_DELAY_S = 0.1
