"""The training page of a run, web/index.html."""

import json
from pathlib import Path
from typing import Any

from pages.document import Row, write_page
from util.display import Pictures, Sink
from util.files import replace_text
from util.pixels import save_image
from util.position import Position


class Html(Sink):
    """web/index.html: the newest pictures of every epoch, the last epoch on top."""

    def __init__(self, o: Any, folder: Path):
        self.image_freq = o.update_html_freq
        self.width, self.name = o.display_winsize, o.name
        self.page, self.pictures = folder / "web" / "index.html", folder / "web" / "images"
        self.pictures.mkdir(parents=True, exist_ok=True)
        self.kept = folder / "web" / "labels.json"
        self.labels: list[str] = []  # as the model shows them
        self.sheet_labels: list[str] = []

    def start(self, at: Position) -> None:
        if at.step:  # a continued run goes on with the rows of its page
            self.labels, self.sheet_labels = _labels(self.kept)

    def images(self, at: Position, pictures: Pictures) -> None:
        self._add(at.epoch, pictures, self.labels)

    def sheets(self, at: Position, pictures: Pictures) -> None:
        self._add(at.epoch, pictures, self.sheet_labels)

    def _add(self, newest: int, pictures: Pictures, known: list[str]) -> None:
        if new := [label for label in pictures if label not in known]:
            known += new
            replace_text(self.kept, json.dumps([self.labels, self.sheet_labels]) + "\n")
        for label, array in pictures.items():
            save_image(array, self.pictures / f"epoch{newest:03d}_{label}.png")
        rows: list[Row] = []
        for epoch in range(newest, 0, -1):
            for labels, own_width in ((self.labels, False), (self.sheet_labels, True)):
                files = [(label, f"epoch{epoch:03d}_{label}.png") for label in labels]
                files = [(label, file) for label, file in files if (self.pictures / file).is_file()]
                if files:
                    rows.append(Row(f"epoch [{epoch}]", files, [], own_width))
        write_page(self.page, f"Experiment name = {self.name}", rows, self.width, refresh=10)


def _labels(path: Path) -> tuple[list[str], list[str]]:
    """Return the labels of pictures and of sheets that a page of the run has had; none where nobody wrote them down."""
    try:
        pictures, sheets = json.loads(path.read_text(encoding="utf-8"))
        return [str(label) for label in pictures], [str(label) for label in sheets]
    except (OSError, ValueError, TypeError):  # an earlier version's run, or a file spoilt: they come with the pictures
        return [], []
