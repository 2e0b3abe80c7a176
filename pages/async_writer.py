"""Write files in threads while the caller prepares the next ones, within bounded memory."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

MAX_WRITER_THREADS = 8  # more threads do not make a disk faster


class AsyncWriter:
    """Run jobs in threads and handle their results in the calling thread, in the order of submission.

    max_weight: the limit for the total weight of queued and running jobs. A heavier job runs in the calling thread.
    As a context manager, it waits for all jobs; after an error in a job, or an interrupt, it cancels those not started.
    """

    def __init__(self, max_weight: float):
        self.max_weight, self.pending_weight, self.has_failed = max_weight, 0.0, False
        self.pending: deque[tuple[Future[Any], Callable[[Any], None], float]] = deque()
        self.threads = ThreadPoolExecutor(min(MAX_WRITER_THREADS, os.cpu_count() or 1), "writer")

    def submit(self, weight: float, job: Callable[[], Any], on_done: Callable[[Any], None]) -> None:
        """Run `job` in a thread; call `on_done` with its result in this thread, in this or a later call.

        Raise here what an earlier job raised.
        """
        while self.pending and (self.pending_weight + weight > self.max_weight or self.pending[0][0].done()):
            self._handle_oldest()
        if weight > self.max_weight:
            on_done(job())
        else:
            self.pending.append((self.threads.submit(job), on_done, weight))
            self.pending_weight += weight

    def finish(self) -> None:
        """Wait for all jobs and handle their results."""
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
                self.finish()  # earlier results are still wanted after an error of the caller
        finally:
            self.pending.clear()
            self.threads.shutdown(cancel_futures=True)
