"""Run small trainings through the command, and read their outputs: log rows, weights, history and page."""

import contextlib
import io
import json
import signal
import sys
from html.parser import HTMLParser

import torch

import test as test_script
import train
from cli.main import run_command
from data.loading.loader import Loader
from models.base import BaseModel
from options import store
from registry import discovery
from registry.kinds import PART_TABLES
from registry.lookup import entries, find, table
from tests.support.runs import Ended
from util import seeding

EVERY = {e.name: e.load() for e in entries("model")}
TRAINABLE = [name for name, model in EVERY.items() if model.phases is not BaseModel.phases]
DEMO = ["--dataroot", "demo", "--max_dataset_size", "5"]  # generated images, for any data layout


def build(o):
    """Return (loader, newly initialised model), as train.py makes them."""
    dataset = find("dataset", o.dataset_mode)(o)
    spec = dataset.spec()
    store.fill_from_dataset(o, spec)
    seeding.seed_everything(o.seed, o.deterministic, one_size="crop" in o.preprocess)
    model = find("model", o.model)(o, spec)
    return Loader(dataset, o, shuffle=not o.serial_batches), model


def rows(folder):
    """Return (rows of steps, rows of epochs) of losses.jsonl."""
    every = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    return [r for r in every if "losses" in r], [r for r in every if "mean" in r]


def weights(folder, prefix="latest"):
    """Return {network: state_dict} of the exported weights."""
    files = sorted(folder.glob(f"{prefix}_net_*.pth"))
    return {f.stem.split("_net_")[1]: torch.load(f, map_location="cpu", weights_only=True) for f in files}


@contextlib.contextmanager
def plugin_files(folder, **sources):
    """Yield a folder with plug-in files; remove what they added to this process's tables at the end."""
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    tables = [table(kind) for kind in PART_TABLES]
    kept = [(dict(t), dict(t.origins)) for t in tables]
    yield folder
    for t, (entries_before, origins) in zip(tables, kept, strict=True):
        dict.clear(t)
        dict.update(t, entries_before)
        t.origins = origins
    for name in sources:
        sys.modules.pop(discovery.module_name((folder / f"{name}.py").resolve()), None)


def history(folder):
    """Return the content of a run's history.js without times."""
    text = (folder / "web" / "history.js").read_text()
    assert text.startswith("ganvas.take({") and text.endswith("});\n")
    told = json.loads(text[len("ganvas.take(") : -len(");\n")])
    return {name: value for name, value in told.items() if name not in ("updated", "left", "spent")}


class Page(HTMLParser):
    """The title, headings, images and elements of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.images, self.texts, self._in = [], [], {"title": [], "h3": [], "p": []}, None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "img":
            self.images.append(dict(attrs)["src"])

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in in self.texts and data.strip():
            self.texts[self._in].append(data.strip())


def run_in(folder, script, *argv):
    """Run train.py or test.py in this process with `folder` as working directory, for module-scoped fixtures."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    discovery.clear()
    main = {"train": train.main, "test": test_script.main}[script]
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command(main, [str(word) for word in argv])
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return Ended(code, out.getvalue(), err.getvalue())
