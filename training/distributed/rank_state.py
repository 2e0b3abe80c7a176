"""What belongs to one of several processes: its generators, pools and buffers, kept for each in the run's one state."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from data.listing.fingerprint import Inventory
from networks.norm import synchronise
from networks.toolbox import tool_state
from serialization import rank_exchange
from training.state_checks import modules_by_extra_state_key
from util import ranks, seeding
from util.errors import DataError, count_text
from util.image_pool import ImagePool


def start_together(model: Any, seed: int, step: int) -> None:
    """Give all processes the weights and buffers of process 0, and each its own draws; nothing in one process."""
    if ranks.world_size() == 1:
        return
    for name, value in rank_exchange.from_first(lambda: _tensors(model)).items():
        _tensors(model)[name].copy_(value)
    seeding.split_generators(seeding.mix_seed(seed, -1 - ranks.rank(), step))


def synchronise_norms(model: Any, o: Any) -> list[str]:
    """Let batch norms use the samples of all processes, unless --no_sync_batch; return a note if this changes any."""
    if ranks.world_size() == 1 or not synchronise(model, not o.no_sync_batch) or o.norm == "syncbatch":
        return []
    return ["note: batch norms use the batches of all processes, as with --norm syncbatch (--no_sync_batch: their own)"]


def check_same_images(inventory: Inventory) -> None:
    """Raise DataError in a process that finds other images than process 0, because each takes its own of one order."""
    own = f"{inventory.samples} {inventory.labels} {_digest(inventory.names)} {_digest(inventory.sizes)}"
    if rank_exchange.from_first(lambda: own) != own:
        why = "has other images on this machine than on that of rank 0"
        raise DataError("rank", ranks.rank(), why, "give all machines the same --dataroot")


def options_before(state: dict[str, Any], o: Any) -> dict[str, Any]:
    """Return a state's options; --batch_size counts as unchanged if only the number of processes has changed."""
    options = state["options"]
    return options | ({"batch_size": o.batch_size} if _former_batch(state) == _batch(o) else {})


def _former_batch(state: dict[str, Any]) -> int:
    return state["options"].get("batch_size", 1) * max(1, len(state.get("ranks", [])))


def _batch(o: Any) -> int:
    return o.batch_size * ranks.world_size()


def collect(model: Any) -> list[dict[str, Any]]:
    """Return in process 0 what belongs to each process, [] in one process; also [] in the others.

    A buffer is kept for a process in which it differs from that of process 0.
    """
    if ranks.world_size() == 1:
        return []
    own = _buffers(model)
    first = rank_exchange.from_first(lambda: {name: _digest(value) for name, value in own.items()})
    extra = {key: part.get_extra_state() for key, part in _extra_parts(model).items()}
    differing = {name: value.cpu() for name, value in own.items() if first.get(name) != _digest(value)}
    return rank_exchange.gather({"generators": seeding.generator_states(), "extra": extra, "buffers": differing})


def common_generators(each: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the generators' states with which one process goes on: torch draws what several had in common."""
    if not each:
        return seeding.generator_states()
    states = each[0]["generators"]
    cpu, *cuda = states["common"]
    rest = {name: value for name, value in states.items() if name != "common"}
    return rest | {"torch": cpu, "cuda": cuda + states["cuda"][len(cuda) :]}


def restore(model: Any, state: dict[str, Any], o: Any) -> list[str]:
    """Restore the generators, and what belongs to this process; return a note if their number has changed.

    state: a run's, with `generators` and, of several processes, `ranks`. If the number has changed, common draws go on,
    and each process draws from new generators of its own.
    """
    saved, now = state.get("ranks", []), ranks.world_size()
    seeding.restore_generators(state["generators"])
    if max(1, len(saved)) == now:
        for own in saved[ranks.rank() : ranks.rank() + 1]:
            _restore_own(model, own)
        return []
    if ranks.rank() < len(saved):
        _restore_own(model, saved[ranks.rank()] | {"generators": None})
    elif now > 1:
        for part in _extra_parts(model).values():
            _clear_pool(part)
    if now > 1:
        seeding.split_generators(seeding.mix_seed(o.seed, -1 - ranks.rank(), state["position"]["step"]))
    afresh = "draws go on, but those of each process alone (dropout, image pools) start afresh"
    notes = [f"note: it was saved by {count_text(max(1, len(saved)), 'process')}, not {now}: {afresh}"]
    if (was := _former_batch(state)) != _batch(o):
        notes.append(f"note: a batch of all processes has {_batch(o)} images, before {was}: see --batch_size")
    return notes


def _restore_own(model: Any, own: dict[str, Any]) -> None:
    parts, buffers = _extra_parts(model), _buffers(model)
    for key, value in own["extra"].items():
        parts[key].set_extra_state(value)
    for name, value in own["buffers"].items():
        buffers[name].copy_(value)
    if own["generators"]:
        seeding.restore_generators(own["generators"])


def _clear_pool(part: Any) -> None:
    if isinstance(part, ImagePool):
        part.images.clear()


def _extra_parts(model: Any) -> dict[str, Any]:
    parts = modules_by_extra_state_key(model)
    return {
        key: part for key, part in parts.items() if type(part).get_extra_state is not torch.nn.Module.get_extra_state
    }


def _buffers(model: Any) -> dict[str, Tensor]:
    kept = model.state_dict() | tool_state.state_dict(model)
    parameters = {name for name, _ in model.named_parameters()}
    return {name: x for name, x in kept.items() if isinstance(x, Tensor) and name not in parameters}


def _tensors(model: Any) -> dict[str, Tensor]:
    return {name: x for name, x in model.state_dict().items() if isinstance(x, Tensor)} | tool_state.state_dict(model)


def _digest(value: Any) -> str:
    array = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy() if torch.is_tensor(value) else value
    return hashlib.sha256(array.tobytes()).hexdigest()
