"""Seed the random generators, borrow them temporarily, and save and restore their state."""

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any

import numpy as np
import torch

from util.ranks import pulse

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # the variable that makes cuBLAS reproducible


def seed_everything(seed: int, deterministic: bool = False, one_size: bool = False) -> None:
    """Seed the generators of torch (all devices), random and numpy; deterministic also selects reproducible operations.

    one_size: all images have the same size, so that cuDNN's search for the fastest convolutions pays off.
    """
    seed_generators(seed)
    if deterministic:
        os.environ.setdefault(_WORKSPACE, ":4096:8")
        # only warn, because reflection padding has no deterministic form on CUDA
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = one_size and not deterministic


def seed_generators(seed: int) -> None:
    """Seed the generators of torch (all devices), random and numpy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def restores_settings(command: Callable) -> Callable:
    """Decorate a function or generator: what seed_everything sets besides seeds is as before when it ends."""

    @wraps(command)
    def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with _kept_settings():
            return (yield from command(*args, **kwargs))

    @wraps(command)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _kept_settings():
            return command(*args, **kwargs)

    return generate if isgeneratorfunction(command) else call


@contextmanager
def _kept_settings() -> Iterator[None]:
    deterministic = _deterministic_settings()
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(_WORKSPACE)
    try:
        yield
    finally:
        if _deterministic_settings() != deterministic:  # this call imports torch's compiler, which takes 0.8 s
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)


def _deterministic_settings() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def mix_seed(seed: int, epoch: int, index: int) -> int:
    """Return 64 well-mixed bits of (seed, epoch, index), the same in every process and version."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=8).digest(), "big")


@contextmanager
def fork_rng(bits: int):
    """Seed torch's CPU generator, random and numpy inside the block; restore their states after it."""
    saved = torch.get_rng_state(), random.getstate(), np.random.get_state()
    torch.default_generator.manual_seed(bits)
    random.seed(bits)
    np.random.seed(bits % 2**32)
    try:
        yield
    finally:
        torch.set_rng_state(saved[0])
        random.setstate(saved[1])
        np.random.set_state(saved[2])


_common: list[Any] = []  # torch's generators for common_draws; [] in one process


def split_generators(seed: int) -> None:
    """Seed this process's own draws; common_draws goes on with torch's generators as they are."""
    _common[:] = _torch_states()
    seed_generators(seed)


@contextmanager
def common_draws() -> Iterator[None]:
    """Inside the block, torch draws in every process of a training step what one process alone would draw."""
    if pulse.share is None or not _common:
        yield
        return
    own, share = _torch_states(), pulse.share
    _set_torch_states(_common)
    pulse.share = None  # the block may call this again
    try:
        yield
    finally:
        pulse.share, _common[:] = share, _torch_states()
        _set_torch_states(own)


def exchange_common(states: list[Any]) -> list[Any]:
    """Let common_draws go on with other states of torch's generators; return the former ones."""
    former, _common[:] = list(_common), states
    return former


def _torch_states() -> list[Any]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])]


def _set_torch_states(states: list[Any]) -> None:
    torch.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state(states[1])


def generator_states() -> dict[str, Any]:
    """Return the state of every generator that a training step may use, as tensors and numbers."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "random": random.getstate(),
        "numpy": (str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
    } | ({"common": list(_common)} if _common else {})


def restore_generators(states: dict[str, Any]) -> None:
    """Restore the states from `generator_states`; ValueError for states that are impossible."""
    torch.set_rng_state(states["torch"])
    _common[:] = states.get("common", [])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    *_, spare = states["random"]
    kind, keys, place, *rest = states["numpy"]
    sound = type(place) is int and 0 <= place <= keys.numel() and (spare is None or type(spare) is float)
    if not sound or not all(type(number) in (int, float) for number in rest):  # random and numpy do not check this
        raise ValueError("the state of a random generator is damaged")
    random.setstate(states["random"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), place, *rest))
