"""Download a data set or a pretrained generator of the reference: python scripts/download.py NAME.

A data set becomes datasets/NAME, for --dataroot; a generator becomes the run NAME_pretrained in checkpoints, for
`python test.py --name NAME_pretrained`. Where CycleGAN and pix2pix both have a NAME, say which. A download that was
cut goes on where it broke off when the same command is given again. What is there already is never overwritten.
"""

import contextlib
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tqdm import tqdm

from cli.main import guarded
from cli.script import Command
from data.download import catalog
from data.download.catalog import Source
from data.download.fetch import Wish, fetch
from data.download.partial import Part, forget, sha256, unwritable
from data.download.unpack import Broken, Refused, being_unpacked, unpack
from util import disk_space, file_lock
from util.atomic_write import replace_text
from util.errors import CheckpointError, EnvironmentFault, OptionError, printable

RECORDS = "downloads.json"  # in --to: {"files": {key: {"sha256", "bytes", "from"}}, "folders": {folder: key}}
WEIGHTS = "latest_net_G.pth"


def parser() -> Command:
    """Return what reads the command line."""
    made = Command("download.py", __doc__)
    made.add_argument("name", nargs="?", default="", metavar="NAME", help="what to download; see --list")
    made.add_argument("--list", action="store_true", help="print all names, sizes and what they are")
    made.add_argument("--model", action="store_true", help="the pretrained generator of that name, not the data set")
    family = made.add_mutually_exclusive_group()
    for name in ("cyclegan", "pix2pix"):
        family.add_argument(f"--{name}", action="store_const", const=name, dest="family", default="",
                            help=f"the one of {name}, where both have the name")  # fmt: skip
    made.add_argument("--to", metavar="FOLDER", help="the folder to put it in (default: ./datasets, a generator: "
                      "./checkpoints)")  # fmt: skip
    made.add_argument("--url", default="", help="take the file from this address instead")
    made.add_argument("--mirrors", default="", metavar="FILE", help="JSON: {beginning of an address: what replaces it, "
                      "or a list of such}")  # fmt: skip
    made.add_argument("--dry_run", action="store_true", help="say what would be done, and do nothing")
    return made


class Progress:
    """How far something is: a bar on a terminal, elsewhere a line for every tenth."""

    def __init__(self, what: str, unit: str, total: int | None = None):
        self.what, self.tenth = what, 0
        self.bar = tqdm(desc=printable(what), unit=unit, unit_scale=True, total=total, disable=None, leave=False)

    def __call__(self, done: int, total: int | None) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)
        if self.bar.disable and total and done * 10 // total > self.tenth:
            self.tenth = done * 10 // total
            print(printable(f"{self.what}: {self.tenth}0 % of {disk_space.in_units(total)}"), flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()


class Records:
    """What was downloaded into a folder: the first checksum of each file, and which file each folder was made of."""

    def __init__(self, to: Path):
        self.path = to / RECORDS

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the records, empty if there are none; raise EnvironmentFault for what is not ours."""
        try:
            found = json.loads(self.path.read_bytes() or b'{"files": {}, "folders": {}}')
            return {"files": dict(found["files"]), "folders": dict(found["folders"])}
        except FileNotFoundError:
            return {"files": {}, "folders": {}}
        except (OSError, ValueError, TypeError, KeyError) as problem:
            raise EnvironmentFault("file", self.path, f"cannot be read ({type(problem).__name__})",
                                   "mend or remove it") from problem  # fmt: skip

    def first_sum(self, source: Source) -> str:
        """Return the checksum of the first download of a file, "" if there was none."""
        return str(self.read()["files"].get(source.key, {}).get("sha256", ""))

    def add(self, source: Source, digest: str, size: int, address: str) -> None:
        """Note what is about to get its name."""
        with file_lock.opened(self.path, "a second download", wait=True) or contextlib.nullcontext():
            found = self.read()
            found["files"][source.key] = {"sha256": digest, "bytes": size, "from": address}
            found["folders"][source.folder] = source.key
            replace_text(self.path, json.dumps(found, indent=2, sort_keys=True) + "\n")


def place_of(source: Source, to: Path) -> Path:
    """Return what a download ends as: a folder of data, or a file of weights in a run's folder."""
    return to / source.folder / WEIGHTS if source.model else to / source.folder


def archive_of(source: Source, to: Path) -> Path:
    """Return where a file of the web is kept until it is whole and checked."""
    return to / (source.folder + source.suffix)


def is_there(source: Source, to: Path) -> bool:
    """Whether it was downloaded before; raise EnvironmentFault if something else stands in its place."""
    place = place_of(source, to)
    if not os.path.lexists(place):
        return False
    if Records(to).read()["folders"].get(source.folder) == source.key:
        return True
    raise EnvironmentFault("file" if source.model else "folder", place, "is there already, from elsewhere, and is not "
                           "overwritten", "move it away or choose another --to")  # fmt: skip


def obtain(source: Source, to: Path, addresses: list[str]) -> None:
    """Download a file, or take the one that was fetched by hand, and put it in its place."""
    archive, place = archive_of(source, to), place_of(source, to)
    try:
        to.mkdir(parents=True, exist_ok=True)
        part = Part(archive)
    except OSError as problem:
        raise unwritable(to, problem) from problem
    try:
        if is_there(source, to):  # another process was faster
            say_there(source, to)
        elif archive.is_file() and not source.model:
            finish(source, to, archive, str(archive), sha256(archive))
        else:
            copies, parts = (1, "the file") if source.model else (2, "the archive, and what is in it")
            kept = place if source.model else archive
            by_hand = f"fetch it by hand and save it as {kept}" + ("" if source.model else ", then run this again")
            part.check_room(source.size * copies, parts)
            with Progress(source.file, "B") as show:
                wish = Wish(part, source.beginnings, lambda size: part.check_room(size * copies, parts), show)
                wish.largest = source.size if source.sha256 else wish.largest
                address = fetch(addresses, wish, by_hand)
            finish(source, to, part.path, address, part.sha256(), part)
    finally:
        part.close()


def finish(source: Source, to: Path, file: Path, address: str, digest: str, part: Part | None = None) -> None:
    """Check a whole file and put it, or what is in it, in its place; a part that is not right is kept as .bad."""
    place = place_of(source, to)
    note = partial(Records(to).add, source, digest, file.stat().st_size, address)
    try:
        check_sum(source, to, digest)
        if source.model:
            check_weights(file)
            note()
            place.parent.mkdir(exist_ok=True)
        else:
            with Progress(f"unpacking {source.file}", " files") as show:
                count = unpack(file, place, show, note)
        if part is not None:
            part.become(place) if source.model else part.remove()
    except (Refused, Broken) as problem:
        raise rejected(file, address, problem, part) from problem
    except OSError as problem:
        raise unwritable(place, problem) from problem
    use = f"; use it: python test.py --name {source.folder} --dataroot FOLDER"
    print(printable(f"{source.file} -> {place}" + (use if source.model else f" ({count:,} files)")))
    if not source.sha256:
        print(printable(f"nobody wrote its SHA-256 down before; noted for the next time in {to / RECORDS}: {digest}"))


def check_sum(source: Source, to: Path, digest: str) -> None:
    """Raise Refused for a file that is not the known one, or not that of the first download."""
    expected = source.sha256 or Records(to).first_sum(source)
    if expected not in ("", digest):
        of = "" if source.sha256 else f", as noted in {RECORDS} when it was first downloaded"
        raise Refused(f"expected SHA-256 {expected}{of}, got {digest}")


def check_weights(file: Path) -> None:
    """Raise Broken for a file that holds no weights that can be used."""
    from serialization.weight_files import weights  # imports torch, which data sets do not need

    try:
        weights(file)
    except CheckpointError as problem:
        raise Broken(problem.args[2]) from problem


def rejected(file: Path, address: str, problem: Exception, part: Part | None) -> EnvironmentFault:
    """Return the error for a file that came whole and is not right, and put it aside."""
    bad = file
    if part is not None:
        bad = file.with_name(file.name.removesuffix(".part") + ".bad")
        part.become(bad)
    why = f"refused: {problem}" if isinstance(problem, Refused) else f"is damaged or not whole ({problem})"
    return EnvironmentFault("file", bad, why, f"nothing of it was put in place; it is from {address}: "
                            "try again later, or another --url")  # fmt: skip


def main(argv, report):
    """Answer --list and --dry_run, or download."""
    o = parser().read(argv)
    if o.list:
        print(catalog.listing())
        return
    if not o.name:
        raise OptionError("command", "download.py", "names nothing to download", "give a NAME; --list prints all")
    source = catalog.find(o.name, o.family, o.model)
    if o.url:
        catalog.check_address(o.url, "--url")
    mirrors = catalog.read_mirrors(o.mirrors) if o.mirrors else {}
    addresses = [o.url] if o.url else source.addresses(mirrors)
    to = Path(o.to or ("checkpoints" if source.model else "datasets"))
    if o.dry_run:
        print(*map(printable, plan(source, to, addresses)), sep="\n")
    elif is_there(source, to):
        say_there(source, to)
    else:
        report.stands = lambda: "the same command goes on from there"
        obtain(source, to, addresses)


def say_there(source: Source, to: Path) -> None:
    """Say that there is nothing to do, and remove what a call that was killed at its very end left."""
    place = place_of(source, to)
    forget(archive_of(source, to))
    if being_unpacked(place).exists():
        shutil.rmtree(being_unpacked(place))
    print(printable(f"{place} is there already: it was downloaded before, and is not overwritten"))


def plan(source: Source, to: Path, addresses: list[str]) -> list[str]:
    """Return what a download would do, in lines."""
    existing = next(folder for folder in (to, *to.resolve().parents) if folder.is_dir())
    there = disk_space.free(existing)
    rows = {
        "file": source.file,
        "address": ", or ".join(addresses),
        "size": catalog.size_in_words(source),
        "sha256": source.sha256 or Records(to).first_sum(source) or "not known; noted at the first download",
        "becomes": f"{place_of(source, to)}" + (" (is there already)" if os.path.lexists(place_of(source, to)) else ""),
        "free": f"{disk_space.in_units(there) if there is not None else 'unknown'} in {existing}",
    }
    return [f"{name:8} {text}" for name, text in rows.items()]


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
