"""Parse the command line in two passes: first the model, data set and plug-ins, then all their flags."""

import argparse
import re
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.shards import settings as shard_settings
from options import checks, recipe, store, texts, unused_flags, words
from options.common import Common
from options.data import Data
from options.fields import Flag, Options, flags_of
from options.names import wrong_words
from options.names.position import POSITION, check_position, take_folder
from options.names.wrong_words import KnownFlags, checked
from options.test import Test
from options.toolbox import Toolbox, without_replaced
from options.train import Train
from registry import discovery
from registry.lookup import entry, find
from util.errors import CheckpointError, OptionError, UnknownName, UserError, print_line
from util.size import Size
from util.spelling import normalise_name

FLAG_CLASSES = {"train": (Common, Data, Train, Toolbox), "test": (Common, Data, Test)}


def parse(argv: list[str], phase: str) -> Options:
    """Return all options of a command; --help and --list print and exit.

    phase: "train" or "test". Precedence, highest first: command line, --config, the run's stored options (test and
    --continue_train), --recipe, the data set's defaults, the model's, the flags'. Raises OptionError for invalid
    options.
    """
    discovery.forget_run()  # of this process
    base = _base_flags(phase)
    first, config, wants_help = _first_pass(argv, base, phase)
    asked = config | first
    layers = _Layers(base, phase)
    layers.recipe = recipe.read_recipe(layers.by_name("recipe").check(asked.get("recipe", "")))
    location = {} if wants_help else _run_location(asked, layers)
    saved = _load_saved(location, asked, layers) if location else {}
    layers.recipe = layers.recipe.for_run(saved)
    if saved and "model" in asked and normalise_name(asked["model"]) != normalise_name(saved.get("model", "")):
        saved.pop("dataset_mode", None)  # another model has its own default data set
    layers.choose(saved | asked, location)
    if (own := layers.in_own_words(argv, saved, config)) != argv:
        return parse(own, phase)
    if wants_help:
        layers.merge({}, {}, {}, "")  # adds the defaults that go with those of the recipe
        sys.exit(texts.print_help(phase, list(layers.with_defaults(layers.flags).values()), layers.owner))
    given = _parse_flags(argv, layers.flags, layers=layers)
    position = take_folder(given, config, phase)
    if unknown := [name for name in config if name not in {flag.name for flag in layers.flags}]:
        raise layers.known_flags().unknown(unknown, Path(first["config"]).name)
    options = layers.merge(saved, config, given, Path(first.get("config", "")).name)
    options.plugin, options.name = tuple(discovery.paths()), location["name"]
    options.recipe = layers.recipe.name or saved.get("recipe", "")
    options.saved, options.input = saved, position
    shard_settings.configure(options.cache_dir, options.shard_cache_gb)
    command = layers.command(options)
    unused = unused_flags.notes(command)
    checks.check_options(options, phase)
    if phase == "test":
        unused_flags.check_task(command)
        options.generate = command.generates
    names_folders = {"dataroot", "label_dir"} & options.given
    if phase == "train" and not saved and not names_folders:
        unused.append(f"note: training on generated images ({options.dataroot}); --dataroot names a folder of others")
    for note in unused if layers.folder.is_dir() else ():  # of a run that is not there, test.py says only that
        print_line(note)
    return options


def answer_help(argv: list[str], phase: str) -> None:
    """Answer --list, --help unless it is that of a model, and train.py without arguments, and exit; needs no torch."""
    if phase == "train" and not argv:
        sys.exit(texts.print_usage())
    _first_pass(argv, _base_flags(phase), phase)


def _first_pass(argv: list[str], base: list[Flag], phase: str) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Return the values of the base flags, those of --config, and whether the help of a model is wanted."""
    first = _parse_flags(argv, without_replaced(base, _flags_of_all(Toolbox)), known_only=True)  # see choose
    wants_list, wants_help = first.pop("list"), first.pop("help")
    config = store.read_config(first["config"], phase) if "config" in first else {}
    asked = config | first
    if wants_help and not {"model", "plugin", "recipe"} & asked.keys():
        sys.exit(texts.print_help(phase, base))
    discovery.add_paths(_as_tuple(asked.get("plugin", ())), of_run=True)
    if wants_list:
        sys.exit(texts.print_list())
    return first, config, wants_help


def _base_flags(phase: str) -> list[Flag]:
    return _flags_of_all(*FLAG_CLASSES[phase])


def _flags_of_all(*holders: type) -> list[Flag]:
    return [flag for holder in holders for flag in flags_of(holder, str(holder.__doc__))]


class _Layers:
    """The flags of base, model and data set, and the defaults that model and data set set for any flag."""

    def __init__(self, base: list[Flag], phase: str):
        self.base, self.phase, self.recipe = base, phase, recipe.Recipe()
        # test.py builds the same networks, so it also needs train's flags: from the run, or else their defaults
        self.train_flags = _flags_of_all(Train, Toolbox) if phase == "test" else []
        self.defaults: dict[str, Any] = {}
        self.folder = Path()  # the run's folder, which holds its options.json
        self.flags = base
        self.owner = ""
        self.of_data: set[str] = set()  # flags that the data set reads
        self.model: Any = object

    def choose(self, asked: dict[str, Any], location: dict[str, Any]) -> None:
        """Find the requested model and data set; collect their flags and defaults, and those of the recipe."""
        by_name = {flag.name: flag for flag in self.base}
        asked = self.recipe.check_first(by_name) | asked
        usual = by_name["model"].default if self.phase == "train" else store.default_test_model(location)
        model_name = checked(by_name["model"], asked.get("model", usual))
        model = self.model = find("model", model_name)
        self.defaults = {"model": model_name, **_defaults(model)}
        if getattr(model, "dataset_mode", None):
            self.defaults.setdefault("dataset_mode", model.dataset_mode)
        mode = asked.get("dataset_mode", self.defaults.get("dataset_mode", by_name["dataset_mode"].default))
        meant = getattr(model, "other_values", {}).get("dataset_mode", {}).get(mode, mode)  # see in_own_words
        mode = checked(by_name["dataset_mode"], meant.partition(" ")[0])
        dataset = find("dataset", mode)
        self.defaults |= {**_defaults(dataset), "dataset_mode": mode}
        declared = _own_flags(model, model_name), _own_flags(dataset, mode)
        self.of_data = {flag.name for flag in declared[1]}
        every = self.base, self.train_flags, [flag for phase in FLAG_CLASSES for flag in _base_flags(phase)]
        self.base, self.train_flags, both = (without_replaced(flags, [*declared[0], *declared[1]]) for flags in every)
        own = _join_flags(both, *declared)
        named = {name for flag, _, defaults in _defaults_for(model) for name in (flag, *defaults)}
        for name in {*self.defaults, *named} - {flag.name for flag in both + own}:
            raise OptionError(
                "plug-in", model_name, f"sets a default for --{name}, which is not a flag", "correct its name"
            )
        self.flags, self.owner = self.base + own, model_name
        by_name |= {flag.name: flag for flag in self.train_flags + own}
        if unknown := [name for name in self.recipe.values if name not in by_name]:
            self.recipe.check_model(model_name, unknown[0])
            raise self.known_flags().unknown(unknown, self.recipe.places[unknown[0]])
        self.defaults |= {name: self.recipe.check(by_name[name]) for name in self.recipe.values}

    def in_own_words(self, argv: list[str], saved: dict[str, Any], config: dict[str, Any]) -> list[str]:
        """Return a command line in which flags and values of the model's authors have their names here."""
        own = words.in_own_names(argv, getattr(self.model, "other_names", {}), self.flags, self.phase)
        own = words.in_own_values(own, getattr(self.model, "other_values", {}))
        if not getattr(self.model, "ratio_in_size", False) or words.value_of(own, "aspect_ratio") is None:
            return own
        layout = words.value_of(own, "layout") or config.get("layout")
        given = {"layout": layout} if layout else {}
        return words.with_ratio_in_size(own, saved.get("crop_size", self.merge({}, {}, given, "").crop_size))

    def by_name(self, name: str) -> Flag:
        """Return a base flag."""
        return next(flag for flag in self.base if flag.name == name)

    def known_flags(self) -> KnownFlags:
        """Return the flags of this command, and those that only the other one has."""
        other = {"train": "test", "test": "train"}[self.phase]
        mine = {flag.name for flag in self.base}
        others = {name: f"{other}.py" for flag in _base_flags(other) if flag.name not in mine for name in flag.names}
        return KnownFlags(self.phase, self.flags, self.owner, others)

    def command(self, options: Options) -> unused_flags.Command:
        """Return what decides which of the flags have an effect."""
        mine = [flag for flag in self.flags if flag.owner == self.owner and flag.name not in self.of_data]
        own = tuple(flag.name for flag in mine if not flag.meta["of_run"])
        built_in = entry("model", self.owner).origin == "built in" and self.owner != "test"
        return unused_flags.Command(options, self.model, own if built_in else ())

    def with_defaults(self, flags: list[Flag]) -> dict[str, Flag]:
        """Return flags by name, with the defaults of model and data set applied."""
        return {flag.name: replace(flag, default=self._default(flag)) for flag in flags}

    def _default(self, flag: Flag) -> Any:
        if flag.name not in self.defaults:
            return flag.default
        value = self.defaults[flag.name]
        return value if self._refers_to_flag(flag, value) else flag.check(value, "the plug-in's defaults")

    def _refers_to_flag(self, flag: Flag, value: Any) -> bool:
        """Whether a default names another flag, whose value is then used: {"load_size": "crop_size"}."""
        return flag.type in (int, int | Size) and value in {other.name for other in self.base}

    def merge(self, saved, config, given, config_name) -> Options:
        """Return the options merged from all layers, each value checked against its flag."""
        mine = {flag.name for flag in self.base}

        def value_of(flag: Flag) -> Any:
            name, value = flag.name, flag.default
            is_stored = name in saved and (self.phase == "train" or flag.meta["of_run"] or name not in mine)
            if name in config:
                value = checked(flag, config[name], config_name)
            elif is_stored and name not in given:
                with _saved_option_errors(self.folder):
                    value = flag.check(saved[name])
            return given.get(name, value)

        flags = self.with_defaults(self.train_flags) | self.with_defaults(self.flags)
        for name, value, by_value in _defaults_for(self.model):  # they beat other defaults, but no recipe
            if flags[name].check(value, "the plug-in's defaults_for") == value_of(flags[name]):
                self.defaults |= {other: v for other, v in by_value.items() if other not in self.recipe.values}
        flags = self.with_defaults(self.train_flags) | self.with_defaults(self.flags)
        values = {name: value_of(flag) for name, flag in flags.items()}
        for name, flag in flags.items():
            if self._refers_to_flag(flag, values[name]):
                values[name] = values[values[name]]
        values["isTrain"] = self.phase == "train"
        stated = set(self.recipe.values) if self.phase == "train" else set()  # test.py prepares images in its own way
        return Options(values, set(config) | set(given) | stated, flags)


def _defaults(plug_in: type) -> dict[str, Any]:
    """Return a class's defaults merged over those of its base classes."""
    return {name: value for c in reversed(plug_in.__mro__) for name, value in vars(c).get("defaults", {}).items()}


def _defaults_for(model: type) -> list[tuple[str, Any, dict[str, Any]]]:
    """Return (flag, its value, defaults that go with it) of a class and of its base classes, which come first.

    What the `defaults` of a subclass name is its own in every mode of its base.
    """
    classes, found = model.__mro__[::-1], list[tuple[str, Any, dict[str, Any]]]()
    for number, cls in enumerate(classes):
        own = {name for subclass in classes[number + 1 :] for name in vars(subclass).get("defaults", {})}
        for flag, rows in vars(cls).get("defaults_for", {}).items():
            found += [(flag, value, {n: v for n, v in row.items() if n not in own}) for value, row in rows.items()]
    return found


def _own_flags(plug_in: type, owner: str) -> list[Flag]:
    """Return the flags of a class's Options and of its base classes; a subclass's flag replaces its base's."""
    found = [f for c in reversed(plug_in.__mro__) if "Options" in vars(c) for f in flags_of(vars(c)["Options"], owner)]
    return list({flag.name: flag for flag in found}.values())


def _join_flags(base: list[Flag], of_model: list[Flag], of_data: list[Flag]) -> list[Flag]:
    """Return the flags of a model and of its data set; one that both declare alike is one flag, the model's.

    Raises OptionError if they declare it differently (only the help may differ), or if another flag has its name.
    """
    taken = dict.fromkeys(("help", "list", "isTrain"), "all runs")
    taken |= {name: flag.owner for flag in base for name in flag.names}
    joined: dict[str, Flag] = {}
    for flag in of_model + of_data:
        if flag.name in joined:
            _check_alike(flag, joined[flag.name])
            continue
        for name in flag.names:
            if name in taken:
                why = f"its flag --{name} already belongs to {taken[name]}"
                raise OptionError("plug-in", flag.owner, why, "rename it")
        taken |= dict.fromkeys(flag.names, flag.owner)
        joined[flag.name] = flag
    return list(joined.values())


def _check_alike(flag: Flag, other: Flag) -> None:
    """Raise OptionError if a data set declares a flag differently than the model."""
    mine, theirs = (_declaration(f) for f in (flag, other))
    if differs := [f"{key} {theirs[key]} (here {mine[key]})" for key in mine if mine[key] != theirs[key]]:
        why = f"its flag --{flag.name} already belongs to model {other.owner}, with {', '.join(differs)}"
        raise OptionError("plug-in", flag.owner, why, "declare it alike in both, or rename it")


def _declaration(flag: Flag) -> dict[str, Any]:
    """Return what a flag is declared with, except its help."""
    kind = getattr(flag.type, "__name__", str(flag.type))
    return {"type": kind, "default": repr(flag.default)} | flag.meta | {"help": ""}


def _as_tuple(paths: Any) -> tuple[str, ...]:
    return (paths,) if isinstance(paths, str) else tuple(paths or ())


def _run_location(asked: dict[str, Any], layers: _Layers) -> dict[str, Any]:
    """Return the options that locate the run and its weights; the name includes the suffix."""
    names = ("name", "checkpoints_dir", "suffix", "epoch", "load_iter", "continue_train", "overwrite")
    flags = {flag.name: flag for flag in layers.base}
    location = {n: flags[n].check(asked[n]) if n in asked else flags[n].default for n in names if n in flags}
    values: dict[str, Any] = {}
    if location["suffix"]:  # its fields may name any flag, so all flags are read once here
        layers.choose(dict(asked), {})
        own = {flag.name: flag for flag in layers.flags}
        values = vars(layers.merge({}, {}, {k: own[k].check(v) for k, v in asked.items() if k in own}, ""))
    return location | {"name": store.run_name(location, values, "name" in asked, layers.phase)}


def _load_saved(location: dict[str, Any], asked: dict[str, Any], layers: _Layers) -> dict[str, Any]:
    """Return the options stored with the run, for test and --continue_train; {} otherwise.

    Also adds the run's plug-ins. CheckpointError if a value is damaged.
    """
    if layers.phase == "train" and not location["continue_train"]:
        return {}
    folder = layers.folder = Path(location["checkpoints_dir"]) / location["name"]
    saved = store.load(folder)
    flags = {flag.name: flag for flag in layers.train_flags + layers.base if flag.name in saved}
    others = {name: flags.pop(name) for name in flags.keys() & asked.keys()}  # a wrong one is not used
    with _saved_option_errors(folder):
        flags.pop("plugin", None)
        paths = layers.by_name("plugin").check(saved.get("plugin", ()))
    discovery.restore_paths(paths, _as_tuple(asked.get("plugin", ())), store.options_source(folder))
    for name, flag in others.items():
        with suppress(UserError):
            saved[name] = flag.check(saved[name])
    with _saved_option_errors(folder):
        return saved | {name: flag.check(saved[name]) for name, flag in flags.items()}


@contextmanager
def _saved_option_errors(folder: Path):
    """Turn errors in stored options into errors about options.json, because the user did not type them."""
    try:
        yield
    except UnknownName as problem:
        if not discovery.remembered_paths():
            raise CheckpointError("file", store.options_source(folder), *_unknown_name_texts(problem)) from problem
        raise OptionError("file", store.options_source(folder), *_unknown_name_texts(problem)) from problem
    except OptionError as problem:
        why = f"its option {problem.args[1]} is damaged: {problem.args[2]}"
        raise CheckpointError("file", store.options_source(folder), why, "restore the file or delete it") from problem


def _unknown_name_texts(problem: UnknownName) -> tuple[str, str]:
    """Return (why, remedy) for a stored name of a part that is unknown now: a renamed plug-in, or damage."""
    flag, why = problem.args[1], problem.args[2]
    files = discovery.remembered_paths()
    if not files:
        return f"its option {flag} is damaged: {why}", f"restore it, or give its plug-in with --plugin, or {flag}"
    why += f" any more: none of the run's plug-ins defines it ({', '.join(files)})"
    return why, f"give the plug-in that defines it now with --plugin, or its new name with {flag}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):  # argparse would print the usage and exit; our errors are one line
        name, _, why = message.removeprefix("argument ").partition(": ")
        if why == "expected one argument":
            raise OptionError("option", name, "has no value", f"write a value after it: {name} VALUE")
        if value := re.fullmatch(r"ignored explicit argument '(.*)'", why, re.DOTALL):
            flag = next((flag for flag in self.flags if name.lstrip("-") in flag.names), None)
            if flag is not None:
                raise wrong_words.switch_error(flag, value[1])
        raise OptionError("option", name, why or "wrong", "see --help")

    flags: tuple[Flag, ...] = ()


def _parse_flags(argv, flags: list[Flag], known_only: bool = False, layers: _Layers | None = None) -> dict[str, Any]:
    """Return {name: value} from the command line, checked; unknown flags raise unless known_only."""
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.flags = tuple(flags)
    parser.add_argument("-h", "--help", action="store_true", default=False)
    parser.add_argument("--list", action="store_true", default=False)
    names = {flag.name for flag in flags}
    for flag in flags:
        if flag.is_switch:
            how = {"nargs": "?", "const": True} if flag.meta["valued"] else {"action": "store_true"}
            parser.add_argument("--" + flag.name, dest=flag.name, **how)
            if flag.opposite not in names:
                parser.add_argument("--" + flag.opposite, dest=flag.name, action="store_false")
        elif flag.type == tuple[str, ...]:
            parser.add_argument("--" + flag.name, dest=flag.name, action="append")
        else:
            parser.add_argument("--" + flag.name, dest=flag.name)
    end = argv.index("--") if "--" in argv else len(argv)  # words after -- are no flags
    namespace, rest = parser.parse_known_args(
        words.join_negative_numbers(words.join_lists(words.separate_switches(argv[:end], flags), flags))
    )
    values = vars(namespace)
    if known_only:  # values are checked in the second pass, when all plug-ins are known
        return values
    assert layers is not None
    if unknown := [word.lstrip("-").partition("=")[0] for word in rest if word.startswith("-")]:
        raise layers.known_flags().unknown(unknown)
    by_name = {flag.name: flag for flag in flags}
    if strays := [*rest, *argv[end + 1 :]]:
        if layers.phase == "train" or wrong_words.is_value(strays[0], argv, flags):
            raise wrong_words.stray_word_error(argv, strays, flags)
        check_position(strays, values.get("dataroot", ""))
        values[POSITION] = by_name["dataroot"].check(strays[0])
    return {name: checked(by_name[name], value) if name in by_name else value for name, value in values.items()}


def flags_for(model: str, phase: str = "train") -> list[Flag]:
    """Return every flag of a model with its default data set, for tools that build command lines."""
    layers = _Layers(_base_flags(phase), phase)
    layers.choose({"model": model}, {})
    return layers.flags
