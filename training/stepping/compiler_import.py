"""Keep torch from importing its compiler, which takes 0.8 s, where nothing is compiled."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


@contextmanager
def without_compiler() -> Iterator[None]:
    """Inside the block, functions that torch hides from its compiler do not import it to be hidden.

    Many operations on meta tensors are such functions. Nothing changes if the compiler is imported already. Any other
    use of the compiler imports it.
    """
    if COMPILER in sys.modules:
        yield
        return
    stand_in = _StandIn(COMPILER)
    sys.modules[COMPILER] = stand_in
    try:
        yield
    finally:
        stand_in.remove()


class _StandIn(ModuleType):
    """The compiler's module, with the one function that hides others from it."""

    def __init__(self, name: str):
        super().__init__(name)
        self.hidden: list[Callable[..., Any]] = []

    def disable(self, function: Any = None, recursive: bool = True, **options: Any) -> Any:
        """Return the function itself, which torch then keeps in the attribute __dynamo_disable until `remove`.

        That is for torch's own functions, which it hides with wrapping=False; others are hidden by the compiler.
        """
        if function is None or options.get("wrapping") is not False:
            return self.__getattr__("disable")(function, recursive, **options)
        self.hidden.append(function)
        return function

    def remove(self) -> None:
        """Leave the place to the compiler, and let torch hide the functions again when it is there."""
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        for function in self.hidden:
            getattr(function, "__dict__", {}).pop("__dynamo_disable", None)
        self.hidden.clear()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # asked by Python's import; __path__ for a module inside
            raise AttributeError(name)
        self.remove()
        return getattr(importlib.import_module(COMPILER), name)
