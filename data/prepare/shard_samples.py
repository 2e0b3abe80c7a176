"""Name the samples of a data set as WebDataset does: key.A.png, key.B.png, key.cls."""

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from data.aligned import Aligned
from data.base import BaseDataset
from data.labeled import Labeled
from data.listing.files import open_binary
from data.listing.shard_names import SIDE
from data.shards.tars import BadTar, checked_name
from data.unaligned import Unaligned
from util.errors import DataError, OptionError


@dataclass(frozen=True)
class ShardSample:
    """The files of one sample, by side ("" for a file without one), and its class; paths or arrays (H, W)."""

    key: str
    files: tuple[tuple[str, Any], ...]
    label: str | None = None

    def members(self) -> list[tuple[str, bytes]]:
        """Return name and content of each file in the tar; raise DataError for one that cannot be read."""
        members = []
        for side, file in self.files:
            extension = os.path.splitext(file)[1] if isinstance(file, str) else ".png"
            members.append((f"{self.key}{'.' * bool(side)}{side}{extension}", _content(file)))
        return members + ([(f"{self.key}.cls", self.label.encode())] if self.label is not None else [])


def shard_samples(dataset: BaseDataset, classes: Sequence[str] = ()) -> list[ShardSample]:
    """Return the samples of a data set in its order; classes: the names that the numbers of classes stand for.

    Raises OptionError for a data set of a plug-in that is not one of ours, or extends none.
    """
    keys = _Keys(dataset.root)
    if isinstance(dataset, Unaligned):
        sides = (dataset.paths_A, dataset.paths_B)
        first, second = sides if dataset.o.direction == "AtoB" else sides[::-1]
        own = {"A": _Keys(dataset.root), "B": _Keys(dataset.root)}
        return [ShardSample(own[side].key(paths.root, path), ((side, path),))
                for side, paths in (("A", first), ("B", second)) for path in paths]  # fmt: skip
    if isinstance(dataset, Labeled):
        return list(_labeled_samples(dataset, classes, keys))
    if isinstance(dataset, Aligned):
        return list(_aligned_samples(dataset, keys))
    paths = getattr(dataset, "paths", None)
    if paths is None:
        why = "does not say which files its samples have"
        raise OptionError("option", "--dataset_mode", why, "give aligned, unaligned, labeled, single or colorization")
    return [ShardSample(keys.key(paths.root, path, plain=True), (("", path),)) for path in paths]


def _aligned_samples(dataset: Aligned, keys: "_Keys") -> Iterator[ShardSample]:
    lists = [dataset.paths, *dataset.more_inputs, *([dataset.partners] if dataset.partners else [])]
    sides = [name.partition(":")[0] for name in dataset.inputs.split(",")] if dataset.inputs else ["A"]
    sides = [*sides, "B"][: len(lists)] if len(lists) > 1 or not dataset.found or not dataset.found.is_joined else [""]
    if unknown := [side for side in sides if side and not SIDE.search(f"key.{side}.png")]:
        remedy = "name the inputs A1, A2, ..., which shards can hold"
        raise OptionError("option", "--inputs", f"names {unknown[0]}, which is no side in shards", remedy)
    labels = dataset.columns.values.get("label") if dataset.columns else None
    for index, path in enumerate(dataset.paths):
        key = keys.key(dataset.paths.root, path, plain=sides == [""])
        files = tuple((side, paths[index]) for side, paths in zip(sides, lists, strict=True))
        yield ShardSample(key, files, None if labels is None else str(labels[index]))


def _labeled_samples(dataset: Labeled, classes: Sequence[str], keys: "_Keys") -> Iterator[ShardSample]:
    for name, files in zip(dataset.classes, dataset.class_files, strict=True):
        label = str(list(classes).index(name))
        for index, file in enumerate(files):
            below = file if isinstance(file, str) else f"{index:07d}.png"
            key = keys.key(getattr(files, "root", ""), below, plain=True, folder=name)
            yield ShardSample(key, (("", file if isinstance(file, str) else np.asarray(file)),), label)


class _Keys:
    """Makes keys from paths: without the root and the extension, each key once."""

    def __init__(self, root: str):
        self.root, self.taken = root, set[str]()

    def key(self, root: str, path: str, plain: bool = False, folder: str = "") -> str:
        """Return the key of a file below a folder (default: the data set's); raise DataError for an unusable name.

        plain: the file has no side, so that its name must not end like one.
        """
        below = os.path.relpath(path, root or self.root or ".").replace(os.sep, "/") if root or folder == "" else path
        parts = [part for part in below.split("/") if part not in ("..", ".", "")]
        stem, extension = os.path.splitext("/".join([folder, *parts] if folder else parts))
        if plain and (match := SIDE.search(stem + extension)):
            stem = f"{stem[: match.start()]}_{stem[match.start() + 1 :]}"
        try:
            checked_name(f"{stem}{extension}")
        except BadTar as problem:
            raise DataError("image", path, f"cannot be in a shard: {problem}", "rename it") from problem
        key, number = stem, 1
        while key in self.taken:
            number += 1
            key = f"{stem}_{number}"
        self.taken.add(key)
        return key


def _content(file: Any) -> bytes:
    if isinstance(file, str):
        try:
            with open_binary(file) as opened:
                return opened.read()
        except OSError as problem:
            raise DataError("image", file, f"cannot be read ({problem.strerror})", "check the file") from problem
    buffer = io.BytesIO()
    Image.fromarray(file).save(buffer, "PNG")
    return buffer.getvalue()
