"""The plug-in and commands of docs/plugins_more.md work, and the page links to every section."""

import re
import shlex

from options import store
from tests.support.runs import ROOT, printed_by

SECTIONS = ROOT / "docs" / "plugins_more"
PAGE = (ROOT / "docs" / "plugins_more.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_its_plug_in_trains_and_generates(process, tmp_path):
    code, commands, promised = BLOCKS
    (tmp_path / code[1]).write_text(code[2])
    printed = printed_by(commands[2], process, "--gpu_ids", "-1")
    assert [text for text in promised[2].splitlines() if text not in printed] == []
    rows = [line for line in (tmp_path / "checkpoints/critic/loss_log.txt").read_text().splitlines() if "D_gp" in line]
    faded = [float(re.search(r"D_gp: ([\d.]+)", row)[1]) for row in rows]
    assert len(rows) >= 2 and faded[-1] == faded[-2], "the log keeps the last value of a phase with nothing to do"


def test_the_section_on_modes_trains_in_its_mode(process, tmp_path):
    blocks = re.findall(
        r"^```\w+(?: file=(\S+))?\n(.*?)^```", (SECTIONS / "modes.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / blocks[0][0]).write_text(blocks[0][1])
    ended = process("train", *shlex.split(blocks[1][1])[2:], "--gpu_ids", "-1")
    assert ended.code == 0 and blocks[2][1].strip() in ended.out, ended.err
    stored = store.load(tmp_path / "checkpoints" / "fast")
    assert (stored["netG"], stored["n_epochs"], stored["lambda_L1"]) == ("unet_32", 1, 20.0)


def test_links_between_pages_lead_to_pages():
    for page in (ROOT / "docs").rglob("*.md"):
        linked = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
        assert [name for name in linked if not (page.parent / name).exists()] == [], page


def test_the_page_links_to_every_section():
    sections = {path.name for path in SECTIONS.glob("*.md")}
    assert set(re.findall(r"\(plugins_more/(\w+\.md)\)", PAGE)) == sections
    assert "(plugins_more.md)" in (ROOT / "docs" / "plugins.md").read_text()
