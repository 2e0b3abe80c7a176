"""Defaults that go with a value of another flag: which wins, what is refused, what a run stores."""

import re

import pytest

from options.parse import parse
from util.errors import OptionError

PLUGIN = '''"""A model with two modes."""
from dataclasses import dataclass

from models.base import BaseModel
from options.fields import option


class Modes(BaseModel):
    dataset_mode = "unaligned"
    defaults = {"n_epochs": 30, "lr": 0.01}
    defaults_for = {"mode": {"fast": {"n_epochs": 5, "weight": 10.0, "late": True}}, "netG": {"unet_32": {"ngf": 3}}}

    @dataclass
    class Options:
        mode: str = option("full", "defaults", choices=("full", "fast"))
        weight: float = option(50.0, "a weight", at_least=0)
        late: bool = option(False, "a switch", valued=True)
'''

SUBCLASS = '''"""FastCUT with another weight."""
from models.cut import CUT


class Quick(CUT):
    defaults = {"CUT_mode": "FastCUT"}
    defaults_for = {"CUT_mode": {"FastCUT": {"lambda_NCE": 7.0}}}
'''


@pytest.fixture(autouse=True)
def _plugin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modes.py").write_text(PLUGIN)


def chosen(*argv):
    o = parse(["--plugin", "modes.py", "--model", "modes", *argv], "train")
    return o.n_epochs, o.weight, o.late, o.ngf, o.lr


@pytest.mark.parametrize(("argv", "expected"), [
    ("", (30, 50.0, False, 64, 0.01)),
    ("--mode fast", (5, 10.0, True, 64, 0.01)),
    ("--n_epochs 7 --mode fast --late False", (7, 10.0, False, 64, 0.01)),
    ("--mode fast --weight 2 --no_late", (5, 2.0, False, 64, 0.01)),
    ("--netG unet_32 --late yes", (30, 50.0, True, 3, 0.01)),
    ("--netG unet_32 --mode fast", (5, 10.0, True, 3, 0.01)),
])  # fmt: skip
def test_given_flags_beat_the_defaults_of_a_mode(argv, expected):
    assert chosen(*argv.split()) == expected


def test_a_mode_in_a_config_file_counts_too(tmp_path):
    (tmp_path / "c.yaml").write_text("mode: fast\nweight: 3\n")
    assert chosen("--config", "c.yaml") == (5, 3.0, True, 64, 0.01)


def test_a_mode_in_a_recipe_or_in_defaults_counts_too(tmp_path):
    """A recipe beats the defaults that go with its own mode."""
    (tmp_path / "r.yaml").write_text("mode: fast\nweight: 3\n")
    assert chosen("--recipe", "r.yaml") == (5, 3.0, True, 64, 0.01)
    (tmp_path / "r.yaml").write_text("weight: 3\n")
    assert chosen("--recipe", "r.yaml", "--mode", "fast") == (5, 3.0, True, 64, 0.01)
    (tmp_path / "modes.py").write_text(PLUGIN.replace('"lr": 0.01', '"lr": 0.01, "mode": "fast"'))
    assert chosen() == (5, 10.0, True, 64, 0.01)
    assert chosen("--mode", "full") == (30, 50.0, False, 64, 0.01)


def test_help_shows_the_defaults_of_a_recipes_mode(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("mode: fast\nn_epochs: 3\n")
    with pytest.raises(SystemExit):
        chosen("--recipe", "r.yaml", "--help")
    shown = capsys.readouterr().out
    assert re.search(r"--weight X .*\[10.0\]", shown) and re.search(r"--n_epochs N .*\[3\]", shown)


def test_a_subclass_may_choose_a_mode_and_add_to_it(tmp_path):
    (tmp_path / "quick.py").write_text(SUBCLASS)
    for argv, expected in (([], ("FastCUT", 7.0, False, 150)), (["--CUT_mode", "CUT"], ("CUT", 1.0, True, 200))):
        o = parse(["--plugin", "quick.py", "--model", "quick", *argv], "train")
        assert (o.CUT_mode, o.lambda_NCE, o.nce_idt, o.n_epochs) == expected


def test_a_mode_that_its_flag_does_not_have_is_refused(tmp_path):
    (tmp_path / "modes.py").write_text(PLUGIN.replace('{"mode": {"fast"', '{"mode": {"fats"'))
    with pytest.raises(OptionError, match=r"'fats'.*(full|fast)"):
        chosen()


@pytest.mark.parametrize(
    ("before", "after"), [('"weight": 10.0', '"wait": 1'), ('{"mode": {"fast"', '{"mod": {"fast"')]
)
def test_a_flag_that_does_not_exist_is_refused_by_name(before, after, tmp_path):
    (tmp_path / "modes.py").write_text(PLUGIN.replace(before, after))
    with pytest.raises(OptionError, match=r"sets a default for --(wait|mod), which is not a flag"):
        chosen()


def test_a_value_of_the_wrong_type_is_refused(tmp_path):
    (tmp_path / "modes.py").write_text(PLUGIN.replace('"weight": 10.0', '"weight": "much"'))
    with pytest.raises(OptionError, match="'much' is not a number"):
        chosen("--mode", "fast")


def test_defaults_of_a_subclass_stay_in_its_bases_modes():
    """SinCUT's epochs are its own; what it does not name follows the mode."""
    o = parse(["--model", "sincut", "--CUT_mode", "FastCUT", "--lambda_identity", "0"], "train")
    assert (o.n_epochs, o.n_epochs_decay, o.lambda_NCE) == (8, 8, 4.0)
    assert (o.nce_idt, o.flip_equivariance) == (False, True)
