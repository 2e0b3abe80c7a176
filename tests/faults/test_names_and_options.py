"""Wrong names and options, and a second run of a name, are refused before anything is written."""

import fcntl
import json
import math
import os
import re
import signal
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from options import store
from options.fields import Options
from options.parse import flags_for, parse
from serialization import weight_exports
from tests.support.images import picture
from tests.support.resuming import copied, differences, flags, plugins, stopped, straight, tree_hash
from tests.support.runs import SMALL, options
from tests.support.training_runs import DEMO, rows
from util.errors import UserError

__all__ = ["copied", "plugins", "stopped", "straight"]  # fixtures
FEW = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", 1, "--n_epochs_decay", 0,
       "--max_dataset_size", 1]  # fmt: skip


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def listing(folder):
    """Every path under a folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def refused(command, *argv, script="train", code=2):
    """Run a command that must be refused, in one line, before anything is made; return the line."""
    before = listing(Path())
    ended = command(script, *argv)
    assert ended.code == code, ended
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert re.match(r"error: .+ '.*': .+; .+", ended.last), ended.last
    assert "\x1b" not in ended.err and "\0" not in ended.err and len(ended.last) < 1500
    assert listing(Path()) == before
    return ended.last


@pytest.mark.fault(21)
def test_a_second_run_of_a_name_is_refused(start, command, straight, plugins, tmp_path):
    """A second train.py has the name of a running one: exit 5 with that run's pid, host and time; the first run is not
    affected.

    It is then killed with -9: its lock dies with it, and the run is continued.
    """
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


# ends once the trainer saved its second state and goes on saving: many real test.py beside it
ENDLESS = ["--n_epochs", 10_000, "--save_latest_freq", 1, "--displays", "console"]


@pytest.mark.fault(22)
@pytest.mark.parametrize("model", ["pix2pix", "cycle_gan"])
def test_test_py_beside_a_training_reads_one_save(start, process, tmp_path, model, full, record_property):
    """test.py runs many times beside a training run that saves at every step: exit 0 each time, with weights of one
    save.
    """
    argv = [*FEW, "--model", model, "--name", "run", "--print_freq", 1, *ENDLESS]
    trainer = start("train", *argv)
    number = 40 if full else 5
    try:
        lines = (line for line in trainer.stdout if line.startswith("(epoch: 3,"))
        assert next(lines, None), trainer.stderr.read()
        drain = threading.Thread(target=lambda: [None for _ in lines], daemon=True)
        drain.start()
        for _ in range(number):
            ended = process("test", *DEMO, "--name", "run", "--num_test", 1, "--gpu_ids", -1)
            assert ended.code == 0, ended.err
            assert "may be from different steps" not in ended.out
        assert trainer.returncode is None
    finally:
        trainer.kill()
        trainer.wait()
    record_property(f"test.py beside a training {model} that saves each step", f"{number} of {number}")


class Pair(torch.nn.Module):
    """Two networks whose weights tell their step."""

    def __init__(self):
        super().__init__()
        self.G_A, self.G_B = torch.nn.Linear(1, 1), torch.nn.Linear(300, 300)

    def set(self, step):
        with torch.no_grad():
            for p in self.parameters():
                p.fill_(step)


@pytest.fixture
def at_work(tmp_path):
    """A training's lock on the test's folder."""
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.fault(22)
def test_networks_are_read_from_one_save(tmp_path, at_work):
    """Two networks are read many times while a writer replaces them: their weights are of one step every time."""
    ours, theirs, ended = Pair(), Pair(), threading.Event()
    ours.set(-1)
    weight_exports.write(tmp_path, "latest", dict(ours.named_children()))

    def train():
        for step in range(150):
            ours.set(step)
            weight_exports.write(tmp_path, "latest", dict(ours.named_children()))
        ended.set()

    writer, read = threading.Thread(target=train), []
    writer.start()
    while not ended.is_set():
        weight_exports.load(tmp_path, "latest", dict(theirs.named_children()))
        read.append((theirs.G_A.weight.detach().item(), theirs.G_B.weight.detach()[0, 0].item()))
    writer.join()
    assert [pair for pair in read if pair[0] != pair[1]] == []


def files_of_two_saves(tmp_path):
    """Return two networks, and write their files with times of two saves."""
    pair = Pair()
    weight_exports.write(tmp_path, "latest", dict(pair.named_children()))
    os.utime(tmp_path / "latest_net_G_B.pth", (1, 1))
    return pair


@pytest.mark.fault(22)
def test_files_of_two_saves_are_read_again_while_a_run_trains(tmp_path, capsys, monkeypatch, at_work):
    """The folder of an active training run holds weights of two saves: they are read again for a while, then used with
    a note.
    """
    pair = files_of_two_saves(tmp_path)
    monkeypatch.setattr(weight_exports, "MIXED_SAVE_TIMEOUT_S", 0.0)
    weight_exports.load(tmp_path, "latest", dict(pair.named_children()))
    assert "may be from different steps" in capsys.readouterr().out


@pytest.mark.fault(22)
@pytest.mark.parametrize("lock", [True, False], ids=["a copied or killed run", "somebody's files"])
def test_files_of_two_saves_are_read_at_once_when_nobody_trains(tmp_path, capsys, monkeypatch, lock):
    """Weights were copied together by a user, or a folder was copied with its lock file: they are read at once, without
    a note.
    """
    pair = files_of_two_saves(tmp_path)
    if lock:
        (tmp_path / ".lock").touch()
    monkeypatch.setattr(weight_exports.time, "sleep", lambda seconds: pytest.fail("it waited"))
    weight_exports.load(tmp_path, "latest", dict(pair.named_children()))
    assert capsys.readouterr().out == ""


@pytest.mark.fault(23)
def test_a_name_that_holds_a_run_is_refused(command, copied, plugins):
    """--name names an existing run, without --continue_train or --overwrite: exit 2 names both flags; nothing is
    changed.
    """
    folder = copied("pix2pix")
    before = tree_hash(folder)
    ended = command("train", *flags("pix2pix", plugins))
    assert ended.code == 2
    assert ended.last == (
        "error: option '--name': checkpoints/run already holds a run; use --continue_train or --overwrite"
    )
    assert tree_hash(folder) == before


NAMES = ["../x", "..", ".", "", "a/b", "/abs", "a\\b", "x\n", "x\0y", "x\ny", "\x1b[2J", "\x7f", "\x85", "\u2028",
         "\udcff", "-x", "--", "x" * 300, "é" * 150, "../../x", "~/x/", "//", "./", "x/..", "\r"]  # fmt: skip


@pytest.mark.fault(24)
@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("script", ["train", "test"])
def test_names_that_are_no_folder_names_are_refused(command, tmp_path, script, name):
    """--name is ../x, /tmp/x, empty, ., a/b or -x, has NUL, newlines or escapes, or 300 bytes: exit 2; nothing is
    written.
    """
    around = sorted(tmp_path.parent.iterdir())
    assert "'--name'" in refused(command, *(FEW if script == "train" else []), f"--name={name}", script=script)
    (tmp_path / "c.json").write_text(json.dumps({"name": name}))
    assert "'--name'" in refused(command, *(FEW if script == "train" else []), "--config", "c.json", script=script)
    assert sorted(tmp_path.parent.iterdir()) == around


@pytest.mark.fault(24)
def test_a_name_that_is_a_whole_path_is_refused(command, tmp_path):
    """--name is a path that could be created: exit 2; it is not created."""
    assert "'--name'" in refused(command, *FEW, "--name", tmp_path / "elsewhere")


def tried(call, *args):
    """Return (what a call returns, None), or (None, the error a user gets)."""
    try:
        return call(*args), None
    except UserError as problem:
        return None, problem


@pytest.mark.fault(24)
@settings(max_examples=60)
@given(name=st.text(max_size=40), suffix=st.sampled_from(["", "{ngf}", "../{model}", "/x"]))
def test_any_text_is_one_folder_or_refused(name, suffix):
    """Any text is given as --name, with any --suffix: one folder directly inside --checkpoints_dir, or exit 2."""
    o, problem = tried(parse, [f"--name={name}", f"--suffix={suffix}", "--checkpoints_dir", "runs"], "train")
    if problem is not None:
        assert problem.code == 2
        return
    assert Path("runs", o.name).parts == ("runs", o.name) and o.name not in ("", ".", "..")
    assert o.name.startswith(name) and "\0" not in o.name and len(o.name.encode()) <= 200


@pytest.mark.fault(24)
@pytest.mark.parametrize(
    "name", ["two words", "ünïcödé 🍎", "a..b", "100%#?&'\"", "<script>alert(1)</script>"[:8], "$(x)"]
)
def test_train_and_test_find_a_run_of_any_other_name(command, tmp_path, name):
    """Names contain spaces, accents, emoji, quotes, % or #: one folder has that name, and both commands find it."""
    ended = command("train", *FEW, "--name", name)
    assert ended.code == 0, ended.err
    assert os.listdir("checkpoints") == [name]
    ended = command("test", "--name", name, "--num_test", 1)
    assert ended.code == 0, ended.err
    assert os.listdir("results") == [name]
    assert listing(tmp_path / "results" / name)[:1] == ["test_latest"]


@pytest.mark.fault(25)
@pytest.mark.parametrize("suffix", ["../x", "/etc/{model}", "{__class__}", "{model.__class__}", "{0}", "{name!r}",
                                    "{ngf:1000000000}", "{model", "}", "{model[0]}",
                                    "{nothing}", "{", "a{}b", "{given}", "{flags}", "a/b", "x\0"])  # fmt: skip
def test_a_suffix_takes_flags_and_nothing_else(command, suffix):
    """--suffix has ../, / or format fields such as {__class__} or {model.__class__}: exit 2; nothing is written."""
    line = refused(command, *FEW, "--name", "run", "--suffix", suffix)
    assert line.startswith(("error: option '--suffix'", "error: option '--name'"))


@pytest.mark.fault(25)
@pytest.mark.parametrize("argv", [
    ["--epoch", "../../x"], ["--epoch", "1_net_G.pth\0"], ["--epoch", "{__class__}"], ["--epoch", ""],
    ["--epoch", "-1"], ["--epoch", "1e3"], ["--epoch", "latest/../1"], ["--epoch", "٣"],
    ["--load_iter", "../5"], ["--load_iter", "-5"],
    ["--load_iter", "{__class__}"], ["--load_iter", "1e3"], ["--results_dir", "../x"], ["--results_dir", "a/../../x"],
    ["--results_dir", "{__class__}"], ["--results_dir", "x\0"],
])  # fmt: skip
def test_epochs_are_numbers_and_results_stay_below(command, argv):
    """--epoch, --load_iter or --results_dir has ../ or format fields: exit 2 with the option; nothing is written."""
    assert refused(command, "--name", "run", *argv, script="test").startswith(f"error: option '{argv[0]}'")
    if argv[0] != "--results_dir":
        assert refused(command, *FEW, *argv).startswith(f"error: option '{argv[0]}'")


@pytest.mark.fault(26)
@pytest.mark.parametrize(("script", "argv", "promised"), [
    ("train", "--model pix2pix --lambda_cycle 3",
     "--lambda_cycle is not a flag of pix2pix; did you mean --lambda_L1? (--lambda_A belongs to cycle_gan)"),
    ("train", "--lamda_A 10", "--lamda_A is not a flag of cycle_gan; did you mean --lambda_A?"),
    ("train", "--lamda_A=10", "did you mean --lambda_A?"),
    ("train", "--lambda-A 10", "did you mean --lambda_A?"),
    ("train", "--LR 0.1", "did you mean --lr?"),
    ("train", "--model pix2pix --lambda_A 3", "--lambda_A is not a flag of pix2pix; it belongs to cycle_gan"),
    ("train", "--lambda_L1 3", "--lambda_L1 is not a flag of cycle_gan; it belongs to pix2pix"),
    ("train", "--dropuot", "did you mean --dropout?"),
    ("test", "--n_epochs 3", "--n_epochs is not a flag of test; it belongs to train.py"),
    ("test", "--num_tests 3", "did you mean --num_test?"),
    ("test", "--noeval", "did you mean --no_eval?"),
    ("train", "--zzzzzzzz 1", "--zzzzzzzz is not a flag of cycle_gan; see --help"),
])  # fmt: skip
def test_a_wrong_flag_is_answered_with_the_right_one(command, script, argv, promised):
    """A flag is misspelt, or belongs to another model or command: exit 2 with the right flag and its owner."""
    line = refused(command, *argv.split(), script=script)
    assert promised in line
    assert "unknown" in line


@pytest.mark.fault(26)
@pytest.mark.parametrize(("argv", "meant"), [("--n_ep 5", "--n_epochs"), ("--n_e 5", "--n_epochs"),
    ("--max_data 3", "--max_dataset_size"), ("--lambda_i 1", "--lambda_identity"), ("--serial", "--serial_batches"),
    ("--cont", "--continue_train")])  # fmt: skip
def test_abbreviated_flags_are_refused(command, argv, meant):
    """Flags are abbreviated, which argparse would accept: exit 2 with the whole name."""
    assert f"did you mean {meant}?" in refused(command, *argv.split())


RANGES = {"lr": "above 0", "batch_size": "at least 1 and of at most 100000", "n_epochs": "at least 0",
          "pool_size": "at least 0", "num_threads": "at least 0", "beta1": "at least 0 and below 1",
          "crop_size": "at least 1", "load_size": "at least 1", "lambda_A": "at least 0", "ngf": "at least 1",
          "label_smoothing": "at least 0 and below 0.5", "seed": "at least 0", "max_dataset_size": "at least 1",
          "print_freq": "at least 1", "n_layers_D": "at least 1 and of at most 8", "init_gain": "above 0",
          "display_port": "at least 1 and of at most 65535"}  # fmt: skip


@pytest.mark.fault(27)
@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *[("lr", v) for v in ("nan", "inf", "-1", "0", "x", "1e400", "")],
        ("lambda_A", "-0.1"),
        ("lambda_A", "nan"),
        *[("batch_size", v) for v in ("0", "-1", "1e9", "1000000000", "2.5", "nan", "x", "")],
        ("crop_size", "0"),
        ("load_size", "0"),
        ("n_epochs", "-1"),
        ("n_epochs", "inf"),
        ("pool_size", "-1"),
        ("num_threads", "-1"),
        ("beta1", "2"),
        ("beta1", "1"),
        ("beta1", "nan"),
        ("ngf", "0"),
        ("label_smoothing", "0.5"),
        ("seed", "-1"),
        ("max_dataset_size", "0"),
        ("max_dataset_size", "nan"),
        ("max_dataset_size", "-inf"),
        ("print_freq", "0"),
        ("n_layers_D", "9"),
        ("init_gain", "0"),
        ("display_port", "65536"),
        ("display_port", "1e9"),
    ],
)
def test_numbers_out_of_range_are_refused(command, flag, value):
    """Values are not numbers, out of range, NaN or Inf: exit 2 with the option, the value and the range."""
    line = refused(command, f"--{flag}={value}")
    assert f"option '--{flag}'" in line
    number = value if value in ("1e9", "2.5", "x", "") or flag in ("batch_size", "n_epochs") else str(float(value))
    assert number in line or value in line
    assert RANGES[flag] in line


NUMBERS = [flag for flag in flags_for("cycle_gan") if flag.type in (int, float)]
WRONG = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["nan", "inf", "-inf", "1e400", "0x10", "1_0", "", " ", "9" * 400]),
    st.integers().map(str),
    st.floats().map(str),
)


@pytest.mark.fault(27)
@settings(max_examples=60)
@given(flag=st.sampled_from(NUMBERS), value=WRONG)
def test_any_text_for_a_number_is_in_range_or_refused(flag, value):
    """Any text is given for any numeric flag: a finite number within the range, or exit 2 with the flag."""
    o, problem = tried(parse, [f"--{flag.name}={value}"], "train")
    if problem is not None:
        assert problem.code == 2
        assert f"--{flag.name}" in str(problem) and len(str(problem)) < 1000
        return
    found = getattr(o, flag.name)
    assert math.isfinite(found) or flag.meta["endless"]
    assert type(found) is flag.type and (flag.type is float or abs(found) < 2**63)
    assert flag.meta["at_least"] is None or found >= flag.meta["at_least"]
    assert flag.meta["above"] is None or found > flag.meta["above"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@pytest.mark.fault(27)
@settings(max_examples=200)
@given(flag=st.sampled_from(flags_for("cycle_gan")), value=VALUES)
def test_any_value_from_a_config_file_has_its_type_or_is_refused(flag, value):
    """--config gives any value for any flag: it has the flag's type, or exit 2 with the flag and the file."""
    found, problem = tried(flag.check, value, "c.yaml")
    if problem is not None:
        assert problem.code == 2
        assert f"--{flag.name}" in str(problem) and len(str(problem)) < 1000
        return
    assert found is None or isinstance(found, tuple if flag.type == tuple[str, ...] else (str, int, float))


@pytest.mark.fault(28)
@pytest.mark.parametrize(("argv", "words"), [
    ("--load_size 64 --crop_size 128", "64 --crop_size 128"),
    ("--load_size 64 --crop_size 128 --preprocess scale_width_and_crop", "64 --crop_size 128"),
    ("--gan_mode hinge --label_smoothing 0.1", "--label_smoothing --gan_mode hinge"),
    ("--gan_mode wgangp --label_smoothing 0.1", "--label_smoothing --gan_mode wgangp"),
    ("--continue_train --overwrite", "--overwrite --continue_train"),
    ("--n_epochs 0 --n_epochs_decay 0", "--n_epochs"),
    ("--gpu_ids 0,1", "'0,1' torchrun --nproc_per_node=2 train.py"),
    ("--gpu_ids 0,1,3,", "torchrun --nproc_per_node=3 train.py"),
])  # fmt: skip
def test_contradicting_options_are_refused(command, argv, words):
    """Options contradict each other, or one process is given several devices: exit 2 names both."""
    line = refused(command, *argv.split())
    assert all(word in line for word in words.split()), line


@pytest.mark.fault(28)
def test_pairs_for_an_unpaired_model_are_refused(command, tmp_path):
    """--dataroot holds pairs, but the model needs two folders: exit 2 with --dataset_mode, --dataroot and the right
    value.
    """
    (tmp_path / "pairs" / "train").mkdir(parents=True)
    picture(1, 96, 40).save(tmp_path / "pairs" / "train" / "1.png")
    line = refused(command, *SMALL, "--model", "cycle_gan", "--dataroot", "pairs")
    assert line.startswith("error: option '--dataset_mode': unaligned reads trainA and trainB, but pairs has train")
    assert "--dataset_mode aligned" in line and "--model pix2pix" in line


@pytest.mark.fault(29)
@pytest.mark.parametrize(("value", "code"), [("99", 5), ("first", 2), ("1.5", 2)])
def test_a_missing_device_is_refused(command, tmp_path, value, code):
    """--gpu_ids names a missing device or is not a device: exit 5 or 2 with the remedy -1; nothing is written."""
    short = ["--netG", "resnet_4blocks", "--n_epochs", "1", "--n_epochs_decay", "0", "--max_dataset_size", "1"]
    ended = command("train", *SMALL, *short, "--dataroot", "demo", f"--gpu_ids={value}")
    assert (ended.code, list(tmp_path.iterdir())) == (code, []), ended.last
    assert "option '--gpu_ids'" in ended.last
    assert "-1" in ended.last.partition(";")[2]  # the way out


@pytest.mark.fault(29)
@pytest.mark.parametrize("there", [[], ["Some GPU", "Another GPU"]])
def test_the_devices_that_are_there_are_named(command, monkeypatch, there):
    """CUDA has no device (or a driver too old), or other devices: exit 5 lists the available ones."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(there))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(there))
    monkeypatch.setattr(torch.cuda, "get_device_name", there.__getitem__)
    line = refused(command, *FEW, "--gpu_ids", 9, code=5)
    assert "there is no GPU 9 here (" + (", ".join(f"{i} {n}" for i, n in enumerate(there)) or "no CUDA device") in line
    assert "--gpu_ids -1" in line


def remember(*argv):
    """Leave behind what a run remembers, without training it."""
    o = options("--name", "r", *argv)
    folder = Path(o.checkpoints_dir) / o.name
    folder.mkdir(parents=True)
    store.save(o, folder, "train")
    torch.save({}, folder / "latest_net_G.pth")
    return o


BAD_JSON = {
    "empty": "", "cut": '{"options": {"ngf": 4', "list": "[]", "no table": '{"options": [1]}', "not a table": "3",
    "no options": '{"format": 1}',
    "huge": '{"options": {"name": "' + "x" * 2_000_000 + '"}}', "deep": "[" * 500_000, "bytes": "\xff\xfe",
    **{what: json.dumps({"format": 1, "options": values}) for what, values in {
        "text for a number": {"ngf": "abc"}, "list for a number": {"ngf": [1, 2]}, "out of range": {"ngf": -4},
        "code": {"ngf": "__import__('os').system('touch canary')"}, "table for a word": {"norm": {"a": 1}},
        "null": {"norm": None}, "word for a boolean": {"resize_conv": "yes"}, "nan": {"lr": math.nan},
        "unknown model": {"model": "__import__('os')"}, "number for a model": {"model": 5},
        "number for paths": {"plugin": 5}, "unknown network": {"netG": "resnet_5blocks"},
        "a date": {"lr": "2020-01-01"}, "a long number": {"ngf": 10**4000}, "NUL": {"classes": "a\0b"},
        "lists of lists": {"ngf": [[[1]]]},
        "model's flag": {"model": "pix2pix", "lambda_L1": "x"},
    }.items()},
}  # fmt: skip


@pytest.mark.fault(30)
@pytest.mark.parametrize("script", ["train", "test"])
@pytest.mark.parametrize("what", BAD_JSON)
def test_a_spoilt_options_file_is_refused(command, tmp_path, what, script):
    """options.json is cut, too large, nested too deeply, contains code or wrong types: exit 4 with the file; nothing is
    run.
    """
    remember("--model", "pix2pix")
    Path("checkpoints/r/options.json").write_bytes(BAD_JSON[what].encode("latin-1"))
    before = tree_hash(tmp_path)
    argv = ["--dataroot", "missing", "--name", "r", *(["--continue_train"] if script == "train" else [])]
    ended = command(script, *argv)
    assert ended.code == 4 and ended.err.count("\n") == 1
    assert "options.json" in ended.last and len(ended.last) < 600
    assert tree_hash(tmp_path) in (before, before_with_log(tmp_path, before))


def before_with_log(folder, before):
    """The digest of a folder without the error.log that a command leaves in a run's."""
    (folder / "checkpoints" / "r" / "error.log").unlink(missing_ok=True)
    return tree_hash(folder)


LEVELS = [f"b{i}: &b{i} [{','.join([f'*b{i - 1}'] * 9)}]" for i in range(1, 10)]
BOMB = "\n".join(["b0: &b0 [1,1,1,1,1,1,1,1,1]", *LEVELS, "lr: *b9"])


@pytest.mark.fault(30)
@pytest.mark.parametrize(("name", "text"), [
    ("c.json", "[" * 100_000), ("c.yaml", "[" * 100_000), ("c.yaml", "x: " + "y" * 2_000_000),
    ("c.json", '{"lr": [[[[1]]]]}'),
    ("c.yaml", "lr: 2020-01-01"), ("c.yaml", "n_epochs: !!set {a, b}"), ("c.yaml", "name: !!binary aGVsbG8="),
    ("c.yaml", BOMB), ("c.yaml", "lr: !!python/object/apply:os.system [exit]"),
    ("c.json", '{"format": 1, "options": {"lr": {}}}'),
])  # fmt: skip
def test_a_harmful_config_file_is_refused(command, tmp_path, name, text):
    """--config is nested too deeply, too large, expands references without end, or contains dates, sets, bytes or code:
    exit 2.
    """
    (tmp_path / name).write_text(text)
    refused(command, *FEW, "--config", name)


@pytest.mark.fault(30)
def test_unknown_keys_of_options_json_change_nothing():
    """options.json has keys of a later version or names that are special in Python: they have no effect."""
    before = vars(remember())
    kept = json.loads(Path("checkpoints/r/options.json").read_text())
    kept["options"] |= {"__proto__": {"lr": 1}, "__class__": "x", "__dict__": {}, "given": [], "isTrain": False}
    Path("checkpoints/r/options.json").write_text(json.dumps(kept))
    o = parse(["--name", "r", "--continue_train"], "train")
    assert type(o) is Options
    assert parse(["--name", "r"], "test").netG == before["netG"]
    assert vars(o) == before | {"continue_train": True}


PLAIN = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.fault(31)
@pytest.mark.parametrize("env", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, PLAIN], ids=["C", "ascii", "both"])
def test_names_that_the_terminal_cannot_show_are_escaped(interpreter, monkeypatch, tmp_path, env):
    """LC_ALL=C, PYTHONIOENCODING=ascii, and folder names in other scripts: one line names them, escaped if needed."""
    (tmp_path / "öl 🍎" / "trainA").mkdir(parents=True)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    ended = interpreter("train", *SMALL, "--dataroot", tmp_path / "öl 🍎")
    assert ended.code == 3 and ended.err.count("\n") == 1 and "UnicodeEncodeError" not in ended.err
    assert "/trainA'" in ended.last and (ended.last.isascii() or env == {"LC_ALL": "C"})


@pytest.mark.fault(31)
def test_pictures_that_the_terminal_cannot_show_give_results(interpreter, monkeypatch, tmp_path):
    """LC_ALL=C, PYTHONIOENCODING=ascii, and image names in other scripts: training and test end with exit 0 and all
    results.
    """
    folder = tmp_path / "öl 🍎" / "train"
    folder.mkdir(parents=True)
    for number in range(2):
        picture(number, 96, 40).save(folder / f"bild é{number}.png")
    for name, value in PLAIN.items():
        monkeypatch.setenv(name, value)
    trained = interpreter("train", *FEW, "--dataroot", folder.parent, "--name", "run", "--print_freq", 1)
    assert trained.code == 0, trained.err
    tested = interpreter("test", "--dataroot", folder.parent, "--phase", "train", "--name", "run", "--gpu_ids", -1)
    assert tested.code == 0, tested.err
    assert len(list((tmp_path / "results").rglob("*fake_B.png"))) == 2


@pytest.mark.fault(31)
def test_a_random_py_on_pythonpath_is_the_users_own_code(interpreter, monkeypatch, tmp_path):
    """PYTHONPATH has a random.py: it is the user's own code, which Python runs before GANvas starts, so GANvas cannot
    prevent it.
    """
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "random.py").write_text("raise SystemExit(77)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "theirs"))
    assert interpreter("train", *FEW, "--name", "run").code == 77
    assert not (tmp_path / "checkpoints").exists()
