"""Write a folder for a web host: a generator, and a page on which it runs in the browser."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dominate import tags

from pages.document import ASSETS, make_document, write_page
from util.disk_space import write_error

PLACE, GENERATOR, RUNTIME = "generator", "generator.onnx", "runtime"
STYLES = (f"{PLACE}/page.css",)
SCRIPTS = ("dom.js", *(f"{PLACE}/{name}.js" for name in
           ("pixels", "labels", "noise", "engine", "easel", "translate", "sample", "app")))  # fmt: skip
WORKER = f"{PLACE}/worker.js"
POLICY = {"script-src": "'wasm-unsafe-eval'", "connect-src": "'self'", "worker-src": "'self'", "img-src": "blob:"}


def write_generator_page(folder: Path, name: str, facts: Mapping[str, Any], runtime: list[Path], credit: str) -> None:
    """Write index.html, worker.js and runtime/ beside generator.onnx; raise EnvironmentFault if the disk refuses.

    name: of the run. facts: what the scripts read. runtime: files of ONNX Runtime. credit: a line about the data.
    """
    what = "draw with it" if {"image", "labels"} & set(facts["inputs"]) else "its images"
    page = make_document(f"{name}: {what}", STYLES, SCRIPTS, dict(facts), POLICY)
    page.head.add(tags.link(rel="icon", href="data:,"))
    with page:
        with tags.header():
            tags.h1(name, dir="auto")
            tags.p("This page needs JavaScript.", id="status", role="status")
        tags.main(id="place")
        tags.p("Everything runs in this browser; no picture leaves it.", cls="credit")
        if credit:
            tags.p(credit, cls="credit", dir="auto")
    try:
        (folder / RUNTIME).mkdir(parents=True, exist_ok=True)
        for file in runtime:
            shutil.copyfile(file, folder / RUNTIME / file.name)
        shutil.copyfile(ASSETS / WORKER, folder / "worker.js")
        write_page(folder / "index.html", page)
    except OSError as problem:
        raise write_error(folder, problem) from problem
