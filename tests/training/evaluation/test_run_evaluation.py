"""Metrics in training: they change no digit, keep the best epoch through kills, and stop the run."""

import csv
import json
import os
import shutil
import signal

import pytest
import torch

from serialization import weight_exports
from tests.support.resuming import state_of, unequal
from tests.support.runs import SMALL
from tests.support.small_models import own_networks
from tests.support.training_runs import DEMO, history, plugin_files, rows, run_in, weights
from training.evaluation import comparison

WOBBLE = '''
"""Metrics whose best value is in the middle of a run; HOLD names a file that is awaited, KILL_AT an update."""
import os
import signal

import torch

from metrics import METRICS
from metrics.base import Metric, PairedMetric, Result
from metrics.classes import labelled_rows


class Wobble(Metric):
    better = "higher"
    updates = 0

    def update(self, real, fake, labels=None):
        torch.rand(3)  # draws that training must not notice
        Wobble.updates += 1
        if os.environ.get("AT_UPDATE") == str(Wobble.updates):
            if os.environ["DO"] == "fail":
                raise RuntimeError("no such luck")
            signal.raise_signal(signal.Signals[os.environ["DO"]])
        if fake is not None:
            self.keep(fake=fake.double().flatten(1).mean(1))

    def result(self):
        fake = self.kept("fake")
        return Result(torch.sin(3000 * fake.mean()).item(), None, len(fake))


class Offset(PairedMetric):
    def measure(self, real, fake):
        return (real - fake).flatten(1).mean(1).double().abs()


METRICS["wobble"] = Wobble
METRICS["offset"] = Offset
METRICS["spread"] = type("Spread", (Wobble,), {"result": lambda self: spread(self)})
METRICS["worse"] = type("Worse", (Wobble,), {"seen": [0], "result": lambda self: self.worse()})


def spread(self):
    rows = labelled_rows(self, "fake", 2)
    return Result(rows.std().item(), None, len(rows))


def worse(self):
    type(self).seen[0] += 1
    return Result(float(-type(self).seen[0]), None, 3)


METRICS["worse"].worse = worse
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    with plugin_files(folder, wobble=WOBBLE):
        yield folder / "wobble.py"


def flags(plugin, model="pix2pix", epochs=5):
    return [*SMALL, *DEMO, "--model", model, "--netG", "unet_32", *own_networks(model), "--batch_size", 2,
            "--n_epochs", epochs, "--n_epochs_decay", 0, "--plugin", plugin, "--displays", "html", "--print_freq", 1,
            "--fixed_samples", 1, "--name", "run", "--save_latest_freq", 4]  # fmt: skip


def evaluations(folder):
    return json.loads((folder / "metrics.json").read_text())["evaluations"]


def kept(folder):
    """Return the tensors of the files of best epochs."""
    files = [*folder.glob("best_*.pth"), *folder.glob("best_*_state.pt")]
    found = {path.name: torch.load(path, weights_only=True) for path in files}
    for state in (value for name, value in found.items() if name.endswith("_state.pt")):
        for name in ("seconds", "data_seconds"):
            state["position"].pop(name)
        state["options"].pop("continue_train")
    return found


@pytest.mark.parametrize("model", ["pix2pix", "cycle_gan", "gan"])  # pairs, two sides, noise
def test_training_does_not_notice_that_it_is_measured(command, plugin, tmp_path, model):
    for name, more in (("with", ["--metrics", "wobble"]), ("without", [])):
        ended = command("train", *flags(plugin, model, 2), "--ema", 0.5, *more, "--name", name)
        assert ended.code == 0, ended.err
    one, other = (tmp_path / "checkpoints" / name for name in ("with", "without"))
    assert [row["losses"] for row in rows(one)[0]] == [row["losses"] for row in rows(other)[0]]
    assert [row["mean"] for row in rows(one)[1]] == [row["mean"] for row in rows(other)[1]]
    states = [state_of(folder) for folder in (one, other)]
    assert [row["epoch"] for row in states[0].pop("metrics")["rows"]] == [1, 2]
    for state in states:
        state.pop("options")
        state.pop("exports")
    assert unequal(*states, "state") == []
    assert "metrics" not in rows(other)[1][0]["spent"] and rows(one)[1][0]["spent"]["metrics"] >= 0
    assert not list(other.glob("best_*")) and not (other / "metrics.json").exists()


AVERAGED = ["--metrics", "wobble,offset", "--ema", 0.5]


@pytest.fixture(scope="module")
def straight(tmp_path_factory, plugin):
    """The folder of an unbroken run."""
    folder = tmp_path_factory.mktemp("straight")
    assert run_in(folder, "train", *flags(plugin), *AVERAGED).code == 0
    return folder / "checkpoints" / "run"


@pytest.mark.parametrize(
    "how",
    ["killed while measuring", "killed between state and exports", "stopped while measuring", "failing metric"],
)
def test_a_resumed_run_has_the_same_best_bit_for_bit(process, plugin, straight, tmp_path, how):
    named = [*flags(plugin), *AVERAGED]
    env, before = {}, pairs_at_a_time
    if how == "killed between state and exports":
        before = kill_at_export
    else:
        do = {"killed": "SIGKILL", "stopped": "SIGINT", "failing": "fail"}[how.split()[0]]
        env = {
            "AT_UPDATE": "20",
            "DO": do,
        }  # in the fourth evaluation; the trial and the first have six, others three
    ended = process("train", *named, before=before, **env)
    assert ended.code == {"killed": -signal.SIGKILL, "stopped": 130, "failing": 2}[how.split()[0]], ended.err
    assert "stopped and saved at the end of epoch 4; continue with" in ended.err or "stopped" not in how
    run = tmp_path / "checkpoints" / "run"
    ended = process("train", "--name", "run", "--continue_train")
    assert ended.code == 0, ended.err
    assert evaluations(run) == evaluations(straight) and len(evaluations(run)) == 5
    assert unequal(state_of(run)["metrics"], state_of(straight)["metrics"], "metrics") == []
    assert (run / "metrics.csv").read_text() == (straight / "metrics.csv").read_text()
    assert len(kept(run)) == 6 and unequal(*({k: v for k, v in kept(f).items() if k.endswith(".pth")}
                                             for f in (run, straight)), "best") == []  # fmt: skip
    for one, other in zip(*([v for k, v in sorted(kept(f).items()) if "state" in k] for f in (run, straight))):
        assert unequal(one["model"], other["model"], "state") == [] and one["position"] == other["position"]
    logged = [[json.loads(line) for line in (f / "losses.jsonl").read_text().splitlines()] for f in (run, straight)]
    measured = [[(row["epoch"], row["metrics"], row["best"]) for row in each if "metrics" in row] for each in logged]
    assert measured[0] == measured[1] and len(measured[0]) == 5
    shown = [{k: v for k, v in history(f)["metrics"].items() if k != "seconds"} for f in (run, straight)]
    assert shown[0] == shown[1] and len(shown[0]["curves"]["values"]["x"]) == 5


def pairs_at_a_time():
    """Let metrics take two images at a time."""
    comparison.MAX_BATCH_IMAGES = 2


def kill_at_export():
    """Kill this process before the third save of weights of a best epoch."""
    write, count = weight_exports.write, [0]

    def killing(folder, prefix, *rest):
        count[0] += prefix.startswith("best_")
        if count[0] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        write(folder, prefix, *rest)

    weight_exports.write = killing


@pytest.fixture
def measured(command, plugin, tmp_path):
    """measured(*flags): train a run; return its folder and what it printed."""

    def run(*more, code=0):
        ended = command("train", *flags(plugin), *more)
        assert ended.code == code, ended.err
        return tmp_path / "checkpoints" / "run", ended.out + ended.err

    return run


def test_best_files_are_those_of_the_best_epoch_and_stay(measured):
    folder, _ = measured("--metrics", "wobble", "--save_epoch_freq", 1, "--keep_last", 1, "--ema", 0.5)
    values = [row["values"]["wobble"]["value"] for row in evaluations(folder)]
    best = 1 + values.index(max(values))
    assert best < 5, "the best epoch is the last: choose another metric"
    assert unequal(weights(folder, "best_wobble"), weights(folder, str(best)), "best") == []
    state = torch.load(folder / "best_wobble_state.pt", weights_only=True)
    assert state["position"]["epoch"] == best + 1 and len(list(folder.glob("state_*.pt"))) == 1
    told = json.loads((folder / "metrics.json").read_text())
    assert told["best"]["wobble"] == {"epoch": best, "value": max(values)} and told["better"] == {"wobble": "higher"}
    lines = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [float(line["wobble"]) for line in lines] == values


def test_keep_epochs_leaves_the_best(measured):
    folder, _ = measured("--metrics", "wobble", "--save_epoch_freq", 1, "--keep_epochs", 1)
    assert {path.name for path in folder.glob("*_net_G.pth")} == {
        "latest_net_G.pth", "5_net_G.pth", "best_wobble_net_G.pth"
    }  # fmt: skip


@pytest.mark.parametrize("model", ["pix2pix", "colorization"])
def test_measured_values_are_those_of_test_py(measured, command, tmp_path, model):
    folder, _ = measured("--metrics", "l1,psnr", "--val_phase", "test", "--eval_freq", 3, "--ema", 0.5,
                         "--model", model)  # fmt: skip
    assert [row["epoch"] for row in evaluations(folder)] == [3, 5]
    ended = command("test", "--name", "run", "--max_dataset_size", 5, "--results_dir", tmp_path / "results")
    assert ended.code == 0, ended.err
    (results,) = tmp_path.glob("results/run/*/metrics.json")
    theirs, ours = json.loads(results.read_text()), json.loads((folder / "metrics.json").read_text())
    assert theirs["images"].keys() == ours["images"].keys() and len(ours["images"]) == 5
    assert ours["measured"] == "5 images of test (--max_dataset_size)"  # not all that there are
    for name in ("L1", "PSNR"):
        assert ours["evaluations"][-1]["values"][name]["value"] == pytest.approx(theirs["mean"][name], rel=1e-5)
        for image, values in ours["images"].items():
            assert values[name] == pytest.approx(theirs["images"][image][name], rel=1e-4)


def test_test_py_takes_the_best_epoch(measured, command, tmp_path):
    measured("--metrics", "offset,wobble", "--early_stop", "wobble:9", "--eval_freq", 2)
    for epoch, file in (("best", "best_wobble"), ("best_OFFSET", "best_offset")):
        ended = command("test", "--name", "run", "--epoch", epoch, "--num_test", 1)
        assert ended.code == 0, ended.err
        assert (tmp_path / "results" / "run" / f"test_{file}" / "index.html").is_file()
    for wrong, remedy in (
        ("ssim", "choose with --epoch or --load_iter"),
        ("wobbel", "did you mean --epoch best_wobble?"),
    ):
        ended = command("test", "--name", "run", "--epoch", f"best_{wrong}")
        assert ended.code == 4 and f"best_{wrong}_net_G.pth" in ended.last and "best_wobble_net_G.pth" in ended.last
        assert ended.last.endswith(f"; {remedy}")


@pytest.mark.parametrize("export_format", ["pth", "safetensors"])
def test_best_of_a_run_without_metrics_is_refused(measured, command, export_format):
    measured("--n_epochs", 1, "--export_format", export_format)
    ended = command("test", "--name", "run", "--epoch", "best")
    assert ended.code == 2 and "trained without --metrics; give latest" in ended.last


@pytest.mark.parametrize("kept", ["", "loss_log.txt", "latest_net_G.pth"])
def test_best_of_a_run_that_is_missing_or_not_ours_says_so(command, tmp_path, kept):
    folder = tmp_path / "checkpoints" / "facades"
    for file in (folder / "loss_log.txt", *([folder.with_name("facade") / kept] if kept else [])):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    ended = command("test", "--name", "facade", "--epoch", "best")
    said = {
        "": "there is no such folder; did you mean facades?",
        "loss_log.txt": "has no .pth files); train the run until it saves, or check --name and --checkpoints_dir",
        "latest_net_G.pth": "facade has no file best_METRIC_net_NAME.pth; give latest or the number of an epoch",
    }
    assert ended.code and said[kept] in ended.last


def test_early_stop_ends_the_run_and_more_patience_continues_it(measured, command, plugin):
    folder, out = measured("--metrics", "worse", "--early_stop", "worse:2")
    assert [row["epoch"] for row in evaluations(folder)] == [1, 2, 3]
    reason = "stopped early after epoch 3: worse was not better than -2 of epoch 1 in 2 evaluations"
    assert f"done: {reason}; see" in out and out.endswith("then python test.py --name run --epoch best\n")
    assert torch.load(max(folder.glob("state_*.pt")), weights_only=True)["position"]["epoch"] == 4
    assert f'"state": "{reason.replace(" after epoch 3", "")}"' in (folder / "web" / "history.js").read_text()
    again = command("train", "--name", "run", "--continue_train")
    assert again.code == 0 and f"run run is done: {reason}; give --early_stop worse:4" in again.out
    more = command("train", "--name", "run", "--continue_train", "--early_stop", "worse:4")
    assert more.code == 0 and "continuing a run that --early_stop worse:2 had ended: worse was not" in more.out
    assert [row["epoch"] for row in evaluations(folder)] == [1, 2, 3, 4, 5]


def test_no_early_stop_continues_an_early_stopped_run(measured, command):
    folder, _ = measured("--metrics", "worse", "--early_stop", "worse:1")
    assert command("train", "--name", "run", "--continue_train", "--early_stop", "").code == 0
    assert len(evaluations(folder)) == 5


def test_training_continues_from_the_best_epoch(measured, command):
    folder, _ = measured("--metrics", "worse")
    ended = command("train", "--name", "run", "--continue_train", "--epoch", "best")
    assert ended.code == 0 and "continuing at epoch 2, image 0 of it, step 3" in ended.out
    assert "\nnote: it goes back to best_worse, from step 15 to step 3\n" in ended.out
    assert [row["epoch"] for row in evaluations(folder)] == [1, 2, 3, 4, 5]


def test_a_start_from_weights_keeps_the_best_files_aside(measured, command):
    """The first measurement after it was the best of all, and replaced better weights without a word."""
    folder, _ = measured("--metrics", "worse", "--save_epoch_freq", 1)
    before = {path.name: path.read_bytes() for path in folder.glob("best_*")}
    assert "best_worse_state.pt" in before
    ended = command("train", "--name", "run", "--continue_train", "--epoch", "2", "--n_epochs", 4)
    said = f"note: metrics start afresh: {len(before)} files best_* renamed to best_*.superseded"
    assert ended.code == 0 and said in ended.out, ended.err
    assert all((folder / f"{name}.superseded").read_bytes() == content for name, content in before.items())
    assert [row["epoch"] for row in evaluations(folder)] == [3, 4] and (folder / "best_worse_net_G.pth").is_file()


def test_images_of_another_size_are_told(measured, command):
    """Values of images of two sizes were compared, and the best epoch chosen among them."""
    measured("--metrics", "worse")
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 6, "--load_size", 48)
    said = "note: from here on --metrics measure other images (--load_size): earlier values are not comparable"
    assert ended.code == 0 and said in ended.out, ended.err
    assert said not in command("train", "--name", "run", "--continue_train", "--n_epochs", 7).out


def test_plateau_follows_the_metric(measured):
    folder, out = measured("--metrics", "worse", "--lr_policy", "plateau", "--n_epochs", 9, "--max_dataset_size", 2)
    assert "--lr_policy plateau follows worse" in out
    assert [row["lr"] for row in rows(folder)[1]] == pytest.approx([2e-4] * 7 + [4e-5] * 2)


def test_other_images_start_the_history_afresh(measured, command):
    folder, _ = measured("--metrics", "worse", "--n_epochs", 2)
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 3, "--val_phase", "test")
    assert ended.code == 0 and "note: --metrics measures other images than before" in ended.out
    assert [row["epoch"] for row in evaluations(folder)] == [3]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--metrics", "l1", "--early_stop", "ssim:3"], 2, "ssim is not measured; give --metrics L1,ssim"),
        (["--metrics", "l1", "--early_stop", "l1"], 2, "'l1' is not METRIC:PATIENCE; give a metric and"),
        (["--metrics", "l1", "--early_stop", "l1:0"], 2, "such as l1:5"),
        (["--metrics", "ssim,l1", "--early_stop", "7"], 2, "such as ssim:7"),
        (["--metrics", "ssim,l1", "--early_stop", "3:PSNR"], 2, "such as PSNR:3"),
        (["--metrics", "l1", "--early_stop", "psrn:3"], 2, "did you mean PSNR?"),
        (["--metrics", "l1", "--model", "cycle_gan"], 2, "L1 compares pairs, and data set unaligned has none"),
        (["--metrics", "l1", "--model", "cgan"], 2, "L1 compares pairs, and images from noise have none"),
        (
            ["--metrics", "l1,ssim", "--model", "cut"],
            2,
            "L1, ssim compare pairs, and data set unaligned has none; choose"
            " metrics of sets, such as lite0_kid (--list shows what each compares and needs)",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(measured, tmp_path, more, code, said):
    _, err = measured(*more, code=code)
    assert said in err and not (tmp_path / "checkpoints" / "run").exists()


def test_images_to_measure_are_of_val_then_of_test(command, plugin, paired, tmp_path):
    few = [*flags(plugin, epochs=1), "--dataroot", paired, "--metrics", "offset"]
    ended = command("train", *few)
    assert ended.code == 0 and "note: --metrics measures images of test, because there is no val" in ended.out
    for path in (paired / "test").iterdir():
        path.unlink()
    (paired / "test").rmdir()
    ended = command("train", *few, "--overwrite")
    assert ended.code == 3 and "there is no val and no test; name another sub-folder" in ended.last
    assert "of images that are not trained on" in ended.last
    assert command("train", *few, "--overwrite", "--val_phase", "train").code == 0
    assert command("train", *few, "--overwrite", "--val_phase", "validation").code == 3
    for phase in ("holdout", "val"):
        shutil.copytree(paired / "train", paired / phase)
    for wrong, remedy in (("vall", "did you mean --val_phase val?"), ("holdut", "did you mean --val_phase holdout?"),
                          ("tests", "give --val_phase val")):  # fmt: skip
        ended = command("train", *few, "--overwrite", "--val_phase", wrong)
        assert ended.code == 3 and ended.last.endswith(f"; {remedy}"), ended.last


def test_bad_images_end_the_run_before_training_or_are_skipped(command, plugin, paired):
    (paired / "test" / "broken.png").write_bytes(b"no image")
    few = [*flags(plugin, epochs=1), "--dataroot", paired, "--metrics", "offset,wobble", "--val_phase", "test",
           "--max_dataset_size", 99]  # fmt: skip
    ended = command("train", *few)
    assert ended.code == 3 and "broken.png" in ended.last and "run run:" not in ended.out
    ended = command("train", *few, "--on_bad_image", "skip")
    assert ended.code == 0, ended.err
    assert ended.out.count("that --metrics measures could not be used") == 1 and "(--max_dataset_size)" not in ended.out


def test_a_damaged_history_is_refused(measured, command):
    folder, _ = measured("--metrics", "offset", "--n_epochs", 1, "--keep_last", 1)
    (path,) = folder.glob("state_*.pt")
    state = torch.load(path, weights_only=True)
    for damaged in ({"rows": 3, "images": ""}, {"rows": [{"epoch": 1}], "images": ""}, {"images": "x"}):
        torch.save(state | {"metrics": damaged}, path)
        ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 2)
        assert ended.code == 4 and "its state does not fit" in ended.last, ended.err


def test_metrics_may_be_dropped_and_taken_up_again(measured, command):
    folder, _ = measured("--metrics", "worse", "--n_epochs", 2)
    for last, more in ((3, ["--metrics", ""]), (4, ["--metrics", "worse,offset"])):
        ended = command("train", "--name", "run", "--continue_train", "--n_epochs", last, *more)
        assert ended.code == 0, ended.err
    assert [row["epoch"] for row in evaluations(folder)] == [1, 2, 4]
    assert json.loads((folder / "metrics.json").read_text())["best"]["offset"]["epoch"] == 4


MEMORY = '''
"""A generator from noise that remembers the training images and shows them again."""
import torch
from torch import nn

from models.base import BaseModel, Phase
from networks import noise


class Memory(BaseModel):
    dataset_mode = "labeled"
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.size = 3, spec.height, spec.width
        self.G = nn.Linear(4, 3 * spec.height * spec.width)
        self.register_buffer("seen", torch.zeros(64, *self.size))
        self.number = 0

    def phases(self):
        return [Phase("G", [self.G], self.loss)]

    def forward(self, batch):
        for image in batch["A"] if self.training else ():
            self.seen[self.number % 64] = image
            self.number += 1
        return {"real": batch["A"], "fake": self.G(noise(batch, 4)).view(-1, *self.size).tanh()}

    def loss(self, batch, out):
        return {"G": (out["fake"] - out["real"]).abs().mean()}

    def sheets(self, request):
        numbers = torch.arange(request.start, request.start + request.number) % max(1, self.number)
        return {"samples": (self.seen[numbers], torch.zeros(request.number, dtype=torch.long))}
'''


def test_a_model_that_copies_training_images_is_noticed(command, plugin, tmp_path):
    (tmp_path / "memory.py").write_text(MEMORY)
    ended = command("train", *flags(plugin, "memory", 2), "--plugin", tmp_path / "memory.py", "--max_dataset_size", 24,
                    "--metrics", "wobble", "--no_flip", "--load_size", 32, "--displays", "console,health")  # fmt: skip
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.out.splitlines() if line.startswith("health: copies of training images: 100 %")]
    assert "(of real ones 0 %)" in line


def test_too_few_images_for_a_metric_are_refused_before_training(command, plugin, tmp_path):
    ended = command("train", *flags(plugin), "--metrics", "wobble,spread", "--max_dataset_size", 1)
    assert ended.code == 3 and "spread" in ended.last, ended.err
    assert not (tmp_path / "checkpoints" / "run").exists()
