"""A process of several is killed, raises, hangs or is stopped: all end, one line names it, and the state is whole."""

import json
import os
import signal
import socket
import textwrap

import pytest
import torch

from tests.support.runs import SMALL

PLUGIN = """
import os, signal, time

from models.pix2pix import Pix2Pix


class Faulty(Pix2Pix):
    count = 0

    def loss_g(self, batch, out):
        terms = super().loss_g(batch, out)
        if not batch["A"].is_meta:
            Faulty.count += 1
            if Faulty.count == 5 and os.environ["RANK"] == os.environ.get("FAULTY_RANK"):
                fault = os.environ["FAULT"]
                if fault == "raise":
                    raise RuntimeError("a wrong step")
                if fault == "nan":
                    return terms | {"G_L1": terms["G_L1"] * float("nan")}
                if fault == "hang":
                    time.sleep(300)
                os.kill(os.getpid(), getattr(signal, fault))
        return terms
"""
FLAGS = [*SMALL, "--plugin", "faulty.py", "--model", "faulty", "--netG", "resnet_4blocks", "--dataroot", "demo",
         "--max_dataset_size", "8", "--n_epochs", "50", "--displays", "console", "--no_progress", "--name", "run",
         "--save_latest_freq", "4", "--rank_timeout", "20"]  # fmt: skip


@pytest.fixture
def several(start, tmp_path):
    """several(size, *argv, **env): start train.py in processes as a launcher does; returns them."""
    (tmp_path / "faulty.py").write_text(textwrap.dedent(PLUGIN))

    def begin(size, *argv, **env):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        group = {"WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        return [start("train", *FLAGS, *argv, RANK=str(rank), LOCAL_RANK=str(rank), **group, **env)
                for rank in range(size)]  # fmt: skip

    return begin


def ended(processes, *but):
    """Return the exit codes and what was printed on stderr, of all processes but those killed here."""
    found = [process.communicate(240) for rank, process in enumerate(processes) if rank not in but]
    return [process.returncode for process in processes], "".join(err for _, err in found)


def assert_reported(tmp_path, err, *words, code=5):
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and all(word in lines[0] for word in words), err
    assert json.loads((tmp_path / "checkpoints" / "run" / "exit.json").read_text()) == {
        "code": code,
        "message": lines[0],
    }
    assert (tmp_path / "checkpoints" / "run" / "error.log").read_text().splitlines()[-1] == lines[0]
    for state in (tmp_path / "checkpoints" / "run").glob("state_*.pt"):
        assert torch.load(state, weights_only=True)["position"]["step"] > 0


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all(several, tmp_path, rank):
    codes, err = ended(several(2, FAULT="SIGKILL", FAULTY_RANK=str(rank)))
    assert codes[rank] == -signal.SIGKILL and codes[1 - rank] == 5
    assert_reported(tmp_path, err, f"rank '{rank}': of 2 is gone")


@pytest.mark.parametrize(("fault", "words", "code"), [
    ("raise", ("a wrong step", "(rank 1 of 3)"), 2), ("nan", ("loss 'G_L1'", "rank 1 of 3"), 6),
    ("hang", ("rank '1': of 3 hangs", "--rank_timeout"), 5),
])  # fmt: skip
def test_an_error_of_one_process_is_that_of_all(several, tmp_path, fault, words, code):
    codes, err = ended(several(3, FAULT=fault, FAULTY_RANK="1"))
    assert codes == [code] * 3, err
    assert_reported(tmp_path, err, *words, code=code)


def test_a_stopped_process_is_named(several, tmp_path):
    processes = several(2, FAULT="SIGSTOP", FAULTY_RANK="1")
    first = processes[0].communicate(240)
    processes[1].kill()
    assert processes[0].returncode == 5
    assert_reported(tmp_path, first[1], "rank '1': of 2 shows no sign of life")


def test_a_signal_stops_all_after_one_step(several, tmp_path):
    processes = several(2)
    for line in processes[0].stdout:
        if "epoch 2" in line.replace("(", "").replace(":", ""):
            break
    os.kill(processes[1].pid, signal.SIGTERM)  # one got it first
    os.kill(processes[0].pid, signal.SIGTERM)
    codes, err = ended(processes)
    assert codes == [143, 143] and err.count("stopped and saved") == 1
    state = torch.load(max((tmp_path / "checkpoints" / "run").glob("state_*.pt")), weights_only=True)
    assert len(state["ranks"]) == 2 and state["position"]["step"] >= 8


def full_disk():
    """Let the third state fail."""
    from serialization import checkpoint
    from util.errors import EnvironmentFault

    write, written = checkpoint.write_atomically, []

    def fail(path, *args, **more):
        written.append(path)
        if len(written) == 3:
            raise EnvironmentFault("file", path, "No space left on device", "free space")
        write(path, *args, **more)

    checkpoint.write_atomically = fail


def test_a_save_that_fails_ends_all(start, several, tmp_path):
    several(0)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    processes = [start("train", *FLAGS, before=full_disk, RANK=rank, WORLD_SIZE="2", MASTER_ADDR="localhost",
                       MASTER_PORT=port) for rank in "01"]  # fmt: skip
    codes, err = ended(processes)
    assert codes == [5, 5]
    assert_reported(tmp_path, err, "No space left", "(rank 0 of 2)")
