"""Check plug-ins against their contract: the signatures of their parts and the return values of their methods."""

import inspect
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from registry import loaded
from util.errors import OptionError

METHOD_PARAMETERS = {  # the arguments that a plug-in's methods are called with
    "model": {
        "__init__": "o, spec",
        "phases": "",
        "forward": "batch",
        "show": "out",
        "sheets": "request",
        "after_step": "now",
    },
    "dataset": {"__init__": "o", "__len__": "", "__getitem__": "index", "spec": "", "collate": "samples"},
}
DECLARED_PARAMETERS = {"batch": "now", "batch, out": "now", "params, lr": "betas"}  # which functions may also declare
PART_PARAMETERS = {  # the same for the parts in its tables
    "generator": "o, input_nc, output_nc",
    "discriminator": "o, input_nc",
    "norm": "channels",
    "initialiser": "weight, gain",
    "penalty": "D, real, fake",
    "d_augmentation": "images, channels",
    "term": "fake, real",
    "lr_policy": "epoch, o, history",
    "optimizer": "params, lr",
    "metric": "fake, real",
    "display": "o, folder",
}
FORMULAS = {"real": "p, label", "fake": "p", "generator": "p"}  # of an Objective
PAIRED_FORMULAS = {"discriminator": "real, fake", "generator": "real, fake"}


def contract_error(plug_in: str, why: str, remedy: str) -> OptionError:
    """Return the error for a plug-in that breaks the contract."""
    return OptionError("plug-in", plug_in, why, remedy)


def check_class(kind: str, cls: type, name: str) -> type:
    """Return a model's or data set's class; OptionError for methods that cannot be called or wrong attributes."""
    for method, parameters in METHOD_PARAMETERS[kind].items():
        function = inspect.getattr_static(cls, method, None)
        if function is None:
            continue
        bound = isinstance(function, staticmethod)
        function = getattr(function, "__func__", function)
        if not callable(function):
            why = f"its {method} is a {type(function).__name__}, not a method"
            raise contract_error(name, why, f"write def {_definition(method, parameters)}")
        _check_call(function, parameters if bound else _with_self(parameters), name, method, parameters)
    averaged, defaults = getattr(cls, "averaged", ()), getattr(cls, "defaults", {})
    if not isinstance(averaged, tuple | list) or not all(isinstance(word, str) for word in averaged):
        why = f"its averaged is {averaged!r}, not a tuple of networks' names"
        raise contract_error(name, why, 'write averaged = ("G",), with the comma')
    if not isinstance(defaults, dict) or not all(isinstance(flag, str) for flag in defaults):
        raise contract_error(name, "its defaults are not a dictionary of flags", 'write defaults = {"lr": 1e-4}')
    return cls


def check_part(kind: str, thing: Any, name: str, origin: str) -> Any:
    """Return a part from a plug-in's table; OptionError if it cannot be called with the arguments of its kind."""
    plug_in = loaded.display_name(origin)
    if kind == "objective":
        paired = hasattr(thing, "discriminator")
        cls, formulas = ("PairedObjective", PAIRED_FORMULAS) if paired else ("Objective", FORMULAS)
        missing = [word for word in formulas if not callable(getattr(thing, word, None))]
        if missing:
            why = f"its objective '{name}' has no {' and no '.join(missing)}"
            raise contract_error(plug_in, why, f"make it a networks.gan_loss.{cls}({', '.join(formulas)})")
        for word, parameters in formulas.items():
            _check_call(getattr(thing, word), parameters, plug_in, f"{word} of objective '{name}'", parameters)
    elif kind == "metric" and isinstance(thing, type) and any(hasattr(thing, word) for word in METRIC_PARAMETERS):
        check_metric(thing, name, plug_in)
    elif kind == "term" and isinstance(thing, type):
        _check_call(thing, "device", plug_in, f"term '{name}'", "device")
        method = "forward" if hasattr(thing, "forward") else "__call__"  # a call of an nn.Module runs its forward
        called = PART_PARAMETERS[kind]
        _check_call(getattr(thing, method), _with_self(called), plug_in, f"{method} of term '{name}'", called)
    elif kind in PART_PARAMETERS:
        if not callable(thing):
            why = f"its {kind} '{name}' is a {type(thing).__name__}, which cannot be called"
            raise contract_error(plug_in, why, f"give a function or class that takes ({PART_PARAMETERS[kind]})")
        _check_call(thing, PART_PARAMETERS[kind], plug_in, f"{kind} '{name}'", PART_PARAMETERS[kind])
    return thing


METRIC_PARAMETERS = {"update": "real, fake, labels", "partial": "", "merge": "partials", "result": ""}


def check_metric(cls: type, name: str, plug_in: str) -> None:
    """Raise OptionError if a plug-in's class of a metric lacks a method or has wrong attributes."""
    for method, parameters in METRIC_PARAMETERS.items():
        if not callable(getattr(cls, method, None)):
            why = f"its metric '{name}' has no {method}"
            raise contract_error(plug_in, why, f"write def {_definition(method, parameters)}, or extend metrics.base")
        function = inspect.getattr_static(cls, method)
        if inspect.isfunction(function):
            _check_call(function, _with_self(parameters), plug_in, method, parameters)
    if getattr(cls, "better", None) not in ("lower", "higher") or not isinstance(getattr(cls, "paired", None), bool):
        why = f"its metric '{name}' does not say which values are better, or whether it compares pairs"
        raise contract_error(plug_in, why, 'write better = "lower" or "higher", and paired = True or False')


def check_network(net: Any, kind: str, name: str, origin: str) -> None:
    """Raise OptionError if a plug-in's generator or discriminator did not return a network."""
    if not callable(getattr(net, "parameters", None)):
        why = f"its {kind} '{name}' returned {_describe(net)}, not a network"
        raise contract_error(loaded.display_name(origin), why, "return an nn.Module from it")


def check_optimizer(made: Any, name: str, origin: str) -> None:
    """Raise OptionError if a plug-in's optimizer did not return an optimiser of the parameters that it was given."""
    if not all(hasattr(made, word) for word in ("param_groups", "state", "step", "zero_grad", "state_dict")):
        why = f"its optimizer '{name}' returned {_describe(made)}, not an optimiser"
        raise contract_error(loaded.display_name(origin), why, "return a torch.optim.Optimizer from it")


def _check_call(function: Any, parameters: str, plug_in: str, what: str, called: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function in C has no signature; it reports wrong arguments itself
        return
    try:
        more = DECLARED_PARAMETERS.get(called, "")
        extra = {more: None} if more in signature.parameters else {}
        signature.bind(*parameters.split(", ") if parameters else (), **extra)
    except TypeError:
        bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
        takes = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
        code = getattr(inspect.unwrap(function), "__code__", None)
        location = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
        is_method = " " not in what
        call = f"self.{what}({called})" if is_method and what != "__init__" else f"({called})"
        remedy = f"write def {_definition(what, called)}" if is_method else f"let it take ({called})"
        raise contract_error(plug_in, f"its {what}{takes} cannot be called as {call}{location}", remedy) from None


def _with_self(parameters: str) -> str:
    return f"self, {parameters}" if parameters else "self"


def _definition(method: str, parameters: str) -> str:
    return f"{method}({_with_self(parameters)})"


def _describe(thing: Any) -> str:
    return "nothing (None)" if thing is None else f"a {type(thing).__name__}"


def check_phases(model: Any, name: str) -> list[Any]:
    """Return a model's phases; OptionError unless they are a list of Phase that train networks of the model."""
    phases = model.phases()
    if phases == []:
        why = f"{name} only translates and cannot be trained: it has no phases()"
        raise OptionError("option", "--model", why, "use it with test.py")
    remedy = "return [Phase(name, [networks], loss), ...] from phases()"
    if not isinstance(phases, list | tuple) or not phases:
        what = "an empty tuple" if phases == () else _describe(phases)
        raise contract_error(name, f"its phases() returns {what}, not a list", remedy)
    for phase in phases:
        if not all(hasattr(phase, word) for word in ("name", "nets", "rates", "loss", "every", "weight", "lr")):
            raise contract_error(name, f"its phases() lists {_describe(phase)}, not a Phase", remedy)
    names = [phase.name for phase in phases]
    own = {id(p) for p in model.parameters()}
    for phase in phases:
        if names.count(phase.name) > 1:
            raise contract_error(name, f"two of its phases are called '{phase.name}'", "give each its own name")
        parameters = [p for net in phase.nets for p in net.parameters()]
        if not all(id(p) in own for p in parameters):
            why = f"its phase {phase.name} trains a network that is not an attribute of the model, so it is not saved"
            raise contract_error(name, why, "assign it in __init__ (self.G = ...), or a list as nn.ModuleList")
        if any(_is_frozen(net) for net in phase.nets):
            why = f"its phase {phase.name} names a Frozen network, which is never trained"
            raise contract_error(name, why, "omit it from the phase, or do not wrap it in Frozen")
        if not any(p.requires_grad for p in parameters):
            why = f"the networks of its phase {phase.name} have no parameters to train"
            raise contract_error(name, why, "name others, or omit it")
        function_name = getattr(phase.loss, "__name__", type(phase.loss).__name__)
        _check_call(phase.loss, "batch, out", name, f"loss of phase {phase.name}, {function_name}", "batch, out")
    return list(phases)


def check_networks(model: Any, name: str, phases: list[Any]) -> list[str]:
    """Return notes on untrained networks; OptionError if `averaged` names one or anything that is not a network."""
    networks = model.networks()
    for part in model.modules():
        if any(_is_lazy(p) for p in part.parameters(recurse=False)):
            why = f"it has a layer {type(part).__name__}, whose size is unknown until its first forward pass"
            raise contract_error(name, why, "give the layer its sizes")
    trained = {id(p) for phase in phases for net in phase.nets for p in net.parameters()}
    idle = [n for n, net in networks.items() if not any(id(p) in trained for p in net.parameters())]
    for word in model.averaged:
        if word not in networks:
            why = f"its averaged names '{word}', but its networks are {', '.join(networks)}"
            raise contract_error(name, why, "name the networks that test.py loads")
        if word in idle:
            why = f"its averaged names '{word}', which no phase trains: it is not saved as a .pth for test.py"
            raise contract_error(name, why, "add it to a phase, or remove it from averaged")
    free = [n for n in idle if any(p.requires_grad for p in networks[n].parameters())]
    notes = [f"note: network {n} is not in a phase: it is not trained and not saved as a .pth" for n in free]
    still = [n for n, net in networks.items() if not any(p.requires_grad for p in net.parameters())]
    advice = "if its weights never change, let self.{0} be Frozen(...), from networks import Frozen"
    for n in (n for n in still if not _is_frozen(networks[n])):
        mode = "runs in training mode and " if any(part.training for part in networks[n].modules()) else ""
        notes.append(f"note: network {n} requires no gradients, but {mode}is part of every state: {advice.format(n)}")
    loose = [n for n, p in model.named_parameters(recurse=False) if p.requires_grad and id(p) not in trained]
    return notes + [f"note: parameter {n} is not in a network of a phase: it is not trained" for n in loose]


def _is_frozen(net: Any) -> bool:
    """Whether a network is, or consists of, Frozen ones (networks/frozen.py), which have no state."""
    return not any(_is_tensor(value) for value in net.state_dict().values()) and any(True for _ in net.parameters())


def check_out(out: Any, name: str) -> None:
    """Raise OptionError if forward did not return a dictionary."""
    if not isinstance(out, Mapping):
        remedy = "return {name: tensor, ...}" + (" (is a return missing?)" if out is None else "")
        raise contract_error(name, f"its forward(batch) returns {_describe(out)}, not a dictionary", remedy)


def check_terms(terms: Any, phase: str, name: str) -> None:
    """Raise OptionError unless a loss is a dictionary of scalars, at least one a tensor for the backward pass."""
    rule = f"the loss of its phase {phase} must return a dictionary of scalars"
    remedy = "return {name: scalar tensor, ...}"
    if not isinstance(terms, Mapping):
        raise contract_error(name, f"{rule}, not {_describe(terms)}", remedy)
    for term, value in terms.items():
        if not isinstance(term, str):
            raise contract_error(name, f"{rule} by name, not by {term!r}", remedy)
        if _is_tensor(value) and value.dim():
            raise contract_error(name, f"{rule}; its '{term}' is {_value_text(value)}", "take its mean(): " + remedy)
        if not _is_tensor(value) and not isinstance(value, Real):
            raise contract_error(name, f"{rule}; its '{term}' is {_value_text(value)}", remedy)
    if terms and not any(_is_tensor(value) for value in terms.values()):
        why = f"{rule}, not of Python numbers only: they have no gradient"
        raise contract_error(name, why, "omit item() and float(): " + remedy)


def check_shown(shown: Any, name: str) -> None:
    """Raise OptionError unless show(out) returned a dictionary of images."""
    remedy = "return {name: (N, C, H, W) of 1 or 3 channels, ...} from show(out)"
    if not isinstance(shown, Mapping):
        raise contract_error(name, f"its show(out) returns {_describe(shown)}, not a dictionary", remedy)
    for label, value in shown.items():
        if not (_is_tensor(value) and value.dim() == 4 and value.shape[1] in (1, 3)) or not isinstance(label, str):
            raise contract_error(name, f"its show(out) returns {_value_text(value)} as {label!r}, not images", remedy)


def plugin_name(plug_in: Any) -> str:
    """Return the name of the plug-in that defines a model or data set; of a built-in one, its class."""
    return loaded.plugin_of_module(type(plug_in).__module__) or type(plug_in).__name__


def missing_method_error(plug_in: Any, method: str) -> OptionError:
    """Return the error for a model or data set that lacks a required method."""
    name = plugin_name(plug_in)
    return contract_error(name, f"has no method {method}", "define it; docs/plugins.md shows one")


def check_sample(dataset: Any, sample: Any) -> None:
    """Raise OptionError if a data set's sample is not a dictionary with an image A and its file name."""
    import numpy  # imported here, like torch below, because --help and --list need neither
    import torch

    name = plugin_name(dataset)
    remedy = 'return {"A": image (C, H, W), "path_A": file name} from __getitem__, and "B", "path_B" for pairs'
    if not isinstance(sample, Mapping):
        raise contract_error(name, f"its __getitem__(index) returns {_describe(sample)}, not a dictionary", remedy)
    missing = [key for key in ("A", "path_A") if key not in sample]
    if missing:
        why = f"its __getitem__(index) returns {', '.join(map(str, sample)) or 'nothing'}, but no {missing[0]}"
        raise contract_error(name, why, remedy)
    value: Any = sample["A"]
    if isinstance(value, numpy.ndarray):  # collation turns arrays into tensors
        value = torch.from_numpy(value)
    if not (_is_tensor(value) and value.dim() == 3 and value.is_floating_point()):
        what = f"{_value_text(value)}, {value.dtype}" if _is_tensor(value) else _describe(value)
        raise contract_error(name, f"its sample's A is {what}, not an image", remedy + "; values are in [-1, 1]")


def check_batch(dataset: Any, batch: Any, count: int) -> None:
    """Raise OptionError unless a data set's own collate(samples) returned a batch of `count` samples."""
    name, remedy = plugin_name(dataset), 'return {"A": (N, C, H, W), "path_A": N file names, ...} from collate'
    does = f"its collate(samples) of {count} samples returns"
    if not isinstance(batch, Mapping):
        raise contract_error(name, f"{does} {_describe(batch)}, not a dictionary", remedy)
    missing = [key for key in ("A", "path_A") if key not in batch]
    if missing:
        raise contract_error(name, f"{does} {', '.join(map(str, batch)) or 'nothing'}, but no {missing[0]}", remedy)
    A, paths = batch["A"], batch["path_A"]
    if not (_is_tensor(A) and A.dim() == 4 and len(A) == count):
        raise contract_error(name, f"{does} {_value_text(A)} as A, not {count} images", remedy)
    if not isinstance(paths, list | tuple) or len(paths) != count:
        raise contract_error(name, f"{does} {_describe(paths)} as path_A, not {count} file names", remedy)
    _check_values(batch, "", count, name, does)


def _check_values(value: Any, path: str, count: int, name: str, does: str) -> None:
    """Raise OptionError for a list of a batch that does not hold an entry for each sample, and for NumPy's arrays."""
    import numpy  # see check_sample

    if isinstance(value, numpy.ndarray):
        raise contract_error(name, f"{does} an array as '{path}'", "return torch.from_numpy(array)")
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_values(part, f"{path}.{key}".lstrip("."), count, name, does)
    elif type(value) in (list, tuple):
        if len(value) != count and any(not isinstance(part, str | Real) for part in value):
            why = f"{does} a {type(value).__name__} of {len(value)} as '{path}', not an entry for each sample"
            raise contract_error(name, why, "return a dictionary of batches for values that are no list of samples'")
        for part in value:
            _check_values(part, path, count, name, does)


def check_length(dataset: Any) -> None:
    """Raise OptionError unless a data set has a length of at least 1."""
    name = plugin_name(dataset)
    length = type(dataset).__len__(dataset)
    if not isinstance(length, Integral) or length < 1:
        raise contract_error(name, f"its __len__() returns {length!r}", "return the number of samples, 1 or more")


def _is_lazy(parameter: Any) -> bool:
    from torch.nn.parameter import is_lazy  # see check_sample

    return is_lazy(parameter)


def _is_tensor(value: Any) -> bool:
    import torch  # see check_sample

    return isinstance(value, torch.Tensor)


def _value_text(value: Any) -> str:
    return f"a tensor of shape ({', '.join(map(str, value.shape))})" if _is_tensor(value) else _describe(value)


def check_phase(name: Any, nets: Any, loss: Any, every: Any, weight: Any, lr: Any) -> None:
    """Raise TypeError or ValueError for arguments that cannot make a Phase."""
    from torch import nn  # see check_sample

    if not isinstance(name, str) or not name:
        raise TypeError(f"Phase(name, nets, loss): name is {_describe(name)}, not a text")
    who = f"Phase '{name}'"
    if isinstance(nets, nn.Module) and not isinstance(nets, nn.ModuleList):
        raise TypeError(f"{who}: nets is one network, not a list; write nets as [self.G]")
    if not isinstance(nets, list | tuple | nn.ModuleList) or not len(nets):
        what = _describe(nets) if nets or nets is None else "empty"
        raise TypeError(f"{who}: nets is {what}, not a list of networks")
    networks = [entry[0] if isinstance(entry, tuple) and len(entry) == 2 else entry for entry in nets]
    for net, entry in zip(networks, nets, strict=True):
        if not isinstance(net, nn.Module):
            what = _describe(net)
            raise TypeError(f"{who}: nets holds {what}, which is not a network (nn.Module) or (network, learning rate)")
        if net is not entry:
            _check_rate(who, f"the lr of {type(net).__name__}", entry[1])
        if sum(net is other for other in networks) > 1:
            raise ValueError(f"{who}: nets names one network twice")
    if not callable(loss):
        raise TypeError(f"{who}: loss is {_describe(loss)}, not a function; write self.loss without calling it")
    if type(every) is not int or every < 1:
        raise ValueError(f"{who}: every is {every!r}, not a whole number of at least 1")
    if not _is_finite(weight):
        raise ValueError(f"{who}: weight is {weight!r}, not a finite number")
    if lr is not None:
        _check_rate(who, "lr", lr)


def check_phase_optimizer(name: str, every: int, betas: Any, optimizer: Any, lazy_correction: Any) -> None:
    """Raise TypeError or ValueError for arguments that cannot choose a Phase's optimiser."""
    who = f"Phase '{name}'"
    if betas is not None:
        pair = isinstance(betas, tuple | list) and len(betas) == 2
        if not pair or not all(_is_finite(beta) and 0 <= beta < 1 for beta in betas):
            raise ValueError(f"{who}: betas is {betas!r}, not two numbers of at least 0 and below 1")
    if optimizer is not None and not isinstance(optimizer, str) and not callable(optimizer):
        raise TypeError(f"{who}: optimizer is {_describe(optimizer)}, not a name or a function of (params, lr)")
    if not isinstance(lazy_correction, bool):
        raise TypeError(f"{who}: lazy_correction is {_describe(lazy_correction)}, not True or False")
    if lazy_correction and every < 2:
        raise ValueError(f"{who}: lazy_correction is for phases that run rarely, but every is {every}")


def _check_rate(who: str, what: str, lr: Any) -> None:
    if not (_is_finite(lr) and lr >= 0):
        raise ValueError(f"{who}: {what} is {lr!r}, not a finite number of at least 0")


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
