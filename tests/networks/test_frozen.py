"""Frozen networks never change and are saved nowhere; `without` keeps gradients from parameters."""

import copy

import pytest
import torch
from torch import nn

from models.base import BaseModel, Phase
from networks import Frozen, initialised, without
from networks.frozen import frozen_digests, without_frozen
from networks.runtime.grad_checkpoint import checkpoint_activations
from registry.contract import check_networks, check_phases
from serialization.own_state import IdleNetworks, own_state
from tests.support.runs import SMALL, options
from tests.support.training_runs import DEMO, plugin_files, run_in, weights
from training.phase_optimizers import inference_networks
from util.errors import OptionError

IMAGE = torch.randn(2, 3, 8, 8)
JUDGE = '''"""judge: a frozen network with batch norm and dropout compares images."""
import torch
from torch import nn
from torch.nn import functional as F
from models.base import BaseModel, Phase
from networks import Frozen

class Judge(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Conv2d(3, 3, 3, padding=1)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Conv2d(8, 8, 3))
        self.F = FROZEN

    def phases(self):
        return [Phase("G", [self.G], self.loss)]

    def forward(self, batch):
        out = {"real_A": batch["A"], "fake_B": self.G(batch["A"]).tanh()}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss(self, batch, out):
        return {"features": F.l1_loss(self.F(out["fake_B"]), self.F(batch["B"]))}
'''


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 1, 3))


class Model(BaseModel):
    def __init__(self, frozen=True, phase=()):
        super().__init__()
        self.G, self.phase = nn.Conv2d(3, 3, 1), phase
        self.F = Frozen(network()) if frozen else network().requires_grad_(False)

    def phases(self):
        return [Phase("G", [self.G, *(getattr(self, n) for n in self.phase)], self.loss)]

    def loss(self, batch, out):
        return {}


def test_a_frozen_network_stays_in_evaluation_without_gradients():
    model = Model().train()
    model.requires_grad_(True)
    model.F.train().requires_grad_(True)
    before, x = copy.deepcopy(dict(model.F.named_buffers())), IMAGE.clone().requires_grad_()
    assert torch.equal(model.F(x), model.F(x)), "dropout draws nothing"
    model.F(x).sum().backward()
    assert x.grad.any() and not any(part.training for part in model.F.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.F.named_buffers())
    assert Frozen(network())(x).requires_grad


def test_a_frozen_network_is_saved_nowhere_and_moves_along():
    model = Model()
    assert {key.partition(".")[0] for key in model.state_dict()} == {"G"} and model.F.state_dict() == {}
    values = copy.deepcopy(model.F.net.state_dict())
    model.load_state_dict(Model().state_dict())
    assert all(torch.equal(value, values[key]) for key, value in model.F.net.state_dict().items())
    idle = IdleNetworks(model.networks())
    with torch.no_grad():
        model.F.net[0].weight += 1
    assert idle.changed() == {} and own_state(model, ["G"]) == {}
    assert {p.dtype for p in model.double().F.parameters()} == {torch.float64}
    assert inference_networks(Model()).keys() == {"G"}


def test_a_copy_of_a_frozen_network_is_frozen_and_its_own():
    model = Model()
    twin = copy.deepcopy(model).train()
    assert isinstance(twin.F, Frozen) and not twin.F.net[1].training and twin.F.net[0] is not model.F.net[0]
    assert torch.equal(twin.F(IMAGE), model.F(IMAGE))


def test_methods_of_the_network_are_reached_through_frozen():
    class Coder(nn.Conv2d):
        def encode(self, x):
            return self(x).relu()

    frozen = Frozen(Coder(3, 2, 1))
    assert torch.equal(frozen.encode(IMAGE), frozen(IMAGE).relu()) and frozen.in_channels == 3
    with pytest.raises(AttributeError):
        frozen.decode(IMAGE)


def test_initialisation_leaves_frozen_weights_alone():
    model = Model()
    before, other = model.F.net[0].weight.clone(), model.G.weight.clone()
    initialised(model, options())
    assert torch.equal(model.F.net[0].weight, before) and not torch.equal(model.G.weight, other)


def test_the_contract_names_frozen_where_it_is_missing():
    model = Model(frozen=False)
    (note,) = check_networks(model, "m", model.phases())
    assert "network F requires no gradients, but runs in training mode and is part of every state" in note
    assert "Frozen(...), from networks import Frozen" in note
    model.F.eval()
    assert "training mode" not in check_networks(model, "m", model.phases())[0]
    model = Model()
    assert check_networks(model, "m", model.phases()) == []
    with pytest.raises(OptionError, match="phase G names a Frozen network"):
        check_phases(Model(phase=["F"]), "m")


def test_a_state_from_before_a_network_was_frozen_loads():
    before, model = Model(frozen=False), Model()
    state = without_frozen(model, before.state_dict())
    assert state.keys() == model.state_dict().keys()
    assert without_frozen(before, before.state_dict()).keys() == before.state_dict().keys()


def test_a_run_with_a_frozen_network_resumes_and_is_tested(tmp_path):
    """Also one that began before the network was Frozen, which is what the note advises."""
    flags = [*SMALL, *DEMO, "--plugin", "judge.py", "--model", "judge", "--displays", "console"]
    with plugin_files(tmp_path, judge=JUDGE.replace("FROZEN", "net.requires_grad_(False)")):
        first = run_in(tmp_path, "train", *flags, "--name", "old", "--n_epochs", "1", "--n_epochs_decay", "0")
        assert first.code == 0 and "Frozen" in first.out, first.err
    with plugin_files(tmp_path, judge=JUDGE.replace("FROZEN", "Frozen(net)")):
        on = run_in(tmp_path, "train", "--name", "old", "--continue_train", "--n_epochs", "2")
        assert on.code == 0 and "Frozen" not in on.out, on.err
        new = run_in(tmp_path, "train", *flags, "--name", "new", "--n_epochs", "2", "--n_epochs_decay", "0")
        half = run_in(tmp_path, "train", *flags, "--name", "half", "--n_epochs", "1", "--n_epochs_decay", "0")
        more = run_in(tmp_path, "train", "--name", "half", "--continue_train", "--n_epochs", "2")
        assert (new.code, half.code, more.code) == (0, 0, 0), new.err + half.err + more.err
        one, other = (weights(tmp_path / "checkpoints" / name) for name in ("new", "half"))
        assert one.keys() == other.keys() == {"G"}
        assert all(torch.equal(value, other["G"][key]) for key, value in one["G"].items())
        tested = run_in(tmp_path, "test", "--name", "new", "--num_test", "2")
        assert tested.code == 0 and "note:" not in tested.out, tested.err + tested.out
        # Its random weights depend on the seed, and no state holds them.
        change = "pretrained weights changed: it was trained with network F ("
        other = run_in(tmp_path, "test", "--name", "new", "--num_test", "2", "--seed", "1")
        assert other.code == 0 and f"note: {change}" in other.out, other.err + other.out
        on = ["--name", "half", "--continue_train", "--n_epochs", "3", "--seed", "1"]
        refused = run_in(tmp_path, "train", *on)
        assert refused.code == 4 and change in refused.last and "--seed" in refused.last, refused.err
        assert run_in(tmp_path, "train", *on, "--allow_option_change").code == 0


def test_a_frozen_networks_digest_is_that_of_its_values():
    model = Model()
    (name, digest), *more = frozen_digests(model).items()
    assert (name, more) == ("network F", []) and frozen_digests(nn.Sequential(model.G)) == {}
    assert frozen_digests(copy.deepcopy(model)) == {name: digest}
    model.F.net[1].num_batches_tracked += 1
    assert frozen_digests(model) != {name: digest}


@pytest.mark.parametrize("again", [False, True])
def test_without_keeps_gradients_from_parameters_only(again):
    """Also where the backward pass, after the block, computes activations again."""
    E, D = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    D[0].bias.requires_grad_(False)
    if again:
        checkpoint_activations(E), checkpoint_activations(D)
    x = torch.ones(1, 2, requires_grad=True)
    z = E(x)
    with without(D, nn.Linear(1, 1)):
        loss = D(z).sum()
    loss.backward()
    assert x.grad.any() and all(p.grad is not None for p in E.parameters())
    assert all(p.grad is None for p in D.parameters())
    assert (D[0].weight.requires_grad, D[0].bias.requires_grad) == (True, False)
