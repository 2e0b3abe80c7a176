"""semantic: label maps, instance maps and photographs in the folders of pix2pixHD (Wang et al. 2018)."""

import os
import re
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.base import BaseDataset, Sample, Spec
from data.labels import instance_edges, label_colours, one_hot, read_labels
from data.listing.files import is_folder, is_image
from data.listing.paths import Paths
from data.notes.fitting import naming_models
from data.published.semantic_layouts import CUSTOM, LAYOUTS, place_of, root_of
from data.spec import common_fields
from options.fields import option
from registry.lookup import find
from util.errors import DataError, OptionError, UserError, count_text
from util.size import Size
from util.spelling import path_hint

MAX_IDS_NAMED = 3
PUBLISHED = ("ade20k", "cityscapes")  # layouts with folders of their own
MAPS_LOOKED_AT = 16  # for the classes that are not used
UNKNOWN = 255  # the id of pixels whose class is unknown, with --contain_dontcare_label


class LabelMaps:
    """The flags that a model of label maps shares with its data set: class SPADE(LabelMaps, BaseModel)."""

    @dataclass
    class Options:
        # fmt: off
        label_nc: int = option(35, "classes of the label maps, whose ids are 0 to N-1; 0: the input is a picture of"
            " --input_nc channels", at_least=0, at_most=65_536, of_run=True, fixed=True)
        no_instance: bool = option(False, "there are no instance maps: networks are not shown where objects end",
            of_run=True, fixed=True)
        contain_dontcare_label: bool = option(False, "the id 255 is one more class, that of unknown pixels",
            of_run=True, fixed=True)
        layout: str = option("folders", "where the files are: in folders PHASE_label, PHASE_img and PHASE_inst; of coco"
            " also PHASE_label_portrait; as ade20k and cityscapes are published; facades: folders; custom: in those of"
            " --label_dir, --image_dir and --instance_dir", choices=tuple(LAYOUTS), of_run=True)
        label_dir: str = option("", "the label maps of --layout custom")
        image_dir: str = option("", "the photographs of --layout custom")
        instance_dir: str = option("", "the instance maps of --layout custom")
        coco_no_portraits: bool = option(False, "leave out the folders PHASE_label_portrait of --layout coco, and the"
            " like")
        # fmt: on


@dataclass(frozen=True)
class LabelSpec(Spec):
    """The Spec of label maps; label_nc: their classes, 0 for pictures."""

    label_nc: int = 0


class Semantic(LabelMaps, BaseDataset):  # type: ignore[misc]
    """Samples {"A", "B", "instance", "path_A", "path_B"} of the folders PHASE_label, PHASE_img and PHASE_inst.

    "A": the ids of a label map, (1, H, W), as floats; with --label_nc 0 the picture in PHASE_A, whose "B" is in
    PHASE_B. "instance": ids of objects, (H, W), unless --no_instance. Files belong together by their names without what
    all names of a folder end with, by the numbers in these, or else by the order of their names. In a test there may be
    no photographs.
    """

    sides = "AB"
    scales_as_trained = True  # the --load_size of a test is that of training, as in the authors' code

    def __init__(self, o):
        super().__init__(o)
        if self.preprocess.steps == {"scale_width"}:
            self.preprocess.crop_size = Size(1, 1)  # the height follows from the width alone
        if o.direction != "AtoB":
            raise OptionError("option", "--direction", "a label map is always the input", "omit it")
        self.channels = (1 if o.label_nc else o.input_nc, o.output_nc)
        is_ours = self._files("label" if o.label_nc else "A") is not None  # then no other model fits better
        with nullcontext() if is_ours else naming_models(o, self.root):
            A, B, instances = self._find_files()
        self.paired = B is not None
        lists = [self.register_files(paths)[0] if paths is not None else None for paths in (A, B, instances)]
        self.paths: Any = lists[0]
        self.photographs, self.instances = lists[1:]

    def _find_files(self) -> tuple[Paths, Paths | None, Paths | None]:
        """Return the files of A, B and of instances, in one order; None for a folder that is not read."""
        o, (kind_A, kind_B) = self.o, ("label", "img") if self.o.label_nc else ("A", "B")
        A = self._list(kind_A, "the label maps" if o.label_nc else "the input pictures")
        B = self._partners(A, self._list(kind_B, "the photographs") if o.isTrain else self._files(kind_B))
        remedy = "put them there" + (", or use --no_instance" if o.isTrain else ": the run was trained with them")
        if not (o.no_instance or o.phase) and self._files("inst") is None:
            raise self._lonely_error()
        inst = None if o.no_instance else self._partners(A, self._list("inst", "the instance maps", remedy))
        folders = " + ".join(dict.fromkeys(self._folder(paths) for paths in (A, B, inst) if paths is not None))
        number = f"{len(A)} of each" if "+" in folders else count_text(len(A), "label map" if o.label_nc else "picture")
        self.notes.append(f"{'pairs' if B is not None else 'images'}: {folders}, {number}")
        if o.layout == "custom" and not (o.isTrain or set(CUSTOM.values()) & o.given) and "label_dir" in o.saved:
            self.notes.append("note: the run was trained on these images; name others with --label_dir and so on")
        return A, B, inst

    @cached_property
    def root(self) -> str:
        """The folder of the data set's folders."""
        return root_of(self.o, super().root)

    def _files(self, kind: str) -> Paths | None:
        """Return the files of a kind, such as label; None if there are none."""
        found = LAYOUTS[self.o.layout](self.o, self.root, kind)
        return found if len(found) else None

    def _folder(self, paths: Paths) -> str:
        """Return the folder of the root that holds files; that of the root itself if they are directly in it."""
        name = os.path.relpath(paths[0], self.root)
        return name.partition(os.sep)[0] if os.sep in name else os.path.basename(os.path.abspath(self.root))

    def _list(self, kind: str, what: str, remedy: str = "") -> Paths:
        if (found := self._files(kind)) is None:
            raise self._missing_error(kind, what, remedy)
        return found

    def _missing_error(self, kind: str, what: str, remedy: str) -> UserError:
        """Return the error for a folder that is not there, or holds no images."""
        o, layout = self.o, self.o.layout
        if layout == "custom" and kind in CUSTOM and not getattr(o, CUSTOM[kind]):
            why = f"names no folder, and {what} of --layout custom are read from it"
            remedy = remedy.replace("put them there", "name it") or "name it"
            return OptionError("option", f"--{CUSTOM[kind]}", why, remedy)
        if not is_folder(self.root) and not is_image(self.root):
            return DataError("folder", self.root, "there is no such folder", path_hint(self.root) or "give another")
        if layout in PUBLISHED:
            remedy = f"put them there, as {layout} is published"
            own = f"{o.phase}_label"
            remedy += f", or use --layout folders for {own}" if is_folder(os.path.join(self.root, own)) else ""
        elif not remedy:
            pictures, maps = "--label_nc 0 for pictures in folders _A and _B", "--label_nc N for label maps"
            other = f"use {pictures if o.label_nc else maps}" if o.isTrain else "give another folder"
            remedy = f"put them there, or {other}"
        folder = place_of(o, self.root, kind)
        return DataError("folder", folder, f"holds no images: {what} are read from it", remedy)

    def _lonely_error(self) -> DataError:
        """Return the error for label maps without the folder of their instance maps."""
        folder = os.path.dirname(self.root) if is_image(self.root) else self.root
        phase, _, kind = os.path.basename(os.path.abspath(folder)).rpartition("_")
        is_one = kind in ("label", "A") and self.o.layout == "folders"
        there = f"{os.path.dirname(os.path.abspath(folder))} --phase {phase}" if is_one else "the folder above them"
        why = "holds label maps alone, and the run was trained with instance maps"
        remedy = f"give the folder that holds both, such as --dataroot {there}" if is_one else f"give {there}"
        return DataError("image" if is_image(self.root) else "folder", self.root, why, remedy)

    def _partners(self, A: Paths, other: Paths | None) -> Paths | None:
        """Return the files of another folder in the order of A; raise DataError unless there are as many."""
        if other is None:
            return None
        if len(A) != len(other):
            why = f"holds {len(other)} images, and {A.root} {len(A)}"
            raise DataError("folder", other.root, why, "give each file of one folder a partner in the other")
        by_text = [(_name_parts(names(A)), _name_parts(names(other))) for names in (_names, _base_names)]
        by_number = [(_numbers(own), _numbers(theirs)) for own, theirs in by_text]
        for own, theirs in (*by_text, *by_number):
            if sorted(own) == sorted(theirs) and len(set(own)) == len(own):
                place = {name: number for number, name in enumerate(theirs)}
                return other.take(place[name] for name in own)
        own, theirs = by_text[1]
        known = set(theirs)
        alone = [index for index, name in enumerate(own) if name not in known]
        if alone and 2 * len(alone) < len(own):
            why = f"has no partner in {other.root}, where most files are named like those of {A.root}"
            raise DataError("image", A[alone[0]], why, "give it one with its name, or remove it")
        first = next((index for index, name in enumerate(own) if name != theirs[index]), 0)
        self.notes.append(f"note: names differ, so files are taken in order: {A[first]} with {other[first]}")
        return other

    def spec(self) -> LabelSpec:
        """Return the Spec, with the number of classes."""
        return LabelSpec(**common_fields(super().spec()), label_nc=self.o.label_nc)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path, geometry = self.paths[index], self.preprocess.draw()
        sample: Sample = {"path_A": path}
        if self.o.label_nc:
            ids = class_numbers(self.preprocess.labels(path, geometry, paired=True, side="A"), self.o)
            sample["A"] = _checked_ids(ids, path, count_classes(self.o))[None].float()
        else:
            sample["A"] = self._image(path, "A", geometry)
        if self.photographs is not None:
            photograph = self.photographs[index]
            sample |= {"B": self._image(photograph, "B", geometry), "path_B": photograph}
        if self.instances is not None:
            sample["instance"] = self.preprocess.labels(self.instances[index], geometry, paired=True, side="A")
        return sample

    def _image(self, path: str, side: str, geometry: Any) -> Tensor:
        picture = self.load_image(path, self.channels["AB".index(side)], side)
        return self.preprocess(picture, path, geometry, paired=True, side=side)

    def file_notes(self) -> list[str]:
        """Return the notes about files; those about label maps concern data sets that read them as pictures."""
        notes = [note for note in super().file_notes() if self.o.label_nc == 0 or "images of A" not in note]
        return [*notes, *self._class_notes()] if self.o.isTrain and self.o.label_nc else notes

    def _class_notes(self) -> list[str]:
        """Return a note if --label_nc names at least twice as many classes as the first label maps hold."""
        places = range(min(len(self), MAPS_LOOKED_AT))
        try:
            maps = [read_labels(self.paths[place], "", self.preprocess.max_pixels) for place in places]
        except UserError:  # told when it is its turn, or left out by --on_bad_image skip
            return []
        found = {int(n) for ids in maps for n in np.unique(ids)}
        known = class_numbers(torch.tensor(sorted(found)), self.o)
        used = known[known < self.o.label_nc]
        if not len(used) or 2 * (int(used.max()) + 1) > self.o.label_nc:
            return []
        looked_at, least = count_text(len(places), "label map"), int(used.max()) + 1
        said = f"--label_nc is {self.o.label_nc}, and {looked_at} looked at hold no class above {least - 1}"
        return [f"note: {said}: networks have {self.o.label_nc - least} useless channels; --label_nc {least} has none"]


def class_numbers(ids: Tensor, o: Any) -> Tensor:
    """Return the ids of files as classes from 0; unknown pixels, 255 or 0 in files of ADE20K, have the last class."""
    if o.layout == "ade20k":
        ids = torch.where(ids == UNKNOWN, ids, ids - 1).where(ids != 0, UNKNOWN)
    return ids.where(ids != UNKNOWN, o.label_nc) if o.contain_dontcare_label else ids


def file_ids(classes: Tensor, o: Any) -> Tensor:
    """Return the ids that classes have in files: the inverse of `class_numbers`."""
    from_one = o.layout == "ade20k"
    ids = classes.long() + from_one
    return ids.where(classes != o.label_nc, 0 if from_one else UNKNOWN) if o.contain_dontcare_label else ids


def semantic_input(batch: dict[str, Any], o: Any) -> Tensor:
    """Return what networks see of a batch of Semantic: (N, label_nc, H, W) of 0 and 1, and a channel of object edges.

    With --label_nc 0 the picture takes the place of the classes; --no_instance omits the edges.
    """
    A = one_hot(batch["A"], count_classes(o)).to(batch["A"].dtype) if o.label_nc else batch["A"]
    return A if o.no_instance else torch.cat([A, instance_edges(batch["instance"]).to(A.dtype)], 1)


def shown_input(semantic: Tensor, o: Any) -> Tensor:
    """Return what is shown of `semantic_input`, (N, C, H, W): a colour for each class, or the picture."""
    without_edges = semantic if o.no_instance else semantic[:, :-1]
    return label_colours(without_edges) if o.label_nc else without_edges


def count_classes(o: Any) -> int:
    """Return --label_nc, and one more with --contain_dontcare_label."""
    return o.label_nc + bool(o.label_nc and o.contain_dontcare_label)


def sees_only_pictures(o: Any) -> bool:
    """Return whether networks see nothing but the image A: `semantic_input` makes no classes and no edges."""
    is_of_label_maps = issubclass(find("model", o.model), LabelMaps)
    return not is_of_label_maps or (o.label_nc == 0 and o.no_instance)


def object_ids(batch: dict[str, Any], o: Any) -> Tensor:
    """Return the ids (N, H, W) of what has features of its own: objects, with --label_feat classes.

    Raises OptionError for a batch without photographs, from which features are encoded.
    """
    if "B" not in batch:
        flag, why = "--label_feat" if o.label_feat else "--instance_feat", "encodes photographs, and there are none"
        raise OptionError("option", flag, why, "give a folder of them, such as test_img")
    return batch["A"][:, 0] if o.label_feat else batch["instance"]


def semantic_channels(o: Any, spec: Spec) -> int:
    """Return the channels of `semantic_input`; raise OptionError for a data set without such label maps."""
    own = getattr(spec, "label_nc", 0)
    if own != o.label_nc:
        why = f"is {o.label_nc}, but {o.dataset_mode} gives {f'{own} classes' if own else 'pictures and no label maps'}"
        raise OptionError("option", "--label_nc", why, "use --dataset_mode semantic, or --label_nc 0 --no_instance")
    if o.no_instance and getattr(o, "instance_feat", False):
        raise OptionError("option", "--instance_feat", "needs instance maps", "omit --no_instance, or use --label_feat")
    if not o.label_nc and getattr(o, "label_feat", False):
        raise OptionError("option", "--label_feat", "needs label maps", "use --label_nc N, or --instance_feat")
    if not (isinstance(spec, LabelSpec) or o.no_instance):
        why = f"{o.dataset_mode} gives no instance maps"
        raise OptionError("option", "--dataset_mode", why, "use semantic, or --no_instance")
    return (count_classes(o) or spec.input_nc) + (not o.no_instance)


def input_flags(o: Any, channels: int) -> dict[str, int]:
    """Return {"label_nc"} or {"input_nc"}, which a generator with so many input channels has by the other flags.

    Pictures and their edges look like classes: --label_nc 0 must be given for them.
    """
    encoded = getattr(o, "feat_num", 0) * (getattr(o, "instance_feat", False) or getattr(o, "label_feat", False))
    own = channels - (not o.no_instance) - encoded - (count_classes(o) - o.label_nc)
    return {"label_nc": own} if o.label_nc else {"input_nc": own}


def _checked_ids(ids: Tensor, path: str, classes: int) -> Tensor:
    """Return the ids of a label map; raise DataError, with the file, for ids that are no classes."""
    if 0 <= int(ids.min()) <= int(ids.max()) < classes:
        return ids
    wrong = [int(value) for value in ids.unique() if not 0 <= value < classes]
    named = ", ".join(map(str, wrong[:MAX_IDS_NAMED])) + (", ..." if wrong[MAX_IDS_NAMED:] else "")
    why = f"holds the id {named}, and --label_nc {classes} names the classes 0 to {classes - 1}"
    remedy = f"use --label_nc {max(wrong) + 1}" if min(wrong) >= 0 else "save ids of at least 0"
    raise DataError("image", path, why, f"{remedy}, or save these pixels with the id of a class")


def _names(paths: Paths) -> list[str]:
    return [os.fsdecode(paths.name(index)) for index in range(len(paths))]


def _base_names(paths: Paths) -> list[str]:
    return [os.path.basename(name) for name in _names(paths)]


def _name_parts(names: list[str]) -> list[str]:
    """Return the names of files without their extension and without the longest text that all of several end with."""
    stems = [os.path.splitext(name)[0] for name in names]
    first = stems[0]
    end = next((n for n in range(len(first)) if any(stem[-n - 1 :] != first[-n - 1 :] for stem in stems)), len(first))
    return [stem[: len(stem) - end] for stem in stems] if len(stems) > 1 else stems


def _numbers(names: list[str]) -> list[str]:
    """Return the numbers in each name as text, "7 12" of x_007_12; a name without any as it is."""
    return [" ".join(str(int(digits)) for digits in re.findall(r"\d+", name)) or name for name in names]
