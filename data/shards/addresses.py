"""Tell addresses on a server from paths on this machine."""

import os
import re

URL = re.compile(r"(https?):/+", re.IGNORECASE)


def is_url(path: str) -> bool:
    """Return whether a path is on a server, also if its two slashes were made one."""
    return bool(URL.match(path))


def as_url(path: str) -> str:
    """Return a path with the two slashes of a URL."""
    return URL.sub(lambda match: f"{match[1].lower()}://", path.replace(os.sep, "/")) if is_url(path) else path
