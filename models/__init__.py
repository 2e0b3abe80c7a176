"""The table of GANs by name: every file in this folder except base.py holds one."""

from pathlib import Path

from registry.lookup import Table

MODELS = Table(
    "model",
    {
        file.stem: f"models.{file.stem}"
        for file in sorted(Path(__file__).parent.glob("*.py"))
        if file.stem not in ("__init__", "base")
    },
)
