"""Find and import plug-ins: files and folders given with --plugin, and installed entry points."""

import ast
import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

from registry import loaded, moved, own_names, sources
from registry.kinds import PART_TABLES
from util.errors import OptionError
from util.spelling import path_hint

GROUP = "ganvas.plugins"
RECIPES_FOLDER = "recipes"  # beside a plug-in's file
TABLE_KINDS = {table: kind for kind, (_, table, _) in PART_TABLES.items()}


@dataclass(frozen=True)
class PluginEntry:
    """A name that a plug-in declares, read from its source without running it."""

    kind: str
    name: str
    origin: str  # the file, or "entry point NAME of PACKAGE"
    module: str = ""  # the installed module to import; "" for a file


_paths: list[Path] = []  # the paths given with --plugin, in order
_of_run: list[Path] = []  # those of them that belong to the current run
_remembered: list[str] = []  # the paths stored with the current run
_stamps: dict[str, tuple[int, int]] = {}  # module: (time of change, size) of its file when it was imported


def add_paths(paths, of_run: bool = False) -> None:
    """Add the files and folders given with --plugin; import a file now, a folder's file when a name needs it.

    of_run: forget_run() removes them, before another run in the same process.
    Raises OptionError for a path that does not exist or is not a Python file or folder.
    """
    for path in (Path(p).expanduser().resolve() for p in paths):
        if not path.is_dir() and not (path.is_file() and path.suffix == ".py"):
            why = "is not a .py file or a folder" if path.exists() else "there is no such file"
            remedy = "give --plugin the path of a .py file or of a folder of .py files"
            raise OptionError("plug-in", path, why, path_hint(str(path)) or remedy)
        if path not in _paths:
            _paths.append(path)
            if of_run:
                _of_run.append(path)
        if path.is_file():
            load(PluginEntry("file", path.stem, str(path)))


def paths() -> list[str]:
    """Return the absolute paths in use, for another process or to store with a run."""
    return [str(path) for path in _paths]


def forget_run() -> None:
    """Forget the paths of an earlier run of this process, and what their plug-ins added to tables."""
    for path in _of_run:
        _paths.remove(path)
    own = {name for name, (_, file) in loaded.imported_plugins.items() if {file, file.parent} & set(_of_run)}
    for name in own:
        _forget_module(name)
    _of_run.clear()
    _remembered.clear()


def clear() -> None:
    """Forget all paths in use."""
    _paths.clear()
    _of_run.clear()
    for name in list(loaded.imported_plugins):
        _forget_module(name)
    _remembered.clear()


def _forget_module(name: str) -> None:
    _, file = loaded.imported_plugins.pop(name)
    for (_, added), (table, thing) in loaded.table_entries.get(str(file), {}).items():
        if table.get(added) is thing:  # another run's plug-in may add the same name
            del table[added]


def restore_paths(paths, given, file: Path) -> None:
    """Add the plug-ins that a run stores in `file`; a path in `given` replaces the stored one of the same file name.

    Raises OptionError for a missing file, unless other plug-ins are given, because one of them may replace it.
    """
    stems = {Path(path).stem for path in given}
    _remembered.extend(map(str, paths))
    for path in (Path(p) for p in paths):
        if path.exists() and path.stem not in stems:
            add_paths([path], of_run=True)
        elif not given:
            why = f"this file no longer exists; the run's options name it ({file})"
            copy = file.parent / sources.FOLDER / path.name
            instead = f"use the run's copy (--plugin {copy})" if copy.is_file() else "restore it"
            raise OptionError("plug-in", path, why, f"give its new path with --plugin NEW, or {instead}")


def remembered_paths() -> list[str]:
    """Return the plug-in paths stored with the current run."""
    return list(_remembered)


def list_entries() -> list[PluginEntry]:
    """Return every name that the plug-ins in use and the installed plug-ins declare."""
    entries = []
    for path in _paths:
        files = sorted(path.glob("*.py")) if path.is_dir() else [path]
        for file in (file for file in files if not file.name.startswith("_")):
            entries += [PluginEntry(kind, name, str(file)) for kind, name in read_declarations(file)]
        entries += _list_recipes(path if path.is_dir() else path.parent)
    return list(dict.fromkeys([*entries, *list_installed()]))


def _list_recipes(folder: Path) -> list[PluginEntry]:
    """Return the recipes beside plug-ins: RECIPES_FOLDER/NAME.yaml in their folder."""
    return [PluginEntry("recipe", file.stem, str(file)) for file in sorted((folder / RECIPES_FOLDER).glob("*.yaml"))]


@lru_cache(maxsize=1)
def list_installed() -> tuple[PluginEntry, ...]:
    """Return the names that installed packages declare in the entry-point group `ganvas.plugins`."""
    entries = []
    for point in metadata.entry_points(group=GROUP):
        package = point.dist.name if point.dist else point.module
        origin = f"entry point {point.name} of {package}"
        source = module_file(point.module)
        for kind, name in read_declarations(source) if source else [("model", point.name)]:
            name = point.name if kind in ("model", "dataset") else name  # not the file's
            entries.append(PluginEntry(kind, name, origin, module=point.module))
        entries += _list_recipes(source.parent) if source else []
    return tuple(entries)


def absolute_reference(thing):
    """Return a table's value; if it is "FILE:object" of the plug-in being imported, with an importable module name."""
    file = Path(loaded.current_origin())
    if isinstance(thing, str) and file.stem and file.stem == thing.partition(":")[0]:
        return module_name(file) + ":" + thing.partition(":")[2]
    return thing


def load(plugin: PluginEntry) -> ModuleType:
    """Import a plug-in once, and again if its file has changed; raise an OptionError that names it if that fails."""
    name = plugin.module or module_name(Path(plugin.origin))
    file = module_file(plugin.module) if plugin.module else Path(plugin.origin)
    if file is not None:
        loaded.imported_plugins[name] = (plugin.name, file.resolve())
    stamp = _stamp(file)
    if name in sys.modules and _stamps.setdefault(name, stamp) == stamp:
        _add_entries(plugin.origin)
        return sys.modules[name]
    _stamps[name] = stamp
    moved.answer_old_paths()
    loaded.import_stack.append(plugin.origin)
    try:
        return _import_installed(name) if plugin.module else _import_file(name, Path(plugin.origin))
    except (Exception, SystemExit) as problem:  # a plug-in may raise anything at import; the error names it
        sys.modules.pop(name, None)
        if isinstance(problem, OptionError):
            raise
        from registry import attribution  # imported here because only errors need it

        missing = problem.name if isinstance(problem, ModuleNotFoundError) else None
        line = None if isinstance(problem, SyntaxError) or missing else attribution.plugin_line(problem)
        why = f"{type(problem).__name__}: {problem}" + (f" ({line})" if line else "")
        remedy = attribution.pip_hint(missing) if missing else "fix it or omit it"
        raise OptionError("plug-in", plugin.origin, why, remedy) from problem
    finally:
        loaded.import_stack.pop()


def _add_entries(origin: str) -> None:
    """Add to tables again what a plug-in has added when it was imported; see forget_run."""
    loaded.import_stack.append(origin)
    try:
        for (_, name), (table, thing) in list(loaded.table_entries.get(origin, {}).items()):
            if name not in table:
                table[name] = thing
    finally:
        loaded.import_stack.pop()


def _stamp(file: Path | None) -> tuple[int, int]:
    return (file.stat().st_mtime_ns, file.stat().st_size) if file is not None and file.is_file() else (0, 0)


def module_name(path: Path) -> str:
    """Return the module name for a plug-in file: the same in every process, and unique to the path."""
    return f"ganvas_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _import_file(name: str, path: Path) -> ModuleType:
    if str(path.parent) not in sys.path:
        # last, so that a plug-in can import its neighbours but shadows no other module
        sys.path.append(str(path.parent))
    return own_names.load_plugin(name, path)


def _import_installed(name: str) -> ModuleType:
    with own_names.compiled_as_plugin(name):
        return importlib.import_module(name)


def module_file(module: str) -> Path | None:
    """Return the file of an installed module without importing it or its parents."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for root in spec.submodule_search_locations or []:
        base = Path(root).joinpath(*rest)
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                return file
    return None


def read_declarations(file: Path) -> list[tuple[str, str]]:
    """Return the (kind, name) pairs a source file declares: its model, its data set and its table entries."""
    return list(_cached_declarations(file, file.stat().st_mtime_ns if file.is_file() else 0))


@lru_cache(maxsize=1024)
def _cached_declarations(file: Path, changed: int) -> list[tuple[str, str]]:
    tree = _parse(file)
    if tree is None:
        return [("model", file.stem)]  # a broken file counts as a model, so that asking for it shows the error
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    own = {kind for name, kind in _plugin_classes(file, tree, ()).items() if name in classes}
    lines = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return [(kind, file.stem) for kind in sorted(own)] + [row for target in lines for row in _table_line(target)]


def _plugin_classes(file: Path, tree: ast.Module, seen: tuple[Path, ...]) -> dict[str, str]:
    """Return {class: kind} of the models and data sets that a file defines or imports, by their base classes."""
    homes = {"BaseModel": "model", "BaseDataset": "dataset"}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            top, neighbour = node.module.split(".")[0], file.parent / (node.module.replace(".", "/") + ".py")
            kinds: dict[str, str] = {}
            if top == "ganvas":
                kinds = {a.name: homes[a.name] for a in node.names if a.name in ("BaseModel", "BaseDataset")}
            elif top in ("models", "data"):
                kinds = {a.name: "model" if top == "models" else "dataset" for a in node.names if a.name[:1].isupper()}
            elif neighbour.is_file() and neighbour not in seen and (inner := _parse(neighbour)):
                kinds = _plugin_classes(neighbour, inner, (*seen, file))
            homes |= {a.asname or a.name: kinds[a.name] for a in node.names if a.name in kinds}
        elif isinstance(node, ast.ClassDef):
            known = [homes[base] for base in map(_last_name, node.bases) if base in homes]
            homes |= {node.name: known[0]} if known else {}
    return homes


def option_names(file: Path) -> list[str]:
    """Return the flags declared in the `Options` classes of a plug-in, read from its source."""
    tree = _parse(file)
    nodes = ast.walk(tree) if tree else []
    classes = [node for node in nodes if isinstance(node, ast.ClassDef) and node.name == "Options"]
    lines = [line for c in classes for line in c.body if isinstance(line, ast.AnnAssign)]
    return [line.target.id for line in lines if isinstance(line.target, ast.Name)]


def class_constant(file: Path, name: str) -> str:
    """Return the text that a class in a file assigns to a name in its body; "" if there is none."""
    tree = _parse(file)
    lines = [line for c in ast.walk(tree) if isinstance(c, ast.ClassDef) for line in c.body] if tree else []
    for line in lines:
        targets = getattr(line, "targets", None) or [getattr(line, "target", ast.Constant(""))]
        value = getattr(line, "value", None)
        if name in map(_last_name, targets) and isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
    return ""


def class_bases(file: Path) -> dict[str, list[str]]:
    """Return {class: names of its bases} of a file."""
    tree = _parse(file)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)] if tree else []
    return {node.name: [_last_name(base) for base in node.bases] for node in classes}


def _parse(file: Path) -> ast.Module | None:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _table_line(target: ast.expr) -> list[tuple[str, str]]:
    """Return [(kind, name)] for the target of a line like GENERATORS["mine"] = ..., else []."""
    if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
        kind = TABLE_KINDS.get(_last_name(target.value))
        if kind and isinstance(target.slice.value, str):
            return [(kind, target.slice.value)]
    return []
