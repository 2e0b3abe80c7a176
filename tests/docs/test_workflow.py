"""The workflow for the code host runs what the Makefile runs, on the Pythons that pyproject.toml allows."""

import re
import tomllib

import yaml

from tests.support.runs import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "tests.yml"


def test_it_covers_the_systems_and_pythons_of_the_readme():
    matrix = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["tests"]["strategy"]["matrix"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest, above = (int(number) for number in re.findall(r"3\.(\d+)", project["requires-python"]))
    assert matrix["python"] == [f"3.{number}" for number in range(lowest, above)]
    assert f"Python 3.{lowest} to 3.{above - 1}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]


def test_its_steps_name_files_and_tests_that_exist():
    steps = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["tests"]["steps"]
    commands = "\n".join(step["run"] for step in steps if "run" in step)
    named = re.findall(r"(?:scripts|tests)/[\w/.]+|requirements[\w-]*\.txt", commands)
    assert named and all((ROOT / name).exists() for name in named)
    quick = re.search(r"^QUICK := .*tests/,(.*)\)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert quick and [f"tests/{name}" for name in quick[1].split()] == re.findall(r"tests/\w+", commands)
