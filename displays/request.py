"""One HTTP request to a server that may hang, drip, flood or babble: it ends in time, and little is read."""

import io
import time
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

MAX_ANSWER = 4096  # bytes read of an answer


def post(address: str, path: str, data: bytes, seconds: float) -> str:
    """Send JSON and return the beginning of the answer; proxies are not asked, redirections not followed.

    The answer has to be whole `seconds` after it was sent, however it trickles in. Raises OSError (refused, timed out),
    HTTPException (not HTTP, or a status other than 200) or ValueError (no address).
    """
    parts = urlsplit(address)
    kind = {"http": HTTPConnection, "https": HTTPSConnection}.get(parts.scheme)
    if kind is None or not parts.hostname:
        raise ValueError(f"{address} is no address of a server")
    connection = kind(parts.hostname, parts.port, timeout=seconds)
    connection.response_class = partial(_Answer, time.monotonic() + seconds)
    try:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", parts.path.rstrip("/") + path, data, headers)
        with connection.getresponse() as answer:
            if answer.status != 200:
                raise HTTPException(f"status {answer.status}")
            return answer.read(MAX_ANSWER).decode("utf-8", "replace")
    finally:
        connection.close()


class _Answer(HTTPResponse):
    """An answer read from a socket whose time runs out as a whole, not anew with every byte."""

    def __init__(self, deadline: float, sock: Any, *args: Any, **more: Any):
        super().__init__(sock, *args, **more)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock, deadline))  # type: ignore[attr-defined]


class _Timed(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: Any, deadline: float):
        self.source, self.sock, self.deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no whole answer in time")
        self.sock.settimeout(left)
        return self.source.readinto(buffer)  # type: ignore[attr-defined, no-any-return]

    def close(self) -> None:
        self.source.close()
        super().close()
