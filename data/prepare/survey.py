"""Look at every file and every sample of a data set, and tell all that is wrong or odd at once."""

import hashlib
import os
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.base import BaseDataset
from data.listing import manifest
from data.listing.files import is_folder, list_files, list_folders, start_of
from data.listing.layouts import USUAL_PHASES, folders_of, phases
from data.listing.paths import Paths
from data.prepare import lossless
from data.prepare.batch import each, some
from util.errors import DataError


@dataclass
class Problem:
    """Something wrong, of which training stops, or odd, of which people should know."""

    kind: str
    said: str
    stops: bool
    files: list[str] = field(default_factory=list)


@dataclass
class Look:
    """What was seen of one file."""

    size: str
    kind: str  # format and mode: "PNG RGB"
    content: str  # equal for equal pixels
    least: float
    greatest: float
    frames: int = 1


class Survey:
    """What the data sets of some phases list, read and return; problems are gathered, not raised."""

    def __init__(self, dataroot: str, threads: int):
        self.dataroot, self.threads = dataroot, threads
        self.base = str(Path(dataroot).parent) if manifest.is_manifest(dataroot) else dataroot  # names begin there
        self.folders: dict[str, dict[str, Look]] = {}  # by name below dataroot, each good file's look by its path
        self.counts: dict[str, int] = {}  # of all files of a folder
        self.phases: dict[str, set[str]] = {}  # the files of each phase
        self.samples: dict[str, int] = {}
        self.notes: list[str] = []  # what the data sets say of themselves
        self.problems: list[Problem] = []
        self.bad: set[str] = set()

    def add(self, phase: str, kind: type[BaseDataset], o: Any) -> None:
        """Make a phase's data set as training would, read all files it lists, and make all its samples."""
        listed: dict[str, list[str]] = {}

        class Watched(kind):  # type: ignore[misc,valid-type]
            def taken(self, *sides: Paths) -> list[Paths]:
                for paths in sides:
                    listed.setdefault(paths.root, []).extend(paths)
                return super().taken(*sides)

        dataset: BaseDataset
        try:
            dataset = Watched(o)
            self.samples[phase] = len(dataset)
            self.notes += [f"{phase}: {note}" for note in dataset.notes]
        except DataError as problem:
            self.problems.append(Problem("layout", f"{phase}: {problem}", True))
            dataset = BaseDataset(o)
            for folder in (os.path.join(dataset.root, phase + side) for side in ("", "A", "B")):
                listed |= {folder: list(list_files(folder))} if is_folder(folder) else {}
        self.phases[phase] = {path for paths in listed.values() for path in paths}
        for folder, paths in listed.items():
            self._read(dataset, os.path.relpath(folder or ".", self.base), paths)
        if phase in self.samples:
            self._make(dataset, phase)

    def _read(self, dataset: BaseDataset, folder: str, paths: list[str]) -> None:
        def look(path: str) -> Look:
            return look_at(dataset, path)

        seen = self.folders.setdefault(folder, {})
        self.counts[folder] = len(paths)
        for path, found in each(look, paths, self.threads, folder):
            if isinstance(found, DataError):
                self.bad.add(path)
                self.problems.append(Problem("file", str(found), True, [path]))
            else:
                seen[path] = found

    def _make(self, dataset: BaseDataset, phase: str) -> None:
        """Make each sample; what is wrong with its files has been said, so that only its preprocessing is news."""
        kinds: dict[str, list[str]] = defaultdict(list)
        for _, made in each(dataset.__getitem__, list(range(len(dataset))), self.threads, f"samples of {phase}"):
            if isinstance(made, DataError) and made.args[1] not in self.bad:
                kinds[f"{made.args[2]}; {made.args[3]}"].append(made.args[1])
        for why, files in kinds.items():
            self.problems.append(Problem("sample", f"{phase}: {some(files)}: {why}", True, files))

    def conclude(self) -> None:
        """Add what is odd only when all is seen: equal pictures, equal names, several frames."""
        for folder, looks in self.folders.items():
            self._names(folder, [Path(path) for path in looks])
            moving = [path for path, look in looks.items() if look.frames > 1]
            if moving:
                self._note(
                    "frames", f"{folder}: {len(moving)} hold several pictures, of which the first is used", moving
                )
        equal: dict[str, list[str]] = defaultdict(list)
        for looks in self.folders.values():
            for path, look in looks.items():
                equal[look.content] += [path] if path not in equal[look.content] else []
        groups = [paths for paths in equal.values() if len(paths) > 1]
        across: list[list[str]] = []
        within: list[list[str]] = []
        for paths in groups:
            phases = [{phase for phase, files in self.phases.items() if path in files} for path in paths]
            (across if len(set.union(*phases)) > 1 else within).append(paths)
        for kind, found, what in (("leak", across, "in several phases, so that tests are of pictures trained on"),
                                  ("equal", within, "twice or more in one phase")):  # fmt: skip
            if found:
                examples = some(" = ".join(os.path.relpath(path, self.base) for path in paths) for paths in found)
                files = [path for paths in found for path in paths]
                self._note(kind, f"{len(found)} pictures are {what}: {examples}", files)

    def _names(self, folder: str, paths: list[Path]) -> None:
        for kind, said, alike in (
            ("stems", "of equal names but for their extensions", lambda p: str(p.with_suffix(""))),
            ("case", "of equal names but for capitals, one file on macOS and Windows", lambda p: str(p).casefold()),
        ):
            groups: dict[str, list[str]] = defaultdict(list)
            for path in paths:
                groups[alike(path)].append(str(path))
            several = [group for group in groups.values() if len(group) > 1]
            if several:
                example = some(Path(path).name for path in several[0])
                files = [path for group in several for path in group]
                self._note(kind, f"{folder}: {len(files)} are {said}, such as {example}", files)

    def _note(self, kind: str, said: str, files: list[str]) -> None:
        self.problems.append(Problem(kind, said, False, files))

    def tables(self) -> dict[str, Any]:
        """Return everything as plain tables, for JSON."""
        folders = {
            name: {
                "files": self.counts[name],
                "sizes": dict(Counter(look.size for look in looks.values()).most_common()),
                "kinds": dict(Counter(look.kind for look in looks.values()).most_common()),
                "least": min((look.least for look in looks.values()), default=None),
                "greatest": max((look.greatest for look in looks.values()), default=None),
            }
            for name, looks in self.folders.items()
        }
        problems = [asdict(problem) for problem in self.problems]
        return {"dataroot": self.dataroot, "samples": self.samples, "notes": self.notes, "folders": folders,
                "problems": problems}  # fmt: skip


def look_at(dataset: BaseDataset, path: str) -> Look:
    """Read one file as training would; DataError if that stops at it."""
    image: Any = dataset.read(path, max(3, *dataset.channels))
    values = np.asarray(getattr(image, "array", image))
    digest = hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16)
    digest.update(f"{values.shape} {values.dtype}".encode())
    ends = values.min().item(), values.max().item()
    try:
        head = lossless.head(path)
    except DataError:  # a picture that Pillow does not know, but training does
        return Look(f"{values.shape[1]}x{values.shape[0]}", str(values.dtype), digest.hexdigest(), *ends)
    return Look(head.size, f"{head.format} {head.mode}", digest.hexdigest(), *ends, head.frames)


def phases_of(dataroot: str) -> list[str]:
    """Return the phases that a folder, a zip file or a manifest has; where it is not divided, train."""
    if file := manifest.find(dataroot, "auto"):
        splits = manifest.read(file, dataroot, "train").splits
        return [phase for phase in USUAL_PHASES if phase in splits] or ["train"]
    return phases(dataroot) or ["train"]


def guess_mode(dataroot: str, phase: str) -> str:
    """Return the data set that a folder, a zip file or a manifest looks like; DataError for a manifest that is none."""
    if file := manifest.find(dataroot, "auto"):
        rows = manifest.read(file, dataroot, phase).rows
        if any(label for _, _, label in rows) and not any(b for _, b, _ in rows):
            return "labeled"
        return "aligned" if all(a and b for a, b, _ in rows) else "unaligned"
    root = start_of(str(Path(dataroot)), phase)
    sides = [folder for kind in ("sides", "nested") for folder in folders_of(root, phase, kind)]
    if any(map(is_folder, sides)) or list_folders(root) == ["A", "B"]:
        return "unaligned"
    inside = str(Path(root, phase)) if is_folder(str(Path(root, phase))) else root
    if os.path.isdir(inside) and any("-idx3-ubyte" in name for name in os.listdir(inside)):
        return "labeled"
    if list_folders(inside) and not any(os.path.dirname(path) == inside for path in list_files(inside)):
        return "labeled"
    return "single" if inside == root else "aligned"
