"""scripts/card.py writes README.md of a run from what the run knows, and never over a file of others."""

import pytest

from cli.main import run_command
from scripts import card
from tests.support.runs import SMALL, Ended
from tests.support.training_runs import run_in

FLAGS = [*SMALL, "--dataroot", "demo", "--max_dataset_size", 2, "--n_epochs", 1, "--n_epochs_decay", 0, "--model",
         "pix2pix", "--netG", "unet_32", "--metrics", "l1", "--lambda_L1", 7, "--range_A", "0,200",
         "--name", "run"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("card")
    assert run_in(where, "train", *FLAGS).code == 0
    return where


@pytest.fixture
def carded(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def run(*argv):
        capsys.readouterr()
        code = run_command(card.main, list(map(str, argv)))
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return run


def test_a_card_says_what_the_run_knows(carded, folder):
    path = folder / "checkpoints" / "run" / "README.md"
    assert carded("--name", "run", "--license", "cc-by-4.0", "--data", "Fruit on grass.").code == 0
    text = path.read_text()
    for part in ('license: "cc-by-4.0"', "# run", "A pix2pix model", "for 1 epoch.", "Fruit on grass.", "--lambda_L1 7",
                 "Values of A (`--range_A`): 0,200",
                 "--netG unet_32", "Images of 32x32 pixels, 3 channels to 3", "| L1 |", "latest_net_G.pth",
                 "](web/images/epoch001_"):  # fmt: skip
        assert part in text, part
    shown = text[text.index("```\n") : text.index("## Metrics")]
    assert "--gpu_ids" not in shown and "()" not in shown and str(folder) not in text
    assert carded("--name", "run", "--license", "mit").code == 0 and 'license: "mit"' in path.read_text()
    path.write_text(path.read_text().replace("# run", "# My run"))
    assert "was edited since it was written" in carded("--name", "run", "--license", "mit").last
    path.write_text("my own notes")
    ended = carded("--name", "run", "--license", "mit")
    assert ended.code == 5 and "is not a card that this command wrote" in ended.last
    assert path.read_text() == "my own notes"


def test_what_is_missing_is_asked_for(carded):
    assert "--license': is needed" in carded("--name", "run").last
    assert "did you mean run?" in carded("--name", "rum", "--license", "mit").last
