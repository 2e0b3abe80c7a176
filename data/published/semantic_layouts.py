"""Where the published data sets of label maps keep their files: the table of --layout."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.listing.files import list_files
from data.listing.paths import Paths
from util.size import Size

ADE20K_ENDS = {"label": (".png",), "img": (".jpg", ".jpeg")}  # of ADE20K, whose kinds of files share a folder
CITYSCAPES = {"label": ("gtFine", "_labelIds.png"), "inst": ("gtFine", "_instanceIds.png"), "img": ("leftImg8bit", "")}
SQUARE = {"preprocess": "resize_and_crop", "load_size": 286, "crop_size": 256, "display_winsize": 256}
CUSTOM = {"label": "label_dir", "inst": "instance_dir", "img": "image_dir"}
NO_FILES = Paths.from_names([], [])
# defaults of SPADE's authors that go with a layout
LAYOUT_DEFAULTS: dict[str, dict[str, Any]] = {
    "coco": SQUARE | {"label_nc": 182, "contain_dontcare_label": True},
    "ade20k": SQUARE | {"label_nc": 150, "contain_dontcare_label": True, "no_instance": True},
    "cityscapes": {"preprocess": "fixsize", "load_size": 512, "crop_size": Size(512, 256), "display_winsize": 512,
                   "label_nc": 35, "batch_size": 16, "num_upsampling_layers": "more"},
    "facades": SQUARE | {"label_nc": 13, "no_instance": True},
    "custom": SQUARE | {"label_nc": 13},
}  # fmt: skip


def place_of(o: Any, root: str, kind: str) -> Path:
    """Return the folder of a kind of files, which errors name; kind: label, inst, img, A or B."""
    if o.layout == "custom" and kind in CUSTOM:
        return Path(getattr(o, CUSTOM[kind]))
    if o.layout == "cityscapes" and kind in CITYSCAPES:
        return Path(root, CITYSCAPES[kind][0], _published_phase(o))
    return Path(root) if o.layout == "ade20k" or not o.phase else Path(root, f"{o.phase}_{kind}")


def root_of(o: Any, root: str) -> str:
    """Return the folder of the data set's folders: `root`, or with --layout custom what the named folders share."""
    named = [os.path.abspath(folder) for flag in CUSTOM.values() if (folder := getattr(o, flag))]
    return os.path.commonpath(named) if o.layout == "custom" and named else root


def _in_phase_folders(o: Any, root: str, kind: str) -> Paths:
    """Return the files of PHASE_KIND; without a phase, label maps are those of the root."""
    if not o.phase:
        return list_files(root) if kind in ("label", "A") else NO_FILES
    return list_files(str(Path(root, f"{o.phase}_{kind}")))


def _of_coco(o: Any, root: str, kind: str) -> Paths:
    """Return the files of PHASE_KIND, in training with those of PHASE_KIND_portrait; a test takes `val` if it is there.

    Names are below the root.
    """
    phase = "val" if o.phase == "test" and len(list_files(str(Path(root, f"val_{kind}")))) else o.phase
    portraits = o.layout == "coco" and o.isTrain and not o.coco_no_portraits
    parts = {end: list_files(str(Path(root, f"{phase}_{kind}{end}"))) for end in ("", "_portrait")[: 1 + portraits]}
    each = [(f"{phase}_{kind}{end}/", paths, n) for end, paths in parts.items() for n in range(len(paths))]
    names = [folder + os.fsdecode(paths.name(n)) for folder, paths, n in each]
    return Paths.from_names(names, [int(paths.sizes[n]) for _, paths, n in each], root)


def _of_ade20k(o: Any, root: str, kind: str) -> Paths:
    """Return the files below the root whose names hold _train_ or _val_; the end tells label maps from photographs."""
    if kind not in ADE20K_ENDS:
        return NO_FILES
    return _chosen(list_files(root), f"_{_published_phase(o)}_", ADE20K_ENDS[kind])


def _of_cityscapes(o: Any, root: str, kind: str) -> Paths:
    """Return the files of gtFine/PHASE/CITY or leftImg8bit/PHASE/CITY."""
    if kind not in CITYSCAPES:
        return NO_FILES
    return _chosen(list_files(str(place_of(o, root, kind))), "", (CITYSCAPES[kind][1],))


def _in_named_folders(o: Any, root: str, kind: str) -> Paths:
    """Return the files of --label_dir, --image_dir or --instance_dir."""
    folder = getattr(o, CUSTOM[kind]) if kind in CUSTOM else ""
    return list_files(folder) if folder else NO_FILES


def _published_phase(o: Any) -> str:
    return "train" if o.phase == "train" else "val"


def _chosen(paths: Paths, inside: str, ends: tuple[str, ...]) -> Paths:
    """Return the paths whose names hold a text and end with one of these."""
    names = [os.fsdecode(paths.name(n)) for n in range(len(paths))]
    return paths.take(n for n, name in enumerate(names) if inside in name and name.endswith(ends))


LAYOUTS: dict[str, Callable[[Any, str, str], Paths]] = {
    "folders": _in_phase_folders,
    "coco": _of_coco,
    "ade20k": _of_ade20k,
    "cityscapes": _of_cityscapes,
    "facades": _of_coco,
    "custom": _in_named_folders,
}
