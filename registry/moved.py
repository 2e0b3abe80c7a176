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
from util.errors import say

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
RENAMED: dict[str, str] = {}  # "old module.name": "new module.name", of names that changed too
_noted: set[tuple[str, str]] = set()


class MovedModule(ModuleType):
    """Stands for a module that has moved: looks its names up where they are now."""

    def __getattr__(self, name: str) -> Any:
        new = RENAMED.get(f"{self.__name__}.{name}")
        homes = [new.rpartition(".")[0]] if new else MOVED[self.__name__].split()
        name_now = new.rpartition(".")[2] if new else name
        for home in homes if not name.startswith("__") else ():
            module = importlib.import_module(home)
            if hasattr(module, name_now):
                _note(f"{self.__name__}.{name}", f"{home}.{name_now}")
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


def _note(old: str, new: str) -> None:
    files = (frame.f_code.co_filename for frame, _ in traceback.walk_stack(None))
    origin = loaded.loading() or next(filter(None, map(loaded.owner, files)), "a plug-in")
    if (old, origin) not in _noted and multiprocessing.parent_process() is None:  # not once more in each worker
        _noted.add((old, origin))
        say(f"note: {origin} imports {old}, which is {new} now: change the import; the old path works for some time")
