"""Every flag of SPADE's own code has its meaning with --model spade, except those in docs/migration.md."""

import csv
import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from options import store
from options.names.spade import OF_SPADE, VALUES_OF_SPADE
from options.parse import parse
from tests.support.runs import ROOT
from util.errors import OptionError
from util.size import Size

FACTS = Path(__file__).resolve().parents[1] / "facts" / "spade_options.tsv"
MODES = ("coco", "ade20k", "cityscapes", "facades", "custom")
TEXTS = {"model": "spade", "norm_G": "spadeinstance5x5", "norm_D": "spectralbatch", "norm_E": "spectral",
         "preprocess_mode": "scale_shortside_and_crop", "netG": "spade", "netD": "multiscale", "gan_mode": "original",
         "gpu_ids": "-1", "which_epoch": "7", "dataset_mode": "coco", "init_type": "orthogonal", "optimizer": "adam",
         "num_upsampling_layers": "most"}  # fmt: skip
NUMBERS = {"load_size": "300", "crop_size": "200", "beta1": "0.25", "beta2": "0.75", "aspect_ratio": "2.0"}
SWITCHES = {"tf_log": ("displays", "('console', 'health', 'html', 'tensorboard')")}
FORCED = ("serial_batches", "no_flip", "batchSize", "nThreads")  # in test.py, there and here


def rows():
    with open(FACTS, encoding="utf-8", newline="") as file:
        return {row["option"]: row for row in csv.DictReader(file, delimiter="\t")}


def differences():
    """Return {flag: (default in the authors' code, what is here)} from the table of docs/migration.md."""
    text = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| SPADE's `--(\w+)` \| (.*?) \| (.*?) \|", text, re.MULTILINE)
    return {flag: (theirs.replace("`", "").partition(";")[0].partition(",")[0], ours) for flag, theirs, ours in found}


REFUSED = sorted(flag for flag, (_, ours) in differences().items() if ours.startswith("refused"))


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def here(flag, value):
    """Return the name and the value that a flag of the authors has here."""
    name = OF_SPADE.get(flag, flag)
    return name, VALUES_OF_SPADE.get(name, {}).get(value, value)


def same(value, fact):
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str("" if value is None else value) == fact.replace("None", "")
    return float(value) == float(fact)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("phase", ["train", "test"])
def test_every_default_is_the_authors_or_in_the_table(phase, mode):
    o, others = vars(parse(["--model", "spade", "--dataset_mode", mode], phase)), differences()
    facts = {flag: row[f"{phase}_{mode}"] for flag, row in rows().items() if row[f"{phase}_{mode}"] != "-"}
    if facts.pop("aspect_ratio") == "2.0":
        facts |= {"crop_size": f"{facts['crop_size']}x{int(facts['crop_size']) // 2}"}
        del facts["load_size"]  # of --preprocess fixsize
    for flag, fact in facts.items():
        if flag in others or flag in SWITCHES or OF_SPADE.get(flag) == "" or (phase == "test" and flag in FORCED):
            continue
        name, value = here(flag, fact)
        assert same(o[name], value.partition(" ")[0]), flag


def test_the_table_names_their_flags_and_defaults():
    for flag, (theirs, _) in differences().items():
        assert flag in rows() and theirs in rows()[flag].values(), flag


def words(flag, kind):
    if kind == "flag":
        return [f"--{flag}"]
    return [f"--{flag}", NUMBERS.get(flag) or {"int": "7", "float": "0.5", "str": TEXTS.get(flag, "text")}[kind]]


@pytest.mark.parametrize("phase", ["train", "test"])
def test_every_flag_is_accepted_with_its_meaning(phase):
    chosen = {flag: row["type"] for flag, row in rows().items() if row[f"{phase}_coco"] != "-" and flag not in REFUSED}
    left_out = ("tf_log", *FORCED) if phase == "test" else ()
    chosen = {flag: kind for flag, kind in chosen.items() if flag not in left_out}
    argv = ["--model", "spade", *(word for flag, kind in chosen.items() for word in words(flag, kind))]
    o = vars(parse(argv, phase))
    assert str(o["crop_size"]) == "200x100" and (o["dataset_mode"], o["layout"]) == ("semantic", "coco")
    for flag, kind in chosen.items():
        if OF_SPADE.get(flag) == "" or flag in ("crop_size", "aspect_ratio", "dataset_mode"):
            continue
        name, value = here(flag, words(flag, kind)[-1] if kind != "flag" else "True")
        name, value = SWITCHES.get(flag, (name, value))
        assert str(o[name]) == {"max_dataset_size": "7.0"}.get(flag, value), flag


@pytest.mark.parametrize("flag", REFUSED)
def test_a_refused_flag_says_what_to_do(flag):
    phase = "train" if rows()[flag]["train_coco"] != "-" else "test"
    with pytest.raises(OptionError) as caught:
        parse(["--model", "spade", f"--{flag}", *(["1"] if rows()[flag]["type"] != "flag" else [])], phase)
    assert "see --help" not in str(caught.value)


@pytest.mark.parametrize(("words", "size"), [
    ("--aspect_ratio=2 --crop_size=96", "96x48"), ("--crop_size 96 --aspect_ratio 0.5", "96x192"),
    ("--crop_size 96 --aspect_ratio 1", "96"), ("--dataset_mode custom --aspect_ratio 2", "256x128"),
    ("--layout=coco --aspect_ratio 2", "256x128"), ("--layout coco --aspect_ratio=2", "256x128"),
])  # fmt: skip
def test_an_aspect_ratio_is_that_of_the_crop(words, size):
    assert str(parse(["--model", "spade", *words.split()], "train").crop_size) == size
    with pytest.raises(OptionError, match="not a flag of pix2pix"):
        parse(["--model", "pix2pix", "--aspect_ratio", "2"], "train")


@pytest.mark.parametrize(("given", "said"), [
    (["--no_instance"], "--no_instance': is given, but the run was trained without it"),
    (["--use_vae"], "--use_vae': is given, but the run was trained without it"),
    (["--label_nc", "7"], "--label_nc': is 7, but the run was trained with 6"),
    (["--label_nc", "6"], ""), (["--lambda_feat", "3"], ""),
])  # fmt: skip
def test_a_flag_that_contradicts_the_runs_networks_is_named(given, said, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    trained = parse(["--model", "spade", "--label_nc", "6", "--dataroot", "x", "--name", "run"], "train")
    store.save(trained, folder, "train")
    argv = ["--name", "run", "--checkpoints_dir", str(tmp_path), *given]
    with pytest.raises(OptionError, match=said) if said else nullcontext():
        parse(argv, "test")


@pytest.mark.parametrize(("flags", "said"), [([], True), (["--use_vae"], False)])
def test_the_size_that_shapes_a_generator_with_a_z_has_an_effect(flags, said, capsys):
    parse(["--model", "spade", "--preprocess", "resize", "--load_size", "64", "--crop_size", "64", *flags], "train")
    assert ("note: --crop_size has no effect" in capsys.readouterr().out) == said


def test_a_stored_size_is_a_size_also_beside_a_given_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["--model", "spade", "--name", "run", "--crop_size", "96x48"]
    (tmp_path / "checkpoints/run").mkdir(parents=True)
    store.save(parse(argv, "train"), tmp_path / "checkpoints/run", "train")
    again = parse([*argv, "--continue_train"], "train")
    assert again.saved["crop_size"] == again.crop_size == Size(96, 48)
