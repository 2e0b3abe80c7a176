"""The few kinds of things that weights and states are made of, and the names that stand for them in a pickle."""

from collections.abc import Callable
from typing import Any, NamedTuple

DEPTH, PARTS = 64, 1_000_000  # of what is made: nested so deep, and so many when every repetition is counted
SAVE = "save the network's state_dict() instead"
SIZES = {"Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1,
         "Bool": 1, "ComplexFloat": 8, "ComplexDouble": 16}  # fmt: skip
STORAGES = {f"{module}.{name}Storage": size for module in ("torch", "torch.cuda") for name, size in SIZES.items()}
STORAGES["torch.storage.UntypedStorage"] = 1
NEWER = {"torch.uint16": 2, "torch.uint32": 4, "torch.uint64": 8}  # types without a storage class of their own
DTYPES = {f"torch.{name}" for name in ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64",
                                       "uint8", "bool", "complex64", "complex128")} | NEWER.keys()  # fmt: skip
SPARSE_AND_SO_ON = {"torch.nn.parameter.Parameter", "torch.Tensor", "torch.serialization._get_layout",
                    "torch._tensor._rebuild_from_type_v2", "torch._utils._rebuild_parameter_with_state",
                    *(f"torch._utils._rebuild_{name}" for name in (
                        "sparse_tensor", "qtensor", "nested_tensor", "meta_tensor_no_storage", "wrapper_subclass",
                        "device_tensor_from_numpy", "device_tensor_from_cpu_tensor")),
                    *(f"torch.{name}Storage" for name in ("QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")),
                    *(f"torch.float8_{name}" for name in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")),
                    *(f"torch.per_{name}" for name in (
                        "tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric",
                        "channel_affine_float_qparams"))}  # fmt: skip


class Refused(ValueError):
    """Why a file is not read, and what to do about it; the file's name is known elsewhere."""

    def __init__(self, why: str, remedy: str = "copy it again"):
        super().__init__(why, remedy)


class Storage(NamedTuple):
    """Bytes that tensors lie in: `numel` values of `size` bytes under a name of the file."""

    kind: str
    size: int
    key: str
    numel: int


class Global(str):
    """A name that the pickle asks for: module.name."""


class Part:
    """Something made: a list, dict, tuple ... or what stands for a value nobody has to look into."""

    __slots__ = ("alien", "closed", "depth", "kind", "parts", "weight")

    def __init__(self, kind: str, alien: Any = None):
        self.kind, self.alien = kind, alien  # alien: what in it may not be kept: a name, bare bytes, no dense tensor
        self.parts: tuple[Any, ...] | list[Any] = ()  # of a dictionary: keys and values in turn
        self.depth, self.weight, self.closed = 0, 1, False

    def take(self, parts: list[Any]) -> None:
        """Put parts in; a container that was put into another one before changes no more, so that none holds itself."""
        if self.closed:
            raise Refused("holds a container that holds itself")
        self.parts = [*self.parts, *parts] if self.parts else parts
        for part in parts:
            if isinstance(part, Part):
                part.closed = True
                self.depth, self.weight = max(self.depth, part.depth + 1), self.weight + part.weight
            else:
                self.weight += 1
        if self.depth > DEPTH or self.weight > PARTS:
            raise Refused("is nested too deep or repeats itself too often to be weights", "save the state_dict() alone")


def expect(thing: Any, *kinds: str) -> Part:
    """Return a part of one of these kinds; Refused for everything else."""
    if not isinstance(thing, Part) or thing.kind not in kinds:
        raise Refused("is damaged or no file of weights (its pickle mixes up kinds of things)")
    return thing


def alien(thing: Any) -> Any:
    """Return what in a thing may not be kept, or None."""
    if isinstance(thing, Part):
        return thing.alien
    return thing if isinstance(thing, Storage) or (isinstance(thing, Global) and thing not in DTYPES) else None


def kept(thing: Any, key: Any = None) -> Any:
    """Return a thing that a container keeps; Refused if that is a function, bare bytes or no dense tensor."""
    found = alien(thing)
    if isinstance(found, Global) and found not in SPARSE_AND_SO_ON and found not in STORAGES | NEWER:
        raise Refused(f"holds Python objects ({found}), not just weights", SAVE)
    if found is not None:
        what = f"its '{key[:100]}' is" if type(key) is str else "holds"
        raise Refused(f"{what} no dense tensor", "save plain tensors")
    return thing


def hashable(key: Any) -> Any:
    """Return a key; Refused unless it is a text, a number, or a tuple of such, whose hash cannot be made to hurt."""
    plain = (str, int, float, bool, type(None))
    inner = key.parts if isinstance(key, Part) and key.kind == "tuple" else [key]
    if isinstance(key, Global) or not all(type(part) in plain for part in inner):
        raise Refused("has keys that are neither texts nor numbers", SAVE)
    return key


def is_count(number: Any) -> bool:
    """Whether this is a whole number that counts something."""
    return type(number) is int and 0 <= number < 2**48


def _ordered(pairs: Any = None) -> Part:
    made = Part("OrderedDict")
    for pair in expect(pairs, "list").parts if pairs is not None else []:  # as Python 2 wrote them
        key, item = expect(pair, "list", "tuple").parts
        made.take([hashable(key), kept(item, key)])
    return made


def _set(items: Any) -> Part:
    made = Part("set")
    made.take([hashable(item) for item in expect(items, "list", "tuple").parts])
    return made


def _counter(counts: Any = None) -> Part:
    made = Part("Counter")
    made.take(list(expect(counts, "dict").parts) if counts is not None else [])
    return made


def _text_as_bytes(text: Any, encoding: Any) -> Part:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise Refused(f"holds Python objects (_codecs.encode to {str(encoding)[:20]}), not just weights", SAVE)
    return Part("bytes")


def _bytearray(content: Any = None, encoding: Any = None) -> Part:
    return _text_as_bytes(content, encoding) if encoding is not None else _of("bytearray", content, "bytes")


def _of(kind: str, content: Any, *kinds: str) -> Part:
    expect(content, *kinds)
    return Part(kind)


def _size(numbers: Any) -> Part:
    if not all(map(is_count, expect(numbers, "tuple", "list").parts)):
        raise Refused("has a tensor of impossible shape", "save plain tensors")
    made = Part("tuple")
    made.take(list(numbers.parts))
    return made


def _numbers(*numbers: Any) -> Part:
    if not all(type(number) in (int, float, str) for number in numbers):
        raise Refused("is damaged or no file of weights (its pickle mixes up kinds of things)")
    return Part("value")


PLAIN: dict[str, Callable[..., Part]] = {
    "collections.OrderedDict": _ordered, "collections.Counter": _counter, "builtins.set": _set, "torch.Size": _size,
    "builtins.complex": _numbers, "torch.device": _numbers, "builtins.bytearray": _bytearray,
    "_codecs.encode": _text_as_bytes,
}  # fmt: skip
