"""Load the weights that a model needs at inference: those of its networks, and what else the run exported."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from networks.frozen import frozen_digests
from options import store
from options.texts import mismatch_hint
from registry import loaded
from serialization import weight_exports
from serialization.own_state import OWN_STATE, own_state
from serialization.pretrained import describe_changes, files_read
from serialization.weight_names import weight_path
from util.errors import CheckpointError, print_line
from util.spelling import normalise_name


def load_run_weights(o: Any, folder: Path, which: str, model: Any, needed: dict[str, nn.Module]) -> None:
    """Load the weights WHICH of the needed networks; raise CheckpointError if one is missing or does not fit.

    A plug-in's forward may also use networks that `averaged` omits, or the model's own buffers: they are loaded where
    the run exported them. A note tells what is used without.
    """
    if changes := describe_changes(store.load_pretrained(folder), files_read() | frozen_digests(model)):
        print_line(f"note: pretrained weights changed: {changes}: results that use them differ from the run's")
    others = {name: net for name, net in model.networks().items() if name not in needed and net.state_dict()}
    others |= own_state(model, model.networks())
    if loaded.plugin_of_module(type(model).__module__) is None:  # our own models use the needed networks only
        others = {}
    present = {name: net for name, net in others.items() if weight_path(folder, which, name).is_file()}
    try:
        weight_exports.load(folder, which, needed | present, mismatch_hint(o))
    except CheckpointError:
        with _naming_model(o):
            weight_exports.load(folder, which, needed, mismatch_hint(o))  # raises it again if it is one of these
        present = {}
    for name, net in others.items():
        if name not in present:
            _note_without(f"{which}_net_{name}.pth", name, net)


@contextmanager
def _naming_model(o: Any) -> Iterator[None]:
    """Add the model that the run was trained with to an error, if the user names another."""
    try:
        yield
    except CheckpointError as problem:
        trained = o.saved.get("model", o.model)
        if "model" not in o.given or normalise_name(trained) == normalise_name(o.model):
            raise
        thing, name, why, _ = problem.args
        raise CheckpointError(thing, name, why, f"omit --model: the run was trained with {trained}") from None


def _note_without(file: str, name: str, net: nn.Module) -> None:
    """Print a note for the model's own state, or as soon as a trainable network is used."""
    if name == OWN_STATE:
        keys = ", ".join(net.state_dict())
        print_line(f"note: without {file}, the model's own {keys} has the values of __init__")
    elif any(p.requires_grad for p in net.parameters()):

        def note(*_: Any) -> None:
            hook.remove()
            print_line(f"note: network {name} is used with the weights of __init__, because {file} is not loaded")

        hook = net.register_forward_pre_hook(note)
