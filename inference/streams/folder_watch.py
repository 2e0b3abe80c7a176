"""Translate the images that arrive in a folder until a signal."""

import time
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, Protocol

from torch import Tensor

from cli.main import user_error
from cli.signals import StopRequest
from inference.streams.arrivals import Arrivals, Version
from util.errors import EnvironmentFault, Stopped, UserError, count_text, first_line, print_line

POLL_S = 0.5  # seconds between two looks at the folder


class Results(Protocol):
    """What writes the results, and knows those of earlier runs of the command."""

    done: dict[str, Version]

    def add(self, o: Any, images: dict[str, Tensor], name: str, version: Version) -> None: ...


def watch_folder(o: Any, translate: Callable[[str], Any], results: Results) -> None:
    """Translate each image that arrives in --watch, until --num_test are done, or else a signal, which raises Stopped.

    An image that changes is translated again. One that cannot be used is reported in one line and left alone until it
    changes.
    """
    arrivals, count = Arrivals(o.watch, results.done), 0
    with StopRequest(answer="stopping after this image") as stop:
        for name in _names(arrivals, stop):
            count += _translate(arrivals, name, translate, results)
            if count == o.num_test:
                return
        said = f"stopped; {count_text(count, 'image')} translated since the start"
        raise Stopped(stop.signal, said)


def _names(arrivals: Arrivals, stop: StopRequest) -> Iterator[str]:
    """Yield the names of whole images until a signal."""
    while True:
        for name in arrivals.look():
            if stop.signal:
                return
            yield name
        if stop.signal:
            return
        time.sleep(POLL_S)


def _translate(arrivals: Arrivals, name: str, translate: Callable[[str], Any], results: Results) -> bool:
    """Translate one image and return whether there is a result; print why there will be none."""
    path, version = arrivals.path(name), arrivals.version(name)
    if version is None:
        return False
    try:
        images, shown = translate(path)
    except Exception as problem:  # of any kind: the next images may be fine
        error = _image_error(problem)
        if arrivals.version(name) == version and not arrivals.may_be_incomplete(name):
            arrivals.settled[name] = version
            print_line(f"note: {error}; {PurePath(name).name} is left out until it changes")
        return False
    if arrivals.version(name) != version:  # it was changed while it was read
        return False
    results.add(images.given_options, images.rename(shown), name, version)
    return True


def _image_error(problem: Exception) -> str:
    """Return the text of an error of one image; raise an error that other images would have too."""
    error = user_error(problem)
    if isinstance(error, EnvironmentFault) and error.args[0] != "memory":
        raise error from problem
    if isinstance(error, UserError):
        return str(error)
    return f"{type(problem).__name__}: {first_line(problem)}"
