"""Make what the site has beside the pages of docs/: its first page from README.md, the flags, the Python interface."""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mkdocs.structure.files import File

from options.fields import Flag, flags_of
from options.parse import FLAG_CLASSES
from registry.lookup import entries, find

TITLES = {"Common": "train.py and test.py", "Data": "Images", "Train": "train.py", "Toolbox": "Tools for every model",
          "Test": "test.py"}  # fmt: skip
OBJECTS = {
    "Train and apply": ("ganvas.run_training.train", "ganvas.run_training.training", "ganvas.finished_run.Run",
                        "ganvas.loading.load", "ganvas.trained_generator.TrainedGenerator", "ganvas.pictures.Pictures"),
    "For plug-ins": ("models.base.BaseModel", "models.base.Phase", "registry.training_position.Now", "networks.GANLoss",
                     "networks.generator", "networks.discriminator", "networks.initialised", "options.fields.option",
                     "data.base.BaseDataset", "data.base.Spec", "util.image_pool.ImagePool"),
}  # fmt: skip


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    pages = {"index.md": first_page(), "flags.md": flags_page(), "api.md": objects_page()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Show a link to a file that is not in docs/ as the file's name."""
    folder = posixpath.dirname(page.file.src_uri)

    def shown(link: re.Match) -> str:
        path = posixpath.normpath(posixpath.join(folder, link[2].partition("#")[0]))
        is_outside = path.startswith("..") or path.endswith((".txt", ".py"))
        return link[1] if is_outside else link[0]

    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)\s]+)\)", shown, markdown)


def first_page() -> str:
    """Return README.md with links as they are in docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\((?!https?:|#|docs/)([^)]+)\)", r"](../\1)", text)
    return text.replace("](docs/", "](")


def flags_page() -> str:
    """Return a page with every flag, its default and its meaning."""
    lines = ["# Flags", "", "`python train.py --model NAME --help` prints those of one model."]
    holders = dict.fromkeys(holder for pair in FLAG_CLASSES.values() for holder in pair)
    for holder in holders:
        lines += table(f"{TITLES[holder.__name__]}", flags_of(holder, ""))
    for model in entries("model"):
        holder = getattr(find("model", model.name), "Options", None)
        if holder and (flags := flags_of(holder, "")):
            lines += table(f"--model {model.name}", flags)
    return "\n".join(lines) + "\n"


def objects_page() -> str:
    """Return a page with classes and functions, which mkdocstrings fills from their docstrings."""
    lines = ["# Python", "", "[From Python](python.md) and [Your own GAN](plugins.md) show how these are used.", ""]
    for title, paths in OBJECTS.items():
        lines += [f"## {title}", "", *(f"::: {path}" for path in paths), ""]
    return "\n\n".join(lines) + "\n"


def table(title: str, flags: list[Flag]) -> list[str]:
    """Return the lines of a section."""
    rows = [f"| `--{flag.name}` | {default_text(flag)} | {cell(flag.meta['help'])} |" for flag in flags]
    return ["", f"## {title}", "", "| flag | default | |", "|---|---|---|", *rows]


def default_text(flag: Flag) -> str:
    """Return a default as the command line has it."""
    return "" if flag.default in ("", None, (), False) else f"`{flag.default}`"


def cell(text: str) -> str:
    """Return a text for a table's cell."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
