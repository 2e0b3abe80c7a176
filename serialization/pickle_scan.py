"""Scan a pickle of weights or state without running it: find what it would build and which bytes it claims."""

import io
import pickletools
from collections.abc import Callable
from typing import Any

from serialization.pickle_types import (
    CONSTRUCTORS,
    DTYPE_GLOBALS,
    MAX_DEPTH,
    NEWER_DTYPES,
    NON_DENSE_GLOBALS,
    SAVE_REMEDY,
    STORAGE_GLOBALS,
    Global,
    PickleValue,
    Storage,
    UnsafeFile,
    check_hashable,
    check_storable,
    disallowed_content,
    expect_kind,
    is_count,
)

MAX_PICKLE_BYTES = 8 << 20  # bytes of a pickle; tensors are stored outside it, so it holds only names and numbers
MAX_OPCODES, OPCODES_PER_TENSOR = 100_000, 100  # a network's tensor takes about 40 opcodes
MAX_TEXT_CHARS = 1 << 20
MAX_INT = 2**128
MAX_VIEW_RATIO = 8  # tensors may share bytes, but may claim at most this multiple of the stored bytes


class PickleScan:
    """The value a pickle would build (`root`) and its storages; raises UnsafeFile for anything but plain containers.

    legacy: the format before torch 1.6, where storages follow the pickle and may be views of one another.
    """

    def __init__(self, stream: io.BytesIO, legacy: bool = False):
        self.legacy, self.opcodes, self.tensors, self.claimed_bytes = legacy, 0, 0, 0
        self.storages: dict[str, Storage] = {}
        self.views: dict[str, tuple[Storage, int, int]] = {}
        self.stack: list[Any] = []
        self.mark_stack: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        start = stream.tell()
        for code, argument, _ in pickletools.genops(stream):
            self.opcodes += 1
            if self.opcodes > MAX_OPCODES + OPCODES_PER_TENSOR * self.tensors:
                raise UnsafeFile("holds far more than the names and shapes of weights", "save the state_dict() alone")
            if code.name in CONSTANT_OPCODES:
                self.stack.append(CONSTANT_OPCODES[code.name])
            elif code.name in OPCODE_HANDLERS:
                OPCODE_HANDLERS[code.name](self, argument)
            elif code.name != "STOP":
                unsafe = UnsafeFile("does not hold weights that are safe to read", SAVE_REMEDY)
                raise foreign_object_error(stream, start) or unsafe
        if self.mark_stack or len(self.stack) != 1:
            raise UnsafeFile("is damaged or not a file of weights (its pickle is incomplete)")
        self.root = check_storable(self.stack.pop())
        if self.claimed_bytes > MAX_VIEW_RATIO * self.nbytes + (1 << 16):
            raise UnsafeFile("has tensors that claim more values than the file holds", "save plain tensors")

    @property
    def nbytes(self) -> int:
        """The size of all storages, in bytes."""
        return sum(storage.itemsize * storage.numel for storage in self.storages.values())

    def push_number_or_text(self, argument: Any) -> None:
        """Push a number or text."""
        too_large = isinstance(argument, int) and abs(argument) >= MAX_INT
        if too_large or (isinstance(argument, str) and len(argument) > MAX_TEXT_CHARS):
            raise UnsafeFile("holds numbers or texts that are too long for weights", SAVE_REMEDY)
        self.stack.append(argument)

    def push_global(self, argument: str) -> None:
        """Push a global; UnsafeFile unless it is on the allow-list."""
        name = Global(argument.replace("__builtin__ ", "builtins ").replace(" ", "."))
        if argument.count(" ") != 1 or name not in ALLOWED_GLOBALS:
            raise UnsafeFile(f"holds Python objects ({name[:80]}), not just weights", SAVE_REMEDY)
        self.stack.append(name)

    def memo_put(self, index: int) -> None:
        """Store the top of the stack in the memo; picklers number memo entries from 0."""
        if index >= self.opcodes:
            raise UnsafeFile("is damaged or not a file of weights (its pickle skips memo numbers)")
        self.memo[index] = self.stack[-1]

    def memo_get(self, index: int) -> None:
        """Push a memo entry."""
        if index not in self.memo:
            raise UnsafeFile("is damaged or not a file of weights (its pickle uses a missing memo entry)")
        self.stack.append(self.memo[index])

    def push_mark(self, _: None) -> None:
        """Begin a group of items."""
        if len(self.mark_stack) > 2 * MAX_DEPTH:
            raise UnsafeFile("is nested too deep to be weights", "save the state_dict() alone")
        self.mark_stack.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        """Return the items since the last mark."""
        items, self.stack = self.stack, self.mark_stack.pop()
        return items

    def push_empty(self, kind: str) -> None:
        """Push an empty list, dictionary or set."""
        self.stack.append(PickleValue(kind))

    def push_tuple(self, items: list[Any]) -> None:
        """Push a tuple; it may hold values that are allowed only as arguments, marked in `disallowed`."""
        value = PickleValue("tuple")
        value.extend(items)
        value.disallowed = next((found for found in map(disallowed_content, items) if found is not None), None)
        self.stack.append(value)

    def push_tuple_of(self, count: int) -> None:
        """Replace the top `count` items by a tuple of them."""
        if len(self.stack) < count:
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        self.push_tuple(items)

    def append_items(self, items: list[Any]) -> None:
        """Append items to the list on top of the stack."""
        expect_kind(self.stack[-1], "list").extend([check_storable(item) for item in items])

    def set_items(self, items: list[Any]) -> None:
        """Add alternating keys and values to the dictionary on top of the stack."""
        target = expect_kind(self.stack[-1], "dict", "OrderedDict")
        if len(items) % 2:
            raise UnsafeFile("is damaged or not a file of weights (a key without a value)")
        for key, item in zip(items[::2], items[1::2], strict=True):
            check_storable(item, check_hashable(key))
        target.extend(items)

    def push_storage(self, _: None) -> None:
        """Push the storage that a persistent id describes."""
        word, kind, key, location, numel, *view = expect_kind(self.stack.pop(), "tuple").items
        if isinstance(kind, Global) and kind in NON_DENSE_GLOBALS:
            self.stack.append(PickleValue("disallowed", kind))
            return
        right = word == "storage" and isinstance(kind, Global) and kind in STORAGE_GLOBALS and type(location) is str
        if not (right and type(key) is str and is_count(numel) and len(view) == self.legacy):
            raise UnsafeFile("is damaged or not a file of weights (a storage without a size)")
        storage = Storage(kind, STORAGE_GLOBALS[kind], key, numel)
        if self.storages.setdefault(key, storage) != storage or key in self.views:
            raise UnsafeFile("has storages of two sizes under one name", "save plain tensors")
        if view and view[0] is not None:
            storage = self.storage_view(storage, *expect_kind(view[0], "tuple").items)
        self.stack.append(storage)

    def storage_view(self, whole: Storage, key: Any, offset: Any, numel: Any) -> Storage:
        """Return the part of a storage that the legacy format stores as a storage."""
        if not (type(key) is str and is_count(offset) and is_count(numel) and offset + numel <= whole.numel):
            raise UnsafeFile("has a view beyond its storage", "save plain tensors")
        if key in self.storages or self.views.setdefault(key, (whole, offset, numel)) != (whole, offset, numel):
            raise UnsafeFile("has storages of two sizes under one name", "save plain tensors")
        return whole._replace(key=key, numel=numel)

    def reduce(self, _: None) -> None:
        """Replace a function and its arguments by the value it would return."""
        arguments, function = expect_kind(self.stack.pop(), "tuple"), self.stack.pop()
        if not isinstance(function, Global):
            raise UnsafeFile("does not hold weights that are safe to read", SAVE_REMEDY)
        strange = function if function in NON_DENSE_GLOBALS else arguments.disallowed
        if function in NON_DENSE_GLOBALS or (isinstance(strange, Global) and strange in NON_DENSE_GLOBALS):
            self.stack.append(PickleValue("disallowed", strange))
        elif function in REBUILDERS:
            self.stack.append(REBUILDERS[function](self, *arguments.items))
        elif function in CONSTRUCTORS:
            self.stack.append(CONSTRUCTORS[function](*arguments.items))
        else:
            raise UnsafeFile(f"holds Python objects ({function}), not just weights", SAVE_REMEDY)

    def build(self, _: None) -> None:
        """Accept a state_dict's one attribute, `_metadata`: {module: {"version": number}}; UnsafeFile for others.

        Spectral norm stores a table of numbers there: {"spectral_norm": {"weight.version": 1}}.
        """
        state, target = expect_kind(self.stack.pop(), "dict"), expect_kind(self.stack[-1], "OrderedDict")
        modules = state.items[1] if len(state.items) == 2 and state.items[0] == "_metadata" else None
        about = expect_kind(modules, "dict", "OrderedDict").items if modules is not None else [None, None]
        for key, numbers in zip(about[::2], about[1::2], strict=True):
            if type(key) is not str or not _is_flat_table(numbers, tables_inside=True):
                raise UnsafeFile("holds attributes, not just weights", SAVE_REMEDY)
        if target.frozen:
            raise UnsafeFile("holds a container that contains itself")

    def rebuild_tensor(self, storage, offset, shape, stride, grad=False, hooks=None, metadata=None) -> PickleValue:
        """Return a tensor; UnsafeFile unless it lies within its storage and has no more values than it."""
        if not isinstance(storage, Storage):
            raise UnsafeFile("has a tensor without a storage", "save plain tensors")
        sizes, steps = (expect_kind(part, "tuple").items for part in (shape, stride))
        if not (is_count(offset) and all(map(is_count, [*sizes, *steps])) and len(sizes) == len(steps) <= 32):
            raise UnsafeFile("has a tensor with an impossible shape", "save plain tensors")
        empty_hooks = hooks is None or not expect_kind(hooks, "OrderedDict", "dict").items
        if type(grad) is not bool or not empty_hooks or (metadata is not None and expect_kind(metadata, "dict").items):
            raise UnsafeFile("has a tensor with attributes, not just values", "save plain tensors")
        numel = 1
        for size in sizes:
            numel *= size
        end = offset + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True)) + 1 if numel else offset
        if max(numel, end) > storage.numel:
            raise UnsafeFile("has a tensor that claims more values than the file holds", "save plain tensors")
        self.tensors, self.claimed_bytes = self.tensors + 1, self.claimed_bytes + numel * storage.itemsize
        return PickleValue("tensor")

    def rebuild_tensor_v3(self, storage, offset, shape, stride, grad, hooks, dtype, metadata=None) -> PickleValue:
        """Return a tensor whose dtype is a separate argument."""
        if not isinstance(storage, Storage) or storage.itemsize != 1 or dtype not in NEWER_DTYPES:
            return PickleValue("disallowed", dtype if isinstance(dtype, Global) else storage)
        typed = storage._replace(itemsize=NEWER_DTYPES[dtype], numel=storage.numel // NEWER_DTYPES[dtype])
        return self.rebuild_tensor(typed, offset, shape, stride, grad, hooks, metadata)

    def rebuild_parameter(self, data: Any, grad: Any, hooks: Any) -> PickleValue:
        """Return the tensor of a Parameter."""
        if type(grad) is not bool or expect_kind(hooks, "OrderedDict").items:
            raise UnsafeFile("has a tensor with attributes, not just values", "save plain tensors")
        return expect_kind(data, "tensor")


def _is_flat_table(value: Any, tables_inside: bool = False) -> bool:
    """Whether a value is a dictionary of numbers and texts, and of such dictionaries if `tables_inside`."""
    return (
        isinstance(value, PickleValue)
        and value.kind in ("dict", "OrderedDict")
        and all(
            not isinstance(item, PickleValue | Storage) or (tables_inside and _is_flat_table(item))
            for item in value.items
        )
    )


def foreign_object_error(stream: io.BytesIO, start: int) -> UnsafeFile | None:
    """Return the error that names the first Python object a pickle uses, in any protocol; None without one."""
    stream.seek(start)
    texts, name = [""], ""
    for number, (code, argument, _) in enumerate(pickletools.genops(stream)):
        if code.name in ("GLOBAL", "INST"):
            name = str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL":
            name = ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts = [texts[-1], argument]
        if number > MAX_OPCODES or (name and name not in ALLOWED_GLOBALS):
            break
    if not name or name in ALLOWED_GLOBALS:
        return None
    return UnsafeFile(f"holds Python objects ({name[:80]}), not just weights", SAVE_REMEDY)


CONSTANT_OPCODES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
REBUILDERS: dict[str, Callable[..., PickleValue]] = {
    "torch._utils._rebuild_tensor": PickleScan.rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": PickleScan.rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": PickleScan.rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": PickleScan.rebuild_parameter,
}
ALLOWED_GLOBALS = {*CONSTRUCTORS, *REBUILDERS, *STORAGE_GLOBALS, *DTYPE_GLOBALS, *NON_DENSE_GLOBALS}
OPCODE_HANDLERS: dict[str, Callable[[PickleScan, Any], None]] = {
    "PROTO": lambda scan, _: None,
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"),
                    PickleScan.push_number_or_text),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), PickleScan.memo_put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), PickleScan.memo_get),
    "GLOBAL": PickleScan.push_global, "MARK": PickleScan.push_mark, "REDUCE": PickleScan.reduce,
    "BUILD": PickleScan.build, "BINPERSID": PickleScan.push_storage,
    "EMPTY_LIST": lambda scan, _: scan.push_empty("list"),
    "EMPTY_DICT": lambda scan, _: scan.push_empty("dict"),
    "EMPTY_SET": lambda scan, _: scan.push_empty("set"),
    "EMPTY_TUPLE": lambda scan, _: scan.push_tuple([]),
    "TUPLE": lambda scan, _: scan.push_tuple(scan.pop_mark()),
    "TUPLE1": lambda scan, _: scan.push_tuple_of(1),
    "TUPLE2": lambda scan, _: scan.push_tuple_of(2),
    "TUPLE3": lambda scan, _: scan.push_tuple_of(3),
    "APPEND": lambda scan, _: scan.append_items([scan.stack.pop()]),
    "APPENDS": lambda scan, _: scan.append_items(scan.pop_mark()),
    "SETITEM": lambda scan, _: scan.set_items([scan.stack.pop(-2), scan.stack.pop()]),
    "SETITEMS": lambda scan, _: scan.set_items(scan.pop_mark()),
}  # fmt: skip
