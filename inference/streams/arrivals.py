"""Find the images that arrive in a folder, each once it is whole."""

import os
import time
from collections.abc import Callable

from data.listing.files import list_files
from util.errors import print_line

INCOMPLETE_S = 5.0  # an image that cannot be read may still be copied for so long after it has last changed
Version = tuple[int, int]  # size (bytes) and modification time (ns) of a file


class Arrivals:
    """The images below a folder that are new or changed.

    settled: {name below the folder: version} of those that need nothing more; the caller adds each translated image.
    """

    def __init__(self, folder: str, settled: dict[str, Version], clock: Callable[[], float] = time.monotonic):
        self.folder, self.settled, self.clock = folder, settled, clock
        self.seen: dict[str, tuple[Version, float]] = {}  # the version of each name, and when it was first seen
        self.unused: set[str] = set()  # extensions of files that are no images

    def look(self) -> list[str]:
        """Return the sorted names of the images that were there at an earlier look too, and have not changed since.

        A file that is being written changes between two looks.
        """
        now, seen = self.clock(), self.seen
        paths = list_files(self.folder)
        self._note_unused(os.fsdecode(paths.unused).split("\0")[:-1])
        names = [os.fsdecode(paths.name(index)) for index in range(len(paths))]
        versions = {name: self.version(name) for name in names}
        new = {name: version for name, version in versions.items() if version and self.settled.get(name) != version}
        self.seen = {name: seen[name] if name in seen and seen[name][0] == version else (version, now)
                     for name, version in new.items()}  # fmt: skip
        return [name for name, (_, since) in self.seen.items() if since < now]

    def _note_unused(self, names: list[str]) -> None:
        """Print once for each extension that its files are not read."""
        for name in names:
            if (end := os.path.splitext(name)[1]) not in self.unused:
                self.unused.add(end)
                print_line(f"note: {name} is not used: only names with the extension of an image are read")

    def path(self, name: str) -> str:
        """Return the path of an image."""
        return os.path.join(self.folder, name)

    def version(self, name: str) -> Version | None:
        """Return the version of an image now; None if it is gone."""
        try:
            status = os.stat(self.path(name))
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns

    def may_be_incomplete(self, name: str) -> bool:
        """Whether an image has changed so recently that it may still be copied, slowly."""
        return name not in self.seen or self.clock() - self.seen[name][1] < INCOMPLETE_S
