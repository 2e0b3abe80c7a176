"""Find the models' sources, and name the models that fit data, without importing them."""

from pathlib import Path

from registry import discovery
from registry.lookup import Entry, entries

SUGGESTED_FIRST = ("pix2pix", "cycle_gan", "cgan", "colorization")  # of models for the same data
BUILT_IN = Path(__file__).resolve().parent.parent / "models"


def model_files() -> list[tuple[str, Path]]:
    """Return (name, source file) of every model: built in, from a plug-in's file, or installed."""
    found = [(entry.name, _source_file(entry)) for entry in entries("model")]
    return [(name, path) for name, path in found if path]


def _source_file(entry: Entry) -> Path | None:
    """Return the file that defines a model; None for an installed one without a Python source."""
    if entry.plugin and entry.plugin.module:
        return discovery.module_file(entry.plugin.module)
    return BUILT_IN / f"{entry.name}.py" if entry.origin == "built in" else Path(entry.origin)


def models_by_dataset_mode() -> dict[str, list[str]]:
    """Return {dataset mode: names of the models whose default it is}, those that are suggested first in front."""
    files = sorted(model_files(), key=lambda file: file[0] not in SUGGESTED_FIRST)
    owners = {name: path for _, path in files for name in discovery.class_bases(path)}
    found: dict[str, list[str]] = {}
    for name, path in files:
        if mode := _dataset_mode(path, owners):
            found.setdefault(mode, []).append(name)
    return found


def _dataset_mode(path: Path, owners: dict[str, Path]) -> str:
    """Return the dataset mode that a file's class states, or that it inherits from the class of another model."""
    if mode := discovery.class_constant(path, "dataset_mode"):
        return mode
    bases = [base for names in discovery.class_bases(path).values() for base in names]
    parents = (owners[base] for base in bases if base in owners and owners[base] != path)
    return next((mode for parent in parents if (mode := discovery.class_constant(parent, "dataset_mode"))), "")
