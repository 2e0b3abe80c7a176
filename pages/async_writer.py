"""Threads that make files while the next ones are prepared, within bounded memory."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

MAX_WRITER_THREADS = 8  # at most: a disk has no use for more


class AsyncWriter:
    """Calls made by threads, whose results are heard of here, in the order in which the calls were asked for.

    max_weight: what all calls that wait or run may weigh together; one that weighs more is made alone, by the caller.
    As a context manager it waits for all of them, and after an error of theirs, or an interrupt, leaves out those
    not begun.
    """

    def __init__(self, max_weight: float):
        self.max_weight, self.pending_weight, self.has_failed = max_weight, 0.0, False
        self.pending: deque[tuple[Future[Any], Callable[[Any], None], float]] = deque()
        self.threads = ThreadPoolExecutor(min(MAX_WRITER_THREADS, os.cpu_count() or 1), "writer")

    def submit(self, weight: float, job: Callable[[], Any], on_done: Callable[[Any], None]) -> None:
        """Have `job` called; then, here, at this or a later submit, `on_done` with what it returned or raised."""
        while self.pending and (self.pending_weight + weight > self.max_weight or self.pending[0][0].done()):
            self._handle_oldest()
        if weight > self.max_weight:
            on_done(job())
        else:
            self.pending.append((self.threads.submit(job), on_done, weight))
            self.pending_weight += weight

    def finish(self) -> None:
        """Wait until all calls are made."""
        while self.pending:
            self._handle_oldest()

    def _handle_oldest(self) -> None:
        future, on_done, weight = self.pending.popleft()
        self.pending_weight -= weight
        try:
            result = future.result()
        except BaseException:
            self.has_failed = True
            raise
        on_done(result)

    def __enter__(self) -> "AsyncWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if not self.has_failed and (kind is None or issubclass(kind, Exception)):
                self.finish()  # what came before an error of another kind is still wanted
        finally:
            self.pending.clear()
            self.threads.shutdown(cancel_futures=True)
