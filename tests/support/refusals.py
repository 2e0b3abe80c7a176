"""Check that a command ends with a one-line error and an exit code, and make an image that causes one."""

import re
import shutil

from tests.support.runs import SMALL

PIX2PIX = [*SMALL, "--model", "pix2pix", "--netG", "resnet_4blocks", "--dataroot", "paired", "--n_epochs", "2",
           "--n_epochs_decay", "0", "--name", "run"]  # fmt: skip


def check(ended, code, said, debug=False):
    """Assert that a command ended with this exit code and a one-line error that contains all texts in `said`.

    Only with `debug`, or if the error says that there are more of its kind, may other lines precede it.
    """
    assert ended.code == code, ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert lines == [ended.last]
    assert re.fullmatch(r"error: [^']+ '.*': [^;]+.*; .+", ended.last), ended.last
    assert ("Traceback" in ended.err) == debug and "Traceback" not in ended.out
    assert "bug" not in ended.last
    for text in said:
        assert text in ended.last
    if not debug:
        assert ended.err.count("\n") == 1 or " more of " in ended.last


def without_end(path):
    path.write_bytes(path.read_bytes()[:-300])


def late_picture(folder):
    """Add a truncated image to a folder, after the images that are read before the first step; return its name."""
    for i in range(5, 9):
        shutil.copy(folder / "0.png", folder / f"{i}.png")
    shutil.copy(folder / "0.png", folder / "late.png")
    without_end(folder / "late.png")
    return "late.png"
