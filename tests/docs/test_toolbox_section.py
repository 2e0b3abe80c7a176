"""The files and commands of docs/plugins_more/toolbox.md work, and it names every flag and part of the toolbox."""

import re

from networks import D_AUGMENTATIONS
from options.toolbox import Toolbox
from tests.support.runs import ROOT, printed_by
from tests.support.training_runs import plugin_files, run_in
from training import TERMS

PAGE = (ROOT / "docs" / "plugins_more" / "toolbox.md").read_text()
FILES = dict(re.findall(r"^```python file=(\w+)\.py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS, PROMISED = re.findall(r"^```sh\n(.*?)^```\n\n```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]


def test_its_regularisers_train_and_test(tmp_path):
    with plugin_files(tmp_path, **FILES):
        printed = printed_by(COMMANDS, lambda *words: run_in(tmp_path, *words), "--gpu_ids", "-1")
    assert [text for text in PROMISED.splitlines() if text not in printed] == []


def test_it_names_every_flag_and_part():
    table = PAGE[: PAGE.index("**How a model is found out.**")]
    assert [name for name in vars(Toolbox()) if f"--{name}" not in table] == []
    assert [name for name in (*D_AUGMENTATIONS, *TERMS) if not re.search(rf"[`_, ]{name}\b", table)] == []
