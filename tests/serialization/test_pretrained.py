"""Weights that were trained elsewhere: their sources, their checksums, and what a run remembers of them."""

import hashlib
import re
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import nn

from networks import known_weights, pretrained
from serialization import pretrained as owner
from tests.support.bad_http_server import status
from tests.support.runs import SMALL
from tests.support.training_runs import DEMO, plugin_files, run_in
from util.errors import CheckpointError, EnvironmentFault, OptionError

JUDGE = '''"""judge: a loss of a frozen network whose weights are in a file."""
from dataclasses import dataclass
from torch import nn
from torch.nn import functional as F
from models.base import BaseModel, Phase
from networks import Frozen, pretrained
from options.fields import option

class Judge(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)

    @dataclass
    class Options:
        judge: str = option("judge.pth", "file of weights of the judge")

    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Conv2d(3, 3, 3, padding=1)
        if o.isTrain or USED:
            net = nn.Conv2d(3, 8, 3)
            net.load_state_dict(pretrained(o.judge))
            self.F = Frozen(net)

    def phases(self):
        return [Phase("G", [self.G], self.loss)]

    def forward(self, batch):
        return {"real_A": batch["A"], "fake_B": self.G(batch["A"]).tanh()} | {"real_B": batch["B"]}

    def loss(self, batch, out):
        return {"features": F.l1_loss(self.F(out["fake_B"]), self.F(batch["B"]))}
'''


def write(path, seed=0):
    """Save the weights of a network; return the file's SHA-256."""
    torch.manual_seed(seed)
    torch.save(nn.Conv2d(3, 8, 3).state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch's cache in an empty folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def known(tmp_path, monkeypatch):
    """A file of weights that is known as vgg19, and its name."""
    file = tmp_path / "vgg.pth"
    digest = write(file)
    monkeypatch.setitem(owner.KNOWN_FILES, "vgg19", f"vgg19-{digest[:8]}.pth")
    return file, f"vgg19-{digest[:8]}.pth"


def flags(**given):
    return SimpleNamespace(**({"vgg_file": "", "download": False} | given))


def test_a_file_is_read_and_its_checksum_compared(tmp_path):
    digest = write(tmp_path / "w.pth")
    owner.files_read()
    weights = pretrained(str(tmp_path / "w.pth"), sha256=digest.upper())
    assert weights.keys() == {"weight", "bias"} and owner.files_read() == {str(tmp_path / "w.pth"): digest}
    with pytest.raises(CheckpointError, match=f"has the SHA-256 {digest}, not the expected 0000") as caught:
        pretrained(tmp_path / "w.pth", sha256="0" * 64)
    assert caught.value.code == 4 and owner.files_read() == {}
    with pytest.raises(CheckpointError):
        pretrained(tmp_path / "missing.pth")


def test_known_files_are_those_of_torchvision():
    for name, file in owner.KNOWN_FILES.items():
        addresses = {weights.url for weights in torchvision.models.get_model_weights(name)}
        assert owner.KNOWN_ADDRESS + file in addresses
    for address in owner.FURTHER_FILES.values():  # their names too end with the beginning of the SHA-256
        assert re.fullmatch(r"https://\S+-[0-9a-f]{8}\.pth", address)


def test_known_weights_come_from_the_flag_then_from_the_cache(cache, known):
    file, name = known
    with pytest.raises(EnvironmentFault) as caught:
        known_weights(flags(), "vgg19", flag="vgg_file", otherwise="--lambda_vgg 0")
    assert caught.value.code == 5 and "\n" not in str(caught.value)
    for way in ("--vgg_file", str(cache / name), "--download", "or do without them: --lambda_vgg 0"):
        assert way in str(caught.value)
    given = known_weights(flags(vgg_file=str(file)), "vgg19", flag="vgg_file")
    cache.mkdir(parents=True)
    file.rename(cache / name)
    found = known_weights(flags(download=True), "vgg19", flag="vgg_file")
    assert all(torch.equal(given[key], found[key]) for key in given)
    write(cache / name, seed=1)
    with pytest.raises(CheckpointError, match="delete it, and give --download"):
        known_weights(flags(), "vgg19")
    with pytest.raises(OptionError, match="did you mean vgg19"):
        known_weights(flags(), "vgg_19x")


def test_known_weights_are_downloaded_to_the_cache_once(cache, known, web, monkeypatch):
    file, name = known
    monkeypatch.setattr(owner, "KNOWN_ADDRESS", web.at("/models/", status(404)))
    web.at(f"/models/{name}", status(200, file.read_bytes()))
    for _ in range(2):
        assert known_weights(flags(download=True), "vgg19").keys() == {"weight", "bias"}
    assert [path for path, _ in web.asked] == [f"/models/{name}"]
    assert [path.name for path in cache.iterdir()] == [name]


@pytest.mark.parametrize("answer", [status(404), status(200, b"<html>"), status(200, b"PK\3\4 another file")])
def test_a_failed_download_leaves_nothing_and_names_other_ways(answer, cache, known, web, monkeypatch):
    monkeypatch.setattr(owner, "KNOWN_ADDRESS", web.at("/models/", answer))
    web.at(f"/models/{known[1]}", answer)
    with pytest.raises(EnvironmentFault, match="give their file with --vgg_file or save http"):
        known_weights(flags(download=True), "vgg19", flag="vgg_file")
    assert not list(cache.glob("*.pth"))


def test_only_replaced_files_are_changes():
    changes = owner.describe_changes
    before = {"a.pth": "1" * 64, "b.pth": "2" * 64}
    assert changes(before, before) == changes(before, {}) == changes({}, before) == ""
    assert changes(before, {"moved/a.pth": "1" * 64}) == ""
    said = "it was trained with b.pth (22222222), not b.pth (33333333) (SHA-256)"
    assert changes(before, before | {"b.pth": "3" * 64}) == said
    networks = {"network F": "4" * 64}
    assert changes(before, before | networks) == changes(before | networks, before) == ""
    assert changes(before | networks, before | {"network G": "4" * 64}) == ""
    assert "network F (55555555)" in changes(before | networks, before | {"network F": "5" * 64})
    assert changes(before | networks, {"b.pth": "3" * 64, "network F": "5" * 64}) == said.replace(
        "b.pth (22222222)", "a.pth (11111111), b.pth (22222222)"
    )


def test_a_run_remembers_its_pretrained_weights(tmp_path):
    """Another file is refused by a resumed run and noted by a test, which needs none if it does not use the network."""
    flags = [*SMALL, *DEMO, "--plugin", "judge.py", "--model", "judge", "--displays", "console"]
    first = write(tmp_path / "judge.pth")[:8]
    with plugin_files(tmp_path, judge=JUDGE.replace("USED", "True")):
        new = run_in(tmp_path, "train", *flags, "--name", "j", "--n_epochs", "1", "--n_epochs_decay", "0")
        assert new.code == 0, new.err
        (tmp_path / "judge.pth").rename(tmp_path / "moved.pth")
        on = ["--name", "j", "--continue_train", "--n_epochs"]
        assert run_in(tmp_path, "train", *on, "2", "--judge", "moved.pth").code == 0
        other = write(tmp_path / "moved.pth", seed=1)[:8]
        change = f"it was trained with moved.pth ({first}), not moved.pth ({other})"
        refused = run_in(tmp_path, "train", *on, "3")
        assert refused.code == 4 and change in refused.last and "--allow_option_change" in refused.last
        tested = run_in(tmp_path, "test", "--name", "j", "--num_test", "1")
        assert tested.code == 0 and f"note: pretrained weights changed: {change}" in tested.out, tested.err
        allowed = run_in(tmp_path, "train", *on, "3", "--allow_option_change")
        assert allowed.code == 0 and f"note: pretrained weights changed: {change}" in allowed.out, allowed.err
        assert "changed" not in run_in(tmp_path, "test", "--name", "j", "--num_test", "1").out
        (tmp_path / "moved.pth").unlink()
        without = run_in(tmp_path, "test", "--name", "j", "--num_test", "1")
        assert without.code == 4 and "moved.pth" in without.last
    with plugin_files(tmp_path, judge=JUDGE.replace("USED", "False")):
        assert run_in(tmp_path, "test", "--name", "j", "--num_test", "1").code == 0
