"""metrics.json and metrics.csv have one layout, whatever was measured."""

import csv
import json
import math

import pytest

from metrics import best_of
from metrics.base import Result
from metrics.tables import write_tables
from util.errors import EnvironmentFault


def test_each_evaluation_has_a_line_and_what_json_lacks_is_empty(tmp_path):
    rows = [({"epoch": 1, "step": 5}, {"L1": Result(0.5, None, 3)}),
            ({"epoch": 2, "step": 9}, {"L1": Result(math.nan, 0.1, 3), "fid": Result(math.inf, None, 4)})]  # fmt: skip
    write_tables(tmp_path / "new", rows, {"L1": (1, 0.5)}, {"images": {"a": {"L1": 0.5}}})
    table = json.loads((tmp_path / "new/metrics.json").read_text())
    assert table["best"] == {"L1": {"epoch": 1, "value": 0.5}} and table["images"] == {"a": {"L1": 0.5}}
    assert table["evaluations"] == [
        {"epoch": 1, "step": 5, "values": {"L1": {"value": 0.5, "error": None, "n": 3}}},
        {"epoch": 2, "step": 9, "values": {"L1": {"value": None, "error": 0.1, "n": 3},
                                           "fid": {"value": None, "error": None, "n": 4}}}]  # fmt: skip
    with (tmp_path / "new/metrics.csv").open() as file:
        heads, *lines = csv.reader(file)
    assert heads == ["epoch", "step", "L1", "L1_error", "L1_n", "fid", "fid_error", "fid_n"]
    assert lines == [["1", "5", "0.5", "", "3", "", "", ""], ["2", "9", "nan", "0.1", "3", "inf", "", "4"]]


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match=r"metrics\.json': cannot be written"):
        write_tables(tmp_path / "file", [], {}, {})


@pytest.mark.parametrize(("better", "best"), [("lower", "b"), ("higher", "d"), ("", None)])
def test_the_best_is_the_first_of_equal_ones_and_no_nan(better, best):
    values = {"a": math.nan, "b": 1.0, "c": 1.0, "d": 2.0}
    assert best_of(values, better) == best and best_of({"a": math.nan}, better) is None
