"""Continue a run that was stopped in mid-epoch, inject faults into its saves, and compare it with an unbroken run."""

import shutil
from functools import partial

import pytest
import torch

from serialization import checkpoint
from tests.support.fault_injection import fault_in_save, journalled
from tests.support.resuming import differences, flags, unequal

CONTINUE = ["--name", "run", "--continue_train"]


@pytest.fixture
def again(stopped, tmp_path):
    """again(): make a new copy of the run that was stopped in mid-epoch after step 5; return its folder."""

    def copy():
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        shutil.copytree(stopped("pix2pix") / "checkpoints", tmp_path / "checkpoints")
        return tmp_path / "checkpoints" / "run"

    return copy


@pytest.fixture(scope="module")
def truth(tmp_path_factory, plugins):
    """truth[step]: the weights of an unbroken run after each of its steps."""
    from tests.support.training_runs import run_in

    folder = tmp_path_factory.mktemp("truth")
    ended = run_in(folder, "train", *flags("pix2pix", plugins), "--save_latest_freq", 1, "--keep_last", 99)
    assert ended.code == 0, ended.err
    files = checkpoint.state_files(folder / "checkpoints" / "run")
    return {step: torch.load(path, weights_only=True)["model"] for step, path in files.items()}


def whole(folder, truth):
    """Return the step of a run's newest state, 0 without a state; check that all its weights are of that step."""
    state, notes = checkpoint.load_state(folder)
    assert notes == [] or "falling back" in notes[0]
    if state is None:
        return 0
    step = state["position"]["step"]
    assert unequal(state["model"], truth[step], "model") == []
    return step


def run_to_its_end(process, folder, straight, *flags):
    """Continue a run and check that it equals the unbroken one bit for bit, except for the given flags."""
    ended = process("train", *CONTINUE, *flags)
    assert ended.code == 0, ended.err
    named = {str(flag).removeprefix("--") for flag in flags}
    found = differences(straight("pix2pix"), folder)
    assert [d for d in found if d.partition(":")[0].removeprefix("state.options.") not in named] == []
    assert not list(folder.glob("*.tmp"))


def calls_of_a_save(process, again, tmp_path):
    """Return the file-system calls of the first save of the continued run."""
    again()
    journal = tmp_path / "calls.json"
    ended = process("train", *CONTINUE, before=partial(fault_in_save, 1, 0, str(journal)))
    assert ended.code == 0, ended.err
    return [name for name, *_ in journalled(journal)]


def chosen(calls, full):
    """Return the numbers of the calls at which to inject a fault: all of them, or a selection in the short form.

    The short form takes every second call, after repeated writes are reduced to their first.
    """
    if full:
        return list(range(1, len(calls) + 1))
    return [n for n, call in enumerate(calls, 1) if call != "write" or calls[n - 2] != "write"][::2]
