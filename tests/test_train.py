"""A training run through the command leaves the right files and logs, with every event at its due time."""

import json
import re
import socket
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import train
from inference.sampling import has_sampler
from options.parse import flags_for
from registry.lookup import find
from tests.support.runs import SMALL, options
from tests.support.small_models import own_networks
from tests.support.training_runs import DEMO, EVERY, TRAINABLE, Page, build, history, rows, run_in, weights
from util.image_io import GRID_PADDING

TINY = [*SMALL, "--netG", "resnet_4blocks", "--print_freq", "1", "--batch_size", "1"]
# models between pictures of any channels; the others say themselves what they take
ANY_CHANNELS = [name for name in TRAINABLE if EVERY[name].dataset_mode in ("aligned", "unaligned")]
# what the reference calls networks, losses and pictures
NETWORKS = {"cycle_gan": {"G_A", "G_B", "D_A", "D_B"}, "pix2pix": {"G", "D"}}
LOSSES = {
    "cycle_gan": {"D_A", "G_A", "cycle_A", "idt_A", "D_B", "G_B", "cycle_B", "idt_B"},
    "pix2pix": {"G_GAN", "G_L1", "D_real", "D_fake"},
}
PICTURES = {
    "cycle_gan": {"real_A", "fake_B", "rec_A", "idt_B", "real_B", "fake_A", "rec_B", "idt_A"},
    "pix2pix": {"real_A", "fake_B", "real_B"},
}
LINE = re.compile(r"\(epoch: (\d+), iters: (\d+), time: \d+\.\d{3}, data: \d+\.\d{3}\) ((?:\S+: -?\d+\.\d{3} )+)")


def equal(one, other):
    """Whether two sets of exported weights are the same bits."""
    assert one.keys() == other.keys() and one
    return all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
        for a, b in zip(one.values(), (other[name] for name in one), strict=True)
    )


@pytest.fixture(scope="module", params=TRAINABLE)
def trained(request, tmp_path_factory):
    """Two epochs of five steps of each model."""
    where, flags = (
        tmp_path_factory.mktemp("trained"),
        [*TINY, *DEMO, "--model", request.param, *own_networks(request.param)],
    )
    ended = run_in(
        where, "train", *flags, "--name", "run", "--n_epochs", 1, "--n_epochs_decay", 1, "--save_epoch_freq", 1
    )
    assert ended.code == 0, ended.err
    loader, fresh = build(options(*flags, "--name", "fresh"))
    folder = where / "checkpoints" / "run"
    return SimpleNamespace(model=request.param, ended=ended, folder=folder, fresh=fresh, batch=loader.example_batch())


def test_a_run_leaves_exactly_the_files_it_should(trained):
    names = set(trained.fresh.networks())
    assert names == NETWORKS.get(trained.model, names)
    rows = history(trained.folder)["rows"]
    generates = has_sampler(trained.fresh)
    spans = [set(labels) for first, last, labels, wide, _ in rows if (first, last, wide) == (1, 2, False)]
    labels = set().union(*spans)
    assert labels == (set() if generates else PICTURES.get(trained.model, labels))
    samples = history(trained.folder)["samples"]
    sheets = {f"web/images/epoch{n:03d}_{label}.png" for label in samples["labels"] for n in (1, 2) if generates}
    expected = {f"{prefix}_net_{name}.pth" for prefix in ("latest", "1", "2") for name in names}
    expected |= sheets | {f"web/images/epoch{n:03d}_{label}.png" for n in (1, 2) for label in labels}
    expected |= {"train_opt.txt", "options.json", "loss_log.txt", "losses.jsonl", "exit.json", "web/index.html",
                 "web/history.js", "web/data.png"}  # fmt: skip
    expected |= {
        f"web/samples/epoch{epoch:03d}_{n}_{label}.png"
        for label, epochs in samples["labels"].items()
        for epoch in epochs
        for n in range(1, len(samples["files"]) + 1)
    }
    assert samples["epochs"] == [1, 2] and bool(samples["files"]) is not generates
    expected |= {"state_000000005.pt", "state_000000010.pt", ".lock"}
    found = {str(p.relative_to(trained.folder)) for p in trained.folder.rglob("*") if p.is_file()}
    assert found == expected
    assert json.loads((trained.folder / "exit.json").read_text())["code"] == 0
    assert "done: 2 epochs" in trained.ended.out


def test_exports_hold_the_networks_keys_and_nothing_else(trained):
    own = {name: net.state_dict() for name, net in trained.fresh.networks().items()}
    state = torch.load(trained.folder / "state_000000010.pt", weights_only=True)["model"]
    for prefix in ("latest", "1", "2"):
        exported = weights(trained.folder, prefix)
        assert exported.keys() == own.keys()
        for name, tensors in exported.items():
            assert list(tensors) == list(own[name])
            assert all(t.shape == own[name][k].shape and t.dtype == own[name][k].dtype for k, t in tensors.items())
    latest = weights(trained.folder)
    assert all(torch.equal(t, state[f"{name}.{k}"]) for name, tensors in latest.items() for k, t in tensors.items())
    assert equal(latest, weights(trained.folder, "2"))
    assert not equal(latest, weights(trained.folder, "1"))


def test_the_loss_log_is_v24s_and_says_what_losses_jsonl_says(trained):
    header, *lines = (trained.folder / "loss_log.txt").read_text().splitlines()
    when = re.fullmatch(r"================ Training Loss \((.+)\) ================", header)
    time.strptime(when[1], "%c")
    steps = rows(trained.folder)[0]
    assert len(lines) == len(steps) == 10
    printed = [line for line in trained.ended.out.splitlines() if line.startswith("(epoch: ")]
    assert printed == lines
    for number, (line, row) in enumerate(zip(lines, steps, strict=True)):
        epoch, iters, terms = LINE.fullmatch(line).groups()
        assert (int(epoch), int(iters)) == (row["epoch"], row["iters"]) == (number // 5 + 1, number % 5 + 1)
        assert row["step"] == row["samples"] == number + 1
        assert row["at"] == pytest.approx(row["epoch"] + row["iters"] / 5)
        said = dict(re.findall(r"(\S+): (\S+) ", terms))
        assert said == {name: f"{value:.3f}" for name, value in row["losses"].items()}
        assert set(said) == LOSSES.get(trained.model, set(said))
        assert all(np.isfinite(value) for value in row["losses"].values())
        assert row["time"] > 0 and row["data"] >= 0
    assert len({json.dumps(row["losses"]) for row in steps}) == 10


def saved_options(trained):
    return json.loads((trained.folder / "options.json").read_text())["options"]


def test_epoch_rows_hold_the_means_of_the_logged_steps(trained):
    steps, epochs = rows(trained.folder)
    assert [row["epoch"] for row in epochs] == [1, 2]
    for row in epochs:
        logged = [step["losses"] for step in steps if step["epoch"] == row["epoch"]]
        means = {name: np.mean([values[name] for values in logged]) for name in logged[0]}
        assert row["mean"] == pytest.approx(means, rel=1e-5)
        assert row["step"] == row["samples"] == 5 * row["epoch"]
    lr = saved_options(trained)["lr"]
    assert [row["lr"] for row in epochs] == pytest.approx([lr, lr / 2])
    said = re.findall(r"End of epoch (\d) / 2 .*images/s.*learning rate ([\d.]+)", trained.ended.out)
    assert said == [("1", f"{lr:.7f}"), ("2", f"{lr / 2:.7f}")]


def test_the_page_shows_the_epochs_newest_first(trained):
    page = Page(trained.folder / "web" / "index.html")
    assert page.texts["title"] == ["Experiment name = run"]
    generates = has_sampler(trained.fresh)  # its page shows the newest sheet in place of rows
    assert page.texts["h3"] == ([] if generates else ["epoch [2]", "epoch [1]"])
    assert not any(attrs.get("http-equiv") == "refresh" for _, attrs in page.tags)
    web = trained.folder / "web"
    *pictures, data = page.images
    sides = sum(side in trained.batch and trained.batch[side].shape[1] in (1, 3) for side in ("A", "B"))
    assert data == "data.png" and Image.open(web / data).height == (32 + GRID_PADDING) * sides
    assert all(Image.open(web / src).size == (32, 32) for src in pictures if not src.endswith("_grid.png"))
    assert all((web / src).is_file() for src in pictures)
    assert len(pictures) == len(set(pictures)) == (1 if generates else len(list((web / "images").iterdir())))


def test_the_options_are_written_as_the_reference_prints_them(trained):
    first, *lines, last = (trained.folder / "train_opt.txt").read_text().splitlines()
    assert first == "----------------- Options ---------------"
    assert last == "----------------- End -------------------"
    names = [line.partition(":")[0].strip() for line in lines]
    assert names == sorted(names) and len(names) == len(set(names))
    assert any(line.startswith(f"{'batch_size':>25}: {'1':<30}") for line in lines)
    usual = getattr(find("model", trained.model), "defaults", {})
    assert f"{'ngf':>25}: {'4':<30}\t[default: {usual.get('ngf', 64)}]" in lines
    assert f"{'isTrain':>25}: {'True':<30}\t[default: None]" in lines
    kept = saved_options(trained)
    used = dict(pairwise(own_networks(kept["model"]))).get("--netG", "resnet_4blocks")
    momentary = {flag.name for flag in flags_for(trained.model) if flag.meta["momentary"]}
    assert set(kept) == set(names) - momentary
    assert (kept["ngf"], kept["netG"], kept["n_epochs"], kept["lr"]) == (4, used, 1, usual.get("lr", 0.0002))


# --- events every N images, with batches of 2, 2, 1 that divide none of them


SAMPLES = [2, 4, 5, 7, 9, 10, 12, 14, 15]  # images done after each of the nine steps of three epochs
EPOCH_ENDS = {5, 10, 15}


def passing(every):
    """The counts of images at which a multiple of `every` was passed."""
    before = [0, *SAMPLES[:-1]]
    spans = zip(before, SAMPLES, strict=True)
    return [now for was, now in spans if any(n % every == 0 for n in range(was + 1, now + 1))]


@pytest.fixture
def three_epochs(command, paired, tmp_path):
    def run(*argv):
        ended = command(
            "train",
            *SMALL,
            "--netG",
            "resnet_4blocks",
            "--model",
            "pix2pix",
            "--dataroot",
            paired,
            "--batch_size",
            2,
            "--n_epochs",
            3,
            "--n_epochs_decay",
            0,
            "--name",
            "run",
            *argv,
        )
        assert ended.code == 0, ended.err
        return tmp_path / "checkpoints" / "run"

    return run


def test_passing_gives_the_steps_that_pass_a_multiple():
    assert passing(3) == [4, 7, 9, 12, 15]
    assert passing(4) == [4, 9, 12]


EARLY = [2, 4, 9]  # the batches that pass 2, 4 and 8 images


@pytest.mark.parametrize("every", [3, 7, 100])
def test_losses_are_printed_at_every_multiple_of_print_freq(three_epochs, every):
    """The page has points from the first images on, which only losses.jsonl keeps; the printed lines are v24's."""
    folder = three_epochs("--print_freq", every)
    steps, epochs = rows(folder)
    printed = re.findall(r"^\(epoch: (\d), iters: (\d),", (folder / "loss_log.txt").read_text(), re.MULTILINE)
    assert [5 * (int(epoch) - 1) + int(iters) for epoch, iters in printed] == passing(every)
    early = [samples for samples in EARLY if samples < every]
    assert [row["samples"] for row in steps] == sorted({*passing(every), *early})
    assert [row["samples"] for row in epochs] == [5, 10, 15]
    history = json.loads((folder / "web" / "history.js").read_text().partition("(")[2].rpartition(")")[0])
    assert history["curves"]["x"] == [round(row["at"], 4) for row in steps]


@pytest.mark.parametrize(("every", "when"), [(4, {4, 9, 12}), (100, set())])
def test_pictures_are_shown_when_due_and_once_an_epoch(three_epochs, monkeypatch, every, when):
    from displays.html import Html
    from displays.visdom import Sender, VisdomDisplay

    shown = {Html: [], VisdomDisplay: []}
    for sink, seen in shown.items():

        def images(self, at, pictures, original=sink.images, seen=seen):
            seen.append(at.samples)
            original(self, at, pictures)

        monkeypatch.setattr(sink, "images", images)
    monkeypatch.setattr(Sender, "start", lambda self: None)  # nobody is asked to show them
    three_epochs("--update_html_freq", every, "--display_freq", 7, "--display_id", 1)
    assert shown[Html] == sorted(when | EPOCH_ENDS)
    assert shown[VisdomDisplay] == sorted(set(passing(7)) | EPOCH_ENDS)


def test_latest_is_saved_when_due_and_at_the_end(three_epochs):
    folder = three_epochs("--save_latest_freq", 4, "--keep_last", 100)
    steps = [int(p.stem[6:]) for p in sorted(folder.glob("state_*.pt"))]
    assert [SAMPLES[step - 1] for step in steps] == [4, 9, 12, 15]
    assert {p.name for p in folder.glob("*.pth")} == {"latest_net_G.pth", "latest_net_D.pth"}


def test_save_by_iter_keeps_every_moment_beside_latest(three_epochs):
    folder = three_epochs("--save_latest_freq", 3, "--save_by_iter", "--keep_last", 100)
    names = {p.name for p in folder.glob("*_net_G.pth")}
    assert names == {"latest_net_G.pth", *(f"iter_{n}_net_G.pth" for n in (4, 7, 9, 12, 15))}
    for samples in (4, 7, 9, 12, 15):
        state = torch.load(folder / f"state_{SAMPLES.index(samples) + 1:09d}.pt", weights_only=True)
        exported = weights(folder, f"iter_{samples}")["G"]
        assert all(torch.equal(tensor, state["model"][f"G.{key}"]) for key, tensor in exported.items())


@pytest.mark.parametrize(("every", "numbers"), [(1, {"1", "2", "3"}), (2, {"2"}), (5, set())])
def test_numbered_weights_every_so_many_epochs_and_latest_always(three_epochs, every, numbers):
    folder = three_epochs("--save_epoch_freq", every)
    assert {p.name for p in folder.glob("*_net_G.pth")} == {f"{n}_net_G.pth" for n in numbers | {"latest"}}
    state = torch.load(folder / "state_000000009.pt", weights_only=True)
    assert all(torch.equal(t, state["model"][f"D.{key}"]) for key, t in weights(folder)["D"].items())


def test_drop_last_leaves_out_the_smaller_batch(three_epochs):
    steps = rows(three_epochs("--drop_last", "--print_freq", 1))[0]
    assert [row["samples"] for row in steps] == [2, 4, 6, 8, 10, 12]
    assert [row["iters"] for row in steps] == [2, 4] * 3
    assert steps[1]["at"] == 2.0


# --- options that change what is trained


@pytest.mark.parametrize(
    ("policy", "rates"),
    [
        (["linear", "--n_epochs", 2, "--n_epochs_decay", 2], [1, 1, 2 / 3, 1 / 3]),
        (["step", "--n_epochs", 4, "--n_epochs_decay", 0, "--lr_decay_iters", 2], [1, 1, 0.1, 0.1]),
        (["cosine", "--n_epochs", 3, "--n_epochs_decay", 1], [1, 0.8535534, 0.5, 0.1464466]),
        (["plateau", "--n_epochs", 4, "--n_epochs_decay", 0], [1, 1, 1, 1]),
    ],
)
def test_the_learning_rate_of_each_epoch_follows_the_policy(command, paired, tmp_path, policy, rates):
    ended = command(
        "train",
        *TINY,
        "--model",
        "pix2pix",
        "--dataroot",
        paired,
        "--name",
        "run",
        "--lr",
        "0.01",
        "--max_dataset_size",
        1,
        "--lr_policy",
        *policy,
    )
    assert ended.code == 0, ended.err
    assert [row["lr"] for row in rows(tmp_path / "checkpoints" / "run")[1]] == pytest.approx([0.01 * r for r in rates])


def test_serial_batches_show_the_last_file_pixel_for_pixel(command, paired, tmp_path):
    """In order, the epoch's last picture is the last file; the shuffled order shows others."""
    plain = [*TINY, "--load_size", 32, "--no_flip", "--model", "pix2pix", "--dataroot", paired, "--n_epochs", 3,
             "--n_epochs_decay", 0]  # fmt: skip
    assert command("train", *plain, "--serial_batches", "--name", "serial").code == 0
    assert command("train", *plain, "--name", "shuffled").code == 0
    both = Image.open(paired / "train" / "4.png")
    halves = both.crop((0, 0, 48, 40)), both.crop((48, 0, 96, 40))
    A, B = (np.asarray(half.resize((32, 32), Image.Resampling.BICUBIC)) for half in halves)

    def shown(run, epoch, label):
        return np.asarray(Image.open(tmp_path / f"checkpoints/{run}/web/images/epoch{epoch:03d}_{label}.png"))

    for epoch in (1, 2, 3):
        assert np.array_equal(shown("serial", epoch, "real_A"), A)
        assert np.array_equal(shown("serial", epoch, "real_B"), B)
    assert not all(np.array_equal(shown("shuffled", epoch, "real_A"), A) for epoch in (1, 2, 3))


def test_direction_b_to_a_swaps_the_halves(command, paired, tmp_path):
    plain = [*TINY, "--load_size", 32, "--no_flip", "--serial_batches", "--model", "pix2pix", "--dataroot", paired,
             "--n_epochs", 1, "--n_epochs_decay", 0]  # fmt: skip
    shown = {}
    for direction in ("AtoB", "BtoA"):
        assert command("train", *plain, "--direction", direction, "--name", direction).code == 0
        pictures = tmp_path / "checkpoints" / direction / "web" / "images"
        shown[direction] = {x: np.asarray(Image.open(pictures / f"epoch001_real_{x}.png")) for x in "AB"}
    assert np.array_equal(shown["AtoB"]["A"], shown["BtoA"]["B"])
    assert np.array_equal(shown["AtoB"]["B"], shown["BtoA"]["A"])
    assert not np.array_equal(shown["AtoB"]["A"], shown["AtoB"]["B"])


def test_direction_b_to_a_swaps_the_folders(command, unpaired, tmp_path):
    ended = command(
        "train",
        *TINY,
        "--load_size",
        32,
        "--no_flip",
        "--serial_batches",
        "--direction",
        "BtoA",
        "--dataroot",
        unpaired,
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
        "--name",
        "run",
    )
    assert ended.code == 0, ended.err
    shown = np.asarray(Image.open(tmp_path / "checkpoints/run/web/images/epoch001_real_A.png"))
    source = Image.open(unpaired / "trainB" / "0.png")  # the fifth of four
    assert np.array_equal(shown, np.asarray(source.resize((32, 32), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("model", ANY_CHANNELS)
def test_one_channel_in_and_out(command, tmp_path, model):
    ended = command(
        "train",
        *TINY,
        *DEMO,
        "--model",
        model,
        "--input_nc",
        1,
        "--output_nc",
        1,
        "--max_dataset_size",
        2,
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
        "--name",
        "run",
    )
    assert ended.code == 0, ended.err
    folder = tmp_path / "checkpoints" / "run"
    assert {Image.open(p).mode for p in (folder / "web" / "images").iterdir()} == {"L"}
    for name, tensors in weights(folder).items():
        if name.startswith("G"):
            first, last = next(iter(tensors.values())), [t for t in tensors.values() if t.dim() == 4][-1]
            assert (first.shape[1], last.shape[0]) == (1, 1)


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
@pytest.mark.parametrize("model", ["pix2pix", "cycle_gan"])
def test_grey_to_colour_in_both_directions(command, tmp_path, model, direction):
    """The input is grey and the output is not, whichever side it is; a discriminator of pairs sees four channels."""
    ended = command(
        "train",
        *TINY,
        *DEMO,
        "--model",
        model,
        "--input_nc",
        1,
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
        "--max_dataset_size",
        1,
        "--direction",
        direction,
        "--name",
        "run",
        *(["--lambda_identity", 0] if model == "cycle_gan" else []),
    )
    assert ended.code == 0, ended.err
    folder = tmp_path / "checkpoints" / "run"
    modes = {p.stem[9:]: Image.open(p).mode for p in (folder / "web" / "images").iterdir()}
    assert modes == {label: "L" if label.endswith("_A") else "RGB" for label in modes}
    channels = {name: next(iter(tensors.values())).shape[1] for name, tensors in weights(folder).items()}
    assert channels == ({"G": 1, "D": 4} if model == "pix2pix" else {"G_A": 1, "G_B": 3, "D_A": 3, "D_B": 1})


@pytest.mark.parametrize("model", TRAINABLE)
def test_the_seed_decides_the_weights_and_workers_do_not(command, tmp_path, model):
    def run(name, *argv):
        ended = command(
            "train",
            *TINY,
            *DEMO,
            "--model",
            model,
            *own_networks(model),
            "--max_dataset_size",
            3,
            "--name",
            name,
            "--n_epochs",
            2,
            "--n_epochs_decay",
            0,
            *argv,
        )
        assert ended.code == 0, ended.err
        return weights(tmp_path / "checkpoints" / name)

    one = run("one", "--seed", 5)
    assert equal(one, run("again", "--seed", 5, "--num_threads", 2))
    assert not equal(one, run("other", "--seed", 6))


def test_verbose_lists_layers_and_what_discriminators_see(command, paired, tmp_path):
    flags = [*TINY, "--dataroot", paired, "--model", "pix2pix", "--n_epochs", 1, "--n_epochs_decay", 0]
    said = command("train", *flags, "--max_dataset_size", 1, "--name", "verbose", "--verbose").out
    state = torch.load(tmp_path / "checkpoints/verbose/latest_net_G.pth", weights_only=True)
    layers = {key.rpartition(".")[0] for key in state}
    of_generator = said[said.index("network G ") : said.index("network D ")]
    lines = {line.split()[0]: line for line in of_generator.splitlines() if line.startswith("model.")}
    assert layers <= set(lines)
    assert "Conv2d" in lines["model.1"] and "4x32x32" in lines["model.1"] and str(4 * 3 * 7 * 7) in lines["model.1"]
    assert "receptive field: 70x70" in said
    quiet = command("train", *flags, "--max_dataset_size", 1, "--name", "quiet").out
    assert "receptive field" not in quiet and "model.1 " not in quiet
    for text in (said, quiet):  # the reference's line, in both
        assert len(re.findall(r"^\[Network [GD]\] Total number of parameters : \d+\.\d{3} M$", text, re.M)) == 2


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_a_config_file_ranks_between_command_line_and_defaults(command, paired, tmp_path, kind):
    values = {"model": "pix2pix", "dataroot": str(paired), "n_epochs": 1, "n_epochs_decay": 1, "ndf": 6, "lr": 0.003,
              "no_flip": True, "name": "configured"}  # fmt: skip
    text = json.dumps(values) if kind == "json" else "".join(f"{k}: {v}\n" for k, v in values.items())
    (tmp_path / f"run.{kind}").write_text(text.replace("True", "true"))
    place = TINY.index("--ndf")
    given = TINY[:place] + TINY[place + 2 :]  # what the file says, the command line does not
    ended = command("train", *given, "--config", f"run.{kind}", "--n_epochs_decay", 0, "--max_dataset_size", 1)
    assert ended.code == 0, ended.err
    kept = json.loads((tmp_path / "checkpoints/configured/options.json").read_text())["options"]
    assert (kept["model"], kept["ndf"], kept["lr"], kept["no_flip"]) == ("pix2pix", 6, 0.003, True)
    assert (kept["n_epochs_decay"], kept["beta1"]) == (0, 0.5)
    (row,) = rows(tmp_path / "checkpoints" / "configured")[1]
    assert row["lr"] == 0.003


def test_no_html_writes_no_page(command, paired, tmp_path):
    ended = command(
        "train",
        *TINY,
        "--dataroot",
        paired,
        "--model",
        "pix2pix",
        "--max_dataset_size",
        1,
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
        "--no_html",
        "--name",
        "run",
    )
    assert ended.code == 0, ended.err
    assert not (tmp_path / "checkpoints" / "run" / "web").exists()
    assert "index.html" not in ended.out


def test_a_run_without_visdom_server_says_so_in_one_line(command, unpaired):
    """The reference's command line: visdom is on by default."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = [word for pair in zip(SMALL[::2], SMALL[1::2], strict=True) if pair[0] != "--display_id" for word in pair]
    ended = command(
        "train",
        *flags,
        "--netG",
        "resnet_4blocks",
        "--print_freq",
        1,
        "--display_freq",
        1,
        "--dataroot",
        unpaired,
        "--model",
        "cycle_gan",
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
        "--display_port",
        port,
    )
    assert ended.code == 0, ended.err
    about = [line for line in (ended.out + ended.err).splitlines() if "visdom" in line or "live plots" in line]
    assert len(about) == 1
    assert f"http://localhost:{port}" in about[0] and f"visdom -port {port}" in about[0]


def test_a_model_that_only_translates_is_refused_first(command, unpaired, tmp_path):
    for name in EVERY.keys() - set(TRAINABLE):
        ended = command("train", *TINY, "--dataroot", unpaired, "--dataset_mode", "unaligned", "--model", name)
        assert ended.code == 2
        assert ended.last.startswith("error: option '--model'") and "test.py" in ended.last
    assert not (tmp_path / "checkpoints").exists()


def test_the_tests_of_this_file_know_every_model():
    assert {"cycle_gan", "pix2pix"} <= set(TRAINABLE)
    assert "test" not in TRAINABLE


@pytest.mark.parametrize("steps", [3, 5, 7])  # within an epoch of five steps, at its end, in the next one
def test_a_caller_who_leaves_the_loop_keeps_a_run_to_continue(steps, monkeypatch, tmp_path):
    """Trained from Python for some steps, then to the end: the same weights as of a run that was not left."""
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, *DEMO, "--model", "pix2pix", "--n_epochs", "1", "--n_epochs_decay", "1", "--displays", "console"]

    def trained(name, *more):
        return train.training(options(*flags, "--name", name, *more))

    assert [progress.step for progress in trained("whole")] == list(range(1, 11))
    left = trained("left")
    assert [next(left).step for _ in range(steps)] == list(range(1, steps + 1))
    left.close()
    assert f"state_{steps:09d}.pt" in {path.name for path in Path("checkpoints/left").iterdir()}
    rest = [progress.step for progress in trained("left", "--continue_train")]  # the folder is not locked any more
    assert rest == list(range(steps + 1, 11))
    assert equal(*(weights(Path("checkpoints", name)) for name in ("whole", "left")))


def test_an_error_in_the_callers_loop_unlocks_the_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, *DEMO, "--model", "pix2pix", "--displays", "console", "--name", "run"]

    def stumble():
        for progress in train.training(options(*flags)):
            raise ZeroDivisionError(progress.step)

    with pytest.raises(ZeroDivisionError) as caught:
        stumble()
    del caught
    assert next(train.training(options(*flags, "--continue_train"))).step == 2
