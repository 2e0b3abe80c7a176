"""The run's class names decide what a label means, in tests and validation too."""

import re
import shutil
from pathlib import Path

import pytest

from data.labeled import Labeled
from registry import discovery
from tests.support.data_folders import save
from tests.support.images import picture
from tests.support.runs import SMALL, options
from util.errors import DataError, OptionError

RUN = ("cat", "dog", "fox")


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(2):
            picture(number).save(root / name / f"{Path(name).name}{number}.png")
    return root.parent


def in_test(root, run=RUN, **flags):
    o = options("--dataset_mode", "labeled", "--model", "cgan", "--dataroot", str(root))
    o.isTrain, o.phase, o.run_classes = False, "test", list(run)
    vars(o).update(flags)
    return Labeled(o)


def labels(dataset):
    samples = [dataset[n] for n in range(len(dataset))]
    return {re.sub(r"\d", "", s["path_A"].rpartition("/")[2].removesuffix(".png")): s["label"] for s in samples}


@pytest.mark.parametrize(("here", "flags", "expected", "note"), [
    (["cat", "dog", "fox"], {}, {"cat": 0, "dog": 1, "fox": 2}, ""),
    (["fox"], {}, {"fox": 2}, "note: there are no images of the run's classes cat, dog"),
    (["ant", "dog", "fox"], {}, {"dog": 1, "fox": 2}, "note: left out: images of ant, not among the run's classes"),
    (["dog", "fox"], {"classes": "fox"}, {"fox": 2}, ""),
])  # fmt: skip
def test_labels_are_the_numbers_of_the_runs_classes(tmp_path, here, flags, expected, note):
    dataset = in_test(folders(tmp_path / "data" / "test", *here), **flags)
    assert labels(dataset) == expected
    assert dataset.classes == dataset.spec().classes == RUN
    *notes, last = dataset.notes
    assert any(line.startswith(note) for line in notes) if note else not notes
    assert last == f"classes: 3 ({', '.join(f'{name} {2 * (name in expected)}' for name in RUN)})"


@pytest.mark.parametrize("kind", ["manifest", "folders"])
def test_the_order_of_the_run_counts_in_every_layout(tmp_path, kind):
    root = folders(tmp_path / "data" / "test", "a", "b")
    if kind == "manifest":
        rows = [f"test/{name}/{name}{n}.png,{name},test" for name in "ab" for n in range(2)]
        (root / "list.csv").write_text("\n".join(["a,label,split", *rows]))
        root /= "list.csv"
    assert labels(in_test(root, ("b", "x", "a"))) == {"a": 2, "b": 0}


@pytest.mark.parametrize(("flags", "error", "why"), [
    ({}, DataError, "has no images of cat, dog, fox; the run's classes are cat, dog, fox, those here ant"),
    ({"classes": "ant"}, OptionError, "there is no class 'ant'; choose from cat, dog, fox"),
    ({"classes": "fox"}, DataError, "has no images of fox;"),
])  # fmt: skip
def test_folders_without_a_class_of_the_run_are_refused(tmp_path, flags, error, why):
    with pytest.raises(error, match=re.escape(why)):
        in_test(folders(tmp_path / "data" / "test", "ant"), **flags)


def loose(root, count=3):
    root.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(number).save(root / f"{number}.png")
    return root


def in_training(root, *flags):
    return Labeled(options("--model", "cgan", "--dataroot", str(root), *flags))


def with_an_empty_folder(root):
    (root / "notes").mkdir(parents=True)
    (root / "notes" / "read.txt").touch()
    return loose(root)


def zipped(root):
    return Path(shutil.make_archive(str(root), "zip", root))


ONE_CLASS = {  # what is made in a folder `art`, its --dataroot -> the name of the only class, the number of images
    "loose images": (loose, "art", 3),
    "loose images in a zip file": (lambda art: zipped(loose(art)), "art", 3),
    "folders of phases": (lambda art: loose(loose(art / "train").parent / "test", 5).parent, "art", 3),
    "one side": (lambda art: loose(loose(art / "trainA").parent / "testA", 5).parent / "trainA", "trainA", 3),
    "a folder without images": (with_an_empty_folder, "art", 3),
    "test images beside them": (lambda art: loose(loose(art) / "test", 5).parent, "art", 3),
    "one folder of a class": (lambda art: loose(art / "cats").parent, "cats", 3),
}


@pytest.mark.parametrize("case", ONE_CLASS)
def test_one_folder_of_images_is_one_class(tmp_path, case):
    make, name, count = ONE_CLASS[case]
    dataset = in_training(make(tmp_path / "art"))
    assert (dataset.classes, len(dataset), dataset.questions) == ((name,), count, [])
    assert dataset.notes[-1] == f"classes: 1 ({name} {count})"


def test_images_of_one_class_are_those_of_a_run_with_one(tmp_path):
    dataset = in_test(loose(tmp_path / "new"), run=("paintings",))
    assert [sample["label"] for sample in dataset] == [0, 0, 0]
    with pytest.raises(DataError, match="has no images of cat, dog, fox"):
        in_test(tmp_path / "new")


def test_a_long_list_of_classes_is_shortened(tmp_path):
    folders(tmp_path / "data" / "train", *(f"c{number:02d}" for number in range(14)))
    shown = ", ".join(f"c{number:02d} 2" for number in range(10))
    assert in_training(tmp_path / "data").notes == [f"classes: 14 ({shown} and 4 more)"]
    assert in_training(tmp_path / "data", "--max_dataset_size", "15").notes[-1].startswith("classes: 14 (c00 2, c01 1,")


def test_folders_of_sides_are_classes_where_the_flag_names_them(tmp_path):
    folders(tmp_path / "data", "trainA", "trainB", "testA")
    with pytest.raises(
        DataError, match="has no folders of classes: testA, trainA, trainB are folders of phases or sides"
    ):
        in_training(tmp_path / "data")
    assert in_training(tmp_path / "data", "--classes", "trainA,trainB").classes == ("trainA", "trainB")


def test_a_class_with_the_name_of_the_phase_is_asked_about(tmp_path):
    """Of bus, car and train, the last is read as the training phase, as ever; the line tells how to mean the class."""
    folders(tmp_path / "data", "bus", "car", "train")
    [question] = in_training(tmp_path / "data").questions
    flag = re.search(r"--classes \S+?(?=\))", question)[0]
    dataset = in_training(tmp_path / "data", *flag.split())
    assert dataset.classes == ("bus", "car", "train") and not dataset.questions


PHASES_IN_OTHER_WORDS = {  # folders, and what the error advises
    "as Kaggle has them": (("Training/cats", "Training/dogs", "Testing/cats"), "; use --phase Training ("),
    "capitals": (("Train", "Test", "Val"), "; use --phase Train ("),
    "of images": (("train_images", "test_images"), "; use --phase train_images ("),
    "one that holds folders": (("seg_train/sea", "seg_pred"), "; use --phase seg_train ("),
    "a word in common": (("asl_alphabet_train/A", "asl_alphabet_test/A"), "; use --phase asl_alphabet_train ("),
    "two words in common": (("DIV2K_train_HR", "DIV2K_valid_HR"), "; use --phase DIV2K_train_HR ("),
    "one word": (("TrainData", "TestData"), "; use --phase TrainData ("),
    "beside others": (("Train", "Test", "Masks"), "; otherwise use --phase Train ("),
    "sides": (("TrainA", "TrainB", "TestA"), "use --model cycle_gan or --model cut (python train.py --model "),
}


@pytest.mark.parametrize("case", PHASES_IN_OTHER_WORDS)
def test_folders_of_phases_in_other_words_are_no_classes(tmp_path, case):
    """A run would learn to tell training from test images, and without a word."""
    names, advice = PHASES_IN_OTHER_WORDS[case]
    folders(tmp_path / "data", *names)
    for number, image in enumerate((tmp_path / "data" / "TrainB").glob("*.png")):
        image.rename(image.with_name(f"b{number}.png"))  # no pairs
    with pytest.raises(DataError, match="folders of phases or sides") as caught:
        in_training(tmp_path / "data")
    assert advice in str(caught.value), str(caught.value)
    if used := re.search(r"--phase (\S+)", advice):
        assert len(in_training(tmp_path / "data", "--phase", used[1]))
    every = re.search(r"--classes (\S+)\)", str(caught.value))[1]
    assert in_training(tmp_path / "data", "--classes", every).classes == tuple(sorted(every.split(",")))


def test_phases_in_the_folders_of_classes_are_told(tmp_path):
    folders(tmp_path / "data", *(f"{kind}/{phase}" for kind in ("cats", "dogs") for phase in ("Train", "Test")))
    with pytest.raises(DataError, match="cats/Test, cats/Train, dogs/Test, dogs/Train are folders of phases"):
        in_training(tmp_path / "data")


OUTER = {  # folders, and the question
    "two of the same": (
        ("color/Apple", "color/Corn", "grey/Apple", "grey/Corn"),
        "are color, grey classes? With --dataroot ",
    ),
    "beside its own": (("yes", "no", "brain/yes", "brain/no"), "is brain one class? With --dataroot "),
    "masks of three": (("images", "1st_manual", "mask"), "is mask a class? It may hold the other sides"),
    "in two words": (("Original", "Ground Truth"), "is Ground Truth a class? "),
    "small letters": (("a", "b"), "are a and b two classes? "),
    "none": (("cat", "dog"), ""),
    "parts of classes": (("cat/1", "cat/2", "dog/3"), ""),
}


@pytest.mark.parametrize("case", OUTER)
def test_folders_that_may_be_no_classes_are_asked_about(tmp_path, case):
    names, question = OUTER[case]
    folders(tmp_path / "data", *names)
    assert [each.startswith(question) for each in in_training(tmp_path / "data").questions] == [True] * bool(question)


MASKS = {  # files, and how many of them the note counts
    "folders": (["COVID/images/1.png", "COVID/masks/1.png", "Normal/images/1.png", "Normal/masks/1.png"], "2 of 4 "),
    "endings": (["good/1.png", "good/1_mask.png", "good/2.png", "bad/3.png"], "1 of 3 "),
    "classes of such names": (["masks/1.png", "hats/1.png", "hats/mask of a fox.png"], ""),
    "masks alone": (["cat/1_mask.png", "dog/2_mask.png"], ""),
}


@pytest.mark.parametrize("case", MASKS)
def test_masks_among_the_images_of_a_class_are_noted(tmp_path, case):
    files, count = MASKS[case]
    for number, name in enumerate(files):
        save(picture(number), tmp_path / "data" / name)
    dataset = in_training(tmp_path / "data")
    notes = [note for note in dataset.file_notes() if "like masks or labels" in note]
    assert [note[6 : 6 + len(count)] for note in notes] == [count] * bool(count)


def table_of(tmp_path, *rows, header="a,label"):
    for number in range(len(rows)):
        save(picture(number), tmp_path / f"{number}.png")
    (tmp_path / "list.csv").write_text("\n".join([header, *(f"{n}.png,{row}" for n, row in enumerate(rows))]))
    return tmp_path / "list.csv"


def test_split_divides_a_manifest_with_labels(tmp_path):
    """Its parts are disjoint; images of the test were images of training once."""
    table = table_of(tmp_path, *"cd" * 20)
    train = in_training(table, "--split", "0.5")
    test = in_test(table, run=("c", "d"), split=0.5, given={"split"})
    used = [{sample["path_A"] for sample in dataset} for dataset in (train, test)]
    assert used[0].isdisjoint(used[1]) and len(used[0] | used[1]) == 40 and len(used[0]) > 5 < len(used[1])
    assert ", the part of train (--split 0.5)" in train.notes[0]
    assert all(("c", "d")[sample["label"]] == "cd"[int(Path(sample["path_A"]).stem) % 2] for sample in train)
    assert ", for every phase (it has no column split)" in in_training(table).notes[0]


def test_words_and_gaps_in_a_column_split_are_noted(tmp_path):
    table = table_of(tmp_path, "c,train", "d,train", "c,trian", "d,", "d,test", header="a,label,split")
    dataset = in_training(table, "--split", "0.5")
    assert len(dataset) == 3
    assert dataset.notes[1:4] == [
        f"note: rows for each phase in the column split of {table}: test 1, train 2, trian 1",
        f"note: 1 row of {table} without a split: used in every phase",
        "note: --split has no effect: the images are divided into phases already",
    ]


def test_another_name_of_split_and_shared_rows_are_noted(tmp_path):
    """The test was trained on, without a word."""
    table = table_of(tmp_path, "c,training", "d,test", header="a,label,set")
    said = "note: column set seems to name phases, but all rows are used; rename it to split to use it"
    assert said in in_training(table).notes
    assert said not in in_training(table_of(tmp_path, "c,train", "d,old", header="a,label,set")).notes
    table.write_text("a,label,split\n0.png,c,train\n1.png,d,train\n1.png,d,test\n0.png,c,train\n")
    assert f"note: 1 row of {table}, such as that of '1.png', repeat rows of another phase" in in_training(table).notes


def test_an_image_with_two_labels_is_noted(tmp_path):
    table = table_of(tmp_path, "c", "d", "d")
    with open(table, "a", encoding="utf-8") as file:
        file.write("\n0.png,d\n0.png,c")
    dataset = in_training(table)
    assert len(dataset) == 4
    said = f"note: 1 image is in several classes, such as '{tmp_path / '0.png'}' in c and d: used in each"
    assert dataset.notes[-1] == said
    assert "several classes" not in str(in_training(table, "--classes", "c").notes)
    assert "several classes" not in str(in_training(table_of(tmp_path, "c", "d", "d")).notes)


@pytest.mark.parametrize("header", ["a,label,label", "a,label, A", "a,Label,label", "a,note,note"])
def test_two_columns_of_one_name_are_refused(header, tmp_path):
    table = table_of(tmp_path, "c,x", "d,y", header=header)
    with pytest.raises(DataError) as caught:
        in_training(table)
    name = header.rpartition(",")[2].strip().lower()
    said = f"file '{table}': has 2 columns called {name}; rename or remove all but one of them"
    assert str(caught.value) == said
    assert len(in_training(table_of(tmp_path, "c,,", "d,,", header="a,label,,"))) == 2
    with pytest.raises(DataError, match="has no column a and no column b"):  # a table without names
        in_training(table_of(tmp_path, "c,c", "d,d", header="0.png,c,c"))


def test_words_of_phases_among_classes_are_classes(tmp_path):
    folders(tmp_path / "data", "gaming", "Training", "Train")
    assert in_training(tmp_path / "data").classes == ("Train", "Training", "gaming")


def test_train_py_and_test_py_print_the_classes(command, tmp_path):
    """The first wish of an artist: more images like those in one folder."""
    loose(tmp_path / "paintings")
    flags = ["--model", "cgan", "--dataroot", "./paintings", "--name", "more", "--n_epochs", 1, "--n_epochs_decay", 0]
    ended = command("train", *SMALL, *flags)
    assert ended.code == 0, ended.err
    assert ended.out.count("classes: 1 (paintings 3)") == 1
    ended = command("test", "--name", "more", "--num_samples", 20)
    assert ended.code == 0, ended.err
    assert "classes: 1 (paintings)" in ended.out.splitlines()
    made = [path.name for path in (tmp_path / "results").rglob("paintings_00*_fake.png")]
    assert len(made) == 20


PAINTED = '''"""Adds a value for each class, to see which label an image was given."""
from torch import nn
from models.base import BaseModel, Phase


class Painted(BaseModel):
    dataset_mode = "labeled"
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Embedding(len(spec.classes), 1)

    def phases(self):
        return [Phase("G", [self.G], self.loss)]

    def forward(self, batch):
        label = batch["label"]
        value = self.G(label)[:, :, None, None] * 0 + (label / 4)[:, None, None, None]
        return {"real_A": batch["A"], "fake_B": value.expand(-1, 3, 8, 8)}

    def loss(self, batch, out):
        return {"G": self.G(batch["label"]).square().mean()}
'''


def test_test_py_and_the_page_label_as_the_run_does(command, tmp_path):
    """Of three classes, validation and test have the last one only: both see its number of training."""
    from PIL import Image

    folders(tmp_path / "data" / "train", "cat", "dog", "fox")
    for phase in ("val", "test"):
        folders(tmp_path / "data" / phase, "fox")
    (tmp_path / "painted.py").write_text(PAINTED)
    flags = ["--plugin", "painted.py", "--model", "painted", "--dataroot", "data", "--name", "run", "--n_epochs", 1]
    ended = command("train", *SMALL, *flags, "--n_epochs_decay", 0)
    assert ended.code == 0, ended.err
    ended = command("test", "--name", "run")
    assert ended.code == 0, ended.err
    assert "note: there are no images of the run's classes cat, dog" in ended.out
    shown = [p for p in (tmp_path / "checkpoints").rglob("*fake_B*.png") if "fox" in p.name or "sample" in p.name]
    made = [*(tmp_path / "results").rglob("*_fake_B.png"), *shown]
    assert len(made) >= 2
    assert {Image.open(path).getpixel((4, 4)) for path in made} == {(191, 191, 191)}  # label 2: 0.5


def test_another_numbering_of_a_plug_ins_data_set_is_refused(command, tmp_path):
    folders(tmp_path / "data" / "train", "cat", "fox")
    folders(tmp_path / "data" / "test", "fox")
    (tmp_path / "painted.py").write_text(PAINTED)
    (tmp_path / "own.py").write_text(
        "from dataclasses import replace\nfrom data.labeled import Labeled\n\n\nclass Own(Labeled):\n"
        "    run_classes = ()\n"
    )
    flags = ["--plugin", "painted.py", "--plugin", "own.py", "--dataset_mode", "own", "--model", "painted"]
    ended = command("train", *SMALL, *flags, "--dataroot", "data", "--name", "run", "--n_epochs", 1,
                    "--n_epochs_decay", 0)  # fmt: skip
    assert ended.code == 0, ended.err
    ended = command("test", "--name", "run")
    assert ended.code == 3
    assert "has the classes fox, but the run was trained with cat, fox" in ended.last
    discovery.clear()
