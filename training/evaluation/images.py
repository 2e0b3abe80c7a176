"""The images that --metrics measures: those of --val_phase translated, or images from noise beside real ones."""

import hashlib
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, NamedTuple

from torch import Tensor

from data.base import BaseDataset
from data.decoding.header_check import HeaderCheck
from data.listing.files import list_folders
from data.listing.layouts import list_phases
from data.loading.loader import SeededDataset, max_tries
from inference.sampling import Request, has_sampler, sample_tensors
from inference.visuals import collect_visuals
from pages.names import UniqueNames
from registry.training_position import Now, call_with_now
from training.test_mode import open_phase, options_of_test
from util.device import to_device
from util.errors import DataError, OptionError, UserError, count_text, print_line
from util.spelling import nearest

DEFAULT_PHASE, OTHER_PHASE = "val", "test"
TRAINING_IMAGES = 16  # measured too, so that overfitting shows
REFERENCES = 256  # training images among which copies are looked for
MAX_KEPT_BYTES = 256e6  # of images that stay in memory from one evaluation to the next


class Compared(NamedTuple):
    """Images of one comparison, (N, C, H, W) in [-1, 1]: real or fake is None if a set metric has no more of them.

    label: what the model calls the fakes, or "" if it has one kind of them. names: of the images, if they are pairs.
    is_fixed: whether the real images are those of the data set, and so the same in every evaluation.
    """

    label: str
    real: Tensor | None
    fake: Tensor | None
    classes: Tensor | None = None
    names: tuple[str, ...] = ()
    is_fixed: bool = False


class Samples:
    """Evenly spread images of a phase, one per batch, as test.py prepares them; number: at most so many, 0: all.

    Up to max_kept_bytes of them stay in memory.
    """

    def __init__(self, o: Any, dataset: BaseDataset, number: int = 0, max_kept_bytes: float = MAX_KEPT_BYTES):
        self.samples, whole = SeededDataset(dataset, o.seed, max_tries(dataset.o)), len(dataset)
        number = min(number or whole, whole)
        self.indices = [i * whole // number for i in range(number)]
        self.kept: dict[int, dict[str, Any]] = {}
        self.kept_bytes, self.max_kept_bytes, self.skipped = 0, max_kept_bytes, set[int]()

    def __len__(self) -> int:
        return len(self.indices)

    def skip(self, index: int) -> None:
        """Print once that an image cannot be used."""
        if index not in self.skipped:
            self.skipped.add(index)
            print_line(f"note: image {index + 1} of those that --metrics measures could not be used (--on_bad_image)")

    @property
    def checksum(self) -> str:
        """A text that differs for other files, or another number of them."""
        inventory = self.samples.dataset.inventory
        listed = f"{len(self)} of {len(self.samples.dataset)}".encode() + inventory.names.tobytes()
        return hashlib.blake2b(listed + inventory.sizes.tobytes(), digest_size=8).hexdigest()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for index in self.indices:
            if index in self.kept:
                yield dict(self.kept[index])
                continue
            batch = self.samples.batch((0, index))  # epoch 0: the same random draws as test.py
            if not batch:  # --on_bad_image skip
                self.skip(index)
                continue
            size = sum(value.nbytes for value in batch.values() if isinstance(value, Tensor))
            if self.kept_bytes + size <= self.max_kept_bytes:
                self.kept[index], self.kept_bytes = batch, self.kept_bytes + size
            yield dict(batch)


class Translations:
    """Translates images and yields what is compared: pairs, or of an unpaired data set every image of a side once."""

    def __init__(self, o: Any, model: Any, samples: Samples, paired: bool):
        self.o, self.model, self.samples, self.paired = o, model, samples, paired
        self.checksum = samples.checksum

    def first(self, now: Now) -> list[Compared]:
        """Return one comparison, for a trial."""
        return [next(self(now))]

    def __call__(self, now: Now) -> Iterator[Compared]:
        """Yield the comparisons of each image; raise OptionError if the model shows no fake image beside a real one."""
        names, seen = UniqueNames(), set[tuple[str, str]]()
        device = next(self.model.parameters()).device
        for batch in self.samples:
            given = to_device(batch, device)
            out = call_with_now(self.model, given, now=now)
            visuals = collect_visuals(self.model, out, self.o)
            shown, pairs = out | visuals, compared_labels(self.model, out, visuals, self.o.model)
            name = names.claim_input_name(PurePath(path_of(batch, "A"))) if self.paired else ""
            for fake, real in pairs.items():
                label, is_fixed = fake if len(pairs) > 1 else "", any(shown[real] is each for each in given.values())
                if self.paired:
                    shown_name = f"{name} ({label})" if label else name
                    yield Compared(label, shown[real], shown[fake], batch.get("label"), (shown_name,), is_fixed)
                    continue
                # Of images that return, because the other side has more, each counts once.
                target = "A" if real.startswith("real_A") else "B"
                sides = {real: target, fake: "A" if target == "B" else "B"}
                files = {key: (key, str(path_of(batch, side))) for key, side in sides.items()}
                new = {key: shown[key] for key, file in files.items() if file not in seen}
                seen |= set(files.values())
                if new:
                    yield Compared(label, new.get(real), new.get(fake), is_fixed=is_fixed)


def compared_labels(model: Any, out: dict[str, Any], visuals: dict[str, Any], name: str) -> dict[str, str]:
    """Return {fake: real}: each fake* image shown that has a real* one beside it, else the `pairs` that a model names.

    Raises OptionError if there are none.
    """
    by_name = {key: key.replace("fake", "real", 1) for key in visuals if key.startswith("fake")}
    found = {fake: real for fake, real in by_name.items() if real in visuals}
    named, every = dict(getattr(model, "pairs", ())), out | visuals
    found = found or {
        fake: real for fake, real in named.items() if _is_image(every.get(fake)) and _is_image(every.get(real))
    }
    if not found:
        why = f"{name} shows no fake image beside a real one that it could be compared with"
        remedy = 'name them in the model: pairs = (("fake_B", "real_B"),), or omit --metrics'
        raise OptionError("option", "--metrics", why, remedy)
    return found


def _is_image(thing: Any) -> bool:
    return isinstance(thing, Tensor) and thing.ndim == 4


def path_of(batch: dict[str, Any], side: str) -> str:
    """Return the file of one side of a batch of one image, which a data set may not name."""
    paths = batch.get(f"path_{side}") or batch.get("path_A") or ["image"]
    return str(paths[0])


class Generated:
    """Images from noise with fixed seeds, as many as there are real ones, evenly of each class."""

    paired = False

    def __init__(self, o: Any, model: Any, samples: Samples, spec: Any):
        self.o, self.model, self.samples, self.spec = o, model, samples, spec
        self.has_real = False  # whether the metrics already hold the real images, which are always the same
        self.checksum = samples.checksum

    def first(self, now: Now) -> list[Compared]:
        """Return a real image and generated ones, one of each class, for a trial."""
        return [next(self(now)), *self._generated(1)]

    def __call__(self, now: Now) -> Iterator[Compared]:
        """Yield the real images, unless `has_real`, then the generated ones."""
        for batch in () if self.has_real else self.samples:
            yield Compared("", batch["A"], None, batch.get("label"), is_fixed=True)
        yield from self._generated(-(-len(self.samples) // max(1, len(self.spec.classes))))

    def _generated(self, number: int) -> Iterator[Compared]:
        classes, left = tuple(self.spec.classes), len(self.samples)
        request = Request("per_class", classes, number, self.o.seed)
        for sheets in sample_tensors(self.model, request, self.spec.height, self.spec.width):
            for images, labels in sheets.values():
                images, left = images[:left], left - len(images[:left])
                if len(images):
                    yield Compared("", None, images, labels[: len(images)])


def open_evaluated(o: Any, from_noise: bool) -> tuple[BaseDataset, str]:
    """Return the data set that is measured and its phase: --val_phase, by default val, else test.

    Images from noise may be compared with those of training too. Raises DataError if there are no such images.
    """
    default = o.val_phase == DEFAULT_PHASE and "val_phase" not in o.given
    tried = [o.val_phase, *([OTHER_PHASE] if default else []), *([o.phase] if default and from_noise else [])]
    test_o = options_of_test(o)
    for phase in tried:
        try:
            dataset = open_phase(test_o, phase)
        except DataError as problem:
            if problem.args[0] not in ("folder", "phase"):
                raise
        else:
            if phase != o.val_phase:
                print_line(f"note: --metrics measures images of {phase}, because there is no {o.val_phase}")
            return dataset, phase
    why = f"--metrics finds no images to measure in {o.dataroot}: there is no {' and no '.join(tried)}"
    raise DataError("phase", o.val_phase, why, _other_phase(test_o, tried))


def _other_phase(o: Any, tried: list[str]) -> str:
    """Return the remedy for a phase without images: another one that has some, and is not trained on."""

    def has_images(phase: str) -> bool:
        try:
            return phase not in (*tried, o.phase) and len(open_phase(o, phase)) > 0
        except UserError:
            return False

    known = [
        phase for phase in dict.fromkeys([*list_phases(o.dataroot), *list_folders(o.dataroot)]) if phase != o.phase
    ]
    near = nearest(o.val_phase, known)
    if near and has_images(near):
        return f"did you mean --val_phase {near}?"
    if found := next(filter(has_images, (DEFAULT_PHASE, OTHER_PHASE)), ""):
        return f"give --val_phase {found}"
    return f"name another sub-folder, of images that are not trained on (--val_phase {o.phase} measures those that are)"


def _check_headers(dataset: BaseDataset) -> None:
    """Raise DataError for files that are not images; of very many, those checked in the first seconds count."""
    o = dataset.o
    check = HeaderCheck(
        dataset.header_groups, dataset.root, o.on_bad_image == "skip", o.max_image_pixels, dataset.channels
    )
    check.start()
    check.stop()


class Found(NamedTuple):
    """What is measured. training: a few training pairs, to compare values with; about: the images in words.

    references: training images, of which generated images may be copies; None if they are what is measured.
    """

    images: Translations | Generated
    training: Translations | None
    references: Samples | None
    about: str


def find_images(o: Any, model: Any, spec: Any, train_files: Any) -> Found:
    """Return the images to measure. train_files: the Inventory of the training images.

    Raises DataError if there are none, or for files that are not images.
    """
    dataset, phase = open_evaluated(o, has_sampler(model))
    from_noise = has_sampler(model) and not dataset.paired  # else it also translates
    samples = Samples(o, dataset, o.eval_images)
    is_training = phase == o.phase or not dataset.inventory.changes_since(train_files.state_dict())
    if is_training and phase != o.phase and len(dataset.inventory.names):
        print_line(f"note: --metrics measures the images that the run trains on: {phase} has no others")
    if not is_training:
        _check_headers(dataset)
    phase = o.phase if is_training else phase
    of_all = f" of {len(dataset)}" if len(samples) < len(dataset) else ""
    limit = " (--max_dataset_size)" if len(dataset) >= o.max_dataset_size else ""  # there may be more
    train_set = dataset if is_training else open_phase(options_of_test(o), o.phase)
    references = None if is_training else Samples(o, train_set, REFERENCES, max_kept_bytes=0)
    if from_noise:
        about = f"{count_text(len(samples), 'generated image')}, and as many real ones{of_all} of {phase}{limit}"
        return Found(Generated(o, model, samples, spec), None, references or samples, about)
    about, paired = f"{count_text(len(samples), 'image')}{of_all} of {phase}{limit}", bool(dataset.paired)
    few = Samples(o, train_set, TRAINING_IMAGES) if paired and not is_training else None
    training = Translations(o, model, few, True) if few else None
    return Found(Translations(o, model, samples, paired), training, references, about)
