"""Live plots: what a real visdom server shows of a run, and that no server, however it behaves, disturbs training."""

import base64
import contextlib
import importlib.util
import io
import json
import re
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SMALL
from PIL import Image
from test_train import DEMO, rows

from displays import visdom as visdom_client
from displays.visdom import MAX_POINTS, Sender, VisdomDisplay, grid, picture, plot, table
from util.position import Position

place = SMALL.index("--display_id")  # which turns visdom off
FEW = [*SMALL[:place], *SMALL[place + 2 :], *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", 2,
       "--n_epochs_decay", 0, "--max_dataset_size", 3, "--print_freq", 1, "--display_freq", 1]  # fmt: skip
LABELS = ["real_A", "fake_B", "real_B"]


def free_port():
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(address, path, body):
    """The server's answer to a JSON request, as text; None if it gives none."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.read().decode()
    except (OSError, urllib.error.HTTPError):
        return None


def about(ended):
    """The lines a run printed about live plots."""
    return [line for line in (ended.out + ended.err).splitlines() if "visdom" in line or "live plots" in line]


# --- a real server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A visdom server in a process of its own."""
    if importlib.util.find_spec("visdom") is None:
        pytest.skip("visdom is not installed: python scripts/install_visdom.py")
    port = free_port()
    code = "from visdom.server.run_server import main; main()"
    folder = tmp_path_factory.mktemp("visdom")
    with open(folder / "log.txt", "w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "-port", str(port), "-bind_local", "-env_path", f"{folder}/"],
            stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 90
            while post(address, "/win_exists", {"win": "x"}) != "false":
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
                assert process.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()
            yield SimpleNamespace(address=address, port=port)
        finally:
            process.kill()
            process.wait()


def windows(server, env, complete):
    """All windows of an environment, once they are as the test needs them: the last may still be on their way."""
    deadline = time.monotonic() + 30
    while True:
        text = post(server.address, "/win_data", {"eid": env, "win": None})
        found = json.loads(text) if text and text.startswith("{") else {}
        if complete(found) or time.monotonic() > deadline:
            return found
        threading.Event().wait(0.05)


def lines(window):
    """{loss: (x, y)} of a window with curves."""
    return {trace["name"]: (trace["x"], trace["y"]) for trace in window["content"]["data"]}


def shown(window):
    """The pixels of a window with a picture."""
    kind, _, data = window["content"]["src"].partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def on(server, env):
    return ["--display_server", "http://127.0.0.1", "--display_port", server.port, "--display_env", env]


def has(window, points):
    """Whether a window of curves has so many points."""
    return lambda found: window in found and {len(x) for x, _ in lines(found[window]).values()} == {points}


def test_sheets_get_a_window_of_their_own(command, server, tmp_path):
    """The grid of classes, the same pixels as on the page."""
    argv = [*SMALL, "--model", "cgan", "--load_size", 32, "--max_dataset_size", 4, "--sample_epoch_freq", 1]
    argv += ["--n_epochs", 1, "--n_epochs_decay", 0, "--display_id", 1, "--name", "zoo", *on(server, "sheets")]
    ended = command("train", *argv)
    assert ended.code == 0, ended.err
    found = windows(server, "sheets", lambda f: "101" in f)
    assert found["101"]["title"] == "zoo grid, epoch 1"
    page = np.asarray(Image.open(tmp_path / "checkpoints/zoo/web/images/epoch001_grid.png"))
    assert page.shape == (4 * 34, 10 * 34, 3)
    assert np.array_equal(shown(found["101"]), page)


def test_a_server_shows_curves_pictures_and_labels_and_after_resuming_the_whole_curve(command, server, tmp_path):
    ended = command("train", *FEW, *on(server, "first"), "--name", "run")
    assert ended.code == 0, ended.err
    assert about(ended) == [f"live plots: {server.address}/env/first"]
    folder = tmp_path / "checkpoints" / "run"
    found = windows(server, "first", lambda f: has("1", 6)(f) and {"2", "3"} <= f.keys())
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
    assert (layout["xaxis"]["title"], layout["yaxis"]["title"]) == ("epoch", "loss")
    sheet = shown(found["2"])
    for place, label in enumerate(LABELS):  # in a row of at most four, with two pixels between them
        page = np.asarray(Image.open(folder / "web" / "images" / f"epoch002_{label}.png"))
        assert np.array_equal(sheet[:32, 34 * place : 34 * place + 32], page)
    assert sheet.shape == (34, 34 * 3, 3) and (sheet[32:] == 255).all() and (sheet[:, 32:34] == 255).all()
    assert re.findall(r"<td>(.*?)</td>", found["3"]["content"]) == LABELS

    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 3)
    assert ended.code == 0, ended.err
    found = windows(server, "first", has("1", 9))
    for name, (x, y) in lines(found["1"]).items():
        assert x == pytest.approx([1 + n / 3 for n in range(1, 10)], abs=1e-6)
        assert y == pytest.approx([row["losses"][name] for row in rows(folder)[0]])


def test_a_window_for_each_picture_without_columns(command, server, tmp_path):
    """--display_id is the first of them; the environment's name is made one that visdom can show."""
    ended = command("train", *FEW, *on(server, "a/b c?"), "--name", "run", "--display_ncols", 0, "--display_id", 5,
                    "--display_winsize", 100)  # fmt: skip
    assert ended.code == 0, ended.err
    found = windows(server, "a_b_c_", lambda f: has("5", 6)(f) and {"6", "7", "8"} <= f.keys())
    assert found.keys() == {"5", "6", "7", "8"}
    for window, label in zip("678", LABELS, strict=True):
        assert found[window]["title"] == label and found[window]["width"] == 100
        page = np.asarray(Image.open(tmp_path / f"checkpoints/run/web/images/epoch002_{label}.png"))
        assert np.array_equal(shown(found[window]), page)


# --- servers that misbehave


class Fake:
    """A server on a port of this machine, each connection answered by a function in a thread of its own."""

    def __init__(self, answer):
        def handle(handler):
            self.hits.release()
            with contextlib.suppress(OSError):
                answer(handler.request, self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = allow_reuse_address = True
            block_on_close = False

        self.hits = threading.Semaphore(0)
        self.released = threading.Event()  # set when the test is over: until then a stubborn server goes on
        self.sent = 0
        handlers = type("Handler", (socketserver.BaseRequestHandler,), {"handle": handle})
        self.server = Server(("127.0.0.1", 0), handlers)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def fake():
    """fake(answer) -> a running server; all are stopped at the end."""
    started = []

    def start(answer):
        started.append(Fake(answer))
        return started[-1]

    yield start
    for one in started:
        one.close()


def never(connection, fake):
    """Accept, and say nothing."""
    fake.released.wait(100)


def dripping(connection, fake):
    """A gigabyte, a byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    while not fake.released.wait(0.05):
        connection.sendall(b"x")


def flooding(connection, fake):
    """A gigabyte, as fast as it is taken."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    while not fake.released.is_set() and fake.sent < 2**30:
        fake.sent += connection.send(b"x" * 65536)


def closing(connection, fake):
    """Hang up."""


def babbling(connection, fake):
    """Another protocol."""
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 100)


def failing(connection, fake):
    """An error of the server's."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops")


def another(connection, fake):
    """A web server that is no visdom."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nwelcome!\n")


@pytest.mark.parametrize(
    "answer", [never, dripping, flooding, closing, babbling, failing, another], ids=lambda f: f.__name__
)
def test_training_ends_well_whatever_the_server_does(command, fake, tmp_path, answer):
    """The server goes on misbehaving until after the run: its end did not wait for the server's."""
    one = fake(answer)
    watchdog = threading.Timer(60, one.released.set)  # a run that waited for its server ends here, and fails
    watchdog.start()
    ended = command("train", *FEW, "--display_server", "http://127.0.0.1", "--display_port", one.port, "--name", "run")
    watchdog.cancel()
    assert not one.released.is_set()
    assert ended.code == 0, ended.err
    assert one.hits.acquire(timeout=30)  # it was asked
    assert len(rows(tmp_path / "checkpoints" / "run")[0]) == 6
    said = about(ended)
    if answer in (never, dripping):  # it may still be waiting for the first answer
        assert len(said) <= 1
    else:
        assert len(said) == 1
    assert all(line.startswith(f"live plots off: no visdom server at http://127.0.0.1:{one.port};") for line in said)
    assert one.sent < 2**27  # of the flood next to nothing was taken


@pytest.mark.parametrize("status", [302, 307])
def test_redirections_are_not_followed(command, fake, status):
    """A server that the user did not name is not told anything."""
    elsewhere = fake(closing)

    def redirecting(connection, fake):
        connection.recv(65536)
        place = f"http://127.0.0.1:{elsewhere.port}/events"
        answer = f"HTTP/1.1 {status} Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(answer.encode())

    one = fake(redirecting)
    ended = command("train", *FEW, "--display_server", "http://127.0.0.1", "--display_port", one.port, "--name", "run")
    assert ended.code == 0 and len(about(ended)) == 1
    assert one.hits.acquire(timeout=30) and not elsewhere.hits.acquire(blocking=False)


def test_proxies_of_the_environment_are_not_used(command, fake, monkeypatch):
    proxy, one = fake(closing), fake(closing)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    ended = command("train", *FEW, "--display_server", "http://127.0.0.1", "--display_port", one.port, "--name", "run")
    assert ended.code == 0
    assert one.hits.acquire(timeout=30) and not proxy.hits.acquire(blocking=False)


@pytest.mark.parametrize(
    "address", ["http://localhost", "not an address", "ftp://localhost", "file:///etc", "http://["]
)
def test_nobody_there_or_no_address_at_all_is_one_line(command, tmp_path, address):
    ended = command("train", *FEW, "--display_server", address, "--display_port", free_port(), "--name", "run")
    assert ended.code == 0, ended.err
    assert len(about(ended)) == 1
    assert len(rows(tmp_path / "checkpoints" / "run")[0]) == 6


@pytest.mark.parametrize("off", [["--display_id", 0], ["--display_id", -1], ["--displays", "console"]], ids=str)
def test_visdom_can_be_turned_off(command, fake, off):
    one = fake(closing)
    ended = command(
        "train", *FEW, "--display_server", "http://127.0.0.1", "--display_port", one.port, "--name", "run", *off
    )
    assert ended.code == 0 and about(ended) == []
    assert not one.hits.acquire(blocking=False)


# --- the sender


class Recorder(BaseHTTPRequestHandler):
    """Answers as visdom does, but the first requests with an error."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append((self.path, body))
        good = len(self.server.bodies) > self.server.failures
        self.send_response(200 if good else 500)
        self.end_headers()
        self.wfile.write(body["win"].encode())
        if good:
            self.server.done.release()

    def log_message(self, *args):
        pass


@pytest.fixture
def recorder():
    """A server that keeps what it is sent; `failures` requests fail first."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        server.bodies, server.failures, server.done = [], 0, threading.Semaphore(0)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def text(words):
    return lambda: {"data": [{"type": "text", "content": words}], "opts": {}}


def test_a_server_that_comes_back_gets_the_newest_of_every_window(recorder, monkeypatch, capsys):
    monkeypatch.setattr(visdom_client, "RETRY", 0.01)
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


def test_what_waits_is_sent_before_the_end(recorder):
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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_window_that_cannot_be_made_does_not_end_the_others(recorder):
    """Whatever goes wrong in making one picture, the curves go on."""
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
    o = SimpleNamespace(print_freq=1, display_freq=1, display_id=1, display_ncols=4, name="run", display_winsize=64,
                        display_server="http://127.0.0.1", display_port=1, display_env="main")  # fmt: skip
    vars(o).update(changes)
    return VisdomDisplay(o, tmp_path)


def content(sink, window):
    """What the newest message for a window holds, as it would be sent."""
    return json.loads(json.dumps(sink.sender.waiting[window](), allow_nan=False))


def test_values_that_are_no_numbers_are_gaps(tmp_path):
    sink, at = display(tmp_path), Position(epoch_size=10)
    for value in (1.0, float("nan"), float("inf"), 2.0):
        at.advance(1, 0.1, 0.1)
        sink.losses(at, {"G": value} | ({"late": 5.0} if value == 2.0 else {}))
    traces = {t["name"]: (t["x"], t["y"]) for t in content(sink, "1")["data"]}
    x = pytest.approx([1.1, 1.2, 1.3, 1.4])
    assert traces == {"G": (x, [1.0, None, None, 2.0]), "late": (x, [None, None, None, 5.0])}


def test_long_curves_are_thinned_and_keep_their_ends(tmp_path):
    sink, at = display(tmp_path), Position(epoch_size=10**6)
    for _ in range(10 * MAX_POINTS + 1):
        at.advance(1, 0.1, 0.1)
        sink._add(at.samples, {"G": float(at.samples)})
        assert len(sink.x) == len(sink.lines["G"]) <= 2 * MAX_POINTS + 1
    assert sink.x[0] == 1 and sink.x[-1] == 10 * MAX_POINTS + 1
    assert sink.x == sink.lines["G"] == sorted(sink.x) and len(sink.x) >= MAX_POINTS


def test_a_message_is_what_it_was_when_it_was_sent(tmp_path):
    """It is made in another thread, while training goes on."""
    sink, at = display(tmp_path), Position(epoch_size=10)
    at.advance(1, 0.1, 0.1)
    sink.losses(at, {"G": 1.0})
    first = sink.sender.waiting["1"]
    at.advance(1, 0.1, 0.1)
    sink.losses(at, {"G": 2.0})
    assert first()["data"][0]["y"] == [1.0]


def test_labels_and_titles_are_escaped(tmp_path):
    sink = display(tmp_path, name="<b>&")
    grey = np.zeros((4, 4, 1), np.uint8)
    sink.images(Position(), {"<script>alert(1)</script>": grey, 'a"b': grey, "c&d": grey})
    html = content(sink, "3")["data"][0]["content"]
    assert re.findall(r"<td>(.*?)</td>", html) == ["&lt;script&gt;alert(1)&lt;/script&gt;", "a&quot;b", "c&amp;d"]
    assert "<script" not in html


def test_the_label_table_has_the_rows_of_the_grid():
    html = table("t", list("abcde"), 2)["data"][0]["content"]
    assert [re.findall(r"<td>(.)</td>", row) for row in html.split("</tr>")[:-1]] == [["a", "b"], ["c", "d"], ["e"]]


def test_a_grid_holds_every_picture_in_its_place():
    """Grey and coloured, large and small, two in a row; the rest is white."""
    shapes = [(4, 6, 3), (3, 5, 1), (4, 2, 3)]
    arrays = [np.full(shape, 10 * (n + 1), np.uint8) for n, shape in enumerate(shapes)]
    sheet = grid(arrays, 2)
    assert sheet.shape == (12, 16, 3) and sheet.dtype == np.uint8
    expected = np.full((12, 16, 3), 255, np.uint8)
    expected[0:4, 0:6], expected[0:3, 8:13], expected[6:10, 0:2] = 10, 20, 30
    assert np.array_equal(sheet, expected)
    assert grid(arrays, 9).shape == (6, 24, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_travels_without_loss(channels):
    array = np.random.default_rng(1).integers(0, 256, (5, 10, channels), dtype=np.uint8)
    window = picture("title", array, 200)
    _, _, data = window["data"][0]["content"]["src"].partition(",")
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert np.array_equal(found.reshape(array.shape), array)
    assert window["opts"] == {"title": "title", "width": 200, "height": 100}


def test_a_plot_has_a_legend_and_a_trace_for_each_loss():
    window = plot("t", [1.0, 2.0], {"G": [0.5, None], "D": [1.0, 2.0]})
    assert [trace["name"] for trace in window["data"]] == ["G", "D"] and window["layout"]["showlegend"]
