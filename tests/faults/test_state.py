"""Every value of a run's state matters: a run continued without it ends differently or is refused."""

import copy
import operator
import random
import re
import shutil
from functools import partial

import numpy as np
import pytest
import torch

from tests.support.resuming import copied, differences, newest, plugins, stopped, straight, unequal
from tests.support.training_runs import weights

__all__ = ["copied", "plugins", "stopped", "straight"]  # fixtures


def mutate_optimizers(state):
    state["optimizers"] = {name: {**kept, "state": {}} for name, kept in state["optimizers"].items()}


def mutate_one_moment(state):
    next(iter(state["optimizers"].values()))["state"][0]["exp_avg"].zero_()


def mutate_weights(state):
    next(t for t in state["model"].values() if isinstance(t, torch.Tensor) and t.dim() == 4).view(-1)[0] += 1e-3


def mutate_torch_generator(state):
    state["generators"]["torch"] = torch.Generator().manual_seed(77).get_state()


def mutate_random(state):
    state["generators"]["random"] = random.Random(77).getstate()


def mutate_numpy(state):
    state["generators"]["numpy"][1][:] = torch.from_numpy(np.random.RandomState(77).get_state()[1].astype(np.int64))


def mutate_extra_state(state):
    kept = [value for key, value in state["model"].items() if key.endswith("_extra_state")]
    assert kept
    for value in kept:
        value.update({"images": []} if "images" in value else {"count": 0})


def mutate_seen(state):
    state["position"]["seen"] -= 2


def mutate_epoch(state):
    state["position"]["epoch"] -= 1


def mutate_step(state):
    state["position"]["step"] -= 1


def mutate_samples(state):
    state["position"]["samples"] += 1


def mutate_means(state):
    state["means"]["sums"], state["means"]["counts"] = {}, {}


def mutate_latest(state):
    state["means"]["latest"] = dict.fromkeys(state["means"]["latest"], 0.0)


def mutate_history(state):
    state["history"] = []


MUTATIONS = [
    *(
        (m, "pix2pix")
        for m in (
            mutate_optimizers,
            mutate_one_moment,
            mutate_weights,
            mutate_torch_generator,
            mutate_extra_state,
            mutate_seen,
            mutate_epoch,
            mutate_step,
            mutate_samples,
            mutate_means,
            mutate_history,
        )
    ),
    *((m, "noisy") for m in (mutate_random, mutate_numpy, mutate_torch_generator, mutate_extra_state, mutate_latest)),
]


@pytest.mark.fault(64)
@pytest.mark.parametrize(("mutate", "model"), MUTATIONS, ids=lambda x: x if isinstance(x, str) else x.__name__[7:])
def test_a_changed_state_ends_otherwise(command, straight, copied, mutate, model):
    """Each kind of state is emptied or changed by hand before continuing: the run ends differently from an
    uninterrupted one.
    """
    folder = copied(model)
    state = torch.load(newest(folder), weights_only=True)
    mutate(state)
    torch.save(state, newest(folder))
    ended = command("train", "--name", "run", "--continue_train")
    assert ended.code == 0, ended.err
    assert differences(straight(model), folder) != []
    if model == "noisy":  # which draws from all generators: here it is not only the final state that differs
        assert unequal(weights(folder), weights(straight(model)), "weights") or mutate is mutate_latest


PIECES = ["model", "optimizers", "position", "means", "history", "generators", "classes", "options"]


@pytest.mark.fault(64)
@pytest.mark.parametrize("piece", PIECES)
def test_a_state_that_lacks_a_piece_is_refused(command, copied, piece):
    """A state lacks one of its parts: exit 4; no run continues without it."""
    folder = copied("pix2pix")
    for path in folder.glob("state_*.pt"):
        state = torch.load(path, weights_only=True)
        assert set(state) == {*PIECES, "inventory", "exports", "format"}  # states of before there were these are taken
        del state[piece]
        torch.save(state, path)
    ended = command("train", "--name", "run", "--continue_train")
    assert ended.code == 4, ended.err
    assert ended.last.startswith("error: ") and "Traceback" not in ended.err


# --- the same for every place in the state, whatever it will hold one day

# places where a change cannot matter, and why
NO_MATTER = {
    r"format\b.*": "what this version reads or not",
    r"position\.(seconds|data_seconds)": "clock times, only shown",
    r"position\.(batch|epoch_size|last_epoch)": "set anew before they are read",
    r"optimizers\.\w+\.param_groups\.N\.(?!params).*": "rates, momenta and the like are options: today's count",
    r"exports(\.N)?": "weights are written again only where a kill left them out",
    r"generators\.cuda.*": "there is no such device",
    r"means\.phase_of\..*": "written again by the next step of the phase",
    r"means\.latest\..*": "likewise; of a phase that rests, mutate_latest shows that it counts",
    r"means\.no_gradient(\..*)?": "empty here; older states have none, tests/training/test_loss_meter.py",
    r"inventory\.samples": "files are known by name and size",
    r"options\.isTrain": "not a flag",
}
MOMENTARY = {"epoch", "load_iter", "verbose", "config", "debug", "continue_train", "overwrite", "allow_data_change",
             "allow_option_change", "dry_run", "download"}  # fmt: skip


def places(thing, path=()):
    """Yield (path, value) of every place in nested containers, containers too."""
    items = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, (list, tuple)) else ()
    for key, value in items:
        yield (*path, key), value
        yield from places(value, (*path, key))


def kind(path):
    """A place as a text, with all numbers and names of layers alike: one of a kind is tried in the short form."""
    return re.sub(r"\b\d+\b", "N", ".".join(str(part) for part in path))


def edited(thing, path, edit):
    """A copy of nested containers with edit(container as dict or list, key) done to the one that holds the path."""
    key, *rest = path
    mutable = dict(thing) if isinstance(thing, dict) else list(thing)
    if rest:
        mutable[key] = edited(mutable[key], rest, edit)
    else:
        edit(mutable, key)
    return tuple(mutable) if isinstance(thing, tuple) else mutable


def changed(value):
    """Another value of the same type; None where there is none."""
    if isinstance(value, torch.Tensor):
        value = value.clone()
        if value.numel():
            first = value.view(-1)[:1]
            first.copy_(first + 1 if value.is_floating_point() else first ^ 1)
        return value if value.numel() else None
    if isinstance(value, (bool, int, float)):
        return not value if isinstance(value, bool) else value + 1
    return value + "x" if isinstance(value, str) else None


def edits(state, how, full):
    """Yield (path, state with that place changed or dropped) for one or two places of each kind that can matter."""
    seen: dict[str, int] = {}
    for path, value in places(state):
        which, option = kind(path), path[0] == "options"
        seen[which] = seen.get(which, 0) + 1
        free = any(re.fullmatch(pattern, which) for pattern in NO_MATTER) or (option and path[-1] in MOMENTARY)
        if free or seen[which] > (2 if full else 1) or (option and not full and len(seen) % 20):
            continue
        other = changed(value)
        if how == "changed" and other is not None:
            yield path, edited(copy.deepcopy(state), path, partial(put, other))
        if how == "dropped" and droppable(state, path):
            yield path, edited(copy.deepcopy(state), path, operator.delitem)


def put(value, container, key):
    container[key] = value


def outcome(command, folder, expected):
    """What came of continuing: a refusal's exit code, "noted", "other" or "the same"."""
    ended = command("train", "--name", "run", "--continue_train")
    if ended.code:
        return ended.code
    if "changed since it was saved" in ended.out:
        return "noted"
    return "other" if differences(expected, folder) else "the same"


def pytest_generate_tests(metafunc):
    """Try every place in the states of three models, a test each, in the long form."""
    if metafunc.function is test_every_place_of_the_state_counts:
        models = ("noisy", "pix2pix", "cycle_gan") if metafunc.config.getoption("full") else ("noisy",)
        metafunc.parametrize("model", models)


@pytest.mark.fault(64)
@pytest.mark.parametrize("how", ["changed", "dropped"])
def test_every_place_of_the_state_counts(command, straight, copied, tmp_path, full, how, model, record_property):
    """Every value in the state is changed or dropped, one at a time: the run ends differently, prints a note, or is
    refused.

    Never as if nothing had happened; never with a bug of ours.
    """
    unnoticed, tried = [], 0
    folder = copied(model)
    shutil.copytree(tmp_path / "checkpoints", tmp_path / "kept")
    for path, state in edits(torch.load(newest(folder), weights_only=True), how, full):
        shutil.rmtree(tmp_path / "checkpoints")
        shutil.copytree(tmp_path / "kept", tmp_path / "checkpoints")
        torch.save(state, newest(folder))
        result, tried = outcome(command, folder, straight(model)), tried + 1
        if result not in (2, 3, 4, "noted", "other"):
            unnoticed.append((".".join(map(str, path)), result))
    record_property(f"places of the state of {model} {how}", f"{tried - len(unnoticed)} of {tried} noticed")
    assert unnoticed == []


def droppable(state, path):
    """Whether a place can be taken out: not out of a tuple; an option may be one that an older version did not have."""
    if path[0] in ("options", "inventory") and len(path) < 3 and path != ("options",):
        return False
    for key in path[:-1]:
        state = state[key]
    return not isinstance(state, tuple)
