"""test.py and evaluate over processes: each image once, and the files of one process."""

import contextlib
import io
import os

import pytest

import test as test_script
from cli.main import Report
from registry import discovery
from scripts import evaluate
from tests.support.data_folders import cut, save
from tests.support.distributed.shared_runs import train_run
from tests.support.images import picture
from tests.support.runs import SMALL
from util import ranks

FLAGS = [*SMALL, "--model", "pix2pix", "--netG", "resnet_4blocks", "--dataroot", "data", "--displays", "console",
         "--no_progress", "--n_epochs", "1", "--n_epochs_decay", "0", "--name", "run"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a trained run and 7 pairs to test it on."""
    folder = tmp_path_factory.mktemp("results")
    for number in range(7):
        save(picture(number, 96, 40), folder / "data" / "train" / f"{number}.png")
        save(picture(number + 20, 96, 40), folder / "data" / "test" / f"{number}.png")
    train_run(str(folder), FLAGS, 0, False)
    return folder


def call(main, folder, argv, batches):
    """Run a command; return what it prints, and how many images its network was given."""
    os.chdir(folder)
    discovery.clear()
    from inference import batch_translator

    seen, translate = [], batch_translator.Translator._visuals
    batch_translator.Translator._visuals = lambda self, *given: seen.append(0) or translate(self, *given)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed if ranks.rank() == 0 else io.StringIO()):
            main(argv, Report())
    finally:
        batch_translator.Translator._visuals = translate
    assert batches is None or len(seen) in batches
    return printed.getvalue()


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("more", "calls"), [
    ((), (4, 5)),  # of 7 images, and the first one once more as a trial
    (("--num_test", "3"), (2, 3)),
    (("--no_eval",), None),  # dropout draws
])  # fmt: skip
def test_results_are_those_of_one_process(pools, run, more, calls):
    name = "-".join(more).replace("--", "") or "all"
    argv = ["--name", "run", "--num_threads", "0", *more, "--results_dir"]
    call(test_script.main, run, [*argv, f"one_{name}"], None)
    printed = pools(2).run(call, test_script.main, run, [*argv, f"two_{name}"], calls)
    assert contents(run / f"one_{name}") == contents(run / f"two_{name}")
    assert ("one process translates" in printed[0]) == (more == ("--no_eval",))


def test_a_skipped_image_changes_nothing_else(pools, run):
    """The first of six images is truncated: two processes leave it out, and the page of the others is the same."""
    for number in range(6):
        save(picture(number + 40, 96, 40), run / "spoilt" / "test" / f"{number}.png")
    cut(run / "spoilt" / "test" / "0.png")
    argv = ["--name", "run", "--dataroot", "spoilt", "--num_threads", "0", "--on_bad_image", "skip", "--results_dir"]
    one = call(test_script.main, run, [*argv, "one_spoilt"], None)
    two = pools(2).run(call, test_script.main, run, [*argv, "two_spoilt"], None)[0]
    assert contents(run / "one_spoilt") == contents(run / "two_spoilt")
    assert "1 image could not be used" in one and "1 image could not be used" in two


@pytest.mark.parametrize("is_joined", [False, True])
def test_evaluate_reduces_exactly(pools, run, monkeypatch, is_joined):
    """A metric of pairs and one of sets; also with a note on all real images, files A|B, which are squashed."""
    call(test_script.main, run, ["--name", "run", "--num_threads", "0", "--results_dir", "made"], None)
    images = str(next((run / "made").rglob("images")))
    real = [str(run / "data" / "test"), "--size", "48x40"] if is_joined else [images]
    argv = ["--real", *real, "--fake", images, "--metrics", "ssim,L1", "--gpu_ids", "-1", "--output"]
    one = call(evaluate.main, run, [*argv, "table"], None)
    assert ("7 real images of 7" in one) == is_joined
    kept = contents(run / "table")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    two = pools(2).run(evaluate_joined, str(run), [*argv, "table"])
    assert two[0] == one and contents(run / "table") == kept


def evaluate_joined(folder, argv):
    """Evaluate in a process that has joined already."""
    evaluate.join_others = lambda *given: given[1]
    return call(evaluate.main, folder, argv, None)
