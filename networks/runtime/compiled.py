"""Networks compiled by torch in training, each tried forward and backward before a step relies on it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from util.errors import first_line, printable
from util.snapshot import Moment

_graphs: set[str] = set()  # names of the networks that run as CUDA graphs


def mark_step_begin() -> None:
    """Tell CUDA graphs that a training step begins: memory of the step before may be used again."""
    if _graphs:
        torch.compiler.cudagraph_mark_step_begin()


def compiled(name: str, net: nn.Module, mode: str, graphs: bool = False) -> None:
    """Have a network compute in training as torch compiles it; if that fails, it goes on as it was, with a note.

    mode: torch.compile's. graphs: whether that means CUDA graphs, whose results lie in memory that they use again
    from the next step on; where it begins they cannot see. In evaluation, and for tensors without values, nothing
    changes.
    """
    if graphs:
        _graphs.add(name)
    plain, ways = net.forward, _ways(net.forward, mode)
    fast, tried = next(ways), set()

    def forward(*args: Any, **named: Any) -> Any:
        nonlocal fast
        wanted = _differentiated(net, args)
        counted = any(isinstance(x, Tensor) and x.is_meta for x in args)
        if counted or not net.training or any(needed and x.is_leaf for needed, x in zip(wanted, args)):
            return plain(*args, **named)  # a leaf: for a penalty on gradients, of which compiled networks have none
        kind = wanted, *(x.shape for x in args if isinstance(x, Tensor))
        while fast:
            try:
                if any(wanted) and kind not in tried:
                    _try_backward(net, fast, args, named)
                    tried.add(kind)
                return tree_map(_copy, fast(*args, **named)) if graphs else fast(*args, **named)
            except torch.OutOfMemoryError:
                raise
            except Exception as problem:  # compilers fail with whatever they please
                fast = next(ways, None)
                tried.clear()
                if not fast:
                    print(printable(f"note: network {name} is not compiled ({first_line(problem)})"), flush=True)
        return plain(*args, **named)

    net.forward = forward  # type: ignore[method-assign]


def _ways(plain: Any, mode: str) -> Iterator[Any]:
    """Yield a function compiled as torch likes best, then one whose tensors lie as they do without compiling.

    On CUDA the first has a wrong idea of how cuDNN lays out the gradients of a transposed convolution of 1x1 pixels.
    """
    yield torch.compile(plain, mode=mode)
    yield torch.compile(plain, options=torch._inductor.list_mode_options(mode) | {"layout_optimization": False})


def _differentiated(net: nn.Module, args: tuple) -> tuple[bool, ...]:
    """Return of which of its arguments, and whether of its weights, a call is going to be differentiated."""
    if not torch.is_grad_enabled():
        return (False,)
    weights = any(p.requires_grad for p in net.parameters())
    return *(isinstance(x, Tensor) and x.requires_grad for x in args), weights


def _try_backward(net: nn.Module, fast: Any, args: tuple, named: dict[str, Any]) -> None:
    """Run a compiled network forward and backward and leave no trace; amid a step it would be too late to fail."""
    with Moment(net).again():
        anew = [x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in args]
        made = [x.sum() for x in tree_leaves(fast(*anew, **named)) if isinstance(x, Tensor) and x.requires_grad]
        of = [x for x in [*anew, *net.parameters()] if isinstance(x, Tensor) and x.requires_grad]
        torch.autograd.grad(made, of, allow_unused=True)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
