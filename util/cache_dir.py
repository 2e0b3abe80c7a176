"""The user's cache folder."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder `ganvas` in the user's cache; it may not exist yet."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"], "ganvas")
    usual = {"darwin": "Library/Caches", "win32": "AppData/Local"}.get(sys.platform, ".cache")
    return Path(os.path.expanduser("~"), usual, "ganvas")
