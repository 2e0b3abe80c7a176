"""Initialise networks from existing weights, for --init_from: load every tensor that fits."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from serialization import mismatch, weight_files
from serialization.weight_names import SUFFIXES, list_weights, weight_path
from util.errors import CheckpointError, printable
from util.spelling import nearest

OPTION = "option --init_from"
FilesByNetwork = dict[str, tuple[Path, dict[str, Tensor]]]


def init_from(source: str, networks: Mapping[str, nn.Module], checkpoints_dir: str) -> list[str]:
    """Copy weights of equal key and shape into the networks; return a line for each network, and warnings.

    source: a .pth or .safetensors file, the folder of a run, or a run's name. A file is for one network: the one in its
    name (NAME_net_G_A.pth), or else the one that it fits best. Raises CheckpointError if the source is missing or no
    tensor fits.
    """
    notes, fitted, reasons = [], 0, []
    files = _read_sources(source, networks, checkpoints_dir)
    for name, net in networks.items():
        if name not in files:
            notes.append(f"{name}: new, {source} has no weights for it")
            continue
        path, state = files[name]
        own = {key: value for key, value in net.state_dict().items() if isinstance(value, Tensor)}
        state = weight_files.rename_keys(state, own)
        fits = {k: v for k, v in state.items() if k in own and _can_copy(own[k], v)}
        net.load_state_dict(fits, strict=False)
        fitted += len(fits)
        counts = f"{len(fits)} tensors loaded, {len(own) - len(fits)} new, {len(state) - len(fits)} skipped"
        notes.append(f"{name}: {counts}, from {path.name}")
        if len(fits) < max(len(own), len(state)) and (why := _mismatch_text(net, own, state)):
            reasons.append(why)
            if 2 * len(fits) < len(own):
                notes.append(f"warning: most of {name} is not loaded from {path.name}: {why}")
    if not fitted:
        why = "no tensor in it fits" + (f" ({reasons[0]})" if reasons else "")
        raise CheckpointError(OPTION, source, why, "check --netG, --ngf, --norm, --netD")
    return notes


def _can_copy(own: Tensor, value: Tensor) -> bool:
    return mismatch.is_assignable(own, value) and not mismatch.overflows(own, value)


def _mismatch_text(net: nn.Module, own: dict[str, Tensor], state: dict[str, Tensor]) -> str:
    """Return the first key that differs, both shapes and the flags that would fit; "" if only a range is too large."""
    hint = mismatch.explain_mismatch(net, state)
    difference = mismatch.first_difference(own, state)
    return printable(f"{difference}; {hint}" if difference and hint else difference)


def _read_sources(source: str, networks: Mapping[str, nn.Module], checkpoints_dir: str) -> FilesByNetwork:
    if re.match(r"\w+://", source):
        raise CheckpointError(OPTION, source, "is a URL, not a file", "download it and give the file")
    path = Path(source)
    if re.fullmatch(r"state_\d+\.pt", path.name) and path.is_file():
        raise CheckpointError(OPTION, source, "is the state of a whole run", f"give its folder: {path.parent}")
    if path.exists() and not path.is_dir():
        state = weight_files.load_weights(path)
        return {_best_network(path, state, networks): (path, state)}
    folders = [f for f in (path, Path(checkpoints_dir) / source) if f.is_dir()]
    folder = next((f for f in folders if list_weights(f)), folders[0] if folders else None)
    if folder is None:
        why = f"there is no such file and no such run in {checkpoints_dir}"
        raise CheckpointError(OPTION, source, why, _suggest_source(source, Path(checkpoints_dir)))
    paths = {name: weight_path(folder, "latest", name) for name in networks}
    paths = {name: file for name, file in paths.items() if file.is_file()}
    only = weight_path(folder, "latest", "G")
    weight_files.note_other_format(paths.values() or [only])
    if not paths and only.is_file():  # a run with a single generator
        return _read_sources(str(only), networks, checkpoints_dir)
    if not paths:
        others = weight_files.file_list_text(folder) or "no .pth files"
        why = f"holds no latest_net_{' or '.join(networks)}.pth, but {others}"
        raise CheckpointError(OPTION, source, why, "name one of its .pth files")
    return {name: (file, weight_files.load_weights(file)) for name, file in paths.items()}


def _suggest_source(source: str, checkpoints_dir: Path) -> str:
    """Return the remedy for a missing source: the nearest name, or the existing ones."""
    within = checkpoints_dir / source
    if within.is_file():
        return f"did you mean {within}?"
    folders = [f for f in (Path(source).parent, within.parent) if source.endswith((*SUFFIXES, ".pt")) and f.is_dir()]
    files = {p.name: p for folder in folders for p in list_weights(folder)}
    runs = {p.name: p for p in checkpoints_dir.glob("*") if list_weights(p)} if not files else {}
    candidates = files or runs
    if not candidates:
        return "give a .pth file, or a run's folder or name"
    near = nearest(Path(source).name, list(candidates))
    if near:
        return f"did you mean {files.get(near, near)}?"
    return f"there are {', '.join(sorted(candidates)[:12])}"


def _best_network(path: Path, state: Mapping[str, Tensor], networks: Mapping[str, nn.Module]) -> str:
    """Return the network for a single file: the one in its name, or else the one that most tensors fit."""
    named = re.fullmatch(r".*_net_(\w+)", path.stem)
    if named and named[1] in networks:
        return named[1]

    def fitting(name: str) -> int:
        own = networks[name].state_dict()
        return sum(k in own and own[k].shape == v.shape for k, v in weight_files.rename_keys(state, own).items())

    return max(networks, key=fitting)
