"""Threads that make files while the next ones are prepared, within bounded memory."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

THREADS = 8  # at most: a disk has no use for more


class Writer:
    """Calls made by threads, whose results are heard of here, in the order in which the calls were asked for.

    room: what all calls that wait or run may weigh together; one that weighs more is made alone, by the caller. As a
    context manager it waits for all of them, and after an error of theirs, or an interrupt, leaves out those not begun.
    """

    def __init__(self, room: float):
        self.room, self.weight, self.failed = room, 0.0, False
        self.waiting: deque[tuple[Future[Any], Callable[[Any], None], float]] = deque()
        self.threads = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1), "writer")

    def put(self, weight: float, make: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Have `make` called; then, here, at this or a later put, `then` with what it returned, or what it raised."""
        while self.waiting and (self.weight + weight > self.room or self.waiting[0][0].done()):
            self._hear()
        if weight > self.room:
            then(make())
        else:
            self.waiting.append((self.threads.submit(make), then, weight))
            self.weight += weight

    def finish(self) -> None:
        """Wait until all calls are made."""
        while self.waiting:
            self._hear()

    def _hear(self) -> None:
        made, then, weight = self.waiting.popleft()
        self.weight -= weight
        try:
            result = made.result()
        except BaseException:
            self.failed = True
            raise
        then(result)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if not self.failed and (kind is None or issubclass(kind, Exception)):
                self.finish()  # what came before an error of another kind is still wanted
        finally:
            self.waiting.clear()
            self.threads.shutdown(cancel_futures=True)
