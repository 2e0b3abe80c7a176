"""domains: images of several domains, in a folder each or with a list of attributes, as in StarGAN's code."""

import os
import random
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.base import Sample, Spec
from data.labeled import Labeled
from data.listing.files import find_storage, is_folder, list_folders
from data.listing.layouts import list_images, select_split, unused_split_notes
from data.listing.paths import PHASES, Paths
from data.names.class_names import describe_classes, shorten
from data.published.attribute_list import AttributeList, read_attributes
from data.spec import common_fields
from options.fields import option
from util.errors import DataError, OptionError, raise_if_any

MAX_FOLDERS_SEARCHED = 20  # for a list of attributes


@dataclass(frozen=True)
class DomainSpec(Spec):
    """The Spec of images of domains; attributes: whether an image may be of several, as in a list of attributes."""

    attributes: bool = False


class Domains(Labeled):
    """Samples {"A", "label", "target", "path_A"}; the target, in training only, is that of an image at random.

    A label is the number of the folder's domain; with --attr_path a vector of 0 and 1, one for each of
    --selected_attrs. A test also takes images that are in no folder of a domain, without a label, and those that the
    list does not name, as without attributes.
    """

    @dataclass
    class Options:
        # fmt: off
        attr_path: str = option("", "list of attributes of the images in --dataroot, such as CelebA's"
            " list_attr_celeba.txt; default: a folder for each domain", of_run=True)
        selected_attrs: str = option("Black_Hair,Blond_Hair,Brown_Hair,Male,Young",
            "with --attr_path: the attributes to learn, comma-separated", of_run=True, fixed=True, listed=True)
        c_dim: int = option(0, "number of domains; they are counted, and another number ends the run", at_least=0,
            momentary=True)
        center_crop: int = option(0, "cut the middle NxN pixels out of every image before it is scaled; 0: off",
            at_least=0, of_run=True)
        num_iters: int = option(0, "train for N steps, from which --n_epochs and --n_epochs_decay follow; 0: off",
            at_least=0)
        num_iters_decay: int = option(100_000, "with --num_iters: steps at the end with a falling learning rate",
            at_least=0)
        # fmt: on

    def __init__(self, o):
        self.attributes: np.ndarray | None = None  # (N, attributes) of 0 and 1, in the order of the files
        self.is_told = bool(o.attr_path)
        self.is_one_list = True  # whether the images are one list, without folders of domains
        super().__init__(o)
        self.read_options = self.read_options._replace(center=o.center_crop)
        if self.is_one_list:
            self._refuse_classes()
            self.notes[-1] = describe_classes(self.classes, self._counts())
        self._check_domains()
        if o.isTrain and o.num_iters:
            self._count_epochs()

    def _find_files(self) -> list[Sequence]:
        if self.o.attr_path:
            return [self.register_files(self._images_of_list())[0]]
        folders = self._folders()
        if self.o.isTrain or folders & set(self.run_classes or folders):
            self.is_one_list = False
            return super()._find_files()
        self.classes = self.run_classes or tuple(str(n + 1) for n in range(self.o.c_dim))
        return [self.register_files(self._images_of_phase())[0]]

    @property
    def _phase_folder(self) -> str:
        """The folder of --phase; "" if there is none."""
        folder = str(Path(self.root, self.o.phase))
        return folder if self.o.phase and is_folder(folder) else ""

    @property
    def _is_own(self) -> bool:
        """Whether these are the images that the run was trained on."""
        saved = self.o.saved.get("dataroot", self.o.dataroot)
        return self.o.isTrain or os.path.realpath(saved) == os.path.realpath(self.o.dataroot)

    def _folders(self) -> set[str]:
        """Return the names of folders that may be domains."""
        return set(list_folders(self._phase_folder or self.root)) - set(PHASES)

    def _images_of_phase(self) -> Paths:
        """Return the images in the folder of --phase, or in the root if there is none, which --split divides."""
        paths = list_images(self._phase_folder or self.root, self.root, self.o)
        if self._phase_folder:
            self.notes += unused_split_notes(self.o)
            return paths
        if self._is_own and not self.o.isTrain and not self.o.attr_path and self.o.split is None:
            self.notes.append(f"note: there are no images of {self.o.phase}: these are all images of {self.root}")
        return paths if self.o.split is None else select_split(paths, self.o)

    def _images_of_list(self) -> Paths:
        """Return the images of --phase, and keep their attributes and the classes.

        Of the run's own images those that the list names; of a root without phases those that are (not) held out.
        """
        table = self._read_list()
        self.classes, paths = table.names, self._images_of_phase()
        names = [_plain_name(paths, n) for n in range(len(paths))]
        unlisted = [n for n, name in enumerate(names) if name not in table.rows]
        kept = set(range(len(paths)))
        if self._is_own:
            self._check_all_there(table)
            kept -= set(unlisted)
            if not self._phase_folder and self.o.split is None:
                held = table.held_out()
                kept = {n for n in kept if (names[n] in held) == (self.o.phase != "train")}
        if unlisted:
            what = "not used" if self._is_own else "taken as without attributes"
            examples = f"{len(unlisted)}, such as '{paths[unlisted[0]]}'"
            self.notes.append(f"note: images that {os.path.basename(table.path)} does not name are {what} ({examples})")
        if not kept:
            why = f"holds none of the {len(table.rows)} images that {table.path} names for --phase {self.o.phase}"
            raise DataError("folder", self.root, why, "put them there by these names, or use --split")
        self.attributes = table.values_of(names[n] for n in sorted(kept))
        self.inventory.add_labels([self.attributes])
        return paths.take(sorted(kept))

    def _read_list(self) -> AttributeList:
        """Return the list; an empty one for other images in a test if it does not exist any more."""
        try:
            return read_attributes(self.o.attr_path, self.root, self.o.selected_attrs)
        except DataError:
            if self._is_own or not self.run_classes:
                raise
            return AttributeList(self.o.attr_path, self.run_classes, {})

    def _check_all_there(self, table: AttributeList) -> None:
        """Raise DataError for images that the list names and that are not below the root."""
        every = list_images(self.root, self.root, self.o)
        here = {_plain_name(every, n) for n in range(len(every))}
        why = f"does not exist in {self.root}, and {os.path.basename(table.path)} names it"
        missing = [(name, why) for name in table.rows if name not in here]
        raise_if_any("file", missing, "in the list", "copy it there, or remove its row (and correct the first line)")

    def _counts(self) -> list[int]:
        """Return how many images have each attribute; [] without a list."""
        return [] if self.attributes is None else self.attributes[: len(self)].sum(0, dtype=int).tolist()

    def _refuse_classes(self) -> None:
        if self.o.classes:
            why = "chooses folders of domains, and these images are in none"
            remedy = "use --selected_attrs" if self.o.attr_path and self.o.isTrain else "omit it"
            raise OptionError("option", "--classes", why, remedy)

    def _check_domains(self) -> None:
        """Raise an error for a single domain, or another number of them than --c_dim."""
        o, count = self.o, len(self.classes)
        if o.isTrain and not o.attr_path and count < 2:
            why = f"holds one domain, {shorten(self.classes)}, and there must be two to translate between"
            remedy = "put the images of each domain into a folder, train/DOMAIN, or give a list with --attr_path"
            if path := self._find_list():
                remedy = f"for the attributes in a list add --attr_path {shlex.quote(path)}"
            raise DataError("folder", self.root, why, remedy)
        parts = [name for name in self.classes if re.match(rf"({'|'.join(PHASES)})_", name)]
        if o.isTrain and not o.attr_path and parts:
            why = f"holds folders of phases, {shorten(parts)}, not of domains"
            remedy = "put the images of each domain into a folder, train/DOMAIN"
            raise DataError("folder", self.root, why, remedy)
        if not count:
            why = "is needed: neither a run nor folders nor a list tell how many domains there are"
            raise OptionError("option", "--c_dim", why, "give the number of domains of these weights")
        if o.c_dim and o.c_dim != count:
            why = f"is {o.c_dim}, and there are {count} domains: {shorten(self.classes)}"
            remedy = "omit it, or name as many with --selected_attrs" if o.attr_path else "omit it"
            raise OptionError("option", "--c_dim", why, remedy)

    def _find_list(self) -> str:
        """Return a list of attributes in the folder or in one of its folders, as CelebA's; "" if there is none."""
        inner = [os.path.join(self.root, name) for name in list_folders(self.root)[:MAX_FOLDERS_SEARCHED]]
        for folder in (self.root, *inner):
            for name in find_storage(folder).list_names(folder):
                if name.startswith("list_attr") and name.endswith(".txt"):
                    return os.path.join(folder, name)
        return ""

    def _count_epochs(self) -> None:
        """Set --n_epochs and --n_epochs_decay to the epochs that --num_iters comes to."""
        o = self.o
        steps = max(1, len(self) // o.batch_size if o.drop_last else -(-len(self) // o.batch_size))
        total = max(1, round(o.num_iters / steps))
        o.n_epochs_decay = min(total, round(min(o.num_iters_decay, o.num_iters) / steps))
        o.n_epochs = total - o.n_epochs_decay
        falling = f"; the learning rate falls in the last {o.n_epochs_decay}" if o.n_epochs_decay else ""
        self.notes.append(f"--num_iters {o.num_iters}: epochs of {steps} steps, {total} in all{falling}")

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index) | {"label": self._label(index)}
        if self.o.isTrain:
            sample["target"] = self._label(random.randrange(len(self)))
        elif self.is_one_list and self.attributes is None:
            del sample["label"]
        return sample

    def _label(self, index: int) -> Any:
        number, label = self.rows[index].tolist()
        return label if self.attributes is None else torch.from_numpy(self.attributes[number].astype(np.float32))

    def spec(self) -> DomainSpec:
        """Return the Spec, with the domains as classes."""
        return DomainSpec(**common_fields(super().spec()), attributes=bool(self.o.attr_path))


def _plain_name(paths: Paths, number: int) -> str:
    """Return a name as a list has it: below the folder of a phase, with forward slashes."""
    name = os.fsdecode(paths.name(number)).replace(os.sep, "/")
    phase, _, rest = name.partition("/")
    return rest if phase in PHASES and rest else name
