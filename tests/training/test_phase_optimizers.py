"""Phases that share networks share optimisers, with their learning rates, state and frozen parameters."""

import contextlib
import copy
import re
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import train
from models.base import Phase
from registry.lookup import entries
from tests.support.runs import options
from tests.support.small_models import own_networks
from tests.support.training_runs import DEMO, TRAINABLE, build
from training.phase_optimizers import Optimizers, trainable_parameters
from training.train_state import TrainState
from util.errors import OptionError

FLAGS = SimpleNamespace(lr=0.1, beta1=0.5, beta2=0.999, optimizer="adam", amp="off")


def nets(*names):
    """Linear layers by name."""
    torch.manual_seed(1)
    return SimpleNamespace(**{name: nn.Linear(2, 2) for name in names})


def phase(name, *networks, **more):
    return Phase(name, list(networks), lambda batch, out: {}, **more)


def parameters(optimizer):
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def ids(*networks):
    return {id(p) for net in networks for p in net.parameters()}


def take_a_step(optimizer, *networks):
    """One step with a gradient of ones for these networks and none for others."""
    optimizer.zero_grad(set_to_none=True)
    for net in networks:
        for p in net.parameters():
            p.grad = torch.ones_like(p)
    optimizer.step()


def test_phases_without_a_common_network_share_no_optimiser():
    n = nets("G", "D")
    both = Optimizers([phase("D", n.D), phase("G", n.G)], FLAGS)
    assert both["D"] is not both["G"]
    assert parameters(both["D"]) == ids(n.D) and parameters(both["G"]) == ids(n.G)
    assert len(both.param_groups()) == 2


def test_phases_with_a_common_network_share_one_and_hold_it_once():
    n = nets("G", "D")
    found = Optimizers([phase("D", n.D), phase("R1", n.D, every=16), phase("G", n.G)], FLAGS)
    assert found["D"] is found["R1"] is not found["G"]
    assert parameters(found["D"]) == ids(n.D)
    assert len(found.param_groups()) == 2


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 0, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_sharing_reaches_over_a_third_phase_in_any_order(order):
    """A and C share nothing, but B shares a network with each."""
    n = nets("x", "y", "z", "w")
    phases = [phase("A", n.x, n.y), phase("B", n.y, n.z), phase("C", n.z), phase("D", n.w)]
    found = Optimizers([phases[i] for i in order] + phases[3:], FLAGS)
    assert found["A"] is found["B"] is found["C"] is not found["D"]
    assert parameters(found["A"]) == ids(n.x, n.y, n.z)
    assert len(found.param_groups()) == 4


def test_common_parameters_are_held_once_by_one_optimiser():
    """Two heads on one trunk: the trunk is in both networks."""
    trunk = nn.Linear(2, 2)
    one, two = nn.Sequential(trunk, nn.Linear(2, 1)), nn.Sequential(trunk, nn.Linear(2, 3))
    found = Optimizers([phase("one", one, lr=0.3), phase("two", two, lr=0.7)], FLAGS)
    assert found["one"] is found["two"]
    held = [id(p) for group in found.param_groups() for p in group["params"]]
    assert len(held) == len(set(held)) == 6 and set(held) == ids(one, two)
    rates = {id(p): group["lr"] for group in found.param_groups() for p in group["params"]}
    assert rates[id(trunk.weight)] == 0.3 and rates[id(two[1].weight)] == 0.7


def test_a_phase_sharing_an_optimiser_moves_its_networks_alone():
    n = nets("G", "E")
    found = Optimizers([phase("both", n.G, n.E), phase("one", n.E)], FLAGS)
    take_a_step(found["both"], n.G, n.E)  # so that there is momentum to carry G on
    before = [p.clone() for p in n.G.parameters()]
    was = n.E.weight.clone()
    take_a_step(found["one"], n.E)
    assert all(torch.equal(a, b) for a, b in zip(before, n.G.parameters(), strict=True))
    assert not torch.equal(was, n.E.weight)


def test_two_phases_of_one_name_are_refused():
    """Their losses, optimisers and gates would replace each other."""
    n = nets("G", "D")
    with pytest.raises(OptionError, match="same"):
        Optimizers([phase("same", n.G), phase("same", n.D)], FLAGS)


def test_adam_steps_as_the_paper_says():
    """Two steps by hand, betas (beta1, 0.999), eps 1e-8 (Kingma & Ba 2015, algorithm 1)."""
    net = nn.Linear(1, 1, bias=False).double()
    adam = Optimizers([phase("G", net)], SimpleNamespace(**vars(FLAGS) | {"lr": 0.01}))["G"]
    x, m, v = net.weight.item(), 0.0, 0.0
    for t, gradient in enumerate((3.0, -0.2), 1):
        net.weight.grad = torch.full_like(net.weight, gradient)
        adam.step()
        m, v = 0.5 * m + 0.5 * gradient, 0.999 * v + 0.001 * gradient**2
        x -= 0.01 * (m / (1 - 0.5**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
        assert net.weight.item() == pytest.approx(x, rel=1e-12)


def test_a_phase_may_have_a_learning_rate_of_its_own():
    n = nets("G", "D", "E")
    found = Optimizers([phase("D", n.D, lr=0.4), phase("G", n.G, n.E)], FLAGS)
    rates = {group["name"]: group["lr"] for group in found.param_groups()}
    assert rates == {"D.0": 0.4, "G.0": 0.1, "G.1": 0.1}
    was = {name: getattr(n, name).weight.clone() for name in "GD"}
    take_a_step(found["D"], n.D)
    take_a_step(found["G"], n.G, n.E)
    assert torch.allclose(was["D"] - n.D.weight, torch.tensor(0.4), atol=1e-5)  # Adam's first step is the rate itself
    assert torch.allclose(was["G"] - n.G.weight, torch.tensor(0.1), atol=1e-5)


def test_a_rate_of_zero_is_a_rate():
    n = nets("G")
    (group,) = Optimizers([phase("G", n.G, lr=0.0)], FLAGS).param_groups()
    assert group["lr"] == 0.0


@pytest.mark.parametrize(
    ("first", "second", "at"), [(0.3, 0.7, "0.3"), (None, 0.7, "0.1"), (0.3, 0.1, "0.3"), (0.0, 0.1, "0")]
)
@pytest.mark.parametrize("more", [(), ("y",)])
def test_a_second_rate_of_one_network_is_refused(first, second, at, more):
    """It would have no effect: a network has one optimiser, and there the rate of its first phase."""
    n = nets("x", "y")
    others = [getattr(n, name) for name in more]
    with pytest.raises(OptionError) as caught:
        Optimizers([phase("A", n.x, lr=first), phase("B", n.x, *others, lr=second)], FLAGS)
    why = f"its lr {second:g} has no effect, because phase A trains the same network at {at}"
    assert str(caught.value) == f"phase 'B': {why}; omit it, or give phase A the same lr"
    for rates in ((first, None), (second, second)):  # both remedies
        found = Optimizers([phase("A", n.x, lr=rates[0]), phase("B", n.x, *others, lr=rates[1])], FLAGS)
        held = {id(group["params"][0]): group["lr"] for group in found.param_groups()}
        assert held[id(n.x.weight)] == (0.1 if rates[0] is None else rates[0])


def test_set_lr_is_a_share_of_the_initial_rate_each_time():
    n = nets("G", "D")
    found = Optimizers([phase("D", n.D, lr=0.4), phase("G", n.G)], FLAGS)
    for share in (0.5, 0.25, 0.0, 1.0, 0.5):
        found.set_lr(share)
        assert [group["lr"] for group in found.param_groups()] == [0.4 * share, 0.1 * share]


def test_state_goes_round_and_the_next_step_is_the_same():
    def build():
        n = nets("G", "D")
        return n, Optimizers([phase("D", n.D), phase("R1", n.D, every=2), phase("G", n.G, lr=0.3)], FLAGS)

    n, found = build()
    for name in ("D", "G", "R1"):
        take_a_step(found[name], *([n.G] if name == "G" else [n.D]))
    found.set_lr(0.5)
    state = found.state_dict()
    assert set(state) == {"D", "G"}  # one for each optimiser, under its first phase's name
    m, other = build()
    m.G.load_state_dict(n.G.state_dict())
    m.D.load_state_dict(n.D.state_dict())
    other.load_state_dict(state)
    assert [g["lr"] for g in other.param_groups()] == [0.05, 0.15]
    take_a_step(found["R1"], n.D)
    take_a_step(other["R1"], m.D)
    assert torch.equal(n.D.weight, m.D.weight)
    other.set_lr(1.0)
    assert [g["lr"] for g in other.param_groups()] == [0.1, 0.3]


@pytest.mark.parametrize("layouts", [(0, 1), (1, 0)], ids=["to channels_last", "to contiguous"])
def test_state_goes_over_to_another_memory_layout(layouts):
    """The fused kernel reads weights, gradients and moments in the order in which they lie in memory."""
    formats, ended, state = (torch.contiguous_format, torch.channels_last), [], {}
    for second in (layouts[0], layouts[1]):
        torch.manual_seed(0)
        net = nn.Conv2d(3, 4, 3)
        for part, layout in enumerate((layouts[0], second)):
            net.to(memory_format=formats[layout])
            optimizers = Optimizers([Phase("G", [net], lambda: None)], options())
            if part:
                optimizers.load_state_dict(state)
            for number in range(2):
                net.weight.grad = torch.linspace(-1, 1, 108).view(4, 3, 3, 3).pow(1 + number)
                net.weight.grad = net.weight.grad.contiguous(memory_format=formats[layout])
                net.bias.grad = torch.ones(4)
                optimizers.step("G")
            state = copy.deepcopy(optimizers.state_dict())
        ended.append(net.weight.detach().clone(memory_format=torch.contiguous_format))
    assert torch.equal(*ended)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("layouts", [(0, 1), (1, 0), (1, 1)], ids=["contiguous", "channels_last", "equal"])
def test_gradients_may_lie_in_another_order_than_weights(layouts, name):
    """(layout of the weight, of its gradient); torch's fused kernels would silently take one for the other."""
    formats, ended = (torch.contiguous_format, torch.channels_last), []
    for of_weight, of_gradient in ((0, 0), layouts):
        torch.manual_seed(0)
        net = nn.Conv2d(3, 4, 3).to(memory_format=formats[of_weight])
        optimizers = Optimizers([Phase("G", [net], lambda: None)], options("--optimizer", name))
        for number in range(3):
            gradient = torch.linspace(-1, 1, 108).view(4, 3, 3, 3).pow(1 + number)
            net.weight.grad = gradient.contiguous(memory_format=formats[of_gradient])
            net.bias.grad = torch.ones(4)
            optimizers.step("G")
        assert net.weight.is_contiguous(memory_format=formats[of_weight])
        ended.append(net.weight.detach().clone(memory_format=torch.contiguous_format))
    assert torch.equal(*ended)


def test_state_of_other_phases_is_refused():
    n = nets("G", "D")
    state = Optimizers([phase("D", n.D), phase("G", n.G)], FLAGS).state_dict()
    with pytest.raises(KeyError):
        Optimizers([phase("C", n.D), phase("G", n.G)], FLAGS).load_state_dict(state)
    with pytest.raises(ValueError, match="group"):
        Optimizers([phase("D", n.D), phase("G", n.G, nn.Linear(2, 2))], FLAGS).load_state_dict(state)


def test_frozen_parameters_are_neither_optimised_nor_ever_opened():
    n = nets("G", "D")
    n.G.weight.requires_grad_(False)
    phases = [phase("D", n.D), phase("G", n.G)]
    state = TrainState(None, phases, Optimizers(phases, FLAGS))
    assert parameters(state.optimizers["G"]) == {id(n.G.bias)}
    for each in phases:
        with state.only_trainable(each):
            assert not n.G.weight.requires_grad
        assert not n.G.weight.requires_grad
    assert n.G.bias.requires_grad
    assert [p is n.G.bias for p in trainable_parameters(n.G)] == [True]


def test_only_a_phases_networks_are_trainable_in_its_block():
    n = nets("G", "D", "E")
    phases = [phase("D", n.D), phase("G", n.G, n.E), phase("R1", n.D, every=4)]
    state = TrainState(None, phases, Optimizers(phases, FLAGS))

    def opened():
        return {name for name in "GDE" if all(p.requires_grad for p in getattr(n, name).parameters())}

    def shut():
        return {name for name in "GDE" if not any(p.requires_grad for p in getattr(n, name).parameters())}

    assert (opened(), shut()) == ({"G", "D", "E"}, set())
    for each, expected in zip(phases, ({"D"}, {"G", "E"}, {"D"}), strict=True):
        with contextlib.suppress(ZeroDivisionError), state.only_trainable(each):
            assert (opened(), shut()) == (expected, {"G", "D", "E"} - expected)
            raise ZeroDivisionError
        assert opened() == {"G", "D", "E"}  # after an error too


def test_a_loss_reaches_no_network_of_another_phase():
    """The generator's loss goes through D and leaves it without a gradient."""
    n = nets("G", "D")
    phases = [phase("D", n.D), phase("G", n.G)]
    fake = n.G(torch.ones(1, 2))
    with TrainState(None, phases, Optimizers(phases, FLAGS)).only_trainable(phases[1]):
        n.D(fake).sum().backward()
    assert n.G.weight.grad is not None and n.D.weight.grad is None


# --- optimisers, betas and rates of phases and networks

KINDS = [entry.name for entry in entries("optimizer")]


def flags(**more):
    return SimpleNamespace(**vars(FLAGS) | more)


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimiser_lowers_a_loss(kind):
    net = nn.Linear(2, 2)
    optimizer = Optimizers([phase("G", net)], flags(optimizer=kind, lr=0.01))["G"]
    losses = []
    for _ in range(50):
        optimizer.zero_grad()
        losses.append(net(torch.eye(2)).square().sum())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


SETTINGS = {  # of --beta1 0.3 and --beta2 0.8
    "adam": {"betas": (0.3, 0.8)},
    "adamw": {"betas": (0.3, 0.8), "weight_decay": 0.01},
    "rmsprop": {"alpha": 0.8, "momentum": 0},
    "sgd": {"momentum": 0.3, "weight_decay": 0},
    "radam": {"betas": (0.3, 0.8)},
    "adafactor": {"beta2_decay": -0.8},
}


@pytest.mark.parametrize("kind", KINDS)
def test_betas_become_the_settings_of_the_optimiser(kind):
    found = Optimizers([phase("G", nn.Linear(2, 2))], flags(optimizer=kind, beta1=0.3, beta2=0.8))
    (group,) = found.param_groups()
    assert {name: group[name] for name in SETTINGS[kind]} == SETTINGS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_of_every_optimiser_goes_round(kind):
    def build():
        torch.manual_seed(1)
        net = nn.Conv2d(2, 3, 2)
        return net, Optimizers([phase("G", net)], flags(optimizer=kind))

    (net, found), (twin, other) = build(), build()
    for _ in range(2):
        take_a_step(found["G"], net)
    twin.load_state_dict(net.state_dict())
    assert other.load_state_dict(copy.deepcopy(found.state_dict())) == []
    take_a_step(found["G"], net)
    take_a_step(other["G"], twin)
    assert torch.equal(net.weight, twin.weight) and torch.equal(net.bias, twin.bias)


class Counting(torch.optim.SGD):
    """An optimiser of a plug-in that keeps its state in its groups, as schedule-free ones do."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["k"] = group.get("k", 0) + 1
        return super().step(closure)


def test_state_in_the_groups_of_an_optimiser_goes_round_too():
    n = nets("G")
    was, now = (Optimizers([phase("G", n.G, optimizer=Counting, lr=lr)], FLAGS) for lr in (0.1, 0.2))
    for _ in range(3):
        take_a_step(was["G"], n.G)
    assert now.load_state_dict(was.state_dict()) == []
    (group,) = now.param_groups()
    assert (group["k"], group["base_lr"]) == (3, 0.2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["absent", "longer", "a number"])
def test_a_damaged_state_of_every_optimiser_is_refused(kind, damage):
    net = nn.Conv2d(2, 3, 2)
    found = Optimizers([phase("G", net)], flags(optimizer=kind))
    take_a_step(found["G"], net)
    state = copy.deepcopy(found.state_dict())
    kept = state["G"]["state"][0]
    names = [name for name, value in kept.items() if torch.is_tensor(value)]
    if damage == "a number":
        names = [name for name in names if name != "step"]  # torch makes a tensor of it
    for name in names if damage != "absent" or len(names) > 1 else ():  # no state at all: no step yet
        damaged = kept | {name: 1.0 if damage == "a number" else torch.zeros(4, 4)}
        if damage == "absent":
            damaged.pop(name)
        state["G"]["state"][0] = damaged
        with pytest.raises((ValueError, KeyError), match=r"an optimiser|step"):
            found.load_state_dict(state)


def test_another_optimiser_than_the_saved_one_starts_afresh():
    n = nets("G", "D")
    was = Optimizers([phase("D", n.D), phase("G", n.G)], FLAGS)
    take_a_step(was["D"], n.D)
    take_a_step(was["G"], n.G)
    now = Optimizers([phase("D", n.D, optimizer="RAdam"), phase("G", n.G)], FLAGS)
    assert now.load_state_dict(was.state_dict()) == [
        "note: the optimiser of phase D starts afresh: the saved one is adam, this is radam"
    ]
    assert not now["D"].state and len(now["G"].state) == 2
    state = was.state_dict()
    for group in state["D"]["param_groups"]:
        group.pop("optimizer")  # as it was saved before there were others
    assert len(now.load_state_dict(state)) == 1 and was.load_state_dict(state) == []


def test_a_partial_optimiser_is_named_for_its_function():
    decaying = partial(partial(torch.optim.RMSprop, alpha=0.9), weight_decay=0.1)
    n, name = nets("G"), "G"
    for optimizer, saved_name, loads in (
        (decaying, "RMSprop", True), (torch.optim.RMSprop, "RMSprop", True), (decaying, "partial", True),
        (torch.optim.RMSprop, "partial", False), (decaying, "Adam", False),
    ):  # fmt: skip
        optimizers = Optimizers([phase(name, n.G, optimizer=optimizer)], FLAGS)
        assert optimizers.kinds[name].name == "RMSprop"
        take_a_step(optimizers[name], n.G)
        state = optimizers.state_dict()
        state[name]["param_groups"][0]["optimizer"] = saved_name
        notes = optimizers.load_state_dict(state)
        assert (not notes, bool(optimizers[name].state)) == (loads, loads)
    assert "the saved one is Adam, this is RMSprop" in notes[0]


def test_a_network_may_have_a_learning_rate_of_its_own():
    n = nets("x", "y", "z")
    one = phase("G", (n.x, 0.3), n.y, (n.z, 0.0), lr=0.2)
    assert one.nets == [n.x, n.y, n.z]
    for each in (one, copy.copy(one), copy.deepcopy(one), replace(one, weight=2.0)):  # a phase is copied with its rates
        found = Optimizers([each], FLAGS)
        assert [group["lr"] for group in found.param_groups()] == [0.3, 0.2, 0.0]
    found.set_lr(0.5)
    assert [group["lr"] for group in found.param_groups()] == [0.15, 0.1, 0.0]
    one.nets.append(nn.Linear(1, 1))  # as a model's subclass may do
    assert one.rates == [0.3, 0.2, 0.0, 0.2]


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ({"rate": 0.3}, {"rate": 0.7}, "its lr 0.7 has no effect, because phase A trains the same network at 0.3"),
        ({"betas": (0.0, 0.9)}, {"betas": (0.5, 0.9)}, "its betas (0.5, 0.9) have no effect"),
        ({}, {"betas": (0.5, 0.9)}, "trains the same network at (0.5, 0.999)"),
        (
            {"optimizer": "sgd"},
            {"optimizer": "adam"},
            "its optimizer adam has no effect: it shares that of phase A, sgd",
        ),
        ({}, {"optimizer": "sgd"}, "its optimizer sgd has no effect"),
    ],
)
def test_contradictions_about_one_network_are_refused(first, second, why):
    """The advice of each error works: without the second setting, or with that of the first phase."""
    n = nets("x")

    def build(*settings):
        made = []
        for name, setting in zip("AB", settings, strict=True):
            more = dict(setting)
            rate = more.pop("rate", None)
            made.append(phase(name, n.x if rate is None else (n.x, rate), **more))
        return Optimizers(made, FLAGS)

    with pytest.raises(OptionError) as caught:
        build(first, second)
    assert why in str(caught.value) and str(caught.value).startswith("phase 'B'")
    for settings in ((first, {}), (second, second), (first, first)):
        build(*settings)


def test_phases_have_betas_and_optimisers_of_their_own():
    n = nets("D", "G", "E")
    phases = [phase("D", n.D, betas=[0, 0.9]), phase("G", n.G, optimizer=torch.optim.NAdam), phase("E", n.E)]
    found = Optimizers(phases, FLAGS)
    assert found["D"].param_groups[0]["betas"] == (0.0, 0.9)
    assert type(found["G"]) is torch.optim.NAdam and found["G"].param_groups[0]["betas"] == (0.5, 0.999)
    assert isinstance(found["E"], torch.optim.Adam)


def test_an_optimiser_without_betas_keeps_its_own():
    def own(params, lr):
        return torch.optim.Adam(params, lr, betas=(0.1, 0.2))

    found = Optimizers([phase("G", nets("G").G, optimizer=own)], FLAGS)
    assert found.param_groups()[0]["betas"] == (0.1, 0.2)


def test_lazy_phases_correct_rate_and_betas_as_stylegan2():
    """D runs in every step and R1 in every 16th: c = 16/17; with a phase at every 4th step too, 1 / (1 + 5/16)."""
    n = nets("G", "D", "E")
    phases = [phase("D", n.D), phase("R1", n.D, every=16, lazy_correction=True), phase("G", n.G, n.E)]
    rates = {group["name"]: group for group in Optimizers(phases, FLAGS).param_groups()}
    assert rates["D.0"]["lr"] == rates["D.0"]["base_lr"] == pytest.approx(0.1 * 16 / 17)
    assert rates["D.0"]["betas"] == pytest.approx((0.5 ** (16 / 17), 0.999 ** (16 / 17)))
    assert rates["G.0"]["lr"] == 0.1 and rates["G.0"]["betas"] == (0.5, 0.999)
    phases.append(phase("more", n.D, every=4, lazy_correction=True))
    assert Optimizers(phases, FLAGS)["D"].param_groups[0]["lr"] == pytest.approx(0.1 / (1 + 5 / 16))
    plain = [phase("D", n.D), phase("R1", n.D, every=16)]  # only on request
    assert Optimizers(plain, FLAGS).param_groups()[0]["lr"] == 0.1


def test_a_lazy_correction_of_nothing_is_refused():
    n = nets("D", "E")
    with pytest.raises(OptionError, match="its lazy_correction corrects nothing"):
        Optimizers([phase("D", n.D), phase("E", n.E, every=2, lazy_correction=True)], FLAGS)
    with pytest.raises(ValueError, match="every is 1"):
        phase("D", n.D, lazy_correction=True)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"betas": 0.5}, "betas is 0.5"),
        ({"betas": (0.5, 1.0)}, "betas is (0.5, 1.0)"),
        ({"optimizer": torch.optim.Adam([nn.Parameter(torch.ones(1))])}, "optimizer is a Adam"),
        ({"nets": [(nn.Linear(1, 1), -1.0)]}, "the lr of Linear is -1.0"),
        ({"nets": [(nn.Linear(1, 1), "1")]}, "the lr of Linear is '1'"),
        ({"nets": (nn.Linear(1, 1), 1e-4)}, "or (network, learning rate)"),
        ({"nets": [(nn.Linear(1, 1), 1, 1)]}, "or (network, learning rate)"),
    ],
)
def test_wrong_settings_of_a_phase_are_named(settings, why):
    with pytest.raises((TypeError, ValueError), match="Phase 'G': .*" + re.escape(why)):
        Phase(**{"name": "G", "nets": [nn.Linear(1, 1)], "loss": print} | settings)


def test_an_optimiser_that_cannot_be_called_is_refused():
    with pytest.raises(OptionError, match=r"<lambda>'\(params\) cannot be called as \(params, lr\)"):
        Optimizers([phase("G", nets("G").G, optimizer=lambda params: None)], FLAGS)


def test_an_unknown_optimiser_of_a_phase_is_named():
    with pytest.raises(OptionError, match=r"optimizer of phase G.*there is no optimizer 'adem'; did you mean adam"):
        Optimizers([phase("G", nets("G").G, optimizer="adem")], FLAGS)


def test_flags_that_no_network_is_trained_with_are_told():
    n, given = nets("G", "D"), {"lr", "beta1", "beta2", "optimizer"}

    def unused(*phases, **more):
        return [note.split()[1] for note in Optimizers(list(phases), flags(**more)).unused_settings(given)]

    own = {"betas": (0.0, 0.9), "optimizer": "adam"}
    phases = [phase("D", n.D, lr=0.1, **own), phase("R1", n.D, every=2), phase("G", (n.G, 0.2), **own)]
    assert unused(*phases) == ["--lr", "--beta1", "--beta2", "--optimizer"]
    assert unused(phases[0], phase("G", n.G)) == []
    found = {kind: unused(phase("G", n.G), optimizer=kind) for kind in KINDS}
    assert {kind: names for kind, names in found.items() if names} == {
        "rmsprop": ["--beta1"], "sgd": ["--beta2"], "adafactor": ["--beta1", "--beta2"]}  # fmt: skip


def test_betas_that_the_optimiser_does_not_take_are_told():
    n = nets("G", "D")
    for kind in KINDS:
        phases = [phase("G", n.G, betas=(0.0, 0.9)), phase("D", n.D, betas=(0.0, 0.9), optimizer="adam")]
        told = Optimizers(phases, flags(optimizer=kind)).unused_settings(set())
        assert told == ["note: the betas of phase G have no effect: its optimizer adafactor takes none"] * (
            kind == "adafactor"
        )


# --- the step that uses them


def steps(phases, count=1):
    """The losses of so many training steps on one batch."""
    state = TrainState(lambda batch: {"x": batch["A"]}, phases, Optimizers(phases, FLAGS))
    return [train.train_step(state, {"A": torch.ones(1, 2)}, state.now(step))[1] for step in range(count)]


def test_a_phase_runs_every_so_many_steps():
    n = nets("G", "D")

    def loss(net):
        return lambda batch, out: {"loss": net(out["x"]).square().mean()}

    phases = [Phase("G", [n.G], loss(n.G)), Phase("R1", [n.D], loss(n.D), every=3)]
    ran = [set(losses) for losses in steps(phases, 7)]
    assert [("R1" in names) for names in ran] == [True, False, False, True, False, False, True]
    assert all("G" in names for names in ran)


def test_the_weight_scales_the_minimised_loss_not_the_log():
    """The gradient of 0.5 (a + 2 a) is 1.5 da; the terms are reported as they are."""
    n = nets("G")
    phases = [
        Phase("G", [n.G], lambda batch, out: {"one": n.G(out["x"]).sum(), "two": 2 * n.G(out["x"]).sum()}, weight=0.5)
    ]
    slopes = []
    n.G.bias.register_hook(slopes.append)
    losses = steps(phases)[0]["G"]
    assert losses["two"].item() == pytest.approx(2 * losses["one"].item())
    assert torch.allclose(slopes[0], torch.tensor(1.5))


@pytest.mark.parametrize("name", TRAINABLE)
def test_every_model_optimises_each_of_its_parameters_once(name):
    _, model = build(options(*DEMO, "--model", name, "--netG", "resnet_4blocks", *own_networks(name)))
    found = Optimizers(model.phases(), FLAGS)
    held = [id(p) for group in found.param_groups() for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters() if p.requires_grad}
