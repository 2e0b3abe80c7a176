"""The section on testing of the page for plug-ins: its file and commands work, and print what it promises."""

import re
import shlex

from tests.support.runs import ROOT

PAGE = (ROOT / "docs" / "plugins_more" / "testing.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_section_do_what_it_says(command, tmp_path):
    (tmp_path / "blend.py").write_text(next(text for _, file, text in BLOCKS if file == "blend.py"))
    (lines,), (promised,) = ([t.splitlines() for kind, _, t in BLOCKS if kind == wanted] for wanted in ("sh", "text"))
    out = ""
    for line in lines:
        python, script, *argv = shlex.split(line)
        more = ["--displays", "console"] if script == "train.py" else []
        ended = command(script.removesuffix(".py"), *argv, *more, "--gpu_ids", "-1")
        assert (python, ended.code) == ("python", 0), ended.err
        out += ended.out
    assert [text for text in promised if text not in out] == []
