"""The files and commands of the section on objectives and penalties work, and print what it promises."""

import re
import shlex

import pytest

from registry.lookup import table
from tests.support.runs import ROOT

PAGE = (ROOT / "docs" / "plugins_more" / "objectives.md").read_text()
FILES = dict(re.findall(r"^```python file=(\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
BLOCKS = re.findall(r"^```sh\n(.*?)^```\n\n```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("lines", "promised"), BLOCKS, ids=[name for name in FILES])
def test_the_sections_commands_do_what_it_says(command, tmp_path, lines, promised):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    out = ""
    for line in lines.splitlines():
        _, script, *argv = shlex.split(line)
        ended = command(script.removesuffix(".py"), *argv, "--gpu_ids", "-1")
        assert ended.code == 0, f"{line}\n{ended.err[-2000:]}"
        out += ended.out
    assert [text for text in promised.splitlines() if text not in out] == []
    assert "Traceback" not in out and "has no effect" not in out, out


@pytest.mark.parametrize("kind", ["objective", "penalty"])
def test_the_tables_name_what_there_is(kind):
    ours = [name for name in table(kind) if table(kind).origin(name) == "built in"]
    assert [name for name in ours if f"`{name}`" not in PAGE] == []
