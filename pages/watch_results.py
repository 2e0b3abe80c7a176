"""Write the results of a watched folder: a file for each image, and a record of what was translated."""

import json
import os
from pathlib import Path, PurePath
from typing import Any

from torch import Tensor

from pages.names import UniqueNames, filesystem_key
from pages.result_images import ResultImages
from pages.results_folder import ResultsFolder, data_and_epoch
from util.errors import OptionError, print_line

RECORD = "translated.jsonl"  # a line for each image that was translated: its name, version and files


class WatchResults:
    """The folder results_dir/NAME/FOLDER_EPOCH_watched/, with images/ of the names of the inputs and a record.

    done: {name below the watched folder: (size, modification time in ns)} of what was translated, also earlier, and
    whose files are still there. Written are the generated images, or those of --results_only. Use it in `with`. Raise
    OptionError if the results would arrive in the watched folder, and what ResultsFolder raises.
    """

    def __init__(self, o: Any):
        self.path = Path(o.results_dir, o.name, "_".join((*data_and_epoch(o, o.watch), "watched")))
        _check_apart(o, self.path)
        self.files = ResultsFolder(self.path, Path(o.checkpoints_dir, o.name), o.watch)
        self.files.open()
        self.names, self.stems = UniqueNames(), dict[str, str]()
        self.done: dict[str, tuple[int, int]] = {}
        self._read_record()
        self._record = open(self.path / RECORD, "a", encoding="utf-8")
        self._record.write("\n" * (self._record.tell() > 0))  # ends a line that may be incomplete
        self._suffixes: set[str] = set()

    def __enter__(self) -> "WatchResults":
        return self

    def __exit__(self, *problem: object) -> None:
        self._record.close()
        self.files.release()

    def add(self, o: Any, images: dict[str, Tensor], name: str, version: tuple[int, int]) -> None:
        """Write the results of an image, {label: (1, C, H, W)}, then record it; o: the options it was read with."""
        writer, path = ResultImages(o, self.files), PurePath(name)
        note = writer.begin_generated(images, o.num_results)
        if note and not self._suffixes:  # of the first image
            print_line(note)
        if path.suffix not in self._suffixes:
            self._suffixes.add(path.suffix)
            writer.note_other_format(path)
        tails = writer.name_tails(path, "A", False)
        stem = self._stem(path, tails)
        for label in writer.labels:
            writer.save(images[label][0].cpu(), label, stem, path.suffix)
        self.done[name] = version
        row = {"input": name, "version": version, "stem": stem, "files": [stem + tail for tail in tails]}
        self._record.write(json.dumps(row) + "\n")
        self._record.flush()

    def _stem(self, path: PurePath, tails: list[str]) -> str:
        """Return the name of an input's results without their tails: its own name, below the same folders."""
        name = path.as_posix()
        if name not in self.stems:
            self.stems[name] = self.names.claim_first_free([path.with_suffix("").as_posix(), name], name, tails)
        return self.stems[name]

    def _read_record(self) -> None:
        """Read what was translated earlier; a killed test may have left its last line incomplete."""
        path = self.path / RECORD
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        for line in lines:
            try:
                row = json.loads(line)
                name, stem, files, version = row["input"], row["stem"], list(row["files"]), tuple(row["version"])
            except (ValueError, RecursionError, TypeError, KeyError):
                continue
            self.stems[name] = stem
            self.names.taken.update(map(filesystem_key, files))
            self.done.pop(name, None)
            if all((self.path / "images" / file).is_file() for file in files):
                self.done[name] = version


def _check_apart(o: Any, path: Path) -> None:
    """Raise OptionError if what is written would arrive in the watched folder."""
    watched = os.path.realpath(o.watch)
    for flag, place in (("--results_dir", path), ("--checkpoints_dir", Path(o.checkpoints_dir, o.name))):
        if Path(os.path.realpath(place)).is_relative_to(watched):
            why = f"{place} lies in the watched folder {o.watch}, so its images would be translated too"
            raise OptionError("option", flag, why, "watch a folder that holds nothing but new images")
