"""The plug-in and commands of docs/plugins_more/ema_optimisers.md work, and print what the section promises."""

import re
import shlex

from tests.support.runs import ROOT
from training import OPTIMIZERS

SECTION = (ROOT / "docs" / "plugins_more" / "ema_optimisers.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)


def test_its_plug_in_trains_and_tests(process, tmp_path):
    (code, commands, promised) = BLOCKS
    (tmp_path / code[1]).write_text(code[2])
    printed = ""
    for line in commands[2].splitlines():
        _, script, *argv = shlex.split(line)
        ended = process(script.removesuffix(".py"), *argv, "--gpu_ids", "-1")
        assert ended.code == 0, f"{line}\n{ended.err[-2000:]}"
        printed += ended.out + ended.err
    assert [text for text in promised[2].splitlines() if text not in printed] == []


def test_its_table_has_every_optimiser():
    table = SECTION[SECTION.index("| `--optimizer` |") : SECTION.index("A line in a table")]
    assert set(re.findall(r"`(\w+)`", table)) - {"alpha"} == set(OPTIMIZERS)
