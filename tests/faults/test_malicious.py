"""Malicious weights files run nothing, use little memory and access no other file."""

import json
import os
import pickle
import random
import resource
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch

from serialization import weight_files
from tests.support import malicious_checkpoints as hostile
from tests.support.runs import ROOT, SMALL
from tests.support.training_runs import DEMO
from util.errors import CheckpointError

TRAIN = [*SMALL, *DEMO, "--model", "cycle_gan", "--netG", "resnet_4blocks", "--max_dataset_size", 2, "--n_epochs", 1,
         "--n_epochs_decay", 0, "--name", "x", "--displays", "console", "--pool_size", 3]  # fmt: skip
NOWHERE = Path("nowhere")
FORCED = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"  # torch's own protection is off unless a program insists
SLACK = 16 << 20  # bytes of growth that are Python's: names, numbers


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


@pytest.fixture(params=["", "1"], ids=["", "forced"])
def forced(request, monkeypatch):
    if request.param:
        monkeypatch.setenv(FORCED, request.param)


def refusal(path):
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as refused:
        weight_files.load_weights(path)
    text = str(refused.value)
    assert text.startswith(f"file '{path}': ") and "; " in text
    assert "\n" not in text and "weights_only" not in text and "pickle_module" not in text
    seen_before = not hostile.is_accepted(path) or "not hold a state_dict" in text
    assert seen_before or "RuntimeError" in text  # of a format that this torch may or may not know, torch decides
    return text


@pytest.mark.fault(57)
def test_an_unprotected_read_runs_the_malicious_file(canary, tmp_path):
    """The attack in the files of the other tests is real: an unprotected read runs it."""
    path = tmp_path / "x.pth"
    gadget = hostile.gadgets(canary)["os.mkdir"]
    for write in (hostile.zipped, hostile.legacy):
        write(path, hostile.with_extra(gadget))
        torch.load(path, weights_only=False)
        canary.rmdir()


@pytest.mark.fault(57)
@pytest.mark.parametrize("what", hostile.gadgets(NOWHERE))
def test_an_object_in_a_file_of_weights_is_never_made(what, canary, tmp_path, forced):
    """Pickles try to call, import or build something (96 kinds, zip and old format), also with
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1: exit 4 in one line, and nothing is run.
    """
    for write in (hostile.zipped, hostile.legacy):
        write(tmp_path / "x.pth", hostile.with_extra(hostile.gadgets(canary)[what]))
        refusal(tmp_path / "x.pth")
        assert not canary.exists()


@pytest.mark.fault(57)
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("where", hostile.CONTAINERS)
def test_a_malicious_pickle_is_refused_wherever_it_lies(where, canary, tmp_path, forced):
    """The same pickle is raw, in a tar, in a header, beside or below another data.pkl: it is refused in one line and
    not run.
    """
    body = hostile.call("os.mkdir", hostile.text(str(canary)))
    path = tmp_path / "x.pth"
    hostile.CONTAINERS[where](path, b"\x80\x02" + body + b".")
    refusal(path)
    hostile.CONTAINERS[where](path, b"\x80\x02}" + hostile.group(hostile.text("a"), body) + hostile.tensor() + b"s.")
    refusal(path)
    for protocol in range(6):
        hostile.CONTAINERS[where](path, pickle.dumps({"weight": Singer(canary)}, protocol=protocol))
        refusal(path)
    assert not canary.exists()


class Singer:
    """Makes a folder when it is unpickled by something that runs what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


PARTS = {  # where in a run's state the object hides
    "options": lambda state, bad: state["options"].update(name=bad),
    "pool": lambda state, bad: state["model"]["pool_A._extra_state"]["images"].append(bad),
    "optimiser's moments": lambda state, bad: next(iter(state["optimizers"].values()))["state"].update({0: bad}),
    "optimiser's groups": lambda state, bad: next(iter(state["optimizers"].values()))["param_groups"].append(bad),
    "weights": lambda state, bad: state["model"].update({"G_A.model.1.weight": bad}),
    "random": lambda state, bad: state["generators"].update(random=bad),
    "numpy": lambda state, bad: state["generators"].update(numpy=bad),
    "position": lambda state, bad: state["position"].update(epoch=bad),
    "history": lambda state, bad: state["history"].append(bad),
    "means": lambda state, bad: state["means"].update(sums=bad),
    "classes": lambda state, bad: state["classes"].append(bad),
    "format": lambda state, bad: state.update(format=bad),
    "a key": lambda state, bad: state.update({("key", bad): 1}),
    "a part of its own": lambda state, bad: state.update(more=bad),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder of one short training, to copy."""
    from cli.main import run_command

    folder, before = tmp_path_factory.mktemp("trained"), Path.cwd()
    os.chdir(folder)
    try:
        import train

        assert run_command(train.main, [str(word) for word in TRAIN]) == 0
    finally:
        os.chdir(before)
    return folder / "checkpoints" / "x"


def hashed(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".pt", ".pth", ".jsonl", ".txt")}


@pytest.mark.fault(57)
@pytest.mark.parametrize("part", PARTS)
def test_an_object_in_a_runs_state_is_never_made(part, trained, canary, tmp_path, command, forced):
    """An object is in the options, pool, optimiser or any other part of state_N.pt: --continue_train ends with exit 4
    in one line; nothing is run, and the folder is unchanged.
    """
    folder = tmp_path / "checkpoints" / "x"
    shutil.copytree(trained, folder)
    (path,) = folder.glob("state_*.pt")
    state = torch.load(path, weights_only=True)
    PARTS[part](state, Singer(canary))
    torch.save(state, path)
    before = hashed(folder)
    ended = command("train", "--name", "x", "--continue_train", "--n_epochs", 2)
    assert ended.code == 4 and ended.err.count("\n") == 1, ended.err
    assert "holds Python objects (" in ended.last and ended.last.startswith("error: run ")
    assert hashed(folder) == before and not canary.exists()


WRONG = {  # a state of plain values that are not what they should be
    "position": lambda state: state.update(position={"epoch": "x"}),
    "position of other names": lambda state: state.update(position={"elsewhere": 1}),
    "history": lambda state: state.update(history=["x"]),
    "model": lambda state: state.update(model=[1]),
    "a model's tensor": lambda state: state["model"].update({"G_A.model.1.weight": 5}),
    "optimisers": lambda state: state.update(optimizers={"G": 5}),
    "optimisers' groups": lambda state: state["optimizers"]["G"].update(param_groups=[1]),
    "optimisers' shapes": lambda state: state["optimizers"]["G"]["state"][0].update(exp_avg=torch.ones(3)),
    "a pool": lambda state: state["model"].update({"pool_A._extra_state": {"images": [3]}}),
    "a pool's pictures": lambda state: state["model"].update({"pool_A._extra_state": {"images": [torch.ones(2)]}}),
    "torch's generator": lambda state: state["generators"].update(torch=torch.ones(2, dtype=torch.uint8)),
    "torch's generator, full of it": lambda state: state["generators"]["torch"].fill_(255),
    "random": lambda state: state["generators"].update(random=(3, (2**70,) * 625, None)),
    "random's spare": lambda state: state["generators"].update(random=(*state["generators"]["random"][:2], "x")),
    "numpy's place": lambda state: _place(state, 10**6),
    "numpy's negative place": lambda state: _place(state, -5),
    "means": lambda state: state.update(means={"sums": 3}),
    "options": lambda state: state.update(options=3),
    "classes": lambda state: state.update(classes=[1]),
    "no model": lambda state: state.pop("model"),
    "no generators": lambda state: state.pop("generators"),
    "format": lambda state: state.update(format="x"),
}  # fmt: skip


def _place(state, place):
    kind, keys, _, *rest = state["generators"]["numpy"]
    state["generators"]["numpy"] = (kind, keys, place, *rest)


@pytest.mark.fault(57)
@pytest.mark.parametrize("part", WRONG)
def test_a_state_of_wrong_values_is_refused(part, trained, tmp_path, command):
    """A part of state_N.pt has plain values of the wrong kind (22 of them; numpy would read beyond its memory): exit 4
    in one line, and the folder is unchanged.
    """
    folder = tmp_path / "checkpoints" / "x"
    shutil.copytree(trained, folder)
    (path,) = folder.glob("state_*.pt")
    state = torch.load(path, weights_only=True)
    WRONG[part](state)
    torch.save(state, path)
    before = hashed(folder)
    ended = command("train", "--name", "x", "--continue_train", "--n_epochs", 2)
    assert ended.code == 4 and ended.err.count("\n") == 1, ended.err
    assert hashed(folder) == before


@pytest.mark.fault(57)
def test_commands_refuse_malicious_files(tmp_path, canary, process, record_property, full):
    """test.py and train.py (--continue_train, --init_from) get such files, in processes with
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1: exit 4, one line, and nothing is run.
    """
    every = list(hostile.gadgets(canary).items())
    chosen = every if full else random.Random(1).sample(every, 2)
    for number, (what, body) in enumerate(chosen):
        folder = tmp_path / "checkpoints" / f"bad{number}"
        folder.mkdir(parents=True)
        hostile.zipped(folder / "latest_net_G.pth", hostile.with_extra(body))
        hostile.legacy(folder / "state_000000001.pt", hostile.with_extra(body))
        name, few = ["--name", folder.name], [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "unet_32"]
        for ended in (
            process("test", "--gpu_ids", -1, *name, **{FORCED: "1"}),
            process("train", *few, *name, "--continue_train", **{FORCED: "1"}),
            process(
                "train", *few, "--name", f"new{number}", "--init_from", folder / "latest_net_G.pth", **{FORCED: "1"}
            ),
        ):
            assert ended.code == 4, (what, ended.err)
            assert ended.err.count("\n") == 1 and ended.last.startswith("error: "), ended.err
    assert not canary.exists()
    record_property("commands given hostile files", len(chosen) * 3)


READ_ALL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from serialization import weight_files
from util.errors import CheckpointError
import torch._dynamo
folder, count = Path(sys.argv[2]), 0
(folder / "begins").mkdir()
for path in sorted(folder.glob("*.pth")):
    try:
        weight_files.load_weights(path)
    except CheckpointError:
        count += 1
print(count)
"""


@pytest.mark.fault(57)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: nothing tells of system calls")
def test_malicious_files_start_no_process_and_no_connection(tmp_path, canary, record_property):
    """All malicious files are read under strace: no execve, no connection, and no file except their own is opened for
    writing.
    """
    folder, log = tmp_path / "files", tmp_path / "log"
    folder.mkdir()
    for number, body in enumerate(hostile.gadgets(canary).values()):
        hostile.zipped(folder / f"{number}.pth", hostile.with_extra(body))
        hostile.legacy(folder / f"{number}_old.pth", hostile.with_extra(body))
    calls = "execve,execveat,connect,openat,mkdir,mkdirat,unlink,unlinkat,rename"
    words = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={calls}", "-o", log, sys.executable, "-c", READ_ALL]
    done = subprocess.run(
        [*map(str, words), str(ROOT), str(folder)], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, FORCED: "1", "OMP_NUM_THREADS": "1"}, timeout=240,
    )  # fmt: skip
    if not log.is_file() or "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not watch processes here: {done.stderr.strip()[:100]}")
    assert done.stdout.split() == [str(2 * len(hostile.gadgets(canary)))], done.stderr
    lines = log.read_text().splitlines()
    (begins,) = [i for i, line in enumerate(lines) if "mkdir" in line and "begins" in line]
    reading_them = lines[begins + 1 :]
    assert sum("openat" in line and "files/" in line for line in reading_them) == 2 * len(hostile.gadgets(canary))
    suspicious = [line for line in reading_them if "openat" not in line or "O_WRONLY" in line or "O_RDWR" in line]
    assert not suspicious, suspicious[:5]
    record_property("files read under strace", 2 * len(hostile.gadgets(canary)))


# --- F58: memory and time


@pytest.mark.fault(58)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", hostile.PICKLES)
def test_a_pickle_that_claims_or_repeats_too_much_is_refused(what, tmp_path):
    """Pickles claim giant sizes without bytes, negative or overflowing offsets, 10^6 keys, nesting of 10^5, containers
    in themselves or misplaced opcodes (100 kinds, zip and old format): exit 4 in one line.
    """
    for write in (hostile.zipped, hostile.legacy):
        write(tmp_path / "x.pth", hostile.PICKLES[what])
        refusal(tmp_path / "x.pth")


@pytest.mark.fault(58)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["ARCHIVES", "SEQUENCES", "FILES", "THINGS"])
def test_archives_that_lie_about_themselves_are_refused(kind, tmp_path):
    """Members are deflated, encrypted, overlapping, duplicate, false or superfluous, lengths are forged, tensors are
    sparse, quantised, meta or nested, formats are others, or 40 GB are zeros (110 kinds): exit 4 in one line.
    """
    for what, write in getattr(hostile, kind).items():
        for old in (False, True) if kind == "THINGS" else (None,):
            path = tmp_path / "x.pth"
            (write if old is None else hostile.saved(write, old))(path)
            assert refusal(path), what
            path.unlink()


@pytest.mark.fault(58)
def test_what_is_no_regular_file_is_not_opened(tmp_path):
    """The path is a pipe (reading it would never end), a folder, a device or a link to itself: exit 4 in one line at
    once.
    """
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    (tmp_path / "terminal").symlink_to("/dev/tty")
    for name in ("pipe", "folder", "loop", "broken", "zeros", "terminal", "absent"):
        refusal(tmp_path / name)
    for name in ("pipe", "zeros"):
        assert "is not a regular file" in refusal(tmp_path / name)


def read_and_fail(sound):
    """Map what any reading and any error of torch's touch of its libraries: up to 25 MB of files on disk, depending on
    how the system maps them, which count as this process's memory but which no file of weights has asked for."""
    weight_files.load_weights(Path(sound))
    with suppress(RuntimeError):  # from C++, as where torch itself refuses a file: it reads the tables of all libraries
        torch.ones(2) + torch.ones(3)


def read_apart(paths, answers, sound):
    """Read each file in a process of its own, limited to 5 s and 3 GB more; note how each ended, then end."""
    found = {}
    for path in paths:
        pipe = os.pipe()
        if not (child := os.fork()):
            read_and_fail(sound)
            resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30), used + (3 << 30)))
            before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
            try:
                weight_files.load_weights(Path(path))
                end = "loaded"
            except CheckpointError as problem:
                end = str(problem)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            os.write(pipe[1], json.dumps([end, grown * 1024, time.process_time() - began]).encode())
            os._exit(0)
        os.close(pipe[1])
        with open(pipe[0]) as answer:
            found[path] = answer.read()
        os.waitpid(child, 0)
    Path(answers).write_text(json.dumps(found))
    os._exit(0)


@pytest.mark.fault(58)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory in use is read from /proc")
def test_refusing_a_file_takes_little_memory_and_time(tmp_path, process, record_property, full, canary):
    """Each file is read in its own process: the peak RSS grows by less than the file, twice the network and 16 MB, in
    less than 5 s of CPU time.
    """
    every = hostile.corpus(canary)
    chosen = {what: write for what, write in every.items() if full or not what.endswith((" in legacy", "as old"))}
    if not full:
        chosen = dict(random.Random(0).sample(list(chosen.items()), 40))
    paths = {}
    for number, (what, write) in enumerate(chosen.items()):
        paths[str(tmp_path / f"{number}.pth")] = what
        write(tmp_path / f"{number}.pth")
    sound, small = tmp_path / "sound.pth", tmp_path / "small.pth"
    torch.save({f"{n}.weight": torch.rand(1 << 20) for n in range(8)}, sound)
    torch.save({"weight": torch.rand(8)}, small)
    reading = partial(read_apart, [*paths, str(sound)], str(tmp_path / "answers"), str(small))
    process("test", before=reading, **{FORCED: "1"})
    answers, worst = json.loads((tmp_path / "answers").read_text()), 0
    for path, answer in answers.items():
        assert answer, (paths[path], "died")
        end, grown, seconds = json.loads(answer)
        size = os.path.getsize(path)
        if path == str(sound):
            assert end == "loaded" and grown < 2 * size, (grown, size)
            continue
        assert end.startswith(f"file '{path}': "), (paths[path], end)
        assert grown < size + SLACK, (paths[path], grown, size)
        assert seconds < 5, (paths[path], seconds)
        worst = max(worst, grown)
    assert not canary.exists()
    record_property("hostile files read", len(answers) - 1)
    record_property("hostile files run or loaded", 0)
    record_property("hostile files: largest growth of memory, MB", round(worst / 1e6, 1))


def test_the_descriptions_give_the_size_of_the_corpus(canary):
    """The counts in these tests' descriptions are those of the corpus."""
    assert len(hostile.gadgets(canary)) == 96
    assert len(hostile.PICKLES) == 100
    assert len(hostile.ARCHIVES) + len(hostile.SEQUENCES) + len(hostile.FILES) + 2 * len(hostile.THINGS) == 110
    assert len(WRONG) == 22
