"""The plug-in and commands of docs/plugins_more/ema_optimisers.md work, and print what the section promises."""

import re

from tests.support.runs import ROOT, printed_by
from training import OPTIMIZERS

SECTION = (ROOT / "docs" / "plugins_more" / "ema_optimisers.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)


def test_its_plug_in_trains_and_tests(process, tmp_path):
    (code, commands, promised) = BLOCKS
    (tmp_path / code[1]).write_text(code[2])
    printed = printed_by(commands[2], process, "--gpu_ids", "-1")
    assert [text for text in promised[2].splitlines() if text not in printed] == []


def test_its_table_has_every_optimiser():
    table = SECTION[SECTION.index("| `--optimizer` |") : SECTION.index("A line in a table")]
    assert set(re.findall(r"`(\w+)`", table)) - {"alpha"} == set(OPTIMIZERS)
