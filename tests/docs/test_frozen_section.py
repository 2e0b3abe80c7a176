"""The files and commands of docs/plugins_more/frozen.md work, and print what it promises."""

import re
import shlex

import pytest
import torch
import torchvision

from networks import features
from registry import discovery
from tests.support.runs import ROOT
from tests.support.training_runs import plugin_files, run_in

PAGE = (ROOT / "docs" / "plugins_more" / "frozen.md").read_text()
FILES = dict(re.findall(r"^```python file=(\w+)\.py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
PARTS = re.findall(r"^```sh\n(.*?)^```\n\n```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(PARTS)))
def test_the_commands_of_the_section_do_what_it_says(number, tmp_path):
    out, (lines, promised) = "", PARTS[number]
    with plugin_files(tmp_path, **FILES):
        for line in lines.splitlines():
            python, script, *argv = shlex.split(line)
            more = ["--displays", "console,html", "--gpu_ids", "-1"] if script == "train.py" else []
            ended = run_in(tmp_path, script.removesuffix(".py"), *argv, *more)
            assert (python, ended.code) == ("python", 0), ended.err[-2000:]
            out += ended.out
    assert [text for text in promised.splitlines() if text not in out] == []


def test_the_layers_of_vgg19_have_five_sizes(tmp_path):
    with plugin_files(tmp_path, vgg=FILES["vgg"]):
        module = discovery.load(discovery.PluginEntry("model", "vgg", str(tmp_path / "vgg.py")))
        with torch.device("meta"):
            net, image = torchvision.models.vgg19().features, torch.zeros(1, 3, 64, 64)
        seen = features(net, image, list(module.LAYERS))
    assert [len(x[0]) for x in seen.values()] == [64, 128, 256, 512, 512]
    assert [len(x[0, 0]) for x in seen.values()] == [64, 32, 16, 8, 4]
