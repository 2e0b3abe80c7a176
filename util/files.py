"""Replace a file in one step: whoever reads it sees the old text or the new, never a half."""

import os
from pathlib import Path


def replace_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write text as UTF-8 beside the target, then rename onto it; errors is what `open` calls so."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text, encoding="utf-8", errors=errors)
    os.replace(beside, path)
