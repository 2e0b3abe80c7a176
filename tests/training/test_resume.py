"""A run that was stopped and continued ends bit for bit like an uninterrupted one, and prints where it continued."""

import os
import shlex
import shutil
import signal
import threading
from pathlib import Path

import pytest
import torch

from serialization import checkpoint
from tests.support.resuming import (
    STATISTICS,
    STEPS,
    copied,
    differences,
    flags,
    newest,
    plugins,
    record,
    state_of,
    stopped,
    stopping,
    straight,
    tree_hash,
    unequal,
)
from tests.support.runs import SMALL
from tests.support.small_models import own_networks
from tests.support.training_runs import DEMO, TRAINABLE, rows, weights

__all__ = ["copied", "plugins", "stopped", "stopping", "straight"]  # fixtures

# --- signals


def stop_after_line(process, line_start, number):
    """Signal a process's whole group once a line appeared on its stdout, then let it go on; return (code, stderr)."""
    watchdog = threading.Timer(200, process.kill)
    watchdog.start()
    try:
        seen = next((line for line in process.stdout if line.startswith(line_start)), None)
        if seen is not None:
            os.killpg(process.pid, number)
        _, err = process.communicate()  # closes its stdin, for which it waits
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    assert seen is not None, f"no line {line_start!r}: {err}"
    return process.returncode, err


@pytest.mark.parametrize("model", TRAINABLE)
def test_ctrl_c_in_a_real_process_with_workers(start, command, straight, plugins, tmp_path, model):
    """A terminal's Ctrl-C reaches the workers too; the other process then has none."""
    process = start("train", *flags(model, plugins), "--num_threads", 2, STOP_AFTER_STEP="5", STOP_BY="waiting")
    code, err = stop_after_line(process, "(epoch: 2, iters: 4,", signal.SIGINT)
    assert code == 130, err
    assert err.splitlines() == [
        "stopped and saved in epoch 2; continue with: python train.py --name run --continue_train"
    ]
    ended = command("train", "--name", "run", "--continue_train", "--num_threads", 0)
    assert ended.code == 0, ended.err
    assert differences(straight(model), tmp_path / "checkpoints" / "run") == []


def test_the_printed_command_continues_a_run_after_sigterm(start, straight, plugins, tmp_path):
    """A service manager sends SIGTERM to the workers too."""
    process = start("train", *flags("pix2pix", plugins), "--num_threads", 2, STOP_AFTER_STEP="4", STOP_BY="waiting")
    code, err = stop_after_line(process, "(epoch: 2, iters: 2,", signal.SIGTERM)
    assert code == 143, err
    words = shlex.split(err.strip().splitlines()[-1].partition("continue with: ")[2])
    assert words[:2] == ["python", "train.py"]
    done = start("train", *words[2:])
    _, err = done.communicate()
    assert done.returncode == 0, err
    assert differences(straight("pix2pix"), tmp_path / "checkpoints" / "run") == []


@pytest.mark.parametrize(
    "where",
    [{"--name": "two words; $HOME 'x'"}, {"--name": "run", "--checkpoints_dir": "my runs"}],
    ids=["name", "folder"],
)
def test_the_printed_command_continues_a_run_of_any_name(command, stopping, plugins, where):
    stopping(2, "SIGINT")
    ended = command("train", *flags("pix2pix", plugins), *(word for pair in where.items() for word in pair))
    assert ended.code == 130, ended.err
    words = shlex.split(ended.last.partition("continue with: ")[2])[2:]
    assert {flag: words[words.index(flag) + 1] for flag in where if flag in words} == where
    stopping(0)
    ended = command("train", *words)
    assert ended.code == 0, ended.err
    assert "continuing at epoch 1, image 4 of it, step 2" in ended.out


def test_sighup_is_answered_like_the_others(command, straight, stopping, plugins, tmp_path):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored, as people ask for
    stopping(4, "SIGHUP")
    assert command("train", *flags("pix2pix", plugins)).code == 129
    stopping(0)
    assert command("train", "--name", "run", "--continue_train").code == 0
    assert differences(straight("pix2pix"), tmp_path / "checkpoints" / "run") == []


def test_a_second_ctrl_c_ends_at_once_and_harms_nothing(command, straight, stopping, copied):
    folder = copied("pix2pix")
    before = {p.name: p.read_bytes() for p in [*folder.glob("*.pt"), *folder.glob("*.pth")]}
    stopping(8, "SIGINT", "SIGINT")
    ended = command("train", "--name", "run", "--continue_train", "--save_epoch_freq", 5)
    assert ended.code == 130
    assert "stopped by Ctrl-C" in ended.last and "Traceback" not in ended.err
    assert {p.name: p.read_bytes() for p in [*folder.glob("*.pt"), *folder.glob("*.pth")]} == before
    stopping(0)
    assert command("train", "--name", "run", "--continue_train", "--save_epoch_freq", 1).code == 0
    assert record(folder) == record(straight("pix2pix"))  # steps 6 to 8 were done twice and logged once
    assert unequal(weights(folder), weights(straight("pix2pix")), "weights") == []


def test_a_signal_in_the_last_step_ends_a_run_that_is_done(command, stopping, plugins):
    stopping(STEPS, "SIGTERM")
    ended = command("train", *flags("pix2pix", plugins))
    assert (ended.code, ended.err) == (0, "")
    stopping(0)
    assert "is done" in command("train", "--name", "run", "--continue_train").out


# --- what it says


def test_a_finished_run_says_so_and_more_epochs_go_on(command, straight, tmp_path):
    shutil.copytree(straight("pix2pix"), tmp_path / "checkpoints" / "run")
    folder = tmp_path / "checkpoints" / "run"
    before = {p.name: p.read_bytes() for p in [*folder.glob("*.pt*"), *folder.glob("*.jsonl")]}
    ended = command("train", "--name", "run", "--continue_train")
    assert ended.code == 0 and ended.err == ""
    assert "run run is done: 3 epochs are trained; raise --n_epochs to continue" in ended.out
    assert {p.name: p.read_bytes() for p in [*folder.glob("*.pt*"), *folder.glob("*.jsonl")]} == before
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 3)
    assert ended.code == 0, ended.err
    assert "changed since it was saved: --n_epochs 1 -> 3" in ended.out
    steps, epochs = rows(folder)
    assert [row["epoch"] for row in epochs] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in steps] == list(range(1, 16))
    assert [row["lr"] for row in epochs[3:]] == pytest.approx([0.0002 * 2 / 3, 0.0002 / 3])
    assert "5_net_G.pth" in {p.name for p in folder.glob("*.pth")}


def test_changed_options_are_listed_and_used(command, copied):
    folder = copied("pix2pix")
    ended = command("train", "--name", "run", "--continue_train", "--lr", 0.001, "--batch_size", 1, "--beta1", 0.5)
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.out.splitlines() if "changed since" in line]
    assert "--lr 0.0002 -> 0.001" in line and "--batch_size 2 -> 1" in line
    assert "beta1" not in line and "continue_train" not in line
    steps, epochs = rows(folder)
    assert [row["iters"] for row in steps] == [2, 4, 5, 2, 4, 5, 1, 2, 3, 4, 5]
    assert epochs[-1]["lr"] == pytest.approx(0.001 / 3)


def test_nothing_to_continue_names_the_runs_there_are(command, copied):
    copied("pix2pix")
    ended = command(
        "train",
        *SMALL,
        *DEMO,
        "--netG",
        "resnet_4blocks",
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
        "--max_dataset_size",
        1,
        "--name",
        "rum",
        "--continue_train",
    )
    assert ended.code == 0, ended.err
    assert "nothing to continue in checkpoints/rum: starting afresh (did you mean run?)" in ended.out
    assert "there is no such folder; did you mean run?" in command("test", "--name", "ruin").last


def test_nothing_to_continue_starts_afresh_and_says_so(command, straight, plugins, tmp_path):
    ended = command("train", *flags("pix2pix", plugins), "--continue_train")
    assert ended.code == 0, ended.err
    assert "nothing to continue in checkpoints/run: starting afresh" in ended.out
    assert differences(straight("pix2pix"), tmp_path / "checkpoints" / "run") == []


@pytest.mark.parametrize("model", TRAINABLE)
def test_a_folder_of_the_references_files_is_loaded(command, straight, tmp_path, model):
    """A rate of next to nothing shows that training began at the loaded weights."""
    theirs = tmp_path / "checkpoints" / "theirs"
    theirs.mkdir(parents=True)
    for path in straight(model).glob("2_net_*.pth"):
        shutil.copy(path, theirs / path.name.replace("2_", "latest_"))
    ended = command(
        "train",
        *SMALL,
        *DEMO,
        "--model",
        model,
        "--netG",
        "resnet_4blocks",
        *own_networks(model),
        "--name",
        "theirs",
        "--continue_train",
        "--epoch_count",
        3,
        "--n_epochs",
        3,
        "--n_epochs_decay",
        1,
        "--lr",
        1e-12,
        "--print_freq",
        1,
        "--batch_size",
        1,
    )
    assert ended.code == 0, ended.err
    assert "continuing from the weights latest_net_*.pth at epoch 3 (--epoch_count)" in ended.out
    assert "optimisers, image pools and random draws start afresh" in ended.out
    assert "different steps" not in ended.out, "no other run writes to the folder"
    steps, epochs = rows(theirs)
    assert [row["epoch"] for row in epochs] == [3, 4]
    assert (steps[0]["epoch"], steps[0]["iters"], steps[0]["step"]) == (3, 1, 1)
    assert [row["lr"] for row in epochs] == pytest.approx([1e-12, 0.5e-12])
    was, now = weights(straight(model), "2"), weights(theirs)
    for name, tensors in was.items():
        learnt = [k for k in tensors if not k.endswith(STATISTICS)]
        assert all(torch.allclose(now[name][k], tensors[k], rtol=0, atol=1e-9) for k in learnt)


@pytest.fixture
def gone_back(command, straight, stopping, tmp_path):
    """A finished run that was sent back to the weights of its first epoch, then stopped after two steps."""
    folder = tmp_path / "checkpoints" / "run"
    shutil.copytree(straight("pix2pix"), folder)
    stopping(2, "SIGINT")
    ended = command("train", "--name", "run", "--continue_train", "--epoch", 1, "--epoch_count", 2, "--lr", 1e-12)
    assert ended.code == 130, ended.err
    assert "continuing from the weights 1_net_*.pth at epoch 2 (--epoch_count)" in ended.out
    stopping(0)
    return folder


def test_weights_of_an_epoch_can_be_chosen(gone_back, straight):
    """As in the reference, --epoch with --continue_train takes that epoch's weights, not the newest state."""
    was, now = weights(straight("pix2pix"), "1")["G"], weights(gone_back)["G"]
    learnt = [k for k in was if not k.endswith(STATISTICS)]
    assert all(torch.allclose(now[k], was[k], rtol=0, atol=1e-9) for k in learnt)


def test_going_back_keeps_the_record_of_the_epochs_before(gone_back, straight):
    assert [row for row in record(gone_back)[0] if row["epoch"] == 1] == [
        row for row in record(straight("pix2pix"))[0] if row["epoch"] == 1
    ]


def test_a_continuation_goes_on_from_where_one_went_back(command, gone_back):
    """Not from the abandoned state of a later step."""
    ended = command("train", "--name", "run", "--continue_train")
    assert ended.code == 0, ended.err
    assert "continuing at epoch 2, image 4 of it, step 2" in ended.out


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "pickle"])
def test_a_damaged_newest_state_yields_to_the_one_before(command, straight, tmp_path, damage):
    """The straight run keeps the states of steps 6 and 9; from the older one it ends as before."""
    shutil.copytree(straight("pix2pix"), tmp_path / "checkpoints" / "run")
    folder = tmp_path / "checkpoints" / "run"
    path = newest(folder)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "cut": whole[:middle],
            "empty": b"",
            "pickle": b"\x80\x04cos\nsystem\n.",
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        }[damage]
    )
    ended = command("train", "--name", "run", "--continue_train")
    assert ended.code == 0, ended.err
    (note,) = [line for line in ended.out.splitlines() if "state_000000009.pt" in line]
    assert "cannot be used" in note and note.endswith("falling back to the one before")
    assert "continuing at epoch 3, image 0 of it, step 6" in ended.out
    assert differences(straight("pix2pix"), folder) == []


def test_when_no_state_can_be_read_nothing_is_trained(command, copied):
    folder = copied("pix2pix")
    for path in folder.glob("state_*.pt"):
        path.write_bytes(path.read_bytes()[:-100])
    before = {p.name: p.read_bytes() for p in [*folder.glob("*.pt*"), *folder.glob("*.jsonl")]}
    ended = command("train", "--name", "run", "--continue_train")
    assert ended.code == 4
    assert ended.last.startswith("error: run ") and "none of its states can be read" in ended.last
    assert {p.name: p.read_bytes() for p in [*folder.glob("*.pt*"), *folder.glob("*.jsonl")]} == before


def test_a_state_of_other_networks_is_refused_with_the_remedy(command, copied):
    copied("pix2pix")
    ended = command("train", "--name", "run", "--continue_train", "--ngf", 6)
    assert ended.code == 4
    assert "does not fit these options" in ended.last and "--overwrite" in ended.last
    assert len(ended.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "flags", [["--model", "cycle_gan"], ["--model", "CGAN"], ["--model", "cycle_gan", "--dataroot", "demo"]]
)
def test_another_model_is_refused_naming_that_of_the_run(command, copied, flags):
    """Before the data are read; without --model the run continues."""
    copied("pix2pix")
    ended = command("train", "--name", "run", "--continue_train", *flags)
    assert ended.code == 2 and "the run run was trained with pix2pix; omit --model to continue it, or" in ended.last
    assert ended.last.index("another --name") < ended.last.index("--overwrite") and ended.err.count("\n") == 1
    assert command("train", "--name", "run", "--continue_train", "--n_epochs", 1, "--model", "Pix2Pix").code == 0
    ended = command("test", "--name", "run", *flags[:2])
    assert ended.code != 0 and (
        flags[1] == "CGAN" or ended.last.endswith("omit --model: the run was trained with pix2pix")
    )


def test_a_half_written_log_line_does_not_hinder(command, straight, copied):
    """A kill may cut the last lines of both logs anywhere."""
    folder = copied("pix2pix")
    for name in ("losses.jsonl", "loss_log.txt"):
        text = (folder / name).read_text()
        (folder / name).write_text(text + text.splitlines()[-1][:25])
    assert command("train", "--name", "run", "--continue_train").code == 0
    assert record(folder)[0] == record(straight("pix2pix"))[0]
    assert rows(folder)[0][-1]["step"] == STEPS


# --- names


def test_overwrite_starts_afresh_and_leaves_what_is_not_ours(command, straight, copied, plugins):
    folder = copied("pix2pix")
    (folder / "web" / "images" / "epoch077_fake_B.png").write_bytes(b"old")
    (folder / "notes.md").write_text("mine")
    ended = command("train", *flags("pix2pix", plugins), "--overwrite")
    assert ended.code == 0, ended.err
    assert (folder / "notes.md").read_text() == "mine"
    assert not (folder / "web" / "images" / "epoch077_fake_B.png").exists()
    state, was = state_of(folder), state_of(straight("pix2pix"))
    assert state["options"].pop("overwrite") is True
    was["options"].pop("overwrite")
    assert unequal(state, was, "state") == []
    assert record(folder) == record(straight("pix2pix"))


def test_continue_train_and_overwrite_contradict(command, copied):
    folder = copied("pix2pix")
    before = tree_hash(folder)
    ended = command("train", "--name", "run", "--continue_train", "--overwrite")
    assert (ended.code, tree_hash(folder)) == (2, before)
    assert "--overwrite" in ended.last and "--continue_train" in ended.last


def test_the_default_name_counts_up_and_later_means_the_newest(command, tmp_path):
    few = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--max_dataset_size", 1, "--n_epochs", 1,
           "--n_epochs_decay", 0]  # fmt: skip
    said = [command("train", *few, "--ngf", ngf) for ngf in (4, 5, 6)]
    assert [ended.code for ended in said] == [0, 0, 0]
    names = ["experiment_name", "experiment_name_2", "experiment_name_3"]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == names
    assert "note:" not in said[0].out
    assert f"{names[1]} is an earlier run; this one is {names[2]} (choose with --name)" in said[2].out
    failed = command("train", *SMALL, "--dataroot", "nowhere")
    assert failed.code == 3 and not failed.out, "a note on the name of a run that does not start"
    ended = command("train", "--continue_train", "--n_epochs", 2)
    assert ended.code == 0 and "run experiment_name_3:" in ended.out
    assert [len(rows(tmp_path / "checkpoints" / name)[1]) for name in names] == [1, 1, 2]
    ended = command("test", "--num_test", 1)
    assert ended.code == 0, ended.err
    assert [p.name for p in (tmp_path / "results").iterdir()] == [names[2]]


def test_a_number_that_was_freed_is_not_taken_again(command, tmp_path):
    """A number that was freed is not taken again: the newest stays the newest."""
    folder = tmp_path / "checkpoints" / "experiment_name_7"
    folder.mkdir(parents=True)
    torch.save({}, folder / "latest_net_G.pth")
    ended = command(
        "train",
        *SMALL,
        *DEMO,
        "--model",
        "pix2pix",
        "--netG",
        "resnet_4blocks",
        "--max_dataset_size",
        1,
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
    )
    assert ended.code == 0, ended.err
    assert {p.name for p in Path("checkpoints").iterdir()} == {"experiment_name_7", "experiment_name_8"}


def test_a_changed_rate_counts_from_the_continuation_on(command, tmp_path):
    argv = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "unet_32", "--max_dataset_size", 2, "--name", "run"]
    assert command("train", *argv, "--n_epochs", 1, "--n_epochs_decay", 0).code == 0
    more = command("train", "--name", "run", "--continue_train", "--n_epochs", 2, "--lr", 0.01, "--beta1", 0.9)
    assert more.code == 0, more.err
    state, _ = checkpoint.load_state(tmp_path / "checkpoints" / "run")
    groups = [g for o in state["optimizers"].values() for g in o["param_groups"]]
    assert [(g["lr"], g["base_lr"], tuple(g["betas"])) for g in groups] == [(0.01, 0.01, (0.9, 0.999))] * 2


def test_states_of_a_course_given_up_are_set_aside_not_deleted(command, gone_back):
    aside = sorted(p.name for p in gone_back.glob("*.superseded"))
    assert aside == ["state_000000006.superseded", "state_000000009.superseded"]


def test_asking_a_finished_run_for_fewer_epochs_changes_nothing(command, straight, tmp_path):
    shutil.copytree(straight("pix2pix"), tmp_path / "checkpoints" / "run")
    kept = (tmp_path / "checkpoints" / "run" / "options.json").read_bytes()
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 1, "--n_epochs_decay", 0)
    assert ended.code == 0
    assert "run run is done: 3 epochs are trained" in ended.out
    assert (tmp_path / "checkpoints" / "run" / "options.json").read_bytes() == kept
