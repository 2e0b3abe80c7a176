"""An HTTP response with a deadline, so that one that sends a byte at a time also times out."""

import io
import time
from http.client import HTTPResponse
from typing import Any


class DeadlineResponse(HTTPResponse):
    """A response whose headers, and then what each `read` returns, must arrive within the timeout of its socket."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any):
        super().__init__(sock, *args, **kwargs)
        self._stream = _DeadlineStream(self.fp.detach(), sock)  # type: ignore[attr-defined]
        self.fp = io.BufferedReader(self._stream)

    def read(self, amt: int | None = None) -> bytes:
        """Read up to `amt` bytes; raise TimeoutError if they do not arrive in time."""
        self._stream.start_clock()
        return super().read(amt)


class _DeadlineStream(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: Any):
        self.source, self.sock, self.timeout = raw, sock, sock.gettimeout()
        self.start_clock()

    def start_clock(self) -> None:
        self.deadline = time.monotonic() + self.timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the response did not arrive in time")
        self.sock.settimeout(left)
        return self.source.readinto(buffer)  # type: ignore[attr-defined, no-any-return]

    def close(self) -> None:
        self.source.close()
        super().close()
