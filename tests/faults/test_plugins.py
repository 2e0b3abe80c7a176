"""A broken plug-in is named with its file and line, and does not affect other models."""

import hashlib
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from registry import discovery, lookup
from tests.support.plugins import EMPTY_MODEL, KINDS, SMALLEST, last_line, refused
from tests.support.runs import SMALL
from tests.support.training_runs import history, run_in

pytestmark = pytest.mark.usefixtures("tables_as_they_were")
TINY = '''"""The smallest GAN, to be spoilt."""
import sys
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss
from options.fields import option


class Tiny(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)

    @dataclass
    class Options:
        strength: float = option(1.0, "how strong", at_least=0)

    def __init__(self, o, spec):
        super().__init__()
        self.o, self.steps = o, 0
        self.G = nn.Conv2d(3, 3, 1)
        self.D = nn.Conv2d(3, 1, 1)
        self.gan = GANLoss("lsgan")

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        self.steps += 1
        out = {"real_A": batch["A"], "fake_B": self.G(batch["A"]).tanh()}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        return {"D_real": self.gan.real(self.D(out["real_B"])), "D_fake": self.gan.fake(self.D(out["fake_B"].detach()))}

    def loss_g(self, batch, out):
        fake = out["fake_B"]
        return {"G_GAN": self.gan.generator(self.D(fake)), "L1": self.o.strength * F.l1_loss(fake, out["real_B"])}

    def show(self, out):
        return super().show(out)
'''
RUN = [*SMALL, "--model", "tiny", "--dataroot", "demo", "--max_dataset_size", 5, "--n_epochs", 1, "--n_epochs_decay",
       0, "--name", "t", "--displays", "console,html", "--print_freq", 1, "--update_html_freq", 1]  # fmt: skip
ARGUMENTS = {"__init__": "self, o, spec", "phases": "self", "forward": "self, batch", "show": "self, out"}


def spoilt(method: str, statement: str, when: str = "True") -> str:
    """Return TINY with a statement at the top of a method, to be reached `when`."""
    head = f"    def {method}({ARGUMENTS.get(method, 'self, batch, out')}):\n"
    head = '        self.gan = GANLoss("lsgan")\n' if method == "__init__" else head
    head += "        self.steps += 1\n" if method == "forward" else ""
    assert TINY.count(head) == 1
    return TINY.replace(head, head + f"        if {when}:\n            {statement}\n")


def changed(*pairs: str) -> str:
    """Return TINY with texts replaced, each found exactly once: changed(old, new, old, new)."""
    text = TINY
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def line_of(text: str, part: str) -> int:
    """Return the number of the first line that holds a part."""
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


def said(ended, code: int = 2) -> str:
    """Assert that a command ended with this code and one line; return the line."""
    assert ended.code == code, ended.err
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert re.fullmatch(r"error: [^']+ '.+?': .+; .+", ended.last), ended.last
    return ended.last


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()}


@pytest.fixture
def train(command, write):
    """train(text, flags...) trains the plug-in of this text, five steps."""

    def run(text: str, *flags: object):
        write("tiny.py", text)
        return command("train", "--plugin", "tiny.py", *RUN, *flags)

    return run


SLIPS = {
    "a name": ("x = undefined_thing", "NameError: name 'undefined_thing' is not defined"),
    "a name misspelt": ("x = BaseModle", r"NameError: name 'BaseModle' is not defined \(did you mean BaseModel\?\)"),
    "an option misspelt": ("x = self.o.strenght",
                           r"AttributeError: there is no option 'strenght' \(did you mean strength\?\)"),
    "a network misspelt": ("x = self.DD", r"AttributeError: 'Tiny' object has no attribute 'DD' \(did you mean D\?\)"),
    "a type": ("x = 'a' + 1", "TypeError: can only concatenate str"),
    "a call": ("x = self.gan.real()", r"TypeError: .*missing 1 required positional argument: 'prediction'"),
    "shapes": ("x = torch.zeros(2, 3) @ torch.zeros(4, 5)", "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
    "a layer's input": ("x = nn.Conv2d(4, 4, 1)(torch.zeros(1, 3, 8, 8))", "RuntimeError: Given groups=1, weight"),
    "a key": ("x = {'a': 1}['b']", "KeyError: there is no key 'b'"),
    "an index": ("x = [][0]", "IndexError: list index out of range"),
    "a division": ("x = 1 / 0", "ZeroDivisionError: division by zero"),
    "an assertion": ("assert False", "AssertionError"),
    "a file": ("x = open('not_there.txt')", "FileNotFoundError: .*'not_there.txt'"),
    "a missing package": ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
    "sys.exit": ("sys.exit()", r"it calls sys\.exit\(\)"),
    "an exception of its own": ("raise type('Odd', (Exception,), {})('a\\nb')", "Odd: a"),
}  # fmt: skip
STEPS = ["forward", "loss_d", "loss_g"]


@pytest.mark.fault(96)
@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize("method", ["__init__", "phases", *STEPS, "show"])
def test_a_slip_is_told_before_the_first_step(train, tmp_path, method, slip):
    """A plug-in's method has a wrong name, option, shape, ...: exit 2 before training with file, line and method."""
    statement, why = SLIPS[slip]
    text = spoilt(method, statement)
    line = said(train(text))
    place = f"{tmp_path / 'tiny.py'}, line {line_of(text, statement)}, in {method}"
    phase = {"loss_d": ", phase D", "loss_g": ", phase G"}.get(method, "")
    assert re.match(rf"error: plug-in 'tiny': {why}.* \({re.escape(place)}{phase}\); ", line), line
    assert ("pip install not_there_at_all" in line) == (slip == "a missing package")
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.fault(96)
@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize("method", STEPS)
def test_a_slip_met_in_the_third_step_is_told_likewise(train, command, tmp_path, method, slip):
    """A plug-in's mistake occurs in the third step: exit 2 with file, line and phase; the states stay, and the run
    continues after a fix.
    """
    statement, why = SLIPS[slip]
    text = spoilt(method, statement, "self.steps == 3 and self.training")
    line = said(train(text, "--save_latest_freq", 1))
    place = f"{tmp_path / 'tiny.py'}, line {line_of(text, statement)}, in {method}"
    phase = {"loss_d": ", phase D", "loss_g": ", phase G"}.get(method, "")
    assert re.match(rf"error: plug-in 'tiny': {why}.* \({re.escape(place)}{phase}\); ", line), line
    folder = tmp_path / "checkpoints" / "t"
    assert max(folder.glob("state_*.pt")).name == "state_000000002.pt"
    assert "Traceback" in (folder / "error.log").read_text()
    sys.modules.pop(discovery.module_name(tmp_path / "tiny.py"))
    (tmp_path / "tiny.py").write_text(TINY)
    again = command("train", "--name", "t", "--continue_train")
    assert again.code == 0, again.err
    assert "continuing at epoch 1, image 2 of it, step 2" in again.out


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """The checkpoints of a run of TINY in a file tiny.py; plug-ins that fail in test.py alone train like it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.py").write_text(TINY)
    ended = run_in(folder, "train", "--plugin", "tiny.py", *RUN)
    assert ended.code == 0, ended.err
    return folder / "checkpoints"


@pytest.mark.fault(96)
@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize("method", ["__init__", "phases", "forward", "show"])
def test_test_py_tells_of_a_slip(command, checkpoints, write, tmp_path, method, slip):
    """A plug-in's mistake occurs in test.py: exit 2 with file, line and method; the run is unchanged."""
    statement, why = SLIPS[slip]
    when = {"__init__": "not o.isTrain", "phases": "not self.o.isTrain"}.get(method, "not self.training")
    text = spoilt(method, statement, when)
    if method == "phases":  # which test.py asks for only where averaged says nothing
        text = text.replace('    averaged = ("G",)\n', "")
    write("tiny.py", text)
    shutil.copytree(checkpoints, tmp_path / "checkpoints")
    kept = tmp_path / "checkpoints" / "t" / "options.json"
    kept.write_text(kept.read_text().replace(str(checkpoints.parent), str(tmp_path)))  # where the plug-in lies
    before = hashes(tmp_path / "checkpoints" / "t")
    line = said(command("test", "--name", "t"))
    place = f"{tmp_path / 'tiny.py'}, line {line_of(text, statement)}, in {method}"
    assert re.match(rf"error: plug-in 'tiny': {why}.* \({re.escape(place)}\); ", line), line
    after = hashes(tmp_path / "checkpoints" / "t")
    assert {name: after.get(name) for name in before} == before


@pytest.mark.fault(96)
def test_debug_shows_the_traceback(train):
    """A plug-in fails with --debug: the traceback is printed before the error line."""
    ended = train(spoilt("loss_g", "x = undefined_thing"), "--debug")
    assert ended.code == 2
    assert "Traceback" in ended.err
    assert "in phase G of " in ended.err
    assert ended.last.startswith("error: plug-in 'tiny': NameError")


HELPER = """import torch
from torch import nn


def norm(x):
    return x / x.undefined_size()


class Part(nn.Conv2d):
    def forward(self, x):
        return super().forward(norm(x))
"""


@pytest.mark.fault(96)
@pytest.mark.parametrize("use", ["helper.norm(batch['A'])", "helper.Part(3, 3, 1)(batch['A'])"])
@pytest.mark.parametrize("given", ["mine/tiny.py", "mine"])
def test_a_slip_in_a_module_beside_the_plug_in_is_named(command, write, tmp_path, use, given):
    """A module beside the plug-in's file, in a plug-in folder or not, has a mistake: the error names file and line."""
    write("mine/helper.py", HELPER)
    write("mine/tiny.py", changed("        self.steps += 1\n", f"        import helper\n        x = {use}\n"))
    line = said(command("train", "--plugin", given, *RUN))
    place = f"{tmp_path / 'mine' / 'helper.py'}, line {line_of(HELPER, 'undefined_size()')}, in norm"
    assert line.startswith("error: plug-in 'tiny': AttributeError: 'Tensor' object has no attribute 'undefined_size'")
    assert f"({place})" in line


PARTS = {
    "generator": "import torch\nfrom torch import nn\nfrom networks import GENERATORS\n\n\nclass Wide(nn.Conv2d):\n"
    "    def __init__(self, o, input_nc, output_nc):\n        super().__init__(input_nc, output_nc, 1)\n\n"
    "    def forward(self, x):\n        return undefined_thing\n\n\nGENERATORS['wide'] = Wide\n",
    "objective": "from networks import OBJECTIVES\nfrom networks.gan_loss import Objective\n\n\n"
    "def f(*p):\n    return undefined_thing\n\n\nOBJECTIVES['wide'] = Objective(f, f, f)\n",
    "initialiser": "from networks import INITIALISERS\nINITIALISERS['wide'] = lambda weight, gain: undefined_thing\n",
    "norm": "from networks import NORMS\nNORMS['wide'] = lambda channels: undefined_thing\n",
    "lr_policy": "from training.lr_schedule import LR_POLICIES\n"
    "LR_POLICIES['wide'] = lambda epoch, o, history: undefined_thing\n",
    "optimizer": "from training import OPTIMIZERS\nOPTIMIZERS['wide'] = lambda params, lr, betas: undefined_thing\n",
}  # fmt: skip


@pytest.mark.fault(96)
@pytest.mark.parametrize("kind", PARTS)
def test_a_slip_in_a_part_names_the_parts_plug_in(command, write, tmp_path, kind):
    """A plug-in's generator, objective, norm, ... fails inside a built-in model: exit 2 with the plug-in."""
    path = write("parts.py", PARTS[kind])
    flags = ["--model", "pix2pix", "--netG", "unet_32", lookup.PART_FLAGS[kind], "wide", "--dataroot", "demo"]
    line = said(command("train", *SMALL, "--plugin", path, *flags, "--max_dataset_size", 2))
    place = f"{path}, line {line_of(PARTS[kind], 'undefined_thing')}, in "
    assert line.startswith("error: plug-in 'parts': NameError: name 'undefined_thing' is not defined (" + place), line


BAD_PARTS = {
    "generator": (
        "lambda o, channels: None",
        r"its generator 'bad'\(o, channels\) cannot be called as \(o, input_nc, ",
    ),
    "discriminator": ("lambda o: None", r"its discriminator 'bad'\(o\) cannot be called as \(o, input_nc\)"),
    "norm": ("lambda: None", r"its norm 'bad'\(\) cannot be called as \(channels\)"),
    "initialiser": ("lambda weight: None", r"its initialiser 'bad'\(weight\) cannot be called as \(weight, gain\)"),
    "objective": ("lambda p: p", "its objective 'bad' has no real and no fake and no generator"),
    "lr_policy": ("0.5", "its lr_policy 'bad' is a float, which cannot be called"),
    "optimizer": ("lambda params: None", r"its optimizer 'bad'\(params\) cannot be called as \(params, lr\)"),
    "display": ("lambda folder: None", r"its display 'bad'\(folder\) cannot be called as \(o, folder\)"),
}


@pytest.mark.fault(96)
@pytest.mark.parametrize("kind", BAD_PARTS)
def test_a_part_that_cannot_be_called_as_its_kind_is_refused(command, write, tmp_path, kind):
    """A generator, a norm, a policy, ... takes other arguments: exit 2 with the plug-in, the part and the arguments
    that it gets.
    """
    thing, why = BAD_PARTS[kind]
    module, table, _ = lookup.PART_TABLES[kind]
    path = write("parts.py", f"from {module} import {table}\n{table}['bad'] = {thing}\n")
    flags = ["--model", "pix2pix", "--netG", "unet_32", lookup.PART_FLAGS[kind], "bad", "--dataroot", "demo"]
    line = said(command("train", *SMALL, "--plugin", path, *flags, "--max_dataset_size", 2))
    assert re.match(rf"error: plug-in 'parts': {why}", line), line


@pytest.mark.fault(96)
@pytest.mark.parametrize(("kind", "text", "why"), [
    ("generator", "GENERATORS['bad'] = lambda o, i, n: None", "its generator 'bad' returned nothing"),
    ("discriminator", "DISCRIMINATORS['bad'] = lambda o, i: 3", "its discriminator 'bad' returned a int"),
    ("optimizer", "OPTIMIZERS['bad'] = lambda params, lr: None", "its optimizer 'bad' returned nothing"),
])  # fmt: skip
def test_a_part_that_returns_something_else_is_refused(command, write, kind, text, why):
    """A generator returns None because a return is missing: exit 2 with the plug-in."""
    tables = "from networks import DISCRIMINATORS, GENERATORS\nfrom training import OPTIMIZERS\n"
    path = write("parts.py", f"{tables}{text}\n")
    flags = ["--model", "pix2pix", "--netG", "unet_32", lookup.PART_FLAGS[kind], "bad", "--dataroot", "demo"]
    line = said(command("train", *SMALL, "--plugin", path, *flags))
    assert line.startswith(f"error: plug-in 'parts': {why}"), line


@pytest.mark.fault(96)
def test_a_policy_that_gives_no_number_is_named(command, write):
    """A learning-rate policy returns None: exit 2 with the policy and the epoch."""
    path = write(
        "parts.py",
        "from training.lr_schedule import LR_POLICIES\nLR_POLICIES['bad'] = lambda epoch, o, history: None\n",
    )
    line = said(
        command("train", *RUN, "--model", "pix2pix", "--netG", "unet_32", "--plugin", path, "--lr_policy", "bad")
    )
    assert line.startswith("error: option '--lr_policy': policy 'bad' gives None for epoch 1;")


PLAIN = '''"""Pictures of noise."""
import torch

from data.base import BaseDataset


class Plain(BaseDataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        A = torch.randn(3, 8, 8)
        return {"A": A, "B": -A, "path_A": f"{index}.png", "path_B": f"{index}.png"}
'''


@pytest.mark.fault(96)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("slip", [s for s in SLIPS if "self." not in SLIPS[s][0] and s != "a name misspelt"])
def test_a_slip_in_a_data_set_is_told_also_from_a_worker(command, write, tmp_path, slip, workers):
    """The tenth sample of a plug-in's data set raises an error, in the main process or a loader worker: exit 2 with the
    line.
    """
    statement, why = SLIPS[slip]
    statement = statement.replace("nn.", "torch.nn.").replace("sys.exit", "raise SystemExit")
    text = PLAIN.replace("        A =", f"        if index == 9:\n            {statement}\n        A =", 1)
    text = text.replace("return 6", "return 12")  # more than are shown before the first step
    write("tiny.py", TINY)
    path = write("plain.py", text)
    flags = ["--plugin", "tiny.py", "--plugin", path, *RUN, "--dataset_mode", "plain", "--num_threads", workers,
             "--max_dataset_size", 12, "--fixed_samples", 0]  # fmt: skip
    line = said(command("train", *flags, "--serial_batches"))
    place = f"({path}, line {line_of(text, statement)}, in __getitem__)"
    assert re.match(f"error: plug-in 'plain': {why}", line)
    assert "Traceback" in (tmp_path / "checkpoints" / "t" / "error.log").read_text()
    assert place in line


BAD_DATA = {
    "no length": (("    def __len__", "    def length"), r"has no method __len__\(self\)"),
    "no samples": (("    def __getitem__", "    def get"), r"has no method __getitem__\(self, index\)"),
    "empty": (("return 6", "return 0"), r"its __len__\(\) returns 0"),
    "a length that is none": (("return 6", "return None"), r"its __len__\(\) returns None"),
    "another signature": (
        ("(self, index)", "(self)"),
        r"its __getitem__\(self\) cannot be called as self.__getitem__\(index",
    ),
    "nothing returned": (("return {", "x = {"), r"its __getitem__\(index\) returns nothing \(None\), not a dictionary"),
    "no A": (('"A": A,', '"a": A,'), r"its __getitem__\(index\) returns a, B, path_A, path_B, but no A"),
    "no path": (('"path_A": f', '"path": f'), r"its __getitem__\(index\) returns .*, but no path_A"),
    "a picture that is none": (('"A": A,', '"A": A.tolist(),'), "its sample's A is a list, not an image"),
    "bytes": (
        ('"A": A,', '"A": A.byte(),'),
        r"its sample's A is a tensor of shape \(3, 8, 8\), torch.uint8, not an image",
    ),
    "a flat A": (('"A": A,', '"A": A[0],'), r"its sample's A is a tensor of shape \(8, 8\), .*, not an image"),
}


@pytest.mark.fault(96)
@pytest.mark.parametrize("case", BAD_DATA)
def test_a_data_set_that_breaks_its_contract_is_refused(command, write, tmp_path, case):
    """A plug-in's data set lacks a method, or returns invalid samples: exit 2 with its name and what is expected."""
    (old, new), why = BAD_DATA[case]
    assert PLAIN.count(old) == 1
    write("tiny.py", TINY)
    write("plain.py", PLAIN.replace(old, new))
    line = said(command("train", "--plugin", "tiny.py", "--plugin", "plain.py", *RUN, "--dataset_mode", "plain"))
    assert re.match(f"error: plug-in 'plain': {why}", line), line
    assert not (tmp_path / "checkpoints").exists()


METHODS = {
    "forward": ("forward(self, batch)", "forward(self)", "forward(batch)", "return {}"),
    "phases": ("phases(self)", "phases(self, batch)", "phases()", ""),
    "show": ("show(self, out)", "show(self)", "show(out)", ""),
    "__init__": ("__init__(self, o, spec)", "__init__(self, o)", "(o, spec)", ""),
    "loss": ("loss_g(self, batch, out)", "loss_g(self, out)", "(batch, out)", ""),
}


@pytest.mark.fault(96)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("script", ["train", "test"])
def test_a_method_with_wrong_arguments_is_told_the_right_ones(train, command, tmp_path, method, script):
    """A plug-in defines forward(self), loss(self, out), ...: exit 2 with plug-in, method, line and right arguments."""
    good, bad, call, _ = METHODS[method]
    text = changed(f"def {good}:", f"def {bad}:")
    if script == "test":
        if method == "loss":  # it is never called there
            return
        assert train(TINY).code == 0
        sys.modules.pop(discovery.module_name(tmp_path / "tiny.py"))
        (tmp_path / "tiny.py").write_text(text)
        line = said(command("test", "--name", "t"))
    else:
        line = said(train(text))
        assert not (tmp_path / "checkpoints").exists()
    shown = "phase G, loss_g(out)" if method == "loss" else bad
    assert f"{shown} cannot be called as {'' if call[0] == '(' else 'self.'}{call}" in line, line
    assert f"{tmp_path / 'tiny.py'}, line {line_of(text, bad)})" in line


PHASES = {
    "one network": ("[self.G], self.loss_g", "self.G, self.loss_g", "Phase 'G': nets is one network, not a list"),
    "a text for a network": ("[self.G], self.loss_g", "['G'], self.loss_g", "nets holds a str, which is not a network"),
    "a text for a list": ("[self.G], self.loss_g", "'G', self.loss_g", "nets is a str, not a list of networks"),
    "a parameter": ("[self.G], self.loss_g", "[self.G.weight], self.loss_g", "nets holds a Parameter, which is no"),
    "none": ("[self.G], self.loss_g", "[], self.loss_g", "nets is empty"),
    "twice": ("[self.G], self.loss_g", "[self.G, self.G], self.loss_g", "nets names one network twice"),
    "every 0": ("self.loss_g)]", "self.loss_g, every=0)]", "every is 0, not a whole number of at least 1"),
    "every a half": ("self.loss_g)]", "self.loss_g, every=0.5)]", "every is 0.5, not a whole number of at least 1"),
    "every true": ("self.loss_g)]", "self.loss_g, every=True)]", "every is True, not a whole number"),
    "a weight of text": ("self.loss_g)]", "self.loss_g, weight='1')]", "weight is '1', not a finite number"),
    "an endless weight": ("self.loss_g)]", "self.loss_g, weight=1e999)]", "weight is inf, not a finite number"),
    "a negative rate": ("self.loss_g)]", "self.loss_g, lr=-1)]", "lr is -1, not a finite number of at least 0"),
    "a rate of text": ("self.loss_g)]", "self.loss_g, lr='1e-4')]", "lr is '1e-4', not a finite number"),
    "a name that is none": ('Phase("G", [self.G]', 'Phase([self.G], "G"', "name is a list, not a text"),
    "a loss that was called": ("self.loss_g)]", "{})]", "loss is a dict, not a function; write self.loss without"),
    "an unknown word": ("self.loss_g)]", "self.loss_g, ever=2)]", "unexpected keyword argument 'ever'"),
    "two of one name": ('Phase("G"', 'Phase("D"', "two of its phases are called 'D'"),
    "nothing returned": ("return [Phase", "x = [Phase", r"its phases() returns nothing (None), not a list"),
    "one phase": ('return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]',
                  'return Phase("G", [self.G], self.loss_g)', "its phases() returns a Phase, not a list"),
    "tuples": ('Phase("G", [self.G]', '("G", [self.G]', "its phases() lists a tuple, not a Phase"),
    "a generator": ('return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]',
                    'yield Phase("G", [self.G], self.loss_g)', "its phases() returns a generator, not a list"),
    "nothing to train": ("[self.G], self.loss_g", "[self.gan], self.loss_g",
                         "of its phase G have no parameters to train"),
    "a network in a list": ("self.G = nn.Conv2d(3, 3, 1)", "self.nets = [nn.Conv2d(3, 3, 1)]",
                            "trains a network that is not an attribute of the model"),
    "a lazy layer": ("self.G = nn.Conv2d(3, 3, 1)", "self.G = nn.LazyConv2d(3, 1)", "a layer LazyConv2d, whose size"),
    "no super": ("super().__init__()", "pass", "a network is assigned before super().__init__() was called"),
    "averaged misspelt": ('averaged = ("G",)', 'averaged = ("g",)', "names 'g', but its networks are G, D"),
    "averaged a text": ('averaged = ("G",)', 'averaged = ("G")', "its averaged is 'G', not a tuple"),
    "averaged in no phase": ('averaged = ("G",)', 'averaged = ("D",)', "averaged names 'D', which no phase trains"),
    "no forward": ("def forward(", "def forwards(", "has no method forward(self, batch)"),
    "forward a property": ("    def phases(", "    @property\n    def phases(",
                           "its phases is a property, not a method"),
    "defaults a list": ('averaged = ("G",)', 'defaults = ["netG"]', "its defaults are not a dictionary"),
}  # fmt: skip


@pytest.mark.fault(96)
@pytest.mark.parametrize("case", PHASES)
def test_phases_that_cannot_be_trained_are_refused(train, tmp_path, case):
    """Phases, networks or attributes break the contract: exit 2 before training with plug-in and what is expected."""
    old, new, why = PHASES[case]
    more = {
        "a network in a list": ("self.G(batch", "self.nets[0](batch", "[self.G]", "self.nets", 'averaged = ("G",)', ""),
        "averaged in no phase": ('Phase("D", [self.D], self.loss_d), ', ""),
    }
    line = said(train(changed(old, new, *more.get(case, ()))))
    assert line.startswith("error: plug-in 'tiny': ")
    assert why in line
    assert not (tmp_path / "checkpoints").exists()


LOSSES = {
    "floats": ('{"L": 0.5}', "not of Python numbers only"),
    "item": ('{"L": float(out["real_B"].shape[0])}', "not of Python numbers only"),
    "nothing": ("None", "must return a dictionary of scalars, not nothing"),
    "a bare tensor": ('out["fake_B"].mean()', "must return a dictionary of scalars, not a Tensor"),
    "a tuple": ('(out["fake_B"].mean(), 0)', "must return a dictionary of scalars, not a tuple"),
    "pictures": ('{"L": out["fake_B"].abs()}', r"its 'L' is a tensor of shape \(1, 3, 32, 32\); take its mean"),
    "one of a list": ('{"L": out["fake_B"].mean()[None]}', r"its 'L' is a tensor of shape \(1\)"),
    "a list": ('{"L": [out["fake_B"].mean()]}', "its 'L' is a list"),
    "a text": ('{"L": out["fake_B"].mean(), "x": "y"}', "its 'x' is a str"),
    "a nested dictionary": ('{"L": {"a": out["fake_B"].mean()}}', "its 'L' is a dict"),
    "a number for a name": ('{1: out["fake_B"].mean()}', "scalars by name, not by 1"),
}


@pytest.mark.fault(96)
@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_that_is_no_dictionary_of_scalars_is_refused(train, tmp_path, case):
    """A loss returns floats, images, texts or None: exit 2 before training with the plug-in, the phase and what is
    expected.
    """
    value, why = LOSSES[case]
    line = said(
        train(changed('        fake = out["fake_B"]\n', f"        return {value}\n        fake = out['fake_B']\n"))
    )
    assert line.startswith("error: plug-in 'tiny': the loss of its phase G must return a dictionary of scalars")
    assert re.search(why, line), line
    assert "return {name: " in line
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.fault(96)
def test_a_constant_among_the_terms_is_no_fault(train):
    """A loss has a term of 0.0 beside tensors: it trains."""
    ended = train(changed('{"G_GAN": ', '{"idt": 0.0, "one": 1, "G_GAN": '))
    assert ended.code == 0, ended.err


GRADIENTS = {
    "used up": (('self.D(out["fake_B"].detach())', 'self.D(out["fake_B"])'), "phase G",
                "its loss goes backward through a graph that an earlier phase has already freed",
                "; write out['fake_B'].detach() in loss_d, the loss of phase D"),
    "detached": (('        fake = out["fake_B"]\n', '        fake = out["fake_B"].detach()\n'), "phase G",
                 "its loss does not depend on the networks of the phase", "without detach"),
    "no_grad": (('    def loss_g', '    @torch.no_grad()\n    def loss_g'), "phase G",
                "its loss does not depend on the networks of the phase", "without detach"),
    "changed since": (('"real_A": batch["A"],', '"real_A": batch["A"], "code": self.D(self.D.weight * batch["A"]),',
                       '{"G_GAN": ', '{"code": out["code"].mean() + fake.mean(), "G_GAN": '), "phase G",
                      "its loss needs a tensor that was changed after it was computed", "compute it again"),
}  # fmt: skip


@pytest.mark.fault(96)
@pytest.mark.parametrize("case", GRADIENTS)
@pytest.mark.parametrize("moment", ["before", "later"])
def test_missing_gradients_are_told_in_plain_words(train, tmp_path, monkeypatch, case, moment):
    """A loss reaches another phase's graph, or none: exit 2 before training, in plain words with the phase."""
    from training import preflight

    pairs, phase, why, remedy = GRADIENTS[case]
    text = changed(*pairs)
    if moment == "later":
        monkeypatch.setattr(preflight, "_run_on_copy", lambda *_: (None, []))
    line = said(train(text))
    start = line_of(text, "def loss_g") - (case == "no_grad")
    place = f"({tmp_path / 'tiny.py'}, line {start}, in loss_g, {phase})"
    if case == "no_grad":
        place = f"{phase})"
    assert line.startswith(f"error: plug-in 'tiny': {why}"), line
    assert place in line
    assert remedy in line
    assert (tmp_path / "checkpoints").exists() == (moment == "later")


@pytest.mark.fault(96)
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (changed('        fake = out["fake_B"]\n', '        fake = out["fake_b"]\n'), "fake_B"),
        (changed("return super().show(out)", 'return {"x": out["real_a"]}'), "real_A"),
    ],
)
def test_a_misspelt_key_of_out_names_what_forward_returns(train, tmp_path, text, meant):
    """A loss reads out["fake_b"] instead of fake_B: exit 2 before training with the keys that forward returns and the
    most similar one.
    """
    line = said(train(text))
    wrong = meant[:-1] + meant[-1].lower()
    place = f"({tmp_path / 'tiny.py'}, line {line_of(text, wrong)}, in "
    assert line.startswith(f"error: plug-in 'tiny': it reads out['{wrong}'] {place}")
    assert f"but its forward returns real_A, fake_B, real_B; did you mean '{meant}'?" in line
    assert "--dataset_mode" not in line
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.fault(96)
@pytest.mark.parametrize(("text", "flags", "why"), [
    (changed('self.G(batch["A"])', 'self.G(batch["a"])'), [],
     "aligned gives A, B, path_A, path_B, but model tiny also reads 'a' (.*, in forward); did you mean 'A'?"),
    (changed('{"G_GAN": ', '{"label": batch["label"], "G_GAN": '), [],
     "aligned gives A, B, path_A, path_B, but model tiny also reads 'label' (.*, in loss_g); choose another data set"),
    (TINY, ["--dataset_mode", "single"],
     "single gives A, path_A, but model tiny also reads 'B' (.*, in loss_d); choose"),
])  # fmt: skip
def test_a_key_that_the_batch_lacks_names_what_the_data_gives(train, tmp_path, text, flags, why):
    """A model reads batch["a"], or B from a data set without B: exit 2 before training with the keys of the batch."""
    root = ["--dataroot", "demo/testA"] if flags else []
    line = said(train(text, *flags, *root))
    assert re.match("error: option '--dataset_mode': " + re.escape(why).replace(r"\.\*", ".*"), line), line
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.fault(96)
@pytest.mark.parametrize(("pairs", "why"), [
    (('return out | ({"real_B": batch["B"]} if "B" in batch else {})', "pass"), "its forward.* returns nothing"),
    (('return out | ({"real_B": batch["B"]} if "B" in batch else {})', 'return out["fake_B"]'),
     r"its forward\(batch\) returns a Tensor, not a dictionary"),
    (("return super().show(out)", "pass"), r"its show\(out\) returns nothing \(None\), not a dictionary"),
    (("return super().show(out)", "return list(out.values())"), r"its show\(out\) returns a list, not a dictionary"),
    (("return super().show(out)", 'return {"x": out["fake_B"][0]}'), r"out\) returns a tensor of shape \(3, 32, "),
    (("return super().show(out)", 'return {"x": out["fake_B"][:, :2]}'), r"returns a tensor of shape \(1, 2, 32, 32\)"),
    (("return super().show(out)", 'return {"x": 3}'), r"its show\(out\) returns a int as 'x', not images"),
])  # fmt: skip
def test_forward_and_show_that_return_no_dictionary_are_refused(train, tmp_path, pairs, why):
    """forward has no return, or show returns no images: exit 2 before training with the method and what is expected."""
    line = said(train(changed(*pairs)))
    assert re.match(f"error: plug-in 'tiny': .*{why}.*; return {{name: ", line), line
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.fault(96)
def test_a_plug_in_without_phases_is_told_so(train):
    """A plug-in lacks phases(): exit 2 names the method."""
    assert "tiny only translates and cannot be trained: it has no phases()" in said(
        train(changed("def phases(", "def phase("))
    )


@pytest.mark.fault(96)
def test_a_network_in_no_phase_is_noted_not_refused(train, tmp_path):
    """No phase trains a network that is trainable, or frozen but not Frozen: the run continues, and a line says so."""
    ended = train(changed("self.D = nn", "self.E = nn.Conv2d(3, 3, 1)\n        self.D = nn"))
    assert ended.code == 0, ended.err
    assert ended.out.count("note: network E is not in a phase: it is not trained and not saved as a .pth\n") == 1
    sys.modules.pop(discovery.module_name(tmp_path / "tiny.py"))
    frozen = "self.E = nn.Conv2d(3, 3, 1).requires_grad_(False)\n        self.D = nn"
    ended = train(changed("self.D = nn", frozen), "--overwrite")
    assert ended.out.count("note: network E requires no gradients, but runs in training mode") == 1
    sys.modules.pop(discovery.module_name(tmp_path / "tiny.py"))
    frozen = "from networks import Frozen\n        self.E = Frozen(nn.Conv2d(3, 3, 1))\n        self.D = nn"
    ended = train(changed("self.D = nn", frozen), "--overwrite")
    assert ended.code == 0 and "note: network" not in ended.out


@pytest.mark.fault(96)
def test_two_losses_of_one_name_are_noted(train):
    """Two phases have a loss of the same name: the run continues, and one line says that they are logged as one."""
    ended = train(changed('"D_real"', '"loss"', '"G_GAN"', '"loss"'))
    assert ended.code == 0, ended.err
    assert ended.out.count("note: phases D and G both call a loss loss: they are logged as one\n") == 1


@pytest.mark.fault(94)
def test_only_the_plug_in_that_is_asked_for_is_imported(write, command, tmp_path):
    """Plug-ins in a folder raise, exit or are not Python: --list, --help and other models work; exit 2 only if one is
    requested.
    """
    folder = write("folder/good.py", EMPTY_MODEL.format("Good")).parent
    write("folder/broken.py", "def (")
    write("folder/raising.py", EMPTY_MODEL.format("Raising") + "raise RuntimeError('no luck')\n")
    write("folder/leaving.py", EMPTY_MODEL.format("Leaving") + "import sys\nsys.exit(0)\n")
    write(
        "folder/touching.py",
        f"from pathlib import Path\nPath({str(tmp_path / 'touched')!r}).touch()\n"
        + EMPTY_MODEL.format("Touching")
        + "GENERATORS['never'] = None\n",
    )
    write("folder/_private.py", EMPTY_MODEL.format("Private"))
    listed = command("train", "--list", "--plugin", folder)
    assert listed.code == 0
    for name in ("good", "broken", "raising", "leaving", "touching"):
        assert f"  {name:<24} {folder / name}.py\n" in listed.out
    assert f"  {'never':<24} {folder / 'touching'}.py\n" in listed.out.partition("generator:")[2]
    assert "_private" not in listed.out
    assert command("train", "--help", "--plugin", folder).code == 0
    ended = command("train", "--plugin", folder, "--model", "good", "--help")
    assert (ended.code, ended.err) == (0, "")
    assert not (tmp_path / "touched").exists()
    for name, why in (("broken", "SyntaxError"), ("raising", "RuntimeError: no luck"), ("leaving", "SystemExit: 0")):
        assert f"plug-in '{folder / name}.py': {why}" in last_line(command, "--plugin", folder, "--model", name)
        assert command("train", "--plugin", folder, "--model", "pix2pix", "--help").code == 0


@pytest.mark.fault(94)
@pytest.mark.parametrize(("text", "promised"), [
    ("raise ValueError('odd')", "ValueError: odd"), ("import sys\nsys.exit(3)", "SystemExit: 3"), ("x =", "Syntax"),
    ("import missing_thing.deep", "ModuleNotFoundError: No module named 'missing_thing'; pip install missing_thing"),
    ("from models.base import NoSuchThing", "ImportError: "), ("raise KeyError", "KeyError"),
])  # fmt: skip
def test_a_plug_in_that_cannot_be_imported_is_named(command, write, text, promised):
    """A plug-in raises, exits, is not Python or needs a package: exit 2 with the file and the remedy."""
    path = write("bad.py", text)
    assert f"error: plug-in '{path}': {promised}" in last_line(command, "--plugin", path, "--model", "bad")


@pytest.mark.fault(95)
@pytest.mark.parametrize("second", ["two/mine.py", "two/Mine.py", "folder"])
def test_two_plug_ins_of_one_name_are_both_named(command, write, second):
    """Two plug-ins have one name, in files or a folder, in either order: exit 2 names both; other models work."""
    one = write("one/mine.py", EMPTY_MODEL.format("One"))
    two = write("folder/MINE.py" if second == "folder" else second, EMPTY_MODEL.format("Two"))
    for order in ([one, two], [two, one]):
        paths = [path.parent if path.parent.name == "folder" else path for path in order]
        argv = ["--plugin", paths[0], "--plugin", paths[1]]
        line = last_line(command, *argv, "--model", "mine")
        assert all(str(path) in line for path in (one, two))
        assert command("train", *argv, "--model", "pix2pix", "--help").code == 0


@pytest.mark.fault(95)
@pytest.mark.parametrize("name", ["pix2pix", "Pix2Pix", "pix_2_pix"])
def test_a_built_in_name_is_not_taken_over(command, write, name):
    """A plug-in has a built-in model's name, in any spelling: exit 2 names both files."""
    path = write(f"{name}.py", EMPTY_MODEL.format("Mine"))
    line = last_line(command, "--plugin", path, "--model", "pix2pix")
    assert all(name in line for name in (str(path), "models/pix2pix.py"))


@pytest.mark.fault(95)
@pytest.mark.parametrize("kind", KINDS)
def test_a_name_taken_in_a_table_names_both_places(command, write, kind):
    """A plug-in's line in a table uses an existing name, for every kind of part: exit 2 names both places."""
    module, table, _ = lookup.PART_TABLES[kind]
    taken = lookup.entries(kind)[0].name
    path = write("taker.py", f"from {module} import {table}\n{table}[{taken.upper()!r}] = object\n")
    line = last_line(command, "--plugin", path)
    assert f"error: {kind} '{taken.upper()}': is defined twice" in line
    assert str(path) in line
    two = [write(name, f"from {module} import {table}\n{table}['new'] = object\n") for name in ("one.py", "two.py")]
    line = last_line(command, "--plugin", two[0], "--plugin", two[1])
    assert all(str(path) in line for path in two)


@pytest.mark.fault(95)
def test_an_entry_point_and_a_file_of_one_name_are_both_named(package, write):
    """An installed plug-in and a file have one name: the error names both."""
    path = write("small.py", EMPTY_MODEL.format("Small"))
    discovery.add_paths([path])
    line = refused("model", "small")
    assert all(name in line for name in ("entry point small of extra-gans", str(path)))


@pytest.mark.fault(96)
@pytest.mark.parametrize(("flag", "owner"), [("lr", "training"), ("name", "all runs"), ("no_dropout", "all runs"),
    ("dropout", "all runs"), ("no_verbose", "all runs"), ("help", ""), ("list", ""), ("isTrain", "")])  # fmt: skip
def test_a_flag_that_exists_already_is_refused_naming_its_owner(command, write, flag, owner):
    """A plug-in's option already exists: exit 2 with the plug-in and the option's owner."""
    write("taking.py", SMALLEST.replace("strength: float", f"{flag}: float").replace("self.o.strength", "1"))
    for argv in ([], ["--help"]):
        line = last_line(command, "--plugin", "taking.py", "--model", "taking", *argv)
        assert re.search(f"plug-in 'taking': .*--{flag} .*{owner}", line), line


@pytest.mark.fault(97)
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "metric"])
@pytest.mark.parametrize("name", ["zzz", "../../evil", "os", "torch.nn:Conv2d", "data.single:Single"])
def test_a_name_is_matched_never_imported(command, kind, name):
    """A part of any kind is named ../../evil, os, foo;x, __init__ or a path: exit 2, and nothing is imported."""
    last_line(command, lookup.PART_FLAGS[kind], "another")  # imports what a command and its suggestions need
    before = set(sys.modules)
    line = last_line(command, lookup.PART_FLAGS[kind], name)
    assert set(sys.modules) == before
    if kind == "augmentation" and not name.isidentifier():  # which is no word of --augment's language
        assert "'--augment'" in line and "expected the name of an augmentation" in line
        return
    assert f"'{name}'" in line
    assert "choose one of" in line


ODD = '''
"""A model whose own state is no tensor and no plain value."""
import numpy as np
from torch import nn

from models.base import BaseModel, Phase


class Odd(BaseModel):
    dataset_mode = "aligned"

    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Conv2d(3, 3, 1)

    def phases(self):
        return [Phase("G", [self.G], lambda batch, out: {"G": out["fake_B"].square().mean()})]

    def forward(self, batch):
        return {"fake_B": self.G(batch["A"])}

    def get_extra_state(self):
        return {"curve": np.zeros(3)}

    def set_extra_state(self, state):
        pass
'''


@pytest.mark.fault(98)
def test_unreadable_state_is_refused_before_training(command, tmp_path):
    """get_extra_state returns a value that weights_only cannot read: exit 2 before training, not at the next resume."""
    (tmp_path / "odd.py").write_text(ODD)
    ended = command("train", *RUN, "--plugin", "odd.py", "--model", "odd")
    assert ended.code == 2, ended.err
    assert "odd" in ended.last and "state" in ended.last and ended.err.count("\n") == 1
    assert not list(tmp_path.rglob("state_*.pt"))


SHEETS = {
    "raises": "raise RuntimeError('no sheets today')",
    "bare": "return torch.zeros(2, 3, 8, 8)",
    "flat": "return {'x': (torch.zeros(2, 3), torch.zeros(2))}",
}


@pytest.mark.fault(96)
@pytest.mark.parametrize("how", SHEETS)
def test_failing_sheets_are_refused_before_training(command, tmp_path, how):
    """sheets() raises or returns no images: exit 2 before training, not at the first sheet."""
    text = TINY + f"\n    def sheets(self, request):\n        {SHEETS[how]}\n"
    (tmp_path / "drawing.py").write_text(text)
    ended = command("train", "--plugin", "drawing.py", *RUN, "--model", "drawing")
    assert ended.code == 2, ended.err
    assert re.match(r"error: plug-in 'drawing': its sheets\(request\) of kind 'grid' ", ended.last), ended.last
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.fault(94)
def test_what_a_plug_in_prints_on_import_disturbs_nothing(command, write):
    """A plug-in prints to both outputs when imported: its --help and training work."""
    write("tiny.py", TINY + "\n\nprint('hello')\nprint('oops', file=sys.stderr)\n")
    shown = command("train", "--plugin", "tiny.py", "--model", "tiny", "--help")
    assert (shown.code, "--strength X" in shown.out, "hello" in shown.out) == (0, True, True)
    assert command("train", "--plugin", "tiny.py", *RUN).code == 0


@pytest.mark.fault(94)
@pytest.mark.parametrize(("text", "remedy"), [
    ("import not_there.deep", "pip install not_there"), ("import cv99 as cv2", "pip install cv99"),
    ("from models.bas import BaseModel", "correct the import"), ("import torch.not_there", "correct the import"),
])  # fmt: skip
def test_a_missing_package_is_named_with_what_to_do(command, write, text, remedy):
    """A package is missing, or an installed package lacks the imported module: exit 2 with pip install, or with the
    wrong import.
    """
    path = write("bad.py", text)
    line = said(command("train", "--plugin", path, "--model", "bad"))
    assert re.match(f"error: plug-in '{path}': ModuleNotFoundError: No module named '.*'; {remedy}$", line), line


@pytest.mark.fault(94)
def test_a_slip_on_import_is_told_with_its_line(command, write):
    """The top level of a plug-in's file has a mistake: exit 2 with the line."""
    path = write("bad.py", "import torch\n\nx = torch.zero(3)\n")
    line = said(command("train", "--plugin", path, "--model", "bad"))
    assert f"module 'torch' has no attribute 'zero' ({path}, line 3)" in line


@pytest.mark.fault(94)
def test_an_installed_package_that_is_broken_disturbs_nobody(package, command, write):
    """An installed plug-in raises on import: --help, --list, other models and test.py work; exit 2 only if it is
    requested.
    """
    write("tiny.py", TINY)
    assert command("train", "--list").code == command("train", "--help").code == 0
    assert command("train", "--plugin", "tiny.py", *RUN).code == 0
    assert command("test", "--name", "t").code == 0
    assert "extra_gans" not in sys.modules
    line = said(command("train", "--model", "raising"))
    assert line.startswith("error: plug-in 'entry point raising of extra-gans': RuntimeError: no luck")


@pytest.mark.fault(94)
def test_an_installed_metric_that_is_broken_is_left_out(package, command, write):
    """An installed metric raises on import: test.py says so in one line and computes the other metrics."""
    site = package
    (site / "extra_gans" / "nets.py").write_text("from metrics import METRICS\n1 / 0\nMETRICS['odd'] = print\n")
    write("tiny.py", TINY)
    assert command("train", "--plugin", "tiny.py", *RUN).code == 0
    tested = command("test", "--name", "t")
    assert tested.code == 0, tested.err
    assert tested.out.count("note: metric odd is skipped (") == 1
    assert "mean over the images: L1" in tested.out


@pytest.mark.fault(95)
def test_two_installed_plug_ins_of_one_name_are_both_named(package, command, write):
    """Two installed packages define one name: exit 2 names both; other models work."""
    for number in (1, 2):
        write(f"site/more{number}/__init__.py", "")
        write(f"site/more{number}/gan.py", EMPTY_MODEL.format("Gan"))
        write(f"site/more{number}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: more{number}\nVersion: 1\n")
        write(f"site/more{number}-1.dist-info/entry_points.txt", f"[ganvas.plugins]\nsame = more{number}.gan\n")
    discovery.list_installed.cache_clear()
    line = said(command("train", "--model", "same"))
    assert all(f"entry point same of more{number}" in line for number in (1, 2))
    assert command("train", "--model", "pix2pix", "--help").code == 0


NAMES = ["../../evil", "os", "foo;x", "__init__", "base", "", "models.base", "models/pix2pix.py", "/etc/passwd", "..",
         "torch.nn:Conv2d", "evil.py", "./evil", "a\nb", "é", "x" * 5000]  # fmt: skip


@pytest.mark.fault(97)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phase", ["train", "test"])
def test_a_model_by_path_module_or_code_is_never_imported(command, write, tmp_path, phase, name):
    """--model is a path, a module, code, "" or base: exit 2 in one line, and sys.modules is unchanged."""
    write("evil.py", "raise SystemExit(0)")
    write("evil/__init__.py", "raise SystemExit(0)")
    command(phase, "--dataroot", "missing", "--model", "pix2pix")  # imports what a command needs
    before = set(sys.modules)
    line = said(command(phase, "--dataroot", "missing", "--model", name))
    assert set(sys.modules) == before
    assert line.startswith("error: option '--model': there is no model '")
    assert "choose one of" in line
    assert len(line) < 600


LATER = {
    "an array": "import numpy; self.kept = numpy.zeros(3)",
    "an object": "self.kept = self.gan.objective",
    "a function": "self.kept = lambda: 0",
    "a set of objects": "self.kept = {type(self)}",
    "a sub-class of dict": "import collections; self.kept = [collections.UserDict()]",
    "a generator": "self.kept = torch.Generator()",
}  # fmt: skip
STATE = """
    def get_extra_state(self):
        return {"kept": getattr(self, "kept", [torch.zeros(2), "text", 1, (None, 2.5)])}

    def set_extra_state(self, state):
        self.kept = state["kept"]
"""


@pytest.mark.fault(98)
@pytest.mark.parametrize("case", LATER)
def test_state_that_spoils_later_is_refused_at_that_save(train, tmp_path, case):
    """A state later gets values that weights_only cannot read: exit 2 at that save; earlier states stay."""
    text = spoilt("loss_g", LATER[case], "self.steps == 3") + STATE
    line = said(train(text, "--save_latest_freq", 1, "--keep_last", 9))
    assert re.match("error: plug-in 'tiny': the state of _extra_state cannot be read back ", line), line
    folder = tmp_path / "checkpoints" / "t"
    assert sorted(p.name for p in folder.glob("state*")) == ["state_000000001.pt", "state_000000002.pt"]
    assert not list(folder.glob("*.tmp"))
    assert all(torch.load(p, weights_only=True) for p in folder.glob("state*"))


@pytest.mark.fault(98)
@pytest.mark.parametrize(("statement", "why"), [
    ("self.register_buffer('late', torch.zeros(2))", "'late' was added after __init__: a resumed run"),
    ("self.curve = torch.cat([self.curve, torch.zeros(1)])", r"'curve' changed from \(1,\) to \(2,\): "),
    ("self.H = nn.Linear(1, 1)", "'H.weight' was added after __init__"),
    ("self.curve = None", "'curve' was removed after __init__"),
])  # fmt: skip
@pytest.mark.parametrize("when", ["True", "self.steps == 3"])
def test_state_that_grows_is_refused(train, tmp_path, statement, why, when):
    """A buffer or network is added or grows: exit 2 before training or at that save; earlier states stay."""
    text = spoilt("loss_g", statement, when)
    line = "        self.gan = GAN"
    text = text.replace(line, "        self.register_buffer('curve', torch.zeros(1))\n" + line)
    line = said(train(text, "--save_latest_freq", 1, "--keep_last", 9))
    assert re.match(f"error: plug-in 'tiny': its parameter or buffer {why}", line), line
    states = sorted(p.name for p in (tmp_path / "checkpoints").rglob("state*"))
    assert states == ([] if when == "True" else ["state_000000001.pt", "state_000000002.pt"])


@pytest.mark.fault(98)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            TINY + STATE.partition("    def set_extra")[0],
            r"Tiny has get_extra_state\(\) but no set_extra_state\(state\)",
        ),
        (
            TINY + STATE.replace('state["kept"]', 'state["keep"]'),
            "KeyError: there is no key 'keep' .*in set_extra_state",
        ),
    ],
)
def test_state_that_could_not_be_put_back_is_refused(train, tmp_path, text, why):
    """get_extra_state has no set_extra_state, or one that fails: exit 2 before training."""
    assert re.match(f"error: plug-in 'tiny': {why}", said(train(text)))
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.fault(96)
@pytest.mark.parametrize("script", ["test", "train"])
def test_the_run_asks_for_a_plug_in_that_was_moved(train, command, tmp_path, script):
    """The run's plug-in has moved: exit 2 says that the run remembers the old place; --plugin NEW is enough to
    continue.
    """
    assert train(TINY).code == 0
    (tmp_path / "new").mkdir()
    (tmp_path / "tiny.py").rename(tmp_path / "new" / "tiny.py")
    flags = ["--name", "t", *(["--continue_train", "--n_epochs", 2] if script == "train" else [])]
    line = said(command(script, *flags))
    remembers = "this file no longer exists; the run's options name it (checkpoints/t/options.json)"
    assert line.startswith(f"error: plug-in '{tmp_path / 'tiny.py'}': {remembers}; give its new path with --")
    ended = command(script, *flags, "--plugin", "new/tiny.py")
    assert ended.code == 0, ended.err


@pytest.mark.fault(96)
@pytest.mark.parametrize("script", ["test", "train"])
def test_a_renamed_plug_in_is_not_called_damage(train, command, tmp_path, script):
    """The run's plug-in was renamed: exit 2 says that no plug-in defines the model any more, with the remedy."""
    assert train(TINY).code == 0
    (tmp_path / "tiny.py").rename(tmp_path / "other.py")
    flags = ["--name", "t", *(["--continue_train", "--n_epochs", 2] if script == "train" else [])]
    line = said(command(script, *flags, "--plugin", "other.py"))
    assert "there is no model 'tiny' any more: none of the run's plug-ins defines it" in line
    assert str(tmp_path / "tiny.py") in line
    assert "--model" in line
    assert "damaged" not in line
    ended = command(script, *flags, "--plugin", "other.py", "--model", "other")
    assert ended.code == 0, ended.err


@pytest.mark.fault(96)
def test_plug_ins_given_now_join_those_remembered(command, write, tmp_path):
    """One of a run's two plug-ins has moved: --plugin with its new place is enough; the other is remembered."""
    write("tiny.py", TINY)
    write("plain.py", PLAIN)
    both = ["--plugin", "tiny.py", "--plugin", "plain.py", *RUN, "--dataset_mode", "plain"]
    assert command("train", *both).code == 0
    (tmp_path / "new").mkdir()
    (tmp_path / "tiny.py").rename(tmp_path / "new" / "tiny.py")
    ended = command("test", "--name", "t", "--plugin", "new/tiny.py")
    assert ended.code == 0, ended.err
    (tmp_path / "tiny.py").write_text((tmp_path / "new" / "tiny.py").read_text())  # the one given now counts
    ended = command("test", "--name", "t", "--plugin", "new/tiny.py")
    assert ended.code == 0, ended.err


@pytest.mark.fault(96)
@pytest.mark.parametrize("at", [0, 3])
def test_a_show_that_fails_in_mid_run_costs_only_pictures(train, tmp_path, at):
    """show() raises during training: the run continues; one note gives file and line, and the page still has curves."""
    text = spoilt("show", "x = undefined_thing", f"self.steps >= {at or 1} and not out['fake_B'].is_meta")
    if not at:
        text = text.replace("if self.steps", "if out['fake_B'].is_leaf is False and self.steps").replace(
            "self.steps, 0", "self.steps, -1"
        )
    ended = train(text)
    assert ended.code == 0, ended.err
    place = f"{tmp_path / 'tiny.py'}, line {line_of(text, 'undefined_thing')}, in show"
    note = f"note: no images are shown from here on (NameError: name 'undefined_thing' is not defined at {place})\n"
    assert ended.out.count(note) == 1
    assert "index.html" in ended.out.splitlines()[-1]
    told = history(tmp_path / "checkpoints" / "t")
    assert bool(told["rows"]) == bool(at) and told["curves"]["lines"].keys() >= {"G_GAN", "D_real"}


@pytest.mark.fault(96)
def test_a_bug_of_ours_is_not_blamed_on_the_plug_in(train, monkeypatch):
    """GANvas itself fails while a plug-in is in use: exit 1, with the request to report it if it also happens without
    the plug-in.
    """
    from training.loss_meter import LossMeter

    monkeypatch.setattr(LossMeter, "add", lambda self, losses: [][0])
    ended = train(TINY)
    assert ended.code == 1
    assert re.fullmatch("error: bug 'IndexError': .*report it if it also happens without plug-in tiny", ended.last)


@pytest.mark.fault(96)
def test_a_model_that_looks_at_values_passes_the_rehearsal(train):
    """A plug-in reads values (item, numpy, masks, its own generators): the check before training does not refuse it."""
    looks = (
        "float(fake.mean().item()) + len(fake[fake > 0]) + fake.detach().numpy().sum() + len(f'{fake.mean():.3f}') + "
        "int(torch.unique(fake).numel() > 0) + torch.equal(fake, fake) + bool(fake.abs().max() > 9)"
    )
    for more in ("", "        self.rng = torch.Generator()\n"):
        text = changed('{"G_GAN": ', f'{{"looks": {looks}, "G_GAN": ')
        ended = train(text.replace("        self.gan = GAN", more + "        self.gan = GAN"), "--overwrite")
        assert ended.code == 0, ended.err


@pytest.mark.fault(96)
def test_a_model_that_fails_without_values_is_tried_with_them(train):
    """Formatting a tensor fails only without values: the model is tried once with values, and trains."""
    ended = train(spoilt("loss_g", "x = f\"{out['fake_B'].mean():.3f}\""))
    assert ended.code == 0, ended.err


@pytest.mark.fault(96)
@pytest.mark.parametrize(("size", "count", "noted"), [(9, 5, True), (5, 5, False), (2, 5, False)])
def test_an_epoch_of_one_smaller_batch_is_noted(train, size, count, noted):
    """There are fewer images than --batch_size: one note at the start says that an epoch is one smaller batch."""
    ended = train(TINY, "--batch_size", size)
    assert ended.code == 0, ended.err
    note = f"note: {count} images make one batch of {count}, less than --batch_size {size}"
    assert ended.out.count(note) == noted


@pytest.mark.fault(96)
def test_a_flag_without_effect_on_the_model_is_noted(train, command):
    """--num_samples is given for a model that does not generate from noise: one note."""
    assert train(TINY).code == 0
    ended = command("test", "--name", "t", "--num_samples", 3)
    assert ended.code == 0, ended.err
    assert ended.out.count("note: --num_samples has no effect: this model does not generate samples from noise\n") == 1


UNUSUAL = '''
"""Unusual, and sound: arrays as pictures, a length of NumPy's, a batch that the model adds to."""
import numpy as np
import torch
from torch import nn

from data.base import BaseDataset, Spec
from models.base import BaseModel, Phase


class Arrays(BaseDataset):
    def __len__(self):
        return np.int64(4)

    def __getitem__(self, index):
        picture = np.random.rand(3, 8, 8).astype(np.float32)
        return {"A": picture, "path_A": str(index), "B": np.arange(5), "attributes": np.ones(3)}

    def spec(self):
        return Spec(3, 3, 8, 8)
'''
ADDING = '''
"""Adds to its batch."""
import torch
from torch import nn

from models.base import BaseModel, Phase


class Adding(BaseModel):
    dataset_mode = "unusual"

    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Conv2d(3, 3, 1)
        self.register_buffer("grid", torch.ones(1)EXPANDED)

    def phases(self):
        return [Phase("G", [self.G], self.loss)]

    def forward(self, batch):
        batch["noise"] = torch.randn(len(batch["A"]), 3, 8, 8)
        return {"fake_B": self.G(batch["A"] + batch["noise"])}

    def loss(self, batch, out):
        return {"G": (out["fake_B"] - batch["noise"]).square().mean()}
'''


@pytest.mark.fault(96)
def test_unusual_plug_ins_that_work_are_not_refused(command, tmp_path):
    """Samples and lengths are NumPy arrays, or forward adds to the batch: the plug-in trains."""
    (tmp_path / "unusual.py").write_text(UNUSUAL)
    (tmp_path / "adding.py").write_text(ADDING.replace("EXPANDED", ""))
    argv = ["--gpu_ids", -1, "--plugin", "unusual.py", "--plugin", "adding.py", "--model", "adding", "--name", "x",
            "--n_epochs", 1, "--n_epochs_decay", 0, "--displays", "console", "--num_threads", 0]  # fmt: skip
    ended = command("train", *argv)
    assert ended.code == 0, ended.err


@pytest.mark.fault(98)
def test_a_buffer_that_repeats_its_values_is_refused(command, tmp_path):
    """A buffer comes from expand(), so no state could be loaded into it: exit 2 before the first step with its name."""
    (tmp_path / "unusual.py").write_text(UNUSUAL)
    (tmp_path / "adding.py").write_text(ADDING.replace("EXPANDED", ".expand(64)"))
    argv = ["--gpu_ids", -1, "--plugin", "unusual.py", "--plugin", "adding.py", "--model", "adding", "--name", "x"]
    ended = command("train", *argv)
    assert ended.code == 2, ended.err
    assert "'grid' repeats values" in ended.last and "add .clone()" in ended.last and "(epoch" not in ended.out
