"""Translate images in several processes (torchrun test.py): each its part, shown in order by the first one."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch import Tensor

from inference.batch_translator import Files, Translator, Visuals
from inference.model_state import CallWatch, undone_changes
from serialization import rank_exchange
from util import ranks
from util.errors import print_line
from util.seeding import fork_rng


def translate(translator: Translator, loader: Any, number: int | None) -> Iterator[tuple[Visuals, Files]]:
    """Yield what the translator makes of a loader's first `number` batches, in process 0; nothing in the others.

    Process r takes the images r, r + N, r + 2 N, ... If an image changes the model or draws random numbers, or with
    flags by which images depend on each other, process 0 translates all, so that results are those of one process.
    """
    size, o = ranks.world_size(), translator.o
    if size > 1 and (not translator.can_batch or o.on_bad_image == "skip" or _depend_on_earlier(translator, loader)):
        print_line("note: one process translates, because images may depend on those before them")
        size = 1
    if size == 1:
        if ranks.rank() == 0:
            yield from translator(islice(loader.epoch(0), number))
        return
    loader.batch_sampler.every = ranks.rank(), size
    total = len(loader.batch_sampler) if number is None else min(number, len(loader.batch_sampler))
    own = _each(translator(islice(loader.epoch(0), len(range(ranks.rank(), total, size)))))
    for _ in range(0, total, size):
        for found in rank_exchange.gather(next(own, None)):
            if found is not None:
                yield found["shown"], [tuple(both) for both in found["files"]]


def _each(results: Iterator[tuple[Visuals, Files]]) -> Iterator[dict[str, Any]]:
    """Yield the result of each image."""
    for shown, files in results:
        ranks.pulse.beat()
        for i, both in enumerate(files):
            images: dict[str, Tensor] = {name: image[i : i + 1].cpu().clone() for name, image in shown.items()}
            yield {"shown": images, "files": [list(both)]}


def _depend_on_earlier(translator: Translator, loader: Any) -> bool:
    """Whether the first image changes the model, its plug-in or a random generator; every process tries alike."""
    model = translator.model
    with undone_changes(model), fork_rng(0):
        watch = CallWatch(model)
        next(iter(Translator(translator.o, model, translator.device)([loader.example_batch()])))
        return watch.changed()
