"""Look at every file and every sample of a data set, and tell all that is wrong or odd at once."""

import hashlib
import os
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data import exact
from data.base import BaseDataset
from data.files import is_folder, list_files
from data.paths import Paths
from util.batchwork import each, some
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
    frames: int = 1


class Survey:
    """What the data sets of some phases list, read and return; problems are gathered, not raised."""

    def __init__(self, dataroot: str, threads: int):
        self.dataroot, self.threads = dataroot, threads
        self.folders: dict[str, dict[str, Look]] = {}  # by name below dataroot, each good file's look by its path
        self.counts: dict[str, int] = {}  # of all files of a folder
        self.phases: dict[str, set[str]] = {}  # the files of each phase
        self.samples: dict[str, int] = {}
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
        except DataError as problem:
            self.problems.append(Problem("layout", f"{phase}: {problem}", True))
            dataset = BaseDataset(o)
            for folder in (os.path.join(dataset.root, phase + side) for side in ("", "A", "B")):
                listed |= {folder: list(list_files(folder))} if is_folder(folder) else {}
        self.phases[phase] = {path for paths in listed.values() for path in paths}
        for folder, paths in listed.items():
            self._read(dataset, os.path.relpath(folder, self.dataroot), paths)
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
                examples = some(" = ".join(os.path.relpath(path, self.dataroot) for path in paths) for paths in found)
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

    def hint_of_pairs(self, phase: str) -> None:
        """Add that two folders, which are used as unpaired, hold pairs by their names."""
        sides = [self.folders.get(phase + side, {}) for side in "AB"]
        names = [{Path(path).stem.removesuffix(f"_{side}") for path in looks} for side, looks in zip("AB", sides)]
        if names[0] and names[0] == names[1]:
            self._note("pairs", f"{phase}A and {phase}B have equal names: if they are pairs, scripts/make_aligned.py "
                       "makes what pix2pix reads", [])  # fmt: skip

    def _note(self, kind: str, said: str, files: list[str]) -> None:
        self.problems.append(Problem(kind, said, False, files))

    def tables(self) -> dict[str, Any]:
        """Return everything as plain tables, for JSON."""
        folders = {
            name: {
                "files": self.counts[name],
                "sizes": dict(Counter(look.size for look in looks.values()).most_common()),
                "kinds": dict(Counter(look.kind for look in looks.values()).most_common()),
            }
            for name, looks in self.folders.items()
        }
        problems = [asdict(problem) for problem in self.problems]
        return {"dataroot": self.dataroot, "samples": self.samples, "folders": folders, "problems": problems}


def look_at(dataset: BaseDataset, path: str) -> Look:
    """Read one file as training would; DataError if that stops at it."""
    image: Any = dataset.read(path, max(3, *dataset.channels))
    values = np.asarray(getattr(image, "array", image))
    digest = hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16)
    digest.update(f"{values.shape} {values.dtype}".encode())
    try:
        head = exact.head(path)
    except DataError:  # a picture that Pillow does not know, but training does
        return Look(f"{values.shape[1]}x{values.shape[0]}", str(values.dtype), digest.hexdigest())
    return Look(head.size, f"{head.format} {head.mode}", digest.hexdigest(), head.frames)


def guess_mode(dataroot: str, phase: str) -> str:
    """Return the data set that a folder's layout looks like."""
    root = Path(dataroot)
    if (root / f"{phase}A").is_dir() or (root / f"{phase}B").is_dir():
        return "unaligned"
    inside = root / phase if (root / phase).is_dir() else root
    entries = list(os.scandir(inside)) if inside.is_dir() else []
    if any("-idx3-ubyte" in entry.name for entry in entries):
        return "labeled"
    loose = any(entry.is_file() and not entry.name.startswith(".") for entry in entries)
    if inside == root:
        return "single" if loose or not entries else "labeled"
    return "aligned" if loose or not entries else "labeled"
