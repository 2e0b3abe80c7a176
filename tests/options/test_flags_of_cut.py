"""Every flag of CUT's own code has its type and default with --model cut, except those in docs/migration.md."""

import csv
import re
from pathlib import Path

import pytest

from options.parse import parse
from tests.support.runs import ROOT
from util.errors import OptionError

FACTS = Path(__file__).resolve().parents[1] / "facts" / "cut_options.tsv"
TYPES = {"flag": bool, "switch": bool, "int": int, "float": float, "str": str}
TEXTS = {"netD": "pixel", "netG": "resnet_6blocks", "normG": "batch", "normD": "none", "init_type": "normal",
         "model": "cut", "dataset_mode": "unaligned", "direction": "BtoA", "preprocess": "zoom_and_crop", "epoch": "7",
         "gan_mode": "nonsaturating", "lr_policy": "cosine", "gpu_ids": "-1", "CUT_mode": "fastcut", "netF": "reshape",
         "nce_layers": "0,8", "suffix": ""}  # fmt: skip
NUMBERS = {"load_size": "300", "random_scale_max": "2", "netF_nc": "9"}
MODES = {"cut": ("--model", "cut"), "fastcut": ("--model", "cut", "--CUT_mode", "FastCUT"),
         "sincut": ("--model", "sincut")}  # fmt: skip
SAME_IN = {"sincut": {"random_scale_max"}}  # rows of the table that concern other modes


def rows():
    with open(FACTS, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def differences():
    """Return {flag: (default in the authors' code, what is here)} from the table of docs/migration.md."""
    text = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| CUT's `--(\w+)` \| (.*?) \| (.*?) \|", text, re.MULTILINE)
    return {flag: (re.split(r", |[;(]", theirs.replace("`", ""))[0].strip(), ours) for flag, theirs, ours in found}


REFUSED = {row["option"] for row in rows()} & {f for f, (_, ours) in differences().items() if "refused" in ours}
TRAIN = [row for row in rows() if row["cut"] != "-" and row["option"] not in REFUSED]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def same(value, fact):
    if isinstance(value, bool) or not isinstance(value, int | float) or fact == "None":
        return str(value) == fact
    return float(value) == float(fact)


@pytest.mark.parametrize("mode", MODES)
def test_every_default_is_the_authors_or_in_the_table(mode):
    o = parse([*MODES[mode]], "train")
    facts = {row["option"]: row[mode] for row in rows() if row[mode] != "-" and row["option"] not in REFUSED}
    other = {flag: fact for flag, fact in facts.items() if not same(getattr(o, flag), fact)}
    rest = differences().keys() - REFUSED - SAME_IN.get(mode, set())
    assert other == {flag: facts[flag] if mode == "sincut" else differences()[flag][0] for flag in rest}


def words(row):
    """Return the words that follow a flag in a test of its type."""
    name, text = row["option"], TEXTS.get(row["option"], "text")
    return (
        {"flag": [], "switch": ["True"], "int": ["7"], "float": ["0.5"], "str": [text]}[row["type"]]
        if name not in NUMBERS
        else [NUMBERS[name]]
    )


def test_every_flag_is_accepted_with_its_type():
    chosen = [(row, words(row)) for row in TRAIN]
    o = parse([word for row, value in chosen for word in (f"--{row['option']}", *value)], "train")
    for row, value in chosen:
        expected = float(*value) if row["cut"] == "inf" else TYPES[row["type"]](*value or ["True"])
        assert getattr(o, row["option"]) == expected, row["option"]


SWITCHES = [row["option"] for row in TRAIN if row["type"] == "switch"]


@pytest.mark.parametrize(("text", "expected"), [("yes", True), ("1", True), ("False", False), ("n", False)])
def test_switches_take_true_and_false_as_there(text, expected):
    o = parse(["--model", "cut", *(word for name in SWITCHES for word in ("--" + name, text))], "train")
    assert [getattr(o, name) for name in SWITCHES] == [expected] * len(SWITCHES)
    with pytest.raises(OptionError, match="'maybe' is not true or false"):
        parse(["--model", "cut", "--nce_idt", "maybe"], "train")


@pytest.mark.parametrize("flag", ["nce_idt False", "lambda_NCE 1", "flip_equivariance False", "n_epochs 7"])
def test_a_given_flag_beats_the_defaults_of_the_mode(flag):
    name, value = flag.split()
    o = parse(["--CUT_mode", "FastCUT", "--model", "cut", "--" + name, value], "train")
    assert str(getattr(o, name)) in (value, value + ".0")
    assert (o.n_epochs_decay, o.nce_T) == (50, 0.07)


@pytest.mark.parametrize("flag", sorted(REFUSED))
def test_a_refused_flag_says_what_to_do(flag):
    with pytest.raises(OptionError) as caught:
        parse(["--model", "cut", "--" + flag, "1"], "train")
    assert "see --help" not in str(caught.value)


@pytest.mark.parametrize("value", ["netG resnet_cat", "netD patch"])
def test_a_network_that_is_not_here_is_refused_with_one_that_is(value):
    with pytest.raises(OptionError, match=r"; write --net[GD] (resnet_9blocks|basic)"):
        parse(["--model", "cut", "--" + value.split()[0], value.split()[1]], "train")
