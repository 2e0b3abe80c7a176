"""A full, failing, read-only or missing disk gives one line with the path, and no saved state is damaged."""

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch

from serialization import checkpoint
from tests.support.fault_injection import fault_in_save, journalled, nobody
from tests.support.resuming import differences, flags, plugins, stopped, straight
from tests.support.runs import SMALL
from tests.support.stopped_runs import CONTINUE, again, calls_of_a_save, chosen, run_to_its_end, truth, whole
from tests.support.training_runs import DEMO
from util import disk_space

__all__ = ["again", "plugins", "stopped", "straight", "truth"]  # fixtures
FEW = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", 1, "--n_epochs_decay", 0,
       "--max_dataset_size", 2, "--name", "run"]  # fmt: skip


def committed(folder):
    """The bytes of every state and every file of weights."""
    return {p.name: p.read_bytes() for p in folder.glob("*.p*t*") if not p.name.endswith(".tmp")}


@pytest.fixture
def mounted(tmp_path):
    """mounted(name, size): a disk of its own of so many bytes, as a folder; taken away after the test."""
    places = []

    def mount(name, size=None, source=None):
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        if source is None:
            words = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "none", str(place)]
        else:
            words = ["mount", "--bind", str(source), str(place)]
        if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small disk needs root's rights")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.fault(12)
@pytest.mark.parametrize("resumed", [False, True], ids=["a new run", "a continued one"])
def test_a_disk_too_small_for_the_states_is_refused_first(command, mounted, tmp_path, resumed):
    """The disk is too small for the files that the run will keep: exit 5 before the first step, with the bytes needed,
    the bytes free and the option that needs less; nothing is changed.
    """
    small = mounted("small", 600_000 if not resumed else 1_400_000)
    argv = [*FEW, "--checkpoints_dir", small]
    if resumed:
        ended = command("train", *argv, "--keep_last", 1)
        assert ended.code == 0, ended.err
        argv = ["--name", "run", "--checkpoints_dir", small, "--continue_train", "--n_epochs", 2, "--keep_last", 5]
    before = committed(small / "run") if resumed else {}
    ended = command("train", *argv)
    assert ended.code == 5, ended.err
    said = re.fullmatch(
        r"error: folder '(.*)': has too little free space: the run needs (.*) \((\d) x (.*) of state, (.*) of weights\)"
        r", "
        r"(.*) are free; free space, lower --keep_last or choose another --checkpoints_dir",
        ended.last,
    )
    assert said and said[1] == str(small / "run"), ended.last
    assert int(said[3]) == (5 if resumed else 3)
    assert "(epoch:" not in ended.out and committed(small / "run") == before


@pytest.mark.fault(12)
def test_the_estimate_of_room_equals_what_is_written(command, tmp_path, monkeypatch):
    """The required disk space that GANvas reports is within a tenth of the bytes that states and weights then take."""
    asked = []
    monkeypatch.setattr(disk_space, "check_free_space", lambda folder, needed, parts, reclaimed: asked.append(needed))
    ended = command(
        "train",
        *FEW,
        "--n_epochs",
        2,
        "--save_latest_freq",
        1,
        "--save_epoch_freq",
        99,
        "--keep_last",
        2,
        "--pool_size",
        0,
        "--ngf",
        24,
        "--ndf",
        24,
    )
    assert ended.code == 0, ended.err
    files = [p.stat().st_size for p in (tmp_path / "checkpoints/run").glob("*.p*t*")]
    largest = max(files)  # while it is written, there is one state more
    assert asked[0] == pytest.approx(sum(files) + largest, rel=0.1)


@pytest.mark.fault(12)
def test_numbered_weights_that_will_not_all_fit_are_a_note(command, mounted):
    """The disk holds the states but not the numbered weights of all epochs: a note before the first step."""
    small = mounted("small", 2_700_000)
    ended = command("train", *FEW, "--n_epochs", 200, "--save_epoch_freq", 1, "--checkpoints_dir", small)
    assert "note: 200 numbered weights of " in ended.out and "will not fit: raise --save_epoch_freq" in ended.out
    assert ended.code == 5 and "No space left on device" in ended.last, ended.err
    state, notes = checkpoint.load_state(small / "run")
    assert state["position"]["epoch"] > 1 and notes == []


def room(full):
    """Return free bytes, from none to enough, at which a disk is to be full: every fourth page, or in short a few."""
    return range(0, 1_200_000, 16_384 if full else 262_144)


@pytest.mark.fault(13)
def test_a_disk_full_at_any_byte_of_a_save_loses_no_state(
    start, process, mounted, stopped, straight, truth, tmp_path, full, record_property
):
    """The disk fills up after 0, 4, 8, ... pages of a save: exit 5 with the path, the bytes needed and the bytes free;
    the previous state is whole, no half-written file remains, and with space again the run ends like an uninterrupted
    one.
    """
    tried = 0
    small = mounted("disk", 8_000_000)
    for free in room(full):
        for left in small.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        shutil.copytree(stopped("pix2pix") / "checkpoints" / "run", small / "run")
        if not (tmp_path / "checkpoints").exists():
            (tmp_path / "checkpoints").symlink_to(small)
        running = start("train", *CONTINUE, before=no_wait, STOP_AFTER_STEP="6", STOP_BY="waiting")
        assert any(line.startswith("(epoch: 2, iters: 5,") for line in running.stdout), running.stderr.read()
        filler = small / "filler"
        filler.write_bytes(bytes(max(0, disk_space.free_bytes(small) - free)))
        out, err = running.communicate()
        if running.returncode == 0:
            break
        tried += 1
        last = err.strip().splitlines()[-1]
        assert running.returncode == 5, err
        assert "No space left on device" in last and last.startswith("error: file 'checkpoints/run/"), err
        if ".pt" in last:
            assert re.search(r"it needs .* bytes|it needs .*[kM]B, .* are free; free space", last), last
            assert "trying again in 0 s" in out
        assert not list((small / "run").glob("*.tmp"))
        assert whole(small / "run", truth) in (5, 6, 9)
        filler.unlink()
        run_to_its_end(process, small / "run", straight)
    assert tried
    record_property("a disk full at each fourth page of a save", f"{tried} of {tried} states whole")


def no_wait():
    """Try a write to a full disk again at once."""
    disk_space.RETRY_WAIT_S = 0


def freed_meanwhile():
    """Let the test free the disk in the time that is waited for it."""

    def wait(seconds):
        assert seconds == 5
        os.write(1, b"waiting\n")
        os.read(0, 1)

    disk_space.time.sleep = wait


@pytest.mark.fault(14)
def test_a_save_is_tried_again_when_the_disk_has_room(start, mounted, stopped, straight, tmp_path):
    """The disk is full when a state is due, and has space five seconds later: one note, one more try, and nothing is
    lost.
    """
    small = mounted("disk", 8_000_000)
    shutil.copytree(stopped("pix2pix") / "checkpoints" / "run", small / "run")
    (tmp_path / "checkpoints").symlink_to(small)
    running = start("train", *CONTINUE, before=freed_meanwhile, STOP_AFTER_STEP="6", STOP_BY="waiting")
    assert any(line.startswith("(epoch: 2, iters: 5,") for line in running.stdout)
    filler = small / "filler"
    filler.write_bytes(bytes(max(0, disk_space.free_bytes(small) - 100_000)))
    running.stdin.write("\n")
    said = []
    for line in running.stdout:
        said.append(line)
        if line == "waiting\n":
            filler.unlink()
            running.stdin.write("\n")
            break
    _, err = running.communicate()
    assert (running.returncode, err) == (0, "")
    assert any("cannot be written (No space left on device); trying again in 5 s" in line for line in said)
    assert differences(straight("pix2pix"), small / "run") == []


@pytest.mark.fault(15)
@pytest.mark.parametrize("how", ["a read-only mount", "a folder of somebody else"])
def test_a_folder_without_write_access_is_refused_first(process, mounted, tmp_path, how):
    """The disk is read-only, or the folder is not writable: exit 5 before the first step, and nothing is written."""
    if how == "a read-only mount":
        (tmp_path / "source").mkdir()
        place = mounted("readonly", source=tmp_path / "source")
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        before = None
    else:
        place = tmp_path / "theirs"
        place.mkdir(mode=0o555)
        if os.geteuid() == 0:
            for folder in [tmp_path, *tmp_path.parents]:
                if str(folder) not in ("/", "/tmp"):
                    folder.chmod(0o755)
        before = nobody if os.geteuid() == 0 else None
    ended = process("train", *FEW, "--checkpoints_dir", place, before=before)
    assert ended.code == 5, ended.err
    why = "Read-only file system" if before is None and os.geteuid() == 0 else "Permission denied"
    assert ended.last.startswith(f"error: folder '{place / 'run'}': cannot be used ({why});"), ended.last
    assert "--checkpoints_dir" in ended.last and "(epoch:" not in ended.out and not list(place.iterdir())


@pytest.mark.fault(16)
@pytest.mark.parametrize("becomes", ["nothing", "a file"])
def test_a_run_folder_that_goes_in_mid_run_is_not_made_again(start, again, tmp_path, becomes):
    """The run's folder is moved or replaced during the run: exit 5 with its name; the folder is not created again, and
    the moved one is whole.
    """
    folder = again()
    before = committed(folder)
    running = start("train", *CONTINUE, STOP_AFTER_STEP="6", STOP_BY="waiting")
    assert any(line.startswith("(epoch: 2, iters: 5,") for line in running.stdout)
    folder.rename(tmp_path / "moved")
    if becomes == "a file":
        folder.write_text("in the way")
    _, err = running.communicate()
    assert running.returncode == 5, err
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: file 'checkpoints/run/state_000000006.pt': cannot be written"), err
    assert "restore its folder" in last
    assert committed(tmp_path / "moved") == before
    assert (folder.read_text() == "in the way") if becomes == "a file" else not folder.exists()


BROKEN = {"EIO": errno.EIO, "EROFS": errno.EROFS, "EDQUOT": errno.EDQUOT, "ETIMEDOUT": errno.ETIMEDOUT}


@pytest.mark.fault(17)
@pytest.mark.parametrize("name", BROKEN)
def test_a_disk_that_fails_at_any_call_of_a_save_loses_no_state(
    process, again, straight, truth, tmp_path, full, record_property, name
):
    """EIO, EROFS, EDQUOT or ETIMEDOUT occurs in any open, write, fsync, close, rename or removal of a save: exit 5 with
    the file (a failed removal is only a note); the states stay whole, and afterwards the run ends like an uninterrupted
    one.
    """
    calls, tried = calls_of_a_save(process, again, tmp_path), 0
    for at in chosen(calls, full)[:: 3 if not full else 1 if name == "EIO" else 4]:
        folder, journal = again(), tmp_path / f"journal_{at}.json"
        fail = partial(fault_in_save, 1, at, str(journal), what="fail", code=BROKEN[name])
        ended = process("train", *CONTINUE, before=partial(both, no_wait, fail))
        tried += 1
        what, *paths = journalled(journal)[at - 1]
        if what == "unlink" and "state_" in paths[0] and not paths[0].endswith(".tmp"):
            assert ended.code == 0 and f"old state {paths[0]} cannot be removed" in ended.out, ended.err
        elif ended.code == 0:  # a full quota is tried twice; and a removal of what is gone already harms nothing
            assert name == "EDQUOT" or what == "unlink", ended.out
        else:
            assert ended.code == 5, ended.err
            why = re.escape(f"cannot be written ({os.strerror(BROKEN[name])})")
            assert re.match(rf"error: file 'checkpoints/run/[^']*\.pth?': {why}", ended.last), ended.last
        assert whole(folder, truth) in (5, 6, 9)
        if ended.code:
            run_to_its_end(process, folder, straight)
    record_property(f"{name} at file-system calls of a save", f"{tried} of {tried} states whole")


def both(*functions):
    """Do several things before a process starts."""
    for function in functions:
        function()


@pytest.mark.fault(18)
def test_a_run_may_lie_on_another_disk_behind_a_link(process, mounted, plugins, straight, tmp_path):
    """checkpoints_dir is a link to another disk: files are renamed within that disk (no EXDEV), and the run is not
    affected.
    """
    other = mounted("other", 20_000_000)
    (tmp_path / "checkpoints").symlink_to(other)
    ended = process("train", *flags("pix2pix", plugins), before=None)
    assert ended.code == 0, ended.err
    assert differences(straight("pix2pix"), other / "run") == []


@pytest.mark.fault(19)
def test_states_go_only_after_the_new_one_was_read_back(tmp_path, monkeypatch):
    """The disk loses a byte of the new state: exit 5, and every older state still exists."""
    for step in (1, 2):
        checkpoint.save_state(tmp_path, {"step": step}, step, 2)
    fsync = os.fsync

    def damaging(handle):
        place = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if place.is_file():
            raw = bytearray(place.read_bytes())
            raw[len(raw) // 3] ^= 255
            place.write_bytes(raw)
        fsync(handle)

    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(os, "fsync", damaging)
    with pytest.raises(disk_space.EnvironmentFault, match="failed the check after writing"):
        checkpoint.save_state(tmp_path, {"step": 3, "t": torch.arange(3000)}, 3, 1)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.fault(19)
def test_the_step_number_decides_which_state_goes(tmp_path):
    """States have file times in the future, or higher numbers from an earlier use of the folder: the state of the
    oldest step is removed, never the newest; abandoned states are moved aside, not deleted.
    """
    for step in (5, 10, 15):
        checkpoint.save_state(tmp_path, {"step": step}, step, 2)
        os.utime(tmp_path / f"state_{step:09d}.pt", (4e9 - 1e8 * step, 4e9 - 1e8 * step))
    assert sorted(checkpoint.state_files(tmp_path)) == [10, 15]
    assert checkpoint.load_state(tmp_path)[0]["step"] == 15
    checkpoint.save_state(tmp_path, {"step": 7}, 7, 2)
    assert sorted(checkpoint.state_files(tmp_path)) == [7]
    assert sorted(p.stem for p in tmp_path.glob("*.superseded")) == ["state_000000010", "state_000000015"]


@pytest.mark.fault(20)
def test_an_old_state_that_cannot_be_removed_is_told_once(command, tmp_path, monkeypatch):
    """Each removal of an old state fails: one note; training continues and new states are written."""
    unlink = Path.unlink

    def refused(self, missing_ok=False):
        if self.suffix == ".pt":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        ended = command("train", *FEW, "--n_epochs", 4, "--save_epoch_freq", 1, "--keep_last", 1)
    assert ended.code == 0, ended.err
    folder = tmp_path / "checkpoints" / "run"
    assert ended.out.count(f"old state {folder.relative_to(tmp_path)}/state_000000002.pt cannot be removed") == 1
    assert sorted(checkpoint.state_files(folder)) == [2, 4, 6, 8]


@pytest.mark.fault(17)
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed: it makes system calls fail")
@pytest.mark.parametrize("call", ["fsync", "rename", "close"])
def test_kernel_errors_during_a_save_lose_no_state(start, again, truth, call):
    """The kernel returns EIO for fsync, rename or close during a save: exit 5, and the states stay whole."""
    folder = again()
    running = start("train", *CONTINUE, STOP_AFTER_STEP="6", STOP_BY="waiting")
    assert any(line.startswith("(epoch: 2, iters: 5,") for line in running.stdout)
    argv = ["strace", "-f", "-p", str(running.pid), "-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when=1+"]
    tracer = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    assert "attached" in tracer.stderr.readline()
    _, err = running.communicate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        tracer.communicate(timeout=20)
    tracer.send_signal(signal.SIGTERM)
    assert running.returncode == 5, err
    assert "Input/output error" in err
    assert whole(folder, truth) in (5, 6)
