"""Flags: what is refused and how, config files, what a run remembers of its options, help."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SMALL, options

from options import store
from options.fields import Options
from options.parse import BASE, flags_for, parse
from util import registry
from util.errors import CheckpointError, OptionError

MODELS = [e.name for e in registry.entries("model")]


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


@pytest.mark.parametrize(("script", "argv", "promised"), [
    ("train", "--model pix2pix --lambda_cycle 3",
     "--lambda_cycle is not a flag of pix2pix; did you mean --lambda_L1? (--lambda_A belongs to cycle_gan)"),
    ("train", "--lamda_A 10", "--lamda_A is not a flag of cycle_gan; did you mean --lambda_A?"),
    ("train", "--lamda_A=10", "did you mean --lambda_A?"),
    ("train", "--lambda-A 10", "did you mean --lambda_A?"),
    ("train", "--LR 0.1", "did you mean --lr?"),
    ("train", "--model pix2pix --lambda_A 3", "--lambda_A is not a flag of pix2pix; it belongs to cycle_gan"),
    ("train", "--lambda_L1 3", "--lambda_L1 is not a flag of cycle_gan; it belongs to pix2pix"),
    ("train", "--dropuot", "did you mean --dropout?"),
    ("test", "--n_epochs 3", "--n_epochs is not a flag of test; it belongs to train.py"),
    ("test", "--num_tests 3", "did you mean --num_test?"),
    ("test", "--noeval", "did you mean --no_eval?"),
    ("train", "--zzzzzzzz 1", "--zzzzzzzz is not a flag of cycle_gan; see --help"),
])  # fmt: skip
def test_a_wrong_flag_is_answered_with_the_right_one(command, script, argv, promised):
    line = refused(command, *argv.split(), script=script)
    assert promised in line
    assert "unknown" in line


@pytest.mark.parametrize(("argv", "meant"), [("--n_ep 5", "--n_epochs"), ("--n_e 5", "--n_epochs"),
    ("--max_data 3", "--max_dataset_size"), ("--lambda_i 1", "--lambda_identity"), ("--serial", "--serial_batches"),
    ("--cont", "--continue_train")])  # fmt: skip
def test_abbreviations_are_refused_with_the_whole_name(command, argv, meant):
    assert f"did you mean {meant}?" in refused(command, *argv.split())


RANGES = {"lr": "above 0", "batch_size": "at least 1 and of at most 100000", "n_epochs": "at least 0",
          "pool_size": "at least 0", "num_threads": "at least 0", "beta1": "at least 0 and below 1",
          "crop_size": "at least 1", "load_size": "at least 1", "lambda_A": "at least 0", "ngf": "at least 1",
          "label_smoothing": "at least 0 and below 0.5", "seed": "at least 0", "max_dataset_size": "at least 1",
          "print_freq": "at least 1", "n_layers_D": "at least 1 and of at most 8", "init_gain": "above 0",
          "display_port": "at least 1 and of at most 65535"}  # fmt: skip


@pytest.mark.parametrize(("flag", "value"), [
    *[("lr", v) for v in ("nan", "inf", "-1", "0", "x", "1e400", "")], ("lambda_A", "-0.1"), ("lambda_A", "nan"),
    *[("batch_size", v) for v in ("0", "-1", "1e9", "1000000000", "2.5", "nan", "x", "")], ("crop_size", "0"),
    ("load_size", "0"), ("n_epochs", "-1"), ("n_epochs", "inf"), ("pool_size", "-1"), ("num_threads", "-1"),
    ("beta1", "2"), ("beta1", "1"), ("beta1", "nan"), ("ngf", "0"), ("label_smoothing", "0.5"), ("seed", "-1"),
    ("max_dataset_size", "0"), ("max_dataset_size", "nan"), ("max_dataset_size", "-inf"), ("print_freq", "0"),
    ("n_layers_D", "9"), ("init_gain", "0"), ("display_port", "65536"), ("display_port", "1e9"),
])  # fmt: skip
def test_a_wrong_number_is_answered_with_option_value_and_range(command, flag, value):
    line = refused(command, f"--{flag}={value}")
    assert f"option '--{flag}'" in line
    number = value if value in ("1e9", "2.5", "x", "") or flag in ("batch_size", "n_epochs") else str(float(value))
    assert number in line or value in line
    assert RANGES[flag] in line


@pytest.mark.parametrize(("flag", "value", "words"), [
    ("direction", "AtoC", "AtoB, BtoA"), ("padding", "mirror", "reflect, replicate, zero"),
    ("preprocess", "resize_or_crop", "resize_and_crop, crop, scale_width, scale_width_and_crop, none"),
    ("preprocess", "", "scale_width"), ("preprocess", "resize_and_scale_width", "resize and scale_width contradict"),
    ("epoch", "last", "number or latest"), ("model", "../../evil", "cycle_gan"), ("model", "os", "cycle_gan"),
    ("model", "pix2pix;x", "did you mean pix2pix?"), ("netG", "unet_265", "did you mean unet_256?"),
])  # fmt: skip
def test_a_wrong_word_is_answered_with_the_choices(command, flag, value, words):
    line = refused(command, f"--{flag}={value}")
    assert f"'--{flag}'" in line
    assert f"'{value}'" in line or "contradict" in line
    assert words in line


@pytest.mark.parametrize("word", ["--lr", "--name", "stray", "--dropout=1", "--lr 1 2"])
def test_flags_without_their_value_and_words_without_a_flag_are_refused(command, word):
    assert word.split("=")[0].split()[-1].strip("-") in refused(command, *word.split())


@pytest.mark.parametrize(("argv", "words"), [
    ("--load_size 64 --crop_size 128", "64 --crop_size 128"),
    ("--load_size 64 --crop_size 128 --preprocess scale_width_and_crop", "64 --crop_size 128"),
    ("--gan_mode hinge --label_smoothing 0.1", "--label_smoothing --gan_mode hinge"),
    ("--gan_mode wgangp --label_smoothing 0.1", "--label_smoothing --gan_mode wgangp"),
    ("--continue_train --overwrite", "--overwrite --continue_train"),
    ("--n_epochs 0 --n_epochs_decay 0", "--n_epochs"),
    ("--gpu_ids 0,1", "'0,1' torchrun --nproc_per_node=2 train.py"),
    ("--gpu_ids 0,1,3,", "torchrun --nproc_per_node=3 train.py"),
])  # fmt: skip
def test_options_that_contradict_are_named_together(command, argv, words):
    line = refused(command, *argv.split())
    assert all(word in line for word in words.split()), line


def test_options_that_agree_are_taken():
    for mode in ("crop", "scale_width", "none"):  # these do not cut a picture out of a smaller one
        assert options("--preprocess", mode, "--load_size", "64", "--crop_size", "128").load_size == 64
    assert parse(["--crop_size", "128"], "test").load_size == 128
    assert parse(["--load_size", "300"], "test").load_size == 300
    assert options("--gpu_ids", "0,").gpu_ids == "0,"
    assert options("--label_smoothing", "0.1", "--gan_mode", "vanilla").label_smoothing == 0.1


@pytest.mark.parametrize(("value", "code"), [("99", 5), ("first", 2), ("1.5", 2)])
def test_a_device_that_is_not_there_is_refused_before_a_folder_is_made(command, tmp_path, value, code):
    short = ["--netG", "resnet_4blocks", "--n_epochs", "1", "--n_epochs_decay", "0", "--max_dataset_size", "1"]
    ended = command("train", *SMALL, *short, "--dataroot", "demo", f"--gpu_ids={value}")
    assert (ended.code, list(tmp_path.iterdir())) == (code, []), ended.last
    assert "option '--gpu_ids'" in ended.last
    assert "-1" in ended.last.partition(";")[2]  # the way out


NAMES = ["../x", "a/b", "", ".", "..", "x\0y", "x\ny", "n" * 300, "-x", "a\\b", "~/x/"]


@pytest.mark.parametrize("script", ["train", "test"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leaves_its_folder_makes_nothing(command, tmp_path, name, script):
    assert "'--name'" in refused(command, f"--name={name}", script=script)
    assert "'--name'" in refused(command, "--name", str(tmp_path / "elsewhere"), script=script)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("flag", "value"), [
    ("suffix", "../x"), ("suffix", "{__class__}"), ("suffix", "{model.__class__}"), ("suffix", "{model[0]}"),
    ("suffix", "{nothing}"), ("suffix", "{"), ("suffix", "a{}b"), ("suffix", "{given}"), ("suffix", "{flags}"),
    ("epoch", "../x"), ("epoch", "{__class__}"), ("load_iter", "../x"), ("load_iter", "{__class__}"),
])  # fmt: skip
def test_format_fields_and_paths_in_names_are_refused(command, tmp_path, flag, value):
    assert refused(command, f"--{flag}", value, script="train").startswith("error: option '--")
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("text", ['{"lr": 0.5, "ngf": 7, "no_flip": true, "model": "pix2pix", "lambda_L1": 3}',
                                  "lr: 0.5\nngf: 7\nno_flip: true\nmodel: pix2pix\n--lambda_L1: 3\n"])  # fmt: skip
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


BAD_JSON = {
    "empty": "", "cut": '{"options": {"ngf": 4', "list": "[]", "no table": '{"options": [1]}', "not a table": "3",
    "huge": '{"options": {"name": "' + "x" * 2_000_000 + '"}}', "deep": "[" * 500_000, "bytes": "\xff\xfe",
    **{what: json.dumps({"format": 1, "options": values}) for what, values in {
        "text for a number": {"ngf": "abc"}, "list for a number": {"ngf": [1, 2]}, "out of range": {"ngf": -4},
        "code": {"ngf": "__import__('os').system('touch canary')"}, "table for a word": {"norm": {"a": 1}},
        "null": {"norm": None}, "word for a boolean": {"no_dropout": "yes"}, "nan": {"lr": math.nan},
        "unknown model": {"model": "__import__('os')"}, "number for a model": {"model": 5},
        "number for paths": {"plugin": 5}, "model's flag": {"model": "pix2pix", "lambda_L1": "x"},
    }.items()},
}  # fmt: skip


@pytest.mark.parametrize("script", ["train", "test"])
@pytest.mark.parametrize("what", BAD_JSON)
def test_a_damaged_options_json_is_a_damaged_run(command, tmp_path, what, script):
    _remember("--model", "pix2pix")
    Path("checkpoints/r/options.json").write_bytes(BAD_JSON[what].encode("latin-1"))
    line = refused(command, "--name", "r", *(["--continue_train"] if script == "train" else []), script=script, code=4)
    assert "options.json" in line
    assert len(line) < 600
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoints"]  # nothing in it was run


def test_keys_of_options_json_that_are_no_flags_change_nothing():
    before = vars(_remember())
    kept = json.loads(Path("checkpoints/r/options.json").read_text())
    kept["options"] |= {"__proto__": {"lr": 1}, "__class__": "x", "__dict__": {}, "given": [], "isTrain": False}
    Path("checkpoints/r/options.json").write_text(json.dumps(kept))
    o = parse(["--name", "r", "--continue_train"], "train")
    assert type(o) is Options
    assert vars(o) == before | {"continue_train": True}


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
    wanted = "\n".join(f"--{f.name} " for holder in BASE[script] for f in holder.__dataclass_fields__.values())
    assert all(word in done.stdout + " " for word in (wanted.split("\n") if flag == "--help" else MODELS))


def test_help_of_a_model_groups_flags_by_owner_and_shows_its_defaults(command):
    for model in MODELS:
        out = command("train", "--model", model, "--help").out
        groups = dict(re.findall(r"^([\w ]+):\n((?:  .*\n)+)", out, re.MULTILINE))
        for flag in flags_for(model):
            assert re.search(rf"^  --{flag.name}\b", groups[flag.owner], re.MULTILINE), flag
    out = command("train", "--model", "pix2pix", "--help").out
    assert "weight of the L1 term [100.0]" in out.partition("\npix2pix:\n")[2]
    shown = {flag: re.search(rf"--{flag} \w+ [^\[]*\[([^\]]*)\]", out)[1] for flag in ("norm", "netG", "dataset_mode")}
    assert shown == {"norm": "batch", "netG": "unet_256", "dataset_mode": "aligned"}


@pytest.mark.parametrize("kind", list(registry.HOMES))
def test_list_shows_every_name_of_every_kind_with_its_origin(command, kind):
    ended = command("train", "--list")
    assert ended.code == 0
    block = re.search(rf"^{kind}:\n((?:  .*\n)+)", ended.out, re.MULTILINE)[1]
    assert re.findall(r"^  (\S+)", block, re.MULTILINE) == sorted(e.name for e in registry.entries(kind))
    assert all(len(line.split(maxsplit=1)) == 2 for line in block.splitlines())


def test_an_option_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match="lambda_x"):
        _ = options().lambda_x
    with pytest.raises(OptionError):
        options("--lambda_x", "1")
