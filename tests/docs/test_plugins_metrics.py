"""The plug-in and the commands of docs/plugins_more/metrics.md work; docs/metrics.md names every metric."""

import re
import shlex

import numpy as np
from PIL import Image

from cli.main import run_command
from metrics import METRICS
from scripts import evaluate
from tests.support.runs import ROOT
from tests.support.training_runs import plugin_files

PAGE = (ROOT / "docs" / "plugins_more" / "metrics.md").read_text()
FILES = dict(re.findall(r"^```python file=(\w+)\.py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


def save(folder, names, changed=0):
    for n, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(n).integers(0, 90, (16, 16, 3)) + changed
        pixels[..., n % 3] += 100  # the brightest channel
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)


def test_the_metrics_of_the_section_measure_folders(tmp_path, monkeypatch, capsys):
    names = [f"{n}.png" for n in range(12)]
    save(tmp_path / "real", names)
    save(tmp_path / "fake", names, changed=20)
    save(tmp_path / "classes", [f"{'abc'[n % 3]}/{n}.png" for n in range(15)])
    save(tmp_path / "made", [f"{'abc'[n % 3]}_{n:04d}_fake.png" for n in range(12)], changed=5)
    commands = re.findall(r"^python scripts/evaluate\.py (.+)$", PAGE, re.MULTILINE)
    with plugin_files(tmp_path, **FILES):
        monkeypatch.chdir(tmp_path)
        tables = []
        for argv in map(shlex.split, commands):
            assert run_command(evaluate.main, [*argv, "--gpu_ids", "-1"]) == 0, capsys.readouterr().err
            tables.append(capsys.readouterr().out)
    assert re.search(r"worst \(lower is better\)", tables[0]) and "n=12" in tables[0]
    values = re.split(r"\s{2,}", tables[1].splitlines()[-1].strip())
    assert values[0].startswith("1 +- 0") and values[1].startswith("1 +- 0")


def test_every_metric_is_in_the_documentation():
    page = (ROOT / "docs" / "metrics.md").read_text()
    words = set(re.findall(r"`(\w+)`", page))
    endings = {word.partition("_")[2] for word in words if word.startswith("lite0_")}
    for name in METRICS:
        family, _, method = name.partition("_")
        is_of_a_family = family in ("lite0", "digits") and method in words | endings
        assert name in words or is_of_a_family, name
