"""The installed package: one name, beside a user's own modules of the names of ours; public tests run in both."""

import os
import subprocess
import sys

import pytest

from scripts.package_build import rewritten
from tests.support.packages import unpacked_wheel
from tests.support.runs import ROOT

SMALL = ("--gpu_ids -1 --ngf 4 --ndf 4 --load_size 36 --crop_size 32 --num_threads 0 --displays console --netG unet_32"
         " --dataroot demo --max_dataset_size 2 --n_epochs 1 --n_epochs_decay 0")  # fmt: skip
OLD = '''"""old: imports as in a clone, and beside them the user's own modules of the same names."""
from dataclasses import dataclass
import models.base
import networks.norm as norm
import options
from beside import double
from models.base import BaseModel, Phase
from networks import GENERATORS, GANLoss, generator
from options.fields import option
from torch.nn import functional as F
from util.pool import ImagePool
GENERATORS["mine"] = "networks.architectures.unet:unet_32"
class Old(BaseModel):
    dataset_mode = "aligned"
    defaults = {"netG": "mine"}
    averaged = ("G",)
    @dataclass
    class Options:
        lambda_pixel: float = option(50.0, "weight", at_least=0)
    def __init__(self, o, spec):
        super().__init__()
        assert options.fields.option is option and models.base.Phase is Phase and norm.__name__.endswith(".norm")
        self.o, self.pool = o, ImagePool(2)
        self.G = generator(o, spec.input_nc, spec.output_nc)
    def phases(self):
        return [Phase("G", [self.G], self.loss)]
    def forward(self, batch):
        out = {"real_A": batch["A"], "fake_B": self.G(batch["A"])}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})
    def loss(self, batch, out):
        return {"L1": double(self.o.lambda_pixel) * F.l1_loss(out["fake_B"], out["real_B"])}
'''
NEW = OLD.replace("old:", "new:").replace("Old", "New").replace('GENERATORS["mine"]', 'GENERATORS["mine2"]')
NEW = NEW.replace('"netG": "mine"', '"netG": "mine2"').replace("from models.base", "from ganvas")
NEW = NEW.replace(
    "from networks import GENERATORS, GANLoss, generator",
    "from networks import GENERATORS\nfrom ganvas import generator",
)
THEIRS = {  # a user's own modules, of the names of our rooms
    "models.py": "MINE = 'models'", "util/__init__.py": "MINE = 'util'", "data/__init__.py": "MINE = 'data'",
    "options.py": "MINE = 'options'", "networks.py": "MINE = 'networks'", "train.py": "MINE = 'train'",
    "test.py": "MINE = 'test'",
}  # fmt: skip
BESIDE = {
    "clone": "",
    "wheel": "from util import MINE\nfrom networks import MINE as NET\nassert (MINE, NET) == ('util', 'networks')\n",
}
BESIDE_PLUGIN = "from util.errors import UserError\ndef double(x):\n    return 2 * x\n"
SCRIPT = """
import sys
import numpy as np
import ganvas
g = ganvas.load("checkpoints/old", device="cpu")
image = np.full((32, 32, 3), 9, np.uint8)
assert g(image).shape == (32, 32, 3)
run = ganvas.train(model="new", plugin="new.py", name="new", **FLAGS)
assert run.load(device="cpu")(image).dtype == np.uint8
assert sorted(run.losses) == sorted(["epoch", "step", "samples", "at", "L1"])
"""
IMPORTS = """
import data, models, networks, options, test, train, util
for module in (data, models, networks, options, test, train, util):
    assert module.MINE == module.__name__, module
top = {name.partition(".")[0] for name in sys.modules}
assert not top & {"cli", "registry", "serialization", "metrics", "inference", "pages", "displays", "training"}
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """A folder that holds what the wheel installs."""
    return unpacked_wheel(tmp_path_factory.mktemp("source"))


@pytest.fixture(params=["clone", "wheel"])
def installed(request, tmp_path):
    """installed(*words): run Python with these words in an empty folder, where ganvas is the clone or the wheel.

    With --installed the wheel is the one that this Python has (make release-check).
    """
    python, kind = request.config.getoption("--installed"), request.param
    if python and kind == "clone":
        pytest.skip("--installed asks for the package alone")
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # each module is compiled once
    env["PYTHONPATH"] = "" if python else str(ROOT if kind == "clone" else request.getfixturevalue("wheel"))

    def run(*words):
        command = [python or sys.executable, *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.kind = kind
    return run


COMMANDS = """
import sys
from ganvas.__main__ import main
for words in WORDS:
    try:
        code = main(words.split())
    except SystemExit as end:
        code = end.code
    assert code == 0, (words, code)
"""


@pytest.mark.public
def test_plug_ins_train_resume_and_test(installed, tmp_path):
    """In the wheel beside a user's own modules of the names of ours, which stay the user's, also for the plug-in."""
    if installed.kind == "wheel":
        for name, source in THEIRS.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(source)
    for name, source in {"old": OLD, "new": NEW, "beside": BESIDE[installed.kind] + BESIDE_PLUGIN}.items():
        (tmp_path / f"{name}.py").write_text(source)
    train = f"train --model old --plugin old.py --name old {SMALL}"
    words = [train, "train --name old --continue_train --n_epochs 2", "test --name old"]
    said = installed("-c", f"WORDS = {words}{COMMANDS}")
    assert {"clone": "python test.py --name old", "wheel": "ganvas test --name old"}[installed.kind] in said
    assert "util.pool.ImagePool" in said and "16 images" in said
    if installed.kind == "wheel":
        given = SMALL.replace("--", "").split()
        (tmp_path / "script.py").write_text(f"FLAGS = {dict(zip(given[::2], given[1::2]))}\n{SCRIPT}{IMPORTS}")
        installed("script.py")


@pytest.mark.public
def test_the_commands_are_listed_and_answer(installed):
    assert "pix2pix " in installed("-m", "ganvas", "list")
    words = ["--help", "compare --help", "check-data --help", "download --help", "evaluate --help"]
    said = installed("-c", f"WORDS = {words}{COMMANDS}")
    assert said.count("usage: ") == len(words)


def test_the_wheel_claims_one_name(wheel):
    assert {path.name for path in wheel.iterdir()} - {"ganvas"} == {next(wheel.glob("ganvas-*")).name}
    (about,) = wheel.glob("ganvas-*/METADATA")
    assert "Requires-Dist: torch>=" in about.read_text() and 'extra == "extras"' in about.read_text()
    assert "ganvas = ganvas.__main__:main" in next(wheel.glob("ganvas-*/entry_points.txt")).read_text()
    assert (wheel / "ganvas" / "py.typed").is_file()


def test_imports_and_messages_are_rewritten():
    source = (
        'from models.base import Phase\nimport train as t\nimport models_of_others\nSEE = "python train.py --name x"\n'
    )
    made = rewritten(source, "pages/a.py").splitlines()
    assert made[0] == "from ganvas._rooms.models.base import Phase" and made[1] == "import ganvas._rooms.train as t"
    assert made[2] == "import models_of_others" and made[3] == 'SEE = "ganvas train --name x"'
    assert rewritten('X = "python scripts/check_data.py"', "a.py") == 'X = "ganvas check-data"'
    with pytest.raises(ValueError, match=r"import util\.errors as"):
        rewritten("import util.errors", "a.py")
