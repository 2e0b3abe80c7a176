"""labeled: one folder of images per class, or MNIST's idx files; for class-conditional generation."""

import gzip
import os
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from data.base import BaseDataset, Sample, Spec, column_values
from data.decoding.images import convert_channels
from data.joined_pairs import twice_as_wide
from data.listing import manifest
from data.listing.columns import Columns, find_kinds
from data.listing.files import (
    PHASE_FOLDERS,
    PHASES,
    find_storage,
    is_folder,
    list_files,
    list_folders,
    open_binary,
    size_and_mtime,
)
from data.listing.layouts import (
    LABEL_MAP_FOLDERS,
    list_images,
    manifest_notes,
    manifest_scope,
    select_split,
    split_indices,
    unused_split_notes,
)
from data.listing.paths import Paths, has_image_extension, hash64
from data.listing.shards import Shards
from data.names.class_folders import check_phases, folder_questions
from data.names.class_names import describe_classes, select_classes, shorten
from data.names.phase_names import divided_phases, spelled_phases
from data.notes.fitting import naming_models
from util.errors import DataError, are_text, count_text, raise_if_any

IDX_MAGIC = {3: 0x803, 1: 0x801}  # number of dimensions -> magic number of an idx file of uint8


class Labeled(BaseDataset):
    """Samples {"A", "label", "path_A"}; classes are the sorted folder names in dataroot/phase, or else in dataroot.

    Images of one folder without folders of classes, or of a manifest without labels, are one class.

    Labels number the classes of training: in a test and in validation those of the run (`o.run_classes`), whichever of
    them have images there. Images of other classes are left out, with a note.

    A dataroot with idx files (train-images-idx3-ubyte, t10k-..., also .gz) has the classes 0 to 9.
    """

    sides = "A"
    is_told = False  # whether the user has said what the files are, so that no other model fits better
    class_columns: Mapping[str, Columns] = MappingProxyType({})  # the further columns of a manifest, by class

    def __init__(self, o):
        super().__init__(o)
        self.nc = min(o.input_nc, o.output_nc)  # grey if either flag asks for 1 channel
        self.channels = (self.nc, self.nc)
        with nullcontext() if self.is_told else naming_models(o, self.root):
            self.class_files = self._find_files()
        # Interleave the classes, so that --max_dataset_size keeps images of each.
        number = np.concatenate([np.arange(len(each)) for each in self.class_files])
        label = np.repeat(np.arange(len(self.class_files)), [len(each) for each in self.class_files])
        interleaved = np.lexsort((label, number))[: int(min(len(number), o.max_dataset_size))]
        self.rows = np.stack([number[interleaved], label[interleaved]], axis=1)
        counts = np.bincount(self.rows[:, 1], minlength=len(self.classes)).tolist()
        self.notes.append(describe_classes(self.classes, counts))
        if self.class_columns:  # of a manifest, whose rows may give one image several classes
            self.notes += _several_classes_notes(dict(zip(self.classes, self.class_files, strict=True)))

    def _find_files(self) -> list[Sequence]:
        """Return the files or images of each class, and keep the classes; raise DataError for one without any."""
        found = self._files_of_manifest() or self._images_of_idx() or self._files_of_folders()
        self.classes = self.run_classes or tuple(sorted(select_classes(self.o.classes, sorted(found))))
        present = self._present_classes(found)
        if empty := [name for name in present if not len(found[name])]:
            why = f"its folder '{empty[0]}' holds no images"
            remedy = "fill it, remove it, or name the other folders with --classes"
            raise DataError("folder", self.o.dataroot, why, remedy)
        return [found[name] if name in present else () for name in self.classes]

    @property
    def run_classes(self) -> tuple[str, ...]:
        """The classes of the run in its order; () in training, where the data set decides."""
        return () if self.o.isTrain else tuple(getattr(self.o, "run_classes", ()))

    @property
    def _asked_classes(self) -> set[str]:
        """The names in --classes."""
        return {self.o.classes, *map(str.strip, self.o.classes.split(","))} - {""}

    def _present_classes(self, found: Collection[str]) -> tuple[str, ...]:
        """Return the classes to use, in order; add a note for classes that the run or the data set lacks.

        Raise DataError if none is left, or one that --classes asks for has no images.
        """
        if not self.run_classes:
            return self.classes
        wanted = select_classes(self.o.classes, self.run_classes)
        missing, foreign = [n for n in wanted if n not in found], sorted(set(found) - set(self.run_classes))
        run, here = ", ".join(self.run_classes), ", ".join(sorted(found)) or "none"
        if (self.o.classes and missing) or len(missing) == len(wanted):
            why = f"has no images of {', '.join(missing)}; the run's classes are {run}, those here {here}"
            raise DataError("folder", self.o.dataroot, why, "name the folders like the run's classes, or use --classes")
        if foreign:
            self.notes.append(f"note: left out: images of {', '.join(foreign)}, not among the run's classes ({run})")
        if missing:
            self.notes.append(f"note: there are no images of the run's classes {', '.join(missing)}")
        return tuple(name for name in wanted if name in found)

    def _files_of_manifest(self) -> dict[str, Sequence]:
        file = manifest.find_manifest(self.o.dataroot, self.o.pairs)
        if not file:
            return {}
        table = manifest.read_manifest(file, self.root, self.o.phase)
        has_labels = any(row.label for row in table.rows)
        if not has_labels and any(row.files[-1] for row in table.rows):
            raise DataError("file", file, "has no labels, and names images of B", "add a column label for classes")
        unlabeled = [(row.files[0], f"has no label in {file}") for row in table.rows if has_labels and not row.label]
        raise_if_any("file", [*table.problems, *unlabeled], f"in {file}", "fix the manifest, or remove these rows")
        # Collect the different rows of each class, in the order of their files.
        kinds, notes = find_kinds(file, table.all_others, self.o.saved.get("run_columns", {}), own=("b", "label"))
        by_label: dict[str, dict[tuple[str, str], manifest.Row]] = {}
        for row in table.rows:
            different = row.files[0], str([row.others.get(name) for name in row.others if name.lower() != "label"])
            by_label.setdefault(row.label or self._only_class(Path(file).stem), {})[different] = row
        rows_by_label = {label: [rows[key] for key in sorted(rows)] for label, rows in by_label.items()}
        paths_by_label = {
            label: manifest.paths_with_sizes([row.files[0] for row in rows]) for label, rows in rows_by_label.items()
        }
        if self.o.split is not None and not table.splits:
            for label, paths in paths_by_label.items():
                chosen = split_indices(paths, self.o)
                paths_by_label[label] = paths.take(chosen)
                rows_by_label[label] = [rows_by_label[label][index] for index in chosen]
        count = sum(map(len, paths_by_label.values()))
        self.notes.append(f"labeled: {file}, {count_text(count, 'image')}{manifest_scope(table, self.o)}")
        self.notes += manifest_notes(table, self.o)
        self.class_columns = {
            label: Columns([row.others for row in rows], kinds) for label, rows in rows_by_label.items()
        }
        self.columns = Columns([], kinds)
        for label, columns in self.class_columns.items():
            self.inventory.add_labels([[label, len(paths_by_label[label])], *columns.values.values()])
        self.notes += filter(None, [self.columns.describe(), *notes])
        return {label: self.register_files(paths)[0] for label, paths in paths_by_label.items()}

    def _files_of_folders(self) -> Mapping[str, Sequence]:
        storage = find_storage(self.root)
        if isinstance(storage, Shards) and storage.index.sided_classes:
            why = "states the classes of pairs (key.A.png, key.B.png, key.cls), not of single images (key.png)"
            raise DataError("shards", self.root, why, "use --dataset_mode aligned, whose batches have the label")
        phase_folder = str(Path(self.root, self.o.phase))
        has_phase = is_folder(phase_folder) and self.o.phase not in self._asked_classes
        root = phase_folder if has_phase else self.root
        names = self._class_folders(root)
        loose = [name for name in find_storage(root).list_names(root) if has_image_extension(name)]
        if loose and not any(len(list_files(str(Path(root, name)))) for name in names):
            by_class = self._one_class(root)
        elif not names:
            list_images(self.root, self.root, self.o)  # raises the more specific error if dataroot itself is wrong
            why = f"has no folders of classes (it has {shorten(list_folders(root)) or 'no folders'})"
            raise DataError("folder", root, why, "put the images in CLASS/NAME.png, or give an existing --phase")
        else:
            if loose:
                example = f"such as '{Path(root, loose[0])}'"
                self.notes.append(f"note: images in no folder of a class are not used ({len(loose)}, {example})")
            wanted = names if self.run_classes else select_classes(self.o.classes, names)
            by_class = {name: list_files(str(Path(root, name))) for name in wanted}
            for question in [] if self.o.classes or self.run_classes else folder_questions(root, wanted, self.o.phase):
                self.ask(question)
        self.notes += unused_split_notes(self.o) if root != self.root else []
        if root == self.root and self.o.split is not None:
            by_class = {name: select_split(paths, self.o) if paths else paths for name, paths in by_class.items()}
        return {
            name: self.register_files(paths)[0] if name in (self.run_classes or (name,)) else paths
            for name, paths in by_class.items()
        }

    def _only_class(self, name: str) -> str:
        """Return the name of the class of images without classes: that of a run with only one, else `name`."""
        return self.run_classes[0] if len(self.run_classes) == 1 else name or "images"

    def _one_class(self, root: str) -> dict[str, Paths]:
        """Return the images directly in root as one class with the name of the data set."""
        paths = list_files(root)
        paths = paths.take(index for index in range(len(paths)) if b"/" not in paths.name(index))
        folders = list_folders(self.root)
        siblings = [name for name in folders if name not in PHASE_FOLDERS | spelled_phases(folders).keys()]
        size = twice_as_wide(paths, self.o.max_image_pixels) if self.o.isTrain else None
        if root != self.root and siblings:
            every = ",".join(list_folders(self.root))
            other = f"It may be a class beside {shorten(siblings)} (--classes {every})"
            self.ask(f"is {self.o.phase} the folder of a phase? {other}")
        elif size:
            self.ask(f"are these single images? They are twice as wide as high ({size}), like pairs of A|B")
        name = os.path.basename(os.path.abspath(self.o.dataroot)).removesuffix(".zip")
        return {self._only_class(name): paths}

    def _class_folders(self, root: str) -> list[str]:
        """Return the folders of root that are classes; those of phases are not, unless --classes names them.

        Raise DataError for the two sides of other models' data.
        """
        names, known = list_folders(root), {*self._asked_classes, *self.run_classes}
        if root != self.root or known & set(names) & PHASE_FOLDERS:
            return names
        below = {name: list_folders(str(Path(root, name))) for name in names if name not in known}
        inner = {name: PHASE_FOLDERS & set(folders) or divided_phases(folders) for name, folders in below.items()}
        sides = [name for name in names if name in PHASE_FOLDERS - set(PHASES)]
        sides += [name for name in names if name in LABEL_MAP_FOLDERS and name not in known]
        sides += [f"{name}/{phase}" for name in inner for phase in sorted(inner[name])]
        if sides and self.o.isTrain:
            why = f"has no folders of classes: {shorten(sides)} are folders of phases or sides"
            one = os.path.join(root, min(sides, key=lambda side: self.o.phase not in side))
            raise DataError("folder", root, why, f"give the folder of one kind of images, such as --dataroot {one}")
        check_phases(root, [name for name in names if name not in PHASE_FOLDERS | known], self.o.phase)
        classes = [name for name in names if name not in PHASE_FOLDERS]
        if classes and (phases := [name for name in names if name in PHASES]):
            self.notes.append(f"note: folders of phases are no classes, and are not used: {', '.join(phases)}")
        return classes

    def _images_of_idx(self) -> dict[str, Sequence]:
        for stem in ("train", "t10k") if self.o.phase == "train" else ("t10k", "train"):
            images, labels = (self._read_idx(stem, n) for n in (3, 1))
            if (images is None) != (labels is None):
                present, missing = ("images", "labels") if labels is None else ("labels", "images")
                raise DataError(
                    "folder", self.o.dataroot, f"has {stem}-{present}-idx but no {stem}-{missing}-idx", "add it"
                )
            if images is not None and labels is not None:
                if len(images) != len(labels):
                    why = f"holds {len(images)} images and {len(labels)} labels of {stem}"
                    raise DataError("folder", self.o.dataroot, why, "copy both files again")
                self.notes += unused_split_notes(self.o)
                self.inventory.add_labels([labels])
                return {str(c): images[labels == c] for c in np.unique(labels)}
        return {}

    def _read_idx(self, stem: str, dimensions: int) -> np.ndarray | None:
        """Return the uint8 array in an idx file, or None without a file; raise DataError if it is malformed."""
        kind, folder = ("images" if dimensions == 3 else "labels"), Path(self.root)
        for name in (f"{stem}-{kind}-idx{dimensions}-ubyte", f"{stem}-{kind}.idx{dimensions}-ubyte"):
            for path in (folder / name, folder / (name + ".gz")):
                if find_storage(str(path)).entry_type(str(path)) == "file":
                    self.inventory.add([str(path)], [size_and_mtime(str(path))[0]], self.root)
                    return _parse_idx(path, dimensions)
        return None

    def shard_numbers(self) -> np.ndarray | None:
        """Return (N,) the number of the shard that each sample is in; None without shards."""
        marks = [getattr(files, "marks", None) for files in self.class_files]
        if any(each is None and len(files) for each, files in zip(marks, self.class_files, strict=True)):
            return None
        starts = np.cumsum([0, *map(len, self.class_files)])
        numbers = np.concatenate([each[:, 0] for each in marks if each is not None])
        return numbers[starts[self.rows[:, 1]] + self.rows[:, 0]]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        n, label = self.rows[index].tolist()
        source = self.class_files[label][n]
        if isinstance(source, str):
            image, path = self.load_image(source, self.nc, "A"), source
        else:
            path = f"{index:05d}.png"
            image = convert_channels(Image.fromarray(np.asarray(source)), self.nc, path, self.read_options)
        A = self.preprocess(image, path, self.preprocess.draw(), side="A")
        columns = self.class_columns.get(self.classes[label])
        return {"A": A, "label": label, "path_A": path} | column_values(columns, n)

    def spec(self) -> Spec:
        """Return channels and size of the images, and the class names."""
        return replace(super().spec(), classes=self.classes)


def _several_classes_notes(files: Mapping[str, Any]) -> list[str]:
    """Return a note if images of one class are images of another one, too; files: the Paths of each class."""
    hashes = {
        name: np.fromiter((hash64(paths.name(index)) for index in range(len(paths))), np.uint64)
        for name, paths in files.items()
        if len(paths)
    }
    each, counts = np.unique(np.concatenate([np.unique(own) for own in hashes.values()]), return_counts=True)
    several = each[counts > 1]
    if not len(several):
        return []
    classes = [name for name, own in hashes.items() if several[0] in own]
    example = files[classes[0]][int(np.flatnonzero(hashes[classes[0]] == several[0])[0])]
    said = f"{are_text(len(several), 'image')} in several classes, such as '{example}' in {' and '.join(classes)}"
    return [f"note: {said}: used in each"]


def _parse_idx(path: Path, dimensions: int) -> np.ndarray:
    try:
        with open_binary(str(path)) as file:
            data = gzip.decompress(file.read()) if path.suffix == ".gz" else file.read()
        head = np.frombuffer(data, ">u4", 1 + dimensions)
        if head[0] != IDX_MAGIC[dimensions]:
            raise ValueError(f"its magic number is {head[0]:#x}")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(head[1:])
    except (OSError, ValueError, EOFError, zlib.error) as problem:
        raise DataError("file", path, f"is not an idx file ({problem})", "copy it again") from problem
