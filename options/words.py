"""Prepare the words of a command line for the parser."""

import os
import re
from collections.abc import Callable, Mapping

from options.fields import TRUTH_WORDS, Flag
from util.errors import OptionError
from util.size import Size, to_size

OwnWords = Callable[[str, list[str], str], list[str]]


def in_own_names(
    argv: list[str], other_names: Mapping[str, str | OwnWords], flags: list[Flag], phase: str
) -> list[str]:
    """Return a command line in which flags of other_names, such as those of a model's authors, have their names here.

    other_names: {"niter": "n_epochs"}, of a switch that chooses a value {"no_lsgan": "gan_mode vanilla"}, of one for
    what is always so {"use_encoded_image": ""}, and of a flag whose value has another form a function of (its value,
    the command line, phase), which returns the words here or raises OptionError. A name that is a flag here keeps its
    meaning.
    """
    taken, words, rest = {name for flag in flags for name in flag.names}, list[str](), list(argv)
    while rest and rest[0] != "--":
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        meant = other_names.get(name.removeprefix("--")) if name.startswith("--") else None
        if meant is None or name.removeprefix("--") in taken:
            words.append(word)
        elif callable(meant):
            if not equals and (not rest or rest[0].startswith("--")):
                raise OptionError("option", name, "has no value", f"write a value after it: {name} VALUE")
            words += meant(value if equals else rest.pop(0), argv, phase)
        elif meant:
            flag, _, chosen = meant.partition(" ")
            words += [f"--{flag}", chosen] if chosen else [f"--{flag}{equals}{value}"]
    return [*words, *rest]


def join_lists(argv: list[str], flags: list[Flag]) -> list[str]:
    """Return `--selected_attrs A B` as `--selected_attrs A,B`, for flags that take a list; a folder or file ends it."""
    lists, words = {f"--{flag.name}" for flag in flags if flag.meta["listed"]}, list[str]()
    is_list = False
    for word in argv:
        joins = is_list and not word.startswith("-") and not os.path.exists(word)
        if joins and not words[-1].startswith("-"):
            words[-1] += "," + word
        else:
            words.append(word)
        is_list = word in lists or joins
    return words


def in_own_values(argv: list[str], other_values: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a command line in which values of other_values, such as those of a model's authors, are those here.

    other_values: {flag: {value there: value here}}; other flags may follow a value: "wgangp --penalty none".
    """
    words = list[str]()
    for word in argv:
        name, equals, value = word.partition("=")
        flag = name if equals else words[-1] if words else ""
        meant = other_values.get(flag.removeprefix("--"), {}).get(value if equals else word, "")
        if not meant or not flag.startswith("--"):
            words.append(word)
        elif equals:
            words += f"{name}={meant}".split()
        else:
            words += meant.split()
    return words


def value_of(argv: list[str], *names: str) -> str | None:
    """Return the value of the last of these flags in a command line, which counts; None if none is given."""
    found = None
    for place, word in enumerate(argv):
        name, _, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in names:
            found = value or (argv[place + 1] if place + 1 < len(argv) else "")
    return found


def with_ratio_in_size(argv: list[str], crop_size: int | Size) -> list[str]:
    """Return a command line in which --aspect_ratio R and --crop_size N are --crop_size NxH: H is N / R, rounded.

    crop_size: that of a command line without --crop_size.
    """
    flags, rest, found = ("--aspect_ratio", "--crop_size"), list[str](), dict[str, str]()
    for word in argv:
        name, equals, value = word.partition("=")
        if rest and rest[-1] in flags:
            found[rest.pop()] = word
        elif name in flags and equals:
            found[name] = value
        else:
            rest.append(word)
    ratio, width = found.get("--aspect_ratio", "empty"), found.get("--crop_size", str(to_size(crop_size).width))
    if not re.fullmatch(r"\d*\.?\d+", ratio) or not float(ratio) or not width.isdecimal():
        why = f"is {ratio}, and --crop_size {width}"
        raise OptionError("option", "--aspect_ratio", why, "give both as numbers, or --crop_size 512x256 alone")
    return [*rest, "--crop_size", f"{width}x{round(int(width) / float(ratio))}"]


def separate_switches(argv: list[str], flags: list[Flag]) -> list[str]:
    """Return `--no_dropout images` as `--no_dropout=true images`: the value of a switch is never a folder or file."""
    switches = {f"--{flag.name}" for flag in flags if flag.is_switch and flag.meta["valued"]}

    def is_alone(word: str, following: str) -> bool:
        return word in switches and os.path.exists(following) and following.lower() not in TRUTH_WORDS

    return [f"{word}=true" if is_alone(word, after) else word for word, after in zip(argv, [*argv[1:], ""])]


def join_negative_numbers(argv: list[str]) -> list[str]:
    """Join `--range -1000,2000` to one word, because argparse would read the number as a flag."""
    words: list[str] = []
    for word in argv:
        if re.match(r"-[\d.]", word) and words and re.fullmatch(r"--\w+", words[-1]):
            words[-1] += "=" + word
        else:
            words.append(word)
    return words
