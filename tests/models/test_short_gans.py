"""A short GAN for each part of the contract: killed and continued it is bit-equal, every flag works, test.py too."""

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.images import picture
from tests.support.resuming import STOPPER, differences, newest, state_of
from tests.support.runs import ROOT
from tests.support.training_runs import run_in

GANS = ROOT / "tests" / "support" / "short_gans"
NAMES = sorted(path.stem for path in GANS.glob("[a-z]*.py"))
DATA = {"n_critic": "demo/testA", "r3": "demo/testA", "hd_maps": "maps", "clips": "clips", "attributes": "faces.json"}
OWN = {
    "clips": ["--max_dataset_size", 12],
    "frozen_features": ["--classifier_file", "classifier.pt"],
    "own_parts": ["--recipe", "own_quick"],
}
# {model: flags of test.py, and what it prints}
TESTS = {
    "bicycle": [(["--num_test", 2, "--num_results", 2], "L1 between results")],
    "n_critic": [(["--num_samples", 5], "5 images and 2 sheets ->")],
    "r3": [(["--num_samples", 5], "5 images and 2 sheets ->")],
    "attributes": [(["--generate", "--num_samples", 5], "5 images and 2 sheets ->"), (["--translate"], "4 images ->")],
}
# {model: what its state shows after two epochs of four steps}
SHOWN = {
    "adamw_average": lambda s: any(not torch.equal(s["model"][key], value) for key, value in s["ema"].items()),
    "two_rates": lambda s: [rates(s, name) for name in "DG"] == [[4e-4 * 2 / 3], [1e-5, 2e-4]],
    "frozen_features": lambda s: {key.partition(".")[0] for key in s["model"]} == {"G", "D"},
    "n_critic": lambda s: [steps(s, name) for name in "DG"] == [8, 1],  # of steps 0, 3, 6 one is in the second epoch
    "adaptive": lambda s: s["model"]["share"] != 0.5 and not s["model"]["sure"].any(),
    "own_parts": lambda s: s["options"]["netG"] == "unet_32" and s["options"]["lambda_gp"] == 0.01,
}
FLAGS = ["--gpu_ids", "-1", "--ngf", 4, "--ndf", 4, "--num_threads", 0, "--load_size", 36, "--crop_size", 32,
         "--n_epochs_decay", 0, "--max_dataset_size", 4, "--print_freq", 1, "--name", "run"]  # fmt: skip
STEPS = "--batch_size", 1, "--save_latest_freq", 1, "--n_epochs", 2, "--displays", "console,html,stopper"


def rates(state, name):
    return [group["lr"] for group in state["optimizers"][name]["param_groups"]]


def steps(state, name):
    return state["optimizers"][name]["state"][0]["step"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the data that some of the models need, and with weights for `frozen_features`."""
    folder = tmp_path_factory.mktemp("data")
    for phase, start in (("train", 0), ("test", 50)):
        for kind in ("img", "label", "inst"):
            (folder / "maps" / f"{phase}_{kind}").mkdir(parents=True)
        (folder / "clips" / phase).mkdir(parents=True)
        for number in range(4):
            image = picture(start + number, 40, 40)
            image.save(folder / "maps" / f"{phase}_img" / f"{number}.png")
            ids = np.asarray(image.convert("L")) // 86  # 0, 1, 2
            Image.fromarray(ids).save(folder / "maps" / f"{phase}_label" / f"{number}.png")
            Image.fromarray(ids.astype(np.uint16) * 300).save(folder / "maps" / f"{phase}_inst" / f"{number}.png")
            for frame in range(2 + number % 3):
                picture(start + 10 * number + frame).save(folder / "clips" / phase / f"clip{number}_{frame}.png")
    table = [{"a": f"maps/{phase}_img/{n}.png", "split": phase, "attr_hat": n % 2, "attr_smile": n // 2, "age": 30 + n}
             for phase in ("train", "test") for n in range(4)]  # fmt: skip
    (folder / "faces.json").write_text(json.dumps(table))
    (folder / "stopper.py").write_text(STOPPER)
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 8, 3), torch.nn.Linear(8, 10)
    weights = {f"{at}.{key}": v for at, net in zip((0, 1, 4, 8), layers, strict=True)
               for key, v in net.state_dict().items()}  # fmt: skip
    torch.save(weights, folder / "classifier.pt")
    return folder


@pytest.fixture
def argv(files, tmp_path):
    """argv(name): the flags that train a GAN; the files that they name lie in this test's folder."""
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return lambda name: ["--plugin", GANS / f"{name}.py", "--plugin", "stopper.py", "--model", name,
                         "--dataroot", DATA.get(name, "demo"), *FLAGS, *OWN.get(name, [])]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_continues_bit_equal_and_is_tested(process, command, argv, tmp_path, name):
    """kill -9 after the sixth of eight steps, whose state is not saved yet, then --continue_train and test.py."""
    (tmp_path / "unbroken").mkdir()
    for path in tmp_path.iterdir():
        (tmp_path / "unbroken" / path.name).symlink_to(path)
    ended = run_in(tmp_path / "unbroken", "train", *argv(name), *STEPS)
    assert ended.code == 0, ended.err
    killed = process("train", *argv(name), *STEPS, STOP_AFTER_STEP="6", STOP_BY="SIGKILL")
    assert killed.code == -signal.SIGKILL, killed.err
    run = tmp_path / "checkpoints" / "run"
    assert newest(run).stem == "state_000000005"
    ended = command("train", "--name", "run", "--continue_train")
    assert ended.code == 0, ended.err
    assert differences(tmp_path / "unbroken" / "checkpoints" / "run", run) == []
    assert SHOWN.get(name, bool)(state_of(run))
    for flags, told in TESTS.get(name, [(["--num_test", 4], "4 images ->")]):
        ended = command("test", "--name", "run", *flags)
        assert ended.code == 0 and told in ended.out, (ended.out, ended.err)


@pytest.mark.parametrize("name", NAMES)
def test_every_flag_of_speed_and_memory_works(command, argv, name):
    ended = command("train", *argv(name), "--n_epochs", 2, "--batch_size", 2, "--accumulate", 2, "--amp", "bf16",
                    "--grad_checkpoint")  # fmt: skip
    assert ended.code == 0, ended.err
    notes = [line for line in ended.out.splitlines() if line.startswith("note:")]
    assert [note for note in notes if "--input_nc is 1" not in note] == [], notes  # label maps have one channel
