"""An HTTP answer whose time runs out as a whole, not anew with every byte: one that drips ends like a silent one."""

import io
import time
from http.client import HTTPResponse
from typing import Any


class TimedAnswer(HTTPResponse):
    """An answer that has to arrive until a deadline, a moment of time.monotonic(); `allow` sets a new one."""

    def __init__(self, deadline: float, sock: Any, *args: Any, **more: Any):
        super().__init__(sock, *args, **more)
        self._timed = _Timed(self.fp.detach(), sock, deadline)  # type: ignore[attr-defined]
        self.fp = io.BufferedReader(self._timed)

    def allow(self, seconds: float) -> None:
        """Give what is read from now on so many seconds."""
        self._timed.deadline = time.monotonic() + seconds


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
