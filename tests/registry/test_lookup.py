"""Finding models, data sets and every other named part: in the house, in files and folders, in installed packages."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from options.parse import parse
from registry import discovery, lookup
from tests.support.runs import ROOT, SMALL
from util.errors import OptionError

KINDS = list(lookup.HOMES)
NAMES = [(kind, e.name) for kind in KINDS for e in lookup.entries(kind)]
EMPTY_MODEL = "from models.base import BaseModel\n\n\nclass {0}(BaseModel):\n    dataset_mode = 'aligned'\n"
SMALLEST = '''"""The smallest model that trains."""
from dataclasses import dataclass
from torch import nn
from torch.nn import functional as F
from models.base import BaseModel, Phase
from options.fields import option
class Smallest(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)
    @dataclass
    class Options:
        strength: float = option(1.0, "how strong", at_least=0)
    def __init__(self, o, spec):
        super().__init__()
        self.o = o
        self.G = nn.Conv2d(spec.input_nc, spec.output_nc, 1)
    def phases(self):
        return [Phase("G", [self.G], self.loss)]
    def forward(self, batch):
        return {"real_A": batch["A"], "fake_B": self.G(batch["A"]).tanh()}
    def loss(self, batch, out):
        return {"L1": self.o.strength * F.l1_loss(out["fake_B"], batch["B"])}
'''
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


@pytest.fixture(autouse=True)
def _as_it_was(tmp_path, monkeypatch):
    """Forget what a test's plug-ins put into tables, modules and paths."""
    monkeypatch.chdir(tmp_path)
    tables = [lookup.table(kind) for kind in KINDS]
    kept = [(dict(table), dict(table.origins)) for table in tables]
    modules, paths = set(sys.modules), list(sys.path)
    discovery.installed.cache_clear()
    yield
    for table, (entries, origins) in zip(tables, kept, strict=True):
        table.clear()
        dict.update(table, entries)
        table.origins = origins
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    sys.path[:] = paths
    discovery.installed.cache_clear()


@pytest.fixture
def write(tmp_path):
    """Write a file under the test's own folder: write("a/b.py", text) -> its path."""

    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return put


def refused(kind: str, name: str) -> str:
    """Ask for what cannot be had; return the error's text, which leads to exit code 2."""
    with pytest.raises(OptionError) as caught:
        lookup.find(kind, name)
    assert caught.value.code == 2
    return str(caught.value)


def last_line(command, *argv: object) -> str:
    """Run train.py, which must end with code 2 and one line on stderr; return it."""
    ended = command("train", "--dataroot", "missing", *argv)
    assert (ended.code, len(ended.err.strip().splitlines())) == (2, 1), ended
    return ended.last


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
    assert f"'{lookup.FLAGS[kind]}'" in line
    assert f"did you mean {name}?" in line
    assert all(e.name in line.partition("choose one of")[2] for e in lookup.entries(kind))


def test_a_file_is_found_by_its_name(write):
    path = write("my_gan.py", EMPTY_MODEL.format("Anything"))
    discovery.use([path])
    assert {lookup.find("model", word).__name__ for word in spellings("my_gan")} == {"Anything"}
    assert lookup.entry("model", "my_gan").origin == str(path)
    discovery.forget()
    assert "no model is called 'my_gan'" in refused("model", "my_gan")


def test_a_plug_in_that_failed_is_tried_anew(write):
    path = write("late.py", "import not_there_yet\n" + EMPTY_MODEL.format("Late"))
    with pytest.raises(OptionError):
        discovery.use([path])
    write("not_there_yet.py", "")
    discovery.use([path])
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
    discovery.use([
        write("a.py", "from models.pix2pix import Pix2Pix\nclass A(Pix2Pix):\n    pass\n"),
        write("b.py", "import models.base as base\nclass B(base.BaseModel):\n    pass\n"),
        write("c.py", "from models.base import BaseModel as Base\nclass C(Base):\n    pass\n"),
        write("d.py", "from common_part import CommonPart\nclass D(CommonPart):\n    pass\n"),
    ])  # fmt: skip
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
    module, table, _ = lookup.HOMES[kind]
    write("plug/neighbour.py", PART.format("neighbour"))
    path = write("plug/own.py", f"from {module} import {table}\n\n\n{PART.format('own')}\n\n"
                 f"{table}['mine'] = {value}\n")  # fmt: skip
    discovery.use([path.parent if as_folder else path])
    assert [e.name for e in lookup.entries(kind)].count("mine") == 1
    assert lookup.find(kind, "mine").marker == ("neighbour" if "neighbour" in value else "own")
    assert lookup.entry(kind, "MINE").origin == str(path)
    assert [e.name for e in lookup.entries(kind)].count("mine") == 1


def test_a_generator_objective_and_policy_from_a_file_train(write, command, paired):
    """One line each in tables; the run remembers the file, so that test.py is not told again."""
    write("extra.py", """
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
""")  # fmt: skip
    argv = ["--netG", "one", "--gan_mode", "mine", "--lr_policy", "half", "--init_type", "sevens", "--name", "x"]
    trained = command("train", *SMALL, "--plugin", "extra.py", "--model", "pix2pix", "--dataroot", paired, *argv,
                      "--n_epochs", "1", "--n_epochs_decay", "0", "--max_dataset_size", "1")  # fmt: skip
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
    from cli.main import guarded

    sys.exit(guarded(train.main, sys.argv[1:]))
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
    here, there = ([json.loads(line).get("losses") for line in Path(f"checkpoints/{name}/losses.jsonl").open()]
                   for name in ("here", "there"))  # fmt: skip
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


def test_data_set_defaults_beat_the_models_and_users_beat_both(write):
    write("smallest.py", SMALLEST.replace("    averaged", "    defaults = {'ngf': 5, 'ndf': 5, 'lr': 1}\n    averaged"))
    write("plain.py", PLAIN.replace("    @dataclass", "    defaults = {'ndf': 6, 'lr': 2}\n\n    @dataclass", 1))
    argv = ["--plugin", "smallest.py", "--plugin", "plain.py", "--model", "smallest", "--dataset_mode", "plain"]
    o = parse([*argv, "--lr", "3"], "train")
    assert (o.ngf, o.ndf, o.lr) == (5, 6, 3.0)
    assert o.plugin == tuple(str(Path(name).resolve()) for name in ("smallest.py", "plain.py"))


@pytest.fixture
def package(write, monkeypatch):
    """An installed package with entry points: a model that trains, one that raises, a generator."""
    site = write("site/extra_gans/__init__.py", "").parent.parent
    write("site/extra_gans/smallest.py", SMALLEST)
    write("site/extra_gans/raising.py", EMPTY_MODEL.format("Raising") + "raise RuntimeError('no luck')\n")
    write("site/extra_gans/nets.py", "from networks import GENERATORS\nGENERATORS['wide'] = 'extra_gans.nets:wide'\n"
          "def wide(o, input_nc, output_nc):\n    return 'wide'\n")  # fmt: skip
    write("site/extra_gans-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: extra-gans\nVersion: 1.0\n")
    write("site/extra_gans-1.0.dist-info/entry_points.txt", "[ganvas.plugins]\nsmall = extra_gans.smallest\nraising = "
          "extra_gans.raising:Raising\nnets = extra_gans.nets\n[console_scripts]\nother = extra_gans:x\n")  # fmt: skip
    monkeypatch.syspath_prepend(str(site))
    return site


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
    trained = command("train", *argv, "--model", "small", "--n_epochs", "1", "--n_epochs_decay", "0", "--displays",
                      "console", "--max_dataset_size", "2", "--load_size", "16", "--crop_size", "16")  # fmt: skip
    assert trained.code == 0, trained.err
    assert "\n3 images" in command("test", *argv).out
    monkeypatch.setenv("PYTHONPATH", str(package))  # and in a process of its own it is seen as well
    listed = interpreter("train", "--list")
    assert "entry point small of extra-gans" in listed.out
