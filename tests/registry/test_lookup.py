"""Models, data sets and parts are found by name here, in files, folders and installed packages."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from options.parse import parse
from registry import discovery, lookup
from tests.support.plugins import EMPTY_MODEL, KINDS, SMALLEST, last_line, refused
from tests.support.runs import ROOT, SMALL
from util.errors import OptionError

pytestmark = pytest.mark.usefixtures("tables_as_they_were")
NAMES = [(kind, e.name) for kind in KINDS for e in lookup.entries(kind)]
PLAIN = '''"""Pictures of one colour and noise."""
from dataclasses import dataclass
import torch
from data.base import BaseDataset
from options.fields import option
class Plain(BaseDataset):
    @dataclass
    class Options:
        shade: float = option(0.5, "how bright", at_least=-1, at_most=1)
    def __len__(self):
        return 6
    def __getitem__(self, index):
        A = torch.full((3, 8, 8), self.o.shade) + 0.1 * torch.randn(3, 8, 8)
        return {"A": A, "B": -A, "path_A": f"{index}.png", "path_B": f"{index}.png"}
'''


def spellings(name: str) -> set[str]:
    camel = "".join(part.capitalize() for part in name.split("_"))
    return {name, name.replace("_", ""), name.replace("_", "-"), name.upper(), camel}


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_every_spelling_of_a_name_finds_the_same_thing(kind, name):
    found = {id(lookup.find(kind, word)) for word in spellings(name)}
    assert len(found) == 1
    assert lookup.entry(kind, name.replace("_", "-")).name == name


@pytest.mark.parametrize("word", ["cycle_gan", "cyclegan", "CycleGAN", "cycle-gan"])
def test_the_command_line_takes_every_spelling_and_keeps_one(word):
    assert parse(["--model", word], "train").model == "cycle_gan"


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_misspelt_name_is_answered_with_the_nearest_ones(kind, name):
    line = refused(kind, name + name[-1])
    assert f"'{lookup.PART_FLAGS[kind]}'" in line
    assert f"did you mean {name}?" in line
    assert all(e.name in line.partition("choose one of")[2] for e in lookup.entries(kind))


def test_a_file_is_found_by_its_name(write):
    path = write("my_gan.py", EMPTY_MODEL.format("Anything"))
    discovery.add_paths([path])
    assert {lookup.find("model", word).__name__ for word in spellings("my_gan")} == {"Anything"}
    assert lookup.entry("model", "my_gan").origin == str(path)
    discovery.clear()
    assert "there is no model 'my_gan'" in refused("model", "my_gan")


def test_a_plug_in_that_failed_is_tried_anew(write):
    path = write("late.py", "import not_there_yet\n" + EMPTY_MODEL.format("Late"))
    with pytest.raises(OptionError):
        discovery.add_paths([path])
    write("not_there_yet.py", "")
    discovery.add_paths([path])
    assert lookup.find("model", "late").__name__ == "Late"


@pytest.mark.parametrize(("name", "why"), [("gone.py", "no such"), ("a.txt", "is not a .py file"), ("gone", "no such")])
def test_a_path_that_is_no_plug_in_is_named(command, write, tmp_path, name, why):
    write("a.txt", "")
    assert re.search(rf"plug-in '{tmp_path / name}': .*{why}", last_line(command, "--plugin", name))


def test_a_file_must_define_one_model(command, write):
    imports = "from models.base import BaseModel\nfrom models.pix2pix import Pix2Pix\n"
    two = EMPTY_MODEL.format("One") + "\n\nclass Two(BaseModel):\n    pass\n"
    for number, (text, has) in enumerate([("x = 1\n", "none"), (imports, "none"), (two, "One, Two")]):
        path = write(f"has_{number}.py", text)
        promised = f"plug-in '{path}': must define exactly one BaseModel subclass, has {has}"
        assert promised in last_line(command, "--plugin", path, "--model", path.stem)


def test_a_file_may_build_on_other_models_and_on_its_neighbours(write):
    write("common_part.py", EMPTY_MODEL.format("CommonPart"))
    discovery.add_paths(
        [
            write("a.py", "from models.pix2pix import Pix2Pix\nclass A(Pix2Pix):\n    pass\n"),
            write("b.py", "import models.base as base\nclass B(base.BaseModel):\n    pass\n"),
            write("c.py", "from models.base import BaseModel as Base\nclass C(Base):\n    pass\n"),
            write("d.py", "from common_part import CommonPart\nclass D(CommonPart):\n    pass\n"),
        ]
    )
    assert [lookup.find("model", name).__name__ for name in "abcd"] == list("ABCD")


PART = """class Mine:
    marker = {0!r}
    real = fake = generator = print

    def __init__(self, *args):
        pass
"""


@pytest.mark.parametrize("value", ["Mine", "'own:Mine'", "'neighbour:Mine'"])
@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("model", "dataset")])
@pytest.mark.parametrize("as_folder", [False, True])
def test_a_plug_in_extends_a_table_with_one_line(write, kind, value, as_folder):
    module, table, _ = lookup.PART_TABLES[kind]
    write("plug/neighbour.py", PART.format("neighbour"))
    path = write(
        "plug/own.py", f"from {module} import {table}\n\n\n{PART.format('own')}\n\n{table}['mine'] = {value}\n"
    )
    discovery.add_paths([path.parent if as_folder else path])
    assert [e.name for e in lookup.entries(kind)].count("mine") == 1
    assert lookup.find(kind, "mine").marker == ("neighbour" if "neighbour" in value else "own")
    assert lookup.entry(kind, "MINE").origin == str(path)
    assert [e.name for e in lookup.entries(kind)].count("mine") == 1


def test_a_generator_objective_and_policy_from_a_file_train(write, command, paired):
    """Each part is one line in a table; the run remembers the file, so test.py needs no --plugin."""
    write(
        "extra.py",
        """
from torch import nn
from networks import GENERATORS, INITIALISERS, OBJECTIVES
from networks.gan_loss import LSGAN
from training.lr_schedule import LR_POLICIES

def one(o, input_nc, output_nc):
    return nn.Sequential(nn.Conv2d(input_nc, output_nc, 1), nn.Tanh())

GENERATORS["one"] = "extra:one"
OBJECTIVES["mine"] = LSGAN
INITIALISERS["sevens"] = lambda weight, gain: nn.init.constant_(weight, 7.0)
LR_POLICIES["half"] = lambda epoch, o, history: 0.5
""",
    )
    argv = ["--netG", "one", "--gan_mode", "mine", "--lr_policy", "half", "--init_type", "sevens", "--name", "x"]
    trained = command(
        "train",
        *SMALL,
        "--plugin",
        "extra.py",
        "--model",
        "pix2pix",
        "--dataroot",
        paired,
        *argv,
        "--n_epochs",
        "1",
        "--n_epochs_decay",
        "0",
        "--max_dataset_size",
        "1",
    )
    assert trained.code == 0, trained.err
    rows = [json.loads(line) for line in Path("checkpoints/x/losses.jsonl").read_text().splitlines()]
    assert rows[-1]["lr"] == 0.5 * 0.0002
    weight = torch.load("checkpoints/x/latest_net_G.pth", weights_only=True)["0.weight"]
    assert torch.allclose(weight, torch.full((3, 3, 1, 1), 7.0), atol=1e-3)
    assert not torch.equal(weight, torch.full((3, 3, 1, 1), 7.0))  # one step of at most the learning rate
    tested = command("test", "--name", "x", "--dataroot", paired, "--gpu_ids", "-1")
    assert tested.code == 0, tested.err


SPAWNED = """import multiprocessing
import sys

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    sys.path.insert(0, sys.argv.pop(1))
    import train
    from cli.main import run_command

    sys.exit(run_command(train.main, sys.argv[1:]))
"""


def test_a_data_set_from_a_file_works_in_spawned_workers(write, command, tmp_path):
    write("smallest.py", SMALLEST)
    write("plain.py", PLAIN)
    argv = ["--plugin", "plain.py", "--plugin", "smallest.py", "--model", "smallest", "--dataset_mode", "plain",
            "--shade", "0.25", "--gpu_ids", "-1", "--displays", "console", "--print_freq", "1", "--n_epochs", "1",
            "--n_epochs_decay", "0", "--batch_size", "2"]  # fmt: skip
    ended = command("train", *argv, "--num_threads", "0", "--name", "here")
    assert ended.code == 0, ended.err
    words = [sys.executable, str(write("spawned.py", SPAWNED)), str(ROOT), *argv, "--num_threads", "2"]
    done = subprocess.run([*words, "--name", "there"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    here, there = (
        [json.loads(line).get("losses") for line in Path(f"checkpoints/{name}/losses.jsonl").open()]
        for name in ("here", "there")
    )
    assert here == there
    assert len([row for row in here if row]) == 3


def test_a_data_set_and_a_model_may_live_in_one_file(write, command):
    write("both.py", SMALLEST + PLAIN)
    out = command("train", "--plugin", "both.py", "--model", "both", "--dataset_mode", "both", "--help").out
    assert {"--strength", "--shade"} <= set(out.split())


def test_a_data_set_may_not_take_its_models_flag(command, write):
    write("smallest.py", SMALLEST)
    write("plain.py", PLAIN.replace("shade", "strength"))
    argv = ["--plugin", "smallest.py", "--plugin", "plain.py", "--model", "smallest", "--dataset_mode", "plain"]
    assert re.search("plug-in 'plain': .*--strength .*smallest", last_line(command, *argv))


@pytest.mark.parametrize(("declared", "words"), [
    ("strength: float = option(1.0, 'in other words', at_least=0)", ""),
    ("strength: float = option(2.0, 'how strong', at_least=0)", r"default 1.0 \(here 2.0\); declare it alike"),
    ("strength: int = option(1, 'how strong', at_least=0)", r"type float \(here int\), default 1.0 \(here 1\)"),
    ("strength: float = option(1.0, 'how strong', at_least=0, fixed=True)", r"fixed False \(here True\)"),
    ("strength: float = option(1.0, 'x', at_least=0, choices=('1.0',))", r"choices None \(here \('1.0',\)\)"),
])  # fmt: skip
def test_model_and_data_set_may_declare_one_flag_alike(declared, words, write, command):
    write("smallest.py", SMALLEST)
    write("plain.py", re.sub(r"shade: .*", declared, PLAIN).replace("shade", "strength"))
    argv = ["--plugin", "smallest.py", "--plugin", "plain.py", "--model", "smallest", "--dataset_mode", "plain"]
    if words:
        assert re.search("plug-in 'plain': .*--strength .*model smallest, with " + words, last_line(command, *argv))
        return
    assert command("train", *argv, "--help").out.count("--strength") == 1
    assert parse([*argv, "--strength", "3"], "train").strength == 3.0


def test_data_set_defaults_beat_the_models_and_users_beat_both(write):
    write("smallest.py", SMALLEST.replace("    averaged", "    defaults = {'ngf': 5, 'ndf': 5, 'lr': 1}\n    averaged"))
    write("plain.py", PLAIN.replace("    @dataclass", "    defaults = {'ndf': 6, 'lr': 2}\n\n    @dataclass", 1))
    argv = ["--plugin", "smallest.py", "--plugin", "plain.py", "--model", "smallest", "--dataset_mode", "plain"]
    o = parse([*argv, "--lr", "3"], "train")
    assert (o.ngf, o.ndf, o.lr) == (5, 6, 3.0)
    assert o.plugin == tuple(str(Path(name).resolve()) for name in ("smallest.py", "plain.py"))


def test_entry_points_are_listed_unimported_and_found(package):
    listed = {(e.kind, e.name): e.origin for kind in KINDS for e in lookup.entries(kind)}
    assert listed["model", "small"] == "entry point small of extra-gans"
    assert listed["model", "raising"] == "entry point raising of extra-gans"
    assert listed["generator", "wide"] == "entry point nets of extra-gans"
    assert not {name for _, name in listed} & {"other", "nets"}
    assert "extra_gans" not in sys.modules
    assert lookup.find("model", "Small").__name__ == "Smallest"
    assert lookup.find("generator", "wide")(None, 3, 3) == "wide"
    assert "plug-in 'entry point raising of extra-gans': RuntimeError: no luck" in refused("model", "raising")


def test_an_installed_model_trains_and_tests(package, command, paired, interpreter, monkeypatch):
    argv = ["--gpu_ids", "-1", "--dataroot", paired, "--name", "x"]
    trained = command(
        "train",
        *argv,
        "--model",
        "small",
        "--n_epochs",
        "1",
        "--n_epochs_decay",
        "0",
        "--displays",
        "console",
        "--max_dataset_size",
        "2",
        "--load_size",
        "16",
        "--crop_size",
        "16",
    )
    assert trained.code == 0, trained.err
    assert "\n3 images" in command("test", *argv).out
    monkeypatch.setenv("PYTHONPATH", str(package))  # and in a process of its own it is seen as well
    listed = interpreter("train", "--list")
    assert "entry point small of extra-gans" in listed.out
