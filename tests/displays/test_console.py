"""The console shows one bar on any terminal, where the time goes, and what slows the run."""

import math
import re

import pytest
import torch

from displays.bottleneck import bottleneck_text, time_shares_text
from displays.console import SILENCE_S, Console, join_fitting
from displays.group import Display
from displays.visdom_sender import Sender
from tests.support.terminals import OPTIONS, SPENT, Screen, console
from training.nan_guard import NanGuard
from util.errors import print_line
from util.progress import Progress

LOSSES = {name: 0.12345 for name in ("G_A", "G_B", "cycle_A", "cycle_B", "idt_A", "idt_B", "D_A", "D_B")}


def redraws(text):
    """What was drawn in one place, one after the other."""
    return [piece for piece in re.split(r"[\r\n]+", text) if piece.startswith("epoch ")]


@pytest.mark.parametrize("columns", [200, 150, 120, 80, 60, 40, 20])
def test_a_bar_keeps_to_one_line_and_is_not_pushed_away(monkeypatch, request, columns):
    screen = Screen(columns)
    screen.train(console(monkeypatch, screen, request), LOSSES, size=1200, batch=50)
    bars = redraws(screen.close())
    assert len(bars) > 20
    assert max(map(len, bars)) <= columns
    if columns >= 80:
        assert all(len(re.search(r"\|(.*)\|", bar)[1]) >= 8 for bar in bars), bars[-1]
        assert re.search(r"1200/1200 \[\d\d:\d\d<\d\d:\d\d, .*img/s", bars[-1])


@pytest.mark.parametrize(("columns", "shown"), [(220, 8), (150, 4), (120, 1)])
def test_a_bar_shows_as_many_losses_as_fit(monkeypatch, request, columns, shown):
    screen = Screen(columns)
    screen.train(console(monkeypatch, screen, request), LOSSES)
    last = redraws(screen.close())[-1]
    assert last.count("=0.123") >= shown and ("..]" in last) == (last.count("=0.123") < 8)
    assert "data 25%" in last


@pytest.mark.parametrize("no_color", ["1", ""])
def test_no_escape_codes_whether_or_not_colours_are_wanted(monkeypatch, request, no_color):
    monkeypatch.setenv("NO_COLOR", no_color)
    screen = Screen(120)
    screen.train(console(monkeypatch, screen, request), LOSSES)
    text = screen.close()
    assert "\x1b" not in text and "End of epoch 2 / 2" in text


def test_a_note_gets_a_line_of_its_own_and_the_bar_goes_on(monkeypatch, request):
    screen = Screen(100)
    sink = console(monkeypatch, screen, request)
    at = Progress(epoch_size=3, last_epoch=1)
    for number in range(3):
        at.advance(1, 0.1, 0.1)
        sink.progress(at)
        if number == 1:
            assert sink.say("note: something")
    sink.close()
    text = screen.close()
    assert re.search(r"\r *\rnote: something\r\n", text) and "3/3" in redraws(text)[-1]


LATE_NOTES = {  # what prints a line while a bar is shown, each from its own module
    "visdom": lambda: Sender("http://localhost:1", "main", 1)._say("live plots have ended"),
    "any display": lambda: Display([])._report_failure("x", ValueError("live plots have ended")),
    "a loss that is NaN": lambda: NanGuard("skip", lambda: None, lambda: None).check_losses(
        {"G": torch.tensor(math.nan)}, {"path_A": ["a.png"]}, Progress(step=3)),
    "anything": lambda: print_line("note"),
}  # fmt: skip


@pytest.mark.parametrize("source", LATE_NOTES)
def test_a_line_of_any_part_is_not_glued_to_the_bar(monkeypatch, request, source):
    screen = Screen(100)
    sink = console(monkeypatch, screen, request)
    at = Progress(epoch_size=3, last_epoch=1)
    at.advance(1, 0.1, 0.1)
    sink.progress(at)
    LATE_NOTES[source]()
    at.advance(1, 0.1, 0.1)
    sink.progress(at)
    sink.close()
    text = screen.close()
    line = next(piece for piece in re.split(r"[\r\n]+", text) if re.search("ended|note", piece))
    assert "img" not in line and "|" not in line, text


def lines(capsys, *epochs, size=100, last=10):
    """The lines of epochs given as (images, seconds of each part)."""
    sink = Console(OPTIONS, None)
    for number, (images, spent) in enumerate(epochs, 1):
        at = Progress(epoch=number, epoch_size=size, last_epoch=last, seen=size - images)
        for _ in range(images):
            at.advance(1, 0.1, 0.1)
            sink.progress(at)
        sink.epoch(at, {"G": 0.5}, spent, 2e-4)
    return capsys.readouterr().out.splitlines()


def test_the_end_of_an_epoch_says_where_the_time_went(capsys):
    assert lines(capsys, (100, SPENT)) == [
        "about 3 min to go",
        "End of epoch 1 / 10 \t Time Taken: 10 sec, 10.0 images/s, 0:01:30 to go, learning rate 0.0002000",
        "  time data 62 %, compute 30 %, display 5 %, save 3 %; data is the bottleneck: raise --num_threads (now 0)",
        "  mean G: 0.500",
    ]


def test_the_time_to_go_is_told_by_all_epochs_of_this_command(capsys):
    """A first epoch that was resumed in its middle counts as what it did; a slow one is smoothed by the others."""
    seconds = lambda s: {"data": 0.0, "compute": s, "display": 0.0, "save": 0.0}  # noqa: E731
    out = [line for line in lines(capsys, (50, seconds(50)), (100, seconds(250))) if "images/s" in line]
    assert ", 1.0 images/s, 0:15:00 to go" in out[0]  # 900 images at a second each
    assert ", 0.4 images/s, 0:26:40 to go" in out[1]  # 800 images at 300 / 150 seconds each


def test_without_epochs_or_seconds_nothing_is_divided_by_nothing(capsys):
    assert "0:00:00 to go" in lines(capsys, (0, dict.fromkeys(SPENT, 0.0)), last=1)[0]


def steps(sink, *seconds, epochs=10, size=100):
    """Show one step of one image for each of `seconds`."""
    at = Progress(epoch_size=size, last_epoch=epochs)
    for each in seconds:
        at.advance(1, each, 0.0)
        sink.progress(at)


@pytest.mark.parametrize(("seconds", "epochs", "text"), [
    ([9, 4, 4], 100, []),  # two steps after the first, of less than ten seconds
    ([9, 4, 4, 4], 100, ["about 11 h 6 min to go"]),
    ([300, 70], 10, ["about 19 h 24 min to go"]),  # one step above a minute is enough
    ([9, 90], 20, ["about 2 days 1 h to go; a GPU, or a smaller --load_size and --crop_size, --ngf, --n_epochs or "
                   "--max_dataset_size shortens it"]),
    ([9, 4, 4, 4, 4, 4], 1, ["about 6 min to go"]),  # told once
    ([0.1] * 90, 1, []),  # a run of seconds
])  # fmt: skip
def test_the_first_steps_tell_how_long_the_run_will_take(capsys, seconds, epochs, text):
    steps(Console(OPTIONS, None), *seconds, epochs=epochs)
    assert capsys.readouterr().out.splitlines() == text


def test_without_a_bar_a_long_silence_is_broken_by_a_line(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("displays.console.time.monotonic", lambda: now[0])
    sink, at = Console(OPTIONS, None), Progress(epoch_size=100, last_epoch=2)
    for minute in range(1, 6):
        now[0] += SILENCE_S / 2 + 1
        at.advance(1, SILENCE_S / 2 + 1, 0.0)
        sink.progress(at)
        if minute == 3:
            sink.losses(at, {"G": 1.0})
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "epoch 1 / 2, 2 of 100 images, 0.032 images/s, 1 h 42 min to go"
    assert out[1] == "about 1 h 42 min to go"
    assert out[2].startswith("(epoch: 1, iters: 3")
    assert out[3:] == ["epoch 1 / 2, 5 of 100 images, 0.032 images/s, 1 h 41 min to go"]


@pytest.mark.parametrize(("spent", "threads", "advice"), [
    ({"data": 62, "compute": 38, "display": 0, "save": 0}, 0, "; data is the bottleneck: raise --num_threads (now 0)"),
    ({"data": 62, "compute": 38, "display": 0, "save": 0}, 999,
     "; data is the bottleneck: store smaller images, or use a faster disk"),
    ({"data": 30, "compute": 70, "display": 0, "save": 0}, 0, ""),
    ({"data": 1, "compute": 99, "display": 0, "save": 0}, 0, ""),
    ({"data": 10, "compute": 30, "display": 55, "save": 5}, 0,
     "; display is the bottleneck: raise --update_html_freq, or lower --fixed_samples"),
    ({"data": 10, "compute": 30, "display": 5, "save": 55}, 0,
     "; save is the bottleneck: raise --save_latest_freq and --save_epoch_freq"),
    ({"data": 3.0, "compute": 1.0, "display": 0, "save": 0}, 0, ""),  # too short to tell
    ({"data": 30, "compute": 29, "display": 21, "save": 20}, 0, ""),  # nothing clear
    ({}, 0, ""),
])  # fmt: skip
def test_one_clear_bottleneck_gets_one_piece_of_advice(spent, threads, advice):
    assert bottleneck_text(spent, threads) == advice


def test_shares_are_of_the_whole():
    assert time_shares_text({"data": 1.0, "compute": 3.0}) == "data 25 %, compute 75 %"
    assert time_shares_text(dict.fromkeys(SPENT, 0.0)) == "data 0 %, compute 0 %, display 0 %, save 0 %"


@pytest.mark.parametrize(("room", "text"), [
    (30, "a=1, bb=2, ccc=3"), (16, "a=1, bb=2, ccc=3"), (15, "a=1, bb=2, .."), (13, "a=1, bb=2, .."), (12, "a=1, .."),
    (6, ""), (0, ""), (-5, ""),
])  # fmt: skip
def test_what_fits_is_shown_and_dots_for_the_rest(room, text):
    assert join_fitting(["a=1", "bb=2", "ccc=3"], room) == text
