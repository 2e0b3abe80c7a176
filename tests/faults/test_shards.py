"""A run on tar shards that is stopped or killed inside a shard continues as if it had not been."""

import json

import pytest

from tests.support.data_folders import pairs, write_tar
from tests.support.resuming import plugins, state_of, stopping, unequal
from tests.support.runs import SMALL
from tests.support.training_runs import run_in

__all__ = ["plugins", "stopping"]  # fixtures


@pytest.mark.parametrize("by", ["SIGINT", "SIGKILL"])
def test_a_run_continues_inside_a_shard(by, command, process, stopping, plugins, tmp_path, monkeypatch):
    """After step 5 of two epochs of three batches of 2, the second shard of three pairs has one pair left or none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(2):
        write_tar(tmp_path / f"shards/{number}.tar", pairs(*range(10 * number, 10 * number + 3)))
    flags = [*SMALL, "--plugin", plugins, "--model", "pix2pix", "--netG", "resnet_4blocks", "--batch_size", 2,
             "--dataroot", tmp_path / "shards", "--n_epochs", 2, "--n_epochs_decay", 0, "--print_freq", 1,
             "--name", "run", "--save_latest_freq", 2, "--displays", "console,stopper"]  # fmt: skip
    (tmp_path / "straight").mkdir()
    assert run_in(tmp_path / "straight", "train", *flags).code == 0
    stopping(5, by)
    ended = (command if by == "SIGINT" else process)("train", *flags)
    assert ended.code == (130 if by == "SIGINT" else -9), ended.err
    stopping(0)
    ended = command("train", "--name", "run", "--continue_train")
    assert ended.code == 0, ended.err
    assert "continuing at epoch 2, image 4 of it" in ended.out or "continuing at epoch 2, image 2 of it" in ended.out
    one, other = (tmp_path / folder / "checkpoints/run" for folder in ("straight", "."))
    assert unequal(state_of(one), state_of(other), "state") == []
    losses = [[json.loads(line) for line in (f / "losses.jsonl").read_text().splitlines()] for f in (one, other)]
    first, second = ([{k: v for k, v in row.items() if k[:2] in ("G_", "D_")} for row in rows] for rows in losses)
    assert first == second and len(first) >= 6
