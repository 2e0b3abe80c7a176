"""Old import paths that plug-ins may still use: each is answered from its new home, with a note that names it."""

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

MOVED = {  # old module: the modules that hold what it held
    "data.augment_spec": "data.augment.grammar",
    "data.augmentations": "data.augment.table",
    "data.cache": "data.decoding.cache",
    "data.checks": "data.decoding.header_check",
    "data.deep": "data.decoding.high_bit_depth",
    "data.demo": "data.listing.demo",
    "data.edges": "data.prepare.canny",
    "data.exact": "data.prepare.lossless",
    "data.files": "data.listing.files",
    "data.fixed": "training.fixed_samples",
    "data.images": "data.decoding.images",
    "data.index": "data.listing.index",
    "data.layouts": "data.listing.layouts",
    "data.loader": "data.loading.loader data.loading.sample_order data.loading.collate",
    "data.manifest": "data.listing.manifest",
    "data.orientation": "data.decoding.orientation",
    "data.paths": "data.listing.paths",
    "data.profiles": "data.decoding.icc",
    "data.raster": "data.decoding.raster",
    "data.shelf": "data.loading.shared_memory",
    "data.survey": "data.prepare.survey",
    "data.zips": "data.listing.zips",
    "networks.ahead": "networks.batched",
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
    "util.exports": "serialization.export",
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
    "util.threads": "cli.openmp",
    "util.timed": "util.http_deadline",
    "util.translation": "inference.translator",
    "util.unpack": "data.download.unpack",
    "util.user_cache": "util.cache_dir",
    "util.values": "util.value_range",
    "util.watchdog": "displays.watchdog",
    "util.writer": "pages.async_writer",
}
RENAMED = {  # "old module.name": "new module.name", of names that changed too
    "data.fixed.first_shown": "training.fixed_samples.preview_inputs",
    "util.blame.blamed": "registry.attribution.plugin_error",
    "util.blame.during": "registry.attribution.error_context",
    "util.blame.place": "registry.attribution.plugin_line",
    "util.checkpoint.export": "serialization.weight_files.save_networks",
    "util.checkpoint.fit": "serialization.weight_files.load_into_network",
    "util.checkpoint.not_finite": "serialization.weight_files.find_non_finite",
    "util.checkpoint.renamed": "serialization.weight_files.rename_keys",
    "util.checkpoint.weights": "serialization.weight_files.load_weights",
    "util.classes.chosen": "util.class_names.select_classes",
    "util.command.say": "util.errors.print_line",
    "util.contract.broken": "registry.contract.contract_error",
    "util.contract.check_layout": "training.state_checks.check_state_shapes",
    "util.contract.lacking": "registry.contract.missing_method_error",
    "util.contract.layout": "training.state_checks.state_shapes",
    "util.contract.parts_by_key": "training.state_checks.modules_by_extra_state_key",
    "util.curves.LIMIT": "displays.curves.MAX_POINTS",
    "util.curves.of_run": "displays.curves.read_curves",
    "util.disk.check_room": "util.disk_space.check_free_space",
    "util.disk.fault": "util.disk_space.write_error",
    "util.disk.free": "util.disk_space.free_bytes",
    "util.disk.in_units": "util.disk_space.format_bytes",
    "util.disk.size_of": "util.disk_space.tensor_bytes",
    "util.disk.twice": "util.disk_space.retry_when_full",
    "util.display.asked_for": "displays.group.requested_displays",
    "util.display.in_one_line": "displays.group.error_text",
    "util.display.shows": "displays.group.any_display_overrides",
    "util.divergence.Guard": "training.nan_guard.NanGuard",
    "util.dry_run.counted": "training.dry_run.count_flops_and_activations",
    "util.dry_run.dry_run": "training.dry_run.estimate_cost",
    "util.health.measured": "displays.health_rules.measure_samples",
    "util.kinds.FLAGS": "registry.kinds.PART_FLAGS",
    "util.kinds.HOMES": "registry.kinds.PART_TABLES",
    "util.lock.hold": "util.file_lock.lock_file",
    "util.lock.opened": "util.file_lock.open_locked",
    "util.log.Log": "displays.loss_log.LossLog",
    "util.means.Means": "training.loss_meter.LossMeter",
    "util.memory.give_back": "util.malloc.release_freed_memory",
    "util.memory.keep": "util.malloc.keep_freed_memory",
    "util.misfit.difference": "serialization.mismatch.first_difference",
    "util.misfit.explained": "serialization.mismatch.explain_mismatch",
    "util.misfit.plain": "serialization.mismatch.to_saved_value",
    "util.misfit.same_kind": "serialization.mismatch.is_assignable",
    "util.misfit.too_large": "serialization.mismatch.overflows",
    "util.optim.Gates": "training.optim.TrainableParameters",
    "util.optim.in_phases": "training.optim.trained_networks",
    "util.optim.needed": "training.optim.inference_networks",
    "util.optim.trainable": "training.optim.trainable_parameters",
    "util.parts.Refused": "serialization.pickle_types.UnsafeFile",
    "util.passes.Parts": "training.accumulation.MicroBatches",
    "util.passes.Whole": "training.accumulation.FullBatch",
    "util.passes.begin": "training.accumulation.forward",
    "util.passes.divided": "training.accumulation.split_batch",
    "util.pixels.COLUMNS": "util.image_io.SHEET_COLUMNS",
    "util.pixels.as_image": "util.image_io.array_to_pil",
    "util.pixels.first_pictures": "util.image_io.first_thumbnails",
    "util.pixels.grid": "util.image_io.make_grid",
    "util.pixels.pictures": "util.image_io.collect_visuals",
    "util.pixels.save_numbers": "util.image_io.save_array",
    "util.pixels.to_image": "util.image_io.tensor_to_pil",
    "util.pixels.write_numbers": "util.image_io.write_array",
    "util.plugins.Found": "registry.discovery.PluginEntry",
    "util.plugins.forget": "registry.discovery.clear",
    "util.plugins.in_use": "registry.loaded.plugin_names",
    "util.plugins.loaded_name": "registry.loaded.plugin_of_module",
    "util.plugins.owner": "registry.loaded.plugin_of_file",
    "util.plugins.use": "registry.discovery.add_paths",
    "util.position.Position": "util.progress.Progress",
    "util.problems.refuse": "util.errors.raise_if_any",
    "util.problems.told": "util.errors.format_problems",
    "util.reading.check": "serialization.safe_load.check_file",
    "util.reading.read": "serialization.safe_load.load_file",
    "util.registry.clash": "registry.lookup.duplicate_name_error",
    "util.registry.place": "registry.lookup.definition_file",
    "util.registry.plain": "util.spelling.normalise_name",
    "util.rehearsal.rehearse": "training.preflight.run_preflight",
    "util.replay.Buffers": "util.snapshot.BufferSnapshot",
    "util.replay.Moment": "util.snapshot.Snapshot",
    "util.report.explain": "cli.main.describe_failure",
    "util.report.guarded": "cli.main.run_command",
    "util.run_folder.how_to_continue": "training.run_folder.resume_command",
    "util.run_folder.which_run": "training.run_folder.run_flags",
    "util.runs.meant": "serialization.run_names.suggest_run",
    "util.runs.there_are": "serialization.run_names.list_runs",
    "util.schedule.share": "training.lr_schedule.lr_factor",
    "util.startup.end_quickly": "cli.startup.skip_interpreter_shutdown",
    "util.stopwatch.Stopwatch": "training.timer.Timer",
    "util.timed.TimedAnswer": "util.http_deadline.DeadlineResponse",
    "util.values.FULL": "util.value_range.FULL_RANGES",
    "util.values.USUAL": "util.value_range.UINT8",
    "util.values.Values": "util.value_range.ValueRange",
    "util.values.measured": "util.value_range.measure_range",
    "util.values.of_option": "util.value_range.option_range",
    "util.values.of_type": "util.value_range.dtype_range",
    "util.values.parse": "util.value_range.parse_range",
    "util.values.side": "util.value_range.side_of_label",
}
_reported: set[tuple[str, str]] = set()


class MovedModule(ModuleType):
    """Stands for a module that has moved: looks its names up where they are now."""

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
    """Finds modules that have moved, after everything else was asked."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for an old path while plug-ins are in use, else None."""
        return importlib.machinery.ModuleSpec(name, self) if name in MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the stand-in."""
        return MovedModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the stand-in looks its names up when they are asked for."""


def answer_old_paths() -> None:
    """Answer old import paths from now on; called when the first plug-in is imported."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())


def _report(old: str, new: str) -> None:
    files = (frame.f_code.co_filename for frame, _ in traceback.walk_stack(None))
    origin = loaded.current_origin() or next(filter(None, map(loaded.plugin_of_file, files)), "a plug-in")
    if (old, origin) not in _reported and multiprocessing.parent_process() is None:  # not once more in each worker
        _reported.add((old, origin))
        print_line(
            f"note: {origin} imports {old}, which is {new} now: change the import; the old path works for some time"
        )
