"""Resolve old import paths that plug-ins may still use, and print a note with the new path."""

import importlib
import importlib.abc
import importlib.machinery
import multiprocessing
import sys
import traceback
from types import ModuleType
from typing import Any

from registry import loaded
from util.errors import print_line

# Old modules that a model, a data set, a network, a display or a page of docs/ imported, or that define such parts:
MOVED = {  # old module: the modules that now hold its contents
    "data.augment_spec": "data.augment.grammar",
    "data.augmentations": "data.augment.table",
    "data.cache": "data.decoding.cache",
    "data.checks": "data.decoding.header_check",
    "data.decoding.high_bit_depth": "data.decoding.decoders data.decoding.images",
    "data.deep": "data.decoding.decoders data.decoding.images",
    "data.demo": "data.listing.demo",
    "data.enlargement": "data.notes.enlargement",
    "data.files": "data.listing.files data.listing.paths data.listing.disk",
    "data.fitting": "data.notes.fitting",
    "data.images": "data.decoding.decoders data.decoding.images",
    "data.label_maps": "data.notes.label_maps",
    "data.layouts": "data.listing.files data.listing.layouts",
    "data.listing.class_names": "data.names.class_names",
    "data.listing.inputs": "data.names.inputs",
    "data.loader": "data.loading.loader data.loading.sample_order data.loading.shared_memory",
    "data.loading.collate": "data.loading.loader data.loading.shared_memory",
    "data.manifest": "data.listing.manifest",
    "data.orientation": "data.decoding.orientation",
    "data.pair_sizes": "data.joined_pairs",
    "data.paths": "data.listing.paths",
    "data.profiles": "data.decoding.icc",
    "data.raster": "data.decoding.raster",
    "data.side_names": "data.names.side_names",
    "data.zips": "data.listing.zips",
    "displays.curves": "displays.loss_log",
    "displays.loss_history": "displays.loss_log",
    "networks.ahead": "networks.batched_forward",
    "networks.dcgan": "networks.architectures.dcgan",
    "networks.draws": "networks.sample_noise",
    "networks.narrow": "networks.cpu.narrow_conv",
    "networks.objectives": "networks.gan_loss",
    "networks.own_way": "networks.cpu.eligible",
    "networks.patch": "networks.architectures.patchgan",
    "networks.precision": "networks.runtime.amp",
    "networks.resnet": "networks.architectures.resnet",
    "networks.sizes": "networks.padding",
    "networks.unet": "networks.architectures.unet",
    "networks.winograd": "networks.cpu.winograd_conv",
    "registry.now": "registry.training_position",
    "util.checkpoint": "serialization.checkpoint serialization.weight_files serialization.atomic_save",
    "util.classes": "data.names.class_names",
    "util.contract": "registry.contract training.state_checks",
    "util.curves": "displays.loss_log",
    "util.display": "displays.base displays.group",
    "util.files": "util.atomic_write",
    "util.health": "displays.health_rules",
    "util.inventory": "data.listing.fingerprint",
    "util.lab": "data.decoding.cielab",
    "util.log": "displays.loss_log",
    "util.losses": "displays.loss_log",
    "util.metrics": "metrics metrics.pixelwise",
    "util.pixels": "util.image_io inference.visuals",
    "util.pool": "util.image_pool",
    "util.position": "util.progress",
    "util.problems": "util.errors",
    "util.registry": "util.spelling registry.lookup",
    "util.schedule": "training.lr_schedule",
    "util.sheets": "inference.sampling",
    "util.timed": "serialization.download.http_deadline",
    "util.user_cache": "util.cache_dir",
    "util.values": "util.value_range data.names.side_names",
}
RENAMED = {  # old module: {old name: new name} of what these imported and what is called differently now
    "data.augment_spec": {"Word": "SpecNode", "read_spec": "parse_spec", "wrong": "spec_error"},
    "data.cache": {"Origin": "CacheKey"},
    "data.checks": {"Check": "HeaderCheck", "unlike": "size_mismatch_text"},
    "data.deep": {"in_channels": "convert_channels", "too_large": "too_many_pixels_error",
                  "wrong_channels": "channels_error"},
    "data.files": {"binary": "open_binary", "first_bytes": "read_first_bytes", "identity": "size_and_mtime",
                   "is_readable": "has_image_extension", "open_file": "open_binary", "start_of": "dataset_root"},
    "data.images": {"Reading": "ReadOptions", "colour": "parse_colour", "in_channels": "convert_channels",
                    "reason": "unreadable_reason"},
    "data.layouts": {"find": "find_sides", "listed": "list_images", "of_phase": "list_phase_images",
                     "part": "select_split", "pictures": "list_files"},
    "data.manifest": {"find": "find_manifest", "read": "read_manifest", "sized": "paths_with_sizes"},
    "data.raster": {"pixels": "to_array"},
    "networks.ahead": {"ahead": "batched_forward"},
    "networks.dcgan": {"doublings": "count_doublings"},
    "networks.own_way": {"allowed": "can_use_cpu_kernel"},
    "networks.precision": {"full_precision": "disable_autocast", "lower": "apply_autocast"},
    "networks.sizes": {"around": "padded_side", "places": "reflected_indices", "reflected": "reflect_pad"},
    "util.checkpoint": {"renamed": "rename_keys"},
    "util.classes": {"chosen": "select_classes"},
    "util.contract": {"lacking": "missing_method_error"},
    "util.display": {"asked_for": "requested_displays", "in_one_line": "error_text",
                     "shows": "any_display_overrides"},
    "util.metrics": {"better": "better_direction", "finite": "finite_or_none"},
    "util.pixels": {"as_image": "array_to_pil", "first_pictures": "first_thumbnails", "grid": "make_grid",
                    "pictures": "collect_visuals", "save_numbers": "save_array", "to_image": "tensor_to_pil",
                    "write_numbers": "write_array"},
    "util.position": {"Position": "Progress"},
    "util.problems": {"refuse": "raise_if_any"},
    "util.registry": {"clash": "duplicate_name_error", "place": "definition_file", "plain": "normalise_name"},
    "util.schedule": {"share": "lr_factor"},
    "util.sheets": {"can_generate": "has_sampler", "generate": "sample_sheets"},
    "util.timed": {"TimedAnswer": "DeadlineResponse"},
    "util.values": {"Values": "ValueRange", "measured": "measure_range", "of_option": "option_range",
                    "of_type": "dtype_range", "parse": "parse_range", "side": "side_of_label"},
}  # fmt: skip
_reported: set[tuple[str, str]] = set()


class MovedModule(ModuleType):
    """A stand-in for a moved module; it looks up names in the new modules."""

    def __getattr__(self, name: str) -> Any:
        former = self.__name__.removeprefix(loaded.PREFIX)
        homes, new = MOVED[former].split(), RENAMED.get(former, {}).get(name, name)
        for home in homes if not name.startswith("__") else ():
            module = importlib.import_module(loaded.PREFIX + home)
            if hasattr(module, new):
                _report(f"{former}.{name}", f"{home}.{new}")
                return getattr(module, new)
        raise AttributeError(f"module '{former}' has moved to {' and '.join(homes)}, which has no '{name}'")


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """A finder for moved modules, used after all other finders."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for the old path of a moved module, else None."""
        is_ours = name.startswith(loaded.PREFIX) and name.removeprefix(loaded.PREFIX) in MOVED
        return importlib.machinery.ModuleSpec(name, self) if is_ours else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the stand-in module; Python shows __file__ when a name is missing in it."""
        module = MovedModule(spec.name)
        module.__file__ = f"moved to {MOVED[spec.name.removeprefix(loaded.PREFIX)].replace(' ', ' and ')}"
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing, because the stand-in looks up each name on access."""


def answer_old_paths() -> None:
    """Resolve old import paths from now on; called when the first plug-in is imported."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())


def _report(old: str, new: str) -> None:
    files = (frame.f_code.co_filename for frame, _ in traceback.walk_stack(None))
    origin = loaded.current_origin() or next(filter(None, map(loaded.plugin_of_file, files)), "a plug-in")
    if (old, origin) not in _reported and not multiprocessing.current_process().daemon:  # workers would repeat it
        _reported.add((old, origin))
        print_line(f"note: {origin} imports {old}, which is {new} now: update the import; the old path will be removed")
