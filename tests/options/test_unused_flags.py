"""Every flag of every command has an effect, or is noted when it is given."""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from networks import NETWORK_FLAGS
from networks.gan_loss import Objective
from options import unused_flags
from options.fields import Options
from options.parse import flags_for, parse
from registry import lookup
from tests.support.runs import SMALL
from tests.support.small_models import own_networks
from util.errors import OptionError

TRAINABLE = [e.name for e in lookup.entries("model") if e.name != "test"]
DATA = {"cgan": "labeled"}
# read when the command line is parsed, by the displays that are off here, or by the parser of the other flags
PARSED = {"name", "checkpoints_dir", "config", "plugin", "suffix", "model", "dataset_mode", "overwrite", "debug",
          "continue_train", "isTrain", "recipe", "CUT_mode"}  # fmt: skip
TINY = [*SMALL, "--dataroot", "demo", "--max_dataset_size", "2", "--n_epochs", "1", "--n_epochs_decay", "0",
        "--displays", "console,html,visdom", "--name", "run"]  # fmt: skip


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def read(monkeypatch):
    """The names of the options that are read as attributes."""
    names: set[str] = set()

    def spy(options, name):
        names.add(name)
        return object.__getattribute__(options, name)

    monkeypatch.setattr(Options, "__getattribute__", spy, raising=False)
    return names


def noted(out: str) -> set[str]:
    """The flags in the notes that a command prints."""
    lines = re.findall(r"^note: (--.+) ha(?:s|ve) no effect: .+$", out, re.MULTILINE)
    return {name for line in lines for name in re.findall(r"--(\w+)", line)}


def silent(model: str, phase: str, names: set[str], o: Options) -> set[str]:
    """The flags of a command that were not read and would not be noted."""
    known = unused_flags.unused(unused_flags.Command(o, lookup.find("model", model), own_flags(model, o)))
    return {flag.name for flag in flags_for(model, phase)} - names - set(known) - PARSED


def own_flags(model: str, o: Options) -> tuple[str, ...]:
    return tuple(n for n, flag in o.flags.items() if flag.owner == model and not flag.meta["of_run"])


def train(command, model, *more):
    argv = [
        *TINY,
        "--model",
        model,
        "--netG",
        "unet_32",
        *own_networks(model),
        "--display_id",
        "1",
        "--display_port",
        "9",
        *more,
    ]
    ended = command("train", *argv)
    assert ended.code == 0, ended.err
    return [str(word) for word in argv]


@pytest.mark.parametrize("model", TRAINABLE)
def test_every_flag_of_training_is_read_or_noted(command, read, model):
    argv = train(command, model)
    names = set(read)
    o = parse([*argv, "--overwrite"], "train")
    # read only on a terminal, and at multiples of --save_latest_freq
    unread = silent(model, "train", names, o) - {"no_progress", "save_by_iter"}
    assert not unread, unread


@pytest.mark.parametrize("model", TRAINABLE)
def test_every_flag_of_testing_is_read_or_noted(command, read, model):
    train(command, model)
    read.clear()
    ended = command("test", "--name", "run", "--gpu_ids", "-1", "--num_samples", "1")
    assert ended.code == 0, ended.err
    names = set(read)
    unread = silent(model, "test", names, parse(["--name", "run"], "test"))
    assert not unread, unread


def test_every_flag_of_the_model_test_is_read_or_noted(command, read):
    train(command, "pix2pix")
    read.clear()
    argv = ["--name", "run", "--gpu_ids", "-1", "--model", "test", "--dataset_mode", "single"]
    ended = command("test", *argv, "--num_test", "1")
    assert ended.code == 0, ended.err
    unread = silent("test", "test", set(read), parse(argv, "test"))
    assert not unread, unread


FRESH = [  # (flags of a new run, those that are noted)
    (["--epoch", "4"], {"epoch"}), (["--load_iter", "5"], {"load_iter"}), (["--epoch_count", "2"], set()),
    (["--allow_data_change"], {"allow_data_change"}), (["--lr_decay_iters", "3"], {"lr_decay_iters"}),
    (["--lr_decay_iters", "3", "--lr_policy", "step"], set()), (["--n_layers_D", "2"], {"n_layers_D"}),
    (["--n_layers_D", "2", "--netD", "n_layers"], set()), (["--lambda_gp", "3"], {"lambda_gp"}),
    (["--lambda_gp", "3", "--gan_mode", "wgangp"], set()), (["--lambda_gp", "3", "--penalty", "r1"], set()),
    (["--lambda_gp", "3", "--gan_mode", "wgangp", "--penalty", "none"], {"lambda_gp"}), (["--lambda_gp", "0",
     "--penalty", "r1"], {"penalty"}), (["--num_D", "3"], {"num_D"}), (["--num_D", "3", "--netD", "n_layers"],
     {"num_D"}), (["--num_D", "3", "--n_layers_D", "2", "--netD", "multiscale"], set()),
    (["--display_id", "0", "--display_port", "9"],
     {"display_port"}), (["--display_port", "9"], set()), (["--display_server", "localhost:9", "--display_port", "8"],
     {"display_port"}), (["--displays", "console", "--update_html_freq", "9", "--display_env", "a", "--fixed_samples",
     "3"], {"update_html_freq", "display_env", "fixed_samples"}), (["--wandb_project_name", "x"],
     {"wandb_project_name"}), (["--use_wandb", "--wandb_project_name", "x"], set()), (["--cache_gb", "1"],
     {"cache_gb"}), (["--cache", "ram", "--cache_dir", "x"], {"cache_dir"}), (["--cache", "disk", "--cache_dir", "x"],
     set()), (["--preprocess", "none", "--load_size", "300", "--crop_size", "64"], {"load_size", "crop_size"}),
    (["--preprocess", "crop", "--load_size", "300", "--crop_size", "64"], {"load_size"}),
    (["--preprocess", "scale_width", "--load_size", "300", "--crop_size", "64"], set()),
    (["--classes", "a"], {"classes"}), (["--sample_epoch_freq", "5"], {"sample_epoch_freq"}),
    (["--model", "cgan", "--sample_epoch_freq", "5"], set()), (["--model", "cgan", "--netG", "unet_32", "--direction",
     "BtoA", "--pool_size", "3"], {"netG", "direction", "pool_size"}), (["--model", "cgan", "--fixed_samples", "3"],
     {"fixed_samples"}), (["--netG", "unet_128", "--padding", "zero"], {"padding"}), (["--padding", "zero"], set()),
    (["--fixed_samples", "0", "--val_phase", "x"], {"val_phase"}), (["--model", "colorization", "--pairs", "sides"],
     {"pairs"}), (["--no_progress", "--displays", "html"], {"no_progress"}), (["--classes", "a", "--model", "cgan"],
     set()), (["--model", "gan", "--cond", "none", "--embedding_dim", "3"], {"embedding_dim"}),
    (["--model", "gan", "--embedding_dim", "3"], set()),
    (["--netD", "pixel", "--no_antialias"], set()), (["--netG", "unet_32", "--no_antialias"], set()),
    (["--netG", "unet_32", "--netD", "pixel", "--no_antialias"], {"no_antialias"}),
    (["--netG", "unet_64", "--padding", "zero", "--no_antialias_up", "--no_dropout"], {"padding", "no_antialias_up"}),
    (["--netG", "unet_32", "--no_dropout"], {"no_dropout"}), (["--accumulate", "4"], {"accumulate"}),
    (["--accumulate", "4", "--batch_size", "4"], set()), (["--model", "cgan", "--penalty", "r1", "--lambda_gp", "0"],
     set()), (["--model", "cgan", "--penalty", "r1", "--lambda_gp", "0", "--norm", "instance"], {"penalty"}),
    (["--model", "pix2pixhd", "--no_ganFeat_loss", "--no_vgg_loss", "--lambda_feat", "3"], {"lambda_feat"}),
    (["--model", "spade", "--no_ganFeat_loss", "--lambda_feat", "3"], {"lambda_feat"}),
    (["--model", "spade", "--no_vgg_loss", "--lambda_feat", "3"], set()),
    (["--model", "gan", "--no_dropout", "--no_antialias"], {"no_dropout", "no_antialias"}),
    (["--model", "gan", "--netD", "basic", "--no_antialias", "--n_layers_D", "2"], {"n_layers_D"}),
    (["--model", "gan", "--netG", "sngan_resnet", "--resize_conv"], {"resize_conv"}),
    (["--model", "cgan", "--resize_conv"], set()), (["--lambda_gp", "3", "--gan_mode", "relativistic"], {"lambda_gp"}),
    (["--stylegan2_G_size", "64",
     "--stylegan2_G_num_downsampling", "2"], {"stylegan2_G_size", "stylegan2_G_num_downsampling"}),
    (["--model", "sincut", "--norm", "batch", "--normG", "batch", "--normD", "batch", "--padding", "zero",
      "--no_dropout", "--antialias", "--antialias_up", "--resize_conv", "--n_layers_D", "2", "--init_type", "normal",
      "--stylegan2_G_size", "64"], {"norm", "normG", "normD", "padding", "no_dropout", "antialias", "antialias_up",
      "resize_conv", "n_layers_D"}), (["--model", "sincut", "--lambda_NCE", "0", "--lambda_identity", "0",
     "--init_gain", "1"], {"init_gain"}), (["--model", "sincut", "--netD", "basic", "--norm", "batch", "--antialias"],
     set()), (["--model", "sincut", "--load_size", "32"], set()), (["--model", "sincut", "--load_size", "90"],
     {"load_size"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "flags"), FRESH, ids=lambda value: " ".join(sorted(value) if isinstance(value, set) else value)
)
def test_a_flag_without_effect_on_a_new_run_is_noted(capsys, given, flags):
    parse(given, "train")
    assert noted(capsys.readouterr().out) == flags


TESTS = [
    (["--ndf", "4", "--netD", "basic", "--n_layers_D", "2", "--init_type", "xavier", "--init_gain", "0.1"],
     {"ndf", "netD", "n_layers_D", "init_type", "init_gain"}), (["--serial_batches", "--no_flip"], set()),
    (["--flip", "--no_serial_batches"], {"flip", "no_serial_batches"}), (["--use_wandb", "--verbose"],
     {"use_wandb", "verbose"}), (["--cache", "ram"], {"cache"}), (["--augment", "x"], {"augment"}),
    (["--epoch", "3", "--load_iter", "5"], {"epoch"}), (["--overlap", "3"], {"overlap"}),
    (["--overlap", "3", "--tile", "256"], set()), (["--num_samples", "3"], {"num_samples"}),
    (["--num_test", "3", "--dataroot", "x", "--phase", "val", "--eval"], set()),
    (["--preprocess", "crop", "--crop_size", "16", "--load_size", "200"], {"load_size"}),
    (["--preprocess", "resize", "--crop_size", "16", "--load_size", "64"], {"crop_size"}),
    (["--preprocess", "resize", "--crop_size", "16"], set()), (["--preprocess", "scale_width", "--load_size", "64",
     "--crop_size", "16"], set()), (["--results_only", "fake_B", "--display_winsize", "99"], {"display_winsize"}),
    (["--native", "--load_size", "3", "--preprocess", "crop"], {"load_size", "preprocess"}),
    (["--netD", "pixel", "--no_antialias"], {"netD"}), (["--netG", "unet_32", "--no_antialias"], {"no_antialias"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "flags"), TESTS, ids=lambda value: " ".join(sorted(value) if isinstance(value, set) else value)
)
def test_a_flag_without_effect_in_test_py_is_noted(capsys, given, flags):
    Path("checkpoints/experiment_name").mkdir(parents=True)
    parse([*given, "--model", "cycle_gan"], "test")
    assert noted(capsys.readouterr().out) == flags


def test_flags_of_training_in_test_py_are_noted(capsys):
    parse(["--model", "pix2pix", "--lambda_L1", "3"], "test")
    assert not noted(capsys.readouterr().out)  # the run is not there, which test.py says next
    Path("checkpoints/experiment_name").mkdir(parents=True)
    parse(["--model", "pix2pix", "--lambda_L1", "3"], "test")
    assert "note: --lambda_L1 has no effect: only training uses it" in capsys.readouterr().out
    parse(["--model", "test", "--model_suffix", "_A"], "test")
    assert noted(capsys.readouterr().out) == set()


def test_epoch_count_on_a_resumed_run_is_noted(command):
    """The state says where the run continues; from weights alone, the flag counts."""
    train(command, "pix2pix")
    ended = command("train", "--name", "run", "--continue_train", "--epoch_count", "7", "--n_epochs", "2",
                    "--init_type", "xavier")  # fmt: skip
    assert ended.code == 0 and noted(ended.out) == {"epoch_count", "init_type"}, ended.out
    assert "End of epoch 2 / 2" in ended.out and "epoch 7" not in ended.out
    for state in Path("checkpoints/run").glob("state_*.pt"):
        state.unlink()
    ended = command("train", "--name", "run", "--continue_train", "--epoch_count", "3", "--n_epochs", "3")
    assert ended.code == 0 and noted(ended.out) == set()
    assert "End of epoch 3 / 3" in ended.out


def test_images_for_a_model_that_draws_from_noise_are_noted(command):
    train(command, "cgan")
    ended = command("test", "--name", "run", "--gpu_ids", "-1", "--num_samples", "1", "--dataroot", "pictures",
                    "--num_test", "3", "--crop_size", "64", "--aspect_ratio", "2")  # fmt: skip
    assert ended.code == 0, ended.err
    assert noted(ended.out) == {"dataroot", "num_test", "crop_size", "aspect_ratio"}
    assert "no effect: this model generates images from noise" in ended.out
    assert "num_samples" not in str(noted(ended.out))


def test_a_plug_in_may_read_any_flag(write, capsys):
    """Only flags that no model can use are noted for a plug-in."""
    from tests.support.plugins import EMPTY_MODEL

    mine = write("mine.py", EMPTY_MODEL.format("Mine"))
    parse(["--plugin", str(mine), "--model", "mine", "--lambda_gp", "3", "--pool_size", "3", "--epoch", "4"], "train")
    assert noted(capsys.readouterr().out) == {"epoch"}


NETWORKS = [(kind, name) for kind in ("generator", "discriminator") for name in lookup.table(kind)]


@pytest.mark.parametrize(("kind", "name"), NETWORKS)
def test_the_flags_of_a_network_are_those_it_reads(read, kind, name):
    o = parse([*SMALL, "--crop_size", "32"], "train")
    read.clear()
    lookup.find(kind, name)(o, *([3, 3] if kind == "generator" else [3]))
    own = {flag for flag, readers in NETWORK_FLAGS.items() if name in readers.get(kind, ())}
    assert read & set(NETWORK_FLAGS) == own


def test_a_network_of_a_plug_in_may_read_any_flag(capsys, monkeypatch):
    for kind in ("generator", "discriminator"):
        monkeypatch.setitem(lookup.table(kind), "own", lambda o, input_nc, output_nc=3: None)
        monkeypatch.setitem(lookup.table(kind).origins, "own", "own.py")
    parse(["--netG", "own", "--padding", "zero", "--netD", "own", "--num_D", "3"], "train")
    assert noted(capsys.readouterr().out) == set()


def test_facts_of_a_plug_ins_objective_are_its_own(capsys, monkeypatch):
    for penalised in (True, False):
        own = Objective(real=lambda p, label: p, fake=print, generator=print, penalised=penalised, uses_label=penalised)
        monkeypatch.setitem(lookup.table("objective"), "own", own)
        parse(["--gan_mode", "own", "--lambda_gp", "3"], "train")
        assert noted(capsys.readouterr().out) == (set() if penalised else {"lambda_gp"})
        with nullcontext() if penalised else pytest.raises(OptionError, match="label_smoothing"):
            parse(["--gan_mode", "own", "--label_smoothing", "0.1"], "train")


def test_a_split_of_a_data_set_with_phases_is_noted(command, paired, unpaired):
    for model, root in (("pix2pix", paired), ("cycle_gan", unpaired)):
        ended = command("train", *TINY, "--model", model, "--netG", "unet_32", *own_networks(model),
                        "--dataroot", root, "--split", "0.5",
                        "--overwrite", "--display_id", "1", "--display_port", "9")  # fmt: skip
        assert ended.code == 0 and noted(ended.out) == {"split"}, ended.out
