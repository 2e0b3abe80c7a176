"""plot_losses.py draws logs of this program and of other programs, in their formats."""

import json
import math
import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cli.main import run_command
from displays.loss_log import EPOCH_AXIS, epoch_rows, read_losses
from registry import discovery
from tests.support.runs import ROOT, Ended
from util.errors import DataError

sys.path.insert(0, str(ROOT / "scripts"))
import plot_losses

HEAD = "================ Training Loss (Sat Nov 21 20:36:10 2026) ================"


def v24(epoch, iters, **losses):
    head = f"(epoch: {epoch}, iters: {iters}, time: 0.227, data: 0.017) "
    return head + "".join(f"{name}: {value:.3f} " for name, value in losses.items())


def v25(epoch, iters, rank=0, **losses):
    head = f"[Rank {rank}] (epoch: {epoch}, iters: {iters}, time: 0.327, data: 0.039) "
    return head + "".join(f", {name}: {value:.3f}" for name, value in losses.items())


@pytest.fixture
def text(tmp_path):
    """The curves of a loss_log.txt with these lines; the last one is whole unless it is said to be cut."""

    def read(*lines, cut=False):
        (tmp_path / "loss_log.txt").write_text("\n".join(lines) + ("" if cut else "\n"))
        return read_losses(tmp_path / "loss_log.txt")

    return read


def test_the_published_lines_of_v24_and_v25_are_read(text):
    curves = text(
        HEAD, "(epoch: 1, iters: 1, time: 0.227, data: 0.017) G_GAN: 0.614 G_L1: 39.628 D_real: 0.610 D_fake: 0.794 "
    )
    assert curves.steps == {
        "G_GAN": ([2.0], [0.614]),
        "G_L1": ([2.0], [39.628]),
        "D_real": ([2.0], [0.61]),
        "D_fake": ([2.0], [0.794]),
    }
    line = "[Rank 0] (epoch: 1, iters: 1, time: 0.327, data: 0.039) "
    curves = text(HEAD, HEAD, line + ", G_GAN: 0.694, G_L1: 39.661, D_real: 0.692, D_fake: 0.708", "")
    assert {name: ys for name, (_, ys) in curves.steps.items()} == {
        "G_GAN": [0.694],
        "G_L1": [39.661],
        "D_real": [0.692],
        "D_fake": [0.708],
    }
    third = "(epoch: 2, total_iters: 90, iters: 40, time per image: 0.1, time data mini batch: 0.2) G_tot: 1.25e-05 "
    assert text(third).steps == {"G_tot": ([3.0], [1.25e-05])}


@pytest.mark.parametrize("line", [v24, v25])
def test_epochs_and_fractions_are_as_in_our_own_log(text, line):
    curves = text(HEAD, *(line(e, i, G=e + i / 100) for e in (1, 2) for i in (100, 200)))
    assert curves.steps["G"] == ([1.5, 2.0, 2.5, 3.0], [2.0, 3.0, 3.0, 4.0])
    assert curves.means["G"] == ([1.0, 2.0], [2.5, 3.5]) and curves.notes == []


def test_a_resume_replaces_what_it_does_again(text):
    lines = [v24(e, i, G=e) for e in (1, 2, 3) for i in (1, 2)]
    curves = text(HEAD, *lines, HEAD, *(v24(e, i, G=10 * e) for e in (2, 3) for i in (1, 2)))
    assert curves.steps["G"] == ([1.5, 2.0, 2.5, 3.0, 3.5, 4.0], [1, 1, 20, 20, 30, 30]) and curves.notes == []


def test_a_restart_whose_epochs_begin_at_1_again_goes_on(text):
    """--continue_train without --epoch_count; twice."""
    session = [HEAD, *(v24(e, i, G=e) for e in (1, 2) for i in (1, 2))]
    curves = text(*session, *session, *session)
    assert curves.steps["G"][0] == [1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7]
    assert curves.notes == [
        f"its epochs restart at 1 in line {n}: numbering continues from {e}" for n, e in ((7, 2), (12, 4))
    ]


def test_an_attempt_ended_in_its_first_epoch_is_ignored(text):
    curves = text(HEAD, v24(1, 1, G=9), v24(1, 2, G=9), HEAD, v24(1, 1, G=1), v24(1, 2, G=2), v24(1, 3, G=3))
    assert curves.steps["G"][1] == [1, 2, 3]


def test_cut_and_foreign_lines_are_left_out(text):
    whole = v24(1, 1, G=1)
    curves = text(
        HEAD,
        whole,
        v24(1, 2, G=2)[:-4] + HEAD,
        "Traceback:",
        v24(1, 3, G=3)[:30] + v24(1, 4, G=4),
        "G: 7",
        v24(1, 3, D=3) + v24(1, 5, G=5),
        "",
        "(epoch: x, iters: 1, time: 1, data: 1) G: 3 ",
        "(epoch: 1, iters: 8, time: 0.2, data: 0.1) G: 0.6",
        cut=True,
    )
    assert curves.steps == {"G": ([1.2, 1.8, 2.0], [1, 4, 5])}


def test_values_that_are_no_numbers_are_gaps(text):
    curves = text(v24(1, 1, G=math.nan, D=1), v24(1, 2, G=math.inf, D=-math.inf), v24(1, 3, G=1, D=2))
    assert math.isnan(curves.steps["G"][1][0]) and curves.steps["G"][1][1:] == [math.inf, 1]
    assert curves.steps["D"][1] == [1, -math.inf, 2]


def test_lines_of_other_ranks_do_not_count_twice(text):
    curves = text(*(v25(1, i, rank, G=rank) for i in (1, 2) for rank in (0, 1)))
    assert curves.steps["G"] == ([1.5, 2.0], [0, 0])


def test_a_term_missing_from_some_lines_leaves_gaps(text):
    curves = text(v24(1, 1, G=1), v24(1, 2, G=2, R1=5), v24(1, 4, G=3))
    assert curves.steps == {"G": ([1.25, 1.5, 2.0], [1, 2, 3]), "R1": ([1.5], [5])}


@given(st.binary(max_size=400))
def test_any_file_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any"
    for start in (b"", b"{", v24(1, 1, G=1).encode() + b"\n"):
        path.write_bytes(start + data)
        try:
            found = read_losses(path)
        except DataError:  # it holds no losses
            continue
        assert found.steps or found.means


def own(folder, epochs=3, **losses):
    """A losses.jsonl of ours: two rows an epoch and its mean."""
    folder.mkdir(parents=True, exist_ok=True)
    events = []
    for e in range(1, epochs + 1):
        for half in (0.5, 1.0):
            values = {name: value(e + half) if callable(value) else value for name, value in losses.items()}
            events.append({"epoch": e, "at": e + half, "losses": values})
        events.append({"epoch": e, "step": 2 * e, "lr": 0.1, "mean": values})
    (folder / "losses.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def test_our_own_log_is_read_back(tmp_path):
    path = own(tmp_path, 2, G=lambda at: at, D=None) / "losses.jsonl"
    with open(path, "a") as file:
        file.write('[1]\n{"losses": {"G": 1}}\n{"epoch": 3, "at": 4, "losses": {"G": ')
    curves = read_losses(path)
    assert curves.steps["G"] == ([1.5, 2.0, 2.5, 3.0], [1.5, 2.0, 2.5, 3.0])
    assert curves.means["G"] == ([1.0, 2.0], [2.0, 3.0]) and all(map(math.isnan, curves.steps["D"][1]))
    assert [row["epoch"] for row in epoch_rows(path)] == [1, 2] and list(epoch_rows(tmp_path / "none")) == []


# --- the command


@pytest.fixture
def plot(tmp_path, monkeypatch, capsys):
    """Run plot_losses.py in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        discovery.clear()
        code = run_command(plot_losses.main, [str(word) for word in argv])
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return run


def drawing(path):
    """An SVG's texts, and its lines as (colour, dashes, number of points)."""
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    lines = []
    for element in root.iter():
        style = element.get("style") or ""
        if "fill: none" in style and element.get("clip-path") and element.get("d"):
            colour, dashes = re.search(r"stroke: (#\w+)", style), re.search(r"stroke-dasharray: ([\d. ,]+)", style)
            points = len(re.findall(r"[ML]", element.get("d")))
            if colour and colour[1] != "#b0b0b0":
                lines.append((colour[1], dashes[1] if dashes else "", points))
    return re.findall(r"<!-- (.*?) -->", text), lines


def test_a_run_by_name_folder_or_file_is_the_same_picture(plot, tmp_path):
    own(tmp_path / "checkpoints" / "one", G=lambda at: 1 / at, D=lambda at: 0.5)
    pictures = []
    for run in ("one", "checkpoints/one", "checkpoints/one/losses.jsonl"):
        ended = plot(run, "--out", "x.svg")
        assert (ended.code, ended.out) == (0, "losses G, D -> x.svg\n"), ended.err
        pictures.append((tmp_path / "x.svg").read_bytes())
    assert pictures[0] == pictures[1] == pictures[2]
    texts, lines = drawing(tmp_path / "x.svg")
    assert {"G", "D", EPOCH_AXIS, "one"} <= set(texts)
    assert [points for *_, points in lines] == [6, 6] and len({colour for colour, *_ in lines}) == 2
    assert not list(tmp_path.glob("*.tmp"))
    assert plot("one").code == 0
    image = np.asarray(Image.open(tmp_path / "losses.png"))
    assert image.shape[0] > 400 and len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 20


def test_runs_of_different_lengths_share_colours_but_no_style(plot, tmp_path):
    """Two of ours, and one of another program that has one loss more."""
    for name, epochs in (("one", 3), ("two", 9)):
        own(tmp_path / "checkpoints" / name, epochs, G=lambda at: at, D=lambda at: 2.0)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "loss_log.txt").write_text("".join(v24(e, 1, G=e, idt=1) + "\n" for e in range(1, 6)))
    ended = plot("one", "two", "theirs", "--out", "x.svg")
    assert ended.code == 0, ended.err
    texts, lines = drawing(tmp_path / "x.svg")
    assert {"one", "two", "theirs", "G", "D", "idt"} <= set(texts)
    of_colour = {}
    for colour, dashes, points in lines:
        of_colour.setdefault(colour, []).append((dashes, points))
    assert sorted([points for _, points in each] for each in of_colour.values()) == [[5], [6, 18], [6, 18, 5]]
    for each in of_colour.values():
        assert len({dashes for dashes, _ in each}) == len(each)


def test_flags_choose_what_is_drawn(plot, tmp_path):
    own(tmp_path / "checkpoints" / "one", 4, G=lambda at: 1 / at, D=lambda at: -at, Q=None)

    def count(*flags):
        return plot("one", "--out", "x.svg", *flags), drawing(tmp_path / "x.svg")[1]

    ended, lines = count("--losses", "D")
    assert ended.out == "losses D -> x.svg\n" and len(lines) == 1
    assert sorted(points for *_, points in count("--mean_only", "--losses", "G,D")[1]) == [4, 4]
    assert len(count("--smooth", "0.9", "--losses", "G,D")[1]) == 4  # what it is smoothed from, faintly beneath
    assert len(count("--log", "--losses", "G,D")[1]) == 2  # also what is below 0
    assert len(count("--split", "--losses", "G,D")[1]) == 2
    plot("one", "--out", "y.pdf")
    assert (tmp_path / "y.pdf").read_bytes().startswith(b"%PDF")


def test_metrics_have_a_panel_each(plot, tmp_path):
    for run, number in (("one", 4), ("two", 3)):
        folder = own(tmp_path / "checkpoints" / run, 2, G=1.0)
        with open(folder / "losses.jsonl", "a") as file:
            for epoch in range(1, number):
                values = {"L1": [0.5 / epoch, None, 9], "fid": [None if epoch == 1 else 80.0, 1.0, 9]}
                file.write(json.dumps({"epoch": epoch, "metrics": values}) + "\n")
    assert read_losses(folder / "losses.jsonl").metrics["L1"] == ([1.0, 2.0], [0.5, 0.25])
    ended = plot("one", "two", "--metrics", "all", "--out", "x.svg")
    assert ended.out == "metrics L1, fid -> x.svg\n"
    texts, lines = drawing(tmp_path / "x.svg")
    assert len(lines) == 4 and [points for *_, points in lines][:2] == [3, 2] and texts.count("epoch") == 2
    assert plot("one", "--metrics", "l1", "--out", "x.svg").out == "metrics L1 -> x.svg\n"


def test_smoothing_leaves_gaps_and_a_constant_alone():
    xs, ys = plot_losses.smooth(([1, 2, 3, 4, 5], [4.0, 4.0, math.nan, 4.0, 9.0]), 0.5)
    assert xs == [1, 2, 3, 4, 5] and ys[:2] == [4, 4] and math.isnan(ys[2]) and ys[3] == 4 and 4 < ys[4] < 9
    assert plot_losses.smooth(([1, 2], [1.0, 5.0]), 0.0)[1] == [1, 5]


def test_hostile_names_are_drawn_as_they_are(plot, tmp_path):
    """Formulas, control characters, names that matplotlib would hide or fail on."""
    name = "$\\frac$_\x1b[2J<b>\n"
    own(tmp_path / "checkpoints" / "one", **{name: 1.0, "_hidden": 2.0, "é🍎": 3.0})
    ended = plot("one", "--out", "x.svg")
    assert ended.code == 0, ended.err
    assert ended.err == "" and "\x1b" not in ended.out and ended.out.count("\n") == 1
    texts = drawing(tmp_path / "x.svg")[0]
    assert "$\\frac$_\\x1b[2J&lt;b&gt;\\n" in texts and " _hidden" in texts
    assert plot("one", "--split", "--out", "x.png").code == 0


def test_more_losses_than_colours_and_runs_than_styles(plot, tmp_path):
    for i in range(8):
        own(tmp_path / "checkpoints" / f"r{i}", **{f"loss{n}": float(n) for n in range(25)})
    assert plot(*(f"r{i}" for i in range(8)), "--split").code == 0


@pytest.mark.parametrize(("argv", "code", "words"), [
    (["on"], 3, ["run 'on'", "did you mean one?"]),
    (["checkpoints"], 3, ["holds no losses.jsonl or loss_log.txt"]),
    (["zzzz"], 3, ["there is no such run in ./checkpoints", "there are empty, one"]),
    (["empty"], 3, ["empty", "holds no"]),
    (["one", "--losses", "g"], 2, ["no run has a loss 'g'", "did you mean G?"]),
    (["one", "--metrics", "L1"], 2, ["--metrics", "no run has metrics"]),
    (["one", "--metrics", "L1", "--losses", "G"], 2, ["exclude each other"]),
    (["one", "--smooth", "1"], 2, ["--smooth", "0.99"]),
    (["one", "--smooth", "x"], 2, ["--smooth"]),
    (["one", "--out", "x.jpeg2"], 2, ["--out", ".svg"]),
    (["one", "--out", "none/x.png"], 5, ["none/x.png", "No such file or directory"]),
    (["one", "--mean"], 2, ["--mean", "did you mean --mean_only?"]),
    ([], 2, ["RUN"]),
])  # fmt: skip
def test_errors_are_one_line_with_a_remedy(plot, tmp_path, argv, code, words):
    own(tmp_path / "checkpoints" / "one", G=1.0)
    (tmp_path / "checkpoints" / "empty").mkdir()
    (tmp_path / "checkpoints" / "empty" / "loss_log.txt").write_text(HEAD + "\n")
    ended = plot(*argv)
    assert ended.code == code
    assert ended.err.count("\n") == 1 and re.match(r"error: .+: .+; .+", ended.err)
    assert [word for word in words if word not in ended.err] == []
    assert not list(tmp_path.glob("*.png*"))


def test_without_matplotlib_it_says_what_to_do(plot, tmp_path, monkeypatch):
    own(tmp_path / "checkpoints" / "one", G=1.0)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = plot("one")
    assert ended.code == 5 and "'matplotlib': is not installed" in ended.err and "make" in ended.err


def test_only_this_script_imports_matplotlib():
    """It costs half a second."""
    from tests.support.sources import imported, sources

    users = [
        path for path in sources() if any(m.startswith("matplotlib") for m in imported((ROOT / path).read_text(), path))
    ]
    assert users == ["scripts/plot_losses.py"]
