"""How the C library gets memory for this process and gives it back."""

import ctypes
import sys

# of GNU's mallopt(3): never to give anything back, and what its own adjustment, which any setting ends, arrives at
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
DEFAULT_SETTINGS = {M_MMAP_MAX: 65_536, M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20}
KEEP_SETTINGS = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1}


def keep_freed_memory() -> bool:
    """Have memory that is freed kept for what is allocated next; return whether that could be said.

    A training step allocates the same tensors again and again. By default GNU's library gives large ones back to the
    system, which clears every page anew: of a step of pix2pix that is a sixth of the time. Elsewhere without effect.
    """
    return _apply(KEEP_SETTINGS)


def release_freed_memory() -> bool:
    """Undo `keep`, and give back what is free: for a process that reads pictures of all sizes."""
    applied = _apply(DEFAULT_SETTINGS)
    if applied:
        ctypes.CDLL(None).malloc_trim(0)
    return applied


def _apply(settings: dict[int, int]) -> bool:
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return False
    return all([library.mallopt(name, value) for name, value in settings.items()])
