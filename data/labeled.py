"""labeled: one folder of images per class, or MNIST's idx files; for class-conditional generation."""

import gzip
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from data.base import BaseDataset, Sample, Spec, column_values
from data.decoding.images import convert_channels
from data.listing import manifest
from data.listing.columns import Columns, find_kinds
from data.listing.files import PHASES, find_storage, is_folder, list_files, list_folders
from data.listing.layouts import select_split
from data.listing.paths import has_image_extension
from util.class_names import select_classes
from util.errors import DataError, raise_if_any

IDX_MAGIC = {3: 0x803, 1: 0x801}  # number of dimensions -> magic number of an idx file of uint8


class Labeled(BaseDataset):
    """Samples {"A", "label", "path_A"}; classes are the sorted folder names in dataroot/phase, or else in dataroot.

    Labels number the classes of training: in a test and in validation those of the run (`o.run_classes`), whichever of
    them have images there. Images of other classes are left out, with a note.

    A dataroot with idx files (train-images-idx3-ubyte, t10k-..., also .gz) has the classes 0 to 9.
    """

    sides = "A"
    class_columns: Mapping[str, Columns] = MappingProxyType({})  # the further columns of a manifest, by class

    def __init__(self, o):
        super().__init__(o)
        self.nc = min(o.input_nc, o.output_nc)  # grey if either flag asks for 1 channel
        self.channels = (self.nc, self.nc)
        by_class = self._files_of_manifest() or self._images_of_idx() or self._files_of_folders()
        self.classes = self.run_classes or tuple(sorted(select_classes(o.classes, sorted(by_class))))
        present = self._present_classes(by_class)
        empty = [name for name in present if not len(by_class[name])]
        if empty:
            why = f"its folder '{empty[0]}' holds no images"
            raise DataError("folder", o.dataroot, why, "fill it, remove it, or name the other folders with --classes")
        self.class_files = [by_class[name] if name in present else () for name in self.classes]
        # Interleave the classes, so that --max_dataset_size keeps images of each.
        number = np.concatenate([np.arange(len(each)) for each in self.class_files])
        label = np.repeat(np.arange(len(self.class_files)), [len(each) for each in self.class_files])
        interleaved = np.lexsort((label, number))[: int(min(len(number), o.max_dataset_size))]
        self.rows = np.stack([number[interleaved], label[interleaved]], axis=1)

    @property
    def run_classes(self) -> tuple[str, ...]:
        """The classes of the run in its order; () in training, where the data set decides."""
        return () if self.o.isTrain else tuple(vars(self.o).get("run_classes", ()))

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
        images = [(row.files[0], row.label) for row in table.rows]
        problems = [*table.problems, *((a, f"has no label in {file}") for a, label in images if not label)]
        raise_if_any("file", problems, f"in {file}", "fix the manifest, or remove these rows")
        # Collect the different rows of each class, in the order of their files.
        kinds, notes = find_kinds(file, table.all_others, self.o.saved.get("run_columns", {}), own=("b", "label"))
        by_label: dict[str, dict[tuple[str, str], manifest.Row]] = {}
        for row in table.rows:
            different = row.files[0], str([row.others.get(name) for name in row.others if name.lower() != "label"])
            by_label.setdefault(row.label, {})[different] = row
        self.notes.append(f"labeled: {file}, {len(table.rows)} images of {len(by_label)} classes")
        rows_by_label = {label: [rows[key] for key in sorted(rows)] for label, rows in by_label.items()}
        self.class_columns = {
            label: Columns([row.others for row in rows], kinds) for label, rows in rows_by_label.items()
        }
        self.columns = Columns([], kinds)
        self.notes += filter(None, [self.columns.describe(), *notes])
        return {
            label: self.register_files(manifest.paths_with_sizes([row.files[0] for row in rows]))[0]
            for label, rows in rows_by_label.items()
        }

    def _files_of_folders(self) -> dict[str, Sequence]:
        phase_folder = str(Path(self.root, self.o.phase))
        root = phase_folder if is_folder(phase_folder) else self.root
        names = list_folders(root)
        if not names or (root == self.root and set(names) <= set(PHASES)):
            self.files()  # raises the more specific error if dataroot itself is wrong
            why = f"has no folders of classes (it has {', '.join(names) or 'no folders'})"
            raise DataError("folder", root, why, "put the images in CLASS/NAME.png, or give an existing --phase")
        if stray := [name for name in find_storage(root).list_names(root) if has_image_extension(name)]:
            example = f"such as '{Path(root, stray[0])}'"
            self.notes.append(f"note: images in no folder of a class are not used ({len(stray)}, {example})")
        wanted = names if self.run_classes else select_classes(self.o.classes, names)
        by_class = {name: list_files(str(Path(root, name))) for name in wanted}
        if root == self.root and self.o.split is not None:
            by_class = {name: select_split(paths, self.o) if paths else paths for name, paths in by_class.items()}
        return {
            name: self.register_files(paths)[0] if name in (self.run_classes or (name,)) else paths
            for name, paths in by_class.items()
        }

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
                return {str(c): images[labels == c] for c in np.unique(labels)}
        return {}

    def _read_idx(self, stem: str, dimensions: int) -> np.ndarray | None:
        """Return the uint8 array in an idx file, or None without a file; raise DataError if it is malformed."""
        kind, folder = ("images" if dimensions == 3 else "labels"), Path(self.o.dataroot)
        for name in (f"{stem}-{kind}-idx{dimensions}-ubyte", f"{stem}-{kind}.idx{dimensions}-ubyte"):
            for path in (folder / name, folder / (name + ".gz")):
                if path.is_file():
                    self.inventory.add([str(path)], [path.stat().st_size], self.o.dataroot)
                    return _parse_idx(path, dimensions)
        return None

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


def _parse_idx(path: Path, dimensions: int) -> np.ndarray:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        head = np.frombuffer(data, ">u4", 1 + dimensions)
        if head[0] != IDX_MAGIC[dimensions]:
            raise ValueError(f"its magic number is {head[0]:#x}")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(head[1:])
    except (OSError, ValueError, EOFError, zlib.error) as problem:
        raise DataError("file", path, f"is not an idx file ({problem})", "copy it again") from problem
