"""Which networks of a model are generators, and which are discriminators."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from networks.toolbox.settings import has_role


class Roles:
    """The generators and discriminators of a model, and the phases that train generators.

    Generators are the networks in model.averaged, or without it those that `generator()` built. Discriminators are the
    networks that only phases train which train no generator; where `discriminator()` built some of them, these. If no
    generator is known, they are the networks that `discriminator()` built.
    """

    def __init__(self, model: Any, phases: list[Any]):
        self.phases = list(phases)
        networks = model.networks() if hasattr(model, "networks") else {}
        named = [networks[name] for name in getattr(model, "averaged", ()) if name in networks]
        self.generators = named or [net for net in networks.values() if has_role(net, "G")]
        own = _ids(self.generators)
        self.generator_phases = [phase for phase in phases if _ids(phase.nets) & own]
        trained = _ids(net for phase in phases if phase not in self.generator_phases for net in phase.nets)
        judges = trained - _ids(net for phase in self.generator_phases for net in phase.nets) if own else set()
        found = [part for net in networks.values() for part in _callable_parts(net, judges)]
        marked = [net for net in (found if own else networks.values()) if has_role(net, "D")]
        self.discriminators = marked or found

    def trains_discriminators(self, phase: Any) -> bool:
        """Return whether a phase trains a discriminator."""
        return bool(_ids(phase.nets) & _ids(self.discriminators))


def _ids(nets: Any) -> set[int]:
    return {id(p) for net in nets for p in net.parameters()}


def _callable_parts(net: nn.Module, wanted: set[int]) -> Iterator[nn.Module]:
    """Yield the outermost parts that can be called and whose parameters are all wanted."""
    own = _ids([net])
    if own and own <= wanted and type(net).forward is not nn.Module.forward:
        yield net
    elif own & wanted:
        for child in net.children():
            yield from _callable_parts(child, wanted)
