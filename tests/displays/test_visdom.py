"""A real visdom server shows the run, and no server can disturb training."""

import base64
import importlib.util
import io
import itertools
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from displays import visdom_sender, visdom_server
from displays.loss_log import EPOCH_AXIS, MAX_POINTS
from displays.visdom import VisdomDisplay, image_window, make_grid, plot_window, table_window
from displays.visdom_sender import Sender
from displays.visdom_server import MAX_RESPONSE_BYTES, is_local, port_of, post, server_address
from metrics.base import Result
from metrics.history import Report, Row
from tests.support.runs import SMALL
from tests.support.training_runs import rows
from tests.support.visdom_servers import (
    FEW,
    LONG,
    NOT_THERE,
    RealServer,
    about,
    closing,
    dripping,
    dripping_from_the_start,
    fakes,
    flooding,
    free_port,
    has,
    http,
    lines,
    needs_page_scripts,
    recording,
    shown,
    stalling,
    windows,
)
from util.progress import Progress

LABELS = ["real_A", "fake_B", "real_B"]
FLAGS = {"print_freq": 1, "display_freq": 1, "display_id": 1, "display_ncols": 4, "name": "run", "display_winsize": 64,
         "display_server": "http://127.0.0.1", "display_port": 1, "display_env": "main", "start_visdom": False,
         "display_allow_remote": False}  # fmt: skip


@pytest.fixture
def fake():
    """fake(answer) -> a running server; all are stopped at the end."""
    with fakes() as start:
        yield start


@pytest.fixture
def recorder():
    """A server that keeps what it is sent."""
    with recording() as server:
        yield server


# --- a real server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real visdom server; a test that stops it starts it again."""
    real = RealServer(tmp_path_factory.mktemp("visdom"))
    yield real
    real.stop()


# what is on the page: points of the first curve, the axis that is shown, the picture
LOOK = """() => {
    const plot = document.querySelector(".js-plotly-plot"), image = document.querySelector("img");
    return {titles: [...document.querySelectorAll(".bar")].map(bar => bar.textContent), x: plot.data[0].x,
            names: plot.data.map(trace => trace.name), range: plot._fullLayout.xaxis.range,
            drawn: plot.querySelector(".scatterlayer path.js-line").getAttribute("d"), source: image.src,
            painted: image.naturalWidth}
}"""
MOVED = """before => {
    const plot = document.querySelector(".js-plotly-plot"), image = document.querySelector("img");
    return plot.data[0].x.length > before.x.length + 5 && plot._fullLayout.xaxis.range[1] > before.range[1]
        && plot.querySelector(".scatterlayer path.js-line").getAttribute("d") != before.drawn
        && image.src != before.source
}"""


def test_curves_and_pictures_move_on_the_page_without_reload(start, browser, server, tmp_path, record_property):
    """A real run, a real server, a real browser: the page is opened once, and then only looked at."""
    needs_page_scripts()
    training = start("train", *LONG, *server.on("live"), "--name", "run")
    for line in training.stdout:
        if line.startswith("live plots:"):
            break
    assert line == f"live plots: {server.address}/env/live\n"
    threading.Thread(target=training.stdout.read, daemon=True).start()  # a full pipe would stop the run
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(line.split()[-1])
    page.wait_for_function('() => document.querySelector(".js-plotly-plot .js-line") && document.querySelector("img")')
    page.evaluate("window.never_reloaded = true")
    looks = [page.evaluate(LOOK)]
    for _ in range(3):
        page.wait_for_function(MOVED, arg=looks[-1])
        looks.append(page.evaluate(LOOK))
    assert page.evaluate("window.never_reloaded") is True
    page.close()
    training.kill()
    training.wait()
    logged = {round(row["at"], 6): row["losses"] for row in rows(tmp_path / "checkpoints" / "run")[0]}
    for before, after in itertools.pairwise(looks):
        assert after["x"][-1] > before["x"][-1]
    for look in looks:
        assert [round(x, 6) for x in look["x"]] == [x for x in logged if x in {round(x, 6) for x in look["x"]}]
        assert look["names"] == list(next(iter(logged.values()))) and look["painted"] == 34 * 3
    for title in ("run loss over time", "run images", "run labels"):
        assert any(bar.strip().endswith(title) for bar in looks[0]["titles"])
    record_property("points on visdom's page, looked at four times", " -> ".join(str(len(o["x"])) for o in looks))


@pytest.mark.slow
def test_a_run_of_100000_losses_keeps_the_visdom_server_small(server, full, tmp_path, monkeypatch, record_property):
    """Messages stay as long as they were at 1,000 points; each one that is sent replaces the one before."""
    monkeypatch.setattr(visdom_sender, "REST_FACTOR", 0)  # as many messages as the server takes
    points, pictures = (100_000, 5_000) if full else (10_000, 250)
    sink = display(tmp_path, display_port=server.port, display_env="large")
    sent, sending = [], sink.sender._post
    sink.sender._post = lambda window, data: (sent.append((window, len(data))), sending(window, data))[1]
    sink.start(at := Progress(epoch_size=1000))
    sheet = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)  # 50 kB that nothing packs
    memory, before = {}, server.memory()
    for number in range(1, points + 1):
        at.advance(1, 0.1, 0.1)
        sink.losses(at, {name: number / points for name in ("G", "D", "cycle", "idt")})
        if number % (points // pictures) == 0:
            sink.images(at, {label: np.roll(sheet, number, 0) for label in LABELS})
            arrived(sink.sender)
            memory[number] = server.memory()
    sink.close()
    assert sink.sender.connected
    found = server.windows("large", lambda f: "1" in f and lines(f["1"])["G"][0][-1] == pytest.approx(at.at))
    assert found.keys() == {"1", "2", "3"} and len(lines(found["1"])["G"][0]) <= 1001
    number_of_pictures = sum(window == "2" for window, _ in sent)
    assert number_of_pictures == pictures
    early, late = max(memory[n] for n in memory if n <= points // 5), memory[points]
    longest = [max(size for window, size in sent if window == w) for w in "12"]
    assert longest[0] < 200_000 and longest[1] < 250_000
    assert late - early < 20 * 2**20
    grown = f"{before >> 20} MiB before, {early >> 20} after a fifth, {late >> 20} in the end"
    lengths = f"{longest[0] // 1000} and {longest[1] // 1000} kB"
    record_property(
        f"visdom's server shown {points:,} points and {pictures:,} pictures", f"{grown}; messages of up to {lengths}"
    )


def arrived(sender):
    """Wait until everything sent so far is with the server."""
    deadline = time.monotonic() + 60
    while sender.waiting and time.monotonic() < deadline:
        threading.Event().wait(0.001)
    assert not sender.waiting


def test_sheets_get_a_window_of_their_own(command, server, tmp_path):
    """The grid of classes, the same pixels as on the page."""
    argv = [*SMALL, "--model", "cgan", "--load_size", 32, "--max_dataset_size", 4, "--sample_epoch_freq", 1]
    argv += ["--n_epochs", 1, "--n_epochs_decay", 0, "--display_id", 1, "--name", "zoo", *server.on("sheets")]
    ended = command("train", *argv)
    assert ended.code == 0, ended.err
    found = server.windows("sheets", lambda f: "101" in f)
    assert found["101"]["title"] == "zoo grid, epoch 1"
    page = np.asarray(Image.open(tmp_path / "checkpoints/zoo/web/images/epoch001_grid.png"))
    assert page.shape == (4 * 34, 10 * 34, 3)
    assert np.array_equal(shown(found["101"]), page)


def test_a_server_shows_the_whole_curve_after_resuming(command, server, tmp_path):
    ended = command("train", *FEW, *server.on("first"), "--name", "run")
    assert ended.code == 0, ended.err
    assert about(ended.out + ended.err) == [f"live plots: {server.address}/env/first"]
    folder = tmp_path / "checkpoints" / "run"
    found = server.windows("first", lambda f: has("1", 6)(f) and {"2", "3"} <= f.keys())
    assert found.keys() == {"1", "2", "3"}
    assert [found[n]["title"] for n in "123"] == ["run loss over time", "run images", "run labels"]
    logged = rows(folder)[0]
    curves = lines(found["1"])
    assert curves.keys() == logged[0]["losses"].keys()
    for name, (x, y) in curves.items():
        assert x == pytest.approx([row["at"] for row in logged], abs=1e-6)
        assert y == pytest.approx([row["losses"][name] for row in logged])
    layout = found["1"]["content"]["layout"]
    assert layout["title"] == "run loss over time" and layout["showlegend"] is True
    assert (layout["xaxis"]["title"], layout["yaxis"]["title"]) == (EPOCH_AXIS, "loss")
    sheet = shown(found["2"])
    for place, label in enumerate(LABELS):  # in a row of at most four, with two pixels between them
        page = np.asarray(Image.open(folder / "web" / "images" / f"epoch002_{label}.png"))
        assert np.array_equal(sheet[:32, 34 * place : 34 * place + 32], page)
    assert sheet.shape == (34, 34 * 3, 3) and (sheet[32:] == 255).all() and (sheet[:, 32:34] == 255).all()
    assert re.findall(r"<td>(.*?)</td>", found["3"]["content"]) == LABELS

    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 3)
    assert ended.code == 0, ended.err
    found = server.windows("first", has("1", 9))
    for name, (x, y) in lines(found["1"]).items():
        assert x == pytest.approx([1 + n / 3 for n in range(1, 10)], abs=1e-6)
        assert y == pytest.approx([row["losses"][name] for row in rows(folder)[0]])


def test_a_window_for_each_picture_without_columns(command, server, tmp_path):
    """--display_id is the first of them; the environment's name is made one that visdom can show."""
    ended = command(
        "train",
        *FEW,
        *server.on("a/b c?"),
        "--name",
        "run",
        "--display_ncols",
        0,
        "--display_id",
        5,
        "--display_winsize",
        100,
    )
    assert ended.code == 0, ended.err
    found = server.windows("a_b_c_", lambda f: has("5", 6)(f) and {"6", "7", "8"} <= f.keys())
    assert found.keys() == {"5", "6", "7", "8"}
    for window, label in zip("678", LABELS, strict=True):
        assert found[window]["title"] == label and found[window]["width"] == 100
        page = np.asarray(Image.open(tmp_path / f"checkpoints/run/web/images/epoch002_{label}.png"))
        assert np.array_equal(shown(found[window]), page)


@pytest.mark.parametrize("how", ["in the address", "by --display_port", "without http", "a page of it"])
def test_a_server_behind_a_path_shows_the_run(command, tmp_path_factory, how):
    """As behind a proxy that serves visdom below a path."""
    real = RealServer(tmp_path_factory.mktemp("visdom"), "/plots/live")
    host = real.address.partition("/plots")[0]
    flags = {
        "in the address": ["--display_server", f"{host}/plots/live/"],
        "by --display_port": ["--display_server", "http://127.0.0.1/plots/live", "--display_port", real.port],
        "without http": ["--display_server", f"127.0.0.1:{real.port}/plots/live"],
        "a page of it": ["--display_server", f"{host}/plots/live/env/main"],
    }[how]
    ended = command("train", *FEW, *flags, "--name", "run")
    real_windows = real.windows("main", lambda f: has("1", 6)(f) and {"2", "3"} <= f.keys())
    real.stop()
    assert ended.code == 0, ended.err
    assert about(ended.out + ended.err) == [f"live plots: {real.address}/env/main"]
    assert real_windows.keys() == {"1", "2", "3"}


@pytest.mark.parametrize("host", ["localhost", "localhost:{}", "127.0.0.1", "http://localhost:{}/"])
def test_a_server_is_found_by_host_alone(command, server, host):
    port = ["--display_port", server.port] if "{}" not in host else []
    env = f"found_{len(host)}"
    flags = ["--display_server", host.format(server.port), *port, "--display_env", env]
    ended = command("train", *FEW, *flags, "--name", "run")
    assert ended.code == 0, ended.err
    address = f"http://{'127.0.0.1' if host[0] == '1' else 'localhost'}:{server.port}"
    assert about(ended.out + ended.err) == [f"live plots: {address}/env/{env}"]
    assert server.windows(env, lambda f: "1" in f).keys() >= {"1"}


# --- --start_visdom


def started_by(run, server, tmp_path):
    """The id of the process that a run says it started, which is checked for what it holds."""
    for line in run.stdout:
        if "live plots" in line:
            break
    said = re.fullmatch(
        r"live plots: (\S+)/env/main \(visdom was started and stays after the run; "
        r"stop it with: kill (\d+)\)(; its page stays empty .*)?\n",
        line,
    )
    assert said and said[1] == server, line
    return int(said[2])


def held(pid):
    """What a process has open."""
    return [os.readlink(handle) for handle in Path(f"/proc/{pid}/fd").iterdir() if handle.is_symlink()]


@pytest.fixture
def own_home(tmp_path):
    """Environment of a run whose server keeps its memory there; the server is killed in the end."""
    (tmp_path / "home").mkdir()
    begun = []
    yield SimpleNamespace(env={"HOME": str(tmp_path / "home")}, begun=begun)
    for pid in begun:
        os.kill(pid, signal.SIGKILL)


def test_a_started_server_outlives_the_run_and_serves_the_next(start, tmp_path, own_home):
    """It listens on this machine only, has its own session, and holds neither pipes nor the lock of the run."""
    if importlib.util.find_spec("visdom") is None:
        pytest.skip(NOT_THERE)
    port = free_port()
    address = f"http://localhost:{port}"
    flags = ["--start_visdom", "--display_port", port]
    first = start("train", *LONG, *flags, "--name", "run", **own_home.env)
    pid = started_by(first, address, tmp_path)
    own_home.begun.append(pid)
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    assert words[0] == sys.executable and "-bind_local" in words and words[words.index("-port") + 1] == str(port)
    assert os.getsid(pid) == pid != os.getsid(first.pid)
    log = str(tmp_path / "checkpoints" / "run" / "visdom.log")
    ours = [name for name in held(pid) if name.startswith(("pipe:", str(tmp_path)))]
    assert ours == [log, log]
    os.kill(first.pid, signal.SIGTERM)
    out, err = first.communicate()  # which fails if another process holds a pipe
    assert first.returncode == 143, err
    assert about(out) == []  # nothing more was said
    points = len(rows(tmp_path / "checkpoints" / "run")[0])
    found = windows(address, "main", lambda f: "1" in f)
    assert len(lines(found["1"])["G_L1"][0]) <= points and {"2", "3"} <= found.keys()
    second = start("train", *FEW, *flags, "--name", "again", **own_home.env)
    out, err = second.communicate()
    assert second.returncode == 0, err
    assert about(out) == [f"live plots: {address}/env/main (the server was already running)"]


@pytest.fixture
def launched(monkeypatch):
    """Every server process that a run in this process starts, visdom installed or not: what it runs is replaced."""
    begun, real = [], visdom_server.subprocess.Popen

    def launch(*args, **more):
        begun.append(real(*args, **more))
        return begun[-1]

    monkeypatch.setattr(visdom_server.subprocess, "Popen", launch)
    monkeypatch.setattr(visdom_server, "find_spec", lambda name: SimpleNamespace(origin="visdom/__init__.py"))
    yield begun
    for process in begun:
        process.kill()
        process.wait()


def test_a_server_silent_until_the_runs_end_is_not_left_behind(command, launched, monkeypatch):
    monkeypatch.setattr(visdom_server, "RUN_CODE", "import threading; threading.Event().wait()")
    ended = command("train", *FEW, "--start_visdom", "--display_port", free_port(), "--name", "run")
    assert ended.code == 0, ended.err
    assert about(ended.out + ended.err) == [
        "live plots off: the run ended before the visdom server that it started showed anything"
    ]
    assert len(launched) == 1 and launched[0].wait(timeout=30) == -signal.SIGTERM


def test_a_server_that_ends_at_once_is_told_with_its_last_words(command, launched, monkeypatch, tmp_path):
    monkeypatch.setattr(visdom_server, "RUN_CODE", "raise SystemExit('no room\\x1b[2J')")
    monkeypatch.setattr(visdom_sender, "CLOSE_TIMEOUT_S", 60)  # starting Python takes longer than this run
    ended = command("train", *FEW, "--start_visdom", "--display_port", free_port(), "--name", "run")
    assert ended.code == 0, ended.err
    log = Path("checkpoints/run/visdom.log")
    why = f"the visdom server exited at once (no room\\x1b[2J); see {log}"
    assert [line for line in about(ended.out + ended.err) if "off" in line] == [f"live plots off: {why}"]
    assert launched[0].returncode == 1


def test_another_program_on_the_port_is_left_alone(command, fake, launched):
    """A server that is not visdom."""
    one = fake(http("200 OK", b"welcome!\n"))
    ended = command("train", *FEW, "--start_visdom", "--display_port", one.port, "--name", "run")
    assert ended.code == 0, ended.err
    why = f"port {one.port} is in use by another program; choose another --display_port"
    assert about(ended.out + ended.err) == [f"live plots off: {why}"]
    assert launched == []


def test_no_server_is_started_for_another_machine(command, launched, monkeypatch):
    monkeypatch.setattr(visdom_sender, "post", lambda *args: "")  # nobody is asked
    flags = ["--start_visdom", "--display_server", "http://plots.invalid", "--display_allow_remote"]
    ended = command("train", *FEW, *flags, "--name", "run")
    assert ended.code == 0, ended.err
    why = "--start_visdom starts a server on this machine, but --display_server is http://plots.invalid:8097"
    assert about(ended.out + ended.err) == [f"live plots off: {why}"]
    assert launched == []


# --- servers that misbehave (more of them in tests/faults/test_visdom.py)


def test_proxies_of_the_environment_are_not_used(command, fake, monkeypatch):
    proxy, one = fake(closing), fake(closing)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    ended = command("train", *FEW, *one.flags, "--name", "run")
    assert ended.code == 0
    assert one.hits.acquire(timeout=30) and not proxy.hits.acquire(blocking=False)


@pytest.mark.parametrize("off", [["--display_id", 0], ["--display_id", -1], ["--displays", "console"]], ids=str)
def test_visdom_can_be_turned_off(command, fake, off):
    one = fake(closing)
    ended = command("train", *FEW, *one.flags, "--name", "run", *off)
    assert ended.code == 0 and about(ended.out + ended.err) == []
    assert not one.hits.acquire(blocking=False)


@pytest.mark.parametrize("answer", [dripping, dripping_from_the_start, stalling, flooding], ids=lambda f: f.__name__)
def test_an_answer_has_its_time_as_a_whole(fake, answer):
    """Every byte of it comes well within the time; a time-out for each read would never end."""
    one = fake(answer)
    watchdog = threading.Timer(60, one.released.set)
    watchdog.start()
    try:
        said = post(one.address, "/events", b"{}", seconds=0.5)
        assert answer is flooding and said == "x" * MAX_RESPONSE_BYTES
    except TimeoutError:
        assert answer is not flooding
    watchdog.cancel()
    assert not one.released.is_set()


def test_a_long_message_has_more_time(recorder, monkeypatch):
    """A sheet of large pictures on a slow line is no failure."""
    times = []
    monkeypatch.setattr(visdom_sender, "post", lambda address, path, data, seconds: times.append(seconds) or "1")
    sender = Sender(recorder.address, "main", 1)
    for size in (10, 10_000_000):
        assert sender._post("1", b"x" * size)
    assert times == pytest.approx([visdom_sender.POST_TIMEOUT_S, visdom_sender.POST_TIMEOUT_S + 40], abs=0.1)


# --- the sender


def text(words):
    return lambda: {"data": [{"type": "text", "content": words}], "opts": {}}


def test_a_returning_server_gets_the_newest_of_every_window(recorder, monkeypatch, capsys):
    monkeypatch.setattr(visdom_sender, "RETRY_DELAY_S", 0.01)
    recorder.failures = 3
    port = recorder.server_address[1]
    sender = Sender(f"http://127.0.0.1:{port}", "exp", port)
    for number in range(5):  # before the thread runs: older contents are replaced
        sender.send("1", text(f"first {number}"))
        sender.send("2", text(f"second {number}"))
    assert sender.waiting.keys() == {"1", "2"}
    sender.start()
    assert recorder.done.acquire(timeout=30) and recorder.done.acquire(timeout=30)
    sender.close()
    assert not sender.thread.is_alive()
    good = {body["win"]: body for _, body in recorder.bodies[3:]}
    assert {win: body["data"][0]["content"] for win, body in good.items()} == {"1": "first 4", "2": "second 4"}
    assert {path for path, _ in recorder.bodies} == {"/events"} and {body["eid"] for _, body in recorder.bodies} == {
        "exp"
    }
    assert capsys.readouterr().out.splitlines() == [
        f"live plots off: no visdom server at http://127.0.0.1:{port}; start one with: visdom -port {port} -bind_local",
        f"live plots: http://127.0.0.1:{port}/env/exp",
    ]


def test_waiting_messages_are_sent_before_the_end(recorder):
    port = recorder.server_address[1]
    sender = Sender(f"http://127.0.0.1:{port}", "main", port)
    sender.start()
    for number in range(20):
        sender.send(str(number % 4), text(str(number)))
    sender.close()
    last = {body["win"]: body["data"][0]["content"] for _, body in recorder.bodies}
    assert last == {"0": "16", "1": "17", "2": "18", "3": "19"}
    versions = [body["version"] for _, body in recorder.bodies]
    assert versions == sorted(versions)


def test_a_server_started_anew_gets_every_window(recorder, monkeypatch):
    """Also those that were sent to the one before and have not changed since."""
    monkeypatch.setattr(visdom_sender, "RETRY_DELAY_S", 0.01)
    sender = Sender(recorder.address, "main", 1)
    sender.start()
    for window in "123":
        sender.send(window, text(f"words {window}"))
    for _ in range(3):
        assert recorder.done.acquire(timeout=30)
    recorder.failures = len(recorder.bodies) + 1
    sender.send("1", text("newer"))
    for _ in range(3):
        assert recorder.done.acquire(timeout=30)
    sender.close()
    again = {body["win"]: body["data"][0]["content"] for _, body in recorder.bodies[recorder.failures :]}
    assert again == {"1": "newer", "2": "words 2", "3": "words 3"}


def test_a_server_back_at_the_runs_end_is_asked_once_more(recorder, monkeypatch):
    """While it rests after a refusal, which costs no time to meet again."""
    refusing, posts = threading.Event(), []

    def refused_once(address, path, data, seconds):
        posts.append(address)
        if len(posts) == 1:
            refusing.set()
            raise ConnectionRefusedError
        return post(address, path, data, seconds)

    monkeypatch.setattr(visdom_sender, "post", refused_once)
    sender = Sender(recorder.address, "main", 1)
    sender.start()
    sender.send("1", text("last"))
    assert refusing.wait(30)
    sender.close()
    assert [body["data"][0]["content"] for _, body in recorder.bodies] == ["last"]


def test_a_server_that_comes_and_goes_is_told_a_few_times(recorder, monkeypatch, capsys):
    monkeypatch.setattr(visdom_sender, "RETRY_DELAY_S", 0.001)
    sender, often = Sender(recorder.address, "main", 1), threading.Event()
    turns = iter(range(1000))

    def every_other(window, data):
        turn = next(turns, 1000)
        if turn > 5 * visdom_sender.MAX_MESSAGES:
            often.set()
        return turn % 2 == 0

    monkeypatch.setattr(sender, "_post", every_other)
    sender.start()
    for number in range(5):
        sender.send(str(number), text("x"))
    assert often.wait(30)
    sender.close()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == visdom_sender.MAX_MESSAGES and said[-1].endswith("; further messages are suppressed")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_window_that_cannot_be_made_does_not_end_the_others(recorder):
    """If one image cannot be made, the curves are still sent."""
    port = recorder.server_address[1]
    sender = Sender(f"http://127.0.0.1:{port}", "main", port)

    def bad():
        raise ZeroDivisionError

    sender.send("1", bad)
    sender.send("2", text("fine"))
    sender.start()
    sender.close()
    assert [body["win"] for _, body in recorder.bodies] == ["2"]


def test_closing_what_was_never_started_is_nothing():
    Sender("http://127.0.0.1:1", "main", 1).close()


# --- the contents


def display(tmp_path, **changes):
    o = SimpleNamespace(**FLAGS | changes)
    return VisdomDisplay(o, tmp_path)


def content(sink, window):
    """What the newest message for a window holds, as it would be sent."""
    return json.loads(json.dumps(sink.sender.waiting[window](), allow_nan=False))


def test_values_that_are_no_numbers_are_gaps(tmp_path):
    sink, at = display(tmp_path), Progress(epoch_size=10)
    for value in (1.0, float("nan"), float("inf"), 2.0):
        at.advance(1, 0.1, 0.1)
        sink.losses(at, {"G": value} | ({"late": 5.0} if value == 2.0 else {}))
    traces = {t["name"]: (t["x"], t["y"]) for t in content(sink, "1")["data"]}
    x = pytest.approx([1.1, 1.2, 1.3, 1.4])
    assert traces == {"G": (x, [1.0, None, None, 2.0]), "late": (x, [None, None, None, 5.0])}


def test_long_curves_are_thinned_and_keep_their_ends(tmp_path):
    sink, at = display(tmp_path), Progress(epoch_size=10**6)
    for _ in range(10 * MAX_POINTS):
        at.advance(1, 0.1, 0.1)
        sink.losses(at, {"G": float(at.samples)})
    (trace,) = content(sink, "1")["data"]
    assert MAX_POINTS / 2 <= len(trace["x"]) == len(trace["y"]) <= MAX_POINTS and trace["y"] == sorted(trace["y"])
    stride = sink.curves.stride
    assert trace["y"][0] <= stride and trace["y"][-1] >= 10 * MAX_POINTS - stride


def test_pictures_of_other_channels_send_nothing(tmp_path):
    sink = display(tmp_path)
    sink.images(Progress(), {})
    assert sink.sender.waiting == {}


def test_a_message_is_what_it_was_when_it_was_sent(tmp_path):
    """It is made in another thread, while training goes on."""
    sink, at = display(tmp_path), Progress(epoch_size=10)
    at.advance(1, 0.1, 0.1)
    sink.losses(at, {"G": 1.0})
    first = sink.sender.waiting["1"]
    at.advance(1, 0.1, 0.1)
    sink.losses(at, {"G": 2.0})
    assert first()["data"][0]["y"] == [1.0]


def test_labels_and_titles_are_escaped(tmp_path):
    sink = display(tmp_path, name="<b>&")
    grey = np.zeros((4, 4, 1), np.uint8)
    sink.images(Progress(), {"<script>alert(1)</script>": grey, 'a"b': grey, "c&d": grey})
    html = content(sink, "3")["data"][0]["content"]
    assert re.findall(r"<td>(.*?)</td>", html) == ["&lt;script&gt;alert(1)&lt;/script&gt;", 'a"b', "c&amp;d"]
    assert "<script" not in html


def test_the_label_table_has_the_rows_of_the_grid():
    html = table_window("t", list("abcde"), 2)["data"][0]["content"]
    assert [re.findall(r"<td>(.)</td>", row) for row in html.split("</tr>")[:-1]] == [["a", "b"], ["c", "d"], ["e"]]


def test_a_grid_holds_every_picture_in_its_place():
    """Grey and coloured, large and small, two in a row; the rest is white."""
    shapes = [(4, 6, 3), (3, 5, 1), (4, 2, 3)]
    arrays = [np.full(shape, 10 * (n + 1), np.uint8) for n, shape in enumerate(shapes)]
    sheet = make_grid(arrays, 2)
    assert sheet.shape == (12, 16, 3) and sheet.dtype == np.uint8
    expected = np.full((12, 16, 3), 255, np.uint8)
    expected[0:4, 0:6], expected[0:3, 8:13], expected[6:10, 0:2] = 10, 20, 30
    assert np.array_equal(sheet, expected)
    assert make_grid(arrays, 9).shape == (6, 24, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_travels_without_loss(channels):
    array = np.random.default_rng(1).integers(0, 256, (5, 10, channels), dtype=np.uint8)
    window = image_window("title", array, 200)
    _, _, data = window["data"][0]["content"]["src"].partition(",")
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert np.array_equal(found.reshape(array.shape), array)
    assert window["opts"] == {"title": "title", "width": 200, "height": 100}


def test_a_plot_has_a_legend_and_a_trace_for_each_loss():
    window = plot_window("t", [1.0, 2.0], {"G": [0.5, None], "D": [1.0, 2.0]})
    assert [trace["name"] for trace in window["data"]] == ["G", "D"] and window["layout"]["showlegend"]


def test_metrics_have_a_window_that_goes_on_after_resuming(tmp_path):
    """One plot below the other over whole epochs, and a gap for what is no number."""
    earlier = {"epoch": 1, "metrics": {"L1": [0.5, None, 4], "<fid>": [90.0, 1.0, 4]}}
    (tmp_path / "losses.jsonl").write_text(json.dumps(earlier) + "\n")
    sink = display(tmp_path, display_id=7)
    sink.sender.start = lambda: None
    sink.start(Progress())
    values = {"L1": Result(0.25, None, 4), "<fid>": Result(float("nan"), None, 4)}
    sink.metrics(Progress(epoch=2), Report(Row(2, 9, values), {}, {}))
    window = content(sink, "7_metrics")
    assert [(trace["name"], trace["x"], trace["y"], trace["yaxis"]) for trace in window["data"]] == [
        ("L1", [1, 2], [0.5, 0.25], "y"), ("&lt;fid&gt;", [1, 2], [90.0, None], "y2")]  # fmt: skip
    (low, high), (other_low, other_high) = (window["layout"][axis]["domain"] for axis in ("yaxis", "yaxis2"))
    assert high == 1 and low > other_high > other_low > 0 and window["opts"]["height"] > 300


def test_lines_keep_the_order_and_so_the_colours_of_the_losses(tmp_path):
    sink = display(tmp_path)
    sink.losses(Progress(), dict.fromkeys("ZYXWVUT", 0.0))
    assert [trace["name"] for trace in content(sink, "1")["data"]] == list("ZYXWVUT")


@pytest.mark.parametrize(("given", "port", "address"), [
    ("http://localhost", None, "http://localhost:8097"), ("localhost", None, "http://localhost:8097"),
    ("localhost", 9, "http://localhost:9"), ("localhost:9", None, "http://localhost:9"),
    ("host.example.org", None, "http://host.example.org:8097"), ("http://host:9/", 8, "http://host:9"),
    ("HTTPS://host", None, "https://host:8097"), ("https://host/plots", None, "https://host/plots"),
    ("https://host/plots/", 8097, "https://host:8097/plots"), ("http://host/a/b", 9, "http://host:9/a/b"),
    ("http://host:9/plots", 8, "http://host:9/plots"), ("http://host:9/env/main", None, "http://host:9"),
    ("http://host:9/plots/env/x", None, "http://host:9/plots"), ("http://[::1]:9", None, "http://[::1]:9"),
    ("[::1]", 9, "http://[::1]:9"), (" localhost ", None, "http://localhost:8097"), ("localhost:", 9,
    "http://localhost:9"), ("not an address", 9, "not an address:9"), ("ftp://localhost", 9, "ftp://localhost:9"),
    ("http://[", 9, "http://[:9"), ("file:///etc", 9, "file:///etc:9"),
])  # fmt: skip
def test_an_address_may_lack_its_scheme_or_hold_its_port(given, port, address):
    assert server_address(given, port or 8097, port is not None) == address


@pytest.mark.parametrize(("address", "port"), [
    ("http://localhost:8097", 8097), ("http://host/plots", 80), ("https://host/plots", 443), ("http://[::1]:9", 9),
    ("not an address:7", 5), ("http://[:7", 5),
])  # fmt: skip
def test_the_port_of_an_address(address, port):
    assert port_of(address, 5) == port


# addresses to which nothing is sent
HERE = [
    "http://localhost:8097",
    "http://LOCALHOST:1",
    "http://127.0.0.1:1",
    "http://[::1]:1",
    "http://127.8.9.1:1",
    "http://a.localhost:1",
    f"http://{socket.gethostname()}:1",
    "not an address:8097",
    "http://[:1",
]
ELSEWHERE = [
    "http://192.0.2.7:8097",
    "http://localhost.example.org:1",
    "http://localhost@example.org:1",
    "http://127.0.0.1.example.org:1",
    "https://example.org:1",
    "http://[2001:db8::1]:1",
    "http://10.0.0.3:1",
]


@pytest.mark.parametrize("address", HERE + ELSEWHERE)
def test_which_addresses_are_this_machines(address):
    assert is_local(address) is (address in HERE)
