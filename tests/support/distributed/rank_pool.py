"""Gloo processes that are started once and run functions of tests in turn, each in its own rank."""

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from util import ranks

TIMEOUT_S = 600.0


class RankPool:
    """`size` processes, forked from this one: `pool.run(function, *args)` calls it in each, and returns all results.

    Functions and results must be picklable. A function that raises is an AssertionError with its traceback.
    """

    def __init__(self, size: int):
        self.size, context = size, multiprocessing.get_context("fork")
        self.folder = tempfile.TemporaryDirectory()
        self.ends, self.processes = [], []
        for rank in range(size):
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, rank, size, self.folder.name), daemon=True)
            process.start()
            theirs.close()
            self.ends.append(mine)
            self.processes.append(process)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Return what function(*args) returns in each rank."""
        for end in self.ends:
            end.send((function, args))
        found, problems = [], []
        for rank, end in enumerate(self.ends):
            if not end.poll(TIMEOUT_S):
                self.close()
                raise AssertionError(f"rank {rank} of {self.size} does not end: {problems}")
            result, problem = end.recv()
            problems += [f"rank {rank}:\n{problem}"] if problem else []
            found.append(result)
            if problem:  # the others may wait for it
                self.close()
                break
        assert not problems, "\n".join(problems)
        return found

    def close(self) -> None:
        """Kill all processes."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        self.folder.cleanup()


def _serve(end: Any, rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    with group(rank, size, f"{folder}/meeting"):
        while True:
            function, args = end.recv()
            try:
                answer = function(*args), ""
            except BaseException:  # it is the parent's to judge
                answer = None, traceback.format_exc()
            end.send(answer)


@contextmanager
def group(rank: int, size: int, file: str):
    """Inside the block, this process is one of several, as torchrun and cli/process_group.py make it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=size)
    ranks.pulse.is_ours = True
    try:
        yield
    finally:
        distributed.destroy_process_group()
