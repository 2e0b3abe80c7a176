"""Download a data set or a pretrained generator of the reference: python scripts/download.py NAME.

A data set becomes datasets/NAME, for --dataroot. A generator becomes the run NAME_pretrained in checkpoints, for
`python test.py --name NAME_pretrained`. If CycleGAN and pix2pix both have a NAME, choose with --cyclegan or --pix2pix.
A download that broke off is resumed when the same command is run again. Existing files are never overwritten.
"""

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from cli.main import run_command
from cli.script import Command
from data.download import catalog
from data.download.catalog import Source
from data.download.fetch import DownloadSpec, fetch
from data.download.partial import PartialFile, file_sha256, remove_partial, write_error
from data.download.unpack import DamagedArchive, UnsafeArchive, temporary_folder, unpack
from util import disk_space, file_lock
from util.atomic_write import replace_text
from util.errors import CheckpointError, EnvironmentFault, OptionError, printable

RECORDS_FILE = "downloads.json"  # in --to: {"files": {key: {"sha256", "bytes", "from"}}, "folders": {folder: key}}
WEIGHTS_FILE = "latest_net_G.pth"


def make_parser() -> Command:
    """Return the command-line parser."""
    parser = Command("download.py", __doc__)
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="what to download; see --list")
    parser.add_switch("--list", "print all names, sizes and descriptions")
    parser.add_switch("--model", "download the pretrained generator of that name, not the data set")
    family = parser.add_mutually_exclusive_group()
    for name in ("cyclegan", "pix2pix"):
        text = f"the one of {name}, if both have the name"
        family.add_argument(f"--{name}", action="store_const", const=name, dest="family", default="", help=text)
    text = "output folder (default: ./datasets; for a generator ./checkpoints)"
    parser.add_argument("--to", metavar="FOLDER", help=text)
    parser.add_argument("--url", default="", help="download the file from this address instead")
    text = "JSON: {start of an address: its replacement, or a list of them}"
    parser.add_argument("--mirrors", default="", metavar="FILE", help=text)
    parser.add_switch("--dry_run", "print what would be done, and do nothing")
    return parser


class ProgressBar(tqdm):
    """The progress of an operation: a bar on a terminal, elsewhere a line for every tenth."""

    def __init__(self, what: str, unit: str):
        super().__init__(desc=printable(what), unit=unit, unit_scale=True, disable=None, leave=False)
        self.what, self.tenth = what, 0

    def show(self, done: int, total: int | None) -> None:
        """Show how much is done, and how much there is in total (None if unknown)."""
        self.total = total
        self.update(done - self.n)
        if self.disable and total and done * 10 // total > self.tenth:
            self.tenth = done * 10 // total
            print(printable(f"{self.what}: {self.tenth}0 % of {disk_space.format_bytes(total)}"), flush=True)


class Records:
    """The record of downloads to a folder: the first checksum of each file, and the file that each folder is from."""

    def __init__(self, folder: Path):
        self.path = folder / RECORDS_FILE

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the records, empty if there are none; raise EnvironmentFault for a file that is not ours."""
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            records = json.loads(content or b'{"files": {}, "folders": {}}')
            return {"files": dict(records["files"]), "folders": dict(records["folders"])}
        except (OSError, ValueError, TypeError, KeyError) as problem:
            why = f"cannot be read ({type(problem).__name__})"
            raise EnvironmentFault("file", self.path, why, "fix or delete it") from problem

    def first_sum(self, source: Source) -> str:
        """Return the SHA-256 of the first download of a file; "" if it was not downloaded before."""
        return str(self.read()["files"].get(source.key, {}).get("sha256", ""))

    def add(self, source: Source, digest: str, size: int, address: str) -> None:
        """Record a download that is about to be moved into place."""
        lock = file_lock.acquire(self.path.with_name(f"{RECORDS_FILE}.lock"), "a second download", wait=True)
        assert lock is not None  # it has waited
        try:
            records = self.read()
            records["files"][source.key] = {"sha256": digest, "bytes": size, "from": address}
            records["folders"][source.folder] = source.key
            replace_text(self.path, json.dumps(records, indent=2, sort_keys=True) + "\n")
        finally:
            file_lock.remove(lock)


def target_path(source: Source, to: Path) -> Path:
    """Return the path that a download ends at: a folder of data, or a file of weights in a run's folder."""
    return to / source.folder / WEIGHTS_FILE if source.model else to / source.folder


def archive_path(source: Source, to: Path) -> Path:
    """Return where the downloaded file is kept until it is complete and checked."""
    return to / (source.folder + source.suffix)


def is_downloaded(source: Source, to: Path) -> bool:
    """Return whether a source was downloaded before; raise EnvironmentFault if something else is in its place."""
    place = target_path(source, to)
    if not os.path.lexists(place) or Records(to).read()["folders"].get(source.folder) == source.key:
        return os.path.lexists(place)
    why = "already exists, from another source, and is not overwritten"
    raise EnvironmentFault("file" if source.model else "folder", place, why, "move it away or choose another --to")


def download(source: Source, to: Path, addresses: list[str]) -> None:
    """Download a file, or take the one that was downloaded by hand, and put it in place."""
    archive = archive_path(source, to)
    try:
        to.mkdir(parents=True, exist_ok=True)
        part = PartialFile(archive, copies=1 if source.model else 2)
    except OSError as problem:
        raise write_error(to, problem) from problem
    try:
        if is_downloaded(source, to):  # another process was faster
            report_existing(source, to)
        elif archive.is_file() and not source.model:
            install(source, to, archive, str(archive), file_sha256(archive))
        else:
            part.check_free_space(source.size)
            by_hand = f"fetch it by hand and save it as {target_path(source, to) if source.model else archive}"
            by_hand += "" if source.model else ", then run this again"
            with ProgressBar(source.file, "B") as progress:
                spec = DownloadSpec(part, source.signatures, progress.show)
                spec.max_bytes = source.size if source.sha256 else spec.max_bytes
                address = fetch(addresses, spec, by_hand)
            install(source, to, part.path, address, part.sha256(), part)
    except OSError as problem:
        raise write_error(part.path, problem, (part.metadata.get("total") or 0) - part.size) from problem
    finally:
        part.close()


def install(source: Source, to: Path, file: Path, address: str, digest: str, part: PartialFile | None = None) -> None:
    """Check a complete file and put it, or its content, in place; a bad part is kept as .bad."""
    place, hint = target_path(source, to), f"; use it: python test.py --name {source.folder} --dataroot FOLDER"
    record = partial(Records(to).add, source, digest, file.stat().st_size, address)
    try:
        check_sha256(source, to, digest)
        if source.model:
            check_weights(file)
            record()
            place.parent.mkdir(exist_ok=True)
        else:
            with ProgressBar(f"unpacking {source.file}", " files") as progress:
                number = unpack(file, place, progress.show, record)
                hint = f" ({number:,} file{'s' * (number != 1)})"
        if part is not None:
            part.move_to(place) if source.model else part.remove()
    except (UnsafeArchive, DamagedArchive) as problem:
        raise rejected_error(file, address, problem, part) from problem
    except OSError as problem:
        raise write_error(place, problem) from problem
    print(printable(f"{source.file} -> {place}{hint}"))
    if not source.sha256:
        print(printable(f"its SHA-256 was unknown; it is recorded for the next time in {to / RECORDS_FILE}: {digest}"))


def check_sha256(source: Source, to: Path, digest: str) -> None:
    """Raise UnsafeArchive for a file that is not the known one, or not that of the first download."""
    expected = source.sha256 or Records(to).first_sum(source)
    if expected not in ("", digest):
        origin = "" if source.sha256 else f", as recorded in {RECORDS_FILE} at the first download"
        raise UnsafeArchive(f"expected SHA-256 {expected}{origin}, got {digest}")


def check_weights(file: Path) -> None:
    """Raise DamagedArchive for a file without usable weights."""
    from serialization.weight_files import load_weights  # imports torch, which data sets do not need

    try:
        load_weights(file)
    except CheckpointError as problem:
        raise DamagedArchive(problem.args[2]) from problem


def rejected_error(file: Path, address: str, problem: Exception, part: PartialFile | None) -> EnvironmentFault:
    """Return the error for a file that is complete but wrong, and rename it to .bad."""
    bad_file = file
    if part is not None:
        bad_file = file.with_name(file.name.removesuffix(".part") + ".bad")
        part.move_to(bad_file)
    why = f"refused: {problem}" if isinstance(problem, UnsafeArchive) else f"is damaged or incomplete ({problem})"
    remedy = f"nothing of it was installed; it is from {address}: try again later, or another --url"
    return EnvironmentFault("file", bad_file, why, remedy)


def main(argv, report):
    """Answer --list and --dry_run, or download."""
    o = make_parser().parse_argv(argv)
    if o.list:
        print(catalog.format_table())
        return
    if not o.name:
        raise OptionError("command", "download.py", "names nothing to download", "give a NAME; --list prints all")
    source = catalog.find_source(o.name, o.family, o.model)
    if o.url:
        catalog.check_address(o.url, "--url")
    mirrors = catalog.read_mirrors(o.mirrors) if o.mirrors else {}
    addresses = [o.url] if o.url else source.addresses(mirrors)
    folder = Path(o.to or ("checkpoints" if source.model else "datasets"))
    if o.dry_run:
        print(*map(printable, describe_plan(source, folder, addresses)), sep="\n")
    elif is_downloaded(source, folder):
        report_existing(source, folder)
    else:
        report.saved_text = lambda: "the same command resumes from there"
        download(source, folder, addresses)


def report_existing(source: Source, to: Path) -> None:
    """Print that there is nothing to do, and delete what a call left that was killed at its very end."""
    place = target_path(source, to)
    remove_partial(archive_path(source, to))
    if temporary_folder(place).exists():
        shutil.rmtree(temporary_folder(place))
    print(printable(f"{place} already exists: it was downloaded before and is not overwritten"))


def describe_plan(source: Source, to: Path, addresses: list[str]) -> list[str]:
    """Return what a download would do, as lines."""
    existing, place = next(folder for folder in (to, *to.resolve().parents) if folder.is_dir()), target_path(source, to)
    free_bytes = disk_space.free_bytes(existing)
    free = "unknown" if free_bytes is None else disk_space.format_bytes(free_bytes)
    sha256 = source.sha256 or Records(to).first_sum(source) or "unknown; recorded at the first download"
    return [
        f"file     {source.file}",
        f"address  {', or '.join(addresses)}",
        f"size     {catalog.size_text(source)}",
        f"sha256   {sha256}",
        f"becomes  {place}{' (already exists)' if os.path.lexists(place) else ''}",
        f"free     {free} in {existing}",
    ]


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
