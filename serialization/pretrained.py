"""Weights of networks that were trained elsewhere: read safely, checked, and known to the run that uses them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from serialization.download.partial import file_sha256
from serialization.weight_files import load_weights
from util.disk_space import write_error
from util.errors import CheckpointError, EnvironmentFault, OptionError
from util.spelling import nearest

KNOWN_ADDRESS = "https://download.pytorch.org/models/"
KNOWN_FILES = {  # torchvision's networks; a name ends with the beginning of the file's SHA-256
    "alexnet": "alexnet-owt-7be5be79.pth",
    "inception_v3": "inception_v3_google-0cc3c7bd.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "squeezenet1_1": "squeezenet1_1-b8a52dc0.pth",
    "vgg16": "vgg16-397923af.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
}
FURTHER_FILES = {  # networks of others: their addresses; the names of the files end in the same way
    "inception_fid": "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
}
NETWORK = "network "  # the beginning of a Frozen network's name in what a run remembers
SIGNATURES = (b"PK\3\4", b"\x80\2")  # the first bytes of what torch.save writes
_files_read: dict[str, str] = {}  # {path: SHA-256} since the last call of files_read


def pretrained(path: str | Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Return {name: tensor}, on the CPU, from a file of weights; nothing in it is run.

    sha256: the expected SHA-256 of the file, in hexadecimal. The run remembers the SHA-256, and says so when it is
    resumed or tested with another file. Raises CheckpointError for a file that is missing, damaged, unsafe or not the
    expected one.
    """
    file = Path(path).expanduser()
    weights, digest = load_weights(file), file_sha256(file)
    if sha256 is not None and digest != sha256.lower():
        why = f"has the SHA-256 {digest}, not the expected {sha256.lower()}"
        raise CheckpointError("file", file, why, "give the file that the model was made for")
    _files_read[str(path)] = digest
    return weights


def known_weights(o: Any, name: str, flag: str = "", otherwise: str = "") -> dict[str, Tensor]:
    """Return the published weights of a network (KNOWN_FILES, FURTHER_FILES), as `pretrained` returns a file's.

    They come from the file that the model's flag `flag` names (such as "vgg_file"), else from torch's cache, else from
    the internet, if --download is given. otherwise: the flags with which the model does not need them, such as
    "--lambda_vgg 0". Raises EnvironmentFault, which names these ways, if there is none.
    """
    addresses = {known: KNOWN_ADDRESS + file for known, file in KNOWN_FILES.items()} | FURTHER_FILES
    if name not in addresses:
        near = nearest(name, list(addresses))
        remedy = (f"did you mean {near}? " if near else "") + f"choose one of {', '.join(addresses)}"
        raise OptionError("weights", name, "there are no known weights of this name", remedy)
    if flag and getattr(o, flag):
        return pretrained(getattr(o, flag))
    file = Path(torch.hub.get_dir(), "checkpoints", addresses[name].rpartition("/")[2])
    ways = [f"give their file with --{flag}"] if flag else []
    ways += [f"save {addresses[name]} as {file}"]
    if not file.is_file():
        if not o.download:
            more = ["let it be downloaded with --download"] + ([f"do without them: {otherwise}"] if otherwise else [])
            why = "are needed and not on this machine"
            raise EnvironmentFault("weights", name, why, ", or ".join([", ".join(ways + more[:-1]), more[-1]]))
        _download(addresses[name], file, " or ".join(ways))
    weights = pretrained(file)
    if not _files_read[str(file)].startswith(_expected_start(file)):
        why = f"is damaged: its SHA-256 does not begin with {_expected_start(file)}"
        raise CheckpointError("file", file, why, "delete it, and give --download")
    return weights


def _expected_start(file: Path) -> str:
    return file.stem.rpartition("-")[2]


def _download(address: str, file: Path, by_hand: str) -> None:
    """Download a known file to its place in torch's cache; raise EnvironmentFault."""
    # Only --download needs HTTP.
    from serialization.download.fetch import DownloadSpec, fetch
    from serialization.download.partial import PartialFile
    from serialization.download.progress_bar import ProgressBar

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = PartialFile(file, copies=1, elsewhere="let TORCH_HOME name another folder")
        try:
            with ProgressBar(file.name, "B") as progress:
                fetch([address], DownloadSpec(part, SIGNATURES, progress.show), by_hand)
            if not part.sha256().startswith(_expected_start(file)):
                part.remove()
                why = f"sends a file whose SHA-256 does not begin with {_expected_start(file)}"
                raise EnvironmentFault("address", address, why, by_hand)
            part.move_to(file)
        finally:
            part.close()
    except OSError as problem:
        raise write_error(file, problem) from problem


def files_read() -> dict[str, str]:
    """Return {path: SHA-256} of the files of weights that were read since the last call."""
    read = dict(_files_read)
    _files_read.clear()
    return read


def describe_changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return which files of a run were replaced by others, in words; "" if none: one that is not read was not needed.

    A file that was moved or renamed is the same file. If all files are the same, the Frozen networks that changed.
    """
    for networks in (False, True):
        was, is_now = (
            {name: digest for name, digest in table.items() if name.startswith(NETWORK) == networks}
            for table in (before, now)
        )
        gone = [f"{name} ({digest[:8]})" for name, digest in was.items() if digest not in is_now.values()]
        new = [f"{name} ({digest[:8]})" for name, digest in is_now.items() if digest not in was.values()]
        if gone and new:
            return f"it was trained with {', '.join(gone)}, not {', '.join(new)} (SHA-256)"
    return ""
