"""A visdom server that is missing, dies, hangs or is malicious does not affect the run."""

import hashlib
import os
import re
import signal
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from displays import visdom_sender, visdom_server
from displays.loss_log import MAX_POINTS
from displays.visdom import MAX_ENVIRONMENT_CHARS, VisdomDisplay, environment_name
from displays.visdom_server import ServerError
from tests.support.training_runs import rows
from tests.support.visdom_servers import (
    FEW,
    LONG,
    RealServer,
    about,
    ask,
    babbling,
    closing,
    dripping,
    dripping_from_the_start,
    fakes,
    flooding,
    free_port,
    http,
    lines,
    needs_page_scripts,
    never,
    retry_at_once,
    stalling,
)
from util.progress import Progress

# --- F85-F90: live plots (visdom)

FLAGS = {"print_freq": 1, "display_freq": 1, "display_id": 1, "display_ncols": 4, "name": "run", "display_winsize": 64,
         "display_server": "http://127.0.0.1", "display_port": 1, "display_env": "main", "start_visdom": False,
         "display_allow_remote": False}  # fmt: skip
RUN = [*FEW, "--name", "run", "--overwrite"]


@pytest.fixture
def fake():
    """fake(answer) -> a running server; all are stopped at the end."""
    with fakes() as start:
        yield start


@pytest.fixture
def real(tmp_path_factory):
    """A real visdom server."""
    server = RealServer(tmp_path_factory.mktemp("visdom"))
    yield server
    server.stop()


def bits(tmp_path):
    """The trained weights of the run, and what was logged of it, without times."""
    folder = tmp_path / "checkpoints" / "run"
    weights = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("latest_net_?.pth"))]
    assert len(weights) == 2
    return weights, [(row["step"], row["losses"]) for row in rows(folder)[0]]


@pytest.mark.fault(85)
def test_a_missing_visdom_server_is_one_line(command, tmp_path):
    """No server listens, or the address is invalid: one line with the command that starts a server; weights are equal
    in all bits.
    """
    assert command("train", *RUN, "--display_id", 0).code == 0
    undisturbed = bits(tmp_path)
    for address in ("http://localhost", "not an address", "ftp://localhost", "file:///etc", "http://["):
        port = free_port()
        ended = command("train", *RUN, "--display_server", address, "--display_port", port)
        assert ended.code == 0, ended.err
        start = f"start one with: visdom -port {port} -bind_local"
        assert about(ended.out + ended.err) == [
            f"live plots off: no visdom server at {address.rstrip('/')}:{port}; {start}"
        ]
        assert bits(tmp_path) == undisturbed


@pytest.mark.fault(85)
def test_a_missing_visdom_package_is_one_line_with_the_remedy(command, monkeypatch):
    """--start_visdom without the package visdom: one line says how to install it; no process is started, exit 0."""
    monkeypatch.setattr(visdom_server, "find_spec", lambda name: None)
    monkeypatch.setattr(visdom_server.subprocess, "Popen", None)
    ended = command("train", *RUN, "--start_visdom", "--display_port", free_port())
    assert ended.code == 0, ended.err
    install = "visdom is not installed; install it with: python scripts/setup/install_visdom.py"
    assert about(ended.out + ended.err) == [f"live plots off: {install}"]


@pytest.mark.fault(85)
def test_a_server_is_started_once_for_this_machine_alone(command, monkeypatch):
    """--start_visdom starts a server that ends at once: it is started once, without a shell, for this machine only; one
    line.
    """
    launched = []

    def launch(words, **more):
        launched.append((words, more))
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(visdom_server.subprocess, "Popen", launch)
    monkeypatch.setattr(visdom_server, "find_spec", lambda name: SimpleNamespace(origin="visdom/__init__.py"))
    monkeypatch.setattr(visdom_sender, "RETRY_DELAY_S", 0.01)
    port = free_port()
    ended = command("train", *RUN, "--start_visdom", "--display_port", f"{port}")
    assert ended.code == 0, ended.err
    assert len(about(ended.out + ended.err)) == 1
    [(words, more)] = launched
    assert isinstance(words, list) and "-bind_local" in words and words[words.index("-port") + 1] == str(port)
    assert not more.get("shell") and more["start_new_session"] and "_scripts" not in " ".join(words)


@pytest.mark.fault(86)
def test_a_server_that_dies_and_comes_back_shows_the_whole_curve(start, real, tmp_path, record_property):
    """visdom's server is killed with -9 during a run, then a new, empty one starts: one line for each, and all points
    are shown.
    """
    training = start("train", *LONG, *real.on("main"), "--name", "run", before=retry_at_once)
    said = []

    def until(beginning):
        for line in training.stdout:
            if "live plots" in line or "visdom" in line:
                said.append(line.strip())
                assert line.startswith(beginning)
                return

    until("live plots: ")
    real.windows("main", lambda f: {"1", "2", "3"} <= f.keys())
    real.stop()
    until("live plots lost: no visdom server at ")
    real.start()
    until("live plots: ")
    found = real.windows("main", lambda f: {"1", "2", "3"} <= f.keys())
    assert {"1", "2", "3"} <= found.keys()
    x, _ = lines(found["1"])["G_L1"]
    os.kill(training.pid, signal.SIGTERM)
    out, err = training.communicate()
    assert training.returncode == 128 + signal.SIGTERM, err
    assert len(said) == 3 and about(out + err) == [] and "Traceback" not in out + err
    logged = [row["at"] for row in rows(tmp_path / "checkpoints" / "run")[0]]
    assert x == pytest.approx(logged[: len(x)], abs=1e-6) and x[0] == pytest.approx(4 / 3)
    record_property("points of the curve that a new visdom server shows", f"{len(x)} of {len(x)}")


@pytest.mark.fault(87)
@pytest.mark.parametrize("answer", [never, dripping, dripping_from_the_start], ids=lambda f: f.__name__)
def test_a_server_that_never_ends_its_answer_delays_nothing(command, fake, tmp_path, monkeypatch, answer):
    """The server accepts a request and is silent, or sends one byte at a time: the run ends without waiting for it,
    after one request.
    """
    assert visdom_sender.CLOSE_TIMEOUT_S <= 2
    monkeypatch.setattr(visdom_sender, "POST_TIMEOUT_S", 1000)  # only the farewell's patience may end the wait
    one = fake(answer)
    watchdog = threading.Timer(100, one.released.set)  # a run that waited for its server ends here, and fails
    watchdog.start()
    ended = command("train", *RUN, *one.flags)
    watchdog.cancel()
    assert not one.released.is_set()
    assert ended.code == 0, ended.err
    assert len(rows(tmp_path / "checkpoints" / "run")[0]) == 6
    assert one.hits.acquire(timeout=30) and not one.hits.acquire(blocking=False)
    assert about(ended.out + ended.err) == []  # it may still answer


@pytest.mark.fault(87)
def test_messages_that_wait_for_a_hanging_server_are_bounded(fake, tmp_path, full, record_property):
    """Thousands of images and losses wait for a server that never answers: at most two are kept for each window."""
    one = fake(never)
    sink = VisdomDisplay(SimpleNamespace(**FLAGS | {"display_port": one.port}), tmp_path)
    sink.start(at := Progress(epoch_size=1000))
    alive, most, number = weakref.WeakSet(), 0, 20_000 if full else 2_000

    class Counted(np.ndarray):
        """An array that a set can hold."""

        __hash__ = object.__hash__

    for _ in range(number):
        at.advance(1, 0.1, 0.1)
        sink.losses(at, {"G": 1.0, "D": 2.0})
        array = np.zeros((512, 512, 3), np.uint8).view(Counted)
        alive.add(array)
        sink.images(at, {"fake_B": array})
        del array
        most = max(most, len(alive))
    assert one.hits.acquire(timeout=30)
    sink.close()
    assert sink.sender.waiting.keys() <= {"1", "2", "3"} and len(sink.curves.x) <= MAX_POINTS
    assert most <= 3
    record_property(f"pictures held in memory, of {number:,} for a visdom server that hangs", most)


INVALID = {
    "a gigabyte": flooding,
    "interim answers without end": stalling,
    "another protocol": babbling,
    "hanging up": closing,
    "an error": http("500 Internal Server Error", b"oops"),
    "another page": http("200 OK", b"welcome!\n"),
    "JSON cut short": http("200 OK", b'{"win": "1'),
    "JSON nested deeply": http("200 OK", b"[" * 10**6),
    "terminal codes": http("200 OK", b"\x1b[2J\x1b]0;owned\x07"),
    "commands": http("200 OK", b'{"command": "save", "data": ["main"], "eid": "main", "event_type": "KeyPress"}'),
    "an upgrade to a socket": http("101 Switching Protocols", b"\x81\x12{\"command\": \"x\"}",
                                   "Upgrade: websocket", "Connection: Upgrade"),
    "a status that is none": http("-200 OK", b"1"),
    "headers without end": http("200 OK", b"1", *[f"X-{n}: {'y' * 1000}" for n in range(1000)]),
}  # fmt: skip


@pytest.mark.fault(88)
def test_answers_of_a_malicious_server_are_ignored(command, fake, tmp_path, monkeypatch, record_property):
    """The server answers with a gigabyte, invalid JSON, commands, sockets or terminal codes: the run ends the same,
    with one line.
    """
    monkeypatch.setattr(visdom_sender, "POST_TIMEOUT_S", 0.5)  # what never ends is found out before the run does
    assert command("train", *RUN, "--display_id", 0).code == 0
    undisturbed = bits(tmp_path)
    for name, answer in INVALID.items():
        one = fake(answer)
        ended = command("train", *RUN, *one.flags)
        assert ended.code == 0, (name, ended.err)
        start = f"start one with: visdom -port {one.port} -bind_local"
        assert about(ended.out + ended.err) == [f"live plots off: no visdom server at {one.address}; {start}"], name
        assert "\x1b" not in ended.out + ended.err and "owned" not in ended.out
        assert bits(tmp_path) == undisturbed, name
        assert one.sent < 2**27, name  # of a gigabyte, next to nothing was taken
    record_property("malicious answers of a visdom server", f"{len(INVALID)} tried, all ignored")


@pytest.mark.fault(88)
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_redirections_are_not_followed(command, fake, status):
    """The server redirects the run to another address: that address is never requested."""
    elsewhere = fake(closing)
    one = fake(http(status, b"", f"Location: {elsewhere.address}/events"))
    ended = command("train", *RUN, *one.flags)
    assert ended.code == 0 and len(about(ended.out + ended.err)) == 1
    assert one.hits.acquire(timeout=30) and not elsewhere.hits.acquire(blocking=False)


@pytest.mark.fault(88)
def test_the_run_only_ever_posts_windows(command, fake):
    """A run only posts windows and opens no WebSocket, so a server cannot send commands to it."""
    requests = []

    def noting(connection, fake):
        requests.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")

    ended = command("train", *RUN, *fake(noting).flags)
    assert ended.code == 0
    heads = [request.partition(b"\r\n\r\n")[0].decode() for request in requests]
    assert heads and all(head.startswith("POST /events HTTP/1.1\r\n") for head in heads)
    assert not any(word in head.lower() for head in heads for word in ("upgrade", "cookie", "authorization"))


SCRIPT = "window.hit = 1"
HOSTILE = [f"<img src=x onerror='{SCRIPT}'>", f"<script>{SCRIPT}</script>", f"<a href='javascript:{SCRIPT}'>press</a>",
           f"<svg onload='{SCRIPT}'>", f'"><b onmouseover="{SCRIPT}">', f"$\\href{{javascript:{SCRIPT}}}{{press}}$",
           "a & b", "&lt;i&gt;"]  # fmt: skip
# what hostile text could become, and the texts that are shown
FOUND = """() => ({
    hit: window.hit,
    cells: [...document.querySelectorAll("td")].map(cell => cell.textContent),
    legend: [...document.querySelectorAll(".legendtext")].map(name => name.textContent),
    made: document.querySelectorAll("#app script, #app svg[onload], [onerror], [onmouseover], a[href^='javascript']"
                                    + ", [*|href^='javascript'], td *, mjx-container").length,
})"""


@pytest.mark.fault(89)
def test_hostile_names_are_shown_as_they_are(browser, real, tmp_path, record_property):
    """Labels, losses and a run's name contain HTML, scripts or formulas: visdom's page shows them as text and runs
    none.
    """
    needs_page_scripts()
    o = SimpleNamespace(**FLAGS | {"display_port": real.port, "name": "".join(HOSTILE), "display_env": "a/../b"})
    sink = VisdomDisplay(o, tmp_path)
    sink.start(at := Progress(epoch_size=10))
    for _ in range(2):
        at.advance(1, 0.1, 0.1)
        sink.losses(at, dict.fromkeys(HOSTILE, 1.0))
    picture = np.zeros((4, 4, 3), np.uint8)
    sink.images(at, dict.fromkeys(HOSTILE, picture))
    sink.sheets(at, dict.fromkeys(HOSTILE, picture))
    sink.close()
    page = browser.new_page()
    page.set_default_timeout(120_000)
    alerts = []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    page.goto(f"{real.address}/env/{environment_name(o.display_env)}")
    page.wait_for_function(f"document.querySelectorAll('.legendtext').length == {len(HOSTILE)}")
    page.wait_for_function(f"document.querySelectorAll('td').length == {len(HOSTILE)}")
    page.wait_for_function(f"document.querySelectorAll('#app img').length == {len(HOSTILE) + 1}")
    found = page.evaluate(FOUND)
    page.close()
    texts = [text.replace("$", "\uff04").replace("\\", "\uff3c") for text in HOSTILE]
    assert found == {"hit": None, "cells": texts, "legend": texts, "made": 0}
    assert alerts == []
    record_property("hostile names on visdom's page", f"{3 * len(HOSTILE) + 1} shown, 0 scripts run")


@pytest.mark.fault(89)
@pytest.mark.parametrize(
    ("given", "used"),
    [("main", "main"), ("my-run_2.b", "my-run_2.b"), ("a/b", "a_b"), ("../../etc", "__.._etc"), ("..", "_"), (".", "_"),
     ("a\nb", "a_b"), ("a b?c#d%e&f", "a_b_c_d_e_f"), ("<script>", "_script_"), ("", "main"), ("\x1b[2J", "__2J"),
     ("C:\\x", "C__x"), ("é", "_"), ("x" * 500, "x" * MAX_ENVIRONMENT_CHARS), ("\0", "_")],
)  # fmt: skip
def test_names_of_environments_are_one_plain_word(given, used):
    """Environment names contain slashes, line breaks, ".." or other characters unsafe in an address or file name: they
    are replaced.
    """
    assert environment_name(given) == used
    assert re.fullmatch(r"[\w.-]+", environment_name(given), re.ASCII) and not environment_name(given).startswith(".")


@pytest.mark.fault(89)
def test_the_environment_that_is_named_is_the_one_shown(command, real):
    """--display_env is ../a b: visdom stores its plain form, and the link in the run's line leads to it."""
    ended = command("train", *RUN, *real.on("../a b"))
    assert ended.code == 0, ended.err
    assert about(ended.out + ended.err) == [f"live plots: {real.address}/env/__a_b"]
    assert ask(real.address, "/win_exists", {"win": "1", "eid": "__a_b"}) == "true"


REMOTE = "http://plots.example.org"


@pytest.mark.fault(90)
def test_a_server_elsewhere_is_warned_of_once(command, monkeypatch):
    """--display_server is another machine: one warning, then plots as usual; no warning with --display_allow_remote."""
    monkeypatch.setattr(visdom_sender, "post", lambda address, path, data, seconds: "")  # nobody is really asked
    ended = command("train", *RUN, "--display_server", REMOTE)
    assert ended.code == 0, ended.err
    warnings = [line for line in about(ended.out + ended.err) if line.startswith("warning")]
    assert warnings == [
        "warning: images and losses of this run leave this machine for the visdom server on "
        "plots.example.org; --display_allow_remote turns this warning off, "
        "--display_id 0 turns visdom off"
    ]
    for flags in (["--display_allow_remote"], ["--display_id", 0], ["--display_server", "http://localhost"]):
        ended = command("train", *RUN, "--display_server", REMOTE, *flags)
        assert ended.code == 0 and "leave this machine" not in ended.out + ended.err


@pytest.mark.fault(90)
def test_no_server_is_started_for_another_machine(tmp_path):
    """--start_visdom is given with a --display_server on another machine: refused in one line, and no server is
    started.
    """
    with pytest.raises(ServerError, match=r"this machine, but --display_server is http://plots\.example\.org:8097$"):
        visdom_server.LocalServer(f"{REMOTE}:8097", 8097, tmp_path / "log").start(lambda: False)
