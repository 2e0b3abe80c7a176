"""Translate images one by one, each as test.py translates it."""

import re
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.decoding.header_check import count_unused_frames
from data.loading.loader import SeededDataset
from data.names.inputs import given_names
from inference.found_images import FoundImages, find_images, needs_exchange
from inference.model_state import own_copy
from inference.sampling import has_sampler
from inference.several_results import SeveralResults
from registry.lookup import find
from util.errors import OptionError, print_line
from util.seeding import generator_states, restore_generators, seed_everything


class ImageTranslator:
    """Calls a run's model with one image after the other.

    folder: the run's. build(exchanged): returns the model with its weights, with exchanged for images of the other
    side. alone: each image is translated as in a test of this image, so that results do not depend on earlier images;
    else as the next one of a test of many, and what is found at a path holds for its later content too. Raise
    OptionError for a run with several inputs, and what `build` raises.
    """

    def __init__(
        self, o: Any, folder: Path, build: Callable[[bool], nn.Module], device: torch.device, alone: bool = True
    ):
        self.o, self.folder, self.build, self.alone = o, folder, build, alone
        self.kind = find("model", o.model)
        if names := given_names(o):
            why = f"gives one image at a time, but the run has the inputs {', '.join(names)}"
            flag = "--watch" if o.watch else "--dataroot"
            raise OptionError("option", flag, why, "test a folder that holds all inputs with --dataroot")
        self.results = SeveralResults(o, device)
        self.models: dict[bool, tuple[nn.Module, dict[str, Any]]] = {}  # each with the random generators' first states
        self.found: dict[str, FoundImages] = {}
        self.said: set[str] = set()
        self.count = 0
        # now, so that missing weights are reported at once
        self._model(not has_sampler(self.kind) and needs_exchange(o, self.kind))

    def __call__(self, path: str) -> tuple[FoundImages, dict[str, Tensor]]:
        """Return the image in a file as test.py finds it, and {label: (1, C, H, W)}; DataError if it is no image."""
        images = self._find(path)
        batch = SeededDataset(images.dataset, self.o.seed).batch((0, 0 if self.alone else self.count))
        model, states = self._model(images.exchanged)
        self.count += 1
        if self.alone:
            restore_generators(states)
            model = own_copy(model)
        with torch.inference_mode():
            return images, self.results(model, batch)

    def _find(self, path: str) -> FoundImages:
        """Return the image in a file as a data set; the content of a file that is not alone may change."""
        if path in self.found:
            return self.found[path]
        own = copy(self.o)
        own.dataroot = path
        images = find_images(own, self.folder, self.kind, is_frame=not self.alone)
        images.spec()
        self._print_notes(images, path)
        if not self.alone:
            self.found[path] = images
        return images

    def _model(self, exchanged: bool) -> tuple[nn.Module, dict[str, Any]]:
        if exchanged not in self.models:
            seed_everything(self.o.seed, self.o.deterministic)
            model = self.build(exchanged)
            self.models[exchanged] = model, generator_states()
        return self.models[exchanged]

    def _print_notes(self, images: FoundImages, path: str) -> None:
        """Print each note once, although names, sizes and counts in it differ from image to image."""
        frames = count_unused_frames(path, images.dataset.file_channels("A"))
        more = [f"note: {path} holds {frames} frames; only the first is used"] if frames else []
        for note in [*images.dataset.notes, *more]:
            kind = re.sub(r"\d+", "", note.replace(path, ""))
            if kind not in self.said and not note.startswith("images: "):
                self.said.add(kind)
                print_line(note)
