"""Apply a trained run from Python: translate images, generate images from noise, and return the network."""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.decoding.header_check import count_unused_frames
from data.listing.memory import memory_folder
from data.loading.loader import SeededDataset
from data.names.class_names import select_classes
from data.names.inputs import given_names
from data.names.side_names import generated_label, own_names
from ganvas.flag_words import command_line
from ganvas.label_maps import in_folders, is_of_label_maps
from ganvas.notebook import table_html
from ganvas.pictures import Pictures, Source, is_one, is_several, read_source, to_pillow
from ganvas.session import Session, log
from inference.batch_translator import Translator
from inference.found_images import FoundImages, find_images, needs_exchange
from inference.model_state import own_copy
from inference.network_flags import read_network_flags
from inference.run_spec import run_spec, without_images
from inference.run_weights import load_run_weights
from inference.sampling import Request, has_sampler, sample_between, sample_parts
from inference.trained_model import load_trained
from options import store
from options.fields import Options
from options.parse import parse
from pages.result_images import ResultImages
from registry.loaded import plugin_of_module
from registry.lookup import find
from serialization.weight_files import file_prefix
from training.phase_optimizers import inference_networks
from util import malloc
from util.device import select_device
from util.errors import DataError, OptionError, UserError
from util.seeding import seed_everything

SIZES: dict[str, dict[str, Any]] = {"run": {}, "native": {"native": True}}  # values of `size`: flags of test.py


STRETCHED = (
    "note: the run knows no range for these values, so each image is stretched: its least value becomes black, its "
    "greatest white; value_range=(0, 1), or (-1, 1), says which values are black and white"
)


@dataclass(frozen=True)
class _Prepared:
    """A model on its device, and the session that its calls start from."""

    model: Any
    names: tuple[str, ...]  # of the networks that make the results, as the run calls them
    session: Session


class TrainedGenerator:
    """A trained run: `g(image)` translates, `g.sample(n)` generates from noise; threads may share it.

    The results are those of test.py for the same images and flags, to the byte. Each call starts from the same random
    numbers, so equal calls give equal results.
    """

    def __init__(self, flags: dict[str, Any], holder: Any = None, file: Path | None = None):
        self.folder = Path(flags["checkpoints_dir"], flags["name"])
        self._flags, self._holder = flags, holder  # the holder's folder lives as long as this object
        self._file = file or self.folder
        self._options: dict[tuple[Any, ...], Options] = {}
        self._prepared: dict[Any, _Prepared] = {}
        self._network: nn.Module | None = None
        self._said: set[str] = set()
        self._session = Session()
        self.reload = partial(TrainedGenerator, flags)  # loads it again, for another process
        with self._session.active():
            o = self._parse()
            self.device = select_device(o.gpu_ids)
            self._prepare(o)

    def __call__(
        self,
        images: Any,
        *,
        size: str = "run",
        tile: int | tuple[int, int] = 0,
        value_range: tuple[float, float] | None = None,
        label: str = "",
    ) -> Any:
        """Return images translated: one as one, a list as a list, an iterator as an iterator that translates lazily.

        images: paths, bytes or open files of image files, Pillow images, arrays (H, W) or (H, W, C), tensors (C, H, W)
        or (H, W); also arrays (N, H, W, C) and tensors (N, C, H, W); of a run with several inputs dictionaries such as
        {"A1": ..., "A2": ...}, of one with instance maps {"labels": ..., "instances": ...}, and "photograph" if one is
        encoded. The result is of the same kind, for a file a Pillow image, in the run's range of values.
        size: "run" as test.py without flags, "native" keeps each image's own. tile: the side of tiles in pixels, for
        huge images. value_range: the values that mean black and white where floats differ from the run's, such as
        (0, 1); results are then in it too. label: the output to return, default the first generated one.
        """
        o = self._options_for(size, tile, value_range)
        if is_several(images):
            results = self._translate([read_source(image, n) for n, image in enumerate(images)], o, label)
            return (torch if isinstance(images, Tensor) else np).stack(results)  # type: ignore[attr-defined]
        if isinstance(images, list | tuple):
            return Pictures(self._translate([read_source(image, n) for n, image in enumerate(images)], o, label))
        if is_one(images):
            return self._translate([read_source(images)], o, label)[0]
        return self._stream(images, o, label)

    def sample(self, n: int = 16, classes: str | Sequence[str] | None = None, seed: int | None = None) -> Pictures:
        """Return n Pillow images generated from noise, of a model with classes n of each, in order; see `labels`.

        seed: default the run's. Equal seeds give equal images, those of `test.py --num_samples n`. Raises OptionError
        if the model does not generate from noise, or for an unknown class.
        """
        if n < 1:
            raise OptionError("option", "n", f"is {n}", "give 1 or more")
        return self._generate("per_class", n, classes, seed)

    def interpolate(self, a: Any, b: Any, steps: int = 10, classes: str | Sequence[str] | None = None) -> Pictures:
        """Return `steps` images from `sample(1, seed=a)[0]` to `sample(1, seed=b)[0]`, of each class if there are any.

        a, b: seeds, or latents (latent_dim,) as tensors, arrays or lists; between them latents are linear. Raises
        OptionError as `sample` does, and if the model's sheets() does not read `request.ends`.
        """
        if steps < 2:
            raise OptionError("option", "steps", f"is {steps}", "give 2 or more")
        return self._generate("interpolation", steps, classes, None, (a, b))

    @property
    def network(self) -> nn.Module:
        """The generator as a plain module in evaluation mode, without kernels or tiles of ours.

        It maps (N, C, H, W) in [-1, 1] to (N, C', H, W), or latents (and labels) to images.
        """
        if self._network is None:
            with self._session.restarted().active():
                o = self._parse()
                model, networks, exchanged = self._new_model(o)
                load_run_weights(
                    o, self.folder, file_prefix(o.epoch, o.load_iter), model, own_names(networks, exchanged)
                )
                name = next((name for name in networks if name.endswith("_A")), next(iter(networks)))
                self._network = networks[name].to(self.device).eval()
        return self._network

    @property
    def network_names(self) -> tuple[str, ...]:
        """The networks that make the results, by the names of their files."""
        return self._prepared[str(self._base.tile)].names

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reload, ()

    def __repr__(self) -> str:
        return f"<TrainedGenerator {self._file}: {self._kind} on {self.device}>"

    def _repr_html_(self) -> str:
        o = self._base
        networks = inference_networks(self._ready(o).model)
        count = sum(p.numel() for net in networks.values() for p in net.parameters())
        task = f"{o.direction}, {o.input_nc} to {o.output_nc} channels"
        rows = {"model": self._kind, "task": "images from noise" if o.generate else task, "size": o.crop_size,
                "weights": file_prefix(o.epoch, o.load_iter), "parameters": f"{count:,}",
                "device": self.device}  # fmt: skip
        return table_html(str(self._file), rows)

    # --- options and models

    @property
    def _base(self) -> Options:
        return self._options[()]

    def _parse(self, **more: Any) -> Options:
        """Return the options of test.py for this run and further flags; the same object for the same flags."""
        key = tuple(sorted(more.items()))
        if key not in self._options:
            o = parse(command_line(self._flags | more, "test"), "test")
            if not o.remembered:
                read_network_flags(o, self.folder, file_prefix(o.epoch, o.load_iter))
            o.run_classes = self._known.get("classes", [])
            self._options[key] = o
        return self._options[key]

    @property
    def _kind(self) -> str:
        """The model, or the network of weights without options, which are read by the model `test`."""
        return self._base.model if self._base.remembered else self._base.netG

    @property
    def _known(self) -> dict[str, Any]:
        return store.load_spec(self.folder)

    def _options_for(self, size: str, tile: Any, value_range: tuple[float, float] | None) -> Options:
        if size not in SIZES:
            raise OptionError("option", "size", f"'{size}' is not a choice", f"choose one of {', '.join(SIZES)}")
        more = dict(SIZES[size])
        if tile:
            more["tile"] = tile
        if value_range is not None:
            more["range"] = ",".join(f"{float(value):.17g}" for value in value_range)
        with self._session.restarted().active():
            kind = find("model", self._base.model)
            if has_sampler(kind):
                if plugin_of_module(kind.__module__) is None:
                    why = "generates images from noise and translates none"
                    raise OptionError("model", self._base.model, why, "use sample(n)")
                more["translate"] = True
            return self._parse(**more)

    def _new_model(self, o: Options) -> tuple[Any, dict[str, nn.Module], bool]:
        """Return a new model, its networks for inference, and whether it has the networks of the other side."""
        kind = find("model", o.model)
        exchanged = not has_sampler(kind) and needs_exchange(o, kind)
        model_o, spec = without_images(o, self.folder, exchanged)
        seed_everything(o.seed, o.deterministic)
        model = kind(model_o, spec)
        return model, inference_networks(model), exchanged

    def _prepare(self, o: Options) -> _Prepared:
        """Return the model for these options, built once for each size of tiles; call it in an active session."""
        key = str(o.tile)
        if key not in self._prepared:
            model, networks, exchanged = self._new_model(o)
            which = file_prefix(o.epoch, o.load_iter)
            load_trained(o, self.folder, which, model, own_names(networks, exchanged), self.device)
            malloc.release_freed_memory()  # the process is the caller's
            names = own_names({name: net for name, net in networks.items() if not name.endswith("_B")}, exchanged)
            self._prepared[key] = _Prepared(model, tuple(names), Session.of_now())
        return self._prepared[key]

    # --- translation

    def _ready(self, o: Options) -> _Prepared:
        with self._session.restarted().active():
            return self._prepare(o)

    def _stream(self, images: Iterable[Any], o: Options, label: str) -> Iterator[Any]:
        ready = self._ready(o)
        session = ready.session.restarted()
        with session.active():
            ready = replace(ready, model=own_copy(ready.model), session=session)
        for number, image in enumerate(images):
            yield self._translate([read_source(image, number)], o, label, ready, number)[0]

    def _translate(
        self, sources: list[Source], o: Options, label: str, ready: _Prepared | None = None, first: int = 0
    ) -> list[Any]:
        """Return the results of images, whose numbers are first, first + 1, ...

        ready: the model and session that earlier images may have changed; None for those of a new test.
        """
        is_new, ready = ready is None, ready or self._ready(o)
        results: list[Any] = []
        with (ready.session.restarted() if is_new else ready.session).active():
            model = own_copy(ready.model) if is_new else ready.model
            found: list[FoundImages] = []

            def batches() -> Iterator[dict[str, Any]]:
                for number, source in enumerate(sources, first):
                    images, batch = self._open(source, o, number)
                    found.append(images)
                    yield batch

            for shown, files in Translator(o, model, self.device)(batches()):
                for place in range(len(files)):
                    image = {name: value[place : place + 1] for name, value in shown.items()}
                    number = len(results)
                    results.append(sources[number].result(_values(found[number].rename(image), found[number], label)))
        return results

    def _open(self, source: Source, o: Options, number: int) -> tuple[FoundImages, dict[str, Any]]:
        """Return one image as test.py finds it, and its batch."""
        own = copy(o)
        if is_of_label_maps(own):
            source = in_folders(source, own)
        else:
            _check_inputs(source, given_names(own))
        with memory_folder(source.files) as folder:
            path = own.dataroot = f"{folder}/{next(iter(source.files))}" if len(source.files) == 1 else folder
            try:
                images = find_images(own, self.folder, find("model", own.model))
                images.spec()
                batch = SeededDataset(images.dataset, own.seed).batch((0, number))
                frames = count_unused_frames(batch["path_A"][0], images.dataset.file_channels("A"))
            except UserError as problem:
                raise renamed_error(problem, path, source.name) from problem.__cause__
        more = [f"note: {path} holds {frames} frames; only the first is used"] if frames else []
        more += [STRETCHED] * _is_stretched(o, images)
        for note in [*images.dataset.notes, *more]:
            text = note.replace(path, source.name)
            if text not in self._said and not note.startswith("images: "):
                self._said.add(text)
                log(text)
        return images, batch

    # --- generation

    def _generate(
        self, kind: str, n: int, classes: str | Sequence[str] | None, seed: int | None, ends: Any = None
    ) -> Pictures:
        o = self._base
        ready = self._ready(o)
        if not has_sampler(ready.model):
            why = "translates images and generates none from noise"
            raise OptionError("model", o.model, why, "call it with an image")
        spec = run_spec(self.folder, self._known, None)
        wanted = select_classes(classes if isinstance(classes, str) else ",".join(classes or ()), spec.classes)
        request = Request(kind, wanted, n, o.seed if seed is None else seed, ends=ends)
        images: dict[str, list[Any]] = {}
        with ready.session.restarted().active():
            model = own_copy(ready.model)
            parts = [sample_between(model, request)] if ends else sample_parts(model, request, spec.height, spec.width)
            for part in parts:
                for name, arrays in part.items():
                    images.setdefault(name, []).extend(map(to_pillow, arrays))
        labels = [name if name in spec.classes else "" for name, group in images.items() for _ in group]
        return Pictures([image for group in images.values() for image in group], labels)


def _is_stretched(o: Options, images: FoundImages) -> bool:
    """Whether the values of the input were measured, because neither the run nor the caller says what they mean."""
    flag = "range_B" if images.exchanged else "range_A"
    was_told = "," in vars(o)[flag] or {"range", flag} & o.given
    return not was_told and "," in vars(images.given_options)[flag]


def _check_inputs(source: Source, wanted: Sequence[str]) -> None:
    """Raise DataError unless a source holds one image for each input of the run."""
    given = {name.rpartition("/")[0] for name in source.files}
    if given != set(wanted or [""]):
        many = f"the run has the inputs {', '.join(wanted)}"
        why = f"is one image, but {many}" if given == {""} else f"has images for {', '.join(sorted(given))}"
        remedy = f"give a dictionary with {', '.join(wanted)}" if wanted else "the run has one input: give one image"
        raise DataError("image", source.name, why, remedy)


def _values(shown: dict[str, Tensor], images: FoundImages, label: str) -> np.ndarray:
    """Return the values of one result, (H, W, C); raise OptionError if the model has no output with that label."""
    wanted = label or generated_label(list(shown))
    if wanted not in shown:
        raise OptionError("option", "label", f"there is no output '{label}'", f"choose one of {', '.join(shown)}")
    writer = ResultImages(images.given_options)
    writer.begin(shown)
    return writer.values(shown[wanted][0].cpu(), wanted)


def renamed_error(problem: UserError, former: str, name: str) -> UserError:
    """Return an error that calls a file by the name that the caller knows."""
    thing, *texts = problem.args
    return type(problem)(thing, *(str(text).replace(former, name) for text in texts))
