"""Flags are checked, read from config files, remembered by a run and listed in the help."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from metrics import better_direction
from options import store
from options.fields import Options
from options.parse import FLAG_CLASSES, flags_for, parse
from registry import lookup
from tests.support.runs import ROOT, options
from util.errors import CheckpointError, OptionError

MODELS = [e.name for e in lookup.entries("model")]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(command, *argv: str, script: str = "train", code: int = 2) -> str:
    """Run a command that must be refused before it looks for data; return its one line on stderr."""
    ended = command(script, "--dataroot", "missing", *argv)
    assert ended.code == code, ended
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert re.match(r"error: .+ '.*': .+; .+", ended.last), ended.last
    return ended.last


@pytest.mark.parametrize(("flag", "value", "words"), [
    ("direction", "AtoC", "AtoB, BtoA"), ("padding", "mirror", "reflect, replicate, zero"),
    ("preprocess", "resize_or_crop", "resize_and_crop, crop, scale_width, scale_width_and_crop, none"),
    ("preprocess", "", "scale_width"), ("preprocess", "resize_and_scale_width", "resize and scale_width contradict"),
    ("epoch", "last", "number, latest or best"), ("model", "../../evil", "cycle_gan"), ("model", "os", "cycle_gan"),
    ("model", "pix2pix;x", "did you mean pix2pix?"), ("netG", "unet_265", "did you mean unet_256?"),
])  # fmt: skip
def test_a_wrong_word_is_answered_with_the_choices(command, flag, value, words):
    line = refused(command, f"--{flag}={value}")
    assert f"'--{flag}'" in line
    assert f"'{value}'" in line or "contradict" in line
    assert words in line


@pytest.mark.parametrize("word", ["--lr", "--name", "stray", "--dropout=1", "--lr 1 2"])
def test_flags_without_value_and_words_without_flag_are_refused(command, word):
    assert word.split("=")[0].split()[-1].strip("-") in refused(command, *word.split())


def test_options_that_agree_are_taken():
    for mode in ("crop", "scale_width", "none"):  # these do not cut a picture out of a smaller one
        assert options("--preprocess", mode, "--load_size", "64", "--crop_size", "128").load_size == 64
    assert parse(["--crop_size", "128"], "test").load_size == 128
    assert parse(["--load_size", "300"], "test").load_size == 300
    assert options("--gpu_ids", "0,").gpu_ids == "0,"
    assert options("--label_smoothing", "0.1", "--gan_mode", "vanilla").label_smoothing == 0.1


def test_the_suffix_is_the_references():
    argv = ["--name", "x", "--model", "pix2pix", "--suffix", "{model}_{netG}_size{load_size}_{lambda_L1}"]
    assert parse(argv, "train").name == "x_pix2pix_unet_256_size286_100.0"
    assert parse([*argv, "--netG", "unet_128"], "train").name == "x_pix2pix_unet_128_size286_100.0"
    assert parse(["--suffix", "plain"], "train").name == "experiment_name_plain"
    typed = parse(["--name", "x", "--suffix", "{model}_{lr}", "--model", "Pix2Pix", "--lr", "1e-3"], "train")
    assert typed.name == "x_pix2pix_0.001"  # values, not the words they were given as


def test_every_boolean_has_its_opposite_and_the_last_one_counts():
    assert parse(["--dropout"], "train").no_dropout is False  # cycle_gan's own default is True
    assert parse(["--no_dropout", "--dropout"], "train").no_dropout is False
    assert parse(["--dropout", "--no_dropout"], "train").no_dropout is True
    assert parse(["--no_eval"], "test").eval is False
    assert parse(["--no_flip", "--flip"], "train").no_flip is False
    for phase in ("train", "test"):
        for flag in flags_for("pix2pix", phase):
            if flag.type is bool and flag.name not in ("serial_batches", "no_flip"):  # test.py decides these itself
                assert getattr(parse(["--model", "pix2pix", f"--{flag.opposite}"], phase), flag.name) is (
                    flag.name.startswith("no_") and flag.opposite != flag.name[3:]
                )


# ---- config files ----


@pytest.mark.parametrize(
    "text",
    [
        '{"lr": 0.5, "ngf": 7, "no_flip": true, "model": "pix2pix", "lambda_L1": 3}',
        "lr: 0.5\nngf: 7\nno_flip: true\nmodel: pix2pix\n--lambda_L1: 3\n",
    ],
)
def test_a_config_file_ranks_below_the_command_line(tmp_path, text):
    file = tmp_path / ("c.json" if text.startswith("{") else "c.yaml")
    file.write_text(text)
    o = parse(["--config", str(file), "--ngf", "9"], "train")
    assert (o.lr, o.ngf, o.no_flip, o.model, o.lambda_L1) == (0.5, 9, True, "pix2pix", 3.0)
    assert (o.norm, o.netG) == ("batch", "unet_256")  # what the model brings
    assert parse(["--config", str(file), "--flip", "--lr", "1"], "train").no_flip is False
    assert parse(["--config", str(file), "--model", "pix2pix"], "train").given >= {"lr", "ngf", "config"}


@pytest.mark.parametrize(("text", "words"), [
    ("lambda_L1: 3", "c.yaml '--lambda_L1' cycle_gan pix2pix"), ("lamda_A: 3", "c.yaml '--lamda_A' --lambda_A?"),
    ("lr: fast", "c.yaml '--lr' 'fast' number"), ("ngf: 0", "c.yaml '--ngf' 0 least"), ("ngf: 2.5", "c.yaml '--ngf'"),
    ("ngf: true", "c.yaml '--ngf'"), ("no_flip: 3", "c.yaml '--no_flip' true false"), ("lr: .nan", "c.yaml '--lr' nan"),
    ("lr: {a: 1}", "c.yaml '--lr'"), ("lr:", "c.yaml '--lr'"), ("- lr", "'--config' c.yaml"),
    ("1: 2", "'--config' c.yaml"),
    ("lr: [", "'--config' c.yaml"), ("lr: !!python/object/apply:os.system [exit]", "'--config' c.yaml"),
    ("name: ../x", "'--name'"), ("model: nothing", "'--model' nothing"), ("plugin: gone.py", "gone.py"),
])  # fmt: skip
def test_what_is_wrong_in_a_config_file_is_named_with_the_file(command, tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    line = refused(command, "--config", "c.yaml")
    assert all(word in line for word in words.split()), line


def test_a_missing_config_file_is_named(command):
    assert "gone.yaml" in refused(command, "--config", "gone.yaml")


# ---- what a run remembers ----


@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize("model", MODELS)
def test_every_default_passes_its_own_check(model, phase):
    kept = parse(["--model", model], phase)
    for flag in flags_for(model, phase):
        assert flag.check(flag.default) == flag.default, flag.name
        assert flag.check(getattr(kept, flag.name)) == getattr(kept, flag.name), flag.name
        assert flag.meta["help"], f"--{flag.name} has no help"


def _remember(*argv: str) -> Options:
    o = options("--name", "r", *argv)
    folder = Path(o.checkpoints_dir) / o.name
    folder.mkdir(parents=True)
    store.save(o, folder, "train")
    return o


@pytest.mark.parametrize("extra", [[], ["--max_dataset_size", "3", "--dropout", "--displays", "console"]])
def test_options_json_brings_every_option_back(extra):
    before = vars(_remember("--model", "pix2pix", "--lambda_L1", "0.1", "--lr", "1e-5", *extra))
    text = Path("checkpoints/r/options.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (before["max_dataset_size"] == math.inf) is (not extra)
    after = vars(parse(["--name", "r", "--continue_train"], "train"))
    assert after == before | {"continue_train": True}
    told = parse(["--name", "r"], "test")
    run = [flag.name for flag in flags_for("pix2pix") if flag.meta["of_run"]]
    assert {"netG", "norm", "no_dropout", "direction", "crop_size", "preprocess", "input_nc", "model"} <= set(run)
    assert {name: getattr(told, name) for name in run} == {name: before[name] for name in run}
    assert parse(["--name", "r", "--norm", "none"], "test").norm == "none"  # the user has the last word


def test_a_run_keeps_its_data_set_however_its_model_is_spelt():
    _remember("--model", "pix2pix", "--dataset_mode", "single")
    assert parse(["--name", "r", "--model", "Pix2Pix"], "test").dataset_mode == "single"
    assert parse(["--name", "r", "--model", "cycle_gan"], "test").dataset_mode == "unaligned"


def test_a_run_is_not_read_for_a_new_one_of_its_name():
    _remember("--model", "pix2pix", "--ngf", "5")
    assert parse(["--name", "r"], "train").ngf == 64
    Path("checkpoints/r/options.json").write_text("{")
    with pytest.raises(CheckpointError):
        parse(["--name", "r"], "test")


def test_train_opt_txt_has_the_references_layout():
    """Sorted, right-aligned to 25, values padded to 30, changed ones with the default that the model left."""
    o = _remember("--model", "pix2pix", "--lr", "0.001", "--name", "r")
    lines = Path("checkpoints/r/train_opt.txt").read_text().split("\n")
    assert lines[0] == "----------------- Options ---------------"
    assert lines[-2:] == ["----------------- End -------------------", ""]
    assert all(re.fullmatch(r" *\w+: .{30,}?(\t\[default: .*\])?", line) for line in lines[1:-2])
    assert [line.partition(":")[0].strip() for line in lines[1:-2]] == sorted(vars(o))
    assert "               batch_size: 1                             " in lines
    assert "                       lr: 0.001                         \t[default: 0.0002]" in lines
    assert "                  isTrain: True                          \t[default: None]" in lines
    assert "         max_dataset_size: inf                           " in lines
    assert "                     norm: batch                         " in lines  # pix2pix's own default
    assert "                   suffix:                               " in lines


# ---- help ----


@pytest.mark.parametrize("script", ["train", "test"])
@pytest.mark.parametrize("flag", ["--help", "--list"])
def test_help_and_list_import_no_torch(script, flag):
    argv = [sys.executable, "-X", "importtime", str(ROOT / f"{script}.py"), flag]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert {"options", "argparse"} <= modules
    assert not modules & {"torch", "torchvision", "visdom"}
    wanted = "\n".join(f"--{f.name} " for holder in FLAG_CLASSES[script] for f in holder.__dataclass_fields__.values())
    assert all(word in done.stdout + " " for word in (wanted.split("\n") if flag == "--help" else MODELS))


def test_help_groups_flags_by_owner_with_the_models_defaults(command):
    for model in MODELS:
        out = command("train", "--model", model, "--help").out
        groups = dict(re.findall(r"^([\w ]+):\n((?:  .*\n)+)", out, re.MULTILINE))
        for flag in flags_for(model):
            assert re.search(rf"^  --{flag.name}\b", groups[flag.owner], re.MULTILINE), flag
    out = command("train", "--model", "pix2pix", "--help").out
    assert "weight of the L1 term [100.0]" in out.partition("\npix2pix:\n")[2]
    shown = {flag: re.search(rf"--{flag} \w+ [^\[]*\[([^\]]*)\]", out)[1] for flag in ("norm", "netG", "dataset_mode")}
    assert shown == {"norm": "batch", "netG": "unet_256", "dataset_mode": "aligned"}


@pytest.mark.parametrize("kind", list(lookup.PART_TABLES))
def test_list_shows_every_name_of_every_kind_with_its_origin(command, kind):
    ended = command("train", "--list")
    assert ended.code == 0
    block = re.search(rf"^{kind}:\n((?:  .*\n)+)", ended.out, re.MULTILINE)[1]
    assert re.findall(r"^  (\S+)", block, re.MULTILINE) == sorted(e.name for e in lookup.entries(kind))
    assert all(len(line.split(maxsplit=1)) == 2 for line in block.splitlines())


def test_list_shows_what_metrics_compare_and_what_is_better():
    """The text, which needs no torch, is what the classes say."""
    for found in lookup.entries("metric"):
        thing, text = found.load(), lookup.table("metric").describe(found.name)
        own = {cls.__module__ for cls in getattr(thing, "__mro__", ())}
        kind = "pairs" if getattr(thing, "paired", True) else "classes" if "metrics.classes" in own else "sets"
        assert text.startswith(f"{kind}, {better_direction(found.name, thing)} is better"), found.name
        assert ("; needs " in text) == (found.name not in ("L1", "PSNR", "ssim", "ms_ssim"))


def test_an_option_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match="lambda_x"):
        _ = options().lambda_x
    with pytest.raises(OptionError):
        options("--lambda_x", "1")


@pytest.mark.parametrize(("argv", "refused"), [
    (["--name", "TYPO"], True), (["--name", "kind"], True), (["--name", "TYPO", "--model", "pix2pix"], False),
    (["--name", "TYPO", "--dataroot", "demo"], False), (["--name", "kept"], False), (["--name", "weights"], False),
])  # fmt: skip
def test_nothing_to_continue_is_refused_unless_the_run_is_named(argv, refused, tmp_path, monkeypatch):
    """Without a run, --model and --dataroot, another model would train on other data for days."""
    monkeypatch.chdir(tmp_path)
    _remember("--name", "kept")
    Path("checkpoints/weights").mkdir()
    Path("checkpoints/weights/latest_net_G.pth").touch()
    if not refused:
        assert parse([*argv, "--continue_train"], "train").continue_train
        return
    with pytest.raises(OptionError, match=re.escape(f"there is no run checkpoints/{argv[1]}; ")) as problem:
        parse([*argv, "--continue_train"], "train")
    assert "a new run needs --model or --dataroot" in str(problem.value)


@pytest.mark.parametrize(("argv", "told"), [([], True), (["--dataroot", "demo"], False)])
def test_training_on_generated_images_is_told_if_nobody_asked(argv, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    parse(["--model", "pix2pix", *argv], "train")
    assert ("note: training on generated images (demo)" in capsys.readouterr().out) is told
