"""Send windows to a visdom server from a background thread that cannot delay or fail the run."""

import json
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

from displays.visdom_server import LocalServer, ServerError, post, start_flags
from util.errors import print_line

POST_TIMEOUT_S = 3.0  # seconds for one message and its response, plus
MIN_UPLOAD_BYTES_PER_S = 250_000  # its size at this rate, because large images take long on a slow line
RETRY_DELAY_S = 10.0  # seconds to wait after a failure
CLOSE_TIMEOUT_S = 1.5  # seconds to send the waiting messages when the run ends
REST_FACTOR, MAX_REST_S = 50, 3.0  # pause: 50 x a message's CPU time (2 % load), at most 3 s
MAX_MESSAGES = 6  # maximum number of lines about the connection

MakeContent = Callable[[], dict[str, Any]]


class Sender:
    """Posts the newest content of each window; at most one message per window waits, so memory is bounded."""

    def __init__(self, address: str, env: str, port: int, server: LocalServer | None = None):
        self.address, self.env, self.port, self.server = address, env, port, server
        self.waiting: dict[str, MakeContent] = {}
        self.newest: dict[str, MakeContent] = {}  # per window, for a server that lost its windows
        self.changed = threading.Condition()
        self.ending = False
        self.connected: bool | None = None  # None: not tried yet
        self.refused = False  # the last failure was an immediate one (connection refused)
        self.message_count = self.version = 0
        self.thread = threading.Thread(target=self._run, name="visdom", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def send(self, window: str, make: MakeContent) -> None:
        """Queue a window's content, which the thread creates; return at once."""
        with self.changed:
            self.waiting[window] = self.newest[window] = make
            self.changed.notify()

    def close(self) -> None:
        """Send the waiting messages if the server responds; give up after CLOSE_TIMEOUT_S seconds."""
        with self.changed:
            self.ending = True
            self.changed.notify()
        if self.thread.is_alive():
            self.thread.join(CLOSE_TIMEOUT_S)
        if self.server is not None and not self.connected and self.server.terminate():
            self._say("live plots off: the run ended before the visdom server that it started showed anything")

    def _run(self) -> None:
        if self.server is not None:
            try:
                if not self.server.start(lambda: self.ending) and self.ending:
                    return
            except (ServerError, OSError, ValueError) as why:
                self.connected = False
                self._say(f"live plots off: {why}")
        while True:
            # Wait for a window to send.
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.ending)
                if not self.waiting:
                    return
                window = next(iter(self.waiting))
                make, last = self.waiting.pop(window), self.ending
            # Create its content and post it.
            began = time.thread_time()
            try:
                data = self._body(window, make())
            except Exception as problem:  # an error in one window must not affect the others
                self._say(f"live plots: window {window} cannot be made ({type(problem).__name__}: {problem})")
                with self.changed:
                    self.newest.pop(window, None)
                continue
            worked = self._post(window, data)
            if worked != self.connected:
                self._report_connection(worked, window)
            if not worked and (last or self._rest_after_failure(window, make)):
                return
            with self.changed:  # pause, because training shares the interpreter and perhaps few cores
                pause = min(MAX_REST_S, REST_FACTOR * (time.thread_time() - began))
                self.changed.wait_for(lambda: self.ending, pause)

    def _rest_after_failure(self, window: str, make: MakeContent) -> bool:
        """Wait after a failure; return whether the run ended and another try may take long."""
        with self.changed:
            self.waiting.setdefault(window, make)
            return self.changed.wait_for(lambda: self.ending, RETRY_DELAY_S) and not self.refused

    def _body(self, window: str, content: dict[str, Any]) -> bytes:
        self.version = max(self.version + 1, time.time_ns() // 1_000_000)  # visdom 0.3.0 redraws only for a new version
        body = {"eid": self.env, "win": window, "version": self.version, **content}
        return json.dumps(body, allow_nan=False).encode()

    def _post(self, window: str, data: bytes) -> bool:
        self.refused = False
        try:
            return post(self.address, "/events", data, POST_TIMEOUT_S + len(data) / MIN_UPLOAD_BYTES_PER_S) == window
        except (OSError, HTTPException, ValueError) as problem:  # refused, timed out, not HTTP, or not an address
            self.refused = isinstance(problem, ConnectionError)
            return False

    def _report_connection(self, worked: bool, window: str) -> None:
        if worked:
            self._say(f"live plots: {self.address}/env/{self.env}{self.server.note if self.server else ''}")
            with self.changed:  # a restarted server has only this window: send the others again
                if self.connected is False:
                    others = {name: make for name, make in self.newest.items() if name != window}
                    self.waiting = others | self.waiting
        else:
            if self.server is not None:
                self.server.reap()
            again = "lost" if self.connected else "off"
            start = " ".join(["visdom", *start_flags(self.address, self.port)])
            self._say(f"live plots {again}: no visdom server at {self.address}; start one with: {start}")
        self.connected = worked

    def _say(self, line: str) -> None:
        """Print a line; stop after MAX_MESSAGES lines, in case the connection keeps changing."""
        self.message_count += 1
        if self.message_count <= MAX_MESSAGES:
            end = "; further messages are suppressed" if self.message_count == MAX_MESSAGES else ""
            print_line(line + end)
