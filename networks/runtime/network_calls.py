"""The calls that reach a network from outside: of its forward, of its other methods, and of its parts."""

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from networks.frozen import Frozen

Tune = Callable[["Entry"], Callable]  # returns an entry's method with an option applied
_running: Counter[str] = Counter()  # number of tuned calls that are running, by option


def tune_calls(name: str, net: nn.Module, option: str, tune: Tune) -> None:
    """Apply an option to every way into a network: its forward, its public methods that take tensors, and its parts'.

    A call from within the network runs as it is, because the call that entered the network is tuned; so does a call in
    a backward pass, which repeats an earlier one. In evaluation and on the meta device only the network's forward is
    passed to what `tune` returns. name: the network's name in notes.
    """
    for path, part, method in _methods(net):
        plain = getattr(part, method)
        is_root = part is net and method == "forward"
        if is_root or getattr(plain, "option", "") != option:  # else a part of two networks
            words = [name, path, method if method != "forward" else ""]
            setattr(part, method, Entry(".".join(filter(None, words)), net, part, plain, option, tune, is_root))


def is_training(net: nn.Module) -> bool:
    """Whether calls of a network are part of training; those of a Frozen network are if its model trains."""
    return net.in_training if isinstance(net, Frozen) else net.training


class Entry:
    """A method of a part of a network, tuned where it is called from outside; a copy of the network is not tuned."""

    def __init__(
        self, label: str, net: nn.Module, part: nn.Module, plain: Callable, option: str, tune: Tune, is_root: bool
    ):
        self.label, self.net, self.part, self.plain, self.option = label, net, part, plain, option
        self.tune, self.is_root = tune, is_root
        self.tuned: Callable | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or not (self.is_root or self._is_entered((*args, *kwargs.values()))):
            return self.plain(*args, **kwargs)
        self.tuned = self.tuned or self.tune(self)
        _running[self.option] += 1
        try:
            return self.tuned(*args, **kwargs)
        finally:
            _running[self.option] -= 1

    def _is_entered(self, values: tuple) -> bool:
        """Whether this is a call from outside, in training, with tensors that have values."""
        if _running[self.option] or not is_training(self.net) or _in_backward_pass():
            return False
        tensors = [x for value in values for x in (value if isinstance(value, list | tuple) else [value])]
        tensors = [x for x in tensors if isinstance(x, Tensor)]
        return bool(tensors) and not any(x.is_meta for x in tensors)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.plain, memo)


def _methods(net: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield (path of a part, part, name of a method) for the methods of a network and its parts that may be called."""
    inner = {part for holder in net.modules() if isinstance(holder, ParametrizationList) for part in holder.modules()}
    for path, part in net.named_modules():
        if part in inner:  # it computes a weight, not an output
            continue
        if type(part).forward is not nn.Module.forward:
            yield path, part, "forward"
        own = [cls for cls in type(part).__mro__ if not cls.__module__.startswith("torch.")]
        for method in dict.fromkeys(word for cls in own for word, value in vars(cls).items() if _is_plain(value)):
            if not (method.startswith("_") or hasattr(nn.Module, method)):
                yield path, part, method


def _is_plain(value: Any) -> bool:
    return inspect.isfunction(value) and not inspect.isgeneratorfunction(value)


def _in_backward_pass() -> bool:
    return torch._C._current_graph_task_id() != -1  # torch's own checkpointing asks this too; there is no public way
