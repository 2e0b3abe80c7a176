"""In the installed package a plug-in's imports of our names are ours, all others the user's."""

import ast
import sys

import pytest

from registry import own_names


@pytest.fixture
def packaged(monkeypatch, tmp_path):
    """As in the installed package; the current folder is the user's, with modules of the names of ours."""
    monkeypatch.setattr(own_names, "PREFIX", "ganvas._rooms.")
    for name in ("networks", "options", "util"):
        (tmp_path / f"{name}.py").write_text("MINE = 1")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])


CASES = {
    "from models.base import BaseModel": "from ganvas._rooms.models.base import BaseModel",
    "from networks import norm, MINE as M": "from ganvas._rooms.networks import norm\nfrom networks import MINE as M",
    "from networks import *": "from ganvas._rooms.networks import *",
    "from options import MINE": "from options import MINE",
    "from options import fields": "from ganvas._rooms.options import fields",
    "from util.pool import ImagePool": "from ganvas._rooms.util.pool import ImagePool",
    "from util import pool": "from ganvas._rooms.util import pool",
    "from util.mine import thing": "from util.mine import thing",
    "from data.mine import thing": "from ganvas._rooms.data.mine import thing",
    "from models.base import BaseModell": "from ganvas._rooms.models.base import BaseModell",
    "from . import models": "from . import models",
    "from torch import nn": "from torch import nn",
    "from ganvas import Phase": "from ganvas import Phase",
    "import models.base as b, os": "import ganvas._rooms.models.base as b\nimport os",
    "import data.base": "import ganvas._rooms.data.base as _ganvas_data_base\nfrom ganvas._rooms import data",
    "import util.mine": "import util.mine",
}


@pytest.mark.parametrize("line", CASES)
def test_an_import_is_ours_or_the_users(packaged, line):
    assert ast.unparse(own_names._OwnNames().visit(ast.parse(line))) == CASES[line]


def test_in_a_clone_names_mean_what_they_say(tmp_path):
    assert own_names.own_module("models.base") == "models.base"
    (tmp_path / "plain.py").write_text("import models.base as base\n")
    module = own_names.load_plugin("plain_plugin", tmp_path / "plain.py")
    assert module.base is sys.modules["models.base"]
    assert not any(type(finder).__module__ == own_names.__name__ for finder in sys.meta_path)


def test_only_our_modules_get_the_packages_name(packaged):
    assert own_names.own_module("networks.norm") == "ganvas._rooms.networks.norm"
    assert own_names.own_module("mine.net") == "mine.net"
