"""Start training from somebody's weights: whatever of them fits."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from util import checkpoint
from util.errors import CheckpointError


def init_from(source: str, networks: Mapping[str, nn.Module], checkpoints_dir: str) -> list[str]:
    """Copy weights of equal key and shape into the networks; return a line for each network.

    source: a .pth file (one network, by its name NAME_net_G_A.pth, else the one it fits best), the folder of a run, or
    a run's name. Raises CheckpointError if it does not exist or nothing of it fits.
    """
    notes, fitted = [], 0
    files = _files(source, networks, checkpoints_dir)
    for name, net in networks.items():
        if name not in files:
            notes.append(f"{name}: new, {source} has no weights for it")
            continue
        path, state = files[name]
        own = net.state_dict()
        state = checkpoint.renamed(state, own)
        fits = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
        net.load_state_dict(fits, strict=False)
        fitted += len(fits)
        counts = f"{len(fits)} tensors loaded, {len(own) - len(fits)} new, {len(state) - len(fits)} skipped"
        notes.append(f"{name}: {counts}, from {path.name}")
    if not fitted:
        raise CheckpointError("option --init_from", source, "nothing in it fits", "check --netG, --ngf, --norm, --netD")
    return notes


def _files(
    source: str, networks: Mapping[str, nn.Module], checkpoints_dir: str
) -> dict[str, tuple[Path, dict[str, Tensor]]]:
    path = Path(source)
    if path.is_file():
        state = checkpoint.weights(path)
        return {_target(path, state, networks): (path, state)}
    folders = [f for f in (path, Path(checkpoints_dir) / source) if f.is_dir()]
    folder = next((f for f in folders if any(f.glob("*.pth"))), folders[0] if folders else None)
    if folder is None:
        why = f"there is no such file and no such run in {checkpoints_dir}"
        raise CheckpointError("option --init_from", source, why, "give a .pth file, or a run's folder or name")
    found = {name: folder / f"latest_net_{name}.pth" for name in networks}
    found = {name: file for name, file in found.items() if file.is_file()}
    if not found and (folder / "latest_net_G.pth").is_file():  # a lone generator
        return _files(str(folder / "latest_net_G.pth"), networks, checkpoints_dir)
    if not found:
        why = f"holds no latest_net_{' or '.join(networks)}.pth, but {checkpoint.listing(folder) or 'no .pth files'}"
        raise CheckpointError("option --init_from", source, why, "name one of its .pth files")
    return {name: (file, checkpoint.weights(file)) for name, file in found.items()}


def _target(path: Path, state: Mapping[str, Tensor], networks: Mapping[str, nn.Module]) -> str:
    """Return the network a lone file is meant for: the one it names, else the one most of it fits."""
    named = re.fullmatch(r".*_net_(\w+)", path.stem)
    if named and named[1] in networks:
        return named[1]

    def fitting(name: str) -> int:
        own = networks[name].state_dict()
        return sum(k in own and own[k].shape == v.shape for k, v in checkpoint.renamed(state, own).items())

    return max(networks, key=fitting)
