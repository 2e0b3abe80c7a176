"""--recipe: a named set of options, which beats defaults, is beaten by other flags, and is remembered by the run."""

import json
import re

import pytest

from options.parse import parse
from options.recipe import RECIPES, recommended
from registry import discovery
from registry.lookup import entries
from tests.support.plugins import SMALLEST
from tests.support.runs import ROOT, SMALL
from util.errors import OptionError, UserError


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    discovery.clear()
    yield
    discovery.clear()


@pytest.fixture
def brought(tmp_path):
    """A plug-in smallest.py with the recipe quick beside it."""
    (tmp_path / "mine/recipes").mkdir(parents=True)
    (tmp_path / "mine/smallest.py").write_text(SMALLEST)
    text = "# one short epoch\nmodel: smallest\nstrength: 2\nn_epochs: 1\nn_epochs_decay: 0\nno_flip: true\n"
    (tmp_path / "mine/recipes/quick.yaml").write_text(text)
    return tmp_path / "mine"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_accepted_as_it_is(name, capsys):
    o = parse(["--recipe", name], "train")
    assert o.recipe == name and "has no effect" not in capsys.readouterr().out
    assert (RECIPES[name]).read_text().startswith("# ")  # what --list says of it


SCRIPTS = {  # the flags in train_pix2pix.sh and train_cyclegan.sh of the reference, without --name
    "facades_pix2pix": "--dataroot ./datasets/facades --model pix2pix --netG unet_256 --direction BtoA --lambda_L1 100"
    " --dataset_mode aligned --norm batch --pool_size 0",
    "maps_cyclegan": "--dataroot ./datasets/maps --model cycle_gan --pool_size 50 --no_dropout",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_recipe_of_the_reference_is_its_script(name):
    by_recipe, by_script = (vars(parse(argv, "train")) for argv in (["--recipe", name], SCRIPTS[name].split()))
    assert by_recipe | {"recipe": ""} == by_script


@pytest.mark.parametrize("model", [e.name for e in entries("model") if e.name != "test"])
def test_the_recipe_reference_changes_nothing(model):
    by_recipe, by_default = (
        vars(parse([*recipe, "--model", model], "train")) for recipe in (["--recipe", "reference"], [])
    )
    assert by_recipe | {"recipe": ""} == by_default


def test_a_measured_recipe_is_named_where_it_was_measured(brought):
    file = brought / "recipes/quick.yaml"
    flags = ["--plugin", str(brought / "smallest.py"), "--model", "smallest"]
    assert recommended(parse(flags, "train"), "cpu") == []
    file.write_text(file.read_text().replace("\n", "\n# measured: cpu, 8 minutes, dots 64x64\n", 1))
    (note,) = recommended(parse(flags, "train"), "cpu")
    assert note == "note: measured on this kind of device, cpu: --recipe quick (8 minutes, dots 64x64); docs/recipes.md"
    assert recommended(parse(flags, "train"), "cuda") == []
    assert recommended(parse([*flags, "--recipe", "quick"], "train"), "cpu") == []
    assert recommended(parse(["--model", "pix2pix"], "train"), "cpu") == []


def test_a_recipe_beats_defaults_and_is_beaten_by_what_is_given(tmp_path):
    (tmp_path / "config.yaml").write_text("ndf: 5\n")
    o = parse(["--recipe", "CycleGAN-small", "--config", "config.yaml", "--ngf", "3"], "train")
    assert (o.recipe, o.netG, o.ngf, o.ndf, o.crop_size) == ("cyclegan_small", "resnet_4blocks", 3, 5, 64)
    assert o.no_dropout  # the model's default
    assert {"netG", "ngf", "ndf"} <= o.given
    assert parse(["--recipe", "facades_pix2pix", "--norm", "instance"], "train").norm == "instance"


def test_a_file_is_a_recipe_and_its_values_are_written_as_flags(tmp_path):
    (tmp_path / "my.yaml").write_text("model: pix2pix\nlr: 1e-3\nno_flip: yes\namp: off\ndisplays: [console, html]\n")
    o = parse(["--recipe", "my.yaml"], "train")
    assert (o.model, o.lr, o.no_flip, o.amp, o.displays) == ("pix2pix", 1e-3, True, "off", ("console", "html"))
    assert o.recipe == str(tmp_path / "my.yaml")


WRONG = {
    "lr: 1\nlambda_L2: 3": "my.yaml, line 2 '--lambda_L2': unknown: --lambda_L2 is not a flag of cycle_gan",
    "\nlr: fast": "my.yaml, line 2 '--lr': 'fast' is not a number",
    "num_test: 3": "line 1 '--num_test': unknown: --num_test is not a flag of cycle_gan; it belongs to test.py",
    "model: pix2pixx": "my.yaml, line 1 '--model': there is no model 'pix2pixx'; did you mean pix2pix?",
    "lr: 1\nlr: 2": "my.yaml, line 2 '--lr': is already in my.yaml, line 1",
    "lr: {a: 1}": "my.yaml, line 1 '--lr': is a table",
    "continue_train: true": "line 1 '--continue_train': is for one command",
    "name: x": "line 1 '--name': is for one command, or says where a run is",
    "- lr": "my.yaml is not a table of options",
    "lr: [1": "'--recipe': my.yaml: ",
}


@pytest.mark.parametrize("text", WRONG, ids=repr)
def test_an_error_in_a_recipe_names_file_and_line(tmp_path, text):
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        parse(["--recipe", "my.yaml"], "train")
    assert WRONG[text] in str(caught.value) and caught.value.code == 2


def test_a_wrong_name_or_a_missing_file_is_answered():
    with pytest.raises(OptionError, match=r"no recipe 'cyclegan_smal'; did you mean cyclegan_small\?"):
        parse(["--recipe", "cyclegan_smal"], "train")
    with pytest.raises(OptionError, match=r"no\.yaml: No such file or directory; give a name from --list"):
        parse(["--recipe", "no.yaml"], "train")


def test_a_run_remembers_its_recipe_and_resumes_without_it(command, brought):
    few = [*SMALL, "--max_dataset_size", 4, "--displays", "console", "--name", "run"]
    ended = command("train", *few, "--plugin", brought / "smallest.py", "--recipe", "quick", "--strength", 3)
    assert ended.code == 0, ended.err
    for path in (brought / "recipes").iterdir():
        path.unlink()  # the run needs it no more
    for flags in ([], ["--recipe", "Quick"]):
        assert command("train", "--name", "run", "--continue_train", "--n_epochs", 2, *flags).code == 0
    saved = json.load(open("checkpoints/run/options.json"))["options"]
    assert [saved[n] for n in ("recipe", "strength", "n_epochs", "no_flip")] == ["quick", 3.0, 2, True]
    assert command("test", "--name", "run", "--num_test", 1, "--gpu_ids", -1).code == 0
    for script, flags in (("train", ["--continue_train"]), ("test", [])):
        ended = command(script, "--name", "run", "--recipe", "cyclegan_small", *flags)
        assert ended.code == 2 and "cyclegan_small: the run was started with quick; omit it" in ended.last


def test_lists_and_help_show_recipes(command, brought):
    out = command("train", "--plugin", brought / "smallest.py", "--list").out
    assert f"  quick                    {brought / 'recipes/quick.yaml'}: one short epoch" in out
    assert "  cyclegan_small           built in: a CycleGAN that trains" in out
    out = command("train", "--plugin", brought, "--recipe", "quick", "--help").out
    assert "how strong [2.0]" in out and "the learning rate is constant in them [1]" in " ".join(out.split())


def test_a_plug_in_adds_a_recipe_with_one_line(brought):
    file = brought / "lines.py"
    file.write_text('from options.recipe import RECIPES\n\nRECIPES["two"] = {"model": "smallest", "ngf": 2}\n')
    plugins = ["--plugin", str(brought / "smallest.py"), "--plugin", str(file)]
    try:
        o = parse([*plugins, "--recipe", "two"], "train")
        assert (o.model, o.ngf) == ("smallest", 2)
        dict.__getitem__(RECIPES, "two")["ngff"] = 1
        with pytest.raises(OptionError, match=r"option in .*lines\.py '--ngff': unknown"):
            parse([*plugins, "--recipe", "two"], "train")
    finally:
        del RECIPES["two"], RECIPES.origins["two"]


def test_the_recipe_of_the_page_for_plug_ins_works(tmp_path):
    page = (ROOT / "docs/plugins_more/recipes.md").read_text()
    (shown,) = re.findall(r"^```yaml file=recipes/mine_quick\.yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mine_quick.yaml").write_text(shown)
    (tmp_path / "mine.py").write_text(SMALLEST.replace("Smallest", "Mine"))
    o = parse(["--plugin", "mine.py", "--recipe", "mine_quick"], "train")
    assert (o.model, o.ngf, o.crop_size, o.n_epochs, o.n_epochs_decay) == ("mine", 8, 64, 2, 0)


def test_a_recipe_for_another_model_is_named_and_not_its_file():
    with pytest.raises(OptionError) as caught:
        parse(["--recipe", "few_images", "--model", "cut"], "train")
    assert "'--recipe few_images': is for --model gan; cut has no --" in str(caught.value)
    assert str(caught.value).endswith("omit --model, or choose another recipe of --list")
