"""Build malicious and damaged checkpoints byte by byte, without running any code in them."""

import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from serialization import safe_load
from util.errors import CheckpointError

MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
LEGACY = MAGIC + b"\x80\x02M\xe9\x03." + pickle.dumps(
    {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}, protocol=2
)  # fmt: skip
FLOATS = struct.pack("<4f", 1, 2, 3, 4)


def is_accepted(path: Path) -> bool:
    """Return whether the safety check of a checkpoint accepts a file."""
    try:
        safe_load.check_file(path)
    except CheckpointError:
        return False
    return True


# --- opcodes


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(full: str) -> bytes:
    module, _, last = full.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def group(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def ints(*values: int) -> bytes:
    return group(*map(number, values))


def call(full: str, *arguments: bytes) -> bytes:
    return name(full) + group(*arguments) + b"R"


def storage(key="0", numel: bytes | int = 4, kind="torch.FloatStorage", *more: bytes) -> bytes:
    count = numel if isinstance(numel, bytes) else number(numel)
    return group(text("storage"), name(kind), text(key), text("cpu"), count, *more) + b"Q"


HOOKS = name("collections.OrderedDict") + b")R"


def tensor(shape=(4,), stride=(1,), offset=0, where=None, grad=b"\x89", hooks=HOOKS, *more: bytes) -> bytes:
    where = storage() if where is None else where
    place = (where, number(offset), ints(*shape), ints(*stride), grad, hooks, *more)
    return call("torch._utils._rebuild_tensor_v2", *place)


def weights(*more: bytes) -> bytes:
    """Return a pickle of {"weight": four floats, ...}; more: the opcodes of further keys and values."""
    return b"\x80\x02}(" + text("weight") + tensor() + b"".join(more) + b"u."


def with_extra(body: bytes) -> bytes:
    return weights(text("x"), body)


# --- containers


def zipped(
    path: Path,
    pickled: bytes,
    members: dict[str, bytes] | None = None,
    method=zipfile.ZIP_STORED,
    more: tuple[tuple[str, bytes], ...] = (),
    name="data.pkl",
) -> None:
    members = {"data/0": FLOATS} if members is None else members
    with zipfile.ZipFile(path, "w", method) as archive:
        for member, content in [(name, pickled), *members.items(), ("version", b"3\n"), *more]:
            archive.writestr(f"archive/{member}", content)


def legacy(path: Path, pickled: bytes, keys: bytes | None = None, records: bytes | None = None, end=b"") -> None:
    """Write a file in torch's old format, in which storages also name their views; here the view becomes None."""
    old = pickled if b"NtQ" in pickled else pickled.replace(b"tQ", b"NtQ")
    keys = pickle.dumps(["0"], protocol=2) if keys is None else keys
    records = struct.pack("<q", 4) + FLOATS if records is None else records
    path.write_bytes(LEGACY + old + keys + records + end)


def raw(path: Path, pickled: bytes) -> None:
    path.write_bytes(pickled)


def tar(path: Path, pickled: bytes) -> None:
    with tarfile.open(path, "w") as archive:
        for member in ("pickle", "storages", "tensors"):
            about = tarfile.TarInfo(member)
            about.size = len(pickled)
            archive.addfile(about, io.BytesIO(pickled))


def tar_that_begins_as_legacy(path: Path, pickled: bytes) -> None:
    """Write a tar file that starts like the old format, because the first bytes of a tar header are a file name."""
    tar(path, pickled)
    content = bytearray(path.read_bytes())
    content[: len(MAGIC)] = MAGIC
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path.write_bytes(content)


CONTAINERS: dict[str, Callable[[Path, bytes], None]] = {
    "zip": zipped, "legacy": legacy, "raw": raw, "tar": tar, "tar as legacy": tar_that_begins_as_legacy,
    "legacy header": lambda path, pickled: path.write_bytes(pickled + LEGACY),
    "legacy sys_info": lambda path, pickled: path.write_bytes(LEGACY[: len(MAGIC) + 6] + pickled + LEGACY),
    "legacy keys": lambda path, pickled: legacy(path, weights(), keys=pickled),
    "in a zip in the zip": lambda path, pickled: zipped(path, weights(), more=(("data.pkl.zip", pickled),)),
    "two data.pkl": lambda path, pickled: zipped(path, weights(), more=(("data.pkl", pickled),)),
    "DATA.PKL": lambda path, pickled: zipped(path, weights(), more=(("DATA.PKL", pickled),)),
    "only DATA.PKL": partial(zipped, name="DATA.PKL"),
    "deeper data.pkl": lambda path, pickled: zipped(path, weights(), more=(("sub/data.pkl", pickled),)),
    "constants.pkl": lambda path, pickled: zipped(path, weights(), more=(("constants.pkl", pickled),)),
    "code": lambda path, pickled: zipped(path, weights(), more=(("code/__torch__.py", pickled),)),
    "deflated": partial(zipped, method=zipfile.ZIP_DEFLATED),
}  # fmt: skip

# --- pickles that would run code if they were loaded

WITH_A_PLACE = (
    "os.mkdir", "posix.mkdir", "os.makedirs", "nt.mkdir", "builtins.open", "io.open", "_io.FileIO", "pathlib.Path",
    "pathlib.PosixPath", "sqlite3.connect", "shelve.open", "dbm.dumb.open", "runpy.run_path", "ctypes.CDLL",
    "torch.load", "torch.serialization.load", "torch.jit.load", "torch.hub.load_state_dict_from_url",
    "torch.classes.load_library", "torch.ops.load_library", "numpy.load", "numpy.memmap", "pandas.read_pickle",
    "joblib.load", "importlib.import_module", "builtins.__import__", "logging.FileHandler", "shutil.rmtree",
)  # fmt: skip
WITH_A_SHELL = (
    "os.system", "posix.system", "os.popen", "subprocess.getoutput", "commands.getoutput", "pty.spawn",
    "torch.utils.collect_env.run", "numpy.testing._private.utils.runstring", "webbrowser.open",
    "multiprocessing.util.spawnv_passfds",
)  # fmt: skip
WITH_SOURCE = (
    "builtins.eval", "builtins.exec", "__builtin__.eval", "timeit.timeit", "cProfile.run", "pdb.run", "code.interact",
    "numpy.f2py.crackfortran.getlincoef", "torch.fx.graph_module._exec_with_source", "doctest.debug_script",
)  # fmt: skip
WITH_BYTES = (
    "pickle.loads", "_pickle.loads", "cPickle.loads", "dill.loads", "cloudpickle.loads", "marshal.loads",
    "torch.storage._load_from_bytes", "torch.package.PackageImporter", "yaml.unsafe_load",
)  # fmt: skip
WITH_A_PROGRAM = ("subprocess.Popen", "subprocess.run", "subprocess.check_output")


def gadgets(canary: Path) -> dict[str, bytes]:
    """Return {name: opcodes of a value} that create `canary`, or access the network, in a program that loads them."""
    place = text(str(canary))
    inner = pickle.dumps({"a": 1}, protocol=2)[:-1] + b"0" + call("os.mkdir", place) + b"."
    bytes_of = call("_codecs.encode", text(inner.decode("latin1")), text("latin1"))
    program = b"](" + text("touch") + place + b"e"
    source = text(f"__import__('os').mkdir({str(canary)!r})")
    arguments = ((WITH_A_PLACE, place), (WITH_A_SHELL, text(f"touch {canary}")), (WITH_SOURCE, source),
                 (WITH_BYTES, bytes_of), (WITH_A_PROGRAM, program))  # fmt: skip
    found = {full: call(full, argument) for names, argument in arguments for full in names}
    return found | _less_direct(place, bytes_of) | _opcodes(place, program)


def _less_direct(place: bytes, bytes_of: bytes) -> dict[str, bytes]:
    """Return gadgets that call a function through another one, or through an argument of a function of torch."""
    chain = call("operator.methodcaller", text("mkdir"), place)
    return {
        "functools.partial": call("functools.partial", name("os.mkdir"), place) + b")R",
        "operator.methodcaller": chain + group(name("builtins.int")) + b"R",
        "operator.attrgetter": call("operator.attrgetter", text("__class__")) + group(b"I1\n") + b"R",
        "builtins.getattr": call("builtins.getattr", name("os.path"), text("os")),
        "builtins.map": call("builtins.map", name("os.mkdir"), b"](" + place + b"e"),
        "codecs to hex": call("_codecs.encode", place, text("hex")),
        "codecs.decode": call("codecs.decode", bytes_of, text("zlib")),
        "types.FunctionType": call("types.FunctionType", name("types.CodeType"), b"}"),
        "copyreg": call("copyreg._reconstructor", name("subprocess.Popen"), name("builtins.object"), b"N"),
        "numpy array": call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"), ints(0), text("b")),
        "numpy scalar": call("numpy._core.multiarray.scalar", call("numpy.dtype", text("O8")), bytes_of),
        "socket": call("socket.create_connection", group(text("127.0.0.1"), number(9))),
        "urllib": call("urllib.request.urlopen", text("http://127.0.0.1:9/")),
        "a class": name("os._wrap_close"),
        "hooks": tensor(hooks=HOOKS + number(0) + name("os.mkdir") + b"s"),
        "a tensor's class": call("torch._tensor._rebuild_from_type_v2", name("os.mkdir"), name("torch.Tensor"),
                                 group(place), b"}"),
        "a parameter's attributes": call("torch._utils._rebuild_parameter_with_state", tensor(), b"\x89", HOOKS,
                                         b"}" + text("data") + name("os.mkdir") + b"s"),
        "a tensor by numpy": call("torch._utils._rebuild_device_tensor_from_numpy", name("os.mkdir"), text("cpu")),
    }  # fmt: skip


def _opcodes(place: bytes, program: bytes) -> dict[str, bytes]:
    """Return gadgets that create or find objects with opcodes other than GLOBAL and REDUCE."""
    shell = text("touch x")
    return {
        "a whole network": name("torch.nn.modules.conv.Conv2d") + b")\x81}b",
        "NEWOBJ": name("pathlib.PosixPath") + group(place) + b"\x81",
        "NEWOBJ_EX": name("subprocess.Popen") + group(program) + b"}\x92",
        "NEWOBJ of torch": name("torch.Tensor") + group(name("os.mkdir")) + b"\x81",
        "INST": b"(" + place + b"ios\nmkdir\n",
        "OBJ": b"(" + name("os.mkdir") + place + b"o",
        "STACK_GLOBAL": b"\x8c\x02os\x8c\x05mkdir\x93" + group(place) + b"R",
        "EXT1": b"\x82\x01" + group(place) + b"R",
        "EXT2": b"\x83\x01\x01" + group(place) + b"R",
        "EXT4": b"\x84\x01\x01\x01\x00" + group(place) + b"R",
        "BUILD of a class": name("os._Environ") + b")\x81}" + text("__setstate__") + name("os.mkdir") + b"sb",
        "BUILD with slots": HOOKS + group(b"N", b"}(" + text("x") + name("os.mkdir") + b"u") + b"b",
        "BUILD of methods": HOOKS + b"}(" + text("items") + number(1) + b"ub",
        "a module by persistent id": group(text("module"), name("torch.nn.Module"), place, place) + b"Q",
        "PERSID": b"Pos.mkdir\n",
        "attribute of an allowed one": name("collections.OrderedDict.__class__") + group(text("x"), b")", b"}") + b"R",
        "dotted in the name": b"ctorch._utils\n_rebuild_tensor.__globals__\n",
        "escaped module": b"cpos\\x69x\nsystem\n" + group(shell) + b"R",
    }  # fmt: skip


# --- files that would exhaust memory or time, or read beyond the file


def huge_zip(path: Path, gigabytes: int) -> None:
    """Write a zip with a sparse member of zeros, which takes no disk space; its size is in a zip64 field."""
    size, pickled = gigabytes << 30, with_extra(tensor(where=storage("1", (gigabytes << 30) // 4)))
    directory, wide = b"", struct.pack("<2H2Q", 1, 16, size, size)
    with open(path, "wb") as file:
        for member, content in ((b"data.pkl", pickled), (b"data/0", FLOATS), (b"data/1", None)):
            told = (0, 2**32 - 1, 2**32 - 1) if content is None else (zlib.crc32(content), len(content), len(content))
            extra, full = (wide if content is None else b""), b"archive/" + member
            about = struct.pack("<2H2H3L2H", 0, 0, 0, 0, *told, len(full), len(extra))
            directory += b"PK\1\2" + struct.pack("<H", 45) + struct.pack("<H", 45) + about
            directory += struct.pack("<3H2L", 0, 0, 0, 0, file.tell()) + full + extra
            file.write(b"PK\3\4" + struct.pack("<H", 45) + about + full + extra + (content or b""))
            file.seek(size if content is None else 0, io.SEEK_CUR)
        start = file.tell()
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 3, 3, len(directory), start)
        end += struct.pack("<4sLQL", b"PK\6\7", 0, start + len(directory), 1)
        file.write(directory + end + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, len(directory), 2**32 - 1, 0))


def patched(path: Path, build: Callable[[Path], None], change: Callable[[bytearray], object]) -> None:
    build(path)
    content = bytearray(path.read_bytes())
    made = change(content)
    path.write_bytes(made if isinstance(made, bytes) else content)


def header(which: bytes, place: int, form: str, value: int, last=False) -> Callable[[bytearray], None]:
    """Return a function that writes a number into the first (or last) header with the signature `which`."""

    def change(content: bytearray) -> None:
        struct.pack_into(form, content, (content.rindex if last else content.index)(which) + place, value)

    return change


def good(path: Path) -> None:
    zipped(path, weights())


def good_torch(path: Path) -> None:
    torch.save({"weight": torch.arange(4.0)}, path)


def overlapping(content: bytearray) -> None:
    """Make the directory's second entry point to the first member."""
    second = content.index(b"PK\1\2", content.index(b"PK\1\2") + 1)
    struct.pack_into("<L", content, second + 42, 0)


def deflated_by_name(content: bytearray) -> None:
    """Mark a stored member as deflated in both of its headers."""
    for which, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        struct.pack_into("<H", content, content.index(which) + place, 8)


def saved(thing: Callable[[], object], old=False) -> Callable[[Path], None]:
    return lambda path: torch.save(thing(), path, _use_new_zipfile_serialization=not old)


class _Two(torch.Tensor):
    """A subclass of Tensor."""


ARCHIVES: dict[str, Callable[[Path], None]] = {
    "200 MB deflated": lambda p: zipped(p, with_extra(tensor(where=storage("1", 50_000_000))),
                                        {"data/0": FLOATS, "data/1": bytes(200_000_000)}, zipfile.ZIP_DEFLATED),
    "bzip2": lambda p: zipped(p, weights(), method=zipfile.ZIP_BZIP2),
    "lzma": lambda p: zipped(p, weights(), method=zipfile.ZIP_LZMA),
    "40 GB": partial(huge_zip, gigabytes=40),
    "65,000 members": lambda p: zipped(p, weights(), more=tuple((f"data/n{i}", b"") for i in range(65_000))),
    "encrypted": lambda p: patched(p, good, header(b"PK\1\2", 8, "<H", 1)),
    "strongly encrypted": lambda p: patched(p, good, header(b"PK\1\2", 8, "<H", 0x41)),
    "patched data": lambda p: patched(p, good, header(b"PK\1\2", 8, "<H", 0x20)),
    "method of the member's own header": lambda p: patched(p, good, header(b"PK\3\4", 8, "<H", 8)),
    "name of the member's own header": lambda p: patched(p, good, header(b"PK\3\4", 30, "<B", 65)),
    "size of the member's own header": lambda p: patched(p, good, header(b"PK\3\4", 22, "<L", 9)),
    "size in the directory": lambda p: patched(p, good, header(b"PK\1\2", 24, "<L", 9)),
    "stored size in the directory": lambda p: patched(p, good, header(b"PK\1\2", 20, "<L", 2**31)),
    "zip64 size without the field": lambda p: patched(p, good, header(b"PK\1\2", 24, "<L", 0xFFFFFFFF)),
    "offset in the directory": lambda p: patched(p, good, header(b"PK\1\2", 42, "<L", 2**31)),
    "overlapping members": lambda p: patched(p, good, overlapping),
    "a member that says it is a folder": lambda p: patched(p, good_torch, header(b"PK\1\2", 38, "<L", 16, last=True)),
    "a member on another disk": lambda p: patched(p, good_torch, header(b"PK\1\2", 34, "<H", 1)),
    "checksum": lambda p: patched(p, good, header(b"PK\1\2", 16, "<L", 1)),
    "number of members": lambda p: patched(p, good, header(b"PK\5\6", 10, "<H", 2)),
    "more members than there are": lambda p: patched(p, good, header(b"PK\5\6", 8, "<L", 0x00090009)),
    "length of the directory": lambda p: patched(p, good, header(b"PK\5\6", 12, "<L", 2**31)),
    "place of the directory": lambda p: patched(p, good, header(b"PK\5\6", 16, "<L", 1)),
    "a comment": lambda p: patched(p, good, lambda c: bytes(c[:-2] + b"\5\0hello")),
    "a second end": lambda p: patched(p, good, lambda c: bytes(c + b"PK\5\6" + bytes(18))),
    "something before": lambda p: patched(p, good, lambda c: bytes(b"#!/bin/sh\n" + c)),
    "something behind": lambda p: patched(p, good, lambda c: bytes(c + b"more")),
    "zip64 end elsewhere": lambda p: patched(p, good_torch, header(b"PK\6\7", 8, "<Q", 0)),
    "zip64 end far away": lambda p: patched(p, good_torch, header(b"PK\6\7", 8, "<Q", 2**62)),
    "zip64 end with other numbers": lambda p: patched(p, good_torch, header(b"PK\6\6", 32, "<Q", 2**40)),
    "zip64 end with another place": lambda p: patched(p, good_torch, header(b"PK\6\6", 48, "<Q", 2**62)),
    "only an end": lambda p: p.write_bytes(b"PK\5\6" + bytes(18)),
    "a path outside": lambda p: zipped(p, weights(), more=(("data/../../evil", b"x"),)),
    "a second folder": lambda p: zipped(p, weights(), more=(("../archive2/data/9", b"x"),)),
    "two data.pkl, both sound": lambda p: zipped(p, weights(), more=(("data.pkl", weights()),)),
    "DATA.PKL beside, sound": lambda p: zipped(p, weights(), more=(("DATA.PKL", weights()),)),
    "deflated to the same size": lambda p: patched(p, lambda q: zipped(q, weights()), deflated_by_name),
    "a file of another name": lambda p: zipped(p, weights(), more=(("run.sh", b"x"),)),
    "data nobody names": lambda p: zipped(p, weights(), {"data/0": FLOATS, "data/1": FLOATS}),
    "data that is not there": lambda p: zipped(p, weights(), {}),
    "too little data": lambda p: zipped(p, weights(), {"data/0": FLOATS[:-4]}),
    "too much data": lambda p: zipped(p, weights(), {"data/0": FLOATS + FLOATS}),
    "byte order": lambda p: zipped(p, weights(), more=(("byteorder", b"middle"),)),
    "alignment": lambda p: zipped(p, weights(), more=((".storage_alignment", b"-1"),)),
    "a long version": lambda p: zipped(p, weights(), more=((".format_version", b"1" * 10_000),)),
    "version 99": lambda p: patched(p, good_torch, lambda c: _reversioned(c)),
}  # fmt: skip


def _reversioned(content: bytearray) -> None:
    place = content.index(b"3\n")
    content[place : place + 2] = b"99"
    struct.pack_into("<L", content, content.rindex(b"PK\1\2", 0, content.rindex(b"/version")) + 16, zlib.crc32(b"99"))


UNTYPED = storage("1", 4, "torch.storage.UntypedStorage")


def _rebuilt(shape: bytes) -> bytes:
    """Return a tensor as torch before 0.4 wrote it."""
    return call("torch._utils._rebuild_tensor", storage(), number(0), shape, ints(1))


DEEP, MANY = 100_000, 1_000_000
PICKLES: dict[str, bytes] = {
    "stride 0": with_extra(tensor((2**30,), (0,))),
    "stride 0 in part": with_extra(tensor((2**15, 2**15), (0, 0))),
    "windows on one another": with_extra(tensor((2, 2, 2), (1, 1, 1))),
    "negative offset": with_extra(tensor(offset=-1)),
    "negative stride": with_extra(tensor(stride=(-1,))),
    "negative size": with_extra(tensor((-4,))),
    "offset beyond": with_extra(tensor((1,), offset=4)),
    "offset far beyond": with_extra(tensor((1,), offset=2**62)),
    "offset of nothing": with_extra(tensor((0,), offset=2**40)),
    "size beyond": with_extra(tensor((5,))),
    "stride beyond": with_extra(tensor((2,), (4,))),
    "sizes whose product overflows": with_extra(tensor((2**32, 2**32), (1, 1))),
    "sizes and strides": with_extra(tensor((2, 2), (1,))),
    "10,000 dimensions": with_extra(tensor((1,) * 10_000, (1,) * 10_000)),
    "a size that is text": with_extra(_rebuilt(group(text("4")))),
    "a size that is true": with_extra(_rebuilt(group(b"\x88"))),
    "a tensor of a tensor": with_extra(tensor(where=tensor())),
    "a tensor of a number": with_extra(tensor(where=number(7))),
    "storage of 2**60 values": with_extra(tensor(where=storage("1", 2**60))),
    "storage of 2**31 values": with_extra(tensor(where=storage("1", 2**31))),
    "storage of -1 values": with_extra(tensor(where=storage("1", -1))),
    "storage of 0.5 values": with_extra(tensor(where=storage("1", b"G" + struct.pack(">d", 0.5)))),
    "storage of 2**2000 values": with_extra(tensor(where=storage("1", 2**2000))),
    "one storage, two types": with_extra(tensor((2,), where=storage("0", 2, "torch.DoubleStorage"))),
    "one storage, two sizes": with_extra(tensor((8,), where=storage("0", 8))),
    "a storage outside data": with_extra(tensor(where=storage("../version", 4))),
    "a storage by number": with_extra(tensor(where=group(text("storage"), name("torch.FloatStorage"), number(0),
                                                         text("cpu"), number(4)) + b"Q")),
    "a bare storage": with_extra(storage()),
    "a storage of quantised": with_extra(tensor(where=storage("1", 4, "torch.QInt8Storage"))),
    "grad that is text": with_extra(tensor(grad=text("yes"))),
    "metadata": with_extra(tensor((4,), (1,), 0, None, b"\x89", HOOKS, b"}" + text("x") + number(1) + b"s")),
    "too many arguments": with_extra(tensor((4,), (1,), 0, None, b"\x89", HOOKS, b"}", b"}", b"}")),
    "a dtype nobody has": with_extra(call("torch._utils._rebuild_tensor_v3", UNTYPED, number(0), ints(1), ints(1),
                                          b"\x89", HOOKS, name("torch.float128"))),
    "1,000,000 keys": b"\x80\x02}(" + b"".join(number(i) + b"K\1" for i in range(MANY)) + b"u.",
    "1,000,000 items": b"\x80\x02](" + b"K\1" * MANY + b"e.",
    "1,000,000 lists": b"\x80\x02](" + b"]" * MANY + b"e.",
    "1,000,000 tensors": weights(*(text(str(i)) + b"K\1" for i in range(MANY))),
    "the same tensor 90,000 times": b"\x80\x02](" + tensor() + b"q\1" + b"h\1" * 90_000 + b"e.",
    "nested lists": b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "nested tuples": b"\x80\x02)" + b"\x85" * DEEP + b".",
    "nested dictionaries": b"\x80\x02" + b"}K\1" * 40_000 + b"}" + b"s" * 40_000 + b".",
    "nested marks": b"\x80\x02" + b"(" * DEEP + b"t" * DEEP + b".",
    "a nested tuple as a key": b"\x80\x02})" + b"\x85" * 90_000 + b"K\1s.",
    "a nested tuple in a set": b"\x80\x02" + call("builtins.set", b"](" + b")" + b"\x85" * 90_000 + b"e") + b".",
    "doubled 60 times": b"\x80\x02](](eq\0" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)) + b"e.",
    "a list in itself": b"\x80\x02]q\0h\0a.",
    "a dictionary in itself": b"\x80\x02}q\0" + text("a") + b"h\0s.",
    "a list in its tuple": b"\x80\x02]q\0h\0\x85a.",
    "LONG4": with_extra(b"\x8b" + struct.pack("<i", MANY) + b"\x7f" * MANY),
    "LONG4 beyond the file": with_extra(b"\x8b" + struct.pack("<i", 2**31 - 1)),
    "LONG4 of -1": with_extra(b"\x8b" + struct.pack("<i", -1)),
    "LONG1 of 255 bytes": with_extra(b"\x8a\xff" + b"\x7f" * 255),
    "INT of 100,000 digits": with_extra(b"I" + b"9" * 100_000 + b"\n"),
    "FLOAT": with_extra(b"F1e999\n"),
    "a text of 2 MB": with_extra(text("a" * 2_000_000)),
    "a text beyond the file": with_extra(b"X" + struct.pack("<I", 2**32 - 1) + b"a"),
    "a text of 2**62 bytes": with_extra(b"\x8d" + struct.pack("<Q", 2**62) + b"a"),
    "bytes of 2**62 bytes": with_extra(b"\x8e" + struct.pack("<Q", 2**62) + b"a"),
    "text that is no UTF-8": with_extra(b"X" + struct.pack("<I", 2) + b"\xff\xfe"),
    "BINPUT 2**31": with_extra(b"K\1r" + struct.pack("<I", 2**31)),
    "BINPUT with nothing there": b"\x80\x02q\0.",
    "BINGET of nothing": with_extra(b"h\x63"),
    "1,000,000 BINPUT": b"\x80\x02K\1" + b"".join(b"r" + struct.pack("<I", i) for i in range(MANY)) + b".",
    "DUP": with_extra(b"K\1" + b"2" * DEEP),
    "a bytearray of 10**12": with_extra(call("builtins.bytearray", number(10**12))),
    "a Counter of 10**12": with_extra(call("collections.Counter", number(10**12))),
    "a Size of 10**12": with_extra(call("torch.Size", number(10**12))),
    "idna": with_extra(call("_codecs.encode", text("a" * 50_000), text("idna"))),
    "meta tensor of 2**60": with_extra(call("torch._utils._rebuild_meta_tensor_no_storage", name("torch.float32"),
                                            ints(2**60), ints(1), b"\x89")),
    "sparse tensor of 2**60": with_extra(call("torch._utils._rebuild_sparse_tensor", call(
        "torch.serialization._get_layout", text("torch.sparse_coo")), group(tensor(), tensor(), ints(2**60)))),
    "SETITEM on a tensor": with_extra(tensor() + number(10**9) + number(1) + b"s"),
    "SETITEMS on a tensor": with_extra(tensor() + b"(" + number(10**9) + number(1) + b"u"),
    "SETITEM on a list": with_extra(b"]" + number(10**9) + number(1) + b"s"),
    "SETITEM on a storage": with_extra(storage() + number(10**9) + number(1) + b"s"),
    "SETITEMS of an odd number": with_extra(b"}(K\1u"),
    "APPEND to a dictionary": with_extra(b"}K\1a"),
    "APPENDS to a tensor": with_extra(tensor() + b"(K\1e"),
    "BUILD of a tensor": with_extra(tensor() + group(storage(), number(2**40), ints(2**40), ints(1)) + b"b"),
    "BUILD of a list": with_extra(b"]}b"),
    "BUILD of a dtype": with_extra(name("torch.float32") + b"}b"),
    "metadata of another kind": b"\x80\x02" + HOOKS + b"}" + text("_metadata") + b"]sb.",
    "REDUCE of a number": with_extra(b"K\1)R"),
    "REDUCE without arguments": with_extra(name("collections.OrderedDict") + b"K\1R"),
    "a tensor as a key": b"\x80\x02}" + tensor() + b"K\1s.",
    "a list as a key": b"\x80\x02}]K\1s.",
    "out-of-band buffers": with_extra(b"\x97\x98"),
    "BINPERSID of a number": with_extra(b"K\0Q"),
    "BINPERSID of nothing": with_extra(b")Q"),
    "protocol 3": b"\x80\x03" + weights()[2:-1] + b"C\1a0.",
    "frames": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + weights()[2:],
    "an opcode nobody knows": with_extra(b"\xff"),
    "no end": weights()[:-1],
    "cut": weights()[: len(weights()) // 2],
    "two things left": b"\x80\x02K\1" + weights()[2:],
    "a mark left": b"\x80\x02(" + weights()[2:],
    "more than the stack": b"\x80\x02\x87.",
    "nothing": b"\x80\x02.",
    "something behind": weights() + b"cos\nsystem\n.",
    "no pickle": b"these are no opcodes",
    "no bytes": b"",
}  # fmt: skip

THINGS_IN_A_PICKLE = {
    "sparse": call(
        "torch._utils._rebuild_sparse_tensor",
        call("torch.serialization._get_layout", text("torch.sparse_coo")),
        group(tensor(), tensor(), ints(4)),
    ),
}


def _old(pickled: bytes = b"", **changes) -> Callable[[Path], None]:
    return lambda path: legacy(path, pickled or weights(), **changes)


def _viewed(key: str, offset: int, size: int) -> bytes:
    where = storage("0", 4, "torch.FloatStorage", group(text(key), number(offset), number(size)))
    return b"\x80\x02}" + text("weight") + tensor((size,) if 0 <= size < 9 else (1,), where=where) + b"s."


SEQUENCES: dict[str, Callable[[Path], None]] = {
    "storage of 2**40 values": _old(weights().replace(number(4) + b"tQ", number(2**40) + b"NtQ")),
    "record of another length": _old(records=struct.pack("<q", 5) + FLOATS),
    "record of -1 values": _old(records=struct.pack("<q", -1) + FLOATS),
    "record of 2**62 values": _old(records=struct.pack("<q", 2**62) + FLOATS),
    "no record": _old(records=b""),
    "half a record": _old(records=struct.pack("<q", 4) + FLOATS[:7]),
    "something behind": _old(end=b"more"),
    "a pickle behind": _old(end=weights()),
    "no keys": _old(keys=pickle.dumps([], protocol=2)),
    "keys twice": _old(keys=pickle.dumps(["0", "0"], protocol=2)),
    "other keys": _old(keys=pickle.dumps(["1"], protocol=2)),
    "keys that are numbers": _old(keys=pickle.dumps([0], protocol=2)),
    "keys that are none": _old(keys=b"\x80\x02K\1."),
    "a view beyond": _old(_viewed("1", 2, 4)),
    "a negative view": _old(_viewed("1", -1, 2)),
    "a view of 2**62": _old(_viewed("1", 0, 2**62)),
    "a view under the whole's name": _old(_viewed("0", 0, 4)),
    "another protocol": lambda p: p.write_bytes(MAGIC + b"\x80\x02M\xea\x03." + LEGACY + weights()),
    "only the magic number": lambda p: p.write_bytes(MAGIC),
    "only a header": lambda p: p.write_bytes(LEGACY),
    "storages in sys_info": lambda p: p.write_bytes(LEGACY[: len(MAGIC) + 6] + weights() + weights()),
}  # fmt: skip
THINGS: dict[str, Callable[[], object]] = {  # objects that torch.save writes, but that are not weights
    "sparse": lambda: {"weight": torch.eye(3).to_sparse()},
    "csr": lambda: {"weight": torch.eye(3).to_sparse_csr()},
    "quantised": lambda: {"weight": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)},
    "quantised by channel": lambda: {"weight": torch.quantize_per_channel(
        torch.ones(3, 2), torch.ones(3), torch.zeros(3), 0, torch.qint8)},
    "meta": lambda: {"weight": torch.empty(3, device="meta")},
    "nested": lambda: {"weight": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])},
    "a subclass": lambda: {"weight": torch.ones(2).as_subclass(_Two)},
    "stretched": lambda: {"weight": torch.zeros(1).expand(2**24)},
    "float8": lambda: {"weight": torch.ones(2).to(torch.float8_e4m3fn)},
    "a storage": lambda: {"weight": torch.ones(2).untyped_storage()},
    "a whole network": lambda: nn.Sequential(nn.Conv2d(1, 1, 1)),
    "a function": lambda: {"weight": torch.ones(2), "f": torch.relu},
    "a frozen set": lambda: {"weight": torch.ones(2), "f": frozenset((1,))},
}  # fmt: skip


def scripted(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Conv2d(1, 1, 1), torch.ones(1, 1, 2, 2)), path)


FILES: dict[str, Callable[[Path], None]] = {
    "TorchScript": scripted,
    "safetensors that is cut short": lambda p: p.write_bytes(
        struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}      ' + bytes(3)),
    "safetensors with a header of 100 MB": lambda p: p.write_bytes(struct.pack("<Q", 10**8) + b'{"w":' + b" " * 1000),
    "safetensors with a pickle behind": lambda p: p.write_bytes(struct.pack("<Q", 2) + b'{"' + weights()),
    "ONNX": lambda p: p.write_bytes(b"\x08\x07\x12\x07pytorch\x1a\x052.1.0" + bytes(50)),
    "HDF5": lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)),
    "gzip": lambda p: p.write_bytes(b"\x1f\x8b\x08" + bytes(50)),
    "NumPy": lambda p: p.write_bytes(b"\x93NUMPY\1\0" + bytes(50)),
    "NumPy archive": lambda p: zipped(p, b"x", {}, name="../a.npy"),
    "a picture": lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50)),
    "a web page": lambda p: p.write_bytes(b"\n<!DOCTYPE html><title>404</title>"),
    "an LFS pointer": lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 45\n"),
    "text": lambda p: p.write_bytes(b"these are no weights"),
    "zeros": lambda p: p.write_bytes(bytes(10_000)),
    "nothing": lambda p: p.write_bytes(b""),
    "one byte": lambda p: p.write_bytes(b"P"),
    "40 GB of zeros": lambda p: _sparse(p, 40 << 30),
}  # fmt: skip


def _sparse(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)


def corpus(canary: Path) -> dict[str, Callable[[Path], None]]:
    """Return {name: function that writes the file} of all files."""
    made: dict[str, Callable[[Path], None]] = {}
    for what, body in gadgets(canary).items():
        made |= {
            f"{what} in {where}": partial(CONTAINERS[where], pickled=with_extra(body)) for where in ("zip", "legacy")
        }
    body = call("os.mkdir", text(str(canary)))
    for where, write in CONTAINERS.items():
        made |= {f"os.mkdir by {where}": partial(write, pickled=b"\x80\x02" + body + b".")}
    key = b"\x80\x02}" + group(text("weight"), body) + tensor() + b"s."
    made |= {f"os.mkdir in a key in {where}": partial(CONTAINERS[where], pickled=key) for where in ("zip", "legacy")}
    for what, pickled in PICKLES.items():
        made |= {f"{what} in {where}": partial(CONTAINERS[where], pickled=pickled) for where in ("zip", "legacy")}
    made |= {f"archive: {what}": write for what, write in ARCHIVES.items()}
    made |= {f"old format: {what}": write for what, write in SEQUENCES.items()}
    for what, thing in THINGS.items():
        made |= {f"{what} as {'old' if old else 'zip'}": saved(thing, old) for old in (False, True)}
    return made | {f"file: {what}": write for what, write in FILES.items()}


SOUND: dict[str, object] = {"four floats": {"weight": torch.arange(4.0)}, "ordered": OrderedDict(a=torch.ones(2))}
