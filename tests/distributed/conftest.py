"""The pools of processes that all cases of a world size share."""

import pytest

from tests.support.distributed.rank_pool import RankPool


@pytest.fixture(scope="session")
def pools():
    """pools(size): the RankPool of a world size, started once; a new one if a failure has ended it."""
    made: dict[int, RankPool] = {}

    def pool(size: int) -> RankPool:
        if size not in made or not all(process.is_alive() for process in made[size].processes):
            made[size] = RankPool(size)
        return made[size]

    yield pool
    for each in made.values():
        each.close()
