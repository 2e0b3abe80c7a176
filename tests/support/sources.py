"""List the repository's source files and the modules that they import."""

import ast
import os
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from tests.support.runs import ROOT

# folders that commands write, in the root
NOT_OURS = ("checkpoints", "results", "datasets", "build", "dist", "site", "quality", "fuzz_found")


def sources(pattern: str = "*.py") -> list[str]:
    """Return the relative paths of the repository's files whose name matches; skip environments, caches and runs."""
    return [path for path in _all_files() if fnmatch(path.rpartition("/")[2], pattern)]


@cache
def _all_files() -> list[str]:
    found: list[str] = []
    for folder, inner, files in os.walk(ROOT):
        inner[:] = [name for name in inner if not _is_foreign(Path(folder, name))]
        found += [Path(folder, name).relative_to(ROOT).as_posix() for name in files if name[0] != "."]
    return sorted(found)


def _is_foreign(folder: Path) -> bool:
    hidden = folder.name.startswith(".") and folder.name != ".ci"
    written = folder.parent == ROOT and folder.name in NOT_OURS
    return hidden or written or folder.name == "__pycache__" or (folder / "pyvenv.cfg").is_file()


@cache
def nodes_of(source: str) -> list[ast.AST]:
    """Return all nodes of a source's syntax tree, the module first."""
    return list(ast.walk(ast.parse(source)))


MODULES = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in sources()}


def imported(source: str, path: str, modules: Iterable[str] = MODULES) -> list[str]:
    """Return every module that a source imports, in functions too, as `package.module`."""
    found = []
    for node in nodes_of(source):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(Path(path).parts[:-1][: -node.level + 1 or None]) if node.level else ""
            module = ".".join(part for part in (package, node.module) if part)
            # `from data import base` names data.base; `from data.base import Spec` names data.base too
            found += [f"{module}.{a.name}" if f"{module}.{a.name}" in modules else module for a in node.names]
    return found
