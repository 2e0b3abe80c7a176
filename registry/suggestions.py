"""Find the models' sources, and name the models that fit data, without importing them."""

from pathlib import Path

from registry import discovery
from registry.lookup import entries


def model_files() -> list[tuple[str, Path]]:
    """Return (name, source file) of every model, built in or from a plug-in's file."""
    built_in = Path(__file__).resolve().parent.parent / "models"
    return [
        (e.name, Path(e.origin) if e.plugin else built_in / f"{e.name}.py")
        for e in entries("model")
        if e.plugin is None or not e.plugin.module
    ]


def models_by_dataset_mode() -> dict[str, list[str]]:
    """Return {dataset mode: names of the models whose default it is}."""
    found: dict[str, list[str]] = {}
    for name, path in model_files():
        if mode := discovery.class_constant(path, "dataset_mode"):
            found.setdefault(mode, []).append(name)
    return found
