"""Every flag of pix2pixHD's own code has its meaning with --model pix2pixhd, except those in docs/migration.md."""

import csv
import re
from pathlib import Path

import pytest

from options.names.pix2pixhd import OF_PIX2PIXHD
from options.parse import parse
from tests.support.runs import ROOT
from util.errors import OptionError

FACTS = Path(__file__).resolve().parents[1] / "facts" / "pix2pixhd_options.tsv"
TEXTS = {"model": "pix2pixHD", "norm": "batch", "resize_or_crop": "scale_width_and_crop", "netG": "local",
         "gpu_ids": "-1", "which_epoch": "7"}  # fmt: skip
NUMBERS = {"loadSize": "300", "fineSize": "200", "n_downsample_global": "3", "beta1": "0.25"}
BY_VALUE = {"no_lsgan": ("gan_mode", "vanilla"), "fp16": ("amp", "fp16"),
            "tf_log": ("displays", ("console", "health", "html", "tensorboard"))}  # fmt: skip


def rows():
    with open(FACTS, encoding="utf-8", newline="") as file:
        return {row["option"]: row for row in csv.DictReader(file, delimiter="\t")}


def differences():
    """Return {flag: (default in the authors' code, what is here)} from the table of docs/migration.md."""
    text = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| pix2pixHD's `--(\w+)` \| (.*?) \| (.*?) \|", text, re.MULTILINE)
    return {flag: (theirs.replace("`", "").partition(";")[0].partition(",")[0], ours) for flag, theirs, ours in found}


FORCED = ("serial_batches", "no_flip", "batchSize", "nThreads")  # in test.py, there and here
REFUSED = sorted(flag for flag, (_, ours) in differences().items() if ours.startswith("refused"))


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def same(value, fact):
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str("" if value is None else value) == fact
    return float(value) == float(fact)


@pytest.mark.parametrize("phase", ["train", "test"])
def test_every_default_is_the_authors_or_in_the_table(phase):
    o = vars(parse(["--model", "pix2pixHD"], phase))
    others = differences()
    for flag, row in rows().items():
        if flag in others or row[phase] == "-" or flag in BY_VALUE or OF_PIX2PIXHD.get(flag) == "":
            continue
        if phase == "test" and flag in FORCED:
            continue
        assert same(o[OF_PIX2PIXHD.get(flag, flag)], row[phase]), flag
    for flag, (theirs, _) in others.items():
        assert flag in rows() and theirs in rows()[flag].values(), flag


def words(flag, kind):
    if kind == "flag":
        return [f"--{flag}"]
    return [f"--{flag}", NUMBERS.get(flag) or {"int": "7", "float": "0.5", "str": TEXTS.get(flag, "text")}[kind]]


@pytest.mark.parametrize("phase", ["train", "test"])
def test_every_flag_is_accepted_with_its_meaning(phase):
    chosen = {flag: row for flag, row in rows().items() if flag not in REFUSED and row[phase] != "-"}
    left_out = ("fp16", "tf_log", *FORCED) if phase == "test" else ()
    chosen = {flag: row for flag, row in chosen.items() if flag not in left_out}
    argv = [word for flag, row in chosen.items() for word in words(flag, row["type"])]
    o = vars(parse(["--model", "pix2pixhd", *argv], phase))
    for flag, row in chosen.items():
        if OF_PIX2PIXHD.get(flag) == "":
            continue
        name, value = BY_VALUE.get(flag, (OF_PIX2PIXHD.get(flag, flag), None))
        expected = value or words(flag, row["type"])[-1].removeprefix("--" if row["type"] == "flag" else "")
        if row["type"] == "flag" and value is None:
            expected = True
        usual = {"model": "pix2pixhd", "max_dataset_size": 7.0}
        assert str(o[name]) == str(usual.get(flag, expected)), flag


@pytest.mark.parametrize("flag", REFUSED)
def test_a_refused_flag_says_what_to_do(flag):
    phase = "train" if rows()[flag]["train"] != "-" else "test"
    with pytest.raises(OptionError) as caught:
        parse(["--model", "pix2pixhd", f"--{flag}", *(["1"] if rows()[flag]["type"] != "flag" else [])], phase)
    assert "see --help" not in str(caught.value)


def test_names_of_the_authors_mean_nothing_to_other_models():
    with pytest.raises(OptionError, match="use --n_epochs"):
        parse(["--model", "pix2pix", "--niter", "3"], "train")
    assert parse(["--model", "pix2pixhd", "--niter=3"], "train").n_epochs == 3
