"""Read and write the weights of networks, one file for each network."""

import re
from collections.abc import Container, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from serialization import mismatch, safetensors_file
from serialization.atomic_save import write_atomically
from serialization.run_names import suggest_folder
from serialization.safe_load import load_file
from serialization.weight_names import PTH, SAFETENSORS, list_weights, other_format, weight_path
from util.errors import CheckpointError, EnvironmentFault, UserError, print_line, printable
from util.spelling import nearest

NOTHING: Mapping[str, Any] = MappingProxyType({})


def load_weights(path: Path) -> dict[str, Tensor]:
    """Return a network's weights from an untrusted file: {key: dense finite tensor}, with the keys of the file."""
    loaded = load_file(path)
    if isinstance(loaded, Mapping) and "format" in loaded and "position" in loaded:
        remedy = "give the run's folder or name, or an exported *_net_* file"
        raise CheckpointError("file", path, "is the state of a whole run", remedy)
    if isinstance(loaded, Mapping) and loaded and not any(isinstance(v, Tensor) for v in loaded.values()):
        inner = [loaded.get(key) for key in ("state_dict", "model", "generator", "G")]
        inner = [value for value in inner if isinstance(value, Mapping)]
        loaded = inner[0] if len(inner) == 1 else loaded
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise CheckpointError("file", path, "does not hold a state_dict", "save the network's state_dict()")
    if bad := find_non_finite(loaded):
        raise CheckpointError("file", path, f"its '{bad}' holds NaN or Inf", "use weights from before it diverged")
    return {str(key): value for key, value in loaded.items()}


def find_non_finite(thing: Any) -> str:
    """Return the path of a NaN or Inf in nested containers of tensors, such as "G.model.1.weight"; "" without one."""
    pending, seen = [("", thing)], set()  # shared tensors are checked once
    while pending:
        name, part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Tensor) and (part.is_floating_point() or part.is_complex()):
            if not bool(torch.isfinite(part).all()):
                return printable(name)[:100]
        elif isinstance(part, Mapping | list | tuple):
            inside = part.items() if isinstance(part, Mapping) else enumerate(part)
            pending += [(f"{name}.{key}" if name else str(key), value) for key, value in inside]
    return ""


def rename_keys(state: Mapping[str, Tensor], own: Container[str] = ()) -> dict[str, Tensor]:
    """Return weights with the reference's keys; keys in `own`, those of the network, are kept.

    Wrappers (DataParallel, torch.compile) prefix every key; some reimplementations write block for conv_block.
    """

    def name(key: str) -> str:
        bare = re.sub(r"^(?:module\.|_orig_mod\.)+", "", key)
        return next((k for k in (key, bare) if k in own), re.sub(r"^(model\.\d+)\.block\.", r"\1.conv_block.", bare))

    return {name(key): value for key, value in state.items()}


def load_into_network(net: nn.Module, state: dict[str, Tensor], path: Path, hint: str = "") -> None:
    """Load weights into a network with exactly the same keys and shapes.

    Statistics of old instance norms are dropped; a missing num_batches_tracked is filled in. Raises CheckpointError
    with the first differing key, both shapes, the network's `explain_misfit` (the flags that would fit) and `hint`.
    """
    own = {key: value for key, value in net.state_dict().items() if isinstance(value, Tensor)}
    given = rename_keys(state, own)
    state = dict(given)
    for name, layer in net.named_modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase):
            for statistic in ("running_mean", "running_var", "num_batches_tracked"):
                key = f"{name}.{statistic}"
                if key not in own:
                    state.pop(key, None)
                elif statistic == "num_batches_tracked":
                    state.setdefault(key, own[key])
    if difference := mismatch.first_difference(own, state):
        hints = "; ".join(text for text in (mismatch.explain_mismatch(net, given), hint) if text)
        remedy = hints or "check --netG, --ngf, --norm and --no_dropout"
        raise CheckpointError("file", path, f"does not fit this network: {difference}", remedy)
    for key, value in state.items():
        if mismatch.overflows(own[key], value):
            why = f"its '{key}' holds values too large for {str(own[key].dtype).removeprefix('torch.')}"
            raise CheckpointError("file", path, why, "use weights from before it diverged")
    net.load_state_dict(state, strict=False)  # not strict, because extra state is absent; all other keys were compared


def save_networks(
    folder: Path, prefix: str, networks: Mapping[str, nn.Module], suffix: str = PTH, about: Mapping[str, Any] = NOTHING
) -> None:
    """Write PREFIX_net_NAME.pth for each network: its state_dict on the CPU, with the reference's names and keys.

    suffix: .safetensors writes that format, with `about`, the architecture, as metadata. Then the file of the other
    format is removed, because it holds older weights.
    """
    for name, net in networks.items():
        state = net.state_dict()
        for key, value in list(state.items()):
            if isinstance(value, Tensor):
                state[key] = value.detach().cpu().contiguous()  # independent of --memory_format
            else:
                del state[key]  # extra state belongs in the state file; these files hold only weights
        path = folder / f"{prefix}_net_{name}{suffix}"
        if suffix == SAFETENSORS:
            save = partial(safetensors_file.write_tensors, about={**about, "network": name})
            write_atomically(path, dict(state), save=save)
        else:
            write_atomically(path, state)
        _remove_older(other_format(path), path)


def _remove_older(path: Path, newer: Path) -> None:
    """Remove a file whose weights are older than another one's; raise EnvironmentFault if it cannot be removed."""
    try:
        if path.exists():
            path.unlink(missing_ok=True)
    except OSError as problem:
        why = f"cannot be removed ({problem.strerror}), and {newer.name} holds newer weights"
        raise EnvironmentFault("file", path, why, "delete it, or make its folder writable") from problem


def is_exported(folder: Path, prefix: str, networks: Mapping[str, nn.Module]) -> bool:
    """Whether the file of PREFIX holds the current weights of each network."""
    for name, net in networks.items():
        path, own = weight_path(folder, prefix, name), net.state_dict()
        try:
            saved = load_file(path) if path.is_file() else {}
        except CheckpointError:
            return False
        tensors = {key: value for key, value in own.items() if isinstance(value, Tensor)}
        if not isinstance(saved, dict) or saved.keys() != tensors.keys():
            return False
        if not all(isinstance(saved[k], Tensor) and torch.equal(saved[k], v.cpu()) for k, v in tensors.items()):
            return False
    return True


def file_prefix(epoch: str, load_iter: int) -> str:
    """Return the prefix of the weight files of an epoch or of iter_N."""
    return f"iter_{load_iter}" if load_iter else epoch


def load_networks(folder: Path, which: str, networks: Mapping[str, nn.Module], hint: str = "") -> None:
    """Load the weights WHICH of a folder into each network; if a file is missing, CheckpointError lists the others."""
    for name, net in networks.items():
        path = weight_path(folder, which, name)
        load_into_network(net, load_weights(check_exists(path)), path, hint)


def check_exists(path: Path) -> Path:
    """Return the path of a weight file; if it is missing, raise CheckpointError with the existing ones."""
    if path.is_file():
        return path
    folder = path.parent
    if not folder.is_dir():
        remedy = suggest_folder(folder) or "check --name and --checkpoints_dir"
        raise CheckpointError("run", folder, "there is no such folder", remedy)
    which, _, name = path.stem.partition("_net_")
    others = file_list_text(folder, f"*_net_{name}")
    words = sorted({file.name.partition("_net_")[0] for file in list_weights(folder, f"[!0-9]*_net_{name}")})
    near = nearest(which, words) if which.startswith("best_") else None
    remedy = f"did you mean --epoch {near}?" if near else "choose with --epoch or --load_iter"
    if not others:
        remedy = "choose another --model, or --model test with the part after _G as --model_suffix"
    present = others or file_list_text(folder)
    if not present:
        present, remedy = "no .pth files", "train the run until it saves, or check --name and --checkpoints_dir"
    raise CheckpointError("file", path, f"there is no such file ({folder} has {present})", remedy)


def file_list_text(folder: Path, pattern: str = "*") -> str:
    """Return the first 12 files of weights in a folder whose name without suffix matches, sorted; "" without one."""
    return ", ".join([path.name for path in list_weights(folder, pattern)][:12])


def note_other_format(paths: Iterable[Path]) -> None:
    """Print one note if a .safetensors file beside one of these .pth files, which are read, holds other weights."""
    both = [path for path in paths if path.suffix == PTH and other_format(path).is_file()]
    if differ := [path for path in both if path.is_file() and _differs(path, other_format(path))]:
        names = ", ".join(other_format(path).name for path in differ)
        print_line(f"note: {names} holds other weights than the .pth of that name, which is read")


def _differs(path: Path, other: Path) -> bool:
    try:
        ours, theirs = load_weights(path), load_weights(other)
    except UserError:  # a .pth that cannot be read was an error before
        return True
    return ours.keys() != theirs.keys() or not all(torch.equal(ours[key], theirs[key]) for key in ours)
