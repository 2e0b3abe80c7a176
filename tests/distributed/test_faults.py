"""A process of several is killed, raises, hangs or is stopped: all end, one line names it, and the state is whole."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from functools import partial
from importlib import import_module
from pickle import UnpicklingError

import pytest
import torch

from cli.process_group import ProcessGroup
from serialization import rank_exchange
from tests.support.distributed.shared_runs import differences, newest_state, train_run
from tests.support.runs import ROOT, SMALL
from util.errors import EnvironmentFault

PLUGIN = """
import os, signal, time

from models.pix2pix import Pix2Pix


class Faulty(Pix2Pix):
    count = 0

    def loss_g(self, batch, out):
        terms = super().loss_g(batch, out)
        if not batch["A"].is_meta:
            Faulty.count += 1
            first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
            if first and Faulty.count == 5 and os.environ["RANK"] == os.environ.get("FAULTY_RANK"):
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
         "--save_latest_freq", "4"]  # fmt: skip
# Only where a process hangs: on a busy machine a step, or a save's wait for the disk, may take as long.
SOON = "--rank_timeout", "20", "--save_latest_freq", "1000000"


@pytest.fixture
def run_folder(tmp_path):
    """The folder of the run, in a folder with the plug-in."""
    (tmp_path / "faulty.py").write_text(textwrap.dedent(PLUGIN))
    return tmp_path / "checkpoints" / "run"


@pytest.fixture
def several(start, run_folder):
    """several(size, *argv, **env): start train.py in processes as a launcher does; returns them.

    own: the further arguments of each process. before: a function that each process calls first.
    """

    def begin(size, *argv, own=(), before=None, **env):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        group = {"WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        return [start("train", *FLAGS, *argv, *(own[rank] if own else ()), before=before, RANK=str(rank),
                      LOCAL_RANK=str(rank), **group, **env) for rank in range(size)]  # fmt: skip

    return begin


@pytest.fixture
def torchrun(run_folder, tmp_path):
    """torchrun(*argv, restarts, **env): start two processes by torch's launcher; returns the launcher."""
    started = []

    def begin(*argv, restarts=0, **env):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command = [*launcher, f"--max-restarts={restarts}", ROOT / "train.py", *FLAGS, *argv]
        env = os.environ | {"OMP_NUM_THREADS": "1"} | env
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=tmp_path, env=env, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield begin
    for launcher in started:
        launcher.kill()
        launcher.communicate()


def ended(processes, *but):
    """Return the exit codes and what was printed on stderr, of all processes but those killed here."""
    found = [process.communicate(240) for rank, process in enumerate(processes) if rank not in but]
    return [process.returncode for process in processes], "".join(err for _, err in found)


def assert_reported(folder, err, *words, code=5):
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and all(word in lines[0] for word in words), err
    assert json.loads((folder / "exit.json").read_text()) == {"code": code, "message": lines[0]}
    assert (folder / "error.log").read_text().splitlines()[-1] == lines[0]
    for state in folder.glob("state_*.pt"):
        assert torch.load(state, weights_only=True)["position"]["step"] > 0


@pytest.mark.fault(77)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all(several, run_folder, rank):
    """SIGKILL in one of two processes: the other ends with code 5, and one line names the process that is gone."""
    codes, err = ended(several(2, FAULT="SIGKILL", FAULTY_RANK=str(rank)))
    assert codes[rank] == -signal.SIGKILL and codes[1 - rank] == 5
    assert_reported(run_folder, err, f"rank '{rank}': of 2 is gone")


@pytest.mark.fault(77)
def test_torchrun_ends_after_a_kill(torchrun, run_folder):
    """SIGKILL under torchrun without restarts: it returns 1; one line of ours is in its output and ends error.log."""
    launcher = torchrun(FAULT="SIGKILL", FAULTY_RANK="1")
    _, err = launcher.communicate(timeout=240)
    assert launcher.returncode == 1
    assert_reported(run_folder, err, "rank '1': of 2 is gone")


@pytest.mark.fault(78)
def test_torchrun_restarts_a_killed_run(torchrun, run_folder, tmp_path, pools):
    """SIGKILL under torchrun --max-restarts: losses and last state equal those of an unbroken run, bit for bit."""
    epochs = "--n_epochs", "2", "--n_epochs_decay", "0", "--print_freq", "1"
    launcher = torchrun(*epochs, restarts=1, FAULT="SIGKILL", FAULTY_RANK="1")
    _, err = launcher.communicate(timeout=240)
    assert launcher.returncode == 0, err
    pools(2).run(train_run, str(tmp_path), [*FLAGS, *epochs, "--name", "whole"], 0, False)
    folders = run_folder, run_folder.with_name("whole")
    killed, whole = map(newest_state, folders)
    for part in ("model", "optimizers", "ranks", "generators", "history"):
        assert set(differences(killed[part], whole[part]).values()) == {0.0}, part
    rows = [map(json.loads, (folder / "losses.jsonl").read_text().splitlines()) for folder in folders]
    losses, expected = ({row["step"]: row["losses"] for row in found if "losses" in row} for found in rows)
    assert losses == expected and len(losses) == 8


@pytest.mark.fault(73, 79)
@pytest.mark.parametrize(("fault", "words", "code"), [
    ("raise", ("a wrong step", "(rank 1 of 3)"), 2), ("nan", ("loss 'G_L1'", "rank 1 of 3"), 6),
    ("hang", ("rank '1': of 3 hangs", "--rank_timeout"), 5),
])  # fmt: skip
def test_an_error_of_one_process_is_that_of_all(several, run_folder, fault, words, code):
    """One of three processes raises, has a NaN or hangs: all end with the same code, and one line names the process."""
    codes, err = ended(several(3, *(SOON if fault == "hang" else ()), FAULT=fault, FAULTY_RANK="1"))
    assert codes == [code] * 3, err
    assert_reported(run_folder, err, *words, code=code)


@pytest.mark.fault(79)
def test_a_stopped_process_is_named(several, run_folder):
    """SIGSTOP in one of two processes: the other ends after --rank_timeout, and one line names the stopped one."""
    processes = several(2, *SOON, FAULT="SIGSTOP", FAULTY_RANK="1")
    first = processes[0].communicate(240)
    processes[1].kill()
    assert processes[0].returncode == 5
    assert_reported(run_folder, first[1], "rank '1': of 2 shows no sign of life")


@pytest.mark.fault(80)
def test_sigterm_to_torchrun_stops_all_after_one_step(torchrun, run_folder):
    """SIGTERM to torchrun, which passes it on: all processes save once, after the same step, and one line says so."""
    launcher = torchrun("--save_latest_freq", "1000")
    for line in launcher.stdout:
        if "epoch 2" in line.replace("(", "").replace(":", ""):
            break
    launcher.terminate()
    _, err = launcher.communicate(timeout=240)
    assert launcher.returncode == 1 and err.count("stopped and saved") == 1, err
    assert json.loads((run_folder / "exit.json").read_text())["code"] == 143
    state = newest_state(run_folder)
    assert len(state["ranks"]) == 2 and state["position"]["step"] >= 8


def stop_while_measuring():
    """Let SIGTERM arrive in the process that measures."""
    from training.evaluation.run_evaluation import RunEvaluation

    measure = RunEvaluation._measure

    def stopped(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return measure(*args)

    RunEvaluation._measure = stopped


@pytest.mark.fault(80)
def test_sigterm_while_metrics_are_measured_stops_all(several, run_folder):
    """SIGTERM in the process that measures, while the other waits: both save, and one line says so."""
    codes, err = ended(several(2, "--metrics", "L1", before=stop_while_measuring))
    assert codes == [143, 143] and err.count("stopped and saved at the end of epoch 1") == 1, err
    assert newest_state(run_folder)["position"]["step"] == 4


def fail_at_third(module, name, rank):
    """Let the third call of a function fail in one process."""
    from util.errors import EnvironmentFault

    function, calls = getattr(import_module(module), name), []

    def fail(*args, **more):
        calls.append(args)
        if len(calls) == 3 and os.environ["RANK"] == str(rank):
            raise EnvironmentFault("file", "state", "No space left on device", "free space")
        return function(*args, **more)

    setattr(import_module(module), name, fail)


@pytest.mark.fault(81)
@pytest.mark.parametrize(("module", "name", "rank", "step"), [
    ("training.distributed.rank_state", "collect", 0, 4), ("training.distributed.rank_state", "collect", 1, 4),
    ("serialization.checkpoint", "write_atomically", 0, 4), ("serialization.weight_exports", "write", 0, 6),
])  # fmt: skip
def test_a_save_that_fails_ends_all(several, run_folder, module, name, rank, step):
    """The third save fails in one process, collecting, writing the state or the weights: all end, states are whole."""
    codes, err = ended(several(2, before=partial(fail_at_third, module, name, rank)))
    assert codes == [5, 5]
    assert_reported(run_folder, err, "No space left", f"(rank {rank} of 2)")
    assert newest_state(run_folder)["position"]["step"] == step


@pytest.mark.fault(82)
def test_processes_that_find_other_images_are_refused(several, run_folder):
    """One of two processes finds fewer images: both end before the first step, and one line names it."""
    codes, err = ended(several(2, own=((), ("--max_dataset_size", "7"))))
    assert codes == [3, 3]
    assert_reported(run_folder, err, "rank '1': has other images", code=3)


@pytest.mark.fault(83)
def test_a_port_that_is_taken_is_named(monkeypatch):
    """Another program listens at the port where the first process would hold the store: one line names it, code 5."""
    with socket.create_server(("localhost", 0)) as taken:
        port = str(taken.getsockname()[1])
        for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(EnvironmentFault, match=f"port 'localhost:{port}': is taken; .*--master_port"):
            ProcessGroup(print)


@pytest.mark.fault(83, 84)
def test_an_interface_that_is_not_there_is_named(several):
    """GLOO_SOCKET_IFNAME names no network interface: all processes end with code 5 and a line that says so."""
    codes, err = ended(several(2, GLOO_SOCKET_IFNAME="none0"))
    assert codes == [5, 5] and err.count("GLOO_SOCKET_IFNAME") == 2 and "none0" in err, err


class Payload:
    """An object whose unpickling would run a function."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


@pytest.mark.fault(84)
def test_values_from_other_processes_are_not_unpickled(tmp_path, monkeypatch):
    """A process sends an object that runs code when it is unpickled: it is refused, and no code runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(UnpicklingError):
        rank_exchange._unpack(rank_exchange._pack({"value": Payload()}))
    assert not list(tmp_path.iterdir())
