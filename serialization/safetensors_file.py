"""Read and write safetensors files: tensors in plain bytes after a header, and the architecture that they fit.

A file is the header's length in 8 bytes (little endian), the header in JSON ({name: {"dtype", "shape",
"data_offsets"}} and texts under "__metadata__"), and the bytes of all tensors. Nothing in it can be run.
"""

import json
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from serialization.pickle_types import UnsafeFile, is_count
from util.errors import CheckpointError, EnvironmentFault, OptionError

if TYPE_CHECKING:
    from torch import Tensor  # options read metadata without torch

MAX_HEADER_BYTES = 8 << 20  # as of a pickle: it holds only names, shapes and the options of a run
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32,
        "U16": 16, "U8": 8, "BOOL": 8, "C64": 64}  # fmt: skip
TORCH_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint64", "uint32",
                "uint16", "uint8", "bool", "complex64")  # fmt: skip
ABOUT = "ganvas"  # the entry of the metadata that holds an architecture, as JSON
SAVE_AGAIN = "save its tensors again"


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins with these bytes is of this format: JSON after a length below 2**40."""
    return len(start) > 8 and start[8:9] == b"{" and not start.startswith((b"PK", b"\x80")) and not any(start[5:8])


def read_tensors(file: BinaryIO) -> "dict[str, Tensor]":
    """Return {name: tensor} of an open file; UnsafeFile for one that is damaged, cut short or of other numbers."""
    check_header(file)
    library = _library()
    file.seek(0)
    try:
        return library.load(file.read())
    except Exception as problem:  # SafetensorError; its classes are not public in every release
        raise UnsafeFile(f"is damaged ({str(problem)[:100]})") from problem


def check_header(file: BinaryIO) -> dict[str, str]:
    """Return the metadata of an open file; UnsafeFile unless its tensors fill it completely, without a gap."""
    header, data_bytes = _read_header(file)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise UnsafeFile("is damaged (its metadata are no texts)")
    spans = sorted(_span(name, entry) for name, entry in header.items())
    end = 0
    for first, last, name in spans:
        if first != end:
            what = "overlaps another tensor" if first < end else "leaves a gap before it"
            raise UnsafeFile(f"is damaged (its '{name[:80]}' {what})")
        end = last
    if data_bytes < end:
        raise UnsafeFile(f"is cut short: {data_bytes} of {end} bytes of its tensors are present")
    if data_bytes > end:
        raise UnsafeFile("has data after its tensors", SAVE_AGAIN)
    return metadata


def read_architecture(path: Path) -> dict[str, Any]:
    """Return what `write_tensors` stored of the run that a file comes from; {} for a file of other programs.

    Raises CheckpointError for a file that is damaged or cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            about = json.loads(check_header(file).get(ABOUT, "{}"))
        if not isinstance(about, dict):
            raise UnsafeFile(f"is damaged (its metadata '{ABOUT}' is no table)")
        return about
    except UnsafeFile as unsafe:
        raise CheckpointError("file", path, *unsafe.args) from unsafe
    except OSError as problem:
        raise CheckpointError("file", path, problem.strerror or "cannot be read", "check the path") from problem
    except (ValueError, RecursionError) as problem:
        why = f"is damaged (its metadata '{ABOUT}' is no JSON)"
        raise CheckpointError("file", path, why, "copy it again") from problem


def write_tensors(tensors: "Mapping[str, Tensor]", file: BinaryIO, about: Mapping[str, Any]) -> None:
    """Write tensors and, as metadata, the architecture that they fit to an open file. See `check_writable`."""
    alone = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}  # no shared memory
    file.write(_library().save(alone, {"format": "pt", ABOUT: json.dumps(about)}))


def check_writable(states: "Mapping[str, Mapping[str, Any]]") -> None:
    """Raise OptionError if a network's state has numbers that the format lacks, EnvironmentFault without the package.

    states: {network: its state_dict}.
    """
    check_package()
    for name, state in states.items():
        for key, value in state.items():
            dtype = str(getattr(value, "dtype", "torch.float32")).removeprefix("torch.")
            if dtype not in TORCH_DTYPES:
                why = f"safetensors files hold no {dtype}, which {name}'s '{key}' has"
                raise OptionError("option", "--export_format", why, "use pth")


def check_package() -> None:
    """Raise EnvironmentFault if the package safetensors is not installed."""
    if find_spec("safetensors") is None:
        raise EnvironmentFault("package", "safetensors", "is not installed", "pip install safetensors")


def _library() -> Any:
    check_package()
    import safetensors.torch  # only these files need it, and it imports torch

    return safetensors.torch


def _read_header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """Return the header and the number of bytes after it."""
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise UnsafeFile(f"has a header of {length} bytes, far more than names and shapes of weights take", SAVE_AGAIN)
    if length > size - 8:
        raise UnsafeFile(f"is cut short: {size} of at least {length + 8} bytes are present")
    try:
        header = json.loads(file.read(length), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as problem:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        if isinstance(problem, UnsafeFile):
            raise
        raise UnsafeFile("is damaged or not a safetensors file (its header is no JSON)") from problem
    if not isinstance(header, dict):
        raise UnsafeFile("is damaged (its header is no table)")
    return header, size - 8 - length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UnsafeFile("is damaged (its header has a name twice)", SAVE_AGAIN)
    return found


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    """Return (first byte, byte after the last, name) of a tensor; UnsafeFile if its entry contradicts itself."""
    who = f"its '{name[:80]}'"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise UnsafeFile(f"is damaged ({who} has no dtype, shape and data_offsets)")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise UnsafeFile(f"holds numbers of the kind {str(dtype)[:20]} ({who}), which no network here has", SAVE_AGAIN)
    if not (isinstance(shape, list) and all(map(is_count, shape))):
        raise UnsafeFile(f"is damaged ({who} has an impossible shape)")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(map(is_count, offsets))):
        raise UnsafeFile(f"is damaged ({who} has impossible offsets)")
    if offsets[1] - offsets[0] != math.prod(shape) * BITS[dtype] // 8:
        raise UnsafeFile(f"is damaged ({who} has another number of bytes than its shape)")
    return offsets[0], offsets[1], name
