"""Keep the source of a run's plug-ins in its folder, and tell what has changed since."""

import ast
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from registry import loaded
from util.atomic_write import replace_text

FOLDER, TABLE = "plugins", "sources.json"  # in the run's folder; the table is {name: {"path", "sha256"}}
Sources = dict[str, tuple[Path, bytes]]  # name below FOLDER -> (file, content)


def current_sources() -> Sources:
    """Return the files of all imported plug-ins and of the modules beside and below them."""
    files = sorted(set(loaded.plugin_modules().values()))
    homes = sorted({file.parent for _, file in loaded.imported_plugins.values()}, key=lambda home: len(home.parts))
    sources: Sources = {}
    for file in files:
        home = next(home for home in homes if file.is_relative_to(home))
        inside = file.relative_to(home.parent if (home / "__init__.py").is_file() else home)
        name = inside.as_posix()
        if name in sources:  # two plug-ins' folders hold a file of this name
            name = f"{hashlib.sha256(str(home).encode()).hexdigest()[:8]}/{name}"
        try:
            sources[name] = file, file.read_bytes()
        except OSError:  # deleted since it was imported
            continue
    return sources


def save(folder: Path) -> None:
    """Copy the sources to the run's folder; a copy that changes is kept as NAME.1, NAME.2, ...

    Raise OSError if the folder cannot be written. The table is written last, so it never names a missing copy.
    """
    sources, table = current_sources(), read_table(folder)
    for name, (_, content) in sources.items():
        copy = folder / FOLDER / name
        if copy.is_file() and copy.read_bytes() == content:
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if copy.is_file():
            number = next(n for n in range(1, 10**6) if not copy.with_name(f"{copy.name}.{n}").exists())
            os.replace(copy, copy.with_name(f"{copy.name}.{number}"))
        beside = copy.with_name(copy.name + ".tmp")
        beside.write_bytes(content)
        os.replace(beside, copy)
    new = {name: {"path": str(file), "sha256": _hash(content)} for name, (file, content) in sources.items()}
    if new and new != table:
        replace_text(folder / FOLDER / TABLE, json.dumps(table | new, indent=1) + "\n")


def read_table(folder: Path) -> dict[str, dict[str, str]]:
    """Return the run's table of sources; {} if there is none or it cannot be read."""
    try:
        table = json.loads((folder / FOLDER / TABLE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    sound = isinstance(table, dict) and all(isinstance(row, dict) and "sha256" in row for row in table.values())
    return table if sound else {}


def change_note(folder: Path) -> str:
    """Return a note on plug-in files that differ from those the run was trained with; "" if none does.

    Comments and blank lines do not count.
    """
    table, changes = read_table(folder), []
    for name, (_, content) in current_sources().items() if table else ():
        if name not in table:
            changes.append(f"{name} is new")
        elif table[name]["sha256"] != _hash(content):
            what = _changed_parts(_copy_of(folder / FOLDER / name, table[name]["sha256"]), content)
            changes += [f"{name} ({what})" if what else name] if what is not None else []
    if not changes:
        return ""
    where = f"their former source is in {folder / FOLDER}"
    return f"note: plug-in files changed since the run was trained: {', '.join(changes)}; {where}"


def _changed_parts(before: bytes, after: bytes) -> str | None:
    """Return the functions and classes that differ, by name; "" if unknown, None if the code is the same."""
    try:
        old, new = ast.parse(before or "("), ast.parse(after)
    except (SyntaxError, ValueError):
        return ""
    if ast.dump(old) == ast.dump(new):
        return None
    was, now = (_parts(tree) for tree in (old, new))
    return ", ".join(name for name in {**now, **was} if was.get(name) != now.get(name))


def _parts(tree: ast.Module) -> dict[str, str]:
    """Return {name: dump} of a module's functions and methods, and of the other statements under the enclosing name."""
    found: dict[str, str] = {}

    def visit(node: Any, prefix: str) -> None:
        for child in node.body:
            if isinstance(child, ast.ClassDef):
                visit(child, f"{prefix}{child.name}.")
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                name = prefix + child.name if function else prefix.rstrip(".") or "top level"
                found[name] = found.get(name, "") + ast.dump(child)

    visit(tree, "")
    return found


def _copy_of(path: Path, sha256: str) -> bytes:
    """Return the content of a copy; b"" if it is missing or not what was copied."""
    try:
        content = path.read_bytes()
    except OSError:
        return b""
    return content if _hash(content) == sha256 else b""


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
