"""The section on metrics in training of the page for plug-ins: its file and commands do what it says."""

import json
import re

from tests.support.runs import ROOT, printed_by

PAGE = (ROOT / "docs" / "plugins_more" / "measuring.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_section_do_what_it_says(command, tmp_path):
    (tmp_path / "guess.py").write_text(next(text for _, file, text in BLOCKS if file))
    (lines,), (promised,) = ([text for kind, _, text in BLOCKS if kind == wanted] for wanted in ("sh", "text"))
    out = printed_by(lines, command, "--gpu_ids", "-1")
    assert [text for text in promised.splitlines() if text not in out] == []
    folder = tmp_path / "checkpoints" / "guessed"
    assert [line.partition(":")[0] for line in (folder / "diary.txt").read_text().splitlines()] == [
        "epoch 1",
        "epoch 2",
    ]
    assert json.loads((folder / "metrics.json").read_text())["best"].keys() == {"L1", "ssim"}
