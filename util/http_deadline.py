"""An HTTP response with a deadline for the whole response, so that one that sends a byte at a time also times out."""

import io
import time
from http.client import HTTPResponse
from typing import Any


class DeadlineResponse(HTTPResponse):
    """A response that must arrive before a deadline, in seconds of time.monotonic(); `set_timeout` sets a new one."""

    def __init__(self, deadline: float, sock: Any, *args: Any, **kwargs: Any):
        super().__init__(sock, *args, **kwargs)
        self._stream = _DeadlineStream(self.fp.detach(), sock, deadline)  # type: ignore[attr-defined]
        self.fp = io.BufferedReader(self._stream)

    def set_timeout(self, seconds: float) -> None:
        """Set the deadline to so many seconds from now."""
        self._stream.deadline = time.monotonic() + seconds


class _DeadlineStream(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: Any, deadline: float):
        self.source, self.sock, self.deadline = raw, sock, deadline

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
