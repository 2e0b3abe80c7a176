"""Which process this is of how many, which samples of a batch are its own, and what all of them compute together."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor, distributed


@dataclass(frozen=True)
class Share:
    """The samples of a batch over all processes: counts[r] of them are rank r's, in the order of ranks.

    A process without a sample computes a stand-in, whose weight is 0.
    """

    counts: tuple[int, ...]
    rank: int

    total = property(lambda self: sum(self.counts))
    start = property(lambda self: sum(self.counts[: self.rank]))
    count = property(lambda self: self.counts[self.rank])

    def part(self, number: int, parts: int) -> "Share":
        """Return the share of one of the parts in which each process computes its samples."""
        return Share(tuple(n * (number + 1) // parts - n * number // parts for n in self.counts), self.rank)


@dataclass
class Pulse:
    """What this process's main thread does, for the heartbeats that others see; agreed: see `agree`."""

    last: float = field(default_factory=time.monotonic)  # when it last made progress
    timeout: float = 600.0  # --rank_timeout: seconds after which a process without progress hangs
    beats: int = 0  # how often it has noted progress: at each batch, measured part or translated image
    waiting: bool = False  # in a collective, for others
    lost: bool = False  # a collective has failed: another process is gone
    share: Share | None = None  # of the batch that is trained on; None outside a training step, and in one process
    is_ours: bool = False  # whether this program has started the processes; else a caller from Python has
    votes: dict[str, int] = field(default_factory=lambda: {"stop": 0, "save": 0})
    agreed: dict[str, int] = field(default_factory=dict)

    has_begun = property(lambda self: self.beats > 0)  # whether there was a batch
    has_done_a_step = property(lambda self: self.beats > 1)  # the first step also imports, compiles, measures

    def beat(self) -> None:
        """Note that the main thread makes progress."""
        self.beats, self.last = self.beats + 1, time.monotonic()


pulse = Pulse()


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0. Process 0 alone writes files and prints."""
    return distributed.get_rank() if world_size() > 1 else 0


@contextmanager
def sharing(share: Share | None) -> Iterator[None]:
    """Inside the block, a batch with this share is trained on."""
    former, pulse.share = pulse.share, share
    try:
        yield
    finally:
        pulse.share = former


@contextmanager
def waiting() -> Iterator[None]:
    """Mark a collective: the block waits for other processes."""
    pulse.waiting = True
    try:
        yield
    except Exception:
        pulse.lost = True
        raise
    finally:
        pulse.waiting, pulse.last = False, time.monotonic()


def is_shared() -> bool:
    """Whether a batch has samples in several processes: in a training step, and in processes of a caller's own."""
    return pulse.share is not None or (world_size() > 1 and not pulse.is_ours)


def agree(name: str, vote: int) -> int:
    """Return the greatest vote of all processes as of the last step; in one process the vote itself."""
    pulse.votes[name] = vote
    return vote if world_size() == 1 else pulse.agreed.get(name, 0)


def add(tensor: Tensor, largest: bool = False) -> Tensor:
    """Add up a tensor over all processes in place, or take the largest values; nothing unless a batch is shared."""
    if is_shared():
        with waiting():
            distributed.all_reduce(tensor, distributed.ReduceOp.MAX if largest else distributed.ReduceOp.SUM)
    return tensor
