"""A model gets the fields that its data set added to Spec in training, when resumed, and in every kind of test."""

import json

import pytest

from tests.support.plugins import SMALLEST
from tests.support.runs import SMALL

DATA = '''"""facts: images, and how many there are."""
from dataclasses import dataclass
from data.base import BaseDataset, Spec
@dataclass(frozen=True)
class FactSpec(Spec):
    number: object = ()
class Facts(BaseDataset):
    def __init__(self, o):
        super().__init__(o)
        self.paths = self.files()
    def spec(self):
        return FactSpec(**vars(super().spec()), number=NUMBER)
    def __len__(self):
        return len(self.paths)
    def __getitem__(self, index):
        sample = self.input_sample(self.paths[index])
        return sample | {"B": sample["A"]}
'''
SHEETS = """    def sheets(self, request):
        return {"grid": (self.grid.tanh().expand(request.number, -1, -1, -1), torch.zeros(request.number))}
"""
MODEL = SMALLEST.replace("from torch import nn", "import torch\nfrom torch import nn").replace('"aligned"', '"facts"')
GRID = "spec.output_nc, 1)\n        self.register_buffer('grid', torch.ones(3, 4, spec.number[0]))"
MODEL = MODEL.replace("spec.output_nc, 1)", GRID)
RUN = [*SMALL, "--name", "run", "--no_html", "--fixed_samples", "0", "--n_epochs_decay", "0", "--model", "smallest"]


@pytest.fixture
def plugins(tmp_path):
    """A folder of plug-ins, of which a command imports only what it needs."""

    def write(number="(len(self.paths), 'of them')", sheets=""):
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "own" / "smallest.py").write_text(MODEL + sheets)
        (tmp_path / "own" / "facts.py").write_text(DATA.replace("NUMBER", number))
        return ["--plugin", "own", "--dataroot", "unpaired/trainA"]

    return write


@pytest.mark.parametrize("sheets", ["", SHEETS], ids=["of images", "from noise"])
def test_fields_survive_resume_and_test(command, plugins, unpaired, sheets, tmp_path):
    begun = command("train", *plugins(sheets=sheets), *RUN, "--n_epochs", "1")
    assert begun.code == 0, begun.err
    stored = json.loads((tmp_path / "checkpoints" / "run" / "options.json").read_text())
    assert stored["own_spec"]["fields"]["number"] == {"tuple": [5, "of them"]}
    continued = command("train", "--name", "run", "--continue_train", "--n_epochs", "2")
    assert continued.code == 0 and "spec.number" not in continued.out, continued.err
    said = "spec.number is (5, 'of them'), as in the run; the images here give (3, 'of them')"
    other = {} if sheets else {"--dataroot=unpaired/testA": said, "--dataset_mode=single": ""}
    for flag, note in {"": "", **other}.items():
        ended = command("test", "--name", "run", "--gpu_ids", "-1", *filter(None, [flag]))
        assert ended.code == 0, (flag, ended.err)
        assert note in ended.out and ("spec.number" in ended.out) == bool(note)


def test_what_json_cannot_hold_ends_before_a_folder_is_made(command, plugins, unpaired, tmp_path):
    ended = command("train", *plugins("{1, 2}"), *RUN)
    assert ended.code == 2
    assert ended.last.startswith(
        "error: plug-in 'facts': its field FactSpec.number is a set, which JSON cannot hold; give"
    )
    assert not (tmp_path / "checkpoints").exists()


def test_a_damaged_table_is_named(command, plugins, unpaired, tmp_path):
    assert command("train", *plugins(), *RUN, "--n_epochs", "1").code == 0
    file = tmp_path / "checkpoints" / "run" / "options.json"
    tables = json.loads(file.read_text())
    del tables["own_spec"]["class"]
    file.write_text(json.dumps(tables))
    ended = command("test", "--name", "run", "--gpu_ids", "-1")
    assert ended.code == 4 and "its 'own_spec' is damaged ('class'); restore the file" in ended.last
