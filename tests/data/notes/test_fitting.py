"""Every layout of data with every model: it is read, or one line names the model that fits, and the advice works."""

import os
import re
import shlex
import shutil
import struct
import sys
from collections import Counter

import pytest

from data.notes.fitting import fitting_models
from options.parse import parse
from options.store import fill_from_dataset
from registry import discovery
from registry.lookup import find
from registry.suggestions import models_by_dataset_mode
from tests.support.images import picture
from util.errors import DataError, OptionError, UserError

MODELS = ("pix2pix", "cycle_gan", "cgan", "colorization")
ALSO = {"cycle_gan": ("cut",), "cgan": ("gan",)}  # models for the same data, which are named after these
ALONE = ("sincut", "pix2pixhd", "spade", "stargan")  # for two single images; for folders of their own: tests/data
# the model reads the data, it needs --dataroot or --split, a folder is missing; else: the model that is named
READ, FLAG, LACKS = "", "flag", "lacks"
TABLE = {  # layout: the outcome for each of MODELS
    "sides": ("cycle_gan", READ, "cycle_gan", "cycle_gan"),
    "numbered_sides": ("cycle_gan", READ, "cycle_gan", "cycle_gan"),
    "sides_of_pairs": (READ, READ, "pix2pix", "pix2pix"),
    "nested_sides": ("cycle_gan", READ, "cycle_gan", "cycle_gan"),
    "undivided_sides": ("cycle_gan", FLAG, "cycle_gan", FLAG),
    "one_side": (LACKS, LACKS, FLAG, "cgan"),
    "pairs": (READ, "pix2pix", "pix2pix", "pix2pix"),
    "phases_of_pictures": ("cgan", "cgan", READ, READ),
    "photographs": ("cgan", "cgan", READ, READ),
    "loose_photographs": ("cgan", "cgan", READ, FLAG),
    "grey_phases": ("cgan", "cgan", READ, "cgan"),
    "loose": ("cgan", "cgan", READ, FLAG),
    "loose_pairs": (FLAG, "pix2pix", "pix2pix", "pix2pix"),
    "classes": ("cgan", "cgan", READ, "cgan"),
    "phases_of_classes": ("cgan", "cgan", READ, READ),
    "classes_and_test": ("cgan", "cgan", READ, "cgan"),
    "photographs_of_classes": ("cgan", "cgan", READ, READ),
    "idx": ("cgan", "cgan", READ, "cgan"),
    "idx_deeper": ("cgan", "cgan", FLAG, "cgan"),
    "manifest_of_inputs": ("cgan", "cgan", READ, "cgan"),
    "manifest_of_labels": ("cgan", "cgan", READ, "cgan"),
    "manifest_of_pairs": (READ, READ, "pix2pix", "pix2pix"),
    "manifest_of_sides": ("cycle_gan", READ, "cycle_gan", "cycle_gan"),
    "sides_deeper": ("cycle_gan", FLAG, "cycle_gan", "cycle_gan"),
    "classes_deeper": ("cgan", "cgan", FLAG, "cgan"),
    "phases_of_classes_deeper": ("cgan", "cgan", FLAG, FLAG),
    "sides.zip": ("cycle_gan", READ, "cycle_gan", "cycle_gan"),
    "pairs.zip": (READ, "pix2pix", "pix2pix", "pix2pix"),
    "loose.zip": ("cgan", "cgan", READ, FLAG),
    "classes.zip": ("cgan", "cgan", READ, "cgan"),
    "idx.zip": ("cgan", "cgan", READ, "cgan"),
}


def write(root, *names, size=(24, 24), mode="RGB"):
    for number, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number, *size).convert(mode).save(file)


def names(folder, count=3, stem=""):
    return [f"{folder}/{stem}{number}.png" for number in range(count)]


def sides(root):
    for phase in ("train", "test"):
        write(root, *names(f"{phase}A", 3, "a"), *names(f"{phase}B", 2, "b"))


def numbered_sides(root):
    """Two of twenty names are on both sides by chance."""
    write(
        root,
        *names("trainA", 9, "0"),
        *names("trainB", 9, "a"),
        *(f"train{side}/{n}.png" for side in "AB" for n in (7, 8)),
    )


def sides_of_pairs(root):
    write(root, *names("trainA"), *names("trainB"))


def nested_sides(root):
    write(root, *names("A/train", 3, "a"), *names("B/train", 2, "b"), *names("A/test", 1), *names("B/test", 1, "b"))


def undivided_sides(root):
    write(root, *names("A", 40, "a"), *names("B", 30, "b"))


def one_side(root):
    write(root, *names("trainA"), *names("testA"))


def pairs(root):
    write(root, *names("train"), *names("test"), size=(48, 24))


def phases_of_pictures(root):
    write(root, *names("train"), *names("test"))


def photographs(root):
    write(root, *names("train"), *names("test"), size=(36, 24))


def loose_photographs(root):
    write(root, *names(".", 40), size=(36, 24))


def grey_phases(root):
    write(root, *names("train"), *names("test"), mode="L")


def loose(root):
    write(root, *names(".", 40))


def loose_pairs(root):
    write(root, *names(".", 40), size=(48, 24))


def classes(root):
    write(root, *names("cat"), *names("dog", 2), *names("owl", 2))


def phases_of_classes(root):
    for phase in ("train", "test"):
        write(root, *names(f"{phase}/cat"), *names(f"{phase}/dog", 2))


def classes_and_test(root):
    classes(root)
    write(root, "test/cat/1.png", "test/dog/1.png")


def photographs_of_classes(root):
    write(root, *names("train/cat"), *names("train/dog", 2), size=(36, 24))


def idx(root):
    root.mkdir(parents=True)
    (root / "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 4, 28, 28) + bytes(4 * 28 * 28))
    (root / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 4) + bytes([0, 1, 1, 7]))


def idx_deeper(root):
    idx(root / "MNIST" / "raw")


def manifest(root, *rows):
    write(root, *names("pictures", 4))
    (root / "manifest.csv").write_text("\n".join(rows))


def manifest_of_inputs(root):
    manifest(root, "a", "pictures/0.png", "pictures/1.png")


def manifest_of_labels(root):
    manifest(root, "a,label", "pictures/0.png,cat", "pictures/1.png,dog")


def manifest_of_pairs(root):
    manifest(root, "a,b", "pictures/0.png,pictures/1.png", "pictures/2.png,pictures/3.png")


def manifest_of_sides(root):
    manifest(root, "a,b", "pictures/0.png,", ",pictures/1.png", "pictures/2.png,", ",pictures/3.png")


def sides_deeper(root):
    sides(root / "inner")


def classes_deeper(root):
    classes(root / "inner")


def phases_of_classes_deeper(root):
    phases_of_classes(root / "inner")


def make_layout(name, root):
    """Make a data set below root and return its --dataroot; a name that ends in `.zip` makes a zip file."""
    globals()[name.removesuffix(".zip")](root / "data")
    if not name.endswith(".zip"):
        return root / "data"
    packed = shutil.make_archive(str(root / "data"), "zip", root / "data")
    shutil.rmtree(root / "data")
    return packed


SMALL = ("--gpu_ids", "-1", "--ngf", "4", "--ndf", "4", "--crop_size", "32", "--name", "small")


def read(argv):
    o = parse([*argv, *SMALL], "train")
    return find("dataset", o.dataset_mode)(o)


def said(argv):
    """Return the error or the question about the data; "" if they are read."""
    try:
        lines = [note for note in read(argv).notes if note.startswith("question: ")]
    except UserError as problem:
        lines = [str(problem)]
    assert len(lines) <= 1 and "\n" not in "".join(lines)
    return "".join(lines)


def follow(argv, line, flag):
    """Return the arguments after the advice in a line: those of its command, or a flag for the same model."""
    if not flag:
        return shlex.split(re.search(r"\(python train\.py (.*?)\)", line)[1])
    name, value = re.search(r"--(dataroot|split) (\S+?)(?=[,;]|\s|$)", line).groups()
    return [*argv[:3], value] if name == "dataroot" else [*argv, "--split", value]


def trains(argv):
    """Build the data set and the model as train.py does; fail on an error or a question."""
    dataset = read(argv)
    assert not dataset.questions
    spec = dataset.spec()
    fill_from_dataset(dataset.o, spec)
    return find("model", dataset.o.model)(dataset.o, spec)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("layout", TABLE)
def test_one_line_names_the_model_and_its_advice_works(layout, model, tmp_path, capsys):
    argv = ["--model", model, "--dataroot", str(make_layout(layout, tmp_path))]
    line, expected = said(argv), TABLE[layout][MODELS.index(model)]
    assert not capsys.readouterr().err, "a list of files says nothing about other data"
    if expected == READ:
        assert line == ""
    elif expected in (FLAG, LACKS):
        assert "--model" not in line and ("expected images in" in line) == (expected == LACKS)
    else:
        named = " or ".join(f"--model {name}" for name in (expected, *ALSO.get(expected, ())))
        assert f"use {named} (python train.py --model {expected} " in line
    if expected != LACKS:
        trains(argv if expected == READ else follow(argv, line, expected == FLAG))


def test_the_table_has_every_model_that_trains():
    trained = {name for mode in models_by_dataset_mode() for name in fitting_models(mode)}
    assert trained == {*MODELS, *ALONE, *(name for names in ALSO.values() for name in names)}, "add a new model"


OWN = {  # a plug-in's file: its source, the layout, the model asked for
    "states its data set": ("class Mine(BaseModel):\n    dataset_mode = 'unaligned'\n", "sides", "pix2pix"),
    "inherits its data set": (
        "from models.cycle_gan import CycleGAN\n\n\nclass Mine(CycleGAN):\n    pass\n",
        "sides",
        "cgan",
    ),
    "classes": ("class Mine(BaseModel):\n    dataset_mode = 'labeled'\n", "classes", "cycle_gan"),
}


@pytest.fixture
def plugins(tmp_path):
    """Write plug-ins and make them known; forget them afterwards."""

    def write(**sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        return [word for name in sources for word in ("--plugin", str(tmp_path / f"{name}.py"))]

    yield write
    discovery.clear()


@pytest.mark.parametrize("case", OWN)
def test_a_plug_ins_model_is_named_beside_ours(case, tmp_path, plugins):
    source, layout, model = OWN[case]
    flags = plugins(my_gan="from models.base import BaseModel\n\n\n" + source)
    line = said(["--model", model, "--dataroot", str(make_layout(layout, tmp_path)), *flags])
    assert " or --model my_gan (python train.py --model c" in line and "my_gan.py)" in line


@pytest.mark.parametrize("mode", ["single", "labeled"])
def test_a_plug_in_whose_model_was_forgotten_is_named_first(mode, tmp_path, plugins):
    """--plugin without --model: the advice trains the plug-in; with --model it names the plug-in too."""
    flags = plugins(
        my_gan=f"from models.base import BaseModel\n\n\nclass Mine(BaseModel):\n    dataset_mode = '{mode}'\n"
    )
    argv = ["--dataroot", str(make_layout("loose", tmp_path)), *flags]
    line = said(argv)
    assert "use --model my_gan" in line and "(python train.py --model my_gan " in line
    assert " or --model my_gan (python train.py --model c" in said(["--model", "cycle_gan", *argv])


def test_a_plug_in_whose_model_is_not_trained_is_noted(tmp_path, plugins, capsys):
    """--plugin without --model, on data that the default model reads; a plug-in with other parts says nothing."""
    own = "from models.base import BaseModel\n\n\nclass Mine(BaseModel):\n    dataset_mode = 'unaligned'\n"
    note = "note: --plugin has no effect: it defines only models, and --model names none of them"
    root = ["--dataroot", str(make_layout("sides", tmp_path))]
    for model, sources, said_once in (([], {"mine": own}, 1), (["--model", "mine"], {"mine": own}, 0),
                                      ([], {"mine": own, "hook": "print()"}, 0)):  # fmt: skip
        read([*model, *root, *plugins(**sources)])
        assert capsys.readouterr().out.count(note) == said_once


def test_a_plug_in_for_data_of_its_own_is_named_alone(tmp_path, plugins):
    """Only its data set reads text files; the command carries the plug-ins."""
    own = (
        "from data.base import BaseDataset\n\n\nclass Poems(BaseDataset):\n    def __init__(self, o):\n"
        "        super().__init__(o)\n        from pathlib import Path\n"
        "        self.paths = sorted(map(str, Path(o.dataroot).glob('*.txt')))\n\n"
        "    def __len__(self):\n        return len(self.paths)\n"
    )
    model = "from models.base import BaseModel\n\n\nclass Poet(BaseModel):\n    dataset_mode = 'poems'\n"
    flags = plugins(poems=own, poet=model)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1.txt").write_text("roses are red")
    argv = ["--model", "cycle_gan", "--dataroot", str(tmp_path / "data"), *flags]
    line = said(argv)
    assert "use --model poet (python train.py --model poet " in line
    assert len(read(follow(argv, line, flag=False))) == 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("layout", TABLE)
def test_a_folder_is_listed_once_for_all_models(layout, model, tmp_path, monkeypatch):
    """At most once each for its images, those of the folder above, its folders and its files.

    Twice, before and while the models are tried, it is looked through for shards, which ends at the first image.
    """
    root, listed = str(make_layout(layout, tmp_path)), []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path=".": listed.append(os.fsdecode(path).rstrip("/")) or scandir(path))
    said(["--model", model, "--dataroot", root])
    counts = Counter(path for path in listed if path.startswith(root))
    assert max(counts.values(), default=0) <= 4 + 2


def test_files_that_come_after_the_listing_are_seen(tmp_path):
    root = make_layout("one_side", tmp_path)
    argv = ["--model", "cycle_gan", "--dataroot", str(root)]
    assert "trainB" in said(argv)
    write(root, *names("trainB"))
    assert said(argv) == ""


def test_an_installed_model_is_named_with_its_flags(tmp_path, tables_as_they_were, package):
    line = said(["--model", "cycle_gan", "--dataroot", str(make_layout("pairs", tmp_path / "data"))])
    assert "use --model pix2pix or --model small or --model raising (python train.py --model pix2pix " in line
    for flag, answer in (("--strength", "it belongs to small"), ("--strenght", "did you mean --strength, which")):
        with pytest.raises(OptionError, match=answer):
            parse(["--model", "cycle_gan", flag, "3"], "train")
    with pytest.raises(OptionError, match=r"did you mean small\?"):
        parse(["--model", "smal"], "train")
    assert "extra_gans" not in sys.modules


def test_flags_about_the_data_are_repeated_in_the_command(tmp_path):
    root = make_layout("sides", tmp_path / "with space")
    line = said(["--model", "pix2pix", "--dataroot", str(root), "--direction", "BtoA", "--dataset_mode", "aligned"])
    command = follow([], line, flag=False)
    assert command[:4] == ["--model", "cycle_gan", "--dataroot", str(root)]
    assert command[-2:] == ["--dataset_mode", "unaligned"] and "BtoA" in command
    trains(command)


def test_pairs_are_mentioned_where_photographs_may_be_pairs(tmp_path):
    line = said(["--model", "cycle_gan", "--dataroot", str(make_layout("photographs", tmp_path))])
    assert line.index("use --model cgan or --model gan (") < line.index(", or for pairs of A|B use --model pix2pix (")


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_suggested_where_nothing_fits(model, tmp_path):
    for root in (tmp_path / "nowhere", tmp_path):
        line = said(["--model", model, "--dataroot", str(root)])
        assert line and "--model" not in line


def test_missing_partners_of_pairs_are_still_listed(tmp_path, capsys):
    root = make_layout("sides_of_pairs", tmp_path)
    (root / "trainA" / "0.png").rename(root / "trainA" / "x.png")
    with pytest.raises(DataError, match="; otherwise give both sides images of the same names"):
        read(["--model", "pix2pix", "--dataroot", str(root)])
    assert capsys.readouterr().err.count("has no partner") == 2


@pytest.mark.parametrize(("model", "mode", "lacking"), [
    ("pix2pix", "labeled", "'B'"), ("cycle_gan", "labeled", "'B'"), ("cycle_gan", "single", "'B'"),
    ("colorization", "labeled", "'B'"), ("cgan", "unaligned", "classes"),
])  # fmt: skip
def test_a_data_set_named_by_its_flag_without_what_is_needed(model, mode, lacking, command, tmp_path):
    """The error comes before the run's folder, and is no bug."""
    make_layout("sides" if mode == "unaligned" else "classes", tmp_path)
    ended = command("train", "--model", model, "--dataset_mode", mode, "--dataroot", "data", *SMALL)
    assert ended.code == 2 and "bug" not in ended.err and lacking in ended.last
    assert not (tmp_path / "checkpoints").exists()


def test_trials_of_other_models_print_nothing(tmp_path, capsys):
    for number in range(3):
        picture(number, 32, 32).save(tmp_path / f"{number}.png")
    (tmp_path / "pairs.csv").write_text("a,b\n0.png,1.png\n1.png,8.png\n2.png,9.png\n")
    o = parse(["--model", "pix2pix", "--dataroot", str(tmp_path / "pairs.csv")], "train")
    with pytest.raises(DataError, match=r"8\.png"):
        find("dataset", "aligned")(o)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines)) > 1
