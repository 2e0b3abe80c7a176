"""Every flag of the reference's v24 has its type and default, except those in docs/migration.md."""

import csv
import re
from pathlib import Path

import pytest

from options.parse import parse
from registry import lookup
from tests.support.runs import ROOT

FACTS = Path(__file__).resolve().parents[1] / "facts"
FORCED = {"num_threads": "0", "batch_size": "1", "serial_batches": "True", "no_flip": "True"}  # by v24's test.py
PHASES = {"train": ("train",), "test": ("test",), "both": ("train", "test")}  # a fact's command: the commands it is of


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def facts(name: str) -> list[dict[str, str]]:
    """Return the rows of a table of facts about the reference's v24."""
    with open(FACTS / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def migration() -> list[list[str]]:
    """Return the cells of docs/migration.md's table `what | reference | GANvas | why`, without its head."""
    text = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == ["what", "reference", "GANvas", "why"]
    assert all(len(row) == 4 for row in rows), [row for row in rows if len(row) != 4]
    return rows[1:]


def excepted(flag: str, phase: str) -> str | None:
    """Return the reference's default as the table of deliberate differences states it, None if it has no such row.

    A row is about a default only if its first cell is the flag alone, or the flag `of train.py` or `of test.py`.
    """
    for what, reference, *_ in migration():
        if what in (f"`--{flag}`", f"`--{flag}` of {phase}.py"):
            stated = re.split(r"[,;:(]", reference.replace("`", ""))[0].strip()
            return {"off": "False", "on": "True"}.get(stated, stated)
    return None


def owner_words(owner: str) -> tuple[str, str]:
    """Return (kind, name) of a fact's owner: "model pix2pix"; ("", "") for the commands themselves."""
    kind, _, name = owner.partition(" ")
    return (kind, name) if name else ("", "")


def is_here(owner: str) -> bool:
    kind, name = owner_words(owner)
    return not name or name in {e.name for e in lookup.entries(kind)}


def chosen_by(owner: str) -> list[str]:
    kind, name = owner_words(owner)
    return {"model": ["--model", name], "dataset": ["--dataset_mode", name]}.get(kind, [])


def same(value: object, fact: str) -> bool:
    """Whether a value of ours is the reference's default, written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value) == fact.replace("''", "")
    return float(value) == float(fact)


OPTIONS = [
    (row["owner"], phase, row["option"], row["type"], row["default"])
    for row in facts("v24_options.tsv")
    for phase in PHASES[row["command"]]
]
HERE = [row for row in OPTIONS if is_here(row[0])]
NAMED = [f"{phase}-{owner.replace(' ', '_')}-{name}" for owner, phase, name, _, _ in HERE]
DEFAULT_MODEL = {"train": "model cycle_gan", "test": "model test"}
TEXTS = {"model": "pix2pix", "netD": "n_layers", "netG": "resnet_6blocks", "norm": "batch", "init_type": "xavier",
         "dataset_mode": "aligned", "direction": "BtoA", "preprocess": "crop", "epoch": "7", "gan_mode": "vanilla",
         "lr_policy": "cosine", "gpu_ids": "-1"}  # fmt: skip


@pytest.mark.parametrize(("owner", "phase", "name", "type_", "default"), HERE, ids=NAMED)
def test_every_v24_flag_keeps_its_default_or_is_in_the_table(owner, phase, name, type_, default):
    value = getattr(parse(chosen_by(owner), phase), name)
    if phase == "test" and name in FORCED:
        default = FORCED[name]
    for row in facts("v24_defaults.tsv"):  # the command's default model changes some
        if row["owner"] == DEFAULT_MODEL[phase] and row["option"] == name:
            default = row["default"]
    if not same(value, default):
        assert excepted(name, phase) == default, f"--{name} is {value!r}, not {default}, and migration.md has no row"


@pytest.mark.parametrize(("owner", "phase", "name", "type_", "default"), HERE, ids=NAMED)
def test_every_flag_of_v24_is_accepted_with_its_type(owner, phase, name, type_, default):
    words = {
        "flag": [],
        "int": ["300" if name == "load_size" else "7"],
        "float": ["0.25"],
        "str": [TEXTS.get(name, "some_text")],
    }[type_]
    named = ["--dataroot", "demo"] * (name == "continue_train")  # there is no run to continue
    value = getattr(parse([*chosen_by(owner), f"--{name}", *words, *named], phase), name)
    if default == "inf":  # an int there, but inf is none
        assert value == 7.0
    elif (phase, name) == ("test", "batch_size"):  # without effect, with a note
        assert value == 1
    else:
        assert value == {"flag": bool, "int": int, "float": float, "str": str}[type_](*words or ["True"])
        assert type(value).__name__ == type_.replace("flag", "bool")


@pytest.mark.parametrize("owner", sorted({row[0] for row in OPTIONS} | {r["owner"] for r in facts("v24_defaults.tsv")}))
def test_every_owner_of_v24_flags_is_here_or_in_the_table(owner):
    assert is_here(owner) or any(f"`{owner_words(owner)[1]}`" in what for what, *_ in migration())


DEFAULTS = [
    (row["owner"], phase, row["option"], row["default"])
    for row in facts("v24_defaults.tsv")
    for phase in PHASES[row["command"]]
    if is_here(row["owner"])
]


@pytest.mark.parametrize(("owner", "phase", "name", "default"), DEFAULTS)
def test_models_set_v24_defaults_and_the_user_overrides_them(owner, phase, name, default):
    assert same(getattr(parse(chosen_by(owner), phase), name), default)
    other = {
        "no_dropout": ["--dropout"],
        "norm": ["--norm", "none"],
        "netG": ["--netG", "unet_32"],
        "dataset_mode": ["--dataset_mode", "unaligned"],
        "pool_size": ["--pool_size", "3"],
        "gan_mode": ["--gan_mode", "hinge"],
        "direction": ["--direction", "BtoA"],
    }.get(name, [f"--{name}", "3"])
    assert not same(getattr(parse([*chosen_by(owner), *other], phase), name), default)


@pytest.mark.parametrize(("flag", "values"), [
    ("netG", "resnet_9blocks resnet_6blocks unet_256 unet_128"), ("netD", "basic n_layers pixel"),
    ("norm", "instance batch none syncbatch"), ("init_type", "normal xavier kaiming orthogonal"),
    ("gan_mode", "vanilla lsgan wgangp"), ("lr_policy", "linear step plateau cosine"), ("direction", "AtoB BtoA"),
    ("dataset_mode", "unaligned aligned single"), ("padding", "reflect replicate zero"),
    ("preprocess", "resize_and_crop crop scale_width scale_width_and_crop none resize"),
])  # fmt: skip
def test_every_value_of_the_reference_is_accepted(flag, values):
    for value in values.split():
        assert getattr(parse([f"--{flag}", value], "train"), flag) == value


def _table_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith(("|--", "| option"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_option_facts_are_those_of_formats(shared):
    """reference/FORMATS.md 1.1, all three tables, against tests/facts/v24_options.tsv."""
    text = (shared / "reference" / "FORMATS.md").read_text(encoding="utf-8")
    tables = re.split(r"^(?:Base|Train|Test) options", text.partition("## 1.2")[0], flags=re.MULTILINE)[1:]
    wanted = []
    for owner, command, table in zip(("base", "train", "test"), ("both", "train", "test"), tables, strict=True):
        for cells in _table_rows(table):
            name, type_, default = cells[0].removeprefix("--"), *cells[1:3]
            type_, _, required = type_.partition(", ")
            default, _, note = default.partition(" (")
            default = required or default
            for_test = re.fullmatch(r"test: (.*)\)", note)
            if for_test:
                wanted += [(owner, "train", name, type_, default), (owner, "test", name, type_, for_test[1])]
            else:
                wanted.append((owner, command, name, type_, default))
    rows = [tuple(row.values()) for row in facts("v24_options.tsv") if not owner_words(row["owner"])[0]]
    assert len({row[0] + row[2] for row in wanted}) == 33 + 23 + 5
    assert sorted(rows) == sorted(wanted)


def test_the_facts_of_models_and_data_sets_are_those_of_formats(shared):
    """reference/FORMATS.md 1.2 against both files of facts."""
    text = (shared / "reference" / "FORMATS.md").read_text(encoding="utf-8")
    table = text.partition("## 1.2")[2].partition("\nOrder:")[0]
    both: dict[str, dict] = {}
    train: dict[str, dict] = {}
    flags: dict[str, dict] = {}
    for row in _table_rows(table)[1:]:
        owner, first, second, third = row[:4]
        heirs = [h for h in both if owner != h and f"{owner_words(h)[1]}'s" in f"{first} {second} {third}"]
        for cell, known in ((first, both), (second, train)):
            inherited = known[heirs[0]] if heirs and "'s" in cell else {}
            known[owner] = inherited | dict(re.findall(r"(\w+)=([\w.]+)", cell))
        new = dict(re.findall(r"--(\w+) ([\w.']+)", third))
        flags[owner] = flags[heirs[0]] if heirs and "'s" in third else new
        if owner == "model test":
            both[owner], train["tested"] = {}, both[owner]
    wanted = {(o, "both", n, d) for o, found in both.items() for n, d in found.items()}
    wanted |= {(o, "train", n, d) for o, found in train.items() if o != "tested" for n, d in found.items()}
    wanted |= {("model test", "test", n, d) for n, d in train["tested"].items()}
    assert {tuple(row.values()) for row in facts("v24_defaults.tsv")} == wanted
    rows = [row for row in facts("v24_options.tsv") if owner_words(row["owner"])[0]]
    assert {(r["owner"], r["option"], r["default"]) for r in rows} == {
        (o, n, d) for o, found in flags.items() for n, d in found.items()
    }
