"""Abstract values for scanning pickles of weights and states, and the allow-list of globals."""

from collections.abc import Callable
from typing import Any, NamedTuple

MAX_DEPTH, MAX_ITEMS = 64, 1_000_000  # limits of a value: nesting depth, and items counted with repetitions
SAVE_REMEDY = "save the network's state_dict() instead"
ITEMSIZES = {"Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1,
             "Bool": 1, "ComplexFloat": 8, "ComplexDouble": 16}  # fmt: skip
STORAGE_GLOBALS = {f"{module}.{name}Storage": n for module in ("torch", "torch.cuda") for name, n in ITEMSIZES.items()}
STORAGE_GLOBALS["torch.storage.UntypedStorage"] = 1
NEWER_DTYPES = {"torch.uint16": 2, "torch.uint32": 4, "torch.uint64": 8}  # dtypes without their own storage class
DTYPE_GLOBALS = NEWER_DTYPES.keys() | {
    f"torch.{name}" for name in ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64",
                                 "uint8", "bool", "complex64", "complex128")}  # fmt: skip
NON_DENSE_GLOBALS = {"torch.nn.parameter.Parameter", "torch.Tensor", "torch.serialization._get_layout",
                     "torch._tensor._rebuild_from_type_v2", "torch._utils._rebuild_parameter_with_state",
                     *(f"torch._utils._rebuild_{name}" for name in (
                         "sparse_tensor", "qtensor", "nested_tensor", "meta_tensor_no_storage", "wrapper_subclass",
                         "device_tensor_from_numpy", "device_tensor_from_cpu_tensor")),
                     *(f"torch.{name}Storage" for name in ("QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")),
                     *(f"torch.float8_{name}" for name in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")),
                     *(f"torch.per_{name}" for name in (
                         "tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric",
                         "channel_affine_float_qparams"))}  # fmt: skip


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


class PickleValue:
    """A built value: a list, dict, tuple ... or a placeholder for a value whose content does not matter."""

    __slots__ = ("depth", "disallowed", "frozen", "item_count", "items", "kind")

    def __init__(self, kind: str, disallowed: Any = None):
        # disallowed: content that must not be stored: a global, a bare storage, a tensor that is not dense
        self.kind, self.disallowed = kind, disallowed
        self.items: tuple[Any, ...] | list[Any] = ()  # in a dictionary: alternating keys and values
        self.depth, self.item_count, self.frozen = 0, 1, False

    def extend(self, items: list[Any]) -> None:
        """Add items; UnsafeFile if this container is already inside another one, so that none can contain itself."""
        if self.frozen:
            raise UnsafeFile("holds a container that contains itself")
        self.items = [*self.items, *items] if self.items else items
        for item in items:
            if isinstance(item, PickleValue):
                item.frozen = True
                self.depth, self.item_count = max(self.depth, item.depth + 1), self.item_count + item.item_count
            else:
                self.item_count += 1
        if self.depth > MAX_DEPTH or self.item_count > MAX_ITEMS:
            raise UnsafeFile(
                "is nested too deep or repeats itself too often to be weights", "save the state_dict() alone"
            )


def expect_kind(thing: Any, *kinds: str) -> PickleValue:
    """Return a value of one of these kinds; UnsafeFile for any other."""
    if not isinstance(thing, PickleValue) or thing.kind not in kinds:
        raise UnsafeFile("is damaged or not a file of weights (its pickle has values of the wrong kind)")
    return thing


def disallowed_content(thing: Any) -> Any:
    """Return the content of a value that must not be stored, or None."""
    if isinstance(thing, PickleValue):
        return thing.disallowed
    return thing if isinstance(thing, Storage) or (isinstance(thing, Global) and thing not in DTYPE_GLOBALS) else None


def check_storable(thing: Any, key: Any = None) -> Any:
    """Return a value for a container; UnsafeFile for a function, a bare storage or a tensor that is not dense."""
    content = disallowed_content(thing)
    is_global = isinstance(content, Global)
    if is_global and content not in NON_DENSE_GLOBALS and content not in STORAGE_GLOBALS | NEWER_DTYPES:
        raise UnsafeFile(f"holds Python objects ({content}), not just weights", SAVE_REMEDY)
    if content is not None:
        what = f"its '{key[:100]}' is" if type(key) is str else "has a value that is"
        raise UnsafeFile(f"{what} not a dense tensor", "save plain tensors")
    return thing


def check_hashable(key: Any) -> Any:
    """Return a key; UnsafeFile unless it is a text, a number or a tuple of these, whose hashes are harmless."""
    plain = (str, int, float, bool, type(None))
    inner = key.items if isinstance(key, PickleValue) and key.kind == "tuple" else [key]
    if isinstance(key, Global) or not all(type(part) in plain for part in inner):
        raise UnsafeFile("has keys that are neither texts nor numbers", SAVE_REMEDY)
    return key


def is_count(number: Any) -> bool:
    """Whether this is an int in [0, 2**48)."""
    return type(number) is int and 0 <= number < 2**48


def _ordered_dict(pairs: Any = None) -> PickleValue:
    value = PickleValue("OrderedDict")
    for pair in expect_kind(pairs, "list").items if pairs is not None else []:  # the form that Python 2 wrote
        key, item = expect_kind(pair, "list", "tuple").items
        value.extend([check_hashable(key), check_storable(item, key)])
    return value


def _set(items: Any) -> PickleValue:
    value = PickleValue("set")
    value.extend([check_hashable(item) for item in expect_kind(items, "list", "tuple").items])
    return value


def _counter(counts: Any = None) -> PickleValue:
    value = PickleValue("Counter")
    value.extend(list(expect_kind(counts, "dict").items) if counts is not None else [])
    return value


def _encoded_bytes(text: Any, encoding: Any) -> PickleValue:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise UnsafeFile(
            f"holds Python objects (_codecs.encode to {str(encoding)[:20]}), not just weights", SAVE_REMEDY
        )
    return PickleValue("bytes")


def _bytearray(content: Any = None, encoding: Any = None) -> PickleValue:
    return _encoded_bytes(content, encoding) if encoding is not None else _opaque("bytearray", content, "bytes")


def _opaque(kind: str, content: Any, *kinds: str) -> PickleValue:
    expect_kind(content, *kinds)
    return PickleValue(kind)


def _torch_size(numbers: Any) -> PickleValue:
    if not all(map(is_count, expect_kind(numbers, "tuple", "list").items)):
        raise UnsafeFile("has a tensor with an impossible shape", "save plain tensors")
    value = PickleValue("tuple")
    value.extend(list(numbers.items))
    return value


def _opaque_scalar(*numbers: Any) -> PickleValue:
    if not all(type(number) in (int, float, str) for number in numbers):
        raise UnsafeFile("is damaged or not a file of weights (its pickle has values of the wrong kind)")
    return PickleValue("value")


CONSTRUCTORS: dict[str, Callable[..., PickleValue]] = {
    "collections.OrderedDict": _ordered_dict, "collections.Counter": _counter, "builtins.set": _set,
    "torch.Size": _torch_size, "builtins.complex": _opaque_scalar, "torch.device": _opaque_scalar,
    "builtins.bytearray": _bytearray, "_codecs.encode": _encoded_bytes,
}  # fmt: skip
