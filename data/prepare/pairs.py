"""Find the images, pairs, sizes and splits in folders for the scripts that prepare data sets."""

import argparse
import hashlib
import os
import unicodedata
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from data.listing.demo import Demo
from data.listing.files import find_storage, list_files
from data.listing.paths import EXTENSIONS
from data.listing.unused import nested_notes, unused_notes
from data.notes.label_maps import resampling_note
from data.prepare import lossless
from data.prepare.batch import Task, format_names, map_in_threads, skippable_error
from util.errors import DataError, OptionError, count_text, print_line
from util.spelling import path_hint

FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF", "npy": "NPY"}  # value of --format: format


class Pair(NamedTuple):
    """Two images that belong together, and their common name below the folder, without extension."""

    name: str
    A: Path
    B: Path


def list_images(folder: str | Path) -> list[Path]:
    """Return the images under a folder, with sub-folders, as paths relative to it; DataError if there are none."""
    root = Path(folder)
    if isinstance(find_storage(str(folder)), Demo):
        raise DataError("folder", folder, "has no files because its images are generated", "give a folder of images")
    listed = list_files(str(folder))
    found = [Path(os.path.relpath(path, root)) for path in listed]
    if not found:
        remedy = path_hint(str(folder)) or f"put images there: {', '.join(EXTENSIONS)}"
        raise DataError("folder", folder, _missing_images_reason(root), remedy)
    for note in [*unused_notes([(str(root), listed.unused)]), *nested_notes([listed])]:
        print_line(note)
    return found


def _missing_images_reason(root: Path) -> str:
    """Return what a folder without images holds instead."""
    if root.is_file():
        return "is a file, not a folder"
    if not root.is_dir():
        around = root.absolute().parent
        beside = format_names(sorted(p.name for p in around.iterdir())) if around.is_dir() else ""
        return f"there is no such folder (beside it: {beside or 'nothing'})"
    names = sorted(p.name + "/" * p.is_dir() for p in root.iterdir())
    return f"holds no images, only {format_names(names)}" if names else "is empty"


def check_folders_apart(o: argparse.Namespace, source: str, target: str) -> None:
    """Raise OptionError if the output folder is or is inside the input folder: the next run would read it.

    source, target: the flags' names in o.
    """
    read, written = (Path(getattr(o, name)).resolve() for name in (source, target))
    if written == read or read in written.parents:
        where = "is" if written == read else "is inside"
        raise OptionError("option", f"--{target}", f"{written} {where} the input folder", "write elsewhere")


def find_pairs(
    folder_A: str | Path, folder_B: str | Path, suffixed_only: bool = False, allow_missing: bool = False
) -> list[Pair]:
    """Return the pairs of two folders in order: images with equal relative names, extensions aside.

    The endings _A and _B are dropped if all names have them, or with `suffixed_only`, which ignores names without them.
    Raises DataError naming images without a partner, unless `allow_missing`, and names that several images share.
    """
    # List the images, and see whether names end in _A and _B.
    sides = [list_images(folder) for folder in (folder_A, folder_B)]
    marked = [[path for path in side if path.stem.endswith(mark)] for side, mark in zip(sides, ("_A", "_B"))]
    suffix_length = 2 if suffixed_only or marked == sides else 0
    sides = marked if suffixed_only else sides
    for side, mark, folder in zip(sides, ("_A", "_B"), (folder_A, folder_B), strict=True):
        if not side:
            raise DataError("folder", folder, f"no image name ends in {mark}", "omit --use_AB")

    # Match names.
    named_A, named_B = (_group_by_name(side, suffix_length) for side in sides)
    ambiguous = sorted({name for side in (named_A, named_B) for name, paths in side.items() if len(paths) > 1})
    if ambiguous:
        why = f"hold several images with the same name: {format_names(ambiguous)}"
        raise DataError("folders", f"{folder_A} and {folder_B}", why, "rename or remove all but one")
    unpartnered = [sorted(mine.keys() - others.keys()) for mine, others in ((named_A, named_B), (named_B, named_A))]
    common = sorted(named_A.keys() & named_B.keys())
    if any(unpartnered) and not (allow_missing and common):
        why = "; ".join(
            f"{len(names)} of {len(side)} images of {where} have no partner: {format_names(names)}"
            for names, side, where in zip(unpartnered, sides, "AB", strict=True)
            if names
        )
        remedy = "give partners equal names, or skip the others with --allow_missing"
        raise DataError("folders", f"{folder_A} and {folder_B}", why, remedy)
    return [Pair(name, Path(folder_A, named_A[name][0]), Path(folder_B, named_B[name][0])) for name in common]


def _group_by_name(side: list[Path], cut: int) -> dict[str, list[Path]]:
    named: dict[str, list[Path]] = defaultdict(list)
    for path in side:
        name = path.with_suffix("").as_posix()
        # some file systems compose accents, others decompose them
        named[unicodedata.normalize("NFC", name[: len(name) - cut])].append(path)
    return named


FileHeaders = dict[Path, lossless.FileHeader]


def read_headers(paths: list[Path], o: argparse.Namespace) -> tuple[FileHeaders, list[str]]:
    """Return the headers of images, and a line on each unreadable one; raise if o.on_bad_image is "stop"."""
    headers = dict(map_in_threads(lossless.read_header, paths, o.num_threads, "reading headers"))
    bad = {path: header for path, header in headers.items() if isinstance(header, DataError)}
    if bad and o.on_bad_image == "stop":
        more = f"{len(bad)} of {len(paths)} files are bad; nothing was written"
        raise skippable_error(next(iter(bad.values())), more)
    good = {path: header for path, header in headers.items() if not isinstance(header, DataError)}
    _print_unused_frames(good)
    return good, [f"{path}: {problem.args[2]}" for path, problem in bad.items()]


def _print_unused_frames(headers: FileHeaders) -> None:
    """Print a note if images hold several frames or pages, of which only the first is read."""
    found = [path for path, header in headers.items() if header.frames > 1 and not _are_channels(header)]
    if found:
        said = f"{count_text(len(found), 'image')} with several frames or pages, such as '{found[0]}'"
        print_line(f"note: {said}: only the first is used")


def _are_channels(header: lossless.FileHeader) -> bool:
    """Return whether the pages of a file are read as channels: three of a TIFF of more than 8 bits."""
    return header.frames == 3 and header.format == "TIFF" and header.mode.startswith(("I", "F"))


def join_tasks(pairs: list[Pair], folder: Path, o: argparse.Namespace) -> tuple[list[Task], list[str]]:
    """Return tasks that write pairs side by side to folder/NAME.EXTENSION, and lines on unreadable files.

    o: resize ("" or the filter that scales B to A's size), format ("keep" or one of FORMATS), num_threads,
    on_bad_image. Raises DataError listing pairs whose sizes differ.
    """
    headers, skipped = read_headers([path for pair in pairs for path in (pair.A, pair.B)], o)
    readable = [pair for pair in pairs if pair.A in headers and pair.B in headers]
    sizes = [(pair.name, headers[pair.A].size, headers[pair.B].size) for pair in readable]
    unequal = [f"{name} ({a} and {b})" for name, a, b in sizes if a != b]
    if unequal and not o.resize:
        why = f"{len(unequal)} of {len(pairs)} differ in size: {format_names(unequal)}"
        raise DataError("pairs", "A and B", why, "scale B to A's size with --resize, or crop both alike")
    scaled = [pair.B for pair in readable if headers[pair.A].size != headers[pair.B].size]
    if scaled and o.resize != "nearest" and (note := resampling_note(scaled, "--resize nearest")):
        print_line(note)
    tasks = []
    for pair in readable:
        kind = pair_format(headers[pair.A], headers[pair.B], o.format)
        write = partial(_write_pair, pair, kind=kind, resize=o.resize)
        tasks.append(Task(folder / (pair.name + output_suffix(pair.A, headers[pair.A], kind, o.format)), pair.A, write))
    return tasks, skipped


def output_suffix(path: Path, head: lossless.FileHeader, kind: str, wanted: str) -> str:
    """Return the extension of a converted file: its own, even if unusual, if the format is kept."""
    return path.suffix if wanted == "keep" and kind == head.format else lossless.SUFFIXES[kind]


def pair_format(A: lossless.FileHeader, B: lossless.FileHeader, wanted: str) -> str:
    """Return the requested format; for "keep" that of both if it is JPEG, TIFF or NPY, else PNG or TIFF."""
    if wanted != "keep":
        return FORMATS[wanted]
    if A.format == B.format and A.format in ("JPEG", "TIFF", "NPY"):
        return A.format
    return "PNG" if _fits_png(A) and _fits_png(B) else "TIFF"


def _fits_png(head: lossless.FileHeader) -> bool:
    sixteen_bits = head.mode.startswith("I;16") or (head.mode == "I" and head.format == "PPM")
    return sixteen_bits or head.mode.removesuffix(";16") in lossless.EIGHT_BIT_MODES


def _write_pair(pair: Pair, path: Path, kind: str, resize: str) -> None:
    """Write one pair side by side, in sRGB if one colour profile cannot describe both."""
    A, B = lossless.read_image(pair.A), lossless.read_image(pair.B)
    if A.profile != B.profile or (A.profile and (A.channels > 2) != (B.channels > 2)):  # a profile fits grey or colours
        A, B = lossless.read_image(pair.A, srgb=True), lossless.read_image(pair.B, srgb=True)
    if resize:
        B = lossless.resize(B, (A.values.shape[1], A.values.shape[0]), resize)
    lossless.write_image(lossless.join_side_by_side(A, B, pair.name), path, kind)


def add_joining_flags(command: Any) -> None:
    """Add the flags that find_pairs and join_tasks read to a Command of cli/script.py."""
    command.add_switch("--use_AB", "pair NAME_A with NAME_B and ignore other names; needed only if there are others")
    command.add_switch("--allow_missing", "skip images without a partner")
    resize = {"nargs": "?", "const": "bicubic", "default": "", "choices": tuple(lossless.RESAMPLE_FILTERS)}
    text = "with bicubic (default), lanczos, bilinear, box or nearest, which suits label maps"
    command.add_argument("--resize", **resize, metavar="FILTER", help=f"scale B to A's size if it differs, {text}")
    text = "of the pairs; keep: that of both if it is JPEG (quality 95), TIFF or NPY, else PNG, or TIFF for values that"
    command.add_argument("--format", choices=("keep", *FORMATS), default="keep", help=f"{text} PNG cannot hold")


def hash_fraction(name: str, seed: int) -> float:
    """Return a number in [0, 1) that depends only on name and seed and is uniform over names."""
    text = f"{seed}/{unicodedata.normalize('NFC', name)}".encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64


def top_folder(name: str) -> str:
    """Return the first folder of a relative path; "" if it has none."""
    return name.partition("/")[0] if "/" in name else ""
