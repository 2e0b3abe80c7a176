"""Follow a pickle of weights or state without running it: what it would make, and which bytes it claims."""

import io
import pickletools
from collections.abc import Callable
from typing import Any

from serialization.pickle_types import (
    DEPTH,
    DTYPES,
    NEWER,
    PLAIN,
    SAVE,
    SPARSE_AND_SO_ON,
    STORAGES,
    Global,
    Part,
    Refused,
    Storage,
    alien,
    expect,
    hashable,
    is_count,
    kept,
)

LARGEST = 8 << 20  # bytes of a pickle; tensors lie beside it, so it holds names and numbers only
OPERATIONS, PER_TENSOR = 100_000, 100  # a network's tensor takes about 40
LONGEST_TEXT = 1 << 20
LARGEST_INT = 2**128
VIEWS = 8  # tensors may share bytes, but claim no more than so many times those there


class Outline:
    """What one pickle would make (`root`) and the storages it names; Refused for anything but plain containers.

    legacy: its storages follow the pickle, as torch wrote before 1.6, with views of one another.
    """

    def __init__(self, stream: io.BytesIO, legacy: bool = False):
        self.legacy, self.operations, self.tensors, self.claimed = legacy, 0, 0, 0
        self.storages: dict[str, Storage] = {}
        self.views: dict[str, tuple[Storage, int, int]] = {}
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        start = stream.tell()
        for code, argument, _ in pickletools.genops(stream):
            self.operations += 1
            if self.operations > OPERATIONS + PER_TENSOR * self.tensors:
                raise Refused("holds far more than the names and shapes of weights", "save the state_dict() alone")
            if code.name in CONSTANTS:
                self.stack.append(CONSTANTS[code.name])
            elif code.name in OPERATE:
                OPERATE[code.name](self, argument)
            elif code.name != "STOP":
                raise objects(stream, start) or Refused("holds no weights that are safe to read", SAVE)
        if self.marked or len(self.stack) != 1:
            raise Refused("is damaged or no file of weights (its pickle is unfinished)")
        self.root = kept(self.stack.pop())
        if self.claimed > VIEWS * self.nbytes + (1 << 16):
            raise Refused("has tensors that claim more values than the file holds", "save plain tensors")

    @property
    def nbytes(self) -> int:
        """Return how many bytes all storages hold."""
        return sum(storage.size * storage.numel for storage in self.storages.values())

    def value(self, argument: Any) -> None:
        """Push a number or text."""
        too_large = isinstance(argument, int) and abs(argument) >= LARGEST_INT
        if too_large or (isinstance(argument, str) and len(argument) > LONGEST_TEXT):
            raise Refused("holds numbers or texts too long for weights", SAVE)
        self.stack.append(argument)

    def name(self, argument: str) -> None:
        """Push a global, if it is one of the few that weights need."""
        name = Global(argument.replace("__builtin__ ", "builtins ").replace(" ", "."))
        if argument.count(" ") != 1 or name not in KNOWN:
            raise Refused(f"holds Python objects ({name[:80]}), not just weights", SAVE)
        self.stack.append(name)

    def put(self, index: int) -> None:
        """Remember the topmost thing; picklers count from 0."""
        if index >= self.operations:
            raise Refused("is damaged or no file of weights (its pickle skips numbers)")
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        """Push what was remembered."""
        if index not in self.memo:
            raise Refused("is damaged or no file of weights (its pickle names what is not there)")
        self.stack.append(self.memo[index])

    def mark(self, _: None) -> None:
        """Begin a group."""
        if len(self.marked) > 2 * DEPTH:
            raise Refused("is nested too deep to be weights", "save the state_dict() alone")
        self.marked.append(self.stack)
        self.stack = []

    def group(self) -> list[Any]:
        """Return what came since the last mark."""
        items, self.stack = self.stack, self.marked.pop()
        return items

    def empty(self, kind: str) -> None:
        """Push a new list, dictionary or set."""
        self.stack.append(Part(kind))

    def make_tuple(self, items: list[Any]) -> None:
        """Push a tuple; it may hold what only arguments may be."""
        made = Part("tuple")
        made.take(items)
        made.alien = next((found for found in map(alien, items) if found is not None), None)
        self.stack.append(made)

    def tuple_of(self, count: int) -> None:
        """Push a tuple of the topmost things."""
        if len(self.stack) < count:
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        self.make_tuple(items)

    def append(self, items: list[Any]) -> None:
        """Add to the list below."""
        expect(self.stack[-1], "list").take([kept(item) for item in items])

    def set_items(self, items: list[Any]) -> None:
        """Add keys and values, in turn, to the dictionary below."""
        target = expect(self.stack[-1], "dict", "OrderedDict")
        if len(items) % 2:
            raise Refused("is damaged or no file of weights (a key without a value)")
        for key, item in zip(items[::2], items[1::2], strict=True):
            kept(item, hashable(key))
        target.take(items)

    def persistent(self, _: None) -> None:
        """Push a storage."""
        word, kind, key, location, numel, *view = expect(self.stack.pop(), "tuple").parts
        if isinstance(kind, Global) and kind in SPARSE_AND_SO_ON:
            self.stack.append(Part("alien", kind))
            return
        right = word == "storage" and isinstance(kind, Global) and kind in STORAGES and type(location) is str
        if not (right and type(key) is str and is_count(numel) and len(view) == self.legacy):
            raise Refused("is damaged or no file of weights (a storage without a size)")
        storage = Storage(kind, STORAGES[kind], key, numel)
        if self.storages.setdefault(key, storage) != storage or key in self.views:
            raise Refused("has storages of two sizes under one name", "save plain tensors")
        if view and view[0] is not None:
            storage = self.view(storage, *expect(view[0], "tuple").parts)
        self.stack.append(storage)

    def view(self, whole: Storage, key: Any, offset: Any, numel: Any) -> Storage:
        """Return the part of a storage that old torch calls a storage too."""
        if not (type(key) is str and is_count(offset) and is_count(numel) and offset + numel <= whole.numel):
            raise Refused("has a view beyond its storage", "save plain tensors")
        if key in self.storages or self.views.setdefault(key, (whole, offset, numel)) != (whole, offset, numel):
            raise Refused("has storages of two sizes under one name", "save plain tensors")
        return whole._replace(key=key, numel=numel)

    def reduce(self, _: None) -> None:
        """Replace a function and its arguments by what it would return."""
        arguments, function = expect(self.stack.pop(), "tuple"), self.stack.pop()
        if not isinstance(function, Global):
            raise Refused("holds no weights that are safe to read", SAVE)
        strange = function if function in SPARSE_AND_SO_ON else arguments.alien
        if function in SPARSE_AND_SO_ON or (isinstance(strange, Global) and strange in SPARSE_AND_SO_ON):
            self.stack.append(Part("alien", strange))
        elif function in REBUILD:
            self.stack.append(REBUILD[function](self, *arguments.parts))
        elif function in PLAIN:
            self.stack.append(PLAIN[function](*arguments.parts))
        else:
            raise Refused(f"holds Python objects ({function}), not just weights", SAVE)

    def build(self, _: None) -> None:
        """Accept the one attribute that networks' weights carry: {module: {"version": number}}."""
        state, target = expect(self.stack.pop(), "dict"), expect(self.stack[-1], "OrderedDict")
        modules = state.parts[1] if len(state.parts) == 2 and state.parts[0] == "_metadata" else None
        about = expect(modules, "dict", "OrderedDict").parts if modules is not None else [None, None]
        for key, numbers in zip(about[::2], about[1::2], strict=True):
            plain = isinstance(numbers, Part) and numbers.kind in ("dict", "OrderedDict")
            if type(key) is not str or not plain or any(isinstance(part, Part | Storage) for part in numbers.parts):
                raise Refused("holds attributes, not just weights", SAVE)
        if target.closed:
            raise Refused("holds a container that holds itself")

    def tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, grad: Any = False, hooks: Any = None,
               metadata: Any = None) -> Part:  # fmt: skip
        """Return a tensor that lies within its storage and has no more values than that."""
        if not isinstance(storage, Storage):
            raise Refused("has a tensor without a storage", "save plain tensors")
        sizes, steps = (expect(part, "tuple").parts for part in (shape, stride))
        if not (is_count(offset) and all(map(is_count, [*sizes, *steps])) and len(sizes) == len(steps) <= 32):
            raise Refused("has a tensor of impossible shape", "save plain tensors")
        empty_hooks = hooks is None or not expect(hooks, "OrderedDict", "dict").parts
        if type(grad) is not bool or not empty_hooks or (metadata is not None and expect(metadata, "dict").parts):
            raise Refused("has a tensor with attributes, not just values", "save plain tensors")
        numel = 1
        for size in sizes:
            numel *= size
        end = offset + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True)) + 1 if numel else offset
        if max(numel, end) > storage.numel:
            raise Refused("has a tensor that claims more values than the file holds", "save plain tensors")
        self.tensors, self.claimed = self.tensors + 1, self.claimed + numel * storage.size
        return Part("tensor")

    def newer_tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any,
                     metadata: Any = None) -> Part:  # fmt: skip
        """Return a tensor of a type that stands beside it."""
        if not isinstance(storage, Storage) or storage.size != 1 or dtype not in NEWER:
            return Part("alien", dtype if isinstance(dtype, Global) else storage)
        typed = storage._replace(size=NEWER[dtype], numel=storage.numel // NEWER[dtype])
        return self.tensor(typed, offset, shape, stride, grad, hooks, metadata)

    def parameter(self, data: Any, grad: Any, hooks: Any) -> Part:
        """Return a tensor that is marked as trained."""
        if type(grad) is not bool or expect(hooks, "OrderedDict").parts:
            raise Refused("has a tensor with attributes, not just values", "save plain tensors")
        return expect(data, "tensor")


def objects(stream: io.BytesIO, start: int) -> Refused | None:
    """Return the refusal that names the first Python object a pickle asks for, in any protocol."""
    stream.seek(start)
    texts, name = [""], ""
    for number, (code, argument, _) in enumerate(pickletools.genops(stream)):
        if code.name in ("GLOBAL", "INST"):
            name = str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL":
            name = ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts = [texts[-1], argument]
        if number > OPERATIONS or (name and name not in KNOWN):
            break
    return (
        Refused(f"holds Python objects ({name[:80]}), not just weights", SAVE) if name and name not in KNOWN else None
    )


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
REBUILD: dict[str, Callable[..., Part]] = {
    "torch._utils._rebuild_tensor": Outline.tensor, "torch._utils._rebuild_tensor_v2": Outline.tensor,
    "torch._utils._rebuild_tensor_v3": Outline.newer_tensor, "torch._utils._rebuild_parameter": Outline.parameter,
}  # fmt: skip
KNOWN = {*PLAIN, *REBUILD, *STORAGES, *DTYPES, *SPARSE_AND_SO_ON}
OPERATE: dict[str, Callable[[Outline, Any], None]] = {
    "PROTO": lambda made, _: None,
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"),
                    Outline.value),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), Outline.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), Outline.get),
    "GLOBAL": Outline.name, "MARK": Outline.mark, "REDUCE": Outline.reduce, "BUILD": Outline.build,
    "BINPERSID": Outline.persistent,
    "EMPTY_LIST": lambda made, _: made.empty("list"),
    "EMPTY_DICT": lambda made, _: made.empty("dict"),
    "EMPTY_SET": lambda made, _: made.empty("set"),
    "EMPTY_TUPLE": lambda made, _: made.make_tuple([]),
    "TUPLE": lambda made, _: made.make_tuple(made.group()),
    "TUPLE1": lambda made, _: made.tuple_of(1),
    "TUPLE2": lambda made, _: made.tuple_of(2),
    "TUPLE3": lambda made, _: made.tuple_of(3),
    "APPEND": lambda made, _: made.append([made.stack.pop()]),
    "APPENDS": lambda made, _: made.append(made.group()),
    "SETITEM": lambda made, _: made.set_items([made.stack.pop(-2), made.stack.pop()]),
    "SETITEMS": lambda made, _: made.set_items(made.group()),
}  # fmt: skip
