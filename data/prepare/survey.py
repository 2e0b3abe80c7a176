"""Read every file and every sample of a data set, and report all problems at once."""

import hashlib
import os
import re
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.base import BaseDataset
from data.decoding.header_check import count_unused_frames
from data.listing import manifest
from data.listing.files import dataset_root, find_storage, is_folder, list_files, list_folders
from data.listing.layouts import STANDARD_PHASES, list_phases, numbered_folders, phase_folders
from data.listing.paths import Paths
from data.prepare import lossless
from data.prepare.batch import format_names, map_in_threads
from util.errors import DataError


@dataclass
class SurveyProblem:
    """Something wrong that would stop training, or something odd that users should know."""

    kind: str
    said: str
    stops: bool
    files: list[str] = field(default_factory=list)


@dataclass
class ImageSummary:
    """The facts about one file that are compared and shown."""

    size: str
    kind: str  # format and mode: "PNG RGB"
    content: str  # a hash, equal for equal pixels
    least: float
    greatest: float
    frames: int = 1


class Survey:
    """The files and samples of a data set's phases; problems are collected, not raised."""

    def __init__(self, dataroot: str, threads: int):
        self.dataroot, self.threads = dataroot, threads
        # names in messages are relative to this folder
        self.base_folder = str(Path(dataroot).parent) if manifest.is_manifest(dataroot) else dataroot
        # folder below dataroot: {path: summary} of its readable files
        self.folders: dict[str, dict[str, ImageSummary]] = {}
        self.counts: dict[str, int] = {}  # the number of files in each folder
        self.phases: dict[str, set[str]] = {}  # the files of each phase
        self.samples: dict[str, int] = {}
        self.notes: list[str] = []  # the notes of the data sets
        self.has_questions = False  # whether a data set doubts that the files are what it takes them for
        self.problems: list[SurveyProblem] = []

    def add(self, phase: str, kind: type[BaseDataset], o: Any) -> None:
        """Create the data set of a phase as training would, read all its files, and make all its samples."""
        files_by_folder: dict[str, list[str]] = {}

        class RecordingDataset(kind):  # type: ignore[misc,valid-type]
            def register_files(self, *sides: Paths) -> list[Paths]:
                for paths in sides:
                    files_by_folder.setdefault(paths.root, []).extend(paths)
                return super().register_files(*sides)

        dataset: BaseDataset
        try:
            dataset = RecordingDataset(o)
            self.samples[phase] = len(dataset)
            self.has_questions |= bool(dataset.questions)
            self.notes += [f"{phase}: {note}" for note in [*dataset.notes, *dataset.file_notes()]]
        except DataError as problem:
            self.problems.append(SurveyProblem("layout", f"{phase}: {problem}", True))
            dataset = BaseDataset(o)
            for folder in (os.path.join(dataset.root, phase + side) for side in ("", "A", "B")):
                files_by_folder |= {folder: list(list_files(folder))} if is_folder(folder) else {}
        self.phases[phase] = {path for paths in files_by_folder.values() for path in paths}
        for folder, paths in files_by_folder.items():
            self._read_files(dataset, os.path.relpath(folder or ".", self.base_folder), paths)
        if phase in self.samples:
            self._make_samples(dataset, phase)

    def _read_files(self, dataset: BaseDataset, folder: str, paths: list[str]) -> None:
        summaries = self.folders.setdefault(folder, {})
        self.counts[folder] = len(paths)
        for path, summary in map_in_threads(partial(summarise_image, dataset), paths, self.threads, folder):
            if isinstance(summary, DataError):
                self.problems.append(SurveyProblem("file", str(summary), True, [path]))
            else:
                summaries[path] = summary

    def _make_samples(self, dataset: BaseDataset, phase: str) -> None:
        """Make each sample and record errors, except those of files that are already known to be bad."""
        files_by_reason: dict[str, list[str]] = defaultdict(list)
        indices, label = list(range(len(dataset))), f"samples of {phase}"
        bad_files = {path for problem in self.problems if problem.kind == "file" for path in problem.files}
        for _, sample in map_in_threads(dataset.__getitem__, indices, self.threads, label):
            if isinstance(sample, DataError) and sample.args[1] not in bad_files:
                files_by_reason[f"{sample.args[2]}; {sample.args[3]}"].append(sample.args[1])
        for why, files in files_by_reason.items():
            self.problems.append(SurveyProblem("sample", f"{phase}: {format_names(files)}: {why}", True, files))

    def check_across_files(self) -> None:
        """Add the notes that need all files: equal images, equal names, several frames."""
        # Find equal names and several frames.
        for folder, looks in self.folders.items():
            self._check_names(folder, [Path(path) for path in looks])
            moving = [path for path, look in looks.items() if look.frames > 1]
            if moving:
                self._add_note("frames", f"{folder}: {len(moving)} hold several frames: the first is used", moving)

        # Find equal images, across phases and within one.
        equal: dict[str, list[str]] = defaultdict(list)
        for looks in self.folders.values():
            for path, look in looks.items():
                equal[look.content] += [path] if path not in equal[look.content] else []
        groups = [paths for paths in equal.values() if len(paths) > 1]
        phases = [sum(not files.isdisjoint(paths) for files in self.phases.values()) for paths in groups]
        across = [paths for paths, number in zip(groups, phases) if number > 1]
        within = [paths for paths, number in zip(groups, phases) if number <= 1]
        for kind, found, what in (
            ("leak", across, "in several phases, so that tests use training images"),
            ("equal", within, "twice or more in one phase"),
        ):
            if found:
                relative = ([os.path.relpath(path, self.base_folder) for path in paths] for paths in found)
                examples = format_names(map(" = ".join, relative))
                files = [path for paths in found for path in paths]
                self._add_note(kind, f"{len(found)} images are {what}: {examples}", files)

    def _check_names(self, folder: str, paths: list[Path]) -> None:
        for kind, said, alike in (
            ("stems", "equal in name apart from the extension", lambda p: str(p.with_suffix(""))),
            ("case", "equal in name apart from capitals, one file on macOS and Windows", lambda p: str(p).casefold()),
        ):
            groups: dict[str, list[str]] = defaultdict(list)
            for path in paths:
                groups[alike(path)].append(str(path))
            several = [group for group in groups.values() if len(group) > 1]
            if several:
                example = format_names(Path(path).name for path in several[0])
                files = [path for group in several for path in group]
                self._add_note(kind, f"{folder}: {len(files)} are {said}, such as {example}", files)

    def _add_note(self, kind: str, said: str, files: list[str]) -> None:
        self.problems.append(SurveyProblem(kind, said, False, files))

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain dicts and lists, for JSON."""
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
        counted = {"dataroot": self.dataroot, "samples": self.samples, "notes": self.notes}
        return counted | {"folders": folders, "problems": problems}


def summarise_image(dataset: BaseDataset, path: str) -> ImageSummary:
    """Read one file as training would; raise DataError if training would stop at it."""
    image: Any = _read_in_any_channels(dataset, path)
    values = np.asarray(getattr(image, "array", image))
    digest = hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16)
    digest.update(f"{values.shape} {values.dtype}".encode())
    ends = values.min().item(), values.max().item()
    try:
        head = lossless.read_header(path)
        frames = max(1, count_unused_frames(path, dataset.channels))
    except DataError:  # Pillow cannot read this file, but training can
        return ImageSummary(f"{values.shape[1]}x{values.shape[0]}", str(values.dtype), digest.hexdigest(), *ends)
    return ImageSummary(head.size, f"{head.format} {head.mode}", digest.hexdigest(), *ends, frames)


def _read_in_any_channels(dataset: BaseDataset, path: str) -> Any:
    """Return an image in the first number of channels that it can have: in most, and in those of the two sides."""
    *others, last = dict.fromkeys((max(3, *dataset.channels), *dataset.channels))
    for channels in others:
        with suppress(DataError):
            return dataset.read(path, channels)
    return dataset.read(path, last)


def detect_phases(dataroot: str) -> list[str]:
    """Return the phases of a folder, a zip file or a manifest; ["train"] if it has none."""
    if file := manifest.find_manifest(dataroot, "auto"):
        splits = manifest.read_manifest(file, dataroot, "train", None).splits
        return [phase for phase in STANDARD_PHASES if phase in splits] or ["train"]
    return list_phases(dataroot) or ["train"]


def guess_mode(dataroot: str, phase: str) -> str:
    """Return the dataset mode that fits a folder, a zip file or a manifest; raise DataError for a bad manifest."""
    if file := manifest.find_manifest(dataroot, "auto"):
        rows = manifest.read_manifest(file, dataroot, phase, None).rows
        if any(row.label for row in rows) and not any(row.files[-1] for row in rows):
            return "labeled"
        return "aligned" if all(all(row.files) for row in rows) else "unaligned"
    root = dataset_root(str(Path(dataroot)), phase)
    sides = [folder for kind in ("sides", "nested") for folder in phase_folders(root, phase, kind)]
    has_inputs = bool(numbered_folders(root, phase)) and not any(map(is_folder, sides[::2]))
    if any(map(is_folder, sides)) or list_folders(root) == ["A", "B"]:
        return "aligned" if has_inputs else "unaligned"
    inside = str(Path(root, phase)) if is_folder(str(Path(root, phase))) else root
    if any(re.search(r"[-.]idx3-ubyte", name) for name in find_storage(inside).list_names(inside)):
        return "labeled"
    if list_folders(inside) and not any(os.path.dirname(path) == inside for path in list_files(inside)):
        return "labeled"
    return "labeled" if inside == root else "aligned"
