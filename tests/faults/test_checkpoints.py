"""Missing, damaged, old or non-finite weights and states are refused, or the previous state is loaded."""

import argparse
import json
import shutil
from pathlib import Path

import pytest
import torch

from serialization import checkpoint, weight_files
from tests.support import malicious_checkpoints as hostile
from tests.support.published_weights import build, published
from tests.support.runs import SMALL
from tests.support.training_runs import DEMO, rows
from util.errors import CheckpointError

CPU = ("--gpu_ids", -1, "--num_threads", 0)
TRAIN = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--max_dataset_size", 2, "--n_epochs", 2,
         "--n_epochs_decay", 0, "--displays", "console", "--save_epoch_freq", 1, "--lambda_lecam", 0.1]  # fmt: skip
FIXTURE = Path(__file__).resolve().parent.parent / "facts" / "format_1"


def refusal(path):
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        weight_files.load_weights(path)
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert str(caught.value).startswith(f"file '{path}': ")
    return str(caught.value)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder of two short epochs, both saved, to copy."""
    import os

    import train
    from cli.main import run_command

    folder, before = tmp_path_factory.mktemp("trained"), Path.cwd()
    os.chdir(folder)
    try:
        assert run_command(train.main, [str(word) for word in [*TRAIN, "--name", "run"]]) == 0
    finally:
        os.chdir(before)
    return folder / "checkpoints" / "run"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it where commands run: (its folder, its newest state)."""
    folder = tmp_path / "checkpoints" / "run"
    shutil.copytree(trained, folder)
    return folder, max(folder.glob("state_*.pt"))


def kept(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".pt", ".pth", ".jsonl", ".txt")}


# --- F51: missing


@pytest.mark.fault(51)
@pytest.mark.parametrize(("script", "flags"), [
    ("test", ["--epoch", 7]), ("test", ["--load_iter", 400]), ("train", ["--continue_train", "--epoch", 7]),
])  # fmt: skip
def test_a_missing_epoch_is_answered_with_those_there(command, run, script, flags):
    """--epoch or --load_iter names no existing file: exit 4 with the folder, the existing files and both options."""
    folder, _ = run
    before = kept(folder)
    ended = command(script, "--name", "run", *flags)
    assert ended.code == 4 and ended.err.count("\n") == 1, ended.err
    assert "1_net_G.pth, 2_net_G.pth, latest_net_G.pth" in ended.last and "checkpoints/run has" in ended.last
    assert ended.last.endswith("; choose with --epoch or --load_iter")
    assert kept(folder) == before


@pytest.mark.fault(51)
def test_a_missing_file_or_folder_is_answered_with_those_there(tmp_path):
    """A network, a run or all files are missing: exit 4 lists what exists and names the option to change."""
    for name in ("latest_net_G.pth", "5_net_G.pth", "iter_400_net_G.pth", "latest_net_D.pth"):
        torch.save({}, tmp_path / name)

    def missing(folder, which, network):
        with pytest.raises(CheckpointError) as caught:
            weight_files.load_networks(folder, which, {network: build()})
        return str(caught.value)

    text = missing(tmp_path, "7", "G")
    assert "7_net_G.pth" in text and "5_net_G.pth, iter_400_net_G.pth, latest_net_G.pth" in text
    assert "net_D" not in text and "--epoch or --load_iter" in text
    text = missing(tmp_path, "latest", "G_A")
    assert "latest_net_G_A.pth" in text and "latest_net_D.pth" in text and "--model" in text
    text = missing(tmp_path / "none", "latest", "G")
    assert "no such folder" in text and "--name" in text
    (tmp_path / "bare").mkdir()
    assert "no .pth files" in missing(tmp_path / "bare", "latest", "G")


@pytest.mark.fault(51)
def test_init_from_suggests_what_is_meant(command, run, tmp_path):
    """--init_from gets a misspelt run or file, a state, or a path relative to --checkpoints_dir: exit 4 with the right
    name.
    """
    _, state = run
    argv = [*TRAIN, "--name", "new"]
    for given, answer in {
        "rum": "did you mean run?",
        "run/latest_net_G.pth": "did you mean checkpoints/run/latest_net_G.pth?",
        "checkpoints/run/lates_net_G.pth": "did you mean checkpoints/run/latest_net_G.pth?",
        "nothing_like_it": "there are run",
        f"checkpoints/run/{state.name}": "give its folder: checkpoints/run",
    }.items():
        ended = command("train", *argv, "--init_from", given)
        assert ended.code == 4 and ended.err.count("\n") == 1, ended.err
        assert ended.last.startswith(f"error: option --init_from '{given}': ") and ended.last.endswith(f"; {answer}")
    assert not list(tmp_path.glob("checkpoints/new/*.pt*"))
    assert "is the state of a whole run" in refusal(state)


# --- F52: cut short

CUTS = {"0": lambda n: 0, "1": lambda n: 1, "100": lambda n: 100, "half": lambda n: n // 2, "one less": lambda n: n - 1}


@pytest.mark.fault(52)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_file_cut_short_is_refused(cut, legacy, tmp_path, command):
    """A weights file (zip and old format) is cut at 0, 1 or 100 bytes, at half or one byte short: exit 4 in one line;
    if the list of tensors is whole, the line gives the bytes found and expected.
    """
    path = published(tmp_path, build())
    torch.save(build(ngf=16).state_dict(), path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: CUTS[cut](len(whole))])
    ended = command("test", "--name", "published", "--dataroot", "demo", *CPU)
    assert ended.code == 4 and ended.err.count("\n") == 1, ended.err
    assert ended.last.startswith("error: file 'checkpoints/published/latest_net_G.pth': is ")
    half, full = f"{len(whole) // 2 / 1e6:.1f}", f"{len(whole) / 1e6:.1f}"
    if cut == "half":
        assert f"is cut short: {half} of {'' if legacy else 'at least '}{full} MB are present" in ended.last
    if cut == "0":
        assert "is empty" in ended.last


@pytest.mark.fault(52)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_file_cut_anywhere_is_refused(legacy, tmp_path, full, record_property):
    """A weights file is cut at any place: it is refused, without a crash, and no part of it is loaded."""
    path = tmp_path / "x.pth"
    torch.save(build().state_dict(), path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    cuts = range(0, len(whole), 7 if full else 997)
    for size in cuts:
        path.write_bytes(whole[:size])
        refusal(path)
    record_property("weights files cut short", len(cuts))


@pytest.mark.fault(52)
@pytest.mark.parametrize("cut", CUTS)
def test_resume_falls_back_to_the_state_before(cut, run, command):
    """The newest state is cut at 0, 1 or 100 bytes, at half or one byte short: --continue_train says so, loads the
    previous state and trains on.
    """
    folder, newest = run
    whole = newest.read_bytes()
    newest.write_bytes(whole[: CUTS[cut](len(whole))])
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 3)
    assert ended.code == 0, ended.err
    assert f"note: {newest.name} cannot be used (file " in ended.out and "falling back to the one before" in ended.out
    assert "continuing at epoch 2, image 0 of it, step 2" in ended.out
    assert [row["epoch"] for row in rows(folder)[1]] == [1, 2, 3]


# --- F53: flipped bits


@pytest.mark.fault(53)
def test_a_flipped_bit_is_refused_or_without_effect(tmp_path, full, record_property):
    """One bit of a zip file is flipped, at any place: exit 4, or the very same weights (a bit in padding or a date)."""
    path, refused = tmp_path / "x.pth", 0
    torch.save({"weight": torch.arange(6.0), "count": torch.tensor(3)}, path)
    whole = path.read_bytes()
    bits = range(0, 8 * len(whole), 1 if full else 41)
    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            found = weight_files.load_weights(path)
        except CheckpointError:
            refused += 1
        else:
            assert list(found) == ["weight", "count"] and found["count"].item() == 3, bit
            assert found["weight"].tolist() == list(range(6)), bit
    record_property("bits flipped", len(bits))
    record_property("bits flipped: of these refused", refused)
    assert 0 < refused < len(bits)


@pytest.mark.fault(53)
def test_a_state_with_a_flipped_bit_yields_to_the_one_before(run, command):
    """One bit of a tensor in the newest state is flipped: the checksum detects it, and the previous state is loaded
    with a note.
    """
    _, newest = run
    raw = bytearray(newest.read_bytes())
    raw[len(raw) // 2] ^= 1
    newest.write_bytes(raw)
    assert not hostile.is_accepted(newest)
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 3)
    assert ended.code == 0 and "a checksum is wrong" in ended.out and "continuing at epoch 2" in ended.out


# --- F56: other versions of ours


@pytest.mark.fault(56)
def test_a_state_of_a_newer_version_is_refused(run, command):
    """The state has a newer format: exit 4 with both format numbers and 'upgrade'; the folder is unchanged, and no
    older state is loaded instead.
    """
    folder, newest = run
    state = torch.load(newest, weights_only=True)
    torch.save(state | {"format": checkpoint.STATE_FORMAT + 1}, newest)
    before = kept(folder)
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 3)
    assert ended.code == 4 and ended.err.count("\n") == 1
    assert f"(format {checkpoint.STATE_FORMAT + 1}, this one knows {checkpoint.STATE_FORMAT}); upgrade" in ended.last
    assert kept(folder) == before


@pytest.mark.fault(56)
def test_a_run_of_format_1_continues_with_the_losses_it_had(command, tmp_path):
    """A run folder is from the first release: it loads in every later release, continues with the losses recorded then
    (relative 1e-4), and translates.
    """
    folder = tmp_path / "checkpoints" / "format_1"
    shutil.copytree(FIXTURE, folder)
    ended = command("test", "--name", "format_1", "--num_test", 1)
    assert ended.code == 0, ended.err
    ended = command("train", "--name", "format_1", "--continue_train", "--n_epochs", 2, "--n_epochs_decay", 2)
    assert ended.code == 0, ended.err
    assert "note" not in ended.out and "continuing at epoch 3, image 0 of it, step 6" in ended.out
    then = [json.loads(line) for line in (FIXTURE / "then.jsonl").read_text().splitlines()]
    now = rows(folder)[1][-len(then) :]
    for before, after in zip(then, now, strict=True):
        assert {word: after[word] for word in ("epoch", "step", "samples")} == {
            word: before[word] for word in ("epoch", "step", "samples")
        }
        assert after["lr"] == pytest.approx(before["lr"], rel=1e-9)
        assert after["mean"] == pytest.approx(before["mean"], rel=1e-4)


# --- F59: numbers that are none


@pytest.mark.fault(59)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.complex64], ids=str
)
def test_weights_with_nan_or_inf_are_refused(value, kind, legacy, tmp_path):
    """A weights file of any precision holds NaN or Inf anywhere: exit 4 with the key; no flag allows it."""
    state = {key: v.clone() for key, v in build().state_dict().items()}
    state["model.4.bias"] = state["model.4.bias"].to(kind)
    state["model.4.bias"][3] = float(value)
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    assert "its 'model.4.bias' holds NaN or Inf; " in refusal(tmp_path / "x.pth")


@pytest.mark.fault(59)
def test_commands_refuse_weights_with_nan_and_copy_nothing(command, tmp_path, run):
    """test.py, --init_from and --continue_train get bare weights with NaN: exit 4; none of them is copied to latest."""
    folder, _ = run
    for path in folder.glob("state_*.pt"):
        path.unlink()
    state = torch.load(folder / "latest_net_G.pth", weights_only=True)
    state["model.4.weight"][0] = float("nan")
    torch.save(state, folder / "2_net_G.pth")
    before = kept(folder)
    for words in (
        ("test", "--name", "run", "--epoch", 2),
        ("train", "--name", "run", "--continue_train", "--epoch", 2),
        ("train", *TRAIN, "--name", "new", "--init_from", folder / "2_net_G.pth"),
    ):
        ended = command(*words)
        assert ended.code == 4 and ended.err.count("\n") == 1, ended.err
        assert "its 'model.4.weight' holds NaN or Inf" in ended.last
    assert kept(folder) == before and not list(tmp_path.glob("checkpoints/new/*.pt*"))


SPOILT = {
    "weights": (lambda state: state["model"]["G.model.4.weight"], "model.G.model.4.weight"),
    "moments": (lambda state: state["optimizers"]["G"]["state"][0]["exp_avg"], "optimizers.G.state.0.exp_avg"),
    "second moments": (lambda state: state["optimizers"]["D"]["state"][2]["exp_avg_sq"],
                       "optimizers.D.state.2.exp_avg_sq"),
    "a tool": (lambda state: state["tools"]["gan.judgements.tool_lecam_D_0"],
               "tools.gan.judgements.tool_lecam_D_0"),
}  # fmt: skip


@pytest.mark.fault(59)
@pytest.mark.parametrize("part", SPOILT)
def test_a_state_with_nan_yields_to_the_one_before(part, run, command):
    """The newest state has NaN in weights, the optimiser's moments or a tool's state: the previous state is loaded,
    with a note that names the place; if all states have NaN, exit 4.
    """
    folder, newest = run
    spoilt, place = SPOILT[part]
    for path, all_of_them in ((newest, False), (min(folder.glob("state_*.pt")), True)):
        state = torch.load(path, weights_only=True)
        spoilt(state).view(-1)[0] = float("nan")
        torch.save(state, path)
        notes = checkpoint.load_state(folder)[1] if not all_of_them else []
        assert all_of_them or notes == [
            f"note: {path.name} holds NaN or Inf in '{place}'; falling back to the one before"
        ]
    before = kept(folder)
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 3)
    assert ended.code == 4 and ended.err.count("\n") == 1
    assert "none of its states can be read" in ended.last and place in ended.last and kept(folder) == before


MIXED = {"tools": {"gan.judgements.tool_lecam_D_0": "text"}, "exports": ["latest", 5], "history": ["text"]}


@pytest.mark.fault(59)
@pytest.mark.parametrize(
    ("part", "value"), [*((part, 5) for part in checkpoint.STATE_TYPES), *MIXED.items()], ids=lambda x: str(x)[:12]
)
def test_a_part_of_another_type_yields_to_the_state_before(part, value, run):
    """A part of the newest state has another type, or values of another type: the previous state is loaded, with a
    note.
    """
    folder, newest = run
    torch.save(torch.load(newest, weights_only=True) | {part: value}, newest)
    note = f"note: {newest.name} does not hold the state of a run; falling back to the one before"
    assert checkpoint.load_state(folder)[1] == [note]


@pytest.mark.fault(59)
@pytest.mark.parametrize("damage", [
    lambda tools: {name: value[:1] for name, value in tools.items()},
    lambda tools: dict.fromkeys(tools, torch.zeros(0)),
])  # fmt: skip
def test_a_tool_with_a_state_of_another_shape_is_refused(damage, run, command):
    """All states have a tool's state of another shape: exit 4 with its name and both shapes."""
    folder, _ = run
    for path in folder.glob("state_*.pt"):
        state = torch.load(path, weights_only=True)
        torch.save(state | {"tools": damage(state["tools"])}, path)
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 3)
    assert ended.code == 4 and "the state of gan.judgements.tool_lecam" in ended.last and "not (4, 2)" in ended.last


# --- F60, F61: what is not read


@pytest.mark.fault(60)
@pytest.mark.parametrize("name", ["model.safetensors", "latest_net_G.pth"])
@pytest.mark.parametrize("what", [what for what in hostile.FILES if "safetensors" in what])
def test_hostile_safetensors_are_refused(what, name, tmp_path):
    """A safetensors file of any name is cut short, has a giant header or a pickle behind it: exit 4 in one line."""
    hostile.FILES[what](tmp_path / name)
    reasons = "is cut short: 3 of 4 bytes", "has a header of 100000000 bytes, far more", "its header is no JSON"
    assert sum(reason in refusal(tmp_path / name) for reason in reasons) == 1


@pytest.mark.fault(61)
@pytest.mark.parametrize("url", ["https://host/latest_net_G.pth", "http://127.0.0.1:9/x.pth", "file:///etc/hostname",
                                 "ftp://host/x.pth", "s3://bucket/x.pth", "HTTPS://HOST/x"])  # fmt: skip
def test_urls_are_not_followed(url, command, tmp_path):
    """A URL is given instead of a file, which is not supported: exit 4 in one line, and no connection is opened."""
    ended = command("train", *TRAIN, "--name", "new", "--init_from", url)
    assert ended.code == 4 and ended.err.count("\n") == 1
    assert ended.last == f"error: option --init_from '{url}': is a URL, not a file; download it and give the file"
    with pytest.raises(CheckpointError, match="is a URL, not a file; download it and give the file"):
        weight_files.load_weights(Path(url))


# --- what else is no file of weights

CONTENTS = {
    "a tensor": (torch.zeros(3), "does not hold a state_dict"),
    "nothing": ({}, "does not hold a state_dict"),
    "a list": ([torch.zeros(3)], "does not hold a state_dict"),
    "numbers": ({"a": 1}, "does not hold a state_dict"),
    "nested numbers": ({"epoch": 3, "loss": 0.5}, "does not hold a state_dict"),
    "weights and numbers": ({"weight": torch.ones(2), "epoch": 3}, "does not hold a state_dict"),
    "a text": ("weights", "does not hold a state_dict"),
    "two networks": ({"G": {"a": torch.ones(1)}, "model": {"a": torch.ones(1)}}, "does not hold a state_dict"),
    "objects": ({"opt": argparse.Namespace(a=1)}, "holds Python objects (argparse.Namespace), not just weights"),
    "sparse": ({"model.4.bias": torch.ones(8).to_sparse()}, "its 'model.4.bias' is not a dense tensor"),
}


@pytest.mark.fault(52)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("case", CONTENTS)
def test_a_file_of_something_else_is_refused(case, legacy, tmp_path):
    """An undamaged file holds something other than weights: exit 4 in one line that says what is missing."""
    content, why = CONTENTS[case]
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    assert why in refusal(tmp_path / "x.pth")


@pytest.mark.fault(52)
def test_hostile_keys_leave_the_error_one_printable_line(tmp_path):
    """Keys contain line breaks, terminal escapes or a megabyte of text: the error is one short, printable line."""
    for key in ("a\nerror: b", "\x1b[2J\x1b]0;title\x07", "\ud800", "k" * 1_000_000, "\u202e\u2028"):
        pickled = b"\x80\x02}X" + len(raw := key.encode("utf-8", "surrogatepass")).to_bytes(4, "little") + raw
        for value, members in (
            (hostile.tensor(), {"data/0": hostile.FLOATS[:12] + b"\0\0\xc0\x7f"}),
            (hostile.THINGS_IN_A_PICKLE["sparse"], {"data/0": hostile.FLOATS}),
        ):
            hostile.zipped(tmp_path / "x.pth", pickled + value + b"s.", members)
            line = refusal(tmp_path / "x.pth")
            assert line.isprintable() and len(line) < 1000, line[:200]
        torch.save({key: torch.ones(2)}, tmp_path / "x.pth")
        with pytest.raises(CheckpointError) as caught:
            weight_files.load_into_network(
                torch.nn.Identity(), weight_files.load_weights(tmp_path / "x.pth"), tmp_path / "x.pth"
            )
        assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


@pytest.mark.fault(54)
def test_weights_of_another_network_in_a_run_are_told(run, command):
    """Another run's weights are copied into a run: the error says that they are not what options.json describes."""
    folder, _ = run
    torch.save(build(ngf=6).state_dict(), folder / "latest_net_G.pth")
    ended = command("test", "--name", "run", *CPU)
    assert ended.code == 4 and "it was made with" in ended.last
    assert "another network than the run's options.json describes: put the run's own file back" in ended.last
