"""Keep a folder of results to one test: name it, protect other results, and remove files of an earlier test."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import Any, TextIO

from data.listing.demo import Demo
from data.listing.files import find_storage
from pages.names import filesystem_key, natural_key, safe_file_name
from util import file_lock
from util.atomic_write import replace_text
from util.errors import DataError, EnvironmentFault, OptionError, count_text, print_line

METRICS_FILE = "metrics.json"  # of a test: its run, data, metrics and files
UNFINISHED_FILE = "files.jsonl"  # the files that a test has begun to write; it becomes part of METRICS_FILE at the end
ERROR_LOG = "error.log"
REMEDY = "choose another --results_dir"


def data_and_epoch(o: Any, given: str = "") -> tuple[str, str]:
    """Return the two parts of the folder's name, PHASE and EPOCH.

    given: a folder or file that replaces the phase's data; its name, for a file without extension, replaces the phase.
    """
    epoch = o.epoch + (f"_iter{o.load_iter}" if o.load_iter else "")
    if not given:
        return o.phase, epoch
    path = Path(os.path.abspath(given))  # which gives "." and ".." their names
    return safe_file_name((path.name if path.is_dir() else path.stem) or "images"), epoch


def results_path(o: Any, given: str = "") -> Path:
    """Return results_dir/NAME/PHASE_EPOCH, or results_dir/NAME/STEM_EPOCH for the data in `given`."""
    return Path(o.results_dir, o.name, "_".join(data_and_epoch(o, given)))


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's metrics.json; {} without one, or for one that does not name run and data."""
    try:
        record = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    named = isinstance(record, dict) and all(isinstance(record.get(key), str) for key in ("checkpoint", "data"))
    return record if named else {}


def folder_of_test(images: Path) -> Path:
    """Return the folder of a test, given that folder or its images/."""
    return images.parent if images.resolve().name == "images" else images


def check_finished(folder: Path) -> None:
    """Raise DataError if the test that writes a folder has not ended."""
    if (folder / UNFINISHED_FILE).is_file():
        why = "holds a test that has not ended, so that some images may be of an earlier one"
        raise DataError("folder", folder, why, "run that test to its end")


def classes_of_files(images: Path) -> dict[str, str] | None:
    """Return {first part of the names of generated images: class} for a folder that test.py wrote, or its images/.

    None if metrics.json does not say it.
    """
    classes = read_record(folder_of_test(images)).get("classes")
    is_known = isinstance(classes, dict) and all(isinstance(name, str) for name in classes.values())
    return classes if is_known else None


class ResultsFolder:
    """A folder of results that this process writes: images/, pages and metrics.json, which lists all of its files.

    run: the folder of the run's checkpoints; data: the path of what is tested, "" for images without inputs. Until
    `open`, earlier results stay as they are. Raises OptionError for the results of another run, EnvironmentFault for a
    folder that cannot be written or that another process writes.
    """

    def __init__(self, path: Path, run: Path, data: str):
        self.path, self.run, self.data = path, run, data
        self.written: dict[str, None] = {}  # paths below the folder, with /
        self._earlier: list[str] = []  # files of earlier tests of the same data
        self._unfinished: TextIO | None = None
        self._log_errors: Callable[[Path], None] | None = None  # to be called by `open`
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock_file = path.with_name(f".{path.name}.lock")  # outside, because the folder may be renamed
            self._lock = file_lock.acquire(lock_file, "another test that writes to this folder")
        except OSError as problem:
            raise self._fault(problem) from problem
        if self._lock is None:
            why, remedy = "another test writes to it now", "wait until that test ends, or " + REMEDY
            raise EnvironmentFault("folder", path, why, remedy)
        checkpoint = read_record(path).get("checkpoint")
        if checkpoint is not None and checkpoint != self._relative(run):
            self.release()
            why = f"{path} holds the results of another run, {os.path.normpath(path / checkpoint)}"
            raise OptionError("option", "--results_dir", why, "give another folder with --results_dir")

    def log_errors(self, log: Callable[[Path], None]) -> None:
        """Let `log` write errors to a file of this folder: now, or once `open` replaces an earlier test's results."""
        if read_record(self.path):
            self._log_errors = log
        else:
            log(self.path / ERROR_LOG)

    def open(self) -> None:
        """Make the folder ready for images; earlier results of other data are renamed, with a printed line."""
        if self._unfinished is not None:
            return
        try:
            (self.path / ERROR_LOG).unlink(missing_ok=True)
            record = read_record(self.path)
            if record.get("data") != self._relative_data() and not self._is_empty():
                self._rename("results of other images" if record else "earlier results without a record of their data")
                record = {}
            (self.path / "images").mkdir(parents=True, exist_ok=True)
            self._earlier = list(dict.fromkeys(self._listed(record)))
            self._write_record({}, self._earlier)
            self._unfinished = open(self.path / UNFINISHED_FILE, "a", encoding="utf-8")
            if self._log_errors:
                self._log_errors(self.path / ERROR_LOG)
        except OSError as problem:
            raise self._fault(problem) from problem

    def claim(self, name: str) -> Path:
        """Return the path of a file below the folder that is about to be written, and list the file."""
        if name not in self.written and self._unfinished is not None:
            self.written[name] = None
            self._unfinished.write(json.dumps(name) + "\n")
            self._unfinished.flush()  # before the file exists, so that a killed test has listed all of its files
        return self.path / name

    def finish(self, tables: dict[str, Any]) -> None:
        """Remove the listed files of earlier tests that this one has not written, and write metrics.json."""
        kept = self._remove_earlier()
        self._write_record(tables, sorted({*self.written, *kept}, key=natural_key))
        if self._unfinished is not None:
            self._unfinished.close()
        (self.path / UNFINISHED_FILE).unlink(missing_ok=True)
        if kept:
            left = f"{count_text(len(kept), 'file')} of an earlier test remain{'s' * (len(kept) == 1)}"
            print_line(
                f"note: {left} in {self.path}, because {'it lies' if len(kept) == 1 else 'they lie'} behind links"
            )

    def release(self) -> None:
        """Let other processes write to the folder."""
        if self._unfinished is not None:
            self._unfinished.close()
        if self._lock is not None:
            file_lock.remove(self._lock)
            self._lock = None

    def _fault(self, problem: OSError) -> EnvironmentFault:
        return EnvironmentFault("folder", self.path, problem.strerror or "cannot be made", REMEDY)

    def _relative(self, target: Path) -> str:
        """Return the path of a target from this folder, without links, so that both may be moved together."""
        real = os.path.realpath(target)
        try:
            return Path(os.path.relpath(real, os.path.realpath(self.path))).as_posix()
        except ValueError:  # on another drive of Windows
            return Path(real).as_posix()

    def _relative_data(self) -> str:
        has_path = self.data and not isinstance(find_storage(self.data), Demo)
        return self._relative(Path(self.data)) if has_path else self.data

    def _write_record(self, tables: dict[str, Any], files: list[str]) -> None:
        record = {"checkpoint": self._relative(self.run), "data": self._relative_data(), **tables, "files": files}
        replace_text(self.path / METRICS_FILE, json.dumps(record, indent=1) + "\n")

    def _listed(self, record: dict[str, Any]) -> Iterator[str]:
        """Yield the files that the record and the list of an interrupted test name, if a test can have written them."""
        listed = record.get("files")
        names = list(listed) if isinstance(listed, list) else []
        if (self.path / UNFINISHED_FILE).is_file():
            text = (self.path / UNFINISHED_FILE).read_text(encoding="utf-8", errors="replace")
            for line in text.split("\n")[:-1]:  # the last line may be incomplete
                try:
                    names.append(json.loads(line))
                except (ValueError, RecursionError):
                    continue
        for name in names:
            parts = PurePosixPath(name).parts if isinstance(name, str) and "\0" not in name else ()
            image = len(parts) > 1 and parts[0] == "images" and ".." not in parts
            page = len(parts) == 1 and (parts[0].endswith(".html") or parts[0] == "rows.js")
            if image or page:
                yield name

    def _is_empty(self) -> bool:
        """Whether there are no results: nothing, or only an empty folder images/."""
        names = os.listdir(self.path)
        return not names or (names == ["images"] and not os.listdir(self.path / "images"))

    def _rename(self, content: str) -> None:
        """Give the folder the next free number: test_latest becomes test_latest_1."""
        prefix = self.path.name + "_"
        endings = [name.removeprefix(prefix) for name in os.listdir(self.path.parent) if name.startswith(prefix)]
        number = 1 + max((int(end) for end in endings if end.isdecimal() and len(end) < 10), default=0)
        renamed = self.path.with_name(f"{prefix}{number}")
        os.rename(self.path, renamed)
        print_line(f"note: {self.path} held {content}; they are now in {renamed}")

    def _remove_earlier(self) -> list[str]:
        """Remove files of earlier tests that were not written again; return those that lie behind links."""
        top, kept = os.path.realpath(self.path), []
        written_keys = {filesystem_key(name): name for name in self.written}
        for name in self._earlier:
            if name in self.written:
                continue
            path = self.path / name
            same = written_keys.get(filesystem_key(name))
            if same is not None and path.exists() and path.samefile(self.path / same):  # a disk that ignores case
                continue
            if os.path.realpath(path.parent) != os.path.join(top, *PurePosixPath(name).parts[:-1]):
                kept.append(name)
                continue
            for file in (path, path.with_name(path.name + ".tmp")):  # of a test that was killed
                if os.path.lexists(file) and S_ISREG(os.lstat(file).st_mode):
                    file.unlink()
            if path.parent not in (self.path, self.path / "images"):
                with contextlib.suppress(OSError):  # a folder that is not empty
                    path.parent.rmdir()
        return kept
