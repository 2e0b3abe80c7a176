"""Random changes to pictures, as --augment names them; every draw comes from the seed of the sample."""

import enum
import inspect
from collections.abc import Callable
from copy import copy
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from data.augment.grammar import Word, read_spec
from data.augment.table import CONTAINERS, LEFT_OUT, PHOTOMETRIC
from registry import contract, loaded
from registry.lookup import Entry, entries, entry
from util.errors import EnvironmentFault, OptionError
from util.seeding import seeded
from util.spelling import nearest, plain

TRIES = 16  # draws by which each augmentation is tried before training: some do something else at each
NEEDS = {  # pixels of another kind than the picture's; results are brought back to the picture's
    "jpeg": torch.uint8,
    "normalize": torch.float32,
    "gaussian_noise": torch.float32,  # of bytes torchvision cuts the noise off, and wraps around with clip=False
}


class Pepper:
    """Salt-and-pepper noise: a share 1 - snr of the pixels becomes black or white, all channels alike."""

    def __init__(self, snr: float = 0.9):
        if not isinstance(snr, (int, float)) or not 0 <= snr <= 1:
            raise ValueError(f"snr is the share of pixels that stay, 0 to 1, not {snr!r}")
        self.share = 1 - snr

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        """Return a noisy copy of a picture (C, H, W), uint8 or float in [0, 1]."""
        drawn = torch.rand(picture.shape[1:])
        white = 1.0 if picture.is_floating_point() else 255
        return picture.masked_fill(drawn < self.share, white).masked_fill(drawn < self.share / 2, 0)


class Augment:
    """`Augment("rotation(10) color_jitter(0.2)")(picture, seed) -> picture`: equal seeds give equal draws.

    The first picture of each kind is a trial of every step, also of those that seldom have their turn.
    Raises OptionError, naming `flag`, word and place, for a wrong spec and for pictures that it cannot be applied to.
    """

    def __init__(self, spec: str, flag: str = "--augment", tried: frozenset[tuple[int, torch.dtype]] = frozenset()):
        if find_spec("torchvision") is None:
            why = f"is not installed, and {flag} needs it"
            raise EnvironmentFault("package", "torchvision", why, "run pip install torchvision")
        self.spec, self.flag, self.tried = spec, flag, tried
        self.steps = _chain(read_spec(spec, flag), flag)

    def __reduce__(self):  # workers build it anew, so that what a plug-in's augmentation holds need not travel
        return Augment, (self.spec, self.flag, self.tried)

    @property
    def geometric(self) -> list[Word]:
        """The words that may move pixels, which only both sides of a pair can do alike."""
        return [step.word for step in _leaves(self.steps) if step.geometric]

    def __call__(self, picture: torch.Tensor, seed: int, path: str = "") -> torch.Tensor:
        """Return a picture (C, H, W) changed, of its own type: uint8, or float in [0, 1].

        path: the file that an error is to name. The generators of random, numpy and torch stay as they are.
        """
        kind = (len(picture), picture.dtype)
        try:
            if kind not in self.tried:
                self._try(picture)
                self.tried |= {kind}
            return self._with(seed, self.steps, picture)
        except _Unfit as problem:
            word, why, shape = problem.args
            what = f"a picture of {shape[2]}x{shape[1]} with {shape[0]} channel{'s' * (shape[0] != 1)}"
            why = f"cannot be applied to {what}{f', {path}' if path else ''}: {why}"
            raise word.wrong(self.flag, why) from problem.__cause__

    def _try(self, picture: torch.Tensor) -> None:
        """Apply every step by itself as if p = 1, in whatever part it stands, then all of them as in training."""
        for number in range(TRIES):
            _walk(self.steps, partial(self._surely, number), picture)
            self._with(number, self.steps, picture)

    def _surely(self, seed: int, step: "_Step", picture: torch.Tensor) -> torch.Tensor:
        return self._with(seed, step.certain(), picture)

    @staticmethod
    def _with(seed: int, step: Callable[[torch.Tensor], torch.Tensor], picture: torch.Tensor) -> torch.Tensor:
        with seeded(seed):
            return step(picture.clone())  # some write in place


def asked_for(o: Any, paired: bool, sides: str) -> dict[str, Augment]:
    """Return what training does to every picture (""), to those of A and to those of B, as far as flags say so.

    paired: B is the translation of A. sides: of A and B, those that the data set prepares by themselves.
    """
    found = {}
    for side, spec in {"": o.augment, "A": o.augment_A, "B": o.augment_B}.items():
        if not spec or not o.isTrain:  # test.py never augments
            continue
        flag = f"--augment_{side}".removesuffix("_")
        if side not in sides:
            why = f"{o.dataset_mode} prepares no pictures of {side} by themselves"
            raise OptionError("option", flag, why, "use --augment")
        found[side] = Augment(spec, flag)
        if side and paired and (moving := found[side].geometric):
            why = f"moves pixels, so that A and B would no longer show the same ({o.dataset_mode} has pairs)"
            raise moving[0].wrong(flag, why, "use --augment, which does it to both alike")
    return found


class _Unfit(ValueError):
    """(word, why, shape) of a picture that a step cannot be applied to."""


class _Step:
    """One augmentation: seeded by one draw, given pixels of the kind it takes, its result looked through."""

    def __init__(self, word: Word, flag: str):
        found = _entry(word, flag)
        thing = found.load()
        self.word, self.built_in, self.name = word, found.origin == "built in", found.name
        self.plug_in = loaded.called(found.origin)
        if not isinstance(thing, type):
            raise self._broken("is no class")
        self.geometric = found.name not in PHOTOMETRIC if self.built_in else getattr(thing, "geometric", True)
        self.transform = _made(thing, word, flag, found.origin)
        if not callable(self.transform):
            raise self._broken("has no __call__")
        self.needs = NEEDS.get(found.name) if self.built_in else None
        if found.name == "random_erasing" and self.transform.value is None:
            self.needs = torch.float32  # value=random draws normally distributed values, which bytes cannot hold

    def _broken(self, why: str) -> OptionError:
        remedy = "give a class whose __call__(self, picture) takes and returns a tensor (C, H, W)"
        return contract.broken(self.plug_in, f"its augmentation '{self.name}' {why}", remedy)

    def certain(self) -> "_Step":
        """Return a copy that does what it does with p = 1."""
        step = copy(self)
        if self.built_in and isinstance(getattr(self.transform, "p", None), (int, float)):
            step.transform = copy(self.transform)
            step.transform.p = 1.0
        return step

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        # one draw, however many it takes itself: a picture of more channels must not shift what the next one draws
        with seeded(int(torch.randint(2**62, ()))):
            try:
                made = self.transform(as_type(picture, self.needs or picture.dtype))
            except Exception as problem:  # whatever torchvision says of a picture that it cannot take
                if not self.built_in:
                    raise
                raise _Unfit(self.word, _first_line(problem), picture.shape) from problem
            if isinstance(made, (tuple, list)) and made:  # five_crop, ten_crop: one of them a sample
                made = made[int(torch.randint(len(made), ()))]
        if not isinstance(made, torch.Tensor) or made.dim() != 3:
            what = f"a tensor of shape {tuple(made.shape)}" if isinstance(made, torch.Tensor) else type(made).__name__
            raise self._broken(f"returns {what}")
        if len(made) != len(picture) or not made.numel():
            what = f"of {len(made)} channel{'s' * (len(made) != 1)}" if made.numel() else "without pixels"
            raise _Unfit(self.word, f"it makes one {what}", picture.shape)
        return as_type(made, picture.dtype)


def as_type(picture: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a picture as uint8, or as float clamped to [0, 1]; uint8 is rounded."""
    if dtype == torch.uint8:
        return picture if picture.dtype == dtype else picture.float().clamp(0, 1).mul(255).round().to(dtype)
    return picture.to(dtype).div(255) if picture.dtype == torch.uint8 else picture.to(dtype).clamp(0, 1)


def _chain(words: tuple[Word, ...], flag: str) -> Any:
    """Return one callable that applies words in order."""
    from torchvision.transforms import v2

    steps = []
    for word in words:
        if word.parts:
            parts = [_chain(part, flag) for part in word.parts]
            container = _made(getattr(v2, CONTAINERS[word.name]), word, flag, "built in", parts)
            if word.name == "choice" and not all(0 <= share <= 1 for share in container.p):
                raise word.wrong(flag, "p holds a number for each part, none of them below 0")
            steps.append(container)
        else:
            steps.append(_Step(word, flag))
    return v2.Compose(steps)


def _leaves(step: Any) -> list[_Step]:
    """Return the augmentations in a chain, whatever containers they are in."""
    return [step] if isinstance(step, _Step) else [leaf for part in step.transforms for leaf in _leaves(part)]


def _walk(step: Any, apply: Callable[[_Step, torch.Tensor], torch.Tensor], picture: torch.Tensor) -> torch.Tensor:
    """Apply every augmentation of a chain, each to what comes before it; parts of a choice all to the same."""
    if isinstance(step, _Step):
        return apply(step, picture)
    made = picture
    for part in step.transforms:
        made = _walk(part, apply, picture if type(step).__name__ == "RandomChoice" else made)
    return made


def _entry(word: Word, flag: str) -> Entry:
    """Return what a word names; a leading random_ may be left out. OptionError with the nearest name, or the reason."""
    names, wanted = sorted({e.name for e in entries("augmentation")}), plain(word.name)
    for full in (wanted, "random" + wanted):
        if any(plain(name) == full for name in names):
            return entry("augmentation", full, flag)
    for name, why in LEFT_OUT.items():
        if plain(name) == wanted:
            raise word.wrong(flag, f"torchvision's {name} {why}")
    near = [name for name in names if len(wanted) > 2 and wanted in plain(name)] or [nearest(word.name, names) or ""]
    hint = f"did you mean {' or '.join(near[:5])}? " if near[0] else ""
    raise word.wrong(flag, f"no augmentation is called '{word.name}'", f"{hint}choose one of {', '.join(names)}")


def _made(thing: Callable[..., Any], word: Word, flag: str, origin: str, *before: Any) -> Any:
    """Return what a class makes of a word's arguments; OptionError for arguments that it does not take."""
    signature = inspect.signature(thing)
    try:
        given = signature.bind(*before, *word.args, **word.kwargs)
    except TypeError as problem:
        named = list(signature.parameters.values())[len(before) :]
        takes = inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in named])
        strange = next((name for name in word.kwargs if name not in takes.parameters), "")
        near = nearest(strange, list(takes.parameters))
        why = f"it takes no '{strange}'" if strange else str(problem)
        hint = f"did you mean {near}? " if near else ""
        raise word.wrong(flag, why, f"{hint}it is called as {word.name}{takes}") from None
    try:
        for name, value in given.arguments.items():
            usual = signature.parameters[name].default
            if isinstance(usual, enum.Enum) and isinstance(value, str):  # policy=cifar10
                given.arguments[name] = type(usual)(value)
        return thing(*given.args, **given.kwargs)
    except Exception as problem:  # whatever it says of arguments that it cannot use
        if origin != "built in" and not isinstance(problem, (TypeError, ValueError)):
            raise
        raise word.wrong(flag, _first_line(problem)) from problem


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0].rstrip(".")
