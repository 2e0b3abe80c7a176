"""torch's optimisers without its compiler, which they import, and with less work per parameter before Adam's kernel."""

import inspect
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer, optimizer

# methods that torch hides from its compiler, which their first call would import: that takes 0.8 s
HIDDEN_METHODS = ("add_param_group", "load_state_dict", "state_dict")
# the hooks of all optimisers, to which torch adds in place
GLOBAL_HOOKS = [
    getattr(optimizer, "_global_optimizer_pre_hooks", {}),
    getattr(optimizer, "_global_optimizer_post_hooks", {}),
]


@lru_cache
def lean(kind: type[Optimizer]) -> Any:
    """Return a class that computes what an optimiser class of torch does, and does not import torch's compiler.

    Its step cannot be compiled, and profilers show it only if it has hooks. That of Adam and AdamW asks less of each
    parameter.
    """
    step = torch.no_grad()(inspect.unwrap(kind.step))
    methods = {name: inspect.unwrap(getattr(Optimizer, name)) for name in HIDDEN_METHODS}
    methods |= {"zero_grad": _zero_grad, "step": _with_hooks(_adam_step(step) if issubclass(kind, Adam) else step)}
    return type(kind.__name__, (kind,), methods | {"__module__": kind.__module__, "__doc__": kind.__doc__})


def _zero_grad(self: Any, set_to_none: bool = True) -> None:
    """Drop the gradients, or set them to zero as torch does."""
    if not set_to_none:
        return inspect.unwrap(Optimizer.zero_grad)(self, set_to_none)
    for group in self.param_groups:
        for p in group["params"]:
            p.grad = None


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step that calls hooks if there are any; torch's wrapper looks for them, and for profilers, in 20 us."""
    with_hooks = Optimizer.profile_hook_step(step)

    @wraps(step)
    def own_step(self: Any, closure: Any = None) -> Any:
        _lay_out_like_weights(self.param_groups)
        own = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        return (with_hooks if own or any(GLOBAL_HOOKS) else step)(self, closure)

    own_step.hooked = True  # type: ignore[attr-defined]  # so that torch does not add its wrapper
    return own_step


def _adam_step(torchs_step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step of Adam and AdamW that calls the kernel itself; what is unusual, as is a first step, torch does."""

    @torch.no_grad()
    def step(self: Any, closure: Any = None) -> Any:
        is_scaled = getattr(self, "grad_scale", None) is not None or getattr(self, "found_inf", None) is not None
        if closure is not None or is_scaled:
            return torchs_step(self, closure)
        columns = [each for group in self.param_groups if (each := _kernel_columns(self.state, group)) is not None]
        if len(columns) < len(self.param_groups):
            return torchs_step(self, closure)
        for group, (params, grads, means, squares, steps) in zip(self.param_groups, columns, strict=True):
            if params:
                torch._foreach_add_(steps, 1)
                kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
                numbers = {name: group[name] for name in ("lr", "weight_decay", "eps", "maximize")}
                beta1, beta2 = group["betas"]
                kernel(params, grads, means, squares, [], steps, amsgrad=False, beta1=beta1, beta2=beta2, **numbers)
        return None

    return step


def _lay_out_like_weights(groups: list[dict[str, Any]]) -> None:
    """Give gradients the memory layout of their weights, in whose order fused kernels read both."""
    for group in groups:
        for p in group["params"]:
            grad = p.grad
            if grad is not None and not grad.is_sparse and grad.stride() != p.stride():
                p.grad = torch.empty_like(p).copy_(grad)


def _kernel_columns(state: dict[Tensor, Any], group: dict[str, Any]) -> tuple[list[Tensor], ...] | None:
    """Return parameters with gradients, these, their two moments and counts of steps; None for what only torch does."""
    numbers = (group["lr"], *group["betas"])
    if not group["fused"] or group["amsgrad"] or group["capturable"] or any(isinstance(n, Tensor) for n in numbers):
        return None
    columns: tuple[list[Tensor], ...] = [], [], [], [], []
    kinds = set()
    for p in group["params"]:
        if (grad := p.grad) is not None:
            kept = state.get(p)
            if not kept or grad.is_sparse:
                return None
            kinds.add((p.device, p.dtype))
            four = p, grad, kept["exp_avg"], kept["exp_avg_sq"]
            if not p.is_contiguous() and p.dim() == 4 and p.is_contiguous(memory_format=torch.channels_last):
                four = tuple(x.permute(0, 2, 3, 1) for x in four)  # for other views the kernel copies the gradient
            for column, x in zip(columns, (*four, kept["step"]), strict=True):
                column.append(x)
    # one call of the kernel is for tensors of one kind, and torch checks that a GPU records no graph of the step
    return columns if len(kinds) < 2 and all(device.type == "cpu" for device, _ in kinds) else None
