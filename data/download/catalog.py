"""List the reference's data sets and pretrained generators with their sizes, checksums and addresses.

Sizes without a checksum are approximate. The checksums come from TensorFlow Datasets' list of the same files.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from util.disk_space import format_bytes
from util.errors import OptionError
from util.spelling import nearest

_DATASETS = {  # family: {name: (bytes, or 0 if unknown; SHA-256, or "" if unknown; description)}
    "cyclegan": {
        "ae_photos": (0, "", "photographs for the paintings' generators"),
        "apple2orange": (
            78_456_409,
            "845a191e9af8926408ea597001cd03a452e3300a1f44a79fe329b3d59f6e3eb8",
            "apples and oranges",
        ),
        "summer2winter_yosemite": (
            132_640_856,
            "167fe1726807a9d22bd106b4a6c0bd7953b688af924ac1bf967439c4961e49f9",
            "Yosemite in summer and in winter",
        ),
        "horse2zebra": (
            116_867_962,
            "a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1",
            "horses and zebras",
        ),
        "monet2photo": (
            305_231_073,
            "88f91b00fc228f97c9411fbf1880ec1d119c98f1722e4cfcfaa2fb35fac05b04",
            "Monet's paintings and photographs",
        ),
        "cezanne2photo": (
            279_885_071,
            "3a6c10ca21f9485862f1cbd707744b9dc258954a04631271d23a3605eeb63cff",
            "Cezanne's paintings and photographs",
        ),
        "ukiyoe2photo": (
            292_946_532,
            "02a2a2fb5ecf425ca1bf86aca7304377da64a2a1d3b86df54eb65e4068bf3b08",
            "Japanese prints and photographs",
        ),
        "vangogh2photo": (
            306_590_349,
            "362c3473e70be0944bda08d49d660eafdc2854df55d697835b8186d1d79caaff",
            "van Gogh's paintings and photographs",
        ),
        "maps": (
            1_476_754_427,
            "639534f69dbf9f36bef8d6292a7698006361221f83f0285d7c9ca78afe6e8a9e",
            "aerial photographs and maps",
        ),
        "facades": (
            35_135_868,
            "9a31ebf3a31b9b5cd195dd5bf62e9308e00cb94604d1019e3889ac84248695c0",
            "front walls and their label maps",
        ),
        "iphone2dslr_flower": (
            339_964_458,
            "8fcb5e374d631b107e1d961b8c4cd0a186aa2a4ff3e279923f4c426128de7113",
            "flowers by a telephone and by a camera",
        ),
        "grumpifycat": (0, "", "cats of two breeds"),
        "mini": (0, "", "a few horses and zebras, to try things"),
        "mini_pix2pix": (0, "", "a few pairs, to try things"),
        "mini_colorization": (0, "", "a few colour images, to try things"),
    },
    "pix2pix": {
        "facades": (30_168_306, "", "front walls and their label maps, in pairs"),
        "maps": (250_000_000, "", "aerial photographs and maps, in pairs"),
        "edges2shoes": (2_100_000_000, "", "edges and shoes, in pairs"),
        "edges2handbags": (8_200_000_000, "", "edges and handbags, in pairs"),
        "night2day": (2_000_000_000, "", "places by night and by day, in pairs"),
    },
}
_MODELS = {
    "cyclegan": "apple2orange orange2apple summer2winter_yosemite winter2summer_yosemite horse2zebra zebra2horse "
    "monet2photo style_monet style_cezanne style_ukiyoe style_vangogh sat2map map2sat "
    "cityscapes_photo2label cityscapes_label2photo facades_photo2label facades_label2photo "
    "iphone2dslr_flower",
    "pix2pix": "edges2shoes sat2map map2sat facades_label2photo day2night",
}
_MODEL_BYTES = {"cyclegan": 45_600_000, "pix2pix": 217_700_000}  # approximate bytes of the float32 parameters
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
        mirrored = [
            new + stripped.removeprefix(old)
            for stripped in map(_without_scheme, original)
            for old, news in mirrors.items()
            if stripped.startswith(old)
            for new in news
        ]
        return list(dict.fromkeys(mirrored)) or original


def all_sources() -> list[Source]:
    """Return everything that can be downloaded, data sets first."""
    sources = [
        Source(name, family, False, *columns) for family, sets in _DATASETS.items() for name, columns in sets.items()
    ]
    for family, names in _MODELS.items():
        description = f"a generator of {'CycleGAN' if family == 'cyclegan' else 'pix2pix'}"
        sources += [Source(name, family, True, _MODEL_BYTES[family], "", description) for name in names.split()]
    return sources


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
        raise OptionError(
            "data set",
            name,
            "its licence forbids redistribution",
            "fetch gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip by hand from "
            "https://www.cityscapes-dataset.com/downloads/, unpack them, and prepare them with "
            "python scripts/prepare_cityscapes.py",
        )
    candidates = [s for s in all_sources() if s.name == name and s.family in (family or s.family) and s.model >= model]
    matches = [source for source in candidates if source.model == candidates[0].model]
    if len(matches) > 1:
        kinds = " and one ".join(f"of {source.family} ({source.file})" for source in matches)
        ways = " or ".join(f"--{source.family}" for source in matches)
        raise OptionError("name", name, f"there is one {kinds}", f"choose with {ways}")
    if not matches:
        raise _unknown_name_error(name, family, model)
    return matches[0]


def _unknown_name_error(name: str, family: str, model: bool) -> OptionError:
    sort = " ".join(part for part in (family, "generator" if model else "data set or generator") if part)
    known = {s.name for s in all_sources() if s.family in (family or s.family) and s.model >= model}
    near = nearest(name, sorted(known | ({"cityscapes"} if not model else set())))
    if others := {s.family for s in all_sources() if s.name == name and s.model >= model}:
        return OptionError("name", name, f"no {sort} has this name", f"there is one with --{others.pop()}")
    remedy = (f"did you mean {near}? " if near else "") + "see --list"
    return OptionError("name", name, f"no {sort} has this name", remedy)


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
        if not isinstance(address, str):
            raise ValueError
        parts = urlsplit(address)
        parts.port  # noqa: B018 (raises ValueError for an invalid port)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname)
        fits = fits and address.isascii() and address.isprintable() and " " not in address
    except ValueError:
        fits = False
    if not fits:
        raise OptionError("option", flag, f"'{address}' is not an address", "use one with https:// or http://")


def _without_scheme(address: str) -> str:
    """Return an address without its scheme, because a mirror of http://HOST also replaces https://HOST."""
    return address.partition("://")[2] or address
