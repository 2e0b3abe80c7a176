"""Further columns of a manifest arrive in samples and batches: numbers, vectors and texts."""

import csv
import json

import pytest
import torch

from data.aligned import Aligned
from tests.support.data_folders import epoch, flags, make, sample
from tests.support.images import picture
from util.errors import DataError

PLAIN = ("--preprocess", "none", "--no_flip")
ROWS = [
    {"Age": 30, "dose": 0.5, "caption": "a cat", "attr_hat": 1, "attr_smile": 0, "code": [0.25, 1], "id": "007"},
    {"Age": -4, "dose": 2, "caption": "", "attr_hat": 0, "attr_smile": 1.5, "code": [3, 4], "id": "008"},
    {"Age": 7, "dose": 1e-3, "caption": "dögs, 2", "attr_hat": 0, "attr_smile": 0, "code": [5, 6], "id": "12"},
]


def write(root, rows=ROWS, kind="csv", sides=("a", "b"), **more):
    """Write a manifest with two images for each row; return its path."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [{side: f"{side}{n}.png" for side in sides} | row | more for n, row in enumerate(rows)]
    for n in range(len(rows)):
        for side in sides:
            picture(n).save(root / f"{side}{n}.png")
    file = root / f"pairs.{kind}"
    if kind == "json":
        file.write_text(json.dumps(rows))
        return file
    with open(file, "w", newline="", encoding="utf-8") as text:
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows([{k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows])
    return file


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("mode", ["aligned", "labeled", "single"])
def test_columns_arrive_as_numbers_vectors_and_texts(mode, kind, tmp_path):
    file = write(tmp_path, kind=kind, **({"label": "x"} if mode == "labeled" else {}))
    dataset = make(mode, file, *PLAIN)
    kinds = dataset.spec().columns
    assert kinds == {"Age": "int64", "dose": "float32", "caption": "text", "code": "vector 2", "id": "text",
                     "attr": ["attr_hat", "attr_smile"]}  # fmt: skip
    assert [note for note in dataset.notes if note.startswith("columns in each batch: Age (whole numbers), dose")]
    for number, row in enumerate(ROWS):
        got = sample(dataset, number)
        assert got["Age"].dtype == torch.int64 and got["Age"].item() == row["Age"]
        assert got["dose"].dtype == torch.float32 and got["dose"].item() == pytest.approx(row["dose"])
        assert got["attr"].dtype == torch.float32 and got["attr"].tolist() == [row["attr_hat"], row["attr_smile"]]
        assert got["code"].dtype == torch.float32 and got["code"].tolist() == row["code"]
        assert (got["caption"], got["id"]) == (row["caption"], row["id"])


def test_columns_stay_with_their_rows_in_batches_of_workers(tmp_path):
    """Shuffled, by two workers, whatever the order of the rows; a pair that two rows name is used twice."""
    rows = [{"n": number, "text": f"t{number}"} for number in reversed(range(10))]
    file = write(tmp_path, rows)
    text = file.read_text()
    file.write_text(
        text + "a0.png,b0.png,77,t77\n" + text.splitlines()[1] + "\n"
    )  # one more row, and a copy of the first
    batches = epoch(make("aligned", file, "--load_size", 16, "--crop_size", 16), threads=2)
    found = []
    for batch in batches:
        assert batch["n"].shape == (len(batch["A"]),) and isinstance(batch["text"], list)
        found += zip(
            batch["n"].tolist(), batch["text"], [path.rsplit("/a")[1] for path in batch["path_A"]], strict=True
        )
    expected = [(9 - number, f"t{9 - number}", f"{number}.png") for number in range(10)]
    assert sorted(found) == sorted([*expected, (77, "t77", "0.png")])


def test_columns_follow_split_and_limit(tmp_path):
    file = write(tmp_path, [{"n": number} for number in range(20)])
    numbers = []
    for phase in ("train", "val"):
        dataset = make("aligned", file, *PLAIN, "--split", 0.5, phase=phase)
        for index in range(len(dataset)):
            got = sample(dataset, index)
            assert got["path_A"].endswith(f"/a{got['n'].item()}.png")
            numbers.append(got["n"].item())
    assert sorted(numbers) == list(range(20))


def test_one_type_holds_for_all_phases_of_a_manifest(tmp_path):
    """Whole numbers in one phase and fractions in another are numbers in both."""
    rows = [{"split": "train", "x": 1}, {"split": "test", "x": 0.5}]
    file = write(tmp_path, rows)
    assert sample(make("aligned", file, *PLAIN))["x"].dtype == torch.float32


@pytest.mark.parametrize("values", [["1", ""], ["1", "x"], ["nan", "2"], [[1, 2], [3]], ["[1]", ""], ["1e999", "2"]])
def test_incomplete_numbers_arrive_as_texts_with_a_note(values, tmp_path):
    dataset = make("aligned", write(tmp_path, [{"x": value} for value in values]), *PLAIN)
    assert isinstance(sample(dataset)["x"], str)
    assert len([note for note in dataset.notes if note.startswith("note: column x of ")]) == 1


@pytest.mark.parametrize("name", ["path_A", "path_B", "skipped"])
def test_a_column_cannot_take_the_name_of_an_image(name, tmp_path):
    with pytest.raises(DataError, match=f"column {name}, a name that batches use"):
        make("aligned", write(tmp_path, [{name: 1}]), *PLAIN)


def test_columns_of_a_test_are_read_as_in_training(tmp_path):
    """Numbers stay floats, vectors keep their order; what does not fit is refused with the column's name."""
    known = {"x": "float32", "attr": ["attr_b", "attr_a"], "gone": "text"}

    def made(rows, folder):
        file = write(tmp_path / folder, rows)
        o = flags("--dataset_mode", "aligned", "--dataroot", file, *PLAIN)
        o.saved = {"run_columns": known}
        return Aligned(o)

    got = sample(made([{"x": 1, "attr_a": 2, "attr_b": 3, "attr_c": 4}], "fits"))
    assert got["x"].dtype == torch.float32 and got["attr"].tolist() == [3, 2] and "gone" not in got
    with pytest.raises(DataError, match="column x of texts; the run was trained with x as numbers"):
        made([{"x": "much", "attr_a": 2, "attr_b": 3}], "texts")
    with pytest.raises(DataError, match="no number in each row of column attr_b"):
        made([{"x": 1, "attr_a": 2}], "short")
