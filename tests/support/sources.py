"""List the repository's source files and the modules that they import."""

import ast
from collections.abc import Iterable
from pathlib import Path

from tests.support.runs import ROOT

NOT_OURS = ("checkpoints", "results", "datasets", "build", "dist")  # folders that commands write


def sources(pattern: str = "*.py") -> list[str]:
    """Return the relative paths of the repository's files that match; skip environments, caches and runs."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob(pattern) if path.is_file())
    return sorted(p.as_posix() for p in found if not _is_foreign(p))


def _is_foreign(path: Path) -> bool:
    hidden = any(part.startswith(".") and part != ".ci" for part in path.parts)
    environment = any((ROOT / folder / "pyvenv.cfg").is_file() for folder in path.parents)
    return hidden or environment or path.parts[0] in NOT_OURS or "__pycache__" in path.parts


MODULES = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in sources()}


def imported(source: str, path: str, modules: Iterable[str] = MODULES) -> list[str]:
    """Return every module that a source imports, in functions too, as `package.module`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(Path(path).parts[:-1][: -node.level + 1 or None]) if node.level else ""
            module = ".".join(part for part in (package, node.module) if part)
            # `from data import base` names data.base; `from data.base import Spec` names data.base too
            found += [f"{module}.{a.name}" if f"{module}.{a.name}" in modules else module for a in node.names]
    return found
