"""A folder of results holds the newest test alone, and nothing that a test did not write is ever deleted."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from metrics.folders import GENERATED, list_side
from pages.names import natural_key
from pages.results import Results
from pages.results_folder import ResultsFolder, classes_of_files, data_and_epoch, results_path
from tests.support.images import picture
from tests.support.tested_runs import check_page, make_results, save_pairs
from tests.support.training_runs import Page
from util.errors import EnvironmentFault, OptionError

# --- the folder itself


class Writing:
    """A test that writes text files instead of images."""

    def __init__(self, top, data="data", run="run", name="test_latest"):
        self.folder = ResultsFolder(top / "results" / "r" / name, top / "checkpoints" / run, str(top / data))

    def write(self, *names):
        self.folder.open()
        for name in names:
            path = self.folder.claim(name)
            assert json.dumps(name) in (self.folder.path / "files.jsonl").read_text()  # before the file exists
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("ours")
        return self

    def end(self, **tables):
        self.folder.finish(tables)
        self.folder.release()

    def die(self):
        """End like a killed process: what it wrote stays, and the kernel releases the lock."""
        self.folder.release()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def tested(tmp_path):
    """The folder of a test that wrote a page and two images."""
    Writing(tmp_path).write("index.html", "images/1.png", "images/2.png").end(mean={"L1": 1})
    return tmp_path / "results" / "r" / "test_latest"


def test_the_record_names_run_data_and_files(tested):
    record = json.loads((tested / "metrics.json").read_text())
    assert record == {
        "checkpoint": "../../../checkpoints/run",
        "data": "../../../data",
        "mean": {"L1": 1},
        "files": ["images/1.png", "images/2.png", "index.html"],
    }
    assert sorted(os.listdir(tested.parent)) == ["test_latest"]  # the lock went too


def test_the_same_data_keeps_only_what_was_written_again(tested, tmp_path):
    for mine in ("images/mine.png", "notes.txt", "index_notes.html"):
        (tested / mine).write_text("mine")
    Writing(tmp_path).write("images/2.png", "images/3.png").end()
    assert files(tested) == [
        "images/2.png",
        "images/3.png",
        "images/mine.png",
        "index_notes.html",
        "metrics.json",
        "notes.txt",
    ]
    assert json.loads((tested / "metrics.json").read_text())["files"] == ["images/2.png", "images/3.png"]


def test_other_data_renames_the_older_folder(tested, tmp_path, capsys):
    (tested / "notes.txt").write_text("mine")
    before = files(tested)
    for number, data in enumerate(("b", "c", "b"), 1):
        Writing(tmp_path, data).write("images/9.png").end()
        said = capsys.readouterr().out
        assert said == f"note: {tested} held results of other images; they are now in {tested}_{number}\n"
    assert sorted(os.listdir(tested.parent)) == ["test_latest", "test_latest_1", "test_latest_2", "test_latest_3"]
    assert files(Path(f"{tested}_1")) == before
    assert files(tested) == ["images/9.png", "metrics.json"]
    shutil.rmtree(f"{tested}_2")
    Writing(tmp_path, "c").write("images/9.png").end()
    assert Path(f"{tested}_4").is_dir()  # a higher number is newer


@pytest.mark.parametrize("text", [None, "", "[1]", "{}", '{"mean": {"L1": 1}}', "[" * 100_000, '{"checkpoint": 3}'])
def test_results_without_a_record_are_other_data(tested, tmp_path, capsys, text):
    """Those of earlier versions and of the reference, and a damaged record."""
    (tested / "metrics.json").unlink() if text is None else (tested / "metrics.json").write_text(text)
    before = files(tested)
    Writing(tmp_path).write("images/9.png").end()
    assert files(Path(f"{tested}_1")) == before
    assert "earlier results without a record of their data; they are now in" in capsys.readouterr().out


@pytest.mark.parametrize("inside", [[], ["images"]])
def test_an_empty_folder_is_used_as_it_is(tmp_path, inside):
    folder = tmp_path / "results" / "r" / "test_latest"
    folder.joinpath(*inside).mkdir(parents=True)
    (folder / "error.log").write_text("of a test that failed")
    Writing(tmp_path).write("images/9.png").end()
    assert os.listdir(folder.parent) == ["test_latest"] and files(folder) == ["images/9.png", "metrics.json"]


def test_another_runs_results_are_refused_and_stay(tested, tmp_path):
    before = {name: (tested / name).read_bytes() for name in files(tested)}
    with pytest.raises(
        OptionError, match=r"'--results_dir': .*test_latest holds the results of another run, .*run; give"
    ):
        Writing(tmp_path, run="other")
    assert {name: (tested / name).read_bytes() for name in files(tested)} == before
    assert os.listdir(tested.parent) == ["test_latest"]


def test_a_project_may_be_moved_as_a_whole(tested, tmp_path, capsys):
    (tmp_path / "moved").mkdir()
    shutil.move(tmp_path / "results", tmp_path / "moved" / "results")
    Writing(tmp_path / "moved").write("images/2.png").end()
    assert files(tmp_path / "moved" / "results" / "r" / "test_latest") == ["images/2.png", "metrics.json"]
    assert capsys.readouterr().out == ""


def test_a_killed_test_leaves_no_figures_and_no_stray_files(tested, tmp_path):
    Writing(tmp_path).write("images/3.png", "images/4.png", "index_2.html").die()
    (tested / "images" / "5.png.tmp").write_text("half")
    with open(tested / "files.jsonl", "a") as listed:
        listed.write('"images/5.png"\n"images/mi')  # killed while it wrote
    (tested / "images" / "mine.png").write_text("mine")
    record = json.loads((tested / "metrics.json").read_text())
    assert "mean" not in record and record["files"] == ["images/1.png", "images/2.png", "index.html"]
    Writing(tmp_path).write("images/4.png").end()
    assert files(tested) == ["images/4.png", "images/mine.png", "metrics.json"]


def test_until_it_is_opened_nothing_changes(tested, tmp_path):
    """A test whose model fails before the first image."""
    before = {name: (tested / name).read_bytes() for name in files(tested)}
    for data in ("data", "other"):
        Writing(tmp_path, data).die()
        assert {name: (tested / name).read_bytes() for name in files(tested)} == before
        assert os.listdir(tested.parent) == ["test_latest"]


@pytest.mark.parametrize(
    "name",
    ["../x.png", "images/../../x.png", "images/../x.png", "{top}/x.png", "x.png", "images", "a\0", 3, None, ["x"]],
)
def test_only_what_a_test_can_have_written_is_deleted(tested, tmp_path, name):
    """The list of a folder from elsewhere names other files."""
    for place in (tmp_path, tested.parent, tested, tested / "images"):
        (place / "x.png").write_text("mine")
    record = json.loads((tested / "metrics.json").read_text())
    name = name.format(top=tmp_path) if isinstance(name, str) else name
    (tested / "metrics.json").write_text(json.dumps(record | {"files": [name, "images/1.png"]}))
    Writing(tmp_path).write("images/9.png").end()
    assert all((place / "x.png").is_file() for place in (tmp_path, tested.parent, tested, tested / "images"))
    assert not (tested / "images" / "1.png").exists()


def test_nothing_is_deleted_through_links(tested, tmp_path, capsys):
    """A folder of the user's stands behind images/, or behind one of its files."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tested / "images", elsewhere)
    (tested / "images" / "1.png").unlink()
    (tested / "images" / "1.png").symlink_to(elsewhere / "1.png")
    Writing(tmp_path).write("images/2.png").end()
    assert files(elsewhere) == ["1.png", "2.png"]
    shutil.rmtree(tested / "images")
    (tested / "images").symlink_to(elsewhere, target_is_directory=True)
    Writing(tmp_path).write("images/3.png").end()
    assert files(elsewhere) == ["1.png", "2.png", "3.png"]
    assert "1 file of an earlier test remains" in capsys.readouterr().out


def test_names_that_differ_in_case_only_are_not_deleted(tested, tmp_path, monkeypatch):
    """On a disk that ignores case, the older name leads to the new file."""
    Writing(tmp_path).write("images/A.png").end()
    os.link(tested / "images" / "A.png", tested / "images" / "a.png")
    Writing(tmp_path).write("images/a.png").end()
    assert {"a.png", "A.png"} <= set(
        os.listdir(tested / "images")
    )  # one file here, as the two names have on such a disk


def test_two_tests_at_once_do_not_share_a_folder(tested, tmp_path):
    first = Writing(tmp_path).write("images/1.png")
    for data in ("data", "other"):  # other data would rename the folder
        with pytest.raises(EnvironmentFault, match="another test writes to it now; wait until that test ends"):
            Writing(tmp_path, data)
    Writing(tmp_path, name="val_latest").write("images/1.png").end()
    first.end()
    Writing(tmp_path, "other").write("images/1.png").end()
    assert sorted(os.listdir(tested.parent)) == ["test_latest", "test_latest_1", "val_latest"]


GIVEN = [("photos", "photos"), ("my.photos", "my.photos"), ("photos/", "photos"), ("./a/../photos", "photos"),
         ("x/cat.v2.jpg", "cat.v2"), ("new.zip", "new"), (".", "here"), ("/", "images"),
         ("/data/.hidden", "_hidden")]  # fmt: skip


@pytest.mark.parametrize(("given", "stem"), GIVEN)
def test_data_given_by_position_name_the_folder(tmp_path, monkeypatch, given, stem):
    (tmp_path / "here" / "my.photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    o = SimpleNamespace(results_dir="results", name="run", phase="test", epoch="latest", load_iter=0)
    assert results_path(o, given) == Path("results", "run", f"{stem}_latest")
    assert results_path(o) == Path("results", "run", "test_latest")
    o.epoch, o.load_iter = "5", 30
    assert data_and_epoch(o, given) == (stem, "5_iter30")


def test_data_given_by_position_are_data_of_their_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for given in ("a/new", "b/new"):
        made = make_results(tmp_path / "results", "run", input=given)
        made.add({"fake": torch.zeros(1, 3, 4, 4)}, ["1.png"])
        made.close()
        made.release()
    assert sorted(os.listdir(tmp_path / "results" / "run")) == ["new_latest", "new_latest_1"]
    assert "Phase = new, Epoch = latest" in Page(made.page).texts["title"][0]


# --- commands


@pytest.fixture
def test_py(command, runs, tmp_path):
    """test_py(*flags): run test.py on `runs`, with results in this test's folder -> Ended."""
    return lambda *argv: command("test", "--checkpoints_dir", runs / "checkpoints", *argv)


def test_a_shorter_test_of_the_same_data_leaves_no_older_files(test_py, runs, tmp_path):
    folder = tmp_path / "results" / "p2p" / "test_latest"
    for count in (7, 2):
        ended = test_py("--name", "p2p", "--dataroot", runs / "pairs", "--num_test", count)
        assert ended.code == 0 and "note" not in ended.out
    assert sorted({name.split("_")[0] for name in os.listdir(folder / "images")}) == ["0", "1"]
    assert set(os.listdir(folder)) == {"images", "index.html", "rows.js", "metrics.json"}
    ended = test_py(
        "--name", "p2p", "--model", "test", "--dataset_mode", "single", "--dataroot", runs / "sides" / "testA"
    )
    assert ended.code == 0, ended.err
    assert f"note: {folder.relative_to(tmp_path)} held results of other images" in ended.out
    assert "mean" not in json.loads((folder / "metrics.json").read_text())
    assert {p.name for p in (folder.parent / "test_latest_1" / "images").iterdir()} >= {"0_fake_B.png", "1_fake_B.png"}


def test_two_runs_of_one_name_do_not_share_results(test_py, command, runs, tmp_path):
    assert test_py("--name", "p2p", "--dataroot", runs / "pairs").code == 0
    shutil.copytree(runs / "checkpoints" / "p2p", tmp_path / "ck2" / "p2p")
    argv = ["--name", "p2p", "--checkpoints_dir", "ck2", "--dataroot", runs / "pairs"]
    before = (tmp_path / "results" / "p2p" / "test_latest" / "metrics.json").read_bytes()
    ended = command("test", *argv)
    assert ended.code == 2 and ended.err.count("\n") == 1
    assert ended.last.startswith(
        "error: option '--results_dir': results/p2p/test_latest holds the results of another run"
    )
    assert (tmp_path / "results" / "p2p" / "test_latest" / "metrics.json").read_bytes() == before
    assert command("test", *argv, "--results_dir", "other").code == 0  # as the error advises


def test_an_interrupted_test_leaves_no_old_figures(test_py, runs, tmp_path, monkeypatch):
    folder = tmp_path / "results" / "p2p" / "test_latest"
    assert test_py("--name", "p2p", "--dataroot", runs / "pairs").code == 0
    add = Results.add

    def stopped(self, *argv):
        if self.count == 3:
            raise KeyboardInterrupt
        add(self, *argv)

    monkeypatch.setattr(Results, "add", stopped)
    assert test_py("--name", "p2p", "--dataroot", runs / "pairs").code == 130
    assert "mean" not in json.loads((folder / "metrics.json").read_text())
    monkeypatch.setattr(Results, "add", add)
    assert test_py("--name", "p2p", "--dataroot", runs / "pairs", "--num_test", 2).code == 0
    assert len(os.listdir(folder / "images")) == 2 * 3
    assert set(os.listdir(folder)) == {"images", "index.html", "rows.js", "metrics.json"}


def test_errors_of_a_test_do_not_replace_the_trainings(test_py, runs, tmp_path, monkeypatch):
    """Before there are results they go into test_error.log of the run, then into error.log of the results."""
    shutil.copytree(runs / "checkpoints" / "p2p", tmp_path / "ck" / "p2p")
    (tmp_path / "ck" / "p2p" / "error.log").write_text("of the training")
    run = ["--name", "p2p", "--checkpoints_dir", "ck", "--dataroot"]
    early, late = tmp_path / "ck" / "p2p" / "test_error.log", tmp_path / "results" / "p2p" / "test_latest" / "error.log"
    assert test_py(*run, "missing").code == 3
    assert "Traceback" in early.read_text() and not (tmp_path / "results").exists()
    with monkeypatch.context() as patched:
        patched.setattr(Results, "add", lambda *_: 1 / 0)
        ended = test_py(*run, runs / "pairs")
    assert ended.code == 1 and "see results/p2p/test_latest/error.log" in ended.last
    assert "ZeroDivisionError" in late.read_text() and not early.exists()
    assert test_py(*run, runs / "pairs").code == 0
    assert not late.exists()
    assert (tmp_path / "ck" / "p2p" / "error.log").read_text() == "of the training"


@pytest.mark.parametrize("wrong", [["--results_only", "fake_C"], ["--format", "jpg", "--results_only", "fak"]])
def test_an_error_before_new_results_is_not_beside_earlier_ones(test_py, runs, tmp_path, wrong):
    """It goes into the run's test_error.log, which the next good test removes; the earlier results stay."""
    shutil.copytree(runs / "checkpoints" / "p2p", tmp_path / "ck" / "p2p")
    run = ["--name", "p2p", "--checkpoints_dir", "ck", "--dataroot", runs / "pairs"]
    folder, log = tmp_path / "results" / "p2p" / "test_latest", tmp_path / "ck" / "p2p" / "test_error.log"
    assert test_py(*run).code == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert test_py(*run, *wrong).code == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert "OptionError" in log.read_text()
    assert test_py(*run).code == 0 and not log.exists() and not (folder / "error.log").exists()


def test_generated_images_are_of_one_kind_of_data(command, tmp_path):
    """Other classes and fewer images of a model without inputs replace the older ones."""
    from tests.support.runs import SMALL

    flags = ["--dataroot", "demo", "--max_dataset_size", 8, "--n_epochs", 1, "--n_epochs_decay", 0, "--name", "z"]
    assert command("train", *SMALL, "--model", "cgan", *flags).code == 0
    folder = tmp_path / "results" / "z" / "test_latest"
    assert command("test", "--name", "z", "--num_samples", 3).code == 0
    ended = command(
        "test", "--name", "z", "--num_samples", 2, "--classes", "cone", "--dataroot", "x", "--results_only", "f"
    )
    assert ended.code == 0 and "--results_only have no effect: this model generates images from noise" in ended.out
    names = {"grid.png", "cone_interpolation.png", "cone_0000_fake.png", "cone_0001_fake.png"}
    assert set(os.listdir(folder / "images")) == names
    assert {path.name for path in folder.glob("*.html")} == {"index.html", "class_cone.html"}
    assert os.listdir(folder.parent) == ["test_latest"]


# --- order and names


def test_numbers_in_names_are_ordered_by_value():
    names = ["10", "2", "a10b2", "a2b10", "a2", "A3", "02", "2a", "", "a", "x" + "9" * 5000, "x1"]
    expected = ["", "02", "2", "2a", "10", "A3", "a", "a2", "a2b10", "a10b2", "x1", "x" + "9" * 5000]
    assert sorted(names, key=natural_key) == expected


def test_rows_and_lists_are_in_natural_order_and_num_test_is_not(test_py, tmp_path, runs):
    save_pairs(tmp_path / "many" / "test", 123)
    for count, stems in ((123, range(123)), (4, (0, 1, 10, 100))):
        ended = test_py("--name", "p2p", "--dataroot", tmp_path / "many", "--num_test", count)
        assert ended.code == 0, ended.err
        folder = tmp_path / "results" / "p2p" / "test_latest"
        expected = [str(stem) for stem in stems]
        pages = [folder / name for name in ("index.html", "index_2.html")[: 1 + count // 100]]
        assert [heading for page in pages for heading in Page(page).texts["h3"]] == expected
        rows = json.loads((folder / "rows.js").read_text().removeprefix("window.ganvasRows = ").removesuffix(";\n"))
        assert [row[0] for row in rows["rows"]] == expected
        record = json.loads((folder / "metrics.json").read_text())
        assert list(record["images"]) == expected
        assert [name for name in record["files"] if "fake_B" in name] == [
            f"images/{stem}_fake_B.png" for stem in expected
        ]
    assert not (folder / "index_2.html").exists()


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_unpaired_images_bear_their_own_names(test_py, runs, tmp_path, direction):
    """More of B than of A, in one run the other way round."""
    for side, names in (("A", ("horse 2", "horse 10")), ("B", ("z1", "z2", "z3"))):
        (tmp_path / "un" / f"test{side}").mkdir(parents=True)
        for number, name in enumerate(names):
            picture(number + 10 * ord(side), 32, 32).save(tmp_path / "un" / f"test{side}" / f"{name}.png")
    shutil.copytree(runs / "checkpoints" / "cyc", tmp_path / "ck" / "cyc")
    options = json.loads((tmp_path / "ck" / "cyc" / "options.json").read_text())
    options["options"]["direction"] = direction
    (tmp_path / "ck" / "cyc" / "options.json").write_text(json.dumps(options))
    ended = test_py("--name", "cyc", "--checkpoints_dir", "ck", "--dataroot", "un")
    assert ended.code == 0, ended.err
    images = tmp_path / "results" / "cyc" / "test_latest" / "images"
    horses, others = (("real_A", "fake_B", "rec_A"), ("real_B", "fake_A", "rec_B"))[:: 1 if direction == "AtoB" else -1]
    expected = [f"{stem}_{label}.png" for stem in ("horse 2", "horse 10") for label in horses]
    expected += [f"{stem}_{label}.png" for stem in ("z1", "z2", "z3") for label in others]
    assert sorted(os.listdir(images)) == sorted(expected)
    for side, stem, label in (("A", "horse 10", horses[0]), ("B", "z3", others[0])):
        source = Image.open(tmp_path / "un" / f"test{side}" / f"{stem}.png")
        assert np.array_equal(np.asarray(source), np.asarray(Image.open(images / f"{stem}_{label}.png")))
    page = Page(images.parent / "index.html")
    assert len(page.texts["h3"]) == len(set(page.texts["h3"])) == 3
    assert {src for src in page.images if "horse" in src} | {src for src in page.images if "z" in src} == set(
        page.images
    )


def test_a_file_that_returns_with_other_pixels_has_two_names(tmp_path):
    """Random crops of one file of B: neither replaces the other."""
    made = make_results(tmp_path, "run", compare=False)
    for value in (0.0, 0.5, 0.0):
        images = {"real_A": torch.zeros(1, 3, 4, 4), "real_B": torch.full((1, 3, 4, 4), value)}
        made.add(images, [f"a{value}.png"], ["/data/b.png"])
    made.close()
    assert sorted(path.stem for path in (made.folder / "images").rglob("*_real_B.png")) == ["b_real_B", "b_real_B"]


def test_images_that_only_some_inputs_have_are_written(tmp_path):
    """Some inputs of a folder have a partner, others do not."""
    made = make_results(tmp_path, "run", compare=True)
    for number, labels in enumerate((["fake_B"], ["fake_B", "real_B"], ["real_A", "fake_B"])):
        made.add({label: torch.zeros(1, 3, 4, 4) for label in labels}, [f"{number}.png"])
    made.close()
    expected = ["0_fake_B.png", "1_fake_B.png", "1_real_B.png", "2_fake_B.png", "2_real_A.png"]
    assert sorted(os.listdir(made.folder / "images")) == expected
    assert list(json.loads((made.folder / "metrics.json").read_text())["images"]) == ["1"]
    check_page(made.page)
    made = make_results(tmp_path, "unpaired", compare=False)  # here one side ends before the other
    for number, labels in enumerate((["real_A", "real_B"], ["real_A"])):
        made.add({label: torch.zeros(1, 3, 4, 4) for label in labels}, [f"{number}.png"], [f"b{number}.png"])
    made.close()
    assert sorted(os.listdir(made.folder / "images")) == ["0_real_A.png", "1_real_A.png", "b0_real_B.png"]


# --- --results_only and --format


@pytest.fixture
def mixed(tmp_path):
    """A folder of images of several formats, two with equal stems."""
    (tmp_path / "mixed").mkdir()
    for number, name in enumerate(("1.jpg", "2.PNG", "2.jpeg", "10.bmp", "x.tif", "y.gif", "z.webp")):
        picture(number, 32, 32).save(tmp_path / "mixed" / name)
    return tmp_path / "mixed"


KEPT = {
    "1.jpg": "JPEG",
    "2.PNG": "PNG",
    "2.jpeg": "JPEG",
    "10.bmp": "BMP",
    "x.tif": "TIFF",
    "y.png": "PNG",
    "z.webp": "WEBP",
}


@pytest.mark.parametrize(
    ("file_format", "expected"),
    [
        ("keep", KEPT),
        ("png", dict.fromkeys(("1.png", "2.png", "mixed/2.png", "10.png", "x.png", "y.png", "z.png"), "PNG")),
        ("jpg", dict.fromkeys(("1.jpg", "2.jpg", "mixed/2.jpg", "10.jpg", "x.jpg", "y.jpg", "z.jpg"), "JPEG")),
    ],
)
@pytest.mark.parametrize("label", ["fake_B", "fake"])
def test_only_the_translations_named_like_their_inputs(test_py, mixed, tmp_path, file_format, expected, label):
    argv = ["--name", "cyc", "--model", "test", "--model_suffix", "_A", "--dataroot", mixed]
    assert test_py(*argv).code == 0  # its page and inputs go
    images = tmp_path / "results" / "cyc" / "test_latest" / "images"
    fakes = {path.name: np.asarray(Image.open(path)) for path in images.glob("*_fake.png")}
    ended = test_py(*argv, "--results_only", label, "--format", file_format)
    assert ended.code == 0, ended.err
    assert "7 images -> results/cyc/test_latest/images" in ended.out
    assert files(images.parent) == sorted([*(f"images/{name}" for name in expected), "metrics.json"])
    assert {name: Image.open(images / name).format for name in expected} == expected
    assert ended.out.count("note: --format keep: results of .gif files are written as .png") == (file_format == "keep")
    for name, kind in expected.items():
        stem = name.split(".")[0].split("/")[-1]
        near = np.abs(np.asarray(Image.open(images / name)).astype(int) - fakes[f"{stem}_fake.png"]).mean()
        assert near <= (12 if kind == "JPEG" else 0) or stem == "2"


@pytest.mark.parametrize("file_format", ["keep", "jpg"])
def test_a_page_shows_images_of_other_formats(test_py, mixed, tmp_path, file_format):
    argv = ["--name", "cyc", "--model", "test", "--model_suffix", "_A", "--dataroot", mixed, "--format", file_format]
    assert test_py(*argv).code == 0
    folder = tmp_path / "results" / "cyc" / "test_latest"
    shown = Page(folder / "index.html").images
    assert len(shown) == 14 and all((folder / src.replace("%20", " ")).is_file() for src in shown)
    assert not [src for src in shown if src.endswith(".tif")]  # browsers do not show them
    assert (folder / "images" / "x_fake.tif").exists() == (file_format == "keep")
    suffix = {"keep": ".jpg", "jpg": ".jpg"}[file_format]
    assert Image.open(folder / "images" / f"1_fake{suffix}").format == "JPEG"


def test_a_wrong_label_is_answered_and_loses_nothing(test_py, runs, tmp_path):
    argv = ["--name", "cyc", "--dataroot", runs / "sides"]
    assert test_py(*argv).code == 0
    folder = tmp_path / "results" / "cyc" / "test_latest"
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    ended = test_py("--name", "cyc", "--dataroot", "demo", "--results_only", "fake_C")
    assert ended.code == 2
    assert "this model writes no fake_C, but real_A, fake_B, rec_A, real_B, fake_A, rec_B; did you mean" in ended.last
    assert ended.last.endswith("? give one of these")
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before


@pytest.mark.parametrize(
    ("value_range", "channels", "file_format", "expected"),
    [
        ("0,65535 uint16", 1, "keep", "scan.TIF"),
        ("0,65535 uint16", 1, "auto", "scan.tif"),
        ("0,65535 uint16", 1, "png", "scan.png"),
        ("0,65535 uint16", 1, "jpg", None),
        ("0,1 float32", 1, "png", None),
        ("0,1 float32", 3, "keep", "scan.TIF"),
        ("", 4, "jpg", None),
        ("", 4, "keep", "scan.TIF"),
    ],
)
def test_no_format_loses_values(tmp_path, value_range, channels, file_format, expected):
    made = make_results(tmp_path, "run", False, range_A=value_range, results_only="fake_B", format=file_format)
    image = torch.linspace(-1, 1, channels * 12).reshape(1, channels, 3, 4)
    if expected is None:
        with pytest.raises(OptionError, match=f"'--format': {file_format} cannot hold fake_B, .*; use --format keep"):
            made.add({"real_A": image, "fake_B": image}, ["scan.TIF"])
        return
    made.add({"real_A": image, "fake_B": image.clone()}, ["scan.TIF"])
    made.close()
    assert files(made.folder) == [f"images/{expected}", "metrics.json"]


def test_the_class_of_each_generated_image_can_be_read_back(tmp_path):
    """Of classes that are no file names, or that a disk does not tell apart, too: a pixel tells the class."""
    classes = [
        "a/b",
        "a_b",
        "a\\b",
        "Cat",
        "cat",
        "cat_0001",
        "x y",
        "köln",
        "..",
        "ß" * 150,
        ".hidden",
        "a_b_per_class",
    ]
    made = make_results(tmp_path, "zoo", compare=False)
    made.add_samples({name: [np.full((4, 4, 3), n, np.uint8)] * 2 for n, name in enumerate(classes)})
    made.close()
    stems, images = classes_of_files(made.folder / "images"), list_side(str(made.folder / "images"), ("fake",))
    assert stems == classes_of_files(made.folder) and sorted(stems.values()) == sorted(classes)
    assert len(images) == 2 * len(classes)
    for name, path in images.files.items():
        assert stems[GENERATED.fullmatch(name)["class"]] == classes[np.asarray(Image.open(path))[0, 0, 0]]
    assert classes_of_files(tmp_path) is None
