"""Build the package: our rooms move below ganvas/_rooms, and their imports follow, so that it claims one name.

setuptools calls this (pyproject.toml). Nothing changes in the clone, nor with `pip install -e .`, which installs it.
"""

import ast
import re
import shutil
from pathlib import Path

from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent.parent
INNER = "ganvas._rooms"
OTHERS = ("tests", "benchmarks", "ganvas")  # packages that are no rooms, or have a place of their own
COMMANDS = {"evaluate": "evaluate", "export": "export", "compare": "compare", "check_data": "check-data",
            "download": "download", "card": "card"}  # fmt: skip
MAKE = "run make, then .venv/bin/python or source .venv/bin/activate"
TEXTS: list[tuple[str, str]] = [  # what messages say in a clone, and what they say in the package
    (r"python (train|test|\{phase\})\.py", r"ganvas \1"),
    (r"(torchrun [^\n\"]*?)(train|\{phase\})\.py", r"\1-m ganvas \2"),
    (rf"python scripts/({'|'.join(COMMANDS)})\.py", lambda match: f"ganvas {COMMANDS[match[1]]}"),  # type: ignore[list-item]
    (r"python scripts/(\w+)\.py", rf"python -m {INNER}.scripts.\1"),
    (re.escape(MAKE), "install it with pip"),
]
OFF_PATH = "sys.path[: not sys.flags.safe_path] = []  # this folder's modules are not top-level"
PATHS: list[tuple[str, str]] = [  # what a script does to find our modules
    (r"(?m)^sys\.path\.insert\(0, .*\)\n", ""),
    (r"(?m)^( +)sys\.exit\(run_script\(", rf"\1{OFF_PATH}\n\g<0>"),
]


class BuildPackage(build_py):
    """Copies ganvas/ as it is, then the rooms, train.py and test.py below it."""

    def run(self) -> None:
        """Fill the folder that becomes the wheel."""
        package = Path(self.build_lib, "ganvas")
        shutil.rmtree(package, ignore_errors=True)  # of an earlier build
        super().run()
        if self.editable_mode:
            return
        for path in sorted(package.rglob("*.py")):
            path.write_text(rewritten(path.read_text(encoding="utf-8"), path.name), encoding="utf-8")
        for name in room_files():
            copy = package / "_rooms" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if copy.suffix == ".py":
                copy.write_text(rewritten((ROOT / name).read_text(encoding="utf-8"), name), encoding="utf-8")
            else:
                shutil.copyfile(ROOT / name, copy)
        (package / "_rooms" / "__init__.py").write_text('"""The modules of GANvas, named as in its clone."""\n')

    def get_source_files(self) -> list[str]:
        """Return the files that a source distribution needs for building."""
        requirements = [path.name for path in sorted(ROOT.glob("requirements*.txt"))]
        return [*super().get_source_files(), *room_files(), *requirements]


def room_files() -> list[str]:
    """Return the paths of train.py, test.py and all files of the rooms, from the root, with /."""
    rooms = sorted({file.parent.name for file in ROOT.glob("*/__init__.py")} - set(OTHERS))
    inside = [path.relative_to(ROOT) for room in rooms for path in sorted((ROOT / room).rglob("*")) if path.is_file()]
    files = [path for path in inside if "__pycache__" not in path.parts and not path.name.startswith(".")]
    return ["train.py", "test.py", *(path.as_posix() for path in files)]


def own_names() -> set[str]:
    """Return the top-level names that our modules have in a clone, except ganvas."""
    return {name.partition("/")[0].removesuffix(".py") for name in room_files()}


def rewritten(source: str, name: str) -> str:
    """Return a source of ours with its imports and its messages as they are in the package.

    Raises ValueError for an import that binds the top-level name of a room, such as `import util.errors`.
    """
    lines, ours = source.splitlines(keepends=True), own_names()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").partition(".")[0] in ours:
            _edit(lines, node.lineno, f"from {node.module} import", f"from {INNER}.{node.module} import")
        elif isinstance(node, ast.Import):
            for alias in (alias for alias in node.names if alias.name.partition(".")[0] in ours):
                if not alias.asname:
                    raise ValueError(f"{name}: write `import {alias.name} as ...` or `from ... import ...`")
                _edit(lines, node.lineno, f"import {alias.name} as", f"import {INNER}.{alias.name} as")
    text = "".join(lines)
    for pattern, replacement in TEXTS + (PATHS if "/" not in name or name.startswith("scripts/") else []):
        text = re.sub(pattern, replacement, text)
    return re.sub(r'(?m)^ROOMS = ""', f'ROOMS = "{INNER}."', text)


def _edit(lines: list[str], number: int, text: str, replacement: str) -> None:
    """Replace a text in a line, which holds it once."""
    assert lines[number - 1].count(text) == 1, lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(text, replacement)
