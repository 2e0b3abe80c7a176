"""Write samples into tar shards, with the list and the index of them; the same samples give the same bytes."""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data.listing.paths import PHASES, hash64
from data.listing.shard_index import CATALOGUE, INDEX_FILE, Shard, build_index
from data.prepare.shard_samples import ShardSample
from util.atomic_write import replace_text, sync_folder
from util.errors import EnvironmentFault, OptionError

MADE_BY = "GANvas make_shards.py"
NAME = re.compile(rf"(?:(?:{'|'.join(PHASES)}|[\w-]+)-)?\d{{6}}\.tar(?:\.tmp)?")
BLOCK_BYTES = 512  # a header and the rounding of a content


@dataclass(frozen=True)
class Limits:
    """The most bytes and samples of one shard; a single sample may be larger."""

    size: int
    count: int


def check_output(folder: Path) -> None:
    """Raise OptionError unless a folder is new, empty or holds shards that make_shards wrote."""
    try:
        names = [entry.name for entry in os.scandir(folder)] if folder.exists() else []
    except OSError as problem:
        raise OptionError(
            "folder", folder, f"cannot be used ({problem.strerror})", "choose another --output"
        ) from problem
    if names and _stored(folder).get("made_by") != MADE_BY:
        why = f"is not empty (it has {sorted(names)[0]!r}) and was not written by make_shards.py"
        raise OptionError("folder", folder, why, "choose another --output, or empty it")


def write_shards(
    folder: Path, phases: Mapping[str, Sequence[ShardSample]], classes: Sequence[str], limits: Limits
) -> int:
    """Write the samples of each phase ("" for all) into shards and return their number; older shards are replaced.

    The folder's list says that it is not complete until everything is written. Samples are ordered by a hash of their
    keys, so that each shard is a sample of the whole. Raises EnvironmentFault for a failing disk.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _save(folder, [], classes, "", complete=False)
        shards, samples = [], []
        for phase, every in phases.items():
            ordered = sorted(every, key=lambda sample: (hash64(os.fsencode(sample.key)), sample.key))
            with tqdm(ordered, phase or "all", unit=" samples", disable=None, leave=False) as bar:
                for number, members in enumerate(_parts(bar, limits)):
                    name = f"{phase}{'-' * bool(phase)}{number:06d}.tar"
                    shards.append(_write_tar(folder / name, [each for group in members for each in group]))
                    samples.append(len(members))
        for path in folder.iterdir():
            if NAME.fullmatch(path.name) and path.name not in {shard.path for shard in shards}:
                path.unlink()
        index = build_index([shard.path for shard in shards], classes, {each.path: each for each in shards}.__getitem__,
                            lambda shard: open(folder / shard.path, "rb"))  # fmt: skip
        content = io.BytesIO()
        index.save(content)
        _write(folder / INDEX_FILE, content.getvalue())
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        _save(folder, list(zip(shards, samples, strict=True)), classes, digest, complete=True)
        sync_folder(folder)
        return len(shards)
    except OSError as problem:
        why = f"cannot be written ({problem.strerror or problem})"
        raise EnvironmentFault(
            "file", problem.filename or folder, why, "free space or choose another --output"
        ) from problem


def _parts(samples: Iterable[ShardSample], limits: Limits) -> Iterator[list[list[tuple[str, bytes]]]]:
    """Yield the samples of each shard, each a list of (name, content)."""
    part: list[list[tuple[str, bytes]]] = []
    size = 0
    for sample in samples:
        members = sample.members()
        more = sum(BLOCK_BYTES + -(-len(content) // BLOCK_BYTES) * BLOCK_BYTES for _, content in members)
        if part and (len(part) >= limits.count or size + more > limits.size):
            yield part
            part, size = [], 0
        part.append(members)
        size += more
    if part:
        yield part


def _write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Shard:
    """Write a tar file completely or not at all; owner, time and permissions are the same for all members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    _write(path, buffer.getbuffer())
    return Shard(path.name, len(buffer.getbuffer()), hashlib.sha256(buffer.getbuffer()).hexdigest())


def _write(path: Path, content: bytes | memoryview) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _stored(folder: Path) -> dict:
    try:
        stored = json.loads((folder / CATALOGUE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _save(
    folder: Path, shards: Sequence[tuple[Shard, int]], classes: Sequence[str], index: str, complete: bool
) -> None:
    rows = [{"name": each.path, "bytes": each.size, "sha256": each.version, "samples": n} for each, n in shards]
    stored = {"made_by": MADE_BY, "complete": complete, "classes": list(classes), "index": index, "shards": rows}
    replace_text(folder / CATALOGUE, json.dumps(stored, indent=1) + "\n")
