"""A run's folder belongs to one process at a time, is tidied up, and lies where it should."""

import os
import signal

import pytest
import torch
from conftest import SMALL
from test_resume import differences, flags, plugins, straight, tree_hash
from test_train import DEMO, rows

__all__ = ["plugins", "straight"]  # fixtures
FEW = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", 1, "--n_epochs_decay", 0,
       "--max_dataset_size", 1]  # fmt: skip


def listing(folder):
    """Every path under a folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_a_second_run_of_a_name_is_told_who_has_it_and_the_first_goes_on(start, command, straight, plugins, tmp_path):
    """A process waits in its first step while others knock, goes on, and is killed; its lock dies with it."""
    process = start("train", *flags("pix2pix", plugins), STOP_AFTER_STEP="1,5", STOP_BY="waiting")
    try:
        assert any(line.startswith("(epoch: 1, iters: 2,") for line in process.stdout), process.stderr.read()
        folder = tmp_path / "checkpoints" / "run"
        before = tree_hash(folder)
        for more in ([], ["--overwrite"], ["--continue_train"]):
            ended = command("train", *flags("pix2pix", plugins), *more)
            assert ended.code == 5
            assert ended.last.startswith(f"error: run 'run': is in use by pid {process.pid} on ")
            assert "use another --name or stop that run" in ended.last and ended.err.count("\n") == 1
            assert tree_hash(folder) == before
        process.stdin.write("\n")
        process.stdin.flush()
        assert any(line.startswith("(epoch: 2, iters: 4,") for line in process.stdout), process.stderr.read()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert [row["step"] for row in rows(folder)[0]] == [1, 2, 3, 4, 5]
    ended = command("train", "--name", "run", "--continue_train")
    assert ended.code == 0, ended.err
    assert "continuing at epoch 2, image 0 of it, step 3" in ended.out  # what was saved before the kill
    assert differences(straight("pix2pix"), folder) == []


def test_left_over_files_of_a_killed_save_are_removed_and_named(command, tmp_path):
    assert command("train", *FEW, "--name", "run").code == 0
    folder = tmp_path / "checkpoints" / "run"
    left = ["state_000000009.pt.tmp", "latest_net_G.pth.tmp", "options.json.tmp"]
    for name in left:
        (folder / name).write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    before = torch.load(folder / "latest_net_G.pth", weights_only=True)
    ended = command("train", "--name", "run", "--continue_train")
    assert ended.code == 0, ended.err
    for name in left:
        assert f"note: removing {name}, left over by a run that was killed" in ended.out
        assert not (folder / name).exists()
    assert (folder / "notes.txt").read_text() == "mine"
    after = torch.load(folder / "latest_net_G.pth", weights_only=True)
    assert all(torch.equal(before[k], after[k]) for k in before)


OUTSIDE = [
    "../x",
    "..",
    ".",
    "",
    "a/b",
    "/abs",
    "a\\b",
    "x\n",
    "x\0y",
    "\x1b[2J",
    "-x",
    "x" * 300,
    "é" * 150,
    "../../x",
]


@pytest.mark.parametrize("name", OUTSIDE, ids=ascii)
@pytest.mark.parametrize("script", ["train", "test"])
def test_a_name_that_is_no_folder_name_is_refused_and_makes_nothing(command, tmp_path, script, name):
    before = listing(tmp_path)
    ended = command(script, *(FEW if script == "train" else []), "--name", name)
    assert ended.code == 2
    assert ended.last.startswith("error: option '--name'") and ended.err.count("\n") == 1
    assert "\x1b" not in ended.err and "\0" not in ended.err
    assert listing(tmp_path) == before and not (tmp_path.parent / "x").exists()


@pytest.mark.parametrize("suffix", ["../x", "/etc/{model}", "{__class__}", "{model.__class__}", "{0}", "{name!r}",
                                    "{ngf:1000000000}", "{model", "}"])  # fmt: skip
def test_a_suffix_is_filled_with_flags_and_nothing_else(command, tmp_path, suffix):
    before = listing(tmp_path)
    ended = command("train", *FEW, "--name", "run", "--suffix", suffix)
    assert ended.code == 2
    assert ended.last.startswith(("error: option '--suffix'", "error: option '--name'")) and ended.err.count("\n") == 1
    assert listing(tmp_path) == before


@pytest.mark.parametrize("argv", [["--epoch", "../../x"], ["--epoch", "1_net_G.pth\0"], ["--load_iter", "../5"],
                                  ["--load_iter", "-5"]])  # fmt: skip
def test_epochs_are_numbers(command, tmp_path, argv):
    before = listing(tmp_path)
    ended = command("test", "--name", "run", *argv)
    assert ended.code == 2
    assert ended.last.startswith(f"error: option '{argv[0]}'")
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["two words", "ünïcödé 🍎", "a..b", "100%#?&'\"", "<script>alert(1)</script>"[:8], "$(x)"]
)
def test_any_other_name_is_a_folder_and_train_and_test_find_it(command, tmp_path, name):
    ended = command("train", *FEW, "--name", name)
    assert ended.code == 0, ended.err
    assert os.listdir("checkpoints") == [name]
    ended = command("test", "--name", name, "--num_test", 1)
    assert ended.code == 0, ended.err
    assert os.listdir("results") == [name]
    assert listing(tmp_path / "results" / name)[:1] == ["test_latest"]


def test_the_suffix_names_the_folder(command, tmp_path):
    ended = command("train", *FEW, "--name", "run", "--suffix", "{model}_{netG}_size{load_size}")
    assert ended.code == 0, ended.err
    assert os.listdir("checkpoints") == ["run_pix2pix_resnet_4blocks_size36"]


def test_links_as_folders_are_followed(command, tmp_path):
    """checkpoints_dir may be a link to another disk."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "checkpoints").symlink_to(tmp_path / "elsewhere")
    ended = command("train", *FEW, "--name", "run")
    assert ended.code == 0, ended.err
    assert (tmp_path / "elsewhere" / "run" / "latest_net_G.pth").is_file()
    assert (tmp_path / "checkpoints").is_symlink()
