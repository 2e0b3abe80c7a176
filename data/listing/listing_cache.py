"""List each folder only once while several data sets look at the same folders."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar

Listing = TypeVar("Listing")
_listings: ContextVar[dict[tuple[str, str], Any] | None] = ContextVar("_listings", default=None)


@contextmanager
def listed_once() -> Iterator[None]:
    """Keep what folders hold until the end of the outermost context; changes of files in between are not seen."""
    if _listings.get() is not None:
        yield
        return
    token = _listings.set({})
    try:
        yield
    finally:
        _listings.reset(token)


def once(method: Callable[[Any, str], Listing]) -> Callable[[Any, str], Listing]:
    """Return a storage's method that lists a folder, given in full; within `listed_once` it lists each folder once."""

    @wraps(method)
    def listing(storage: Any, folder: str) -> Any:
        known, key = _listings.get(), (method.__name__, folder)
        if known is None:
            return method(storage, folder)
        if key not in known:
            known[key] = method(storage, folder)
        listed: Any = known[key]
        return list(listed) if isinstance(listed, list) else listed  # a caller may change its list

    return listing
