"""Values found by scanning pickles of weights and states, and the allow-list of globals."""

import itertools
import re
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

MAX_DEPTH, MAX_ITEMS = 64, 1_000_000  # limits of a value: nesting depth, and items counted with repetitions
WRONG_KIND = "is damaged or not a file of weights (its pickle has values of the wrong kind)"
SAVE_REMEDY = "save the network's state_dict() instead"
ITEMSIZES = {"Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1,
             "Bool": 1, "ComplexFloat": 8, "ComplexDouble": 16}  # fmt: skip
STORAGE_GLOBALS = {f"{module}.{name}Storage": n for module in ("torch", "torch.cuda") for name, n in ITEMSIZES.items()}
STORAGE_GLOBALS["torch.storage.UntypedStorage"] = 1
NEWER_DTYPES = {"torch.uint16": 2, "torch.uint32": 4, "torch.uint64": 8}  # dtypes without their own storage class
DTYPE_GLOBALS = NEWER_DTYPES.keys() | {
    f"torch.{name}" for name in ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64",
                                 "uint8", "bool", "complex64", "complex128")}  # fmt: skip
NOT_DENSE_GLOBALS = re.compile(  # what torch writes for tensors and storages that are sparse, quantised, meta, ...
    r"torch\.(nn\.parameter\.Parameter|Tensor|serialization\._get_layout|Q\w+Storage|float8_\w+|per_(tensor|channel)_\w+"
    r"|_tensor\._rebuild_from_type_v2|_utils\._rebuild_(parameter_with_state|\w+_tensor\w*|qtensor|wrapper_subclass))"
)


class UnsafeFile(ValueError):
    """The reason why a file is not read, and the remedy; the caller adds the file's name."""

    def __init__(self, why: str, remedy: str = "copy it again"):
        super().__init__(why, remedy)


class Storage(NamedTuple):
    """The bytes of tensors: `numel` values of `itemsize` bytes, stored in the file under `key`."""

    kind: str
    itemsize: int
    key: str
    numel: int


class Global(str):
    """A global that the pickle names: module.name."""


class Opaque(Enum):
    """A value whose content does not matter."""

    TENSOR = "a dense tensor within its storage"
    NOT_DENSE = "a tensor that is not dense, which must not be in the file"
    BYTES = "bytes"
    OTHER = "a set, device or complex number"


def expect_type(thing: Any, *types: type) -> Any:
    """Return a value of one of these types; UnsafeFile for any other, also for a subclass."""
    if type(thing) not in types:
        raise UnsafeFile(WRONG_KIND)
    return thing


def is_not_dense(thing: Any) -> bool:
    """Whether this is a tensor that is not dense, or a global for making such tensors or storages."""
    if isinstance(thing, Global):
        return thing in STORAGE_GLOBALS or NOT_DENSE_GLOBALS.fullmatch(thing) is not None
    return thing is Opaque.NOT_DENSE


def check_content(root: Any) -> None:
    """Raise UnsafeFile if a value holds a function, a bare storage, a tensor that is not dense, or itself."""
    counter = itertools.count(1)

    def check(thing: Any, key: Any, around: tuple[int, ...]) -> None:  # around: ids of the containers it is in
        if len(around) > MAX_DEPTH or next(counter) > MAX_ITEMS:
            why = "is nested too deep or repeats itself too often to be weights"
            raise UnsafeFile(why, "save the state_dict() alone")
        if isinstance(thing, Storage) or is_not_dense(thing):
            what = f"its '{key[:100]}' is" if type(key) is str else "has a value that is"
            raise UnsafeFile(f"{what} not a dense tensor", "save plain tensors")
        if isinstance(thing, Global) and thing not in DTYPE_GLOBALS:
            raise UnsafeFile(f"holds Python objects ({thing}), not just weights", SAVE_REMEDY)
        if id(thing) in around:
            raise UnsafeFile("holds a container that contains itself")
        around = (*around, id(thing))
        if isinstance(thing, dict):
            for inner_key, value in thing.items():
                check(value, inner_key, around)
        elif isinstance(thing, list | tuple):
            for value in thing:
                check(value, key if isinstance(thing, tuple) else None, around)

    check(root, None, ())


def check_hashable(key: Any) -> Any:
    """Return a key; UnsafeFile unless it is a text, a number or a tuple of these, whose hashes are harmless."""
    parts = key if type(key) is tuple else [key]
    if not all(map(is_plain, parts)):
        raise UnsafeFile("has keys that are neither texts nor numbers", SAVE_REMEDY)
    return key


def is_plain(thing: Any) -> bool:
    """Whether this is a text, a number or None."""
    return type(thing) in (str, int, float, bool, type(None))


def is_count(number: Any) -> bool:
    """Whether this is an int in [0, 2**48)."""
    return type(number) is int and 0 <= number < 2**48


def _ordered_dict(pairs: Any = ()) -> OrderedDict:
    made = OrderedDict()
    for pair in expect_type(pairs, list, tuple):  # the form that Python 2 wrote
        key, value = expect_type(pair, list, tuple)
        made[check_hashable(key)] = value
    return made


def _set(items: Any) -> Opaque:
    for item in expect_type(items, list, tuple):
        check_hashable(item)
    return Opaque.OTHER


def _encoded_bytes(text: Any, encoding: Any) -> Opaque:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        why = f"holds Python objects (_codecs.encode to {str(encoding)[:20]}), not just weights"
        raise UnsafeFile(why, SAVE_REMEDY)
    return Opaque.BYTES


def _bytearray(content: Any = Opaque.BYTES, *encoding: Any) -> Opaque:
    if not encoding and content is not Opaque.BYTES:  # a number would be the size of a bytearray
        raise UnsafeFile(WRONG_KIND)
    return _encoded_bytes(content, *encoding) if encoding else Opaque.BYTES


def _torch_size(numbers: Any) -> tuple[int, ...]:
    if not all(map(is_count, expect_type(numbers, tuple, list))):
        raise UnsafeFile("has a tensor with an impossible shape", "save plain tensors")
    return tuple(numbers)


def _scalar(*numbers: Any) -> Opaque:
    for number in numbers:
        expect_type(number, int, float, str)
    return Opaque.OTHER


CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.Counter": lambda counts: dict(expect_type(counts, dict)),
    "builtins.set": _set,
    "builtins.complex": _scalar,
    "builtins.bytearray": _bytearray,
    "_codecs.encode": _encoded_bytes,
    "torch.Size": _torch_size,
    "torch.device": _scalar,
}
