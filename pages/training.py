"""Write the training page: its HTML before scripts run, and the history that its script loads."""

import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from dominate import tags
from dominate.util import raw

from metrics import finite_or_none
from pages.document import make_document, to_embedded_json, write_page
from pages.rows import relative_url
from util.atomic_write import replace_text

STYLE_FILES, SCRIPT_FILES = ("curves.css", "training.css"), ("dom.js", "scroll.js", "curves.js", "evaluations.js",
                                                             "training.js")  # fmt: skip
STATIC_EPOCHS = 20  # epochs that the page shows without scripts
CELL_PADDING = 14  # pixels of a cell besides its image, as style.css has them
HIDDEN_LOSSES = ("lr",)  # curves that are hidden at first


def write_training(
    folder: Path, name: str, options: dict[str, str], given_flags: set[str], width: int, history: dict[str, Any]
) -> None:
    """Write index.html and history.js, each atomically; their size does not grow with the number of epochs.

    options: every flag with its value as text; given_flags: those that the user set; history: from
    `displays.html.History`.
    """
    replace_text(folder / "history.js", f"ganvas.take({to_embedded_json(history)});\n")
    page_data = {"name": name, "width": width, "hidden": HIDDEN_LOSSES, "history": history}
    options_section = _options_section(tuple(options.items()), frozenset(given_flags))
    page = make_document(f"Experiment name = {name}", STYLE_FILES, SCRIPT_FILES, page_data)
    with page:
        _add_header(name)
        with tags.section(id="health", hidden=True):
            tags.h2("Notes")
            tags.ul(id="notes")
        with tags.section():
            tags.h2("Losses")
            tags.div(id="curves")
        if history.get("metrics") is not None:
            _add_metrics(history["metrics"])
        _add_samples(history["samples"])
        with tags.section(id="pictures"):
            tags.h2("Every epoch")
            with tags.div(id="rows"):
                _add_epochs(history, width)
            with tags.div(id="pager", cls="tools", hidden=True):
                tags.button("newer", id="newer", type="button")
                tags.button("older", id="older", type="button")
        if (folder / "data.png").is_file():
            with tags.section():
                tags.h2("The data as the networks see it")
                tags.img(src="data.png", alt="A above, B below, after all preprocessing", loading="lazy")
        raw(options_section)
    write_page(folder / "index.html", page)


def write_measured_images(folder: Path, epoch: int, metrics: list[str], images: dict[str, dict[str, float]]) -> None:
    """Write metrics.js: the values of each image in an epoch's evaluation, {image: {metric: value}}."""
    columns = [name for name in metrics if any(name in values for values in images.values())]
    rows = [[name, *finite_or_none({c: values.get(c, math.nan) for c in columns}).values()]
            for name, values in images.items()]  # fmt: skip
    table = to_embedded_json({"epoch": epoch, "columns": columns, "rows": rows})
    replace_text(folder / "metrics.js", f"ganvas.takeImages({table});\n")


def _add_metrics(metrics: dict[str, Any]) -> None:
    """Add the newest values of --metrics, and places for what the script draws."""
    with tags.section(id="metrics", hidden=not metrics):  # until the first evaluation
        tags.h2("Metrics")
        tags.p(metrics.get("measured", ""), id="measured", cls="quiet")
        with tags.div(id="metriccharts"):
            pass
        with tags.noscript():
            for name, (value, _, _) in metrics.get("metrics", {}).items():
                epoch, best = metrics["best"].get(name, (0, None))
                tags.p(f"{name} {value}" + (f", best in epoch {epoch}: {best}" if epoch else ""))
        with tags.details(id="measuredimages", hidden=True):
            tags.summary("values of each image: ", tags.span("", id="imagecount"))
            with tags.div(cls="scroll"):
                tags.table(tags.tbody(id="imagevalues"))


def _add_header(name: str) -> None:
    with tags.header():
        tags.h1(f"Experiment name = {name}")
        tags.div("", id="state")
        tags.progress(id="progress", max="1", value="0", aria_label="completed share of the run")
        tags.div("", id="updated")
        tags.noscript("Curves, the slider over epochs and older epochs need JavaScript; all images are in images/.")


def _add_samples(samples: dict[str, Any]) -> None:
    """Add the images over time, which the script fills in, and before it runs the newest sheets."""
    sheets = {} if samples["files"] else samples["labels"]
    with tags.section(id="samples", hidden=not sheets):
        tags.h2("Generated from the same noise" if sheets else "Fixed samples")
        with tags.div(cls="tools"):
            tags.button("play", id="play", type="button")
            tags.input_(id="epoch", type="range", min="0", max="0", value="0", list="epochs", aria_label="epoch")
            tags.output("", id="chosen")
            tags.datalist(id="epochs")
        with tags.div(cls="scroll"), tags.table(), tags.tbody(id="samplerows"):
            for label, epochs in sheets.items():
                with tags.tr(), tags.td():
                    tags.img(src=relative_url("images/", f"epoch{epochs[-1]:03d}_{label}.png"), alt=label)
                    if len(sheets) > 1:
                        tags.p(label)


def _add_epochs(history: dict[str, Any], width: int) -> None:
    """Add the newest epochs in the reference's layout, for readers without scripts."""
    rows = history["rows"]
    newest = max([row[1] for row in rows], default=0)
    for epoch in range(newest, max(0, newest - STATIC_EPOCHS), -1):
        epoch_rows = [row for row in rows if row[0] <= epoch <= row[1] and (epoch - row[0]) % row[4] == 0]
        if not epoch_rows:
            continue
        with tags.section(data_epoch=str(epoch), data_tables=str(len(epoch_rows))):
            tags.h3(f"epoch [{epoch}]")
            for _, _, labels, wide, _ in epoch_rows:
                _add_table(epoch, labels, 0 if wide else width, history["sizes"])


def _add_table(epoch: int, labels: list[str], width: int, sizes: dict[str, list[int]]) -> None:
    """Add the images of an epoch, each `width` pixels wide if there is room (0: its own width)."""
    lines = label_lines(labels)
    with tags.table(style=f"max-width:{len(lines[0]) * (width + CELL_PADDING)}px" if width else ""):
        for line in lines:
            with tags.tr():
                for label in line:
                    source = relative_url("images/", f"epoch{epoch:03d}_{label}.png")
                    across, down = sizes.get(label, (0, 0))
                    size = {"width": across, "height": down} if across else {}
                    with tags.td():
                        with tags.a(href=source):
                            tags.img(src=source, loading="lazy", alt=label, **size)
                        tags.p(label)


def label_lines(labels: list[str]) -> list[list[str]]:
    """Return the labels in lines: one for each real image, if each line then has three or more of equal number.

    So images of CycleGAN are two lines, real_A, fake_B, rec_A, idt_B and real_B, fake_A, rec_B, idt_A; pix2pix has one.
    """
    starts = [i for i, label in enumerate(labels) if label.startswith("real_")]
    lines = [labels[i:j] for i, j in zip(starts, [*starts[1:], len(labels)])]
    even = {len(line) for line in lines} == {len(labels) // max(1, len(lines))}
    return lines if starts[:1] == [0] and even and len(lines[0]) >= 3 else [labels]


@lru_cache(maxsize=1)  # a run's options do not change, and its page is written often
def _options_section(options: tuple[tuple[str, str], ...], given_flags: frozenset[str]) -> str:
    with tags.section() as section:
        tags.h2("Options")
        _add_flag_list([(name, value) for name, value in options if name in given_flags])
        with tags.details():
            tags.summary("all options")
            _add_flag_list(options)
    return section.render(pretty=False)


def _add_flag_list(options: Iterable[tuple[str, str]]) -> None:
    with tags.dl():
        for name, value in options:
            tags.dt(f"--{name}")
            tags.dd(value)
