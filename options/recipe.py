"""Recipes: named sets of options, which replace defaults."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from options.fields import TRUTH_WORDS, Flag
from options.names.wrong_words import checked
from options.store import read_small_text
from registry.lookup import Entry, Table, entries, entry
from util.errors import OptionError, UnknownName
from util.spelling import normalise_name

FOLDER = Path(__file__).with_name("recipes")
RECIPES = Table(
    "recipe", {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}
)  # of a plug-in also {flag: value}
SUFFIXES = (".yaml", ".yml", ".json")
NOT_IN_RECIPES = ("recipe", "plugin", "name", "checkpoints_dir", "suffix")  # they locate a run or the recipe


@dataclass(frozen=True)
class Recipe:
    """A set of options: the value of each flag, as text or as a plug-in's table holds it, and where it is written."""

    name: str = ""  # a name of --list, or the absolute path of a file
    values: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    problem: UnknownName | None = None  # for a name that is unknown, unless a stored run's plug-in defines it

    def check(self, flag: Flag) -> Any:
        """Return this recipe's value of a flag, checked; OptionError that names its place."""
        value, place = self.values[flag.name], self.places[flag.name]
        if flag.meta["momentary"] or flag.name in NOT_IN_RECIPES:
            why = "is for one command, or says where a run is: a recipe cannot set it"
            raise OptionError(f"option in {place}", f"--{flag.name}", why, "give it on the command line")
        if flag.is_switch and isinstance(value, str):
            value = TRUTH_WORDS.get(value.lower(), value)
        try:
            return checked(flag, value, place)
        except UnknownName as problem:
            raise UnknownName(f"option in {place}", *problem.args[1:]) from None

    def check_first(self, flags: dict[str, Flag]) -> dict[str, Any]:
        """Return the model and the data set that this recipe names, which decide on the other flags."""
        return {name: self.check(flags[name]) for name in ("model", "dataset_mode") if name in self.values}

    def check_model(self, model: str, unknown: str) -> None:
        """Raise OptionError if this recipe, whose flag `unknown` a model lacks, is for another model."""
        if self.values.get("model", model) != model:
            why = f"is for --model {self.values['model']}; {model} has no --{unknown}, for example"
            raise OptionError(
                "option", f"--recipe {self.name}", why, "omit --model, or choose another recipe of --list"
            )

    def for_run(self, saved: dict[str, Any]) -> "Recipe":
        """Return this recipe for a new run, an empty one for a stored run, which remembers its options.

        Raises OptionError if the stored run was started with another recipe, and for the unknown name of a new one.
        """
        started = saved.get("recipe", "")
        if saved and self.name and normalise_name(self.name) != normalise_name(started):
            why = f"{self.name}: the run was started " + (f"with {started}" if started else "without a recipe")
            raise OptionError("option", "--recipe", why, "omit it, and give the flags that you want to change")
        if self.problem and not saved:
            raise self.problem
        return Recipe() if saved else self


def read_recipe(name: str) -> Recipe:
    """Return the recipe of a name or in a YAML or JSON file, an empty one for "".

    An unknown name is an error only where `for_run` needs it. Raises OptionError for a missing or malformed file, and
    for one that is not a table of single values.
    """
    if not name:
        return Recipe()
    path = Path(name).expanduser()
    if path.suffix in SUFFIXES:
        return _read_file(str(path.resolve()), path)
    try:
        found = entry("recipe", name)
    except UnknownName as problem:
        return Recipe(name, problem=problem)
    if file := _file_of(found):
        return _read_file(found.name, file)
    values = found.load()
    if not isinstance(values, dict) or not all(isinstance(flag, str) for flag in values):
        raise OptionError("recipe", found.name, f"in {found.origin} is not a table of flags", 'write {"lr": 1e-4}')
    return Recipe(found.name, values, dict.fromkeys(values, found.origin))


def describe(found: Entry) -> str:
    """Return the comment in the first line of a recipe's file; "" without one."""
    file = _file_of(found)
    first = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if file else ""
    return first.lstrip("# ") if first.startswith("#") else ""


def recommended(o: Any, device: str) -> list[str]:
    """Return a note that names the recipes of a run's model that were measured on this kind of device, if it has none.

    Such a recipe's file has a line `# measured: cpu, 8 minutes, facades 128x128`; the device is cpu, cuda or mps.
    """
    if o.recipe:
        return []
    found = []
    for recipe in entries("recipe"):
        file = _file_of(recipe)
        text = file.read_text(encoding="utf-8", errors="replace") if file else ""
        measured, model = (re.search(rf"^{line}: *(.+)$", text, re.MULTILINE) for line in ("# measured", "model"))
        if measured and model and normalise_name(model[1].strip()) == normalise_name(o.model):
            kind, _, where = measured[1].partition(",")
            found += [f"--recipe {recipe.name} ({where.strip()})"] if kind.strip() == device else []
    return [f"note: measured on this kind of device, {device}: {', '.join(found)}; docs/recipes.md"] if found else []


def _file_of(found: Entry) -> Path | None:
    place = RECIPES[found.name] if found.origin == "built in" else Path(found.origin)
    return place if isinstance(place, Path) and place.suffix in SUFFIXES else None


def _read_file(name: str, path: Path) -> Recipe:
    import yaml  # only --recipe and --config need it

    try:
        root = yaml.compose(read_small_text(path), Loader=yaml.SafeLoader)
    except OSError as problem:
        remedy = "give a name from --list, or a YAML file"
        raise OptionError("option", "--recipe", f"{path}: {problem.strerror}", remedy) from problem
    except (ValueError, RecursionError, yaml.YAMLError) as problem:
        why = str(problem).replace("\n", " ")
        raise OptionError("option", "--recipe", f"{path}: {why}", "fix the file") from problem
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise OptionError("option", "--recipe", f"{path} is not a table of options", "write `flag: value` lines")
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for key, node in root.value if root else ():
        flag, place = str(key.value).lstrip("-"), f"{path}, line {key.start_mark.line + 1}"
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(item, yaml.ScalarNode) for item in (key, *items)):
            raise OptionError(f"option in {place}", f"--{flag}", "is a table", "write one value, or a list of values")
        if flag in values:
            raise OptionError(f"option in {place}", f"--{flag}", f"is already in {places[flag]}", "remove one")
        texts = [None if item.tag.endswith(":null") else item.value for item in items]
        values[flag], places[flag] = texts if isinstance(node, yaml.SequenceNode) else texts[0], place
    return Recipe(name, values, places)
