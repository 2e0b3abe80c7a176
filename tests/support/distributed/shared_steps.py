"""Train a few steps in float64 without a run's folder, in one process or in one of several."""

import os
from contextlib import contextmanager
from typing import Any

import torch

from data.loading.loader import Loader
from options.parse import parse
from options.store import fill_from_dataset
from registry import discovery
from registry.lookup import find
from train import train_step
from training.distributed import gradients, rank_state
from training.train_state import TrainState
from util import ranks
from util.device import map_leaves
from util.seeding import seed_everything


@contextmanager
def in_float64():
    """Inside the block, torch's default is float64."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def train_steps(folder: str, argv: list[str], steps: int, change: str = "") -> dict[str, Any]:
    """Return the losses of each step, the paths of each step's batch, and all weights and buffers afterwards.

    change: "half" gives the scaler of --amp fp16 an overflow in rank 1 at step 1.
    """
    os.chdir(folder)
    discovery.clear()
    with in_float64():
        o = parse(argv, "train")
        dataset = find("dataset", o.dataset_mode)(o)
        spec = fill_from_dataset(o, dataset.spec())
        seed_everything(o.seed)
        model = find("model", o.model)(o, spec)
        loader = Loader(dataset, o, shuffle=True)
        state = TrainState.from_options(model, o)
        rank_state.synchronise_norms(model, o)
        rank_state.start_together(model, o.seed, 0)
        if change == "half":
            state.optimizers.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        losses, paths, epoch, number = [], [], 0, 0
        while number < steps:
            for batch in loader.epoch(epoch):
                wide = map_leaves(lambda x: x.double() if torch.is_tensor(x) and x.is_floating_point() else x, batch)
                if change == "half" and number == 1 and ranks.rank() == ranks.world_size() - 1:
                    wide["A"] = wide["A"] * torch.inf
                _, each = train_step(state, wide, state.now(number, epoch + 1))
                losses.append(
                    {
                        name: float(torch.as_tensor(value).detach())
                        for terms in each.values()
                        for name, value in terms.items()
                    }
                )
                share = ranks.pulse.share
                paths.append(list(batch["path_A"]) if share is None or share.count else [])
                number += 1
                if number == steps:
                    break
            epoch += 1
        loader.close()
        values = {name: value for name, value in model.state_dict().items() if torch.is_tensor(value)}
        own = {f"{name}'s average": value for name, value in state.ema.state_dict().items()}
        scale = state.optimizers.scaler.get_scale() if change == "half" else 1.0
        return {
            "losses": losses,
            "paths": paths,
            "weights": values | own,
            "scale": scale,
            "draw": float(torch.rand(())),
        }


def added_bytes(folder: str, argv: list[str], steps: int) -> int:
    """Train as `train_steps` does; return the bytes of what one process adds up with the others."""
    found, add_up = [0], gradients._add_up

    def counted(tensors: list[torch.Tensor]) -> None:
        found[0] += sum(x.nbytes for x in tensors)
        add_up(tensors)

    gradients._add_up = counted
    try:
        train_steps(folder, argv, steps)
    finally:
        gradients._add_up = add_up
    return found[0]
