"""Stack several inputs to A: count their channels, and split the stack again to show each."""

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from data.decoding.decoders import DECODERS, identify
from data.decoding.header_check import count_frames
from data.decoding.images import REPLACE_REMEDY
from data.decoding.raster import Raster
from data.listing.files import open_binary
from data.listing.paths import Paths
from data.names.inputs import Input, format_inputs, parse_inputs
from util.errors import DataError, OptionError, count_text

COUNTED_FILES = 16  # of each input, evenly spread
GREY_MODES = ("1", "L", "LA", "La")  # of Pillow, with 8 bits


def find_inputs(o: Any, names: Sequence[str], files: Sequence[Paths]) -> tuple[Input, ...]:
    """Return the inputs with their channels, as --inputs states them, or else as their files have them.

    Raises OptionError for flags that contradict them, and DataError for files of different channels.
    """
    stated = {each.name: each.channels for each in parse_inputs(o.inputs)}
    inputs = tuple(
        Input(name, stated.get(name) or _count_channels(name, paths, o.max_image_pixels))
        for name, paths in zip(names, files, strict=False)
    )
    total = sum(each.channels for each in inputs)
    if o.direction != "AtoB":
        why = f"is {o.direction}, but {', '.join(names)} are inputs: A is their stack, and B the output"
        raise OptionError("option", "--direction", why, "omit it, or name one input (--inputs A1)")
    if "input_nc" in o.given and o.input_nc != total:
        why = f"is {o.input_nc}, but the inputs {format_inputs(inputs)} have {total} channels"
        raise OptionError("option", "--input_nc", why, f"omit it, or change the channels (--inputs {names[0]}:1,...)")
    return inputs


def describe_inputs(inputs: Sequence[Input]) -> str:
    """Return the line that names the inputs and their channels."""
    parts = []
    for number, (name, channels) in enumerate(inputs, 1):
        known_as = "" if name == f"A{number}" else f"A{number} = "
        parts.append(f"{known_as}{name} ({count_text(channels, 'channel')})")
    return f"inputs: {' + '.join(parts)} = A of {count_text(sum(each.channels for each in inputs), 'channel')}"


def split_inputs(images: dict[str, Any], inputs: str) -> dict[str, Tensor]:
    """Return the parts of each stack (N, C, H, W) named real_A, rec_A, ...: real_A1, real_A2, ...; {} for one input.

    inputs: in the format of --inputs.
    """
    channels = [each.channels for each in parse_inputs(inputs)]
    stacks = {
        name: value
        for name, value in images.items()
        if channels
        and re.fullmatch(r"(real_|fake_|rec_|idt_)?A", str(name))
        and getattr(value, "ndim", 0) == 4
        and value.shape[1] == sum(channels)
    }
    return {
        f"{name}{number}": part
        for name, stack in stacks.items()
        for number, part in enumerate(stack.split(channels, dim=1), 1)
    }


def _count_channels(name: str, paths: Paths, max_pixels: int) -> int:
    """Return the channels of an input: 3 where grey and colour files are mixed; transparency is no channel."""
    number = min(len(paths), COUNTED_FILES)
    examples: dict[int, str] = {}
    for index in range(number):
        path = paths[index * len(paths) // number]
        examples.setdefault(_channels_of_file(path, max_pixels), path)
    if len(examples) > 1 and not set(examples) <= {1, 3}:
        (few, one), (many, other) = sorted(examples.items())[:: len(examples) - 1]
        why = f"has files of {few} and {many} channels, such as {one} and {other}"
        raise DataError("input", name, why, f"give its channels, such as --inputs {name}:{few}")
    return max(examples)


def _channels_of_file(path: str, max_pixels: int) -> int:
    try:
        with open_binary(path) as file:
            source = identify(file, path, max_pixels)
            if source.kind == "8 bits" and source.image.format != "TIFF":
                return 1 if source.image.mode in GREY_MODES else 3
            # Pages of a TIFF are channels if the decoder takes as many of them for channels.
            pages = count_frames(source.image) if source.image is not None else 1
            pictures = [DECODERS[source.kind](source, number)[0] for number in dict.fromkeys((0, pages))]
    except DataError:
        raise
    except Exception as problem:  # Pillow and NumPy raise many types
        raise DataError("image", path, f"cannot be read ({problem})", REPLACE_REMEDY) from problem
    stored, stacked = pictures[0], pictures[-1]
    if isinstance(stacked, Raster) and stacked.channels == pages > 1:
        return pages
    if isinstance(stored, Raster):
        return stored.channels - (stored.channels in (2, 4) and stored.has_alpha)
    return 1 if stored.mode in GREY_MODES else 3
