"""Scan a pickle of weights or state without running it: find what it would build and which bytes it claims."""

import io
import itertools
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from math import prod
from typing import Any

from serialization.pickle_types import (
    CONSTRUCTORS,
    DTYPE_GLOBALS,
    NEWER_DTYPES,
    NOT_DENSE_GLOBALS,
    SAVE_REMEDY,
    STORAGE_GLOBALS,
    WRONG_KIND,
    Global,
    Opaque,
    Storage,
    UnsafeFile,
    check_content,
    check_hashable,
    expect_type,
    is_count,
    is_not_dense,
    is_plain,
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
        self.legacy, self.opcodes, self.tensors, self.claimed_bytes, self.not_dense = legacy, 0, 0, 0, False
        self.storages: dict[str, Storage] = {}
        self.views: dict[str, tuple[Storage, int, int]] = {}
        self.stack: list[Any] = []
        self.mark_stack: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.tensor_attributes: list[dict] = []  # hooks and metadata, which must be empty
        self.state_attributes: list[dict] = []  # of state_dicts
        start = stream.tell()
        for code, argument, _ in pickletools.genops(stream):
            self.opcodes += 1
            if self.opcodes > MAX_OPCODES + OPCODES_PER_TENSOR * self.tensors:
                raise UnsafeFile("holds far more than the names and shapes of weights", "save the state_dict() alone")
            if code.name not in OPCODES:
                unsafe = UnsafeFile("does not hold weights that are safe to read", SAVE_REMEDY)
                raise foreign_object_error(stream, start) or unsafe
            OPCODES[code.name](self, argument)
        if self.mark_stack or len(self.stack) != 1:
            raise UnsafeFile("is damaged or not a file of weights (its pickle is incomplete)")
        self.root = self.stack.pop()
        self.check_result()

    @property
    def nbytes(self) -> int:
        """The size of all storages, in bytes."""
        return sum(storage.itemsize * storage.numel for storage in self.storages.values())

    def check_result(self) -> None:
        """Raise UnsafeFile for what may be judged only at the end, because containers change until then."""
        check_content(self.root)
        if self.not_dense:  # in a place that another value has taken since
            raise UnsafeFile("has a value that is not a dense tensor", "save plain tensors")
        if any(self.tensor_attributes):
            raise UnsafeFile("has a tensor with attributes, not just values", "save plain tensors")
        if not all(map(is_module_versions, self.state_attributes)):
            raise UnsafeFile("holds attributes, not just weights", SAVE_REMEDY)
        if self.claimed_bytes > MAX_VIEW_RATIO * self.nbytes + (1 << 16):
            raise UnsafeFile("has tensors that claim more values than the file holds", "save plain tensors")

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)
        self.not_dense |= value is Opaque.NOT_DENSE

    def pop(self, count: int) -> list[Any]:
        """Return the top `count` items, removed from the stack."""
        if len(self.stack) < count:
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def push_mark(self) -> None:
        """Begin a group of items."""
        self.mark_stack.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        """Return the items since the last mark."""
        items, self.stack = self.stack, self.mark_stack.pop()
        return items

    def memo_put(self, index: int) -> None:
        """Store the top of the stack in the memo; picklers number memo entries from 0."""
        if index >= self.opcodes:
            raise UnsafeFile("is damaged or not a file of weights (its pickle skips memo numbers)")
        self.memo[index] = self.stack[-1]

    def memo_get(self, index: int) -> None:
        """Push a memo entry."""
        if index not in self.memo:
            raise UnsafeFile("is damaged or not a file of weights (its pickle uses a missing memo entry)")
        self.push(self.memo[index])

    def append_items(self, items: list[Any]) -> None:
        """Append items to the list on top of the stack."""
        expect_type(self.stack[-1], list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Add alternating keys and values to the dictionary on top of the stack."""
        target = expect_type(self.stack[-1], dict, OrderedDict)
        if len(items) % 2:
            raise UnsafeFile("is damaged or not a file of weights (a key without a value)")
        target.update((check_hashable(key), value) for key, value in zip(items[::2], items[1::2], strict=True))

    def set_attributes(self) -> None:
        """Note the attributes that the state_dict below them on the stack gets now."""
        self.state_attributes.append(dict(expect_type(self.stack.pop(), dict)))
        expect_type(self.stack[-1], OrderedDict)

    def storage(self, word: Any, kind: Any, key: Any, location: Any, numel: Any, *view: Any) -> Any:
        """Return the storage that a persistent id describes."""
        if is_not_dense(kind) and kind not in STORAGE_GLOBALS:
            return Opaque.NOT_DENSE
        right = word == "storage" and isinstance(kind, Global) and kind in STORAGE_GLOBALS and type(location) is str
        if not (right and type(key) is str and is_count(numel) and len(view) == self.legacy):
            raise UnsafeFile("is damaged or not a file of weights (a storage without a size)")
        storage = Storage(kind, STORAGE_GLOBALS[kind], key, numel)
        if self.storages.setdefault(key, storage) != storage or key in self.views:
            raise UnsafeFile("has storages of two sizes under one name", "save plain tensors")
        if view and view[0] is not None:
            return self.storage_view(storage, *expect_type(view[0], tuple))
        return storage

    def storage_view(self, whole: Storage, key: Any, offset: Any, numel: Any) -> Storage:
        """Return the part of a storage that the legacy format stores as a storage."""
        if not (type(key) is str and is_count(offset) and is_count(numel) and offset + numel <= whole.numel):
            raise UnsafeFile("has a view beyond its storage", "save plain tensors")
        if key in self.storages or self.views.setdefault(key, (whole, offset, numel)) != (whole, offset, numel):
            raise UnsafeFile("has storages of two sizes under one name", "save plain tensors")
        return whole._replace(key=key, numel=numel)

    def result(self, function: Any, arguments: Any) -> Any:
        """Return the value that a function would return for a tuple of arguments."""
        expect_type(arguments, tuple)
        if not isinstance(function, Global):
            raise UnsafeFile("does not hold weights that are safe to read", SAVE_REMEDY)
        if any(map(is_not_dense, [function, *arguments])):
            return Opaque.NOT_DENSE
        if function in REBUILDERS:
            return REBUILDERS[function](self, *arguments)
        if function in CONSTRUCTORS:
            return CONSTRUCTORS[function](*arguments)
        raise UnsafeFile(f"holds Python objects ({function}), not just weights", SAVE_REMEDY)

    def rebuild_tensor(self, storage, offset, shape, stride, grad=False, hooks=None, metadata=None) -> Opaque:
        """Return a tensor; UnsafeFile unless it lies within its storage and has no more values than it."""
        if not isinstance(storage, Storage):
            raise UnsafeFile("has a tensor without a storage", "save plain tensors")
        sizes, steps = expect_type(shape, tuple), expect_type(stride, tuple)
        if not (is_count(offset) and all(map(is_count, [*sizes, *steps])) and len(sizes) == len(steps) <= 32):
            raise UnsafeFile("has a tensor with an impossible shape", "save plain tensors")
        self.check_attributes(grad, hooks, metadata)
        numel = prod(sizes)
        end = offset + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True)) + 1 if numel else offset
        if max(numel, end) > storage.numel:
            raise UnsafeFile("has a tensor that claims more values than the file holds", "save plain tensors")
        self.tensors, self.claimed_bytes = self.tensors + 1, self.claimed_bytes + numel * storage.itemsize
        return Opaque.TENSOR

    def rebuild_tensor_v3(self, storage, offset, shape, stride, grad, hooks, dtype, metadata=None) -> Opaque:
        """Return a tensor whose dtype is a separate argument."""
        if not isinstance(storage, Storage) or storage.itemsize != 1 or dtype not in NEWER_DTYPES:
            return Opaque.NOT_DENSE
        typed = storage._replace(itemsize=NEWER_DTYPES[dtype], numel=storage.numel // NEWER_DTYPES[dtype])
        return self.rebuild_tensor(typed, offset, shape, stride, grad, hooks, metadata)

    def rebuild_parameter(self, data: Any, grad: Any, hooks: Any) -> Opaque:
        """Return the tensor of a Parameter."""
        if data is not Opaque.TENSOR:
            raise UnsafeFile(WRONG_KIND)
        self.check_attributes(grad, hooks)
        return data

    def check_attributes(self, grad: Any, *attributes: Any) -> None:
        """Note a tensor's hooks and metadata; UnsafeFile unless requires_grad is a bool and they are dictionaries."""
        if type(grad) is not bool:
            raise UnsafeFile("has a tensor with attributes, not just values", "save plain tensors")
        self.tensor_attributes += [expect_type(part, OrderedDict, dict) for part in attributes if part is not None]


def check_length(value: Any) -> Any:
    """Return a number or text; UnsafeFile if it is too long."""
    too_large = isinstance(value, int) and abs(value) >= MAX_INT
    if too_large or (isinstance(value, str) and len(value) > MAX_TEXT_CHARS):
        raise UnsafeFile("holds numbers or texts that are too long for weights", SAVE_REMEDY)
    return value


def allowed_global(argument: str) -> Global:
    """Return the global that an opcode names; UnsafeFile unless it is on the allow-list."""
    name = Global(argument.replace("__builtin__ ", "builtins ").replace(" ", "."))
    if argument.count(" ") != 1 or not is_allowed(name):
        raise UnsafeFile(f"holds Python objects ({name[:80]}), not just weights", SAVE_REMEDY)
    return name


def is_allowed(name: str) -> bool:
    """Whether a global is on the allow-list."""
    known = (CONSTRUCTORS, REBUILDERS, STORAGE_GLOBALS, DTYPE_GLOBALS)
    return any(name in names for names in known) or NOT_DENSE_GLOBALS.fullmatch(name) is not None


def is_module_versions(state: dict) -> bool:
    """Whether this is {"_metadata": {module: {"version": number}}}, which a state_dict has as attributes.

    Spectral norm stores a table of numbers there: {"spectral_norm": {"weight.version": 1}}.
    """
    modules = state.get("_metadata")
    if len(state) != 1 or not isinstance(modules, dict):
        return False
    tables = [about for about in modules.values() if isinstance(about, dict)]
    values = [value for about in tables for value in about.values()]
    inner = [inside for value in values if isinstance(value, dict) for inside in value.values()]
    plain = all(map(is_plain, [*inner, *(value for value in values if not isinstance(value, dict))]))
    return len(tables) == len(modules) and all(type(module) is str for module in modules) and plain


def foreign_object_error(stream: io.BytesIO, start: int) -> UnsafeFile | None:
    """Return the error that names the first Python object a pickle uses, in any protocol; None without one."""
    stream.seek(start)
    texts = [""]
    for code, argument, _ in itertools.islice(pickletools.genops(stream), MAX_OPCODES):
        name = ""
        if code.name in ("GLOBAL", "INST"):
            name = str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL":
            name = ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts = [texts[-1], argument]
        if name and not is_allowed(name):
            return UnsafeFile(f"holds Python objects ({name[:80]}), not just weights", SAVE_REMEDY)
    return None


REBUILDERS: dict[str, Callable[..., Opaque]] = {
    "torch._utils._rebuild_tensor": PickleScan.rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": PickleScan.rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": PickleScan.rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": PickleScan.rebuild_parameter,
}
OPCODES: dict[str, Callable[[PickleScan, Any], None]] = {
    "PROTO": lambda scan, _: None, "STOP": lambda scan, _: None,
    "NONE": lambda scan, _: scan.push(None), "NEWTRUE": lambda scan, _: scan.push(True),
    "NEWFALSE": lambda scan, _: scan.push(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"),
                    lambda scan, value: scan.push(check_length(value))),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), PickleScan.memo_put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), PickleScan.memo_get),
    "GLOBAL": lambda scan, name: scan.push(allowed_global(name)),
    "MARK": lambda scan, _: scan.push_mark(),
    "EMPTY_LIST": lambda scan, _: scan.push([]), "EMPTY_DICT": lambda scan, _: scan.push({}),
    "EMPTY_TUPLE": lambda scan, _: scan.push(()), "EMPTY_SET": lambda scan, _: scan.push(Opaque.OTHER),
    "TUPLE": lambda scan, _: scan.push(tuple(scan.pop_mark())),
    "TUPLE1": lambda scan, _: scan.push(tuple(scan.pop(1))),
    "TUPLE2": lambda scan, _: scan.push(tuple(scan.pop(2))),
    "TUPLE3": lambda scan, _: scan.push(tuple(scan.pop(3))),
    "APPEND": lambda scan, _: scan.append_items(scan.pop(1)),
    "APPENDS": lambda scan, _: scan.append_items(scan.pop_mark()),
    "SETITEM": lambda scan, _: scan.set_items(scan.pop(2)),
    "SETITEMS": lambda scan, _: scan.set_items(scan.pop_mark()),
    "BINPERSID": lambda scan, _: scan.push(scan.storage(*expect_type(scan.stack.pop(), tuple))),
    "REDUCE": lambda scan, _: scan.push(scan.result(*scan.pop(2))),
    "BUILD": lambda scan, _: scan.set_attributes(),
}  # fmt: skip
