"""What preparing data sets needs to know of folders: which pictures, which pairs, of which sizes, in which part."""

import argparse
import hashlib
import os
import unicodedata
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data.listing import demo
from data.listing.files import EXTENSIONS, list_files
from data.prepare import lossless
from data.prepare.batch import Task, each, or_skip, some
from util.errors import DataError, OptionError

FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF", "npy": "NPY"}  # as flags call them


class Pair(NamedTuple):
    """Two pictures that belong together, and the name below a folder, without extension, that both go by."""

    name: str
    A: Path
    B: Path


def pictures(folder: str | Path) -> list[Path]:
    """Return the pictures under a folder, sub-folders included, as paths below it; DataError if there are none."""
    root = Path(folder)
    if demo.is_demo(str(folder)) and not root.is_dir():
        raise DataError("folder", folder, "has no files: its pictures are generated", "give a folder of pictures")
    found = [Path(os.path.relpath(path, root)) for path in list_files(str(folder))]
    if not found:
        raise DataError("folder", folder, _instead(root), f"put pictures there: {', '.join(EXTENSIONS)}")
    return found


def _instead(root: Path) -> str:
    """Return what is there where no pictures are."""
    if root.is_file():
        return "is a file, not a folder"
    if not root.is_dir():
        around = root.absolute().parent
        beside = some(sorted(p.name for p in around.iterdir())) if around.is_dir() else ""
        return f"there is no such folder (beside it: {beside or 'nothing'})"
    names = sorted(p.name + "/" * p.is_dir() for p in root.iterdir())
    return f"holds no pictures, only {some(names)}" if names else "is empty"


def apart(o: argparse.Namespace, source: str, target: str) -> None:
    """Raise OptionError if a folder to write, a flag's name in o, lies in one to read: it would be read next time."""
    read, written = (Path(getattr(o, name)).resolve() for name in (source, target))
    if written == read or read in written.parents:
        where = "is" if written == read else "lies in"
        raise OptionError("option", f"--{target}", f"{written} {where} the folder to read", "write elsewhere")


def pairs(folder_A: str | Path, folder_B: str | Path, marked: bool = False, alone: bool = False) -> list[Pair]:
    """Return the pairs of two folders: equal names below them, whatever their extensions, in order.

    Names that end in _A and _B are equal without; so they are if all do, and with `marked` others are passed over.
    Raises DataError naming pictures without a partner, unless `alone`, and names that stand for several pictures.
    """
    sides = [pictures(folder) for folder in (folder_A, folder_B)]
    marks = [all(path.stem.endswith(mark) for path in side) for side, mark in zip(sides, ("_A", "_B"), strict=True)]
    if marked:
        sides = [[path for path in side if path.stem.endswith(mark)]
                 for side, mark in zip(sides, ("_A", "_B"), strict=True)]  # fmt: skip
    cut = 2 if marked or all(marks) else 0
    for side, mark, folder in zip(sides, ("_A", "_B"), (folder_A, folder_B), strict=True):
        if not side:
            raise DataError("folder", folder, f"no name of a picture ends in {mark}", "leave out --use_AB")
    named_A, named_B = (_by_name(side, cut) for side in sides)
    several = sorted({name for side in (named_A, named_B) for name, paths in side.items() if len(paths) > 1})
    if several:
        why = f"hold several pictures of one name: {some(several)}"
        raise DataError("folders", f"{folder_A} and {folder_B}", why, "rename or remove all but one")
    lonely = [sorted(mine.keys() - others.keys()) for mine, others in ((named_A, named_B), (named_B, named_A))]
    both = sorted(named_A.keys() & named_B.keys())
    if any(lonely) and not (alone and both):
        why = "; ".join(f"{len(names)} of {len(side)} pictures of {where} have no partner: {some(names)}"
                        for names, side, where in zip(lonely, sides, "AB", strict=True) if names)  # fmt: skip
        remedy = "give partners equal names, or leave the others out with --allow_missing"
        raise DataError("folders", f"{folder_A} and {folder_B}", why, remedy)
    return [Pair(name, Path(folder_A, named_A[name][0]), Path(folder_B, named_B[name][0])) for name in both]


def _by_name(side: list[Path], cut: int) -> dict[str, list[Path]]:
    named: dict[str, list[Path]] = defaultdict(list)
    for path in side:
        name = path.with_suffix("").as_posix()
        # one file system composes accents, another takes them apart
        named[unicodedata.normalize("NFC", name[: len(name) - cut])].append(path)
    return named


Heads = dict[Path, lossless.Head]


def heads(paths: list[Path], o: argparse.Namespace) -> tuple[Heads, dict[Path, DataError]]:
    """Return what files say of their pictures; and what is wrong with those that say nothing, if these are skipped."""
    good: Heads = {}
    bad: dict[Path, DataError] = {}
    for path, found in each(lossless.head, paths, o.num_threads, "looking"):
        if isinstance(found, DataError):
            bad[path] = found
        else:
            good[path] = found
    if bad and o.on_bad_image == "stop":
        raise or_skip(next(iter(bad.values())), f"{len(bad)} of {len(paths)} files are bad; nothing was written")
    return good, bad


def join_tasks(found: list[Pair], folder: Path, o: argparse.Namespace) -> tuple[list[Task], list[str]]:
    """Return tasks that write pairs side by side to folder/NAME.EXTENSION, and what files cannot be read.

    o: resize ("" or a filter for B, to A's size), format ("keep" or one), num_threads, on_bad_image. Raises DataError
    listing pairs whose sizes differ.
    """
    known, bad = heads([path for pair in found for path in (pair.A, pair.B)], o)
    out = [f"{path}: {problem.args[2]}" for path, problem in bad.items()]
    whole = [pair for pair in found if pair.A in known and pair.B in known]
    sizes = [(pair.name, known[pair.A].size, known[pair.B].size) for pair in whole]
    unequal = [f"{name} ({a} and {b})" for name, a, b in sizes if a != b]
    if unequal and not o.resize:
        why = f"{len(unequal)} of {len(found)} differ in size: {some(unequal)}"
        raise DataError("pairs", "A and B", why, "bring B to A's size with --resize, or crop them alike")
    tasks = []
    for pair in whole:
        kind = pair_format(known[pair.A], known[pair.B], o.format)
        write = partial(_join, pair, kind=kind, resize=o.resize)
        tasks.append(Task(folder / (pair.name + suffix(pair.A, known[pair.A], kind, o.format)), pair.A, write))
    return tasks, out


def suffix(path: Path, head: lossless.Head, kind: str, wanted: str) -> str:
    """Return the extension of what a file becomes in a format: its own if it keeps that, whatever it is called."""
    return path.suffix if wanted == "keep" and kind == head.format else lossless.SUFFIXES[kind]


def pair_format(A: lossless.Head, B: lossless.Head, wanted: str) -> str:
    """Return the format of a pair: as asked; "keep" is that of both where it holds all or is JPEG, else PNG or TIFF."""
    if wanted != "keep":
        return FORMATS[wanted]
    if A.format == B.format and A.format in ("JPEG", "TIFF", "NPY"):
        return A.format
    return "PNG" if _fits_png(A) and _fits_png(B) else "TIFF"


def _fits_png(head: lossless.Head) -> bool:
    sixteen_bits = head.mode.startswith("I;16") or (head.mode == "I" and head.format == "PPM")
    return sixteen_bits or head.mode.removesuffix(";16") in lossless.EIGHT_BITS


def _join(pair: Pair, path: Path, kind: str, resize: str) -> None:
    """Write one pair side by side; where A and B have other colour profiles, in sRGB."""
    A, B = lossless.read(pair.A), lossless.read(pair.B)
    if A.profile != B.profile:
        A, B = lossless.read(pair.A, srgb=True), lossless.read(pair.B, srgb=True)
    if resize:
        B = lossless.scaled(B, (A.values.shape[1], A.values.shape[0]), resize)
    lossless.write(lossless.side_by_side(A, B, pair.name), path, kind)


def add_joining_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of join_tasks and pairs."""
    command.add_argument("--use_AB", action="store_true", help="pair NAME_A with NAME_B, and pass over other names; "
                         "needed only where there are others")  # fmt: skip
    command.add_argument("--allow_missing", action="store_true", help="leave out pictures without a partner")
    command.add_argument("--resize", nargs="?", const="bicubic", default="", choices=tuple(lossless.FILTERS),
                         metavar="FILTER", help="scale B to A's size where it differs, by bicubic (if none is named), "
                         "lanczos, bilinear, box or nearest, which suits label maps")  # fmt: skip
    command.add_argument("--format", choices=("keep", *FORMATS), default="keep", help="of the pairs; keep: as "
                         "both are if that is JPEG (quality 95), TIFF or NPY, else PNG, or TIFF for what no PNG "
                         "holds")  # fmt: skip


def share(name: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on a name and a seed alone, evenly spread over names."""
    text = f"{seed}/{unicodedata.normalize('NFC', name)}".encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64


def top_folder(name: str) -> str:
    """Return the first folder in a name below a folder; "" if it lies in none."""
    return name.partition("/")[0] if "/" in name else ""
