"""Shared fixtures: small images, commands run in this process or in a new one, and the optional shared data."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

from registry import lookup
from registry.kinds import PART_TABLES
from tests.support.images import picture
from tests.support.processes import Started
from tests.support.runs import ROOT, SHARED, Ended
from util import malloc

# tests do not depend on time
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")
torch.set_num_threads(1)  # with small networks, more threads only wait for each other


WHOLE_COMMANDS = {"command", "process", "start", "interpreter", "script"}  # fixtures of tests that run a command
# Files with the longest tests: they begin early, so that no worker waits for another's long test at the end.
LONG_FILES = ("test_killed.py", "test_disk.py", "test_state.py", "test_resume.py", "test_training_goes_wrong.py",
              "test_bench.py", "test_examples.py")  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the tests that run whole commands, and put the long files first."""
    for item in items:
        if WHOLE_COMMANDS & set(item.fixturenames):
            item.add_marker("command")
    items.sort(key=lambda item: item.path.name not in LONG_FILES)


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the long form of loops over faults (make faults)")
    parser.addoption("--installed", metavar="PYTHON", help="run public tests of the package in its environment")


@pytest.fixture
def full(request):
    """Return whether loops over faults run in their long form (--full)."""
    return request.config.getoption("--full")


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, driven by Playwright; tests open `browser.new_page()`."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("Chromium, which opens the pages, is not installed (Debian's package: chromium)")
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--no-first-run"]  # fmt: skip
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=quiet)
        yield chromium
        chromium.close()


@pytest.fixture
def unpaired(tmp_path):
    """A folder with trainA, trainB, testA and testB of 5, 4, 3 and 2 images."""
    for number, (folder, count) in enumerate((("trainA", 5), ("trainB", 4), ("testA", 3), ("testB", 2))):
        (tmp_path / "unpaired" / folder).mkdir(parents=True)
        for i in range(count):
            picture(100 * number + i).save(tmp_path / "unpaired" / folder / f"{i}.png")
    return tmp_path / "unpaired"


@pytest.fixture
def paired(tmp_path):
    """A folder with train and test of 5 and 3 pairs: A on the left, and its negative B on the right."""
    for number, (folder, count) in enumerate((("train", 5), ("test", 3))):
        (tmp_path / "paired" / folder).mkdir(parents=True)
        for i in range(count):
            left = np.asarray(picture(1000 + 100 * number + i))
            both = Image.fromarray(np.concatenate([left, 255 - left], axis=1))
            both.save(tmp_path / "paired" / folder / f"{i}.png")
    return tmp_path / "paired"


@pytest.fixture
def forty_pairs(tmp_path):
    """The folder data/train with 40 pairs A|B."""
    (tmp_path / "data" / "train").mkdir(parents=True)
    for number in range(40):
        picture(number, 96, 40).save(tmp_path / "data" / "train" / f"{number:02d}.png")
    return tmp_path / "data" / "train"


@pytest.fixture
def sides(tmp_path):
    """The folder data with trainA and trainB of 30 images each."""
    for side in "AB":
        (tmp_path / "data" / f"train{side}").mkdir(parents=True)
        for number in range(30):
            picture(number).save(tmp_path / "data" / f"train{side}" / f"{number:02d}.png")
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path):
    """A folder with image files at two depths, and with other files."""
    for name in ("b.png", "a.JPG", "sub/deep/c.tif"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(b"x")
    for name in (".hidden.png", "._b.png", "notes.txt", "png", "d.png.txt", "Thumbs.db"):
        (tmp_path / "data" / name).write_bytes(b"x")
    (tmp_path / "data" / "folder.png").mkdir()
    return tmp_path / "data"


@pytest.fixture
def files(tmp_path, paired, unpaired):
    """A folder with `paired` and `unpaired`, and with invalid files for options such as --config and --plugin."""
    (tmp_path / "bad.yaml").write_text("lr: [1\n  2: }")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "unknown.yaml").write_text("lamda_L1: 5\n")
    (tmp_path / "wrong.yaml").write_text("lr: fast\n")
    (tmp_path / "broken.py").write_text(
        "from models.base import BaseModel\n\n\nclass Broken(BaseModel):\n    x = 1 / 0\n"
    )
    return tmp_path


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run train.py or test.py in this process in an empty folder: command("train", "--model", ...) -> Ended."""
    monkeypatch.chdir(tmp_path)

    def run(script: str, *argv: object) -> Ended:
        import test as test_script
        import train as train_script
        from cli.main import run_command
        from registry import discovery

        discovery.clear()
        capsys.readouterr()
        module = {"train": train_script, "test": test_script}[script]
        try:
            code = run_command(module.main, [str(word) for word in argv])
        except SystemExit as ended:  # --help and --list
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    yield run
    malloc.release_freed_memory()  # usually the command's process ends here, but this one continues with other tests


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the datasets `pairs` and `sides`, and two trained runs: p2p (batch norm, dropout) and cyc."""
    from tests.support.tested_runs import trained

    return trained(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def tested(command, runs, tmp_path):
    """tested(*flags): run test.py, which must succeed, on `runs`, with results in this test's folder."""

    def run(*argv: object) -> SimpleNamespace:
        ended = command("test", "--checkpoints_dir", runs / "checkpoints", *argv)
        assert ended.code == 0, ended.err
        (page,) = (tmp_path / "results").rglob("index.html")
        return SimpleNamespace(out=ended.out, page=page, folder=page.parent, images=page.parent / "images")

    return run


@pytest.fixture
def start(tmp_path):
    """Start train.py or test.py in a new process in an empty folder: start("train", ...) -> Started."""
    begun: list[Started] = []

    def begin(script: str, *argv: object, before=None, **env: str) -> Started:
        begun.append(Started(script, argv, tmp_path, env, before))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()


@pytest.fixture
def process(start):
    """Run train.py or test.py in a new process in an empty folder: process("train", ...) -> Ended."""

    def run(script: str, *argv: object, before=None, timeout: float = 240, **env: str) -> Ended:
        begun = start(script, *argv, before=before, **env)
        out, err = begun.communicate(timeout)
        return Ended(begun.returncode, out, err)

    return run


@pytest.fixture
def interpreter(tmp_path):
    """Like `process`, but with a new interpreter, for tests that depend on how Python starts."""

    def run(script: str, *argv: object, timeout: float = 240) -> Ended:
        done = subprocess.run(
            [sys.executable, str(ROOT / f"{script}.py"), *map(str, argv)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def script(tmp_path, monkeypatch, capsys):
    """Run a command of scripts/ in this process in an empty folder: script("split", "--input", ...) -> Ended."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *argv: object) -> Ended:
        from cli.main import run_command

        capsys.readouterr()
        try:
            code = run_command(importlib.import_module(f"scripts.{name}").main, [str(word) for word in argv])
        except SystemExit as ended:  # --help
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return run


@pytest.fixture
def tables_as_they_were(tmp_path, monkeypatch):
    """Work in the test's folder; afterwards remove what its plug-ins added to tables, modules and paths."""
    from registry import discovery, lookup

    monkeypatch.chdir(tmp_path)
    tables = [lookup.table(kind) for kind in lookup.PART_TABLES]
    kept = [(dict(table), dict(table.origins)) for table in tables]
    modules, paths = set(sys.modules), list(sys.path)
    discovery.list_installed.cache_clear()
    yield
    for table, (entries, origins) in zip(tables, kept, strict=True):
        table.clear()
        dict.update(table, entries)
        table.origins = origins
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    sys.path[:] = paths
    discovery.list_installed.cache_clear()


@pytest.fixture
def write(tmp_path):
    """Write a file in the test's folder: write("a/b.py", text) -> its path."""

    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return put


@pytest.fixture
def package(write, monkeypatch):
    """An installed package with entry points: a model that trains, one that raises, a generator."""
    from tests.support.plugins import EMPTY_MODEL, SMALLEST

    site = write("site/extra_gans/__init__.py", "").parent.parent
    write("site/extra_gans/smallest.py", SMALLEST)
    write("site/extra_gans/raising.py", EMPTY_MODEL.format("Raising") + "raise RuntimeError('no luck')\n")
    write(
        "site/extra_gans/nets.py",
        "from networks import GENERATORS\nGENERATORS['wide'] = 'extra_gans.nets:wide'\n"
        "def wide(o, input_nc, output_nc):\n    return 'wide'\n",
    )
    write("site/extra_gans-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: extra-gans\nVersion: 1.0\n")
    write(
        "site/extra_gans-1.0.dist-info/entry_points.txt",
        "[ganvas.plugins]\nsmall = extra_gans.smallest\nraising = "
        "extra_gans.raising:Raising\nnets = extra_gans.nets\n[console_scripts]\nother = extra_gans:x\n",
    )
    monkeypatch.syspath_prepend(str(site))
    return site


@pytest.fixture
def web(monkeypatch):
    """A local web server (tests/support/bad_http_server.py), without proxies and without pauses between retries."""
    from serialization.download import fetch
    from tests.support.bad_http_server import Web

    monkeypatch.setattr(fetch, "RETRY_PAUSE_S", 0)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = Web()
    yield server
    server.close()


@pytest.fixture
def shared():
    """The folder of real images and recorded traces beside the checkout; without it, tests that need it are skipped."""
    if not SHARED.is_dir():
        pytest.skip("../shared with real images and recorded traces does not exist")
    return SHARED


@pytest.fixture(autouse=True)
def _draws_of_its_own(request):
    """Seed a module's RNG with each test's name, so that its numbers do not depend on earlier tests."""
    if rng := getattr(request.module, "RNG", None):
        rng.bit_generator.state = np.random.default_rng(list(request.node.name.encode())).bit_generator.state


@pytest.fixture(autouse=True)
def _clean_tables():
    """Remove a test's plug-ins, and what they added to tables, so that the next test imports them again."""
    tables = [lookup.table(kind) for kind in PART_TABLES]
    before, modules = [(dict(rows), dict(rows.origins)) for rows in tables], set(sys.modules)
    yield
    for rows, (entries, origins) in zip(tables, before, strict=True):
        rows.clear()
        rows.update(entries)
        rows.origins.clear()
        rows.origins.update(origins)
    for name in set(sys.modules) - modules:
        if name.startswith("ganvas_plugin_"):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def _quiet_globals(monkeypatch):
    """Restore plug-ins and signal handlers after each test; retry writes to a full disk without waiting."""
    import signal

    from registry import discovery
    from util import disk_space

    monkeypatch.setattr(disk_space, "RETRY_WAIT_S", 0)
    kept = {
        s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD)
    }
    yield
    discovery.clear()
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture
def always_halved(monkeypatch):
    """Use Winograd's algorithm, with half of the multiplications, for convolutions of any size."""
    from networks.cpu import winograd_conv

    for name in ("MIN_CHANNELS", "MIN_ROW_PIXELS", "MIN_MULTIPLICATIONS"):
        monkeypatch.setattr(winograd_conv, name, 1)
