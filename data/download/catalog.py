"""List the reference's data sets and pretrained generators with their sizes, checksums and addresses.

They are in catalog.tsv, whose checksums come from TensorFlow Datasets' list of the same files.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from util.disk_space import format_bytes
from util.errors import OptionError
from util.spelling import nearest

_TABLE = Path(__file__).with_name("catalog.tsv")  # bytes are 0 if unknown, approximate without a checksum
_SUFFIXES = {("cyclegan", False): ".zip", ("pix2pix", False): ".tar.gz"}
_SIGNATURES = {".zip": (b"PK\3\4",), ".tar.gz": (b"\x1f\x8b",), ".pth": (b"PK\3\4", b"\x80\2")}
PRETRAINED_SUFFIX = "_pretrained"  # ends the name of the run that a generator becomes

_HOST = "https://efrosgans.eecs.berkeley.edu"  # the reference's scripts download the same files by http
_OLD_HOST = "https://people.eecs.berkeley.edu"
_BASE_URLS = {  # (family, whether it is a model): where its files are, in the order tried
    ("cyclegan", False): (f"{_HOST}/cyclegan/datasets/", f"{_OLD_HOST}/~taesung_park/CycleGAN/datasets/"),
    ("pix2pix", False): (f"{_HOST}/pix2pix/datasets/", f"{_OLD_HOST}/~tinghuiz/projects/pix2pix/datasets/"),
    ("cyclegan", True): (f"{_HOST}/cyclegan/pretrained_models/",),
    ("pix2pix", True): (f"{_HOST}/pix2pix/models-pytorch/",),
}
_CITYSCAPES_BY_HAND = (
    "fetch gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip by hand from https://www.cityscapes-dataset.com/"
    "downloads/, unpack them, and prepare them with python scripts/prepare_cityscapes.py"
)


@dataclass(frozen=True)
class Source:
    """One file to download: a data set of a family (cyclegan, pix2pix), or one of its pretrained generators."""

    name: str
    family: str
    model: bool
    size: int
    sha256: str
    description: str

    @property
    def suffix(self) -> str:
        """The extension of the file."""
        return _SUFFIXES.get((self.family, self.model), ".pth")

    @property
    def file(self) -> str:
        """The name of the file on its servers."""
        return self.name + self.suffix

    @property
    def signatures(self) -> tuple[bytes, ...]:
        """The bytes that such a file may start with."""
        return _SIGNATURES[self.suffix]

    @property
    def key(self) -> str:
        """The path on the first server, which identifies the source in the records because it is unique."""
        return urlsplit(_BASE_URLS[self.family, self.model][0] + self.file).path.lstrip("/")

    @property
    def folder(self) -> str:
        """The folder that the file becomes, below --to."""
        return self.name + PRETRAINED_SUFFIX if self.model else self.name

    def addresses(self, mirrors: dict[str, list[str]]) -> list[str]:
        """Return the addresses of the file: only mirrors if any mirror has it, else the original ones."""
        original = [place + self.file for place in _BASE_URLS[self.family, self.model]]
        mirrored: dict[str, None] = {}
        for stripped in map(_without_scheme, original):
            for old, news in mirrors.items():
                mirrored |= {new + stripped.removeprefix(old): None for new in news if stripped.startswith(old)}
        return list(mirrored) or original


def all_sources() -> list[Source]:
    """Return everything that can be downloaded, data sets first."""
    rows = [line.split("\t") for line in _TABLE.read_text(encoding="utf-8").splitlines()[1:]]
    return [Source(name, family, kind == "generator", int(size), *rest) for family, kind, name, size, *rest in rows]


def size_text(source: Source) -> str:
    """Return the size of a file as text; "about" marks an approximate size."""
    if not source.size:
        return "unknown"
    return format_bytes(source.size) if source.sha256 else f"about {format_bytes(source.size)}"


def format_table() -> str:
    """Return a table of everything that can be downloaded, with the name and flags that select it."""
    sources = all_sources()
    rows = [("NAME AND FLAGS", "SIZE", "SHA-256", "WHAT")]
    for source in sources:
        same_name = [s for s in sources if s.name == source.name]
        flags = " --model" if source.model and any(not s.model for s in same_name) else ""
        flags += f" --{source.family}" if sum(s.model == source.model for s in same_name) > 1 else ""
        rows.append((source.name + flags, size_text(source), source.sha256[:8] or "-", source.description))
    rows.append(("cityscapes", "", "-", "to be fetched by hand; download.py cityscapes prints how"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join([*(text.ljust(width) for text, width in zip(row, widths)), row[3]]) for row in rows)


def find_source(name: str, family: str = "", model: bool = False) -> Source:
    """Return the source with a name: a data set, or a generator with `model` or if no data set has the name.

    Raises OptionError for a name that is unknown, belongs to both families, or may not be redistributed (cityscapes).
    """
    if name.endswith(PRETRAINED_SUFFIX):
        name, model = name.removesuffix(PRETRAINED_SUFFIX), True
    if name == "cityscapes" and not model:
        raise OptionError("data set", name, "its licence forbids redistribution", _CITYSCAPES_BY_HAND)
    fitting = [s for s in all_sources() if s.family in (family or s.family) and s.model >= model]
    named = [source for source in fitting if source.name == name]
    matches = [source for source in named if source.model == named[0].model]
    if len(matches) > 1:
        kinds = " and one ".join(f"of {source.family} ({source.file})" for source in matches)
        ways = " or ".join(f"--{source.family}" for source in matches)
        raise OptionError("name", name, f"there is one {kinds}", f"choose with {ways}")
    if matches:
        return matches[0]
    # Suggest the other family, or the nearest name.
    sort = f"{family} {'generator' if model else 'data set or generator'}".lstrip()
    near = nearest(Path(name).name, sorted({source.name for source in fitting} | set([] if model else ["cityscapes"])))
    remedy = (f"did you mean {near}? " if near else "") + "see --list"
    if others := {s.family for s in all_sources() if s.name == name and s.model >= model}:
        remedy = f"there is one with --{others.pop()}"
    raise OptionError("name", name, f"no {sort} has this name", remedy)


def read_mirrors(path: str) -> dict[str, list[str]]:
    """Return {start of an address without its scheme: addresses that replace it} from a JSON file.

    In the file, each start maps to an address, or to a list of addresses that are tried in turn.
    """
    try:
        parsed = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or f"is not JSON ({problem})"
        raise OptionError("option", "--mirrors", f"{path}: {why}", "see docs/data.md") from problem
    if not isinstance(parsed, dict):
        raise OptionError("option", "--mirrors", f"{path}: is not a JSON object", "see docs/data.md")
    mirrors = {_without_scheme(old): [new] if isinstance(new, str) else new for old, new in parsed.items()}
    for news in mirrors.values():
        for new in news if isinstance(news, list) else [news]:
            check_address(new, "--mirrors")
    return mirrors


def check_address(address: object, flag: str) -> None:
    """Raise OptionError if an address is not one of a web server."""
    try:
        parts = urlsplit(address if isinstance(address, str) and re.fullmatch("[!-~]+", address) else "")
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != -1  # raises for an invalid port
    except ValueError:
        fits = False
    if not fits:
        raise OptionError("option", flag, f"'{address}' is not an address", "use one with https:// or http://")


def _without_scheme(address: str) -> str:
    """Return an address without its scheme, because a mirror of http://HOST also replaces https://HOST."""
    return address.partition("://")[2] or address
