"""Runs of several processes: one writer, one state, resumed by as many processes or by another number."""

import json
import shutil

import pytest

from scripts.make_shards import main as make_shards
from tests.support.data_folders import save
from tests.support.distributed.shared_runs import differences, newest_state, train_run
from tests.support.images import picture

FLAGS = ["--gpu_ids", "-1", "--model", "pix2pix", "--ngf", "2", "--ndf", "2", "--netG", "resnet_4blocks", "--netD",
         "n_layers", "--n_layers_D", "1", "--load_size", "20", "--crop_size", "16", "--num_threads", "0",
         "--dataroot", "data", "--displays", "console", "--no_progress", "--n_epochs", "2", "--n_epochs_decay", "0",
         "--save_minutes", "0"]  # fmt: skip
EXACT = [*FLAGS, "--norm", "batch", "--pool_size", "3"]  # dropout, pools, statistics
EQUAL = [*FLAGS, "--norm", "instance", "--no_dropout", "--ema", "0.9"]


@pytest.fixture
def folder(tmp_path):
    for number in range(13):
        save(picture(number, 48, 24), tmp_path / "data" / "train" / f"{number:02d}.png")
    for number in range(5):
        save(picture(number + 20, 48, 24), tmp_path / "data" / "val" / f"{number:02d}.png")
    return tmp_path


def run(pools, folder, size, argv, *more):
    return train_run(str(folder), argv, *more) if size == 1 else pools(size).run(train_run, str(folder), argv, *more)


def batch(size):
    return ["--batch_size", str(4 // size)]


def test_two_processes_resume_bit_for_bit(pools, folder):
    run(pools, folder, 2, [*EXACT, *batch(2), "--name", "whole"])
    run(pools, folder, 2, [*EXACT, *batch(2), "--name", "parts"], 3)
    run(pools, folder, 2, ["--name", "parts", "--continue_train"])
    whole, parts = (newest_state(folder / "checkpoints" / name) for name in ("whole", "parts"))
    assert len(whole["ranks"]) == 2
    for part in ("model", "optimizers", "ranks", "generators", "history"):
        assert set(differences(whole[part], parts[part]).values()) == {0.0}, part
    first, second = (own["extra"]["pool._extra_state"]["images"] for own in whole["ranks"])
    assert len(first) == len(second) == 3 and set(differences(first, second).values()) != {0.0}


def test_a_run_goes_on_with_other_numbers_of_processes(pools, folder, capsys):
    """1 -> 2 -> 4 -> 1 processes equal one process; the options on the way name no change that counts."""
    run(pools, folder, 1, [*EQUAL, *batch(1), "--name", "whole"])
    run(pools, folder, 1, [*EQUAL, *batch(1), "--name", "parts"], 2)
    for size, steps in ((2, 2), (4, 2)):
        run(pools, folder, size, ["--name", "parts", "--continue_train", *batch(size)], steps)
        assert len(newest_state(folder / "checkpoints" / "parts")["ranks"]) == size
    capsys.readouterr()
    run(pools, folder, 1, ["--name", "parts", "--continue_train", *batch(1)])
    printed = capsys.readouterr().out
    assert "saved by 4 processes, not 1" in printed and "results differ" not in printed
    whole, parts = (newest_state(folder / "checkpoints" / name) for name in ("whole", "parts"))
    assert "ranks" not in parts and whole["position"]["step"] == parts["position"]["step"] == 8
    for part in ("model", "optimizers", "ema", "history"):
        assert max(differences(whole[part], parts[part]).values()) < 1e-6, part
    lines = [[json.loads(line) for line in (folder / "checkpoints" / name / "losses.jsonl").open()]
             for name in ("whole", "parts")]  # fmt: skip
    assert lines[0] and len(lines[0]) == len(lines[1])


def test_shards_are_trained_on_as_by_one_process(pools, folder):
    """Also when resumed inside a shard, by another number of processes; epoch 2 begins with another shard."""
    make_shards(["--dataroot", str(folder / "data"), "--output", str(folder / "tars"), "--max_count", "5"], None)
    argv = [*EQUAL, "--dataroot", "tars", "--phase", "train"]
    run(pools, folder, 1, [*argv, *batch(1), "--name", "whole"])
    run(pools, folder, 2, [*argv, *batch(2), "--name", "parts"], 3)
    run(pools, folder, 4, ["--name", "parts", "--continue_train", *batch(4)])
    whole, parts = (newest_state(folder / "checkpoints" / name) for name in ("whole", "parts"))
    assert whole["position"]["step"] == parts["position"]["step"] == 8
    for part in ("model", "optimizers", "history"):
        assert max(differences(whole[part], parts[part]).values()) < 1e-6, part


def test_metrics_best_epochs_and_early_stopping_agree(pools, folder):
    """The first process measures; all end after the same epoch."""
    argv = [*EQUAL, *batch(2), "--metrics", "L1", "--early_stop", "L1:1", "--n_epochs", "6", "--lr", "1e-12"]
    done = run(pools, folder, 2, [*argv, "--name", "measured"], 0, False)
    assert done == [8, 8], "the second evaluation is no better"
    table = json.loads((folder / "checkpoints" / "measured" / "metrics.json").read_text())
    assert len(table["evaluations"]) == done[0] // 4


@pytest.mark.fault(82)
def test_only_the_first_process_writes(pools, folder):
    """A run of two processes, and one of one process: their folders have the same files."""
    for size in (1, 2):
        run(pools, folder, size, [*EQUAL, *batch(size), "--name", f"n{size}", "--save_epoch_freq", "1"])
    found = [sorted(path.relative_to(folder / "checkpoints" / name).as_posix()
                    for path in (folder / "checkpoints" / name).rglob("*") if path.is_file())
             for name in ("n1", "n2")]  # fmt: skip
    assert found[0] == found[1]
    shutil.rmtree(folder / "checkpoints")
