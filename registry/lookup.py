"""Find models, data sets, networks and other named parts in tables, plug-in files and entry points."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import contract, discovery, loaded
from registry.kinds import PART_FLAGS, PART_TABLES
from registry.own_names import own_module
from util.errors import OptionError, UnknownName
from util.spelling import name_hint, normalise_name


class Table(dict):
    """Named parts of one kind: `name: object` or `name: "module:object"`.

    A plug-in adds its own with one line, `GENERATORS["mine"] = Mine`; a taken name raises OptionError.
    """

    def __init__(self, kind: str, entries: dict[str, Any]):
        super().__init__(entries)
        self.kind = kind
        self.origins: dict[str, str] = {}

    def __setitem__(self, name: str, thing: Any) -> None:
        origin = loaded.current_origin() or "built in"
        for other in self:
            if normalise_name(other) == normalise_name(name) and self.origin(other) != origin:
                first = definition_file(self.kind, other, self.origin(other))
                raise duplicate_name_error(self.kind, name, [first, origin])
        super().__setitem__(name, discovery.absolute_reference(thing))
        self.origins[name] = origin
        if loaded.current_origin():
            loaded.table_entries.setdefault(origin, {})[self.kind, name] = self, self[name]

    def describe(self, name: str) -> str:
        """Return what --list says of a part beside its origin; "" if that is nothing."""
        return ""

    def origin(self, name: str) -> str:
        """Return the file that added the name, or "built in"."""
        return self.origins.get(name, "built in")


@dataclass(frozen=True)
class Entry:
    """A part with a name; nothing is imported until `load` is called."""

    kind: str
    name: str
    origin: str  # "built in", or the plug-in's file or entry point
    plugin: discovery.PluginEntry | None = None  # the plug-in's declaration, if any

    def load(self) -> Any:
        """Import and return the class or function; raise OptionError if its file does not define it."""
        if self.plugin is not None:
            module = discovery.load(self.plugin)
            if PART_TABLES[self.kind][2] is not None:
                return contract.check_class(self.kind, only_class(self.kind, module), self.name)
        thing = resolve(self.kind, table(self.kind)[self.name])
        origin = table(self.kind).origin(self.name)
        return thing if origin == "built in" else contract.check_part(self.kind, thing, self.name, origin)


def table(kind: str) -> Table:
    """Return the table of a kind."""
    module, name, _ = PART_TABLES[kind]
    return getattr(importlib.import_module(own_module(module)), name)


def resolve(kind: str, thing: Any) -> Any:
    """Return the object for a table's value: an object, "module:object", or a module with one class of the kind."""
    if not isinstance(thing, str):
        return thing
    module_name, _, attribute = thing.partition(":")
    module = importlib.import_module(own_module(module_name))
    return getattr(module, attribute) if attribute else only_class(kind, module)


def only_class(kind: str, module: Any) -> type:
    """Return the only class of a kind that a module defines; raise OptionError for none or several."""
    base = resolve(kind, PART_TABLES[kind][2])
    types = [thing for thing in vars(module).values() if isinstance(thing, type)]
    classes = [cls for cls in types if issubclass(cls, base) and cls.__module__ == module.__name__]
    if len(classes) != 1:
        names = ", ".join(c.__name__ for c in classes) or "none"
        why = f"must define exactly one {base.__name__} subclass, has {names}"
        raise OptionError("plug-in", module.__file__, why, "keep one class per file")
    return classes[0]


def entries(kind: str) -> list[Entry]:
    """Return all entries of a kind, without importing a plug-in or torch."""
    own = table(kind)
    registered = [Entry(kind, name, own.origin(name)) for name in own]
    known = {(e.name, e.origin) for e in registered}
    declared = [Entry(kind, f.name, f.origin, f) for f in discovery.list_entries() if f.kind == kind]
    return registered + [e for e in declared if (e.name, e.origin) not in known]


def entry(kind: str, name: str, flag: str = "") -> Entry:
    """Return the entry of that name; OptionError with the nearest name if none has it, or with both files if two do.

    flag: the requesting flag, if it is not the kind's usual one.
    """
    every = entries(kind)
    found = [e for e in every if normalise_name(e.name) == normalise_name(name)]
    if len(found) > 1:
        raise duplicate_name_error(kind, name, [definition_file(kind, e.name, e.origin) for e in found])
    if not found:
        _check_namesake_files(kind, name)
        names = sorted({e.name for e in every})
        remedy = f"{name_hint(name, names)}choose one of {', '.join(names)}"
        raise UnknownName("option", flag or PART_FLAGS[kind], f"there is no {kind} '{name[:80]}'", remedy)
    return found[0]


def is_known(kind: str, name: str) -> bool:
    """Whether there is a part of that kind and name."""
    return normalise_name(name) in {normalise_name(e.name) for e in entries(kind)}


def _check_namesake_files(kind: str, name: str) -> None:
    """Raise OptionError for a plug-in file of this name that does not define a part of this kind."""
    for path in map(Path, discovery.paths()):
        if PART_TABLES[kind][2] and path.is_file() and normalise_name(path.stem) == normalise_name(name):
            only_class(kind, discovery.load(discovery.PluginEntry(kind, path.stem, str(path))))


def find(kind: str, name: str) -> Any:
    """Return the class or function called `name`, importing only its own file."""
    return entry(kind, name).load()


def definition_file(kind: str, name: str, origin: str) -> str:
    """Return the file that defines a name: the plug-in's, or for a built-in part the file in its table."""
    value = table(kind)[name] if origin == "built in" else None
    return value.partition(":")[0].replace(".", "/") + ".py" if isinstance(value, str) else origin


def duplicate_name_error(kind: str, name: str, origins: list[str]) -> OptionError:
    """Return the error for two parts of the same name."""
    return OptionError(kind, name, "is defined twice, in " + " and in ".join(origins), "rename or remove one of them")
