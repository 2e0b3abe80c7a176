"""Find what a run's model turns into its images: watch the model at work and take the network that made them."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from data.published.semantic import semantic_input
from inference.export.label_maps import NAMES_OF_MAPS, OfClasses, OfLabelMaps, as_networks_see, labels_given
from inference.export.plain_network import without_noise_input
from inference.sampling import Request
from inference.several_results import seeded
from registry.contract import plugin_name
from registry.training_position import call_with_now
from util.errors import OptionError

NUMBER = 2  # images in a batch that a model is watched with
CPU = torch.device("cpu")


@dataclass
class Generator:
    """A network of a run, or the whole model, as a function of `inputs`, its arguments by name, to an image.

    inputs: what it was called with; image: (N, C, H, W) in [-1, 1], labels and instances: ids (N, H, W), z: noise,
    label: (N,) integers. shown: whether the model shows the network's output as it is. network: the run's own network,
    which `net` calls.
    """

    name: str
    net: nn.Module
    inputs: dict[str, Tensor]
    network: nn.Module | None = None  # None: the whole model
    shown: bool = True

    @property
    def is_network(self) -> bool:
        """Whether this is a network of the run, rather than the whole model."""
        return self.network is not None

    @property
    def takes_image(self) -> bool:
        """Whether it translates an image or a label map, rather than drawing an image from noise."""
        return not {"image", "labels"}.isdisjoint(self.inputs)


@dataclass
class _Call:
    name: str
    net: nn.Module
    args: tuple
    kwargs: dict[str, Any]
    output: Any


class Called(nn.Module):
    """A network as a function of tensors alone: its other arguments stay as they were in one call."""

    def __init__(self, net: nn.Module, args: tuple, kwargs: dict[str, Any]):
        super().__init__()
        self.net, self.args, self.kwargs = net, args, kwargs

    def forward(self, *tensors: Tensor) -> Tensor:
        given = iter(tensors)
        args = [next(given) if value is _TENSOR else value for value in self.args]
        return self.net(*args, **{k: next(given) if v is _TENSOR else v for k, v in self.kwargs.items()})


_TENSOR = "a tensor"


class WholeModel(nn.Module):
    """A model as a function of the image A and of other `names` in a batch: the output `key` of its forward."""

    def __init__(self, model: nn.Module, key: str, names: tuple[str, ...] = ()):
        super().__init__()
        self.model, self.key, self.names = model, key, names

    def forward(self, image: Tensor, *others: Tensor) -> Tensor:
        batch = {"A": image, "path_A": ["image"] * image.shape[0], **dict(zip(self.names, others, strict=True))}
        return call_with_now(self.model, batch)[self.key]


def find_translator(model: Any, batch: Mapping[str, Any], source: str = "A", wanted: str = "") -> Generator:
    """Return the network that translates batch[source], or the whole model if no single one does.

    batch: NUMBER images of a side each, and what else the model needs. wanted: the name of the network, if not the one
    that is found. Raises OptionError if there is none, or if images are drawn at random.
    """
    image = batch[source]
    out, shown, found = translating_network(model, batch, source, wanted)
    if found is not None:
        return _checked(model, found)
    if wanted:
        raise OptionError("option", "--network", f"{wanted} was not given the image", "omit it")
    if source != "A":
        raise OptionError("option", "--direction", "no single network translates this side", "omit it")
    originals = [batch[side] for side in "AB" if side in batch]
    images = {k: v for k, v in out.items() if _is_image(v) and not _among(v, originals) and len(v) == len(image)}
    key = next((name for name in images if name.startswith("fake")), next(iter(images), None))
    if key is None:
        why = f"{plugin_name(model)} returns no image that it makes of A"
        raise OptionError("option", "--network", why, "name the network that is to be exported")
    inputs = {"image": image} | _needed_values(model, key, batch)
    whole = _without_idle(WholeModel(model, key, tuple(inputs)[1:]), tuple(inputs.values()))
    return _checked(model, Generator("model", whole, inputs, None, _among(images[key], shown)))


def find_of_label_maps(model: Any, batch: Mapping[str, Any], o: Any, wanted: str = "") -> Generator:
    """Return the network that translates what networks see of label maps, as a function of ids; see OfLabelMaps.

    It is the whole model if no single network does. batch: ids as in files, as "A", and "instance", of NUMBER images,
    and photographs as "B". Raises OptionError for a model that needs photographs.
    """
    given = labels_given(batch["A"], o)
    if not o.no_instance:
        given["instances"] = batch["instance"]
    classes: dict[str, Any] = {**batch, "A": as_networks_see(batch["A"], o)}
    seen = semantic_input(classes, o)
    _, _, found = translating_network(model, classes | {"seen": seen}, "seen", wanted)
    if found is not None:
        found.net, found.inputs = OfLabelMaps(found.net, o), given | dict(tuple(found.inputs.items())[1:])
        return _checked(model, found)
    try:
        whole = find_translator(model, {name: value for name, value in classes.items() if name != "B"}, "A", wanted)
    except OptionError as problem:
        if problem.args[:2] == ("option", "--network") or problem.args[0] == "network":
            raise
        why = "its generator sees more than label maps, such as features of photographs, and a file computes none"
        raise OptionError("model", o.model, why, "translate with test.py") from problem
    others = {NAMES_OF_MAPS.get(name, name): value for name, value in tuple(whole.inputs.items())[1:]}
    whole.net, whole.inputs = OfClasses(whole.net, o), labels_given(batch["A"], o) | others
    return _checked(model, whole)


def translating_network(
    model: Any, batch: Mapping[str, Any], source: str, wanted: str
) -> tuple[dict[str, Any], list[Tensor], Generator | None]:
    """Return a model's out, its images that are shown, and the network that makes an image of batch[source]."""
    out, calls = _watch(model, lambda: _forward(model, batch, source), wanted)
    image, values = batch[source], [value for value in out.values() if _is_image(value)]
    shown = [value for value in model.show(out).values() if _is_image(value)]
    for call in calls:
        takes = [_same(value, image) for value in (*call.args, *call.kwargs.values())]
        if any(takes) and (wanted or _among(call.output, values)):
            found = _as_generator(call, {"image": image} | dict(batch))
            found.shown = _among(call.output, shown)
            return out, shown, found
    return out, shown, None


def find_sampler(model: Any, classes: tuple[str, ...], wanted: str = "") -> Generator:
    """Return the network from which a model's sheets(request) come."""
    request = Request("grid", classes[:1], NUMBER, 0)
    sheets, calls = _watch(model, lambda: model.sheets(request), wanted)
    images = [value for value, _ in sheets.values()]
    for call in calls:
        if _is_image(call.output) and (wanted or _among(call.output, images)):
            return _checked(model, _as_generator(call, {}))
    why = f"no single network makes the images of {plugin_name(model)}" if not wanted else f"{wanted} makes no images"
    raise OptionError("option", "--network", why, "name the network that is to be exported")


def _forward(model: Any, batch: Mapping[str, Any], source: str) -> dict[str, Any]:
    if source == "A" and "B" in batch:
        one_sided = {key: value for key, value in batch.items() if key not in ("B", "path_B")}
        try:
            return call_with_now(model, one_sided)
        except (KeyError, AttributeError, TypeError):  # a plug-in that always reads B
            pass
    try:
        return call_with_now(model, dict(batch))
    except KeyError as problem:
        raise _missing_error(model, problem) from problem


def _watch(model: Any, work: Callable[[], Any], wanted: str) -> tuple[Any, list[_Call]]:
    """Return what `work` returns, and the calls of the model's generators during it."""
    networks = model.networks()
    if wanted and wanted not in networks:
        raise OptionError("option", "--network", f"there is no '{wanted}'", f"choose of {', '.join(networks)}")
    names = [wanted] if wanted else [name for name in model.averaged if name in networks] or list(networks)
    calls: list[_Call] = []
    with _recorded({name: networks[name] for name in names}, calls), seeded(0, CPU), torch.no_grad():
        out = work()
    return out, calls


@contextmanager
def _recorded(networks: Mapping[str, nn.Module], calls: list[_Call]) -> Iterator[None]:
    def hooks_of(name: str, net: nn.Module) -> list[Any]:
        given: list[tuple[tuple, dict[str, Any]]] = []  # before --noise_nc adds noise

        def keep(net: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            given.append((args, kwargs))

        def record(net: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
            calls.append(_Call(name, net, *given.pop(), output))

        return [
            net.register_forward_pre_hook(keep, prepend=True, with_kwargs=True),
            net.register_forward_hook(record, with_kwargs=True),
        ]

    hooks = [hook for name, net in networks.items() for hook in hooks_of(name, net)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _as_generator(call: _Call, known: Mapping[str, Any]) -> Generator:
    values = [value for value in (*call.args, *call.kwargs.values()) if isinstance(value, Tensor)]
    inputs: dict[str, Tensor] = {}
    own_names = getattr(call.net, "input_names", ())
    for number, value in enumerate(values):
        name = own_names[number] if number < len(own_names) else _input_name(value, known, inputs)
        inputs[name] = value.detach()
    net, channels = without_noise_input(call.net)
    if channels:
        inputs["z"] = torch.randn(NUMBER, channels, generator=torch.Generator().manual_seed(0))
    elif len(values) == 1 and (length := getattr(net, "z_dim", 0)):  # which it would draw
        inputs["z"] = torch.randn(NUMBER, length, generator=torch.Generator().manual_seed(0))
    elif call.kwargs or len(values) < len(call.args):
        args = tuple(_TENSOR if isinstance(value, Tensor) else value for value in call.args)
        kwargs = {k: _TENSOR if isinstance(value, Tensor) else value for k, value in call.kwargs.items()}
        net = Called(net, args, kwargs)
    return Generator(call.name, net, inputs, call.net)


def _input_name(value: Tensor, known: Mapping[str, Any], taken: Mapping[str, Any]) -> str:
    """Return the name of a network's argument: that of the batch, or z and label by its kind."""
    names = [name for name, other in known.items() if _same(value, other) and name not in ("A", "B")]
    names += ["label"] if value.dim() == 1 and not value.is_floating_point() else []
    names += ["z"] if value.is_floating_point() else []
    return next(name for name in (*names, *(f"input_{n}" for n in range(1, 99))) if name not in taken)


def _checked(model: Any, found: Generator) -> Generator:
    """Return a generator; raise OptionError if two calls with the same inputs differ."""
    images = []
    for seed in (1, 2):
        with seeded(seed, CPU), torch.no_grad():
            images.append(copy.deepcopy(found.net)(*found.inputs.values()))
    if not _same(*images):
        why = f"{found.name} of {plugin_name(model)} draws random numbers, or remembers earlier images"
        raise OptionError("network", found.name, f"{why}, so no export can equal it", "make its noise an argument")
    return found


def _needed_values(model: Any, key: str, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a batch, beside its images, that a model's forward asks for."""
    needed: dict[str, Tensor] = {}
    while True:
        try:
            with torch.no_grad(), seeded(0, CPU):
                WholeModel(model, key, tuple(needed))(batch["A"], *needed.values())
            return needed
        except KeyError as problem:
            name = problem.args[0] if problem.args else ""
            if name in needed or name == "B" or not isinstance(batch.get(name), Tensor):
                raise _missing_error(model, problem) from problem
            needed[name] = batch[name]


def _missing_error(model: Any, problem: KeyError) -> OptionError:
    why = f"its forward reads {problem} of a batch, which an export cannot give"
    return OptionError("model", plugin_name(model), why, "give --images with what it needs, or name a --network")


def _without_idle(whole: WholeModel, inputs: tuple[Tensor, ...]) -> nn.Module:
    """Return a copy of a model without the networks that its images do not need."""
    small = copy.deepcopy(whole)
    needed = _called_children(small, inputs)
    for name in [name for name, _ in small.model.named_children() if name not in needed]:
        setattr(small.model, name, nn.Identity())
    try:
        with torch.no_grad(), seeded(0, CPU):
            small(*inputs)
    except Exception:  # a plug-in's forward may read anything of a network that it does not call
        return whole
    return small


def _called_children(whole: WholeModel, inputs: tuple[Tensor, ...]) -> set[str]:
    """Return the children of a model of which a part is called."""
    found: set[str] = set()
    hooks = [
        part.register_forward_pre_hook(lambda part, args, name=name: found.add(name))
        for name, child in whole.model.named_children()
        for part in child.modules()
    ]
    with torch.no_grad(), seeded(0, CPU):
        whole(*inputs)
    for hook in hooks:
        hook.remove()
    return found


def _is_image(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 4


def _same(value: Any, other: Any) -> bool:
    tensors = isinstance(value, Tensor) and isinstance(other, Tensor)
    return tensors and value.shape == other.shape and torch.equal(value, other)


def _among(value: Any, others: list[Any]) -> bool:
    return any(_same(value, other) for other in others)
