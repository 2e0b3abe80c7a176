"""Every flag of StarGAN's own code has its meaning with --model stargan, except those in docs/migration.md."""

import csv
import re
from pathlib import Path

import pytest
import torch

from networks.infer_architecture import infer_stargan
from options.parse import parse
from tests.support.runs import ROOT
from util.errors import OptionError

FACTS = Path(__file__).resolve().parents[1] / "facts" / "stargan_options.tsv"
# flag of the authors: (words, {flag here: value})
MEANINGS = {
    "c_dim": ("5", {"c_dim": 5}), "celeba_crop_size": ("170", {"center_crop": 170}),
    "rafd_crop_size": ("200", {"center_crop": 200}), "image_size": ("64", {"crop_size": 64, "load_size": 64}),
    "g_conv_dim": ("32", {"ngf": 32}), "d_conv_dim": ("16", {"ndf": 16}), "g_repeat_num": ("3", {"g_repeat_num": 3}),
    "d_repeat_num": ("4", {"d_repeat_num": 4}), "lambda_cls": ("2", {"lambda_cls": 2.0}),
    "lambda_rec": ("5", {"lambda_rec": 5.0}), "lambda_gp": ("1", {"lambda_gp": 1.0}),
    "dataset": ("RaFD", {"dataroot": "data/RaFD/train", "center_crop": 256, "attr_path": ""}),
    "batch_size": ("8", {"batch_size": 8}), "num_iters": ("500", {"num_iters": 500}),
    "num_iters_decay": ("20", {"num_iters_decay": 20}), "g_lr": ("3e-4", {"lr": 3e-4, "lr_D": 1e-4}),
    "d_lr": ("2e-4", {"lr": 1e-4, "lr_D": 2e-4}), "n_critic": ("3", {"n_critic": 3}), "beta1": ("0.4", {"beta1": 0.4}),
    "beta2": ("0.9", {"beta2": 0.9}), "selected_attrs": ("Male Young", {"selected_attrs": "Male,Young"}),
    "num_workers": ("2", {"num_threads": 2}), "mode": ("train", {}),
    "use_tensorboard": ("True", {"displays": ("console", "health", "html", "tensorboard")}),
    "celeba_image_dir": ("my/images", {"dataroot": "my/images"}), "attr_path": ("l.txt", {"attr_path": "l.txt"}),
    "rafd_image_dir": ("faces", {"dataroot": "faces"}), "log_dir": ("logs", {}), "sample_dir": ("samples", {}),
    "model_save_dir": ("runs/one", {"checkpoints_dir": "runs", "name": "one"}), "result_dir": ("r", None),
    "log_step": ("10", {"print_freq": 160}), "sample_step": ("100", {"update_html_freq": 1600}),
    "model_save_step": ("50", {"save_latest_freq": 800, "save_by_iter": True}), "test_iters": ("7", None),
}  # fmt: skip
# whose defaults have another name
SAME = {"image_size": "crop_size", "g_conv_dim": "ngf", "d_conv_dim": "ndf", "g_lr": "lr", "d_lr": "lr"}


def rows():
    with open(FACTS, encoding="utf-8", newline="") as file:
        return {row["option"]: row for row in csv.DictReader(file, delimiter="\t")}


def differences():
    """Return {flag: what is here} from the table of docs/migration.md."""
    text = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| StarGAN's `--(\w+)` \| .*? \| (.*?) \|", text, re.MULTILINE))


REFUSED = sorted(flag for flag, ours in differences().items() if ours.startswith("refused"))


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_flag_of_the_authors_is_known_here():
    assert set(rows()) == set(MEANINGS) | set(REFUSED)
    assert set(differences()) <= set(rows())


def test_defaults_are_the_authors_or_in_the_table():
    o = vars(parse(["--model", "stargan"], "train"))
    for flag, row in rows().items():
        if flag not in differences() and row["type"] in ("int", "float"):
            assert float(o[SAME.get(flag, flag)]) == float(row["default"]), flag
    assert o["selected_attrs"].split(",") == rows()["selected_attrs"]["default"].split()


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("flag", MEANINGS)
def test_every_flag_has_its_meaning(flag, joined):
    words, meant = MEANINGS[flag]
    argv = [f"--{flag}={words}"] if joined and " " not in words else [f"--{flag}", *words.split()]
    if meant is not None:
        o = vars(parse(["--model", "stargan", *argv], "train"))
        assert {name: o[name] for name in meant} == meant


def test_the_commands_of_the_authors_are_understood():
    readme = (
        "--mode train --dataset CelebA --image_size 128 --c_dim 5 --sample_dir s --log_dir l --result_dir r"
        " --model_save_dir stargan_celeba/models --selected_attrs Black_Hair Blond_Hair Brown_Hair Male Young"
    )
    o = parse(["--model", "stargan", *readme.replace("--result_dir r", "").split()], "train")
    assert (o.dataroot, o.attr_path) == ("data/celeba/images", "data/celeba/list_attr_celeba.txt")
    assert (o.center_crop, o.crop_size, o.load_size, o.name) == (178, 128, 128, "models")
    o = parse(["--model", "stargan", *readme.replace("train", "test", 1).split()], "test")
    assert (o.checkpoints_dir, o.name, o.epoch, o.results_dir) == ("stargan_celeba", "models", "200000", "r")
    own = "--dataset RaFD --rafd_crop_size 90 --rafd_image_dir my --test_iters 3 --model_save_dir m"
    o = parse(["--model", "stargan", *own.split()], "test")
    assert (o.dataroot, o.center_crop, o.attr_path, o.epoch, o.name) == ("my", 90, "", "3", "m")
    o = parse(["--model", "stargan", *own.split(), "--celeba_image_dir", "no", "--celeba_crop_size", "1"], "test")
    assert (o.dataroot, o.center_crop) == ("my", 90)  # flags of the other data set do not count


@pytest.mark.parametrize(("argv", "phase", "words"), [
    ("--mode test", "train", "test.py tests: run python test.py"), ("--mode train", "test", "run python train.py"),
    ("--dataset Both", "train", "train one for each"), ("--mode", "train", "write a value after it"),
    ("--dataset RaFD --attr_path l.txt", "train", "--attr_path': is for --dataset CelebA; omit it"),
    *((f"--{flag} 1", "train", "flag of StarGAN's code alone; ") for flag in REFUSED),
])  # fmt: skip
def test_what_is_refused_says_what_to_write(argv, phase, words):
    with pytest.raises(OptionError, match=words):
        parse(["--model", "stargan", *argv.split()], phase)


def test_words_after_the_attributes_may_be_images(tmp_path):
    (tmp_path / "photos").mkdir()
    o = parse("--model stargan --selected_attrs Male Young photos".split(), "test")
    assert (o.selected_attrs, o.dataroot) == ("Male,Young", "photos")


NETWORKS = Path(__file__).resolve().parents[1] / "facts" / "stargan_networks.tsv"
SIZES = {"G": (64, 5, 6), "D": (64, 5, 6, 128), "G_small": (8, 3, 2), "D_small": (4, 3, 5, 64)}  # width, domains, ...


@pytest.mark.parametrize("name", SIZES)
def test_keys_and_shapes_are_the_authors_and_tell_the_flags(name):
    from networks.architectures.stargan import StarGANDiscriminator, StarGANGenerator

    with open(NETWORKS, encoding="utf-8", newline="") as file:
        found = [row for row in csv.DictReader(file, delimiter="\t") if row["network"] == name]
    published = {row["key"]: tuple(map(int, row["shape"].split("x"))) if row["shape"] != "-" else () for row in found}
    width, domains, layers, *side = SIZES[name]
    with torch.device("meta"):
        sized = (3, domains, *side, *side, width, layers)
        net = StarGANDiscriminator(*sized) if side else StarGANGenerator(3, domains, width, layers)
    state = net.state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == published
    flags = {"ndf": width, "d_repeat_num": layers} if side else {"ngf": width, "g_repeat_num": layers}
    flags |= {} if side else {"input_nc": 3, "output_nc": 3}
    assert infer_stargan(state) == flags | {"c_dim": domains}
