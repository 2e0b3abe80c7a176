"""Apply the augmentations of --augment to images; every random draw comes from the seed of the sample."""

import enum
import inspect
from collections.abc import Callable
from copy import copy
from importlib.util import find_spec
from typing import Any

import torch

from data.augment.grammar import SpecNode, parse_spec
from data.augment.label_planes import keeps_ids
from data.augment.table import CONTAINERS, MIXED, PHOTOMETRIC, RESIZING, UNSUPPORTED_CLASSES
from registry import contract, loaded
from registry.lookup import Entry, entries, entry
from util.errors import EnvironmentFault, OptionError, count_text, first_line
from util.seeding import fork_rng
from util.spelling import nearest, normalise_name

TRIAL_DRAWS = 16  # trial runs of each augmentation: some do something else at each draw
REQUIRED_DTYPES = {  # dtypes that an augmentation needs; results are converted back to the dtype of the image
    "jpeg": torch.uint8,
    "normalize": torch.float32,
    "gaussian_noise": torch.float32,  # with uint8 torchvision truncates the noise, and wraps around with clip=False
}


Kind = tuple[int, torch.dtype]  # of images: channels, dtype


class Pepper:
    """Salt-and-pepper noise: a fraction 1 - snr of the pixels becomes black or white, in all channels."""

    def __init__(self, snr: float = 0.9):
        if not isinstance(snr, (int, float)) or not 0 <= snr <= 1:
            raise ValueError(f"snr is the fraction of pixels that stay unchanged, 0 to 1, not {snr!r}")
        self.noise_fraction = 1 - snr

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        """Return a noisy copy of an image (C, H, W), uint8 or float in [0, 1]."""
        noise = torch.rand(picture.shape[1:])
        white = 1.0 if picture.is_floating_point() else 255
        return picture.masked_fill(noise < self.noise_fraction, white).masked_fill(noise < self.noise_fraction / 2, 0)


class Augment:
    """`Augment("rotation(10) color_jitter(0.2)")(picture, seed) -> picture`: equal seeds give equal draws.

    The first image of each kind (channels, dtype) tries out every step, including steps that are rarely applied.
    nearest: move pixels by the nearest neighbour. labels: only move the pixels of a label map, by the draws of its
    picture; see data.augment.label_planes. Raises OptionError, with flag, node and position, for an invalid spec
    and for images it cannot be applied to.
    """

    def __init__(
        self,
        spec: str,
        flag: str = "--augment",
        tested_kinds: frozenset[Kind] = frozenset(),
        nearest: bool = False,
        labels: bool = False,
    ):
        if find_spec("torchvision") is None:
            why = f"is not installed, and {flag} needs it"
            raise EnvironmentFault("package", "torchvision", why, "run pip install torchvision")
        self.spec, self.flag, self.tested_kinds, self.nearest, self.labels = spec, flag, tested_kinds, nearest, labels
        self.steps = _build_chain(parse_spec(spec, flag), flag)
        for step in _list_steps(self.steps) if nearest else ():
            step.use_nearest()
        for step in _list_steps(self.steps) if labels else ():
            step.use_labels(flag)

    def __reduce__(self):  # workers rebuild it, so that plug-in augmentations need not be picklable
        return Augment, (self.spec, self.flag, self.tested_kinds, self.nearest, self.labels)

    def with_nearest(self) -> "Augment":
        """Return the same augmentation, with the same draws, that makes no new values where it moves pixels."""
        return Augment(self.spec, self.flag, nearest=True)

    def with_labels(self) -> "Augment":
        """Return the same augmentation, with the same draws, for label planes; OptionError if one cannot be applied."""
        return Augment(self.spec, self.flag, nearest=True, labels=True)

    @property
    def geometric_nodes(self) -> list[SpecNode]:
        """The nodes that may move pixels, which must be applied to both sides of a pair alike."""
        return [step.node for step in _list_steps(self.steps) if step.geometric]

    def __call__(self, picture: torch.Tensor, seed: int, path: str = "") -> torch.Tensor:
        """Return an augmented image (C, H, W) of the same dtype: uint8, or float in [0, 1].

        path: the file that an error names. The states of the generators of random, numpy and torch do not change.
        """
        kind = (len(picture), picture.dtype)
        try:
            if kind not in self.tested_kinds:
                self._run_trials(picture)
                self.tested_kinds |= {kind}
            return _apply_seeded(self.steps, seed, picture)
        except _UnsuitableImage as problem:
            node, why, shape = problem.args
            what = f"an image of {shape[2]}x{shape[1]} with {count_text(shape[0], 'channel')}"
            why = f"cannot be applied to {what}{f', {path}' if path else ''}: {why}"
            raise node.error(self.flag, why) from problem.__cause__

    def _run_trials(self, picture: torch.Tensor) -> None:
        """Apply every step of every part with p = 1, and then the chain as in training; TRIAL_DRAWS times."""
        for number in range(TRIAL_DRAWS):
            _apply_each(self.steps, number, picture)
            _apply_seeded(self.steps, number, picture)


def build_augmentations(o: Any, paired: bool, sides: str) -> dict[str, Augment]:
    """Return the augmentations by side: "" for all images, "A", "B"; sides without a flag are omitted.

    paired: whether B is the translation of A. sides: the sides that the dataset preprocesses separately.
    """
    augmentations = {}
    for side, spec in {"": o.augment, "A": o.augment_A, "B": o.augment_B}.items():
        if not spec or not o.isTrain:  # test.py never augments
            continue
        flag = f"--augment_{side}".removesuffix("_")
        if side not in sides:
            why = f"{o.dataset_mode} does not preprocess images of {side} separately"
            raise OptionError("option", flag, why, "use --augment")
        augmentations[side] = Augment(spec, flag)
        if side and paired and (nodes := augmentations[side].geometric_nodes):
            why = f"moves pixels, so that A and B would no longer match ({o.dataset_mode} has pairs)"
            raise nodes[0].error(flag, why, "use --augment, which changes both alike")
    return augmentations


class _UnsuitableImage(ValueError):
    """(node, why, shape): an augmentation cannot be applied to an image of this shape."""


class _Step:
    """One augmentation: seeds it by one draw, converts the image to the dtype it needs, and checks its result."""

    def __init__(self, node: SpecNode, flag: str):
        augmentation = _find_entry(node, flag)
        factory = augmentation.load()
        self.node, self.built_in, self.name = node, augmentation.origin == "built in", augmentation.name
        self.plug_in = loaded.display_name(augmentation.origin)
        if not isinstance(factory, type):
            raise self._plugin_error("is not a class")
        self.geometric = augmentation.name not in PHOTOMETRIC if self.built_in else getattr(factory, "geometric", True)
        self.transform = _construct(factory, node, flag, augmentation.origin)
        self.of_labels = False
        if not callable(self.transform):
            raise self._plugin_error("has no __call__")
        self.required_dtype = REQUIRED_DTYPES.get(augmentation.name) if self.built_in else None
        if augmentation.name == "random_erasing" and self.transform.value is None:
            # value=random draws normally distributed values, which uint8 cannot hold
            self.required_dtype = torch.float32

    def _plugin_error(self, why: str) -> OptionError:
        remedy = "give a class whose __call__(self, picture) takes and returns a tensor (C, H, W)"
        return contract.contract_error(self.plug_in, f"its augmentation '{self.name}' {why}", remedy)

    def use_nearest(self) -> None:
        """Make a built-in augmentation use nearest-neighbour interpolation; its own arguments do not change that."""
        from torchvision.transforms import InterpolationMode  # imported by _build_chain already

        if self.built_in and hasattr(self.transform, "interpolation"):
            self.transform.interpolation = InterpolationMode.NEAREST

    def use_labels(self, flag: str) -> None:
        """Only move pixels; raise OptionError for an augmentation that also changes their values."""
        if self.built_in and self.name in MIXED:
            why = "changes colours and moves pixels, so it cannot be applied to label maps"
            raise self.node.error(flag, why, "name the augmentations one by one, such as rotation(10)")
        self.of_labels = True
        if self.built_in and self.name in RESIZING:  # their nearest pixel is that at the centre, as the pictures'
            from torchvision.transforms import InterpolationMode  # imported by _build_chain already

            self.transform.interpolation = InterpolationMode.NEAREST_EXACT

    def with_certainty(self) -> "_Step":
        """Return a copy that is always applied (p = 1)."""
        step = copy(self)
        if self.built_in and isinstance(getattr(self.transform, "p", None), (int, float)):
            step.transform = copy(self.transform)
            step.transform.p = 1.0
        return step

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        # one draw per step, however many it makes itself: more channels must not shift the draws of the next step
        with fork_rng(int(torch.randint(2**62, ()))):
            if self.of_labels:
                return self._moved_labels(picture) if self.geometric else picture
            result = self._transformed(to_dtype(picture, self.required_dtype or picture.dtype))
        return to_dtype(result, picture.dtype)

    def _moved_labels(self, planes: torch.Tensor) -> torch.Tensor:
        moved = self._transformed(planes)
        if not (self.built_in or keeps_ids(moved)):
            why = "makes new values, so it cannot be applied to label maps"
            raise _UnsuitableImage(self.node, why, planes.shape)
        return moved

    def _transformed(self, picture: torch.Tensor) -> torch.Tensor:
        try:
            result = self.transform(picture)
        except Exception as problem:  # torchvision raises many types for an unsuitable image
            if not self.built_in:
                raise
            raise _UnsuitableImage(self.node, first_line(problem).rstrip("."), picture.shape) from problem
        if isinstance(result, (tuple, list)) and result:  # five_crop, ten_crop: choose one crop at random
            result = result[int(torch.randint(len(result), ()))]
        if not isinstance(result, torch.Tensor) or result.dim() != 3:
            is_tensor = isinstance(result, torch.Tensor)
            what = f"a tensor of shape {tuple(result.shape)}" if is_tensor else type(result).__name__
            raise self._plugin_error(f"returns {what}")
        if len(result) != len(picture) or not result.numel():
            what = f"with {count_text(len(result), 'channel')}" if result.numel() else "without pixels"
            raise _UnsuitableImage(self.node, f"it returns an image {what}", picture.shape)
        return result


def to_dtype(picture: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return an image as rounded uint8, or as float clamped to [0, 1]."""
    if dtype == torch.uint8:
        return picture if picture.dtype == dtype else picture.float().clamp(0, 1).mul(255).round().to(dtype)
    return picture.to(dtype).div(255) if picture.dtype == torch.uint8 else picture.to(dtype).clamp(0, 1)


def _build_chain(nodes: tuple[SpecNode, ...], flag: str) -> Any:
    """Return one callable that applies the nodes in order."""
    from torchvision.transforms import v2  # takes nearly a second, and only --augment needs it

    steps = []
    for node in nodes:
        if node.branches:
            branches = [_build_chain(branch, flag) for branch in node.branches]
            container = _construct(getattr(v2, CONTAINERS[node.name]), node, flag, "built in", branches)
            if node.name == "choice" and not all(0 <= probability <= 1 for probability in container.p):
                raise node.error(flag, "p needs one number for each part, none of them negative")
            steps.append(container)
        else:
            steps.append(_Step(node, flag))
    return v2.Compose(steps)


def _list_steps(step: Any) -> list[_Step]:
    """Return all augmentations in a chain, including those in containers."""
    return [step] if isinstance(step, _Step) else [leaf for part in step.transforms for leaf in _list_steps(part)]


def _apply_seeded(step: Callable[[torch.Tensor], torch.Tensor], seed: int, picture: torch.Tensor) -> torch.Tensor:
    with fork_rng(seed):
        return step(picture.clone())  # some augmentations write in place


def _apply_each(step: Any, seed: int, picture: torch.Tensor) -> torch.Tensor:
    """Apply each augmentation of a chain, with p = 1, to the previous one's result; parts of a choice to one image."""
    if isinstance(step, _Step):
        return _apply_seeded(step.with_certainty(), seed, picture)
    result = picture
    for part in step.transforms:
        result = _apply_each(part, seed, picture if type(step).__name__ == "RandomChoice" else result)
    return result


def _find_entry(node: SpecNode, flag: str) -> Entry:
    """Return the entry of a name, with or without random_; raise OptionError with the nearest name or the reason."""
    names, wanted = sorted({e.name for e in entries("augmentation")}), normalise_name(node.name)
    for full in (wanted, "random" + wanted):
        if any(normalise_name(name) == full for name in names):
            return entry("augmentation", full, flag)
    for name, why in UNSUPPORTED_CLASSES.items():
        if normalise_name(name) == wanted:
            raise node.error(flag, f"torchvision's {name} {why}")
    full_names = {name.removeprefix("random_"): name for name in names} | {name: name for name in names}
    near = [name for name in names if len(wanted) > 2 and wanted in normalise_name(name)][:5]
    near = near or [full_names[name] for name in [nearest(node.name, list(full_names))] if name]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise node.error(flag, f"there is no augmentation '{node.name}'", f"{hint}choose one of {', '.join(names)}")


def _construct(factory: Callable[..., Any], node: SpecNode, flag: str, origin: str, *leading_arguments: Any) -> Any:
    """Return factory(*arguments of the node); raise OptionError for arguments that it does not accept."""
    signature = inspect.signature(factory)
    try:
        bound = signature.bind(*leading_arguments, *node.args, **node.kwargs)
    except TypeError as problem:
        parameters = list(signature.parameters.values())[len(leading_arguments) :]
        takes = inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in parameters])
        unknown = next((name for name in node.kwargs if name not in takes.parameters), "")
        near = nearest(unknown, list(takes.parameters))
        why = f"it has no argument '{unknown}'" if unknown else str(problem)
        hint = f"did you mean {near}? " if near else ""
        raise node.error(flag, why, f"{hint}write {node.name}{takes}") from None
    try:
        for name, value in bound.arguments.items():
            default = signature.parameters[name].default
            if isinstance(default, enum.Enum) and isinstance(value, str):  # policy=cifar10
                bound.arguments[name] = type(default)(value)
        return factory(*bound.args, **bound.kwargs)
    except Exception as problem:  # built-in classes raise many types for bad values
        if origin != "built in" and not isinstance(problem, (TypeError, ValueError)):
            raise
        raise node.error(flag, first_line(problem).rstrip(".")) from problem
