"""Say what is meant by words of a command line that no flag takes."""

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from options.fields import Flag
from options.names.other_names import FLAGS, TEST_FLAGS, VALUES
from options.names.position import one_path_remedy
from registry import discovery
from registry.lookup import entries
from registry.suggestions import model_files
from util.errors import OptionError
from util.size import Size
from util.spelling import nearest, nearest_path, normalise_name, typing_errors, unquoted_path

MAX_OTHERS_NAMED = 8  # further unknown flags that one error answers
NO_WORDS = ("false", "0", "no", "off")
_VALUE = re.compile(r"true|false|yes|no|on|off|none|[-+\d.,xe]+", re.IGNORECASE)


@dataclass(frozen=True)
class KnownFlags:
    """The flags that a command accepts, and those that it does not.

    owner: the model, whose flags win over equally similar ones. elsewhere: {flag of the other command: its file}.
    """

    phase: str
    flags: list[Flag]
    owner: str
    elsewhere: dict[str, str]

    def unknown(self, names: list[str], file: str = "") -> OptionError:
        """Return the error for unknown flags, with what each is called here; file: that of --config, if it has them."""
        name, *others = dict.fromkeys(names)
        if not file and any(name in flag.names for flag in self.flags):
            return OptionError("option", f"-{name}", "has one hyphen", f"write it with two: --{name}")
        remedy = self._remedy(name)
        if others:
            first, *short = (re.sub(r"^use |^did you mean |\?$", "", self._remedy(each)) for each in [name, *others])
            known = [f"--{n}" + (f": {text}" if text != first else "") for n, text in zip(others, short, strict=True)]
            remedy = remedy.rstrip("?") + "; likewise " + ", ".join(known[:MAX_OTHERS_NAMED])
        thing = f"option in {file}" if file else "option"
        return OptionError(thing, f"--{name}", f"unknown: --{name} is not a flag of {self.owner}", remedy)

    def _remedy(self, name: str) -> str:
        mine = [n for flag in sorted(self.flags, key=lambda flag: flag.owner != self.owner) for n in flag.names]
        others = dict(self.elsewhere)
        for model, source in model_files():
            for n in discovery.option_names(source) if model != self.owner else ():
                others[n] = f"{others[n]} and {model}" if n in others else model
        if name in others:
            return f"it belongs to {others[name]}"
        foreign = TEST_FLAGS if self.phase == "test" else FLAGS
        every, plain = [*mine, *others], normalise_name(name)
        same = next((n for n in every if normalise_name(n) == plain), None)
        if near := same or (nearest(name, every) if plain not in foreign else None):
            return f"did you mean --{near}" + ("?" if near in mine else f", which belongs to {others[near]}?")
        if plain not in foreign:
            plain = next((n for n in foreign if len(n) > 4 and typing_errors(plain, n) <= 1), "")
        return self._foreign_remedy(name, foreign[plain], mine, others) if plain else "see --help"

    def _foreign_remedy(self, name: str, advice: str, mine: list[str], others: dict[str, str]) -> str:
        """Return the advice on a name of another program, with the owners of flags that this command lacks."""
        flags = list(dict.fromkeys(re.findall(r"--(\w+)", advice)))
        own = next((n for n in mine if "_" in n and n.partition("_")[0] == name.partition("_")[0]), None)
        if own and flags and set(flags) <= set(others) - set(mine):  # --lambda_cycle, for which pix2pix has --lambda_L1
            return f"did you mean --{own}? (--{flags[0]} belongs to {others[flags[0]]})"
        for flag in flags:
            if flag not in mine and flag in others:
                advice += f" (--{flag} belongs to {others[flag]})" if " " in advice else f", of {others[flag]}"
        return "use " * advice.startswith("--") + advice


def is_value(word: str, argv: list[str], flags: list[Flag]) -> bool:
    """Whether a word that no flag takes was meant as the value of the flag before it, not as a folder or file."""
    if os.path.exists(word):
        return False
    return _VALUE.fullmatch(word) is not None or any(
        unquoted_path(words) or (flag.name == "classes" and word in words[1:])
        for flag, words in _words_after_flags(argv, flags)
    )


def stray_word_error(argv: list[str], strays: list[str], flags: list[Flag]) -> OptionError:
    """Return the error for words that belong to no flag: a path with a space, a switch's value, several values."""
    for flag, words in _words_after_flags(argv, flags):
        taken = 0 if flag.is_switch else 1
        if len(words) <= taken or words[taken] not in strays:
            continue
        if flag.is_switch:
            return switch_error(flag, words[0])
        given, more = words[0], " ".join(words[1:])
        if path := unquoted_path(words):
            why = f"'{path}' contains a space, so it is read as {len(path.split())} words"
            return OptionError("option", f"--{flag.name}", why, f"put it in quotes: --{flag.name} {shlex.quote(path)}")
        if flag.name != "dataroot" and flag.type is str and all(map(os.path.exists, words[1:])):
            break  # these are folders or files of images
        why = f"takes one value, '{given}', but '{more}' follows"
        return OptionError("option", f"--{flag.name}", why, _one_value(flag, words))
    dashes = re.match(r"[\u2010-\u2015\u2212]+", strays[0])
    if dashes:  # hyphens that a word processor has replaced
        why = "begins with a dash instead of hyphens"
        return OptionError("argument", strays[0], why, f"write --{strays[0][dashes.end() :]}")
    if path := unquoted_path(strays):
        return OptionError(
            "argument",
            strays[0],
            f"is part of a path with spaces, {path}",
            f"put it in quotes: --dataroot {shlex.quote(path)}",
        )
    remedy = f"give the images with --dataroot {shlex.quote(strays[0])}" if os.path.exists(strays[0]) else "see --help"
    remedy = next((f"write --{kind} {strays[0]}" for kind in ("model", "recipe") if _is_name(kind, strays[0])), remedy)
    remedy = one_path_remedy(strays, "train") if len(strays) > 1 and all(map(os.path.exists, strays)) else remedy
    return OptionError("argument", strays[0], "does not belong to a flag", remedy)


def _is_name(kind: str, word: str) -> bool:
    return not os.path.exists(word) and any(part.name == word for part in entries(kind))


def switch_error(flag: Flag, value: str) -> OptionError:
    """Return the error for a switch that is given a value."""
    remedy = f"write --{flag.opposite}" if value.lower() in NO_WORDS else f"write --{flag.name} alone"
    remedy += f" (its opposite is --{flag.opposite})" if value.lower() not in NO_WORDS else ""
    return OptionError("option", f"--{flag.name}", f"is a switch, which takes no value such as '{value}'", remedy)


def checked(flag: Flag, value: object, given_in: str = "") -> Any:
    """Return a value as Flag.check does; its error says what the value is called here, if another program has it."""
    try:
        return flag.check(value, given_in)
    except OptionError as problem:
        meant = VALUES.get(flag.name, {}).get(normalise_name(str(value).strip()))
        if meant is None:
            raise
        thing, name, why, _ = problem.args
        raise type(problem)(thing, name, why, f"write --{flag.name} {meant}") from None


def _one_value(flag: Flag, words: list[str]) -> str:
    if flag.type == int | Size and all(word.isdigit() for word in words[:2]):
        return f"write --{flag.name} {words[0]}x{words[1]}"
    if flag.name == "plugin":
        return "repeat the flag: " + " ".join(f"--plugin {shlex.quote(word)}" for word in words)
    if flag.type == tuple[str, ...] or flag.name == "classes":
        return f"join the words by commas: --{flag.name} {','.join(words)}"
    if flag.name == "dataroot" and all(map(os.path.exists, words)):
        return one_path_remedy(words, "train")
    if flag.type is str and not os.path.exists(words[0]):
        if path := nearest_path(" ".join(words)):
            return f"did you mean --{flag.name} {shlex.quote(path)}?"
        return f"put a text with spaces in quotes: --{flag.name} {shlex.quote(' '.join(words))}"
    return f"write --{flag.name} {words[0]}"


def _words_after_flags(argv: list[str], flags: list[Flag]) -> Iterator[tuple[Flag, list[str]]]:
    """Yield each flag of a command line, and the words up to the next flag."""
    by_name = {f"--{name}": flag for flag in flags for name in flag.names}
    for place, word in enumerate(argv):
        name, joined, value = word.partition("=")
        if name in by_name:
            end = next((n for n in range(place + 1, len(argv)) if re.match(r"-\D", argv[n])), len(argv))
            yield by_name[name], [value] * bool(joined) + argv[place + 1 : end]
