"""A continued run detects images or options that have changed since it was stopped."""

import gzip
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from data.listing.fingerprint import Inventory
from tests.support.images import picture
from tests.support.resuming import differences, flags, newest, plugins, stopping, straight, tree_hash
from tests.support.runs import SMALL
from tests.support.training_runs import plugin_files, rows, run_in

__all__ = ["plugins", "stopping", "straight"]  # fixtures
AGAIN = ["--name", "run", "--continue_train"]
FEW = ["--netG", "resnet_4blocks", "--n_epochs", 2, "--n_epochs_decay", 0, "--batch_size", 2, "--print_freq", 1,
       "--displays", "console,stopper", "--name", "run"]  # fmt: skip
UNIMPORTANT = (".lock", "exit.json", "error.log")  # who was here last, and how that ended
KINDS = {"pix2pix": ["--dataset_mode", "aligned"], "cycle_gan": [], "cgan": [], "colorization": []}


def place(folder, number, mode="RGB"):
    """Write one more picture."""
    folder.mkdir(parents=True, exist_ok=True)
    picture(500 + number, 96, 40).convert(mode).save(folder / f"{number}.png")


def make_data(root, model):
    """Five pictures in the layout of a model; returns the folder whose files the tests change."""
    for side in {"cycle_gan": ("trainA", "trainB"), "cgan": ("one", "two")}.get(model, ("train",)):
        for number in range(5):
            place(root / side, number)
    return root / {"cycle_gan": "trainB", "cgan": "one"}.get(model, "train")


@pytest.fixture(scope="module")
def begun(tmp_path_factory, plugins):
    """begun(model, flags...): the folder with `data` and a run stopped in its second step; each is made once."""
    done = {}

    def folder(model, *more):
        if (model, more) not in done:
            made = tmp_path_factory.mktemp(model)
            files = make_data(made / "data", model)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("STOP_AFTER_STEP", "2")
                patch.setenv("STOP_BY", "SIGTERM")
                argv = [*SMALL, *FEW, "--plugin", plugins, "--model", model, "--dataroot", "data", *more]
                ended = run_in(made, "train", *argv)
            assert ended.code == 143, ended.err
            done[model, more] = made, files.relative_to(made)
        return done[model, more]

    return folder


@pytest.fixture
def interrupted(begun, stopping, tmp_path):
    """interrupted(model, flags...): copy a run stopped in its second step; return the folder of its pictures."""

    def run(model, *more):
        made, files = begun(model, *more)
        shutil.copytree(made, tmp_path, dirs_exist_ok=True)
        stopping(0)
        return tmp_path / files

    return run


def one_more(files):
    place(files, 7)


def two_more_one_gone(files):
    place(files, 7)
    place(files, 8)
    (files / "1.png").unlink()


def renamed(files):
    (files / "1.png").rename(files / "9.png")


def three_replaced(files):
    for number in range(3):
        path = files / f"{number}.png"
        path.write_bytes(path.read_bytes() + b"\0")  # the same picture, as a file of another size


def all_at_once(files):
    two_more_one_gone(files)
    (files / "2.png").write_bytes((files / "3.png").read_bytes() + b"\0\0")


CHANGES = {one_more: "1 added", two_more_one_gone: "2 added, 1 removed", renamed: "1 added, 1 removed",
           three_replaced: "3 replaced", all_at_once: "2 added, 1 removed, 1 replaced"}  # fmt: skip


@pytest.mark.fault(48)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("model", KINDS)
def test_changed_pictures_stop_a_continued_run(command, interrupted, tmp_path, model, change):
    """Files are added, removed, renamed or replaced while a run is stopped: exit 3, or a note with --allow_data_change.

    Both say how many; nothing of the run is touched by the refusal.
    """
    files = interrupted(model)
    change(files)
    folder = tmp_path / "checkpoints" / "run"
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in UNIMPORTANT}
    ended = command("train", *AGAIN)
    assert ended.code == 3 and ended.err.count("\n") == 1
    assert ended.last == (
        f"error: run 'checkpoints/run': its images changed since it was saved: {CHANGES[change]}; "
        "restore them, or accept a different order with --allow_data_change"
    )
    assert {p: p.read_bytes() for p in before} == before
    ended = command("train", *AGAIN, "--allow_data_change")
    assert ended.code == 0, ended.err
    assert f"note: its images changed since it was saved: {CHANGES[change]} (--allow_data_change)" in ended.out
    assert "--allow_data_change" not in (folder / "options.json").read_text()
    more = command("train", *AGAIN, "--n_epochs", 3)  # they are the run's pictures from now on
    assert more.code == 0 and "its pictures changed" not in more.out, more.err


@pytest.mark.fault(48)
def test_restored_pictures_are_no_change(command, interrupted, tmp_path):
    """A changed folder was restored, files were only touched, or other files than images changed: the run continues."""
    files = interrupted("pix2pix")
    kept = (files / "1.png").read_bytes()
    (files / "1.png").unlink()
    assert command("train", *AGAIN).code == 3
    (files / "1.png").write_bytes(kept)
    os.utime(files / "2.png", (1, 1))
    (files / "notes.txt").write_text("mine")
    (files / ".hidden.png").write_bytes(b"x")
    ended = command("train", *AGAIN)
    assert ended.code == 0, ended.err
    assert "note: its pictures" not in ended.out


@pytest.mark.fault(48)
@pytest.mark.parametrize("model", KINDS)
def test_a_moved_data_folder_is_no_change(command, interrupted, tmp_path, model):
    """The data folder was moved, and a new --dataroot names it, also by a link or an absolute path: the run continues
    without a note.
    """
    interrupted(model)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").rename(tmp_path / "elsewhere" / "pictures")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    ended = command("train", *AGAIN, "--dataroot", "link/pictures/")
    assert ended.code == 0, ended.err
    assert "its images" not in ended.out and "differ from an uninterrupted" not in ended.out
    ended = command("train", *AGAIN, "--dataroot", tmp_path / "elsewhere" / "pictures", "--n_epochs", 3)
    assert ended.code == 0, ended.err


@pytest.mark.fault(48)
def test_an_added_class_is_refused(command, interrupted, tmp_path):
    """A class was added to labelled images: exit 3 with the old and new classes, also with --allow_data_change."""
    files = interrupted("cgan")
    place(files.parent / "three", 1)
    for more in ([], ["--allow_data_change"]):
        ended = command("train", *AGAIN, *more)
        assert ended.code == 3
        assert "trained with the classes one, two; the data set has one, three, two" in ended.last
    ended = command("train", *AGAIN, "--classes", "one,two")  # those of then: the same pictures, in the same order
    assert ended.code == 0, ended.err


def write_idx(folder, count):
    pixels = np.arange(count * 36, dtype=np.uint32).reshape(count, 6, 6).astype(np.uint8)
    for name, array, magic in (("images-idx3", pixels, 0x803), ("labels-idx1", np.arange(count) % 2, 0x801)):
        head = np.array([magic, *array.shape], dtype=">u4").tobytes()
        with gzip.open(folder / f"train-{name}-ubyte.gz", "wb") as file:
            file.write(head + array.astype(np.uint8).tobytes())


@pytest.mark.fault(48)
def test_changed_idx_files_are_refused(command, plugins, stopping, tmp_path):
    """MNIST's files were replaced by others while a run was stopped: exit 3."""
    (tmp_path / "digits").mkdir()
    write_idx(tmp_path / "digits", 6)
    stopping(2, "SIGTERM")
    ended = command(
        "train", *SMALL, *FEW, "--plugin", plugins, "--model", "cgan", "--dataroot", "digits", "--input_nc", 1
    )
    assert ended.code == 143, ended.err
    stopping(0)
    write_idx(tmp_path / "digits", 8)
    ended = command("train", *AGAIN)
    assert ended.code == 3 and re.search("changed since it was saved: [12] replaced;", ended.last)


STARGAN = ["--model", "stargan", "--attr_path", "data/list.csv", "--selected_attrs", "hat,smile", "--c_dim", 2,
           "--d_repeat_num", 3]  # fmt: skip
TABLES = {  # flags -> the table of six images, and another one
    "labels": (["--model", "cgan", "--dataroot", "data/list.csv"], "a,label", "{n}.png,{even}"),
    "a column": (["--model", "pix2pix", "--dataroot", "data/list.csv"], "a,b,age", "{n}.png,{n}.png,{even}"),
    "attributes": ([*STARGAN, "--dataroot", "data"], "image,hat,smile", "{n}.png,{sign},1"),
}


def write_table(path, head, row, shift):
    numbers = [(n + shift) % 2 for n in range(6)]
    rows = [row.format(n=n, even=even, sign=1 - 2 * even) for n, even in enumerate(numbers)]
    path.write_text("\n".join([head, *rows, ""]))


@pytest.mark.fault(48)
@pytest.mark.parametrize("kind", TABLES)
def test_changed_labels_are_refused(command, plugins, stopping, tmp_path, kind):
    """The labels or other values of a table were changed while a run was stopped: exit 3, or a note with permission."""
    flags, head, row = TABLES[kind]
    table = tmp_path / "data" / "list.csv"
    for number in range(6):
        place(tmp_path / "data", number)
    write_table(table, head, row, 0)
    stopping(2, "SIGTERM")
    ended = command("train", *SMALL, *FEW, "--plugin", plugins, *flags)
    assert ended.code == 143, ended.err
    stopping(0)
    write_table(table, head, row, 1)
    ended = command("train", *AGAIN)
    assert ended.code == 3, ended.out
    said = "its images changed since it was saved: other labels or other values in the table of the images"
    assert f"{said}; restore them, or accept that with --allow_data_change" in ended.last
    ended = command("train", *AGAIN, "--allow_data_change", "--n_epochs", 3)
    assert ended.code == 0 and f"note: {said} (--allow_data_change)\n" in ended.out, ended.err
    assert command("train", *AGAIN, "--n_epochs", 4).code == 0


LENGTH_ONLY = """
import os
import torch
from data.base import BaseDataset

class Numbers(BaseDataset):
    def __len__(self):
        return int(os.environ["HOW_MANY"])
    def __getitem__(self, index):
        picture = torch.full((3, 32, 32), index / 10)
        return {"A": picture, "B": -picture, "path_A": f"{index}.png", "path_B": f"{index}.png"}
"""


@pytest.mark.fault(48)
def test_a_longer_data_set_without_files_is_refused(command, plugins, stopping, tmp_path, monkeypatch):
    """A plug-in's data set that has no files has become longer: exit 3 with both lengths."""
    (tmp_path / "p").mkdir()
    monkeypatch.setenv("HOW_MANY", "5")
    with plugin_files(tmp_path / "p", numbers=LENGTH_ONLY):
        stopping(2, "SIGTERM")
        argv = [*SMALL, *FEW, "--plugin", plugins, "--plugin", "p", "--model", "pix2pix", "--dataset_mode", "numbers"]
        assert command("train", *argv).code == 143
        stopping(0)
        monkeypatch.setenv("HOW_MANY", "7")
        ended = command("train", *AGAIN)
        assert ended.code == 3 and "changed since it was saved: 5 samples -> 7;" in ended.last
        monkeypatch.setenv("HOW_MANY", "5")
        assert command("train", *AGAIN).code == 0


@pytest.mark.fault(48)
def test_a_state_without_an_inventory_is_continued(command, interrupted, tmp_path):
    """The state is from a version that did not record the image files: the run continues."""
    interrupted("pix2pix")
    path = newest(tmp_path / "checkpoints" / "run")
    state = torch.load(path, weights_only=True)
    assert len(state.pop("inventory")["names"]) == 5
    torch.save(state, path)
    assert command("train", *AGAIN).code == 0


@pytest.mark.fault(48)
def test_another_order_of_the_same_files_is_noticed():
    """The same files are listed in another order: this counts as a change."""
    one, other = Inventory(), Inventory()
    one.add(["d/a.png", "d/b.png"], [1, 2], "d")
    other.add(["e/b.png", "e/a.png"], [2, 1], "e")
    assert other.changes_since(one.state_dict()) == "the same files in another order"
    assert one.changes_since(one.state_dict()) == one.changes_since(None) == ""


@pytest.mark.fault(48)
def test_an_inventory_of_many_files_is_small(full, record_property):
    """A million files (short form: 20,000) take 16 bytes each in the state, and a comparison counts every change."""
    number = 1_000_000 if full else 20_000
    paths = [f"data/trainA/{n:07d}.jpg" for n in range(number)]
    one, other = Inventory(), Inventory()
    began = time.monotonic()
    one.add(paths, [7] * number, "data")
    record_property(
        "seconds to take a million files into an inventory", f"{(time.monotonic() - began) * 1e6 / number:.1f}"
    )
    other.add([*paths[:-3], "data/x.jpg"], [8, *[7] * (number - 3)], "data")
    kept = one.state_dict()
    assert sum(t.numel() * t.element_size() for t in (kept["names"], kept["sizes"])) == 16 * number
    assert len(set(one.names)) == number
    assert other.changes_since(kept) == "1 added, 3 removed, 1 replaced"


# --- options


@pytest.mark.fault(62)
@pytest.mark.parametrize(("argv", "said", "counts"), [
    (["--num_threads", 2], "--num_threads 0 -> 2", ""),
    (["--num_threads", 1, "--print_freq", 5], "--num_threads 0 -> 1", ""),
    (["--batch_size", 1], "--batch_size 2 -> 1", "--batch_size"),
    (["--batch_size", 3, "--num_threads", 2, "--lr", 0.001], "--batch_size 2 -> 3", "--batch_size, --lr"),
    (["--save_latest_freq", 2, "--keep_last", 5, "--save_epoch_freq", 2], "--keep_last 2 -> 5", ""),
    (["--crop_size", 24], "--crop_size 32 -> 24", "--crop_size"),
    (["--lambda_L1", 50], "--lambda_L1 100.0 -> 50.0", "--lambda_L1"),
])  # fmt: skip
def test_a_continued_run_says_which_options_end_bit_exactness(
    command, straight, plugins, stopping, tmp_path, argv, said, counts
):
    """A run is continued with another --num_threads, --batch_size or similar: it continues, and names the options that
    end bit-exactness.
    """
    stopping(5, "SIGTERM")
    assert command("train", *flags("pix2pix", plugins)).code == 143
    stopping(0)
    ended = command("train", *AGAIN, *argv)
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.out.splitlines() if line.startswith("changed since it was saved: ")]
    assert said in line
    word = "from here on results differ from an uninterrupted run because of "
    assert [line.removeprefix(word) for line in ended.out.splitlines() if word in line] == ([counts] if counts else [])
    folder = tmp_path / "checkpoints" / "run"
    ours, theirs = rows(folder)[0][-1]["losses"], rows(straight("pix2pix"))[0][-1]["losses"]
    if "--print_freq" not in argv:
        assert (ours == theirs) is (not counts)


@pytest.fixture
def halted(command, plugins, stopping, tmp_path):
    """A pix2pix run of unnormalised networks with dropout, stopped after its fifth step; returns its folder."""
    stopping(5, "SIGTERM")
    assert command("train", *flags("pix2pix", plugins), "--netG", "unet_32", "--padding", "reflect").code == 143
    stopping(0)
    return tmp_path / "checkpoints" / "run"


HARMFUL = {
    "direction": (["--direction", "BtoA"], "--direction AtoB -> BtoA"),
    "gan_mode": (["--gan_mode", "hinge"], "--gan_mode vanilla -> hinge"),
    "dataset_mode": (["--dataset_mode", "pairs_too"], "--dataset_mode aligned -> pairs_too"),
    "model": (["--model", "twin"], "--model pix2pix -> twin"),
    "padding": (["--padding", "zero"], "--padding reflect -> zero"),
    "two": (["--gan_mode", "lsgan", "--direction", "BtoA"], "--direction AtoB -> BtoA, --gan_mode vanilla -> lsgan"),
}
TWINS = {
    "twin": "from models.pix2pix import Pix2Pix\n\nclass Twin(Pix2Pix):\n    defaults = {'netG': 'unet_32'}\n",
    "pairs_too": "from data.aligned import Aligned\n\nclass PairsToo(Aligned):\n    pass\n",
}


@pytest.mark.parametrize("case", HARMFUL)
def test_options_that_change_what_weights_mean_are_refused(command, halted, tmp_path, case):
    """Another --direction, --gan_mode, --model of equal shapes, ...: exit 2 old -> new, or --allow_option_change."""
    argv, said = HARMFUL[case]
    (tmp_path / "p").mkdir()
    with plugin_files(tmp_path / "p", **TWINS):
        before = {p: p.read_bytes() for p in halted.rglob("*") if p.is_file() and p.name not in UNIMPORTANT}
        ended = command("train", *AGAIN, "--plugin", "p", *argv)
        assert ended.code == 2 and ended.err.count("\n") == 1
        assert (
            ended.last.startswith(f"error: option '{said.split()[0]}': changed since the run was saved")
            and said in ended.last
        )
        assert ended.last.endswith("or continue anyway with --allow_option_change")
        assert {p: p.read_bytes() for p in before} == before
        ended = command("train", *AGAIN, "--plugin", "p", *argv, "--allow_option_change")
        assert ended.code == 0, ended.err
        (line,) = [line for line in ended.out.splitlines() if line.startswith("changed since it was saved: ")]
        assert all(part in line for part in said.split(", "))
        again = command("train", *AGAIN, "--n_epochs", 2)  # it is the run's own from now on
        assert again.code == 0, again.err


def test_options_that_somebody_edited_in_the_run_are_noticed_too(command, halted):
    """options.json has another direction: it is refused like the flag, because the user did not request it."""
    path = halted / "options.json"
    path.write_text(path.read_text().replace('"AtoB"', '"BtoA"'))
    ended = command("train", *AGAIN)
    assert ended.code == 2 and "--direction AtoB -> BtoA" in ended.last


def test_networks_that_do_not_fit_are_a_matter_of_the_state(command, halted):
    """A run is continued with another number of filters: exit 4, with any --allow flag."""
    for more in ([], ["--allow_option_change"]):
        ended = command("train", *AGAIN, "--ngf", 6, *more)
        assert ended.code == 4, ended.last


def test_a_finished_run_with_less_to_do_says_it_is_done(command, straight, tmp_path):
    """--n_epochs is less than the trained epochs, other options changed: one line, and nothing is changed."""
    shutil.copytree(straight("pix2pix"), tmp_path / "checkpoints" / "run")
    before = tree_hash(tmp_path / "checkpoints" / "run" / "web")
    for more in ([], ["--n_epochs", 1, "--n_epochs_decay", 1], ["--direction", "BtoA", "--lr", 1]):
        ended = command("train", *AGAIN, *more)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out == "run run is done: 3 epochs are trained; raise --n_epochs to continue\n"
    assert tree_hash(tmp_path / "checkpoints" / "run" / "web") == before
    assert differences(straight("pix2pix"), tmp_path / "checkpoints" / "run") == []


def test_a_runs_own_options_are_a_config_file(command, straight, plugins, tmp_path):
    """--config with the options.json of another run: the same training under another name, to the bit."""
    config = straight("pix2pix") / "options.json"
    ended = command("train", "--config", config)
    assert ended.code == 0, ended.err  # checkpoints/run, in this test's folder
    found = differences(straight("pix2pix"), tmp_path / "checkpoints" / "run")
    assert [place for place in found if not place.startswith("state.options.config")] == []
    assert command("train", "--config", config).code == 2  # it is there now
    assert command("train", "--config", config, "--name", "other", "--max_dataset_size", 1).code == 0
    ended = command("test", "--config", tmp_path / "checkpoints" / "other" / "options.json", "--num_test", 1)
    assert ended.code == 0, ended.err
    assert os.listdir("results") == ["other"] and Path("results/other/test_latest/index.html").is_file()
