"""Find the models' sources, and name the models that fit data, without importing them."""

from pathlib import Path

from registry import discovery
from registry.lookup import entries


def model_files() -> list[tuple[str, Path]]:
    """Return (name, source file) of every model, built in or from a plug-in's file."""
    built_in = Path(__file__).resolve().parent.parent / "models"
    return [
        (e.name, built_in / f"{e.name}.py" if e.origin == "built in" else Path(e.origin))
        for e in entries("model")
        if e.plugin is None or not e.plugin.module
    ]


def models_by_dataset_mode() -> dict[str, list[str]]:
    """Return {dataset mode: names of the models whose default it is}."""
    files = model_files()
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
