"""Health notes appear for failing runs, and never for healthy runs of any model or objective."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from displays import health_rules
from displays.health import HealthNotes
from displays.health_rules import PAIRED_DATASET_MODES, Health, measure_samples, notes
from networks import GANLoss
from registry.lookup import entries
from tests.support import health_runs
from tests.support.health_runs import HEALTHY, SICK
from tests.support.images import picture
from tests.support.training_runs import TRAINABLE
from util.image_io import make_grid
from util.progress import Progress

FACTS = health_runs.facts()


def told(run, until=None):
    """{name of a note: (the epoch it first holds in, itself)} of a recorded run, judged at the end of every epoch."""
    found = {}
    for number, row in enumerate(run["rows"][:until], 1):
        figures = [f for f in run["figures"] if f["epoch"] <= row["epoch"]]
        for note in notes(run["rows"][:number], figures, run["gan_mode"], run["dataset_mode"] in PAIRED_DATASET_MODES):
            found.setdefault(note.name, (row["epoch"], note))
    return found


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_gets_no_note_at_any_epoch(name):
    run = FACTS[name]
    assert len(run["rows"]) >= 40 and len(run["figures"]) >= 40 and run["code"] == 0
    assert {n: str(note) for n, (_, note) in told(run).items()} == {}


def test_there_is_a_healthy_run_of_every_model_and_objective():
    # of those that compare real with generated images the rules know no equilibrium and no term
    modes = {}  # one name of each: nonsaturating is vanilla
    for entry in entries("objective"):
        if not GANLoss(entry.name).paired:
            modes.setdefault(GANLoss(entry.name).objective, entry.name)
    assert set(HEALTHY) >= {f"{model} {mode}" for model in TRAINABLE for mode in modes.values()}


@pytest.mark.parametrize("name", SICK)
def test_a_sick_run_gets_its_note(name):
    found = told(FACTS[name])
    assert found.keys() >= SICK[name][2]
    for _, note in found.values():
        assert re.search(r"\d", note.evidence) and "epoch" in note.evidence
        assert str(note).count("\n") == 0 and note.advice


def test_a_note_names_its_figures_and_the_remedy():
    _, note = told(FACTS["slow generator, vanilla"])["discriminator winning"]
    assert re.fullmatch(
        r"health: discriminator winning: D_real 0\.00\d+ and D_fake 0\.00\d+ \(at equilibrium 0\.69\) "
        r"and G_GAN \d\.\d, not falling, in epochs 5 to 14; weaken it: a smaller --ndf or "
        r"--n_layers_D, or --label_smoothing 0\.1",
        str(note),
    )
    _, note = told(FACTS["no rate"])["learning rate 0"]
    assert note.evidence == "it is 0 in epochs 4 and 5, so nothing is learnt"


@pytest.mark.parametrize("name", [*HEALTHY, *SICK])
def test_thinned_figures_of_a_long_run_give_the_same_notes(name):
    run = FACTS[name]
    kept = Health(run["gan_mode"], run["dataset_mode"])
    figures = {f["epoch"]: f for f in run["figures"]}
    for number, row in enumerate(run["rows"], 1):
        kept.add_row(row)
        kept.figures.extend([figures[row["epoch"]]] if row["epoch"] in figures else [])
        everything = [f for f in run["figures"] if f["epoch"] <= row["epoch"]]
        whole = notes(run["rows"][:number], everything, run["gan_mode"], run["dataset_mode"] in PAIRED_DATASET_MODES)
        assert kept.notes() == whole


def test_memory_does_not_grow_with_the_run():
    kept = Health("lsgan", "aligned")
    for epoch in range(1, 5001):
        kept.add_row({"epoch": epoch, "step": epoch, "lr": 0.1, "mean": {"G_L1": 1.0}})
        if epoch <= 20:
            kept.add_samples(epoch, epoch, samples())
    assert len(kept.first) + len(kept.newest) == health_rules.EARLY_EPOCHS + health_rules.MIN_WINDOW_STEPS + 1
    assert len(kept.figures) == health_rules.SAMPLES_IN_ROW


# --- losses


def rows(count=12, lr=2e-4, steps=200, **losses):
    """Epochs with these losses: numbers, or functions of the epoch."""
    return [
        {
            "epoch": e,
            "step": e * steps,
            "lr": lr,
            "mean": {name: value(e) if callable(value) else value for name, value in losses.items()},
        }
        for e in range(1, count + 1)
    ]


def names(history, gan_mode="vanilla", figures=(), paired=True):
    return [note.name for note in notes(history, list(figures), gan_mode, paired)]


WON = {"D_real": 0.001, "D_fake": 0.002, "G_GAN": 7.0}


@pytest.mark.parametrize(("history", "gan_mode"), [
    (rows(9, **WON), "vanilla"),  # not for long yet
    (rows(12, steps=5, **WON), "vanilla"),  # nor in many steps
    (rows(100, steps=5, **WON), "vanilla"),  # 495 between the first and the last
    (rows(**WON), "wgangp"),  # where small means nothing
    (rows(**WON), "an objective of a plug-in"),
    (rows(**{**WON, "G_GAN": lambda e: 9 - 0.4 * e}), "vanilla"),  # the generator makes way
    (rows(**{**WON, "D_real": lambda e: 0.3 if e == 8 else 0.001}), "vanilla"),  # once it was not sure
    (rows(**{**WON, "G_GAN": 0.8}), "vanilla"),  # it deceives somebody
    (rows(D_A=0.001, G_A=0.6), "lsgan"),
    (rows(D_real=-8.0, D_fake=-9.0, G_GAN=7.0), "vanilla"),  # another objective under these names
    (rows(D_one=0.001, D_two=0.001, G_GAN=7.0), "vanilla"),  # names nobody knows
    (rows(D_A=0.001, G_B=7.0), "vanilla"),  # the discriminator of the other generator
    (rows(D_real=0.001, D_fake=None, G_GAN=7.0)[:-1] + rows(**WON)[-1:], "vanilla"),
])  # fmt: skip
def test_nobody_has_won_where_it_is_not_certain(history, gan_mode):
    assert "discriminator winning" not in names(history, gan_mode)


@pytest.mark.parametrize(("history", "gan_mode"), [
    (rows(**WON), "vanilla"),
    (rows(101, steps=5, **WON), "vanilla"),  # few images in large batches
    (rows(D_A=0.001, G_A=1.0, D_B=0.3, G_B=0.3), "lsgan"),
    (rows(D_B=0.001, G_B=0.99), "lsgan"),
    (rows(D_real=0.0, D_fake=0.001, G_GAN=1.5), "hinge"),
])  # fmt: skip
def test_a_discriminator_that_has_won_is_named(history, gan_mode):
    assert names(history, gan_mode) == ["discriminator winning"]


@pytest.mark.parametrize(("history", "gan_mode", "flagged"), [
    (rows(G_L1=lambda e: 20.0 * 3**e), "vanilla", True),
    (rows(G_L1=lambda e: 20.0 * 1.1**e), "vanilla", False),
    (rows(G_L1=lambda e: 3e5 if e == 12 else 20.0), "vanilla", False),  # one epoch
    (rows(G_L1=20.0, aux=lambda e: 0.0 if e < 3 else 500.0), "vanilla", False),  # begins late
    (rows(G_L1=20.0, aux=lambda e: 0.001 if e < 9 else 5.0), "vanilla", False),
    (rows(2, D_real=5000.0, G_L1=20.0), "vanilla", True),  # from the first epoch on
    (rows(D_real=-9000.0, G_L1=20.0), "wgangp", False),
    (rows(D_gp=lambda e: 10.0**e), "wgangp", True),
    (rows(1, G_L1=None), "vanilla", True),
    (rows(), "vanilla", False),
    (rows(G_L1=0.0), "vanilla", False),
])  # fmt: skip
def test_a_loss_explodes_by_orders_of_magnitude_or_not(history, gan_mode, flagged):
    assert ("loss exploding" in names(history, gan_mode)) is flagged


@pytest.mark.parametrize(("rates", "flagged"), [
    ([1e-3, 0, 0], True), ([0, 0], True), ([1e-3, 1e-14, 1e-14], True), ([0], False), ([0, 1e-3], False),
    ([1e-3, 1e-3, 0], False), ([1e-3, 1e-8], False),
])  # fmt: skip
def test_a_zero_learning_rate_is_named_unless_for_one_epoch(rates, flagged):
    history = [{"epoch": e, "step": e, "lr": rate, "mean": {}} for e, rate in enumerate(rates, 1)]
    assert (names(history) == ["learning rate 0"]) is flagged


@pytest.mark.parametrize("policy", [entry.name for entry in entries("lr_policy")])
@pytest.mark.parametrize("epochs", [1, 10, 2000])
def test_no_policy_here_is_taken_for_no_rate(policy, epochs):
    from training.lr_schedule import lr_factor

    o = SimpleNamespace(lr_policy=policy, n_epochs=epochs, n_epochs_decay=epochs, lr_decay_iters=epochs)
    history = [
        {"epoch": e, "step": e, "lr": 2e-4 * lr_factor(e, o, [1.0] * 5), "mean": {}} for e in range(1, 2 * epochs + 1)
    ]
    assert not any(names([history[0], *history[max(1, e - 1) : e + 1]]) for e in range(len(history)))


# --- pictures

CURRENT = np.random.default_rng(7)


def pictures(first, turn=lambda x: x):
    return [turn(np.asarray(picture(first + i))) for i in range(4)]


def samples(fake=lambda a, b: b, rec=None, b=None):
    """Four fixed samples: real_A, real_B (by default the negative of A) and what `fake` makes of them."""
    reals = pictures(0)
    others = b or [255 - a for a in reals]
    shown = {}
    for i, (a, target) in enumerate(zip(reals, others, strict=True)):
        shown[f"{i}.png"] = {"real_A": a, "fake_B": fake(a, target), "real_B": target}
        if rec is not None:
            shown[f"{i}.png"]["rec_A"] = rec(a)
    return shown


def noisy(a):
    return np.clip(a + CURRENT.normal(0, 12, a.shape), 0, 255).astype(np.uint8)


def of(shown, step=5000, epochs=health_rules.SAMPLES_IN_ROW):
    return [measure_samples(e, step, shown) for e in range(1, epochs + 1)]


def grey(a, *_):
    return np.full_like(a, 128)


UNRELATED = pictures(100)
CASES = {  # name: (samples, paired, the notes they get)
    "the truth": (samples(), True, []),
    "the truth, which is the input's negative": (samples(rec=noisy), True, []),
    "its negative": (samples(lambda a, b: 255 - b), True, ["colours inverted"]),
    "nearly its negative": (samples(lambda a, b: noisy(255 - b)), True, ["colours inverted"]),
    "noise": (samples(lambda a, b: noisy(grey(a))), True, []),
    "grey": (samples(grey), True, ["outputs constant"]),
    "one picture": (samples(lambda a, b: UNRELATED[0]), True, ["outputs constant"]),
    "nearly one picture": (samples(lambda a, b: UNRELATED[0] + (a > 250)), True, ["outputs constant"]),
    "grey as it should be": (samples(grey, b=[grey(a) for a in UNRELATED]), True, []),
    "one picture as it should be": (samples(lambda a, b: b, b=[UNRELATED[0]] * 4), True, []),
    "the input": (samples(lambda a, b: a, rec=noisy, b=UNRELATED), False, []),
    "the input's negative": (samples(lambda a, b: noisy(255 - a), rec=noisy, b=UNRELATED), False, ["colours inverted"]),
    "the input's negative, nothing comes back": (samples(lambda a, b: 255 - a, rec=grey, b=UNRELATED), False, []),
    "the input's negative, which B is": (
        samples(lambda a, b: 255 - a // 4, rec=noisy, b=[255 - u // 4 for u in UNRELATED]), False, []),
    "the negative of an unpaired B": (samples(lambda a, b: 255 - b, b=UNRELATED), False, []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_pictures_are_judged_by_their_inputs_and_targets(case):
    shown, paired, expected = CASES[case]
    assert names([], figures=of(shown), paired=paired) == expected
    assert names([], figures=of(shown, step=900), paired=paired) == []  # a young run
    assert names([], figures=of(shown, epochs=4), paired=paired) == []
    healed = [*of(shown)[:-1], measure_samples(5, 5000, samples(b=UNRELATED))]
    assert names([], figures=healed, paired=paired) == []


ODD = [{"real_A": p[:, :, :1], "fake_B": p, "rec_A": p[:3], "real_B": p[:9]} for p in UNRELATED]


@pytest.mark.parametrize(("shown", "expected"), [
    ({}, []), ({"a.png": {}}, []),
    ({"a.png": {"real_A": UNRELATED[0], "fake_B": grey(UNRELATED[0])}}, []),  # one says nothing of the others
    ({f"{i}.png": {"input": p, "output": grey(p)} for i, p in enumerate(UNRELATED)}, []),
    ({f"{i}.png": {"fake_B": grey(p)} for i, p in enumerate(UNRELATED)}, []),
    ({f"{i}.png": shown for i, shown in enumerate(ODD)}, []),
    ({f"{i}.png": {"real_A": p, "fake_B": grey(p)[: 20 + i]} for i, p in enumerate(UNRELATED)}, ["outputs constant"]),
])  # fmt: skip
def test_pictures_of_other_names_and_sizes_are_left_alone(shown, expected):
    assert [names([], figures=of(shown), paired=paired) for paired in (True, False)] == [expected] * 2


def test_generated_sheets_are_judged_row_by_row():
    """One image for each class, for any noise: nothing within a row differs."""
    varied = make_grid(
        [p for i in range(5) for p in [np.asarray(picture(10 * i + j, 32, 32)) for j in range(10)]][:30], 10
    )
    alike = make_grid([np.asarray(picture(i, 32, 32)) for i in range(3) for _ in range(10)], 10)
    for sheet, expected in ((varied, []), (alike, ["outputs constant"]), (varied[:, :37], [])):
        kept = Health("vanilla", "labeled")
        for epoch in range(1, 6):
            kept.add_sheets(epoch, 5000, {"grid": sheet})
        assert [note.name for note in kept.notes()] == expected


def test_large_pictures_cost_little():
    """What is measured of a picture is at most about 200 pixels wide."""
    wide = np.random.default_rng(0).integers(0, 256, (1024, 2048, 3), dtype=np.uint8)
    assert max(health_rules._small_lightness(wide).shape) <= 2 * 2 * health_rules.SIDE_PIXELS


# --- in a run


def test_a_note_is_printed_once_and_again_after_a_resume(tmp_path, capsys):
    o = SimpleNamespace(gan_mode="vanilla", dataset_mode="aligned")
    sink = HealthNotes(o, tmp_path)
    sink.start(Progress())
    for row in rows(12, lr=0.0, G_L1=1.0):
        sink.epoch(Progress(epoch=row["epoch"], step=row["step"]), row["mean"], {}, row["lr"])
    assert capsys.readouterr().out.count("health: learning rate 0: it is 0 in epochs 1 and 2") == 1
    (tmp_path / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(12, lr=0.0, G_L1=1.0)))
    again = HealthNotes(o, tmp_path)
    again.start(Progress(epoch=13, step=2400))
    again.epoch(Progress(epoch=13, step=2600), {"G_L1": 1.0}, {}, 0.0)
    assert capsys.readouterr().out.count("health: learning rate 0: it is 0 in epochs 12 and 13") == 1


@pytest.mark.parametrize(
    ("name", "said"), [("no rate", "health: learning rate 0: it is 0 in epochs 4 and 5"), ("pix2pix vanilla", "")]
)
def test_training_says_what_is_wrong_and_nothing_else(command, tmp_path, name, said):
    flags, files, _ = {**HEALTHY, **SICK}[name]
    for stem, source in files.items():
        (tmp_path / f"{stem}.py").write_text(source)
    plugins = [word for stem in files for word in ("--plugin", f"{stem}.py")]
    torch.manual_seed(0)
    argv = [*plugins, *health_runs.SMALL, *flags, "--n_epochs", 6, "--n_epochs_decay", 0, "--max_dataset_size", 8]
    ended = command("train", *argv, "--display_id", 0, "--no_html", "--name", "x")
    assert ended.code == 0, ended.err
    lines = [line for line in ended.out.splitlines() if line.startswith("health:")]
    assert len(lines) == bool(said) and all(line.startswith(said) for line in lines)
    ended = command("train", *argv, "--displays", "console", "--overwrite", "--name", "x")
    assert "health:" not in ended.out
