"""A failing display does not stop a run; the log stays complete."""

import os
import re
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from displays.base import Sink
from displays.group import Display
from displays.loss_log import LossLog, v24_line
from tests.support.runs import SMALL
from tests.support.terminals import Terminal
from tests.support.training_runs import DEMO, Page, plugin_files, rows
from util.progress import Progress

FEW = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", 2, "--n_epochs_decay", 0,
       "--max_dataset_size", 3, "--print_freq", 1, "--name", "run"]  # fmt: skip

# displays that fail, each in one of the ways there are
BROKEN = """
import shutil
from displays.base import DISPLAYS, Sink

def breaking(method):
    def fail(self, *args):
        raise LookupError(f"no {method}")
    return type("Broken" + method, (Sink,), {"loss_freq": 1, "image_freq": 1, "__init__": lambda self, o, folder: None,
                                             method: fail})

class Vandal(Sink):
    loss_freq = 1
    def __init__(self, o, folder):
        self.web = folder / "web"
    def losses(self, at, values):
        if at.step == 2:
            shutil.rmtree(self.web)
            self.web.write_text("in the way")

DISPLAYS["vandal"] = Vandal
"""
METHODS = ["init", "start", "progress", "losses", "images", "epoch", "close"]


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """The flags that make the displays above known; one line each, so that they can be asked for by name."""
    names = "".join(f'DISPLAYS["broken_{m}"] = breaking("{m if m != "init" else "__init__"}")\n' for m in METHODS)
    with plugin_files(tmp_path_factory.mktemp("plugins"), broken=BROKEN + names) as folder:
        yield ["--plugin", folder / "broken.py"]


@pytest.mark.parametrize("method", METHODS)
def test_a_display_that_fails_is_named_once_and_the_run_goes_on(command, broken, tmp_path, method):
    ended = command("train", *FEW, *broken, "--displays", f"broken_{method},console,html")
    assert ended.code == 0, ended.err
    notes = [line for line in (ended.out + ended.err).splitlines() if "LookupError" in line]
    assert len(notes) == 1
    assert notes[0].startswith("note: display broken") and f"no {method}" in notes[0].replace("__", "")
    folder = tmp_path / "checkpoints" / "run"
    assert [row["step"] for row in rows(folder)[0]] == [1, 2, 3, 4, 5, 6]
    assert Page(folder / "web" / "index.html").texts["h3"] == ["epoch [2]", "epoch [1]"]
    assert ended.out.count("(epoch: ") == 6


def test_all_displays_may_fail_at_once(command, broken, tmp_path):
    ended = command("train", *FEW, *broken, "--displays", ",".join(f"broken_{m}" for m in METHODS[1:]))
    assert ended.code == 0, ended.err
    assert ended.out.count("LookupError") == len(METHODS) - 1
    assert len(rows(tmp_path / "checkpoints" / "run")[0]) == 6


def test_a_page_that_cannot_be_made_does_not_stop_a_run(command, tmp_path):
    folder = tmp_path / "checkpoints" / "run"
    folder.mkdir(parents=True)
    (folder / "web").write_text("in the way")
    ended = command("train", *FEW)
    assert ended.code == 0, ended.err
    assert len([line for line in ended.out.splitlines() if "display html is off" in line]) == 1
    assert len(rows(folder)[0]) == 6
    assert (folder / "web").read_text() == "in the way"


def test_a_page_that_is_lost_in_mid_run_does_not_stop_it(command, broken, tmp_path):
    ended = command("train", *FEW, *broken, "--displays", "vandal,console,html", "--update_html_freq", 1)
    assert ended.code == 0, ended.err
    assert len([line for line in ended.out.splitlines() if "display html is off" in line]) == 1
    assert len(rows(tmp_path / "checkpoints" / "run")[0]) == 6


def test_a_sink_that_cannot_even_say_a_line_does_no_harm(capsys):
    class Mute(Sink):
        def say(self, text):
            raise OSError("closed")

    class Failing(Sink):
        def progress(self, at):
            raise LookupError("gone")

    display = Display([Failing(), Mute()])
    display.step(Progress(), {}, dict)
    assert "display failing is off" in capsys.readouterr().out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full, a disk that is always full")
@pytest.mark.parametrize("log", ["loss_log.txt", "losses.jsonl"])
def test_a_full_disk_under_the_log_ends_the_run(command, tmp_path, log):
    """It is the record that resuming and curves rely on."""
    folder = tmp_path / "checkpoints" / "run"
    folder.mkdir(parents=True)
    (folder / log).symlink_to("/dev/full")
    ended = command("train", *FEW)
    assert ended.code == 5
    assert "No space left on device" in ended.last and log in ended.last


def test_only_the_displays_that_are_asked_for(command, tmp_path):
    ended = command("train", *FEW, "--displays", "html")
    assert ended.code == 0, ended.err
    assert "(epoch: " not in ended.out and "End of epoch" not in ended.out
    folder = tmp_path / "checkpoints" / "run"
    assert (folder / "loss_log.txt").read_text().count("(epoch: ") == 6
    assert (folder / "web" / "index.html").is_file()
    ended = command("train", *FEW, "--displays", " console, health", "--overwrite")
    assert ended.code == 0 and "(epoch: 2, iters: 3," in ended.out
    assert not (folder / "web").exists()


# --- a terminal


@pytest.fixture
def on_terminal(command, monkeypatch):
    """Run train.py with stderr on a terminal; return (how it ended, the terminal's text)."""

    def run(*argv):
        terminal = Terminal()
        try:
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stderr", terminal.stderr)
                ended = command("train", *argv)
        finally:
            terminal.close()
        assert ended.code == 0, terminal.text
        return ended, terminal.text

    return run


def test_a_terminal_shows_a_bar_with_time_left_and_speed(on_terminal, tmp_path):
    ended, text = on_terminal(*FEW)
    for epoch in (1, 2):
        bar = rf"epoch {epoch}/2: 100%\|\S+\| 3/3 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+ ?(img/s|s/img), .*G_L1=\d+\.\d{{3}}"
        assert re.search(bar, text), text
    assert "(epoch: " not in text + ended.out
    assert ended.out.count("images/s") == 2  # the epochs' summaries stay
    log = (tmp_path / "checkpoints" / "run" / "loss_log.txt").read_text()
    assert log.count("(epoch: ") == 6
    last = rows(tmp_path / "checkpoints" / "run")[0][-1]["losses"]["G_L1"]
    assert f"G_L1={last:.3f}" in text


def test_no_progress_gives_lines_even_there(on_terminal):
    ended, text = on_terminal(*FEW, "--no_progress")
    assert ended.out.count("(epoch: ") == 6 and "img/s" not in text


def test_a_note_in_mid_run_does_not_break_the_bar(on_terminal, broken):
    ended, text = on_terminal(*FEW, *broken, "--displays", "console,broken_losses")
    assert "display broken_losses is off" in ended.out + text
    assert re.search(r"epoch 2/2: 100%", text)


def test_without_a_terminal_there_are_no_control_characters(command):
    ended = command("train", *FEW)
    assert ended.err == ""
    assert re.search(r"[^\x20-\x7e\n\t]", ended.out) is None
    summaries = re.findall(
        r"End of epoch \d / 2 \t Time Taken: \d+ sec, [\d.]+ images/s, \d+:\d\d:\d\d to go", ended.out
    )
    assert len(summaries) == 2


# --- the parts


def test_a_line_of_losses_is_v24s_to_the_letter():
    at = Progress(epoch=3, seen=120, seconds=0.2271, data_seconds=0.0169)
    line = v24_line(at, {"G_GAN": 0.61449, "G_L1": 39.6284, "idt_A": 0.0, "D": -1.5})
    assert line == "(epoch: 3, iters: 120, time: 0.227, data: 0.017) G_GAN: 0.614 G_L1: 39.628 idt_A: 0.000 D: -1.500 "


class Recorder(Sink):
    def __init__(self, loss_freq, image_freq):
        self.loss_freq, self.image_freq, self.seen = loss_freq, image_freq, []

    def losses(self, at, values):
        self.seen.append(("losses", at.samples, values))

    def images(self, at, pictures):
        self.seen.append(("images", at.samples, pictures))


def test_pictures_are_made_only_when_a_sink_wants_them():
    """Two epochs of five images in batches of two; no display is due at 2 and 7."""
    often, seldom, never = Recorder(2, 4), Recorder(5, 100), Recorder(0, 0)
    display, made = Display([often, seldom, never]), []
    at = Progress(epoch_size=5, last_epoch=2)
    for batch in (2, 2, 1, 2, 2, 1):
        if at.epoch_done:
            at.epoch, at.seen = 2, 0
        at.advance(batch, 0.1, 0.1)
        display.step(at, {"G": torch.tensor(0.5)}, lambda: made.append(at.samples) or {"x": np.zeros((1, 1, 3))})
    assert made == [4, 5, 9, 10]

    def asked(sink, what):
        return [samples for kind, samples, _ in sink.seen if kind == what]

    assert asked(often, "losses") == [2, 4, 7, 9, 10] and asked(often, "images") == [4, 5, 9, 10]
    assert asked(seldom, "losses") == [5, 10] and asked(seldom, "images") == [5, 10]
    assert never.seen == []
    assert often.seen[0][2] == {"G": 0.5} and type(often.seen[0][2]["G"]) is float


def test_early_losses_come_at_powers_of_two_before_loss_freq():
    early, late = Recorder(100, 0), Recorder(100, 0)
    early.early_losses = True
    display, at = Display([early, late]), Progress(epoch_size=1000, last_epoch=1)
    for batch in [1] * 5 + [3] * 70:
        at.advance(batch, 0.1, 0.1)
        display.step(at, {"G": 0.5}, dict)
    assert [samples for _, samples, _ in late.seen] == [101, 200]
    assert [samples for _, samples, _ in early.seen] == [1, 2, 4, 8, 17, 32, 65, 101, 200]


@given(batches=st.lists(st.integers(1, 70), min_size=1, max_size=60), every=st.integers(1, 150))
def test_due_counts_every_multiple_once(batches, every):
    """An event is due at as many steps as there are batches with a multiple of `every` in them."""
    at = Progress(epoch_size=10**9)
    found = []
    for batch in batches:
        at.advance(batch, 0.0, 0.0)
        found.append(at.due(every))
    ends = np.cumsum(batches)
    holds = [
        any(image % every == 0 for image in range(end - n + 1, end + 1)) for n, end in zip(batches, ends, strict=True)
    ]
    assert found == holds
    assert (at.samples, at.seen, at.step) == (sum(batches), sum(batches), len(batches))


def test_a_position_knows_where_it_is():
    at = Progress(epoch=3, epoch_size=5)
    at.advance(4, seconds=0.8, data_seconds=0.1)
    assert (at.seen, at.samples, at.step, at.batch, at.epoch_done) == (4, 4, 1, 4, False)
    assert (at.seconds, at.data_seconds) == (pytest.approx(0.2), 0.1)
    assert at.at == pytest.approx(3.8)
    at.advance(1, 0.1, 0.1)
    assert at.epoch_done and at.at == 4.0


def test_the_log_forgets_what_will_be_done_again(tmp_path):
    log = LossLog(SimpleNamespace(print_freq=1), tmp_path)
    at = Progress(epoch_size=2, last_epoch=2)
    log.start(at)
    for epoch in (1, 2):
        at.epoch, at.seen = epoch, 0
        for _ in range(2):
            at.advance(1, 0.1, 0.1)
            log.losses(at, {"G": float(at.step)})
        log.epoch(at, {"G": 0.0}, {"data": 0.25, "compute": 0.75}, 0.1)
    log.close()
    again = LossLog(SimpleNamespace(print_freq=1), tmp_path)
    again.start(Progress(epoch=2, seen=1, step=3, samples=3, epoch_size=2))
    again.close()
    steps, epochs = rows(tmp_path)
    assert [row["losses"]["G"] for row in steps] == [1, 2, 3] and [row["epoch"] for row in epochs] == [1]
    text = (tmp_path / "loss_log.txt").read_text()
    assert re.findall(r"epoch: (\d), iters: (\d),", text) == [("1", "1"), ("1", "2"), ("2", "1")]
    assert text.count("Training Loss") == 2  # a header for each start, as in the reference


def test_undecodable_bytes_in_the_logs_survive_a_resume(tmp_path):
    (tmp_path / "loss_log.txt").write_bytes(
        b"(epoch: 1, iters: 1, ...) G: 1\n\xff\xfe\n(epoch: 9, iters: 1, ...) G: 1\n"
    )
    row = b'{"epoch": 1, "iters": 1, "losses": {"G": 1}}\n'
    (tmp_path / "losses.jsonl").write_bytes(row + b"\xff\n" + row)
    log = LossLog(SimpleNamespace(print_freq=1), tmp_path)
    log.start(Progress(epoch=2, seen=0, step=1, samples=1, epoch_size=2))
    log.close()
    text = (tmp_path / "loss_log.txt").read_bytes()
    assert b"\xff\xfe\n" in text and b"epoch: 9" not in text and b"epoch: 1," in text
    assert (tmp_path / "losses.jsonl").read_bytes() == 2 * row


def test_a_display_that_is_left_out_is_closed():
    """It may hold a thread, a process or a file."""
    closed = []

    class Failing(Sink):
        def progress(self, at):
            raise SystemExit(3)

        def close(self):
            closed.append(self)
            raise OSError("that too")

    display = Display([])
    display.add("failing", Failing)
    for _ in range(2):
        display.step(Progress(), {}, dict)
    display.close()
    assert len(closed) == 1 and display.sinks == []


def test_displays_that_take_leave_do_so_at_once():
    """Each waits for the other one's end: one after another they would wait for ever, and be given up."""
    both, left = threading.Barrier(2), []

    class Slow(Sink):
        def close(self):
            both.wait(60)
            left.append(self)

    Display([Slow(), Slow()]).close()
    assert len(left) == 2


def test_a_display_that_never_ends_is_left_behind():
    hangs, ended = threading.Event(), threading.Event()

    class Hanging(Sink):
        def close(self):
            hangs.wait()
            ended.set()

    Display([Hanging()]).close()
    assert not ended.is_set()
    hangs.set()
    assert ended.wait(60), "it was left alone, not broken off"
