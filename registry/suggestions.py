"""Name the models that fit data, read from their sources without importing them."""

from pathlib import Path

from registry import discovery
from registry.lookup import entries


def models_by_dataset_mode() -> dict[str, list[str]]:
    """Return {dataset mode: names of the models, built in or of plug-ins, whose default it is}."""
    found: dict[str, list[str]] = {}
    built_in = Path(__file__).resolve().parent.parent / "models"
    for entry in entries("model"):
        path = built_in / f"{entry.name}.py" if entry.plugin is None else Path(entry.plugin.path or "")
        if mode := discovery.class_constant(path, "dataset_mode"):
            found.setdefault(mode, []).append(entry.name)
    return found
