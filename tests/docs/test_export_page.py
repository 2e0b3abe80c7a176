"""docs/export.md: its Python runs on an exported file, and its commands and formats exist."""

import re
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.export_table import CLASS_GENERATOR, DOMAIN_GENERATOR
from inference.export.formats import FORMATS, write
from networks import GENERATORS
from scripts.export import WEB, make_parser
from tests.support.architectures import item_of
from tests.support.images import picture
from tests.support.runs import ROOT

PAGE = (ROOT / "docs" / "export.md").read_text()
WITH_PIXELS, WITHOUT, TORCHSCRIPT, OF_LABELS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.extras
def test_the_example_runs_through_onnx_runtime(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    picture(0, 50, 38).save("photo.png")
    shutil.copy("photo.png", "photo.jpg")
    item = item_of("unet", pixels=True)
    write("onnx", item, tmp_path / "generator.onnx")
    names = example(WITH_PIXELS)
    made = np.asarray(Image.open("picture.png"))
    expected = item.expected((torch.from_numpy(names["pixels"].copy()),)).numpy()
    assert np.abs(made.astype(int) - expected).max() <= 1
    write("onnx", item_of("unet"), tmp_path / "plain.onnx")
    session = names["onnxruntime"].InferenceSession("plain.onnx")
    again = example(WITHOUT, pixels=names["pixels"], np=np, session=session)["picture"]
    assert np.abs(again.astype(int) - made).max() <= 1


@pytest.mark.parametrize("kind", ["torchscript", "torch_export"])
def test_the_example_runs_in_torch(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    picture(0, 50, 38).save("photo.png")
    shutil.copy("photo.png", "photo.jpg")
    item = item_of("unet", pixels=True)
    write(kind, item, tmp_path / f"generator{FORMATS[kind].suffix}")
    text = TORCHSCRIPT
    if kind == "torch_export":
        text = re.sub(r"^network = .*", re.findall(r"`(network = .*?)`", PAGE)[0], text, flags=re.MULTILINE)
    names = example(text)
    expected = item.expected((torch.from_numpy(names["pixels"].copy()),)).numpy()
    assert np.abs(np.asarray(Image.open("picture.png")).astype(int) - expected).max() <= 1


def test_the_example_of_label_maps_gives_each_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save("label.png")
    inputs = [SimpleNamespace(name=name) for name in ("labels", "instances", "z")]
    session = SimpleNamespace(get_inputs=lambda: inputs, run=lambda _, given: (given,))
    given = example(OF_LABELS, np=np, Image=Image, session=session)["y"]
    assert {name: (value.shape, value.dtype.name) for name, value in given.items()} == {
        "labels": ((1, 8, 8), "int64"), "instances": ((1, 8, 8), "int64"), "z": ((1, 256), "float32"),
    }  # fmt: skip


def example(text, **names):
    """Run an example of the page in the current folder; return its names."""
    Path("example.py").write_text(text)
    return runpy.run_path("example.py", names)


def test_flags_and_formats_of_the_page_exist():
    flags = {flag for action in make_parser()._actions for flag in action.option_strings}
    elsewhere = {"--range", "--noise_nc", "--ema", "--init_from", "--export_format", "--dataroot", "--plugin", "--ngf",
                 "--page", "--label_nc", "--no_instance", "--use_vae", "--z_dim", "--instance_feat",
                 "--label_feat"}  # fmt: skip
    assert set(re.findall(r"--[a-z_]+", PAGE)) - flags - elsewhere == set()
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == {*FORMATS, WEB}


def test_the_table_holds_every_generator_and_no_error():
    table = PAGE[PAGE.index("<!-- table -->") : PAGE.index("<!-- end of the table -->")]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[3:]]
    assert {row[0] for row in rows} == {*GENERATORS, CLASS_GENERATOR, DOMAIN_GENERATOR}
    assert all(float(cell) < 1 / 255 for row in rows for cell in row[3:] if cell != "-")
