"""Words of a command line that no flag takes are answered with the flag or the value that is meant."""

import re
from pathlib import Path

import pytest

from options.names.other_names import FLAGS, TEST_FLAGS, VALUES
from options.parse import flags_for, parse
from registry import lookup
from registry.lookup import find
from tests.support.images import picture
from util.errors import OptionError, UserError
from util.spelling import nearest, nearest_path, normalise_name, path_hint, unquoted_path

MODELS = ["pix2pix", "cycle_gan", "cgan"]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def answer(*argv: str, phase: str = "train") -> str:
    """Parse a command line that must be refused; return its one line."""
    with pytest.raises(OptionError) as caught:
        parse(list(argv), phase)
    line = str(caught.value)
    assert "\n" not in line and re.fullmatch(r"[\w .-]+ '.*': .+; .+", line), line
    return line


def remedy(*argv: str, phase: str = "train") -> str:
    return answer(*argv, phase=phase).rpartition("; ")[2]


# ---- flags of other programs


FOREIGN = {  # names in commands of train.py --model pix2pix: the flags that are meant, each with its value
    "niter": ["--n_epochs"], "trainA": ["as trainA and trainB, and give that one with --dataroot"],
    "niter_decay": ["--n_epochs_decay"], "which_epoch": ["--epoch"],
    "which_direction": ["--direction"], "which_model_netG": ["--netG"], "which_model_netD": ["--netD"],
    "no_lsgan": ["--gan_mode vanilla"], "resize_or_crop": ["--preprocess"], "fineSize": ["--crop_size"],
    "loadSize": ["--load_size"], "how_many": ["--num_test", "test.py"], "ntest": ["--num_test", "test.py"],
    "identity": ["--lambda_identity", "cycle_gan"], "align_data": ["--dataset_mode aligned"],
    "nThreads": ["--num_threads"], "use_gpu": ["--gpu_ids 0"], "gpu": ["--gpu_ids 0"], "batchSize": ["--batch_size"],
    "display_single_pane_ncols": ["--display_ncols"], "epochs": ["--n_epochs and --n_epochs_decay"],
    "max_epochs": ["--n_epochs"],
    "num_epochs": ["--n_epochs"], "learning_rate": ["--lr"], "learning-rate": ["--lr"], "workers": ["--num_threads"],
    "num_workers": ["--num_threads"], "device": ["--gpu_ids -1"], "cpu": ["--gpu_ids -1"], "no_cuda": ["--gpu_ids -1"],
    "resume": ["--continue_train"], "resume_from_checkpoint": ["--continue_train"], "fp16": ["--amp fp16"],
    "bf16": ["--amp bf16"], "mixed_precision": ["--amp fp16", "--amp bf16"], "precision": ["--amp"],
    "image_size": ["--load_size", "--crop_size"], "resolution": ["--load_size", "--crop_size"],
    "img-size": ["--load_size", "--crop_size"], "steps": ["--n_epochs", "--batch_size"],
    "max_steps": ["--n_epochs", "--batch_size"], "iterations": ["--n_epochs"], "out": ["--checkpoints_dir"],
    "output": ["--checkpoints_dir"], "outdir": ["--checkpoints_dir"], "output_dir": ["--checkpoints_dir"],
    "early_stopping": ["--early_stop", "--metrics"], "patience": ["--early_stop"], "manual_seed": ["--seed"],
    "random_seed": ["--seed"], "batch": ["--batch_size"], "bs": ["--batch_size"], "train_batch_size": ["--batch_size"],
    "data": ["--dataroot"], "data_dir": ["--dataroot"], "dataset": ["--dataroot"], "data-path": ["--dataroot"],
    "optim": ["--optimizer"], "weight_decay": ["adamw"], "scheduler": ["--lr_policy"], "lr_scheduler": ["--lr_policy"],
    "gradient_accumulation_steps": ["--accumulate"], "gradient_checkpointing": ["--grad_checkpoint"],
    "lambda_pixel": ["--lambda_L1"], "lambda_cyc": ["--lambda_L1", "--lambda_A", "cycle_gan"], "b1": ["--beta1"],
    "n_residual_blocks": ["--netG resnet_6blocks"], "sample_interval": ["--update_html_freq"],
    "checkpoint_interval": ["--save_epoch_freq"], "log_every_n_steps": ["--print_freq"], "exp_name": ["--name"],
    "experiment": ["--name"], "pretrained": ["--init_from"], "ckpt": ["--init_from", "--continue_train"],
    "tensorboard": ["--displays console,html,tensorboard"], "wandb": ["--use_wandb"], "grayscale": ["--input_nc 1"],
    "ema_decay": ["--ema"], "latent_size": ["--latent_dim", "cgan"], "dropout_rate": ["0.5"],
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_flag_of_another_program_is_answered_with_ours(name):
    line = answer("--model", "pix2pix", f"--{name}", "5")
    assert line.startswith(f"option '--{name}': unknown: --{name} is not a flag of pix2pix; ")
    for words in FOREIGN[name]:
        assert words in line.partition("; ")[2], line


def test_flags_of_the_same_meaning_are_answered_once():
    line = answer("--model", "cut", "--trainA", "x", "--trainB", "y", "--learning_rate", "1")
    assert line.endswith(" with --dataroot; likewise --trainB, --learning_rate: --lr")


TEST_FOREIGN = {"testB": "as testA and testB, and give that one",
                "how_many": "--num_test", "ntest": "--num_test", "out": "--results_dir", "output": "--results_dir",
                "outdir": "--results_dir", "ckpt": "--name", "weights": "--name", "checkpoint": "--name",
                "which_epoch": "--epoch", "resolution": "--crop_size", "seeds": "--num_samples", "subset": "--phase",
                "niter": "train.py", "epochs": "train.py", "lr": "train.py", "keep_size": "--native"}  # fmt: skip


@pytest.mark.parametrize("name", TEST_FOREIGN)
def test_a_name_is_answered_with_the_flag_of_this_command(name):
    assert TEST_FOREIGN[name] in answer(f"--{name}", "5", phase="test").partition("; ")[2]


TYPOS = {
    "lamda_L1": "lambda_L1", "lambda_l1": "lambda_L1", "lambda_L2": "lambda_L1", "n_epoch": "n_epochs",
    "n_epohcs": "n_epochs", "n_epochs_decy": "n_epochs_decay", "batch-size": "batch_size", "bacth_size": "batch_size",
    "batch_sise": "batch_size", "data_root": "dataroot", "datarot": "dataroot", "dataroo": "dataroot",
    "cropsize": "crop_size", "corp_size": "crop_size", "load_szie": "load_size", "netg": "netG", "nfg": "ngf",
    "ndff": "ndf", "drection": "direction", "Direction": "direction", "pre_process": "preprocess",
    "preproces": "preprocess", "gpuids": "gpu_ids", "gpu_idx": "gpu_ids", "num_thread": "num_threads",
    "continue_training": "continue_train", "contiue_train": "continue_train", "save_epochs_freq": "save_epoch_freq",
    "save_epoch_frequency": "save_epoch_freq", "save_latest_frq": "save_latest_freq", "prnt_freq": "print_freq",
    "display_ports": "display_port", "display-id": "display_id", "noflip": "no_flip", "no_flips": "no_flip",
    "drop_out": "dropout", "norms": "norm", "nrom": "norm", "ini_type": "init_type", "lr_polcy": "lr_policy",
    "lr_decay_iter": "lr_decay_iters", "ganmode": "gan_mode", "gan_mod": "gan_mode", "poolsize": "pool_size",
    "pol_size": "pool_size", "max_datset_size": "max_dataset_size", "max_dataset": "max_dataset_size",
    "dataset_mod": "dataset_mode", "chekpoints_dir": "checkpoints_dir", "serial_batch": "serial_batches",
    "inputnc": "input_nc", "ouput_nc": "output_nc", "n_layer_D": "n_layers_D", "over_write": "overwrite",
    "sed": "seed", "plug_in": "plugin", "epochcount": "epoch_count", "beta": "beta1", "verbos": "verbose",
    "init_frm": "init_from", "augmnt": "augment", "displys": "displays", "determinstic": "deterministic",
    "accumlate": "accumulate", "use_wand": "use_wandb", "drop-last": "drop_last", "cach": "cache", "nme": "name",
    "modle": "model", "fast_convolution": "fast_convolutions", "learnig_rate": "lr", "nitre": "n_epochs",
    "wokers": "num_threads", "earning_rate": "lr",
}  # fmt: skip


@pytest.mark.parametrize("name", TYPOS)
def test_a_typing_error_is_answered_with_the_right_flag(name):
    words = remedy("--model", "pix2pix", f"--{name}", "5")
    assert re.search(rf"--{TYPOS[name]}(?!\w)", words), words


NOTHING = [
    "style_dim",
    "mapping_lr",
    "mixing",
    "noise_std",
    "sigma",
    "alpha",
    "tau",
    "depth",
    "timesteps",
    "beta_schedule",
    "guidance_scale",
    "prompt",
    "instance_prompt",
    "lora_rank",
    "text_encoder",
    "vae",
    "xformers",
    "adapter",
    "tokenizer",
    "hub_token",
    "push_to_hub",
    "deepspeed",
    "fsdp",
    "ddp_backend",
    "dist_url",
    "world_size",
    "profile",
    "no_such_flag",
    "foo",
    "xyz",
    "frobnicate",
    "contrast",
    "brightness",
    "hue",
    "ntree",
    "max_depth",
    "zzz",
    "abc",
    "flux",
    "temperature",
    "top_k",
]


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_is_suggested_where_nothing_is_close(name):
    assert remedy("--model", "pix2pix", f"--{name}", "5") == "see --help"


def test_all_flags_of_a_pasted_command_are_answered_at_once():
    line = answer("--model", "pix2pix", "--loadSize", "286", "--no_lsgan", "--niter", "5", "--how_many", "3", "--frob")
    assert line.endswith(
        "; did you mean --load_size; likewise --no_lsgan: --gan_mode vanilla, --niter: --n_epochs, "
        "--how_many: --num_test, of test.py, --frob: see --help"
    )


@pytest.mark.parametrize(("phase", "table"), [("train", FLAGS), ("test", TEST_FLAGS)])
def test_every_flag_named_by_the_table_exists(phase, table):
    here = {n for model in MODELS for command in ("train", "test") for f in flags_for(model, command) for n in f.names}
    base = {normalise_name(n) for flag in flags_for("cycle_gan", phase) for n in flag.names}
    for name, advice in table.items():
        assert set(re.findall(r"--(\w+)", advice)) <= here, (name, advice)
        assert name == normalise_name(name) and name not in base, f"--{name} is a flag itself"


def advised_commands(table):
    """The words after each `--flag value` of an advice that is nothing but flags."""
    for advice in sorted(set(table.values())):
        if re.fullmatch(r"--\w+ \S+", advice):
            yield advice.split()


@pytest.mark.parametrize("words", list(advised_commands(FLAGS)), ids=" ".join)
def test_an_advice_with_a_value_can_be_followed(words):
    parse(words, "train")


@pytest.mark.parametrize(("flag", "meant"), sorted({(f, v) for f, each in VALUES.items() for v in each.values()}))
def test_an_advised_value_can_be_given(flag, meant):
    parse([f"--{flag}", *meant.split()], "train")


@pytest.mark.parametrize(("flag", "given"), sorted((f, g) for f, each in VALUES.items() for g in each))
def test_a_value_of_another_program_is_answered_with_ours(flag, given):
    assert remedy(f"--{flag}={given}").startswith(f"write --{flag} {VALUES[flag][given]}")


# ---- paths with spaces, values of switches, several values


@pytest.fixture
def spaced(tmp_path):
    for name in ("my data", "my data of 2024", "checkpoints/my run", "plain"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize(("given", "path"), [
    (["--dataroot", "my", "data"], "my data"), (["--dataroot=my", "data"], "my data"),
    (["--dataroot", "./my", "data", "--name", "x"], "./my data"), (["--dataroot", "my", "data", "of", "2024"],
    "my data of 2024"), (["--checkpoints_dir", "checkpoints/my", "run"], "checkpoints/my run"),
])  # fmt: skip
def test_a_path_with_an_unquoted_space_is_recognised(spaced, given, path, phase):
    flag = given[0].partition("=")[0]
    line = answer(*given, phase=phase)
    assert f"'{path}' contains a space" in line
    assert line.endswith(f"put it in quotes: {flag} '{path}'")


def test_absolute_paths_and_those_below_home_are_recognised(spaced, monkeypatch):
    monkeypatch.setenv("HOME", str(spaced))
    assert unquoted_path(["~/my", "data"]) == "~/my data"
    assert unquoted_path([f"{spaced}/my", "data", "rest"]) == f"{spaced}/my data"
    assert unquoted_path(["plain", "data"]) is None


@pytest.mark.parametrize(("given", "end"), [
    (["--name", "my", "run"], "--name 'my run'"), (["--load_size", "256", "128"], "write --load_size 256x128"),
    (["--classes", "cat", "dog"], "--classes cat,dog"), (["--displays", "console", "html"], "--displays console,html"),
    (["--lr", "0.1", "0.2"], "write --lr 0.1"), (["stray"], "see --help"),
    (["cut"], "write --model cut"), (["sngan"], "write --recipe sngan"),
    (["plain"], "--dataroot plain"),
    (["\u2013lr", "0.1"], "write --lr"), (["\u2014\u2014lr"], "write --lr"), (["-lr", "0.1"], "with two: --lr"),
    (["--lr"], "--lr VALUE"), (["--lr", "--name", "x"], "--lr VALUE"),
])  # fmt: skip
def test_a_word_too_many_is_answered_with_what_to_write(spaced, given, end):
    assert answer(*given).endswith(end)


SWITCHES = [flag for flag in flags_for("cycle_gan") if flag.is_switch and not flag.meta["valued"]]


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("flag", SWITCHES, ids=lambda flag: flag.name)
def test_a_switch_with_a_value_is_answered_with_the_switch(flag, joined):
    for value, wanted in (("True", f"write --{flag.name} alone"), ("False", f"write --{flag.opposite}"), ("0", "no")):
        words = [f"--{flag.name}={value}"] if joined else [f"--{flag.name}", value]
        line = answer(*words)
        assert line.startswith(f"option '--{flag.name}': is a switch, which takes no value such as '{value}'")
        assert wanted in line
    parse([f"--{flag.opposite}"], "train")


# ---- numbers, sizes and choices


@pytest.mark.parametrize(("flag", "given", "meant"), [
    ("lr", "2e-4,", "2e-4"), ("lr", "0,0002", "0.0002"), ("lr", "0.1f", "0.1"), ("beta1", "'0.5'", "0.5"),
    ("batch_size", "4.0", "4"), ("n_epochs", "1e2", "100"), ("load_size", "256,256", "256x256"),
    ("load_size", "(300, 200)", "300x200"), ("crop_size", "256px", "256"), ("crop_size", "256.0", "256"),
    ("crop_size", "512*256", "512x256"), ("crop_size", "512 256", "512x256"), ("split", "0,9", "0.9"),
])  # fmt: skip
def test_a_number_with_a_slip_is_answered_with_the_number(flag, given, meant):
    line = answer(f"--{flag}={given}")
    assert line.endswith(f"did you mean {meant}?") and f"'{given}'" in line
    assert parse([f"--{flag}", meant, "--preprocess", "none"], "train").given >= {flag}


@pytest.mark.parametrize(("flag", "given"), [
    ("lr", "fast"), ("lr", "1.2.3"), ("batch_size", "2.5"), ("batch_size", "four"), ("crop_size", "large"),
    ("crop_size", "1x2x3"), ("crop_size", "-5"), ("crop_size", "25.6"), ("lr", "0,0,1"),
])  # fmt: skip
def test_no_number_is_made_up(flag, given):
    assert "did you mean" not in answer(f"--{flag}={given}")


@pytest.mark.parametrize("given", ["cpu", "-1", "CPU", "-1,"])
def test_a_device_may_be_named_cpu(given):
    from util.device import select_device

    assert select_device(parse([f"--gpu_ids={given}"], "train").gpu_ids).type == "cpu"


def test_a_config_file_is_answered_like_the_command_line(tmp_path):
    Path("c.yaml").write_text("niter: 5\nno_lsgan: true\n")
    line = answer("--config", "c.yaml")
    assert line.startswith("option in c.yaml '--niter'") and line.endswith("use --n_epochs; likewise --no_lsgan:"
                                                                           " --gan_mode vanilla")  # fmt: skip
    Path("c.yaml").write_text("norm: bn\n")
    assert answer("--config", "c.yaml").endswith("write --norm batch")


@pytest.mark.parametrize("kind", ["generator", "norm", "objective", "model", "dataset", "display"])
def test_a_part_of_another_name_is_not_guessed(kind):
    names = [entry.name for entry in lookup.entries(kind)]
    assert nearest("frobnicate", names) is None
    assert all(nearest(name[:-1], names) == name for name in names if len(name) > 5)


# ---- paths and names that do not exist


@pytest.mark.parametrize(("given", "meant"), [
    ("phoots", "photos"), ("Photos", "photos"), ("./phoots", "./photos"), ("photo/tran", "photos/train"),
    ("photos/train/1.jpeg", "photos/train/1.jpg"), ("photos.zip", "photos"), ("my_data", "my data"), ("nothing", None),
    ("photos", None), ("", None), ("photos/nothing", None), ("photos/train/1.jpg/2.jpg", None), ("a\nb", None),
])  # fmt: skip
def test_a_missing_path_is_answered_with_the_nearest(tmp_path, given, meant):
    for name in ("photos/train", "my data"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "photos" / "train" / "1.jpg").touch()
    assert nearest_path(given) == meant and nearest_path(given.replace("/", "//")) == meant
    full = nearest_path(f"{tmp_path}/{given}") if given else None
    assert full == (f"{tmp_path}/{meant.removeprefix('./')}" if meant else None) or given.startswith("./")
    assert path_hint(given) == (
        "" if not meant else f"did you mean {chr(39) * (' ' in meant)}{meant}{chr(39) * (' ' in meant)}?"
    )


def test_a_folder_of_many_files_is_not_compared(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.setattr("util.spelling.MAX_COMPARED_FILES", 0)
    assert nearest_path("phoots") is None


NAMES = {  # the words, and what the answer must hold: the nearest name and, where they are few, all
    "a class": (["--dataroot", "cls", "--model", "cgan", "--classes", "Red"], "mean red? choose from blue, red"),
    "a second class": (["--dataroot", "cls", "--model", "cgan", "--classes", "blue,rad"], "did you mean red? "),
    "a phase": (["--dataroot", "pairs", "--model", "pix2pix", "--phase", "tran"], "did you mean --phase train?"),
    "a side's phase": (["--dataroot", "sides", "--phase", "tran"], "did you mean --phase train?"),
    "a phase in other words": (["--dataroot", "brain", "--model", "pix2pix"], "'Training'); use --phase Training"),
    "a side's phase in other words": (["--dataroot", "capitals"], "'TrainB'); use --phase Train"),
    "a layout": (["--dataroot", "pairs", "--model", "pix2pix", "--pairs", "side"], "did you mean sides? "),
    "a manifest": (["--dataroot", "pairs", "--model", "pix2pix", "--pairs", "lst.csv"], "did you mean list.csv? "),
    "preprocessing": (["--preprocess", "resise_and_crop"], "did you mean resize_and_crop? "),
    "a colour": (["--background", "whit"], "mean white? "), "an epoch": (["--epoch", "Latest"], "mean latest? "),
    "a config file": (["--config", "conf.yml"], "did you mean conf.yaml?"),
    "a plug-in": (["--plugin", "mymodl.py"], "mymodel.py?"),
    "a folder": (["--dataroot", "pair"], "did you mean pairs?"),
    "a column": (["--dataroot", "pairs/list.csv", "--model", "pix2pix", "--inputs", "edges,dept"], "mean depth? "),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMES)
def test_a_name_from_a_list_is_answered_with_the_nearest(case):
    words, said = NAMES[case]
    folders = ("cls/red", "cls/blue", "pairs/train", "sides/trainA", "sides/trainB", "brain/Training", "brain/Testing")
    for name in (*folders, "capitals/TrainA", "capitals/TrainB"):
        Path(name).mkdir(parents=True)
        picture(1, 80, 40).save(f"{name}/1.png")
    Path("pairs/list.csv").write_text("edges,depth,b\ntrain/1.png,train/1.png,train/1.png\n")
    Path("conf.yaml").write_text("name: x\n")
    Path("mymodel.py").touch()

    def read():
        o = parse(["--gpu_ids", "-1", *words], "train")
        find("dataset", o.dataset_mode)(o)

    with pytest.raises(UserError, match=re.escape(said)):
        read()
