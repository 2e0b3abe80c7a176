"""Visdom servers: send one request, detect local addresses and running servers, start one for --start_visdom."""

import errno
import ipaddress
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serialization.download.http_deadline import DeadlineResponse
from util.errors import printable

MAX_RESPONSE_BYTES = 4096  # maximum bytes read from a response
DEFAULT_PORT = 8097  # of visdom
START_TIMEOUT_S = 60.0  # seconds for a server to start; most are for imports from a slow disk
RUN_CODE = "from visdom.server.run_server import main; main()"  # the `visdom` command first downloads scripts, or fails


def post(address: str, path: str, data: bytes, seconds: float) -> str:
    """Post JSON and return the beginning of the response; ignore proxies and do not follow redirects.

    The headers of the response, and then its content, may each take `seconds`, even if they arrive byte by byte. Raise
    OSError (refused, timed out), HTTPException (not HTTP, or a status other than 200) or ValueError (not an address).
    """
    parts = urlsplit(address)
    kind = {"http": HTTPConnection, "https": HTTPSConnection}.get(parts.scheme)
    if kind is None or not parts.hostname:
        raise ValueError(f"{address} is not a server address")
    connection = kind(parts.hostname, parts.port, timeout=seconds)
    connection.response_class = DeadlineResponse
    try:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", parts.path.rstrip("/") + path, data, headers)
        with connection.getresponse() as answer:
            if answer.status != 200:
                raise HTTPException(f"status {answer.status}")
            return answer.read(MAX_RESPONSE_BYTES).decode("utf-8", "replace")
    finally:
        connection.close()


class ServerError(Exception):
    """No server was started; the message gives the reason and the remedy."""


def server_address(server: str, port: int, port_is_given: bool = False) -> str:
    """Return the address of --display_server with a port: its own one, else --display_port.

    The scheme may be missing (localhost, host:8097). Behind a path (https://host/visdom) stands a proxy, whose port is
    the scheme's unless --display_port is given; the path of a page (/env/NAME), copied from a browser, is dropped.
    """
    text = server.strip().rstrip("/").rstrip(":")
    whole = text if "://" in text else f"http://{text}"
    known = re.fullmatch(r"((?i:https?))://([\w.@-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?(/[^?#]*)?", whole)
    if not known:
        return f"{text}:{port}"  # not an address: shown as it was given
    scheme, host, own_port, path = known.groups("")
    path = re.sub(r"/env/.*", "", path)
    if not own_port and (not path or port_is_given or port != DEFAULT_PORT):
        own_port = f":{port}"
    return f"{scheme.lower()}://{host}{own_port}{path}"


def port_of(address: str, otherwise: int) -> int:
    """Return the port of an address; `otherwise` for a text that is none."""
    try:
        parts = urlsplit(address)
        return parts.port or {"http": 80, "https": 443}.get(parts.scheme, otherwise)
    except ValueError:
        return otherwise


def start_flags(address: str, port: int) -> list[str]:
    """Return the flags with which a visdom server of this machine answers at an address."""
    path = urlsplit(address).path if port_of(address, 0) else ""
    return ["-port", str(port), "-bind_local", *(["-base_url", path] if path else [])]


def is_local(address: str) -> bool:
    """Whether an address is on this machine; host names are not resolved, because that may take long."""
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:  # not an address: nothing will be sent
        return True
    if host in ("", "localhost", socket.gethostname().lower()) or host.endswith(".localhost"):
        return True
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return False
    return number.is_loopback or number.is_unspecified


def is_visdom_running(address: str, seconds: float = 1.0) -> bool:
    """Whether a visdom server responds at an address within `seconds`."""
    try:
        return post(address, "/win_exists", b'{"win": "", "eid": "main"}', seconds) in ("true", "false")
    except (OSError, HTTPException, ValueError):
        return False


class LocalServer:
    """A visdom server on this machine, found or started; a started server keeps running after the run.

    It runs in a separate session, so that Ctrl-C and a closed terminal do not reach it. It writes to a log file, and
    inherits no pipe or lock of the run.
    """

    def __init__(self, address: str, port: int, log: Path):
        self.address, self.port, self.log = address, port, log
        self.process: subprocess.Popen[bytes] | None = None
        self.note = ""  # printed after its address

    def start(self, is_cancelled: Callable[[], bool]) -> bool:
        """Find or start a server and wait until it responds; return False on timeout or cancellation.

        Raise ServerError if no server can run at this address.
        """
        parts = urlsplit(self.address)
        if parts.scheme != "http" or parts.hostname not in ("localhost", "127.0.0.1"):
            raise ServerError(f"--start_visdom starts a server on this machine, but --display_server is {self.address}")
        if is_visdom_running(self.address):
            self.note = " (the server was already running)"
            return True
        if _is_port_in_use(self.port):
            raise ServerError(f"port {self.port} is in use by another program; choose another --display_port")
        spec = find_spec("visdom")
        if spec is None or spec.origin is None:
            raise ServerError("visdom is not installed; install it with: python scripts/setup/install_visdom.py")
        self.process = self._launch()
        stop = f"taskkill /F /PID {self.process.pid}" if os.name == "nt" else f"kill {self.process.pid}"
        self.note = f" (visdom was started and stays after the run; stop it with: {stop})"
        if not Path(spec.origin).with_name("static").joinpath("js", "plotly-plotly.min.js").is_file():
            self.note += "; its page stays empty without scripts, get them with: python scripts/setup/visdom_scripts.py"
        return self._wait_until_ready(self.process, is_cancelled)

    def _launch(self) -> "subprocess.Popen[bytes]":
        # -P ignores modules in the current folder. WARNING, because visdom logs a line for every message.
        flags = [*start_flags(self.address, self.port), "-logging_level", "WARNING"]
        command = [sys.executable, "-P", "-c", RUN_CODE, *flags]
        group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # on Windows
        own_session: Any = {"start_new_session": True, "creationflags": group}
        try:
            with open(self.log, "ab") as log:
                return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **own_session)
        except OSError as problem:
            raise ServerError(f"the visdom server cannot be started ({problem})") from problem

    def _wait_until_ready(self, process: "subprocess.Popen[bytes]", is_cancelled: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and not is_cancelled():
            if is_visdom_running(self.address):
                return True
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
                lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
                last = next((printable(line.strip()) for line in reversed(lines) if line.strip()), "no output")
                raise ServerError(f"the visdom server exited at once ({last[:200]}); see {self.log}")
        return False

    def terminate(self) -> bool:
        """Terminate the server if this run started it; return whether it was running."""
        if self.process is None or self.process.poll() is not None:
            return False
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0.5)
        return True

    def reap(self) -> None:
        """Poll the process, so that an ended server does not remain a zombie until the end of the run."""
        if self.process is not None:
            self.process.poll()


def _is_port_in_use(port: int) -> bool:
    """Whether a connection is not refused; it may also fail because the queue is full or nothing responds."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) != errno.ECONNREFUSED
