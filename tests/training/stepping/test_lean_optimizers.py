"""Optimisers without torch's compiler compute what torch's own compute, bit for bit, and keep its ways."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from training.stepping.lean_optimizers import lean

KINDS = {
    "Adam": {"fused": True, "betas": (0.5, 0.99)},
    "AdamW": {"fused": True},
    "SGD": {"fused": True, "momentum": 0.9},
    "RMSprop": {},
    "RAdam": {},
    "Adafactor": {},
}
UNUSUAL = [{"amsgrad": True}, {"maximize": True}, {"weight_decay": 0.1}, {"lr": torch.tensor(1e-2)}, {"fused": False}]


def small_network(dtypes=(torch.float32, torch.float32)):
    torch.manual_seed(0)
    return nn.ModuleList(nn.Conv2d(3, 5, 3, dtype=dtype) for dtype in dtypes)


def train(optimizer, nets, steps, idle=None):
    """Take steps on seeded gradients; at step `idle` the second network has none."""
    for step in range(steps):
        torch.manual_seed(100 + step)
        for number, net in enumerate(nets):
            for p in net.parameters():
                p.grad = None if number and step == idle else torch.randn_like(p)
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * 0.9
        optimizer.step()


def both(kind, settings, dtypes=(torch.float32, torch.float32)):
    """Return (optimiser, its networks) for torch's class and for the lean one."""
    made = []
    for cls in (getattr(torch.optim, kind), lean(getattr(torch.optim, kind))):
        nets = small_network(dtypes)
        groups = [{"params": list(net.parameters())} for net in nets]
        made.append((cls(groups, **{"lr": 1e-2, **copy.deepcopy(settings)}), nets))
    return made


def assert_equal_states(one, other):
    for p, q in zip(one[1].parameters(), other[1].parameters(), strict=True):
        assert torch.equal(p, q)
        for name, value in one[0].state[p].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other[0].state[q][name])), name


@pytest.mark.parametrize(
    ("kind", "settings"),
    [*KINDS.items(), *(("Adam", KINDS["Adam"] | more) for more in UNUSUAL)],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_steps_have_the_bits_of_torchs(kind, settings):
    theirs, ours = both(kind, settings)
    for optimizer, nets in (theirs, ours):
        train(optimizer, nets, 4, idle=2)
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        optimizer.zero_grad()
        assert all(p.grad is None for p in nets.parameters())
        train(optimizer, nets, 2)
        optimizer.zero_grad(set_to_none=False)
        assert not any(p.grad.any() for p in nets.parameters())
        optimizer.state.clear()
        train(optimizer, nets, 2, idle=0)
    assert_equal_states(theirs, ours)
    assert str(theirs[0].state_dict().keys()) == str(ours[0].state_dict().keys())


def test_a_group_of_several_dtypes_steps_as_torchs():
    made = []
    for cls in (torch.optim.Adam, lean(torch.optim.Adam)):
        nets = small_network((torch.float32, torch.float64))
        made.append((cls(nets.parameters(), lr=1e-2, fused=True), nets))
        train(*made[-1], 3)
    assert_equal_states(*made)


def test_a_gradient_scaler_is_obeyed():
    theirs, ours = both("Adam", KINDS["Adam"])
    for optimizer, nets in (theirs, ours):
        train(optimizer, nets, 1)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(0.0)
        train(optimizer, nets, 1)
        optimizer.found_inf = torch.tensor(1.0)
        train(optimizer, nets, 1)
    assert_equal_states(theirs, ours)


def test_hooks_closures_and_copies_work():
    _, (optimizer, nets) = both("Adam", KINDS["Adam"])
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    train(optimizer, nets, 2)
    assert calls == ["before", "after"] * 2
    for_all = register_optimizer_step_pre_hook(lambda *_: calls.append("all"))
    train(optimizer, nets, 1)
    for_all.remove()
    assert calls[4:] == ["all", "before", "after"]
    assert optimizer.step(lambda: 7) == 7
    twin = copy.deepcopy(optimizer)
    assert type(twin) is type(optimizer) and isinstance(twin, torch.optim.Adam)
