"""Compile networks with torch.compile for training, and test each forward and backward before a step relies on it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from networks.runtime.amp import is_autocast_disabled
from networks.runtime.eager import is_eager
from networks.runtime.network_calls import Entry, is_training, tune_calls
from networks.runtime.snapshot import Snapshot
from networks.toolbox.spectral_norm import norms
from util.errors import first_line, print_line

_cuda_graph_networks: set[str] = set()  # names of the networks that run as CUDA graphs


def mark_step_begin() -> None:
    """Tell CUDA graphs that a training step begins, so that they may reuse memory of the previous step's outputs."""
    if _cuda_graph_networks:
        torch.compiler.cudagraph_mark_step_begin()


def compile_network(name: str, net: nn.Module, mode: str, graphs: bool = False) -> None:
    """Make a network run compiled in training; if compiling fails, print a note and run it uncompiled.

    mode: the mode of torch.compile. graphs: whether that mode uses CUDA graphs. Their outputs are copied, because the
    graphs reuse the memory from the next step on, and `mark_step_begin` must tell them where a step begins. Methods and
    parts that are called by themselves are compiled one by one, except single layers of torch. Evaluation and meta
    tensors always run uncompiled.
    """
    if graphs:
        _cuda_graph_networks.add(name)
    tune_calls(name, net, "compile", partial(_compiled_call, mode=mode, graphs=graphs))


def _compiled_call(entry: Entry, mode: str, graphs: bool) -> Callable:
    part, eager = entry.part, entry.plain
    if any(norms(entry.net)):  # compiled code keeps its vector for the backward pass, which the next call overwrites
        if entry.is_root:
            print_line(f"note: network {entry.label} is not compiled: each call changes its --spectral_norm")
        return eager
    if not (entry.is_root or any(part.children())) and type(part).__module__.startswith("torch."):
        return eager  # a compiled layer gains nothing
    variants = _compiled_variants(eager, mode)
    compiled, tested = next(variants), set()

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal compiled

        # Run uncompiled where compiled code does not apply.
        grad_flags = _requires_grad_flags(part, args)
        on_meta = any(isinstance(x, Tensor) and x.is_meta for x in args)
        leaf = any(needs_grad and x.is_leaf for needs_grad, x in zip(grad_flags, args))
        penalty = leaf or is_autocast_disabled()  # compiled code has no second derivative
        if on_meta or penalty or is_eager() or not is_training(entry.net):
            return eager(*args, **kwargs)

        # Run the compiled variant, tested once for each signature; if it fails, switch to the next one.
        signature = grad_flags, *(x.shape for x in args if isinstance(x, Tensor))
        while compiled:
            try:
                if any(grad_flags) and signature not in tested:
                    _try_backward(part, compiled, args, kwargs)
                    tested.add(signature)
                return tree_map(_clone_tensor, compiled(*args, **kwargs)) if graphs else compiled(*args, **kwargs)
            except torch.OutOfMemoryError:
                raise
            except Exception as problem:  # a compiler may raise any exception
                compiled = next(variants, None)
                tested.clear()
                if not compiled:
                    print_line(f"note: network {entry.label} is not compiled ({first_line(problem)})")
        return eager(*args, **kwargs)

    return call


def _compiled_variants(eager: Any, mode: str) -> Iterator[Any]:
    """Yield a function compiled with torch's defaults, then one compiled without layout optimisation.

    The second is needed because on CUDA the first expects a wrong memory layout of the gradients that cuDNN returns
    for a transposed convolution of 1x1 pixels.
    """
    yield torch.compile(eager, mode=mode)
    yield torch.compile(eager, options=torch._inductor.list_mode_options(mode) | {"layout_optimization": False})


def _requires_grad_flags(net: nn.Module, args: tuple) -> tuple[bool, ...]:
    """Return for each argument, and last for the weights, whether a call needs gradients; (False,) if they are off."""
    if not torch.is_grad_enabled():
        return (False,)
    weights = any(p.requires_grad for p in net.parameters())
    return *(isinstance(x, Tensor) and x.requires_grad for x in args), weights


def _try_backward(net: nn.Module, compiled: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    """Run a compiled network forward and backward and restore its state; a failure within a step comes too late."""
    with Snapshot(net).restored():
        inputs = [x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in args]
        outputs = [
            x.sum() for x in tree_leaves(compiled(*inputs, **kwargs)) if isinstance(x, Tensor) and x.requires_grad
        ]
        leaves = [x for x in [*inputs, *net.parameters()] if isinstance(x, Tensor) and x.requires_grad]
        torch.autograd.grad(outputs, leaves, allow_unused=True)


def _clone_tensor(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
