"""Files of state and weights: written so that a kill loses nothing, fitted so that nothing is half loaded."""

import contextlib
import errno
import os
import re
from collections.abc import Container, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from util import disk, misfit
from util.errors import CheckpointError, EnvironmentFault, first_line, printable
from util.files import sync_folder
from util.reading import check, read
from util.runs import meant, there_are

FORMAT = 1


def save_state(folder: Path, state: dict[str, Any], step: int, keep: int) -> list[str]:
    """Write the one file that a run resumes from; then remove all but the newest `keep`.

    It appears under its name only when it is whole and on the disk. States of later steps belong to a course that was
    given up by going back (--epoch, a damaged newest state); they are set aside as state_STEP.superseded. Returns a
    line for each old state that could not be removed; EnvironmentFault if the new one cannot be written.
    """
    path = folder / f"state_{step:09d}.pt"
    write_atomically(path, {"format": FORMAT, **state}, read_back=True)
    files = state_files(folder)
    kept = sorted(number for number in files if number <= step)[-keep:]
    notes = []
    for number, old in files.items():
        try:
            if number > step:
                os.replace(old, old.with_suffix(".superseded"))
            elif number not in kept:
                old.unlink(missing_ok=True)
        except OSError as problem:  # the new state is safe: an old one too many is no reason to stop
            notes.append(f"note: old state {old} cannot be removed ({problem.strerror}); it can be deleted by hand")
    return notes


def write_atomically(path: Path, thing: Any, read_back: bool = False) -> None:
    """torch.save beside the target, flush to the disk, then rename onto it; EnvironmentFault if that fails twice.

    read_back: look through what was written before it takes the target's place.
    """
    try:
        disk.twice(partial(_write_and_flush, path, thing, read_back), path)
    except CheckpointError as problem:
        why = f"reads back otherwise than it was written: {problem.args[2]}"
        raise EnvironmentFault("file", path, why, "check the disk, and what plug-ins keep in their state") from problem
    except OSError as problem:
        raise disk.fault(path, problem, disk.size_of(thing)) from problem


def _write_and_flush(path: Path, thing: Any, read_back: bool) -> None:
    beside = path.with_name(path.name + ".tmp")
    try:
        with open(beside, "wb") as file:  # a file object keeps the errno of a full disk, a path loses it
            torch.save(thing, file)
            file.flush()
            os.fsync(file.fileno())
        if read_back:
            check(beside)
        os.replace(beside, path)
        sync_folder(path.parent)
    except BaseException as problem:
        with contextlib.suppress(OSError):  # whatever stopped it, nothing half-written stays if it can be helped
            beside.unlink()
        if isinstance(problem, RuntimeError) and isinstance(problem.__context__, OSError):
            raise problem.__context__ from problem
        if isinstance(problem, RuntimeError) and re.search("unexpected pos|StreamWriter", str(problem)):
            raise OSError(errno.EIO, first_line(problem)) from problem  # torch's words for a short write
        raise


def state_files(folder: Path) -> dict[int, Path]:
    """Return {step: path} of a run's state files."""
    found = {p: re.fullmatch(r"state_(\d{9,})\.pt", p.name) for p in folder.glob("state_*.pt")}
    return {int(match[1]): p for p, match in found.items() if match}


def load_state(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the newest state that can be read, and a line for each newer one that could not.

    (None, []) if there is no state; CheckpointError if there are some and none can be read.
    """
    notes: list[str] = []
    for _, path in sorted(state_files(folder).items(), reverse=True):
        try:
            state = read(path)
        except CheckpointError as problem:
            notes.append(f"note: {path.name} cannot be used ({problem}); falling back to the one before")
            continue
        if not isinstance(state, dict) or type(state.get("format")) is not int or not _has_the_form(state):
            notes.append(f"note: {path.name} holds no state of a run; falling back to the one before")
        elif state["format"] > FORMAT:
            why = f"was written by a newer version (format {state['format']}, this one knows {FORMAT})"
            raise CheckpointError("state", path, why, "upgrade")
        elif bad := not_finite({part: state.get(part) for part in ("model", "optimizers")}):
            notes.append(f"note: {path.name} holds NaN or Inf in '{bad}'; falling back to the one before")
        else:
            return state, notes
    if notes:
        why = "none of its states can be read: " + "; ".join(n.removeprefix("note: ") for n in notes)
        raise CheckpointError("run", folder, why, "start afresh with --overwrite")
    return None, []


PARTS: dict[str, Any] = {"model": dict, "optimizers": dict, "position": dict, "means": dict, "history": list,
                         "generators": dict, "classes": list, "options": dict}  # fmt: skip


def _has_the_form(state: dict[str, Any]) -> bool:
    """Whether the parts of a state that are there are of the right kind."""
    right = all(isinstance(state[part], kind) for part, kind in PARTS.items() if part in state)
    numbers = [*state.get("history", []), *state.get("position", {}).values()] if right else [None]
    texts = [*state.get("classes", []), *state.get("options", {})] if right else []
    return all(type(n) in (int, float) for n in numbers) and all(type(text) is str for text in texts)


def weights(path: Path) -> dict[str, Tensor]:
    """Return a network's weights from a file of anybody's: {key: dense finite tensor}, as they are called there."""
    loaded = read(path)
    if isinstance(loaded, Mapping) and "format" in loaded and "position" in loaded:
        remedy = "give its folder or its name, or an exported *_net_*.pth"
        raise CheckpointError("file", path, "is the state of a whole run", remedy)
    if isinstance(loaded, Mapping) and loaded and not any(isinstance(v, Tensor) for v in loaded.values()):
        inner = [
            v for k, v in loaded.items() if k in ("state_dict", "model", "generator", "G") and isinstance(v, Mapping)
        ]
        loaded = inner[0] if len(inner) == 1 else loaded
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise CheckpointError("file", path, "holds no state_dict", "save the network's state_dict()")
    if bad := not_finite(loaded):
        raise CheckpointError("file", path, f"its '{bad}' holds NaN or Inf", "use weights from before it diverged")
    return {str(key): value for key, value in loaded.items()}


def not_finite(thing: Any) -> str:
    """Return where in containers of tensors there is a NaN or Inf, as in "G.model.1.weight"; "" if nowhere."""
    waiting, seen = [("", thing)], set()  # what is there twice is looked at once
    while waiting:
        name, part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Tensor) and (part.is_floating_point() or part.is_complex()):
            if not bool(torch.isfinite(part).all()):
                return printable(name)[:100]
        elif isinstance(part, Mapping | list | tuple):
            inside = part.items() if isinstance(part, Mapping) else enumerate(part)
            waiting += [(f"{name}.{key}" if name else str(key), value) for key, value in inside]
    return ""


def renamed(state: Mapping[str, Tensor], own: Container[str] = ()) -> dict[str, Tensor]:
    """Return weights under the reference's names, but for keys in `own`, those a network has already.

    Wrappers (DataParallel, torch.compile) put prefixes before every key; some rewrites call conv_block just block.
    """

    def name(key: str) -> str:
        bare = re.sub(r"^(?:module\.|_orig_mod\.)+", "", key)
        return next((k for k in (key, bare) if k in own), re.sub(r"^(model\.\d+)\.block\.", r"\1.conv_block.", bare))

    return {name(key): value for key, value in state.items()}


def fit(net: nn.Module, state: dict[str, Tensor], path: Path, hint: str = "") -> None:
    """Load weights into a network of exactly their keys and shapes.

    Statistics that old instance norms left are dropped; a missing num_batches_tracked is filled in. Raises
    CheckpointError with the first differing key, both shapes, the flags that would fit if the network knows
    (`explain_misfit`), and `hint`.
    """
    own = {key: value for key, value in net.state_dict().items() if isinstance(value, Tensor)}
    state = renamed(state, own)
    for name, layer in net.named_modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase):
            for statistic in ("running_mean", "running_var", "num_batches_tracked"):
                key = f"{name}.{statistic}"
                if key not in own:
                    state.pop(key, None)
                elif statistic == "num_batches_tracked":
                    state.setdefault(key, own[key])
    if differs := misfit.difference(own, state):
        told = "; ".join(text for text in (misfit.explained(net, state), hint) if text)
        remedy = told or "check --netG, --ngf, --norm and --no_dropout"
        raise CheckpointError("file", path, f"does not fit this network: {differs}", remedy)
    for key, value in state.items():
        if misfit.too_large(own[key], value):
            why = f"its '{key}' holds values too large for {str(own[key].dtype).removeprefix('torch.')}"
            raise CheckpointError("file", path, why, "use weights from before it diverged")
    net.load_state_dict(state, strict=False)  # all keys were compared; extra state stays as it is


def export(folder: Path, prefix: str, networks: Mapping[str, nn.Module]) -> None:
    """Write PREFIX_net_NAME.pth for each network: its state_dict on the CPU, in the reference's names and keys."""
    for name, net in networks.items():
        state = net.state_dict()
        for key, value in list(state.items()):
            if isinstance(value, Tensor):
                state[key] = value.detach().cpu().contiguous()  # whatever --memory_format it has here
            else:
                del state[key]  # extra state is for the state file; these files hold weights alone
        write_atomically(folder / f"{prefix}_net_{name}.pth", state)


def is_exported(folder: Path, prefix: str, networks: Mapping[str, nn.Module]) -> bool:
    """Whether PREFIX_net_NAME.pth holds each network as it is now."""
    for name, net in networks.items():
        path, own = folder / f"{prefix}_net_{name}.pth", net.state_dict()
        try:
            held = read(path) if path.is_file() else {}
        except CheckpointError:
            return False
        tensors = {key: value for key, value in own.items() if isinstance(value, Tensor)}
        if not isinstance(held, dict) or held.keys() != tensors.keys():
            return False
        if not all(isinstance(held[k], Tensor) and torch.equal(held[k], v.cpu()) for k, v in tensors.items()):
            return False
    return True


def prefix(epoch: str, load_iter: int) -> str:
    """Return how files of an epoch, or of iter_N, begin."""
    return f"iter_{load_iter}" if load_iter else epoch


def load_networks(folder: Path, which: str, networks: Mapping[str, nn.Module], hint: str = "") -> None:
    """Load FOLDER/WHICH_net_NAME.pth into each network; CheckpointError listing what is there if one is missing."""
    for name, net in networks.items():
        path = folder / f"{which}_net_{name}.pth"
        fit(net, weights(existing(path)), path, hint)


def existing(path: Path) -> Path:
    """Return the path of a file of weights; CheckpointError that says which there are if it is missing."""
    if path.is_file():
        return path
    folder = path.parent
    if not folder.is_dir():
        remedy = meant(folder.name, there_are(folder.parent)) or "check --name and --checkpoints_dir"
        raise CheckpointError("run", folder, "there is no such folder", remedy)
    name = path.stem.partition("_net_")[2]
    others = listing(folder, f"*_net_{name}.pth")
    remedy = (
        "choose with --epoch or --load_iter"
        if others
        else "choose another --model, or --model test --model_suffix with what follows _G"
    )
    there = others or listing(folder) or "no .pth files"
    raise CheckpointError("file", path, f"there is no such file ({folder} has {there})", remedy)


def listing(folder: Path, pattern: str = "*.pth") -> str:
    """Return the names of the first dozen files of a pattern in a folder, in order; "" if there are none."""
    return ", ".join(sorted(p.name for p in folder.glob(pattern))[:12])
