"""Find what a model keeps outside its trained networks, so that it is exported with their weights."""

from collections.abc import Container, Mapping

from torch import Tensor, nn

OWN_STATE = "own_state"  # its file is PREFIX_net_own_state.pth


def own_state(model: nn.Module, networks: Container[str]) -> dict[str, nn.Module]:
    """Return {OWN_STATE: a module} that shares the model's tensors outside its networks; {} if there are none.

    These are its own parameters and persistent buffers, and those of children that are not networks.
    """
    holder = _holder(model, [name for name, _ in model.named_children() if name in networks])
    return {OWN_STATE: holder} if any(isinstance(value, Tensor) for value in holder.state_dict().values()) else {}


def _holder(part: nn.Module, omitted: Container[str] = ()) -> nn.Module:
    """Return a plain module with the tables of a part, so that moving or loading one changes both."""
    holder = nn.Module()
    holder._parameters, holder._buffers = part._parameters, part._buffers
    holder._non_persistent_buffers_set = part._non_persistent_buffers_set
    for name, child in part.named_children():
        if name not in omitted and child.state_dict():  # a Frozen part has none
            holder.add_module(name, _holder(child))
    return holder


class IdleNetworks:
    """The networks that no phase trains; `changed()` returns those that a run changes, such as averages of weights."""

    def __init__(self, networks: Mapping[str, nn.Module]):
        self.networks = networks
        self.sums = {name: _sums(net) for name, net in networks.items()}

    def changed(self) -> dict[str, nn.Module]:
        """Return the networks whose values differ from those at the start of the first run."""
        return {name: net for name, net in self.networks.items() if _sums(net) != self.sums[name]}


def _sums(net: nn.Module) -> list[float]:
    """Return two sums of each tensor, which together differ for any change that training makes."""
    tensors = [t.detach().cpu().double() for t in net.state_dict().values() if isinstance(t, Tensor) and t.numel()]
    return [float(value) for t in tensors for value in (t.sum(), t.square().sum())]
