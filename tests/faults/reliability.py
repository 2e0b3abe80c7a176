"""Write docs/reliability.md from the tests of faults and, if given, pytest's XML: make faults."""

import argparse
import ast
import os
import platform
import re
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.faults.catalogue import ELSEWHERE, TITLES
from util.atomic_write import replace_text

FOLDERS = "faults", "distributed"
PAGE = ROOT / "docs" / "reliability.md"
HEAD = """# What survives what

Each case is a failure that the tests in `tests/faults` and `tests/distributed` really cause: they kill processes, fill
disks, damage files. `make faults` runs all cases in their long form and writes this page; `make test` and
`make test-distributed` run a short form. GANvas promises:
**saved work is never lost, a continued run ends like an uninterrupted one, no code in a data or weights file is run,
and an error is one line** (`error: <thing> '<name>': <why>; <remedy>`). Exit codes: 0 done, 2 options, 3 data,
4 weights, 5 machine, 6 diverged, 129, 130 and 143 stopped by a signal, 1 a bug of ours.

Not defended against: people who can already run programs as you, and plug-ins that you install or name.
"""


def tests() -> dict[int, list[tuple[str, str]]]:
    """Return {case: [(file::test, what it injects and requires)]}, read from the sources."""
    found: dict[int, list[tuple[str, str]]] = {}
    for file in [path for folder in FOLDERS for path in sorted((ROOT / "tests" / folder).glob("test_*.py"))]:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and (numbers := numbers_of(node)):
                said = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
                for number in numbers:
                    found.setdefault(number, []).append((f"{file.name}::{node.name}", said))
    return found


def numbers_of(test: ast.FunctionDef) -> list[int]:
    """Return the cases that a test is marked with: @pytest.mark.fault(3, 5) -> [3, 5]."""
    marks = [d for d in test.decorator_list if isinstance(d, ast.Call) and ast.unparse(d.func) == "pytest.mark.fault"]
    return [int(ast.literal_eval(number)) for mark in marks for number in mark.args]


def table() -> str:
    """Return the two tables of cases: those with tests here, and those without, with the reason."""
    found = tests()
    lines = ["## Cases", "", "| case | what goes wrong | injected, and what then happens |", "|---|---|---|"]
    for number in sorted(found):
        said = "<br>".join(escaped(text or name) for name, text in found[number])
        lines.append(f"| F{number} | {TITLES[number]} | {said} |")
    lines += ["", "## Cases without a test here", "", "| case | what goes wrong | why |", "|---|---|---|"]
    lines += [f"| F{n} | {TITLES[n]} | {ELSEWHERE[n]} |" for n in sorted(ELSEWHERE) if n not in found]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return a text that keeps to its cell."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def results(xml: Path) -> tuple[str, int, int, int, list[str]]:
    """Return (the section of figures, cases run, passed and failed, what was not run) of a run of pytest."""
    every = ElementTree.parse(xml).getroot().findall(".//testcase")
    skips = Counter(skip.get("message", "") for case in every for skip in case.iter("skipped"))
    reasons = [f"{number} not run: {why.removeprefix('Skipped: ')}" for why, number in sorted(skips.items())]
    cases = [case for case in every if case.find("skipped") is None]
    bad = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    passed = len(cases) - len(bad)
    figures = {p.get("name"): p.get("value") for case in cases for p in case.findall(".//property")}
    import torch

    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    where = f"{platform.system()}, {os.cpu_count()} CPU cores, {versions}"
    lines = ["## Figures", "", f"{len(cases)} cases, {passed} passed, on {time.strftime('%F')} ({where}).", ""]
    lines += [f"{reason}." for reason in reasons] + ([""] if reasons else [])
    lines += ["| tried | result |", "|---|---|"]
    lines += [f"| {escaped(str(name))} | {escaped(str(value))} |" for name, value in sorted(figures.items())]
    return "\n".join(lines) + "\n", len(cases), passed, len(bad), reasons


def written_figures() -> str:
    """Return the section of figures that the page holds now."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    found = re.search(r"## Figures\n.*?(?=\n## Cases\n)", text, re.DOTALL)
    return found[0] if found else "## Figures\n\nNot measured yet: run `make faults`.\n"


def main() -> int:
    """Write the page; with --xml also the figures, and end with the counts: 0 only if all passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--xml", type=Path, help="what pytest --junitxml wrote")
    given = parser.parse_args()
    figures, ran, passed, failed, reasons = results(given.xml) if given.xml else (written_figures(), 0, 0, 0, [])
    replace_text(PAGE, "\n".join([HEAD, figures, table()]))
    if given.xml:
        print(*reasons, sep="\n", end="\n" if reasons else "")
        print(f"{ran} cases, {passed} passed")
    return 0 if not given.xml or (ran and not failed) else 1


if __name__ == "__main__":
    sys.exit(main())
