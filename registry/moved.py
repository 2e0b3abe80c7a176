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

MOVED = {  # old module: the modules that now hold its contents
    "data.augment_spec": "data.augment.grammar",
    "data.augmentations": "data.augment.table",
    "data.cache": "data.decoding.cache",
    "data.checks": "data.decoding.header_check",
    "data.decoding.high_bit_depth": "data.decoding.decoders data.decoding.images",
    "data.deep": "data.decoding.decoders",
    "data.demo": "data.listing.demo",
    "data.edges": "scripts.edges",
    "data.exact": "data.prepare.lossless",
    "data.files": "data.listing.files data.listing.paths data.listing.disk",
    "data.fixed": "training.fixed_samples",
    "data.images": "data.decoding.images",
    "data.index": "data.decoding.sound_files",
    "data.layouts": "data.listing.layouts",
    "data.loader": "data.loading.loader data.loading.sample_order data.loading.collate",
    "data.manifest": "data.listing.manifest",
    "data.orientation": "data.decoding.orientation",
    "data.paths": "data.listing.paths",
    "data.prepare.canny": "scripts.edges",
    "data.profiles": "data.decoding.icc",
    "data.raster": "data.decoding.raster",
    "data.shelf": "data.loading.shared_memory",
    "data.survey": "data.prepare.survey",
    "data.zips": "data.listing.zips",
    "networks.ahead": "networks.batched_forward",
    "networks.compiled": "networks.runtime.compiled",
    "networks.dcgan": "networks.architectures.dcgan",
    "networks.field": "inference.receptive_field",
    "networks.moments": "inference.tile_norm",
    "networks.narrow": "networks.cpu.narrow_conv",
    "networks.objectives": "networks.gan_loss",
    "networks.own_way": "networks.cpu.eligible",
    "networks.patch": "networks.architectures.patchgan",
    "networks.precision": "networks.runtime.amp",
    "networks.recompute": "networks.runtime.grad_checkpoint",
    "networks.resnet": "networks.architectures.resnet",
    "networks.sizes": "networks.padding",
    "networks.tiles": "inference.tiling",
    "networks.tune": "networks.runtime.apply",
    "networks.unet": "networks.architectures.unet",
    "networks.winograd": "networks.cpu.winograd_conv",
    "util.archive": "serialization.zip_scan",
    "util.batchwork": "data.prepare.batch",
    "util.blame": "registry.attribution",
    "util.checkpoint": "serialization.checkpoint serialization.weight_files serialization.atomic_save",
    "util.classes": "util.class_names",
    "util.command": "cli.script util.errors",
    "util.contract": "registry.contract training.state_checks",
    "util.curves": "displays.curves",
    "util.disk": "util.disk_space",
    "util.display": "displays.base displays.group",
    "util.divergence": "training.nan_guard",
    "util.dry_run": "training.dry_run",
    "util.exports": "serialization.weight_exports",
    "util.fetch": "data.download.fetch",
    "util.files": "util.atomic_write",
    "util.health": "displays.health_rules",
    "util.init_from": "serialization.init_from",
    "util.inventory": "data.fingerprint",
    "util.kinds": "registry.kinds",
    "util.lab": "util.cielab",
    "util.lock": "util.file_lock",
    "util.log": "displays.loss_log",
    "util.losses": "displays.loss_history",
    "util.means": "training.loss_meter",
    "util.memory": "util.malloc",
    "util.metrics": "metrics metrics.pixelwise",
    "util.misfit": "serialization.mismatch",
    "util.optim": "training.optim",
    "util.part": "data.download.partial",
    "util.parts": "serialization.pickle_types",
    "util.passes": "training.accumulation",
    "util.pickles": "serialization.pickle_scan",
    "util.pixels": "util.image_io",
    "util.plugins": "registry.discovery registry.loaded",
    "util.pool": "util.image_pool",
    "util.position": "util.progress",
    "util.preview": "training.preview",
    "util.problems": "util.errors",
    "util.reading": "serialization.safe_load",
    "util.registry": "registry.lookup util.spelling",
    "util.rehearsal": "training.preflight",
    "util.replay": "util.snapshot",
    "util.report": "cli.main",
    "util.run": "training.run",
    "util.run_folder": "training.run_folder",
    "util.runs": "serialization.run_names",
    "util.schedule": "training.lr_schedule",
    "util.sheets": "inference.sampling",
    "util.signals": "cli.signals",
    "util.sources": "data.download.catalog",
    "util.startup": "cli.startup",
    "util.stopwatch": "training.timer",
    "util.threads": "cli.startup",
    "util.timed": "util.http_deadline",
    "util.translation": "inference.batch_translator",
    "util.unpack": "data.download.unpack",
    "util.user_cache": "util.cache_dir",
    "util.values": "util.value_range",
    "util.watchdog": "displays.watchdog",
    "util.writer": "pages.async_writer",
}
RENAMED = {  # of the names that changed as well, those that models, data sets, networks and displays imported
    "data.augment_spec.Word": "data.augment.grammar.SpecNode",
    "data.augment_spec.read_spec": "data.augment.grammar.parse_spec",
    "data.augment_spec.wrong": "data.augment.grammar.spec_error",
    "data.cache.Origin": "data.decoding.cache.CacheKey",
    "data.checks.Check": "data.decoding.header_check.HeaderCheck",
    "data.checks.unlike": "data.decoding.header_check.size_mismatch_text",
    "data.deep.in_channels": "data.decoding.images.convert_channels",
    "data.deep.too_large": "data.decoding.decoders.too_many_pixels_error",
    "data.deep.wrong_channels": "data.decoding.images.channels_error",
    "data.files.binary": "data.listing.files.open_binary",
    "data.files.first_bytes": "data.listing.files.read_first_bytes",
    "data.files.identity": "data.listing.files.size_and_mtime",
    "data.files.is_readable": "data.listing.paths.has_image_extension",
    "data.files.open_file": "data.listing.files.open_binary",
    "data.files.start_of": "data.listing.files.dataset_root",
    "data.images.Reading": "data.decoding.images.ReadOptions",
    "data.images.colour": "data.decoding.images.parse_colour",
    "data.images.in_channels": "data.decoding.images.convert_channels",
    "data.images.reason": "data.decoding.decoders.unreadable_reason",
    "data.layouts.find": "data.listing.layouts.find_sides",
    "data.layouts.listed": "data.listing.layouts.list_images",
    "data.layouts.of_phase": "data.listing.layouts.list_phase_images",
    "data.layouts.part": "data.listing.layouts.select_split",
    "data.layouts.pictures": "data.listing.files.list_files",
    "data.manifest.find": "data.listing.manifest.find_manifest",
    "data.manifest.read": "data.listing.manifest.read_manifest",
    "data.manifest.sized": "data.listing.manifest.paths_with_sizes",
    "data.raster.pixels": "data.decoding.raster.to_array",
    "networks.ahead.ahead": "networks.batched_forward.batched_forward",
    "networks.compiled.compiled": "networks.runtime.compiled.compile_network",
    "networks.dcgan.doublings": "networks.architectures.dcgan.count_doublings",
    "networks.field.Field": "inference.receptive_field.ReceptiveField",
    "networks.field.field": "inference.receptive_field.receptive_field",
    "networks.moments.Core": "inference.tile_norm.TileCore",
    "networks.moments.SharedNorms": "inference.tile_norm.SharedNormMode",
    "networks.moments.Unknown": "inference.tile_norm.NormStatsPending",
    "networks.own_way.allowed": "networks.cpu.eligible.can_use_cpu_kernel",
    "networks.precision.full_precision": "networks.runtime.amp.disable_autocast",
    "networks.precision.lower": "networks.runtime.amp.apply_autocast",
    "networks.recompute.recompute": "networks.runtime.grad_checkpoint.checkpoint_activations",
    "networks.sizes.around": "networks.padding.padded_side",
    "networks.sizes.places": "networks.padding.reflected_indices",
    "networks.sizes.reflected": "networks.padding.reflect_pad",
    "util.checkpoint.renamed": "serialization.weight_files.rename_keys",
    "util.classes.chosen": "util.class_names.select_classes",
    "util.contract.lacking": "registry.contract.missing_method_error",
    "util.display.asked_for": "options.effects.requested_displays",
    "util.display.in_one_line": "displays.group.error_text",
    "util.display.shows": "displays.group.any_display_overrides",
    "util.memory.keep": "util.malloc.keep_freed_memory",
    "util.metrics.better": "metrics.better_direction",
    "util.metrics.finite": "metrics.finite_or_none",
    "util.optim.in_phases": "training.optim.trained_networks",
    "util.optim.needed": "training.optim.inference_networks",
    "util.optim.trainable": "training.optim.trainable_parameters",
    "util.pixels.as_image": "util.image_io.array_to_pil",
    "util.pixels.first_pictures": "util.image_io.first_thumbnails",
    "util.pixels.grid": "util.image_io.make_grid",
    "util.pixels.pictures": "inference.visuals.collect_visuals",
    "util.pixels.save_numbers": "util.image_io.save_array",
    "util.pixels.to_image": "util.image_io.tensor_to_pil",
    "util.pixels.write_numbers": "util.image_io.write_array",
    "util.position.Position": "util.progress.Progress",
    "util.problems.refuse": "util.errors.raise_if_any",
    "util.registry.clash": "registry.lookup.duplicate_name_error",
    "util.registry.place": "registry.lookup.definition_file",
    "util.registry.plain": "util.spelling.normalise_name",
    "util.replay.Buffers": "util.snapshot.BufferSnapshot",
    "util.replay.Moment": "util.snapshot.Snapshot",
    "util.schedule.share": "training.lr_schedule.lr_factor",
    "util.sheets.can_generate": "inference.sampling.has_sampler",
    "util.sheets.generate": "inference.sampling.sample_sheets",
    "util.timed.TimedAnswer": "util.http_deadline.DeadlineResponse",
    "util.values.Values": "util.value_range.ValueRange",
    "util.values.measured": "util.value_range.measure_range",
    "util.values.of_option": "util.value_range.option_range",
    "util.values.of_type": "util.value_range.dtype_range",
    "util.values.parse": "util.value_range.parse_range",
    "util.values.side": "util.value_range.side_of_label",
}
_reported: set[tuple[str, str]] = set()


class MovedModule(ModuleType):
    """A stand-in for a moved module; it looks up names in the new modules."""

    def __getattr__(self, name: str) -> Any:
        new = RENAMED.get(f"{self.__name__}.{name}")
        homes = [new.rpartition(".")[0]] if new else MOVED[self.__name__].split()
        name_now = new.rpartition(".")[2] if new else name
        for home in homes if not name.startswith("__") else ():
            module = importlib.import_module(home)
            if hasattr(module, name_now):
                _report(f"{self.__name__}.{name}", f"{home}.{name_now}")
                return getattr(module, name_now)
        raise AttributeError(f"module '{self.__name__}' has moved to {' and '.join(homes)}, which has no '{name}'")


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """A finder for moved modules, used after all other finders."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for the old path of a moved module, else None."""
        return importlib.machinery.ModuleSpec(name, self) if name in MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the stand-in module; Python shows __file__ when a name is missing in it."""
        module = MovedModule(spec.name)
        module.__file__ = f"moved to {MOVED[spec.name].replace(' ', ' and ')}"
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
