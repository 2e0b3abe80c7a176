"""Every kind of generator equals its export in a fresh process; a wrong export is refused and leaves no file."""

import pytest
import torch
from torch import nn

from inference.export import formats, verification
from inference.export.formats import FORMATS, check_format, write
from inference.export.generator_search import Generator
from inference.export.verification import Case, Verdict, export_verified, samples_of, two_sizes, verify
from tests.support.architectures import EXPORTED, item_of
from util.errors import EnvironmentFault, OptionError

EXACT = 1e-5
ONNX = pytest.param("onnx", marks=pytest.mark.extras)
# the other kinds in make test-slow, because an exporter takes seconds for each
QUICK = {"torch_export": ("resnet", "unet, grey", "stylegan2", "class"), "onnx": ("resnet", "class")}


def checked(name, items, folder):
    """Write and verify items in a format; return {kind: largest difference}."""
    if name == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    cases = []
    for number, item in enumerate(items.values()):
        file = folder / f"{number}{FORMATS[name].suffix}"
        write(name, item, file)
        cases.append(Case(name, item, file, samples_of(item, [])))
    verdicts = dict(zip(items, verify(cases), strict=True))
    assert {kind: v.error for kind, v in verdicts.items() if v.error} == {}
    assert all(len(v.differences) == 2 for v in verdicts.values())
    return {kind: v.largest for kind, v in verdicts.items()}


@pytest.mark.parametrize("name", ["torchscript", "torch_export", ONNX])
def test_each_kind_of_generator_equals_its_export(name, tmp_path):
    items = {kind: item_of(kind) for kind in QUICK.get(name, EXPORTED)}
    assert {kind: far for kind, far in checked(name, items, tmp_path).items() if far > EXACT} == {}
    sizes = {kind: len(set(two_sizes(item))) for kind, item in items.items() if item.takes_image}
    assert sizes == {kind: 1 if kind == "stylegan2" else 2 for kind in sizes}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch_export", "onnx"])
def test_all_kinds_equal_their_export(name, tmp_path):
    items = {kind: item_of(kind) for kind in EXPORTED}
    assert {kind: far for kind, far in checked(name, items, tmp_path).items() if far > EXACT} == {}


@pytest.mark.parametrize("name", ["torchscript", pytest.param("torch_export", marks=pytest.mark.slow),
                                  pytest.param("onnx", marks=pytest.mark.slow)])  # fmt: skip
def test_pixels_and_half_are_within_one_grey_level(name, tmp_path):
    kinds = "resnet", "unet", "class"
    items = {kind: item_of(kind, pixels=True) for kind in kinds}
    items |= {kind + ", half": item_of(kind, half=True) for kind in kinds}
    assert {kind: far for kind, far in checked(name, items, tmp_path).items() if far > 1 / 255} == {}


def wrong_tanh(monkeypatch):
    """Patch an operator to be wrong while a file is written."""
    right = FORMATS["torchscript"].write

    def written(item, path):
        with monkeypatch.context() as patch:
            patch.setattr(nn.Tanh, "forward", lambda self, x: 0.9 * torch.tanh(x))
            right(item, path)

    monkeypatch.setitem(FORMATS, "torchscript", formats.Format(".pt", (), written))


def test_a_wrong_export_is_refused_and_leaves_no_file(tmp_path, monkeypatch):
    wrong_tanh(monkeypatch)
    (tmp_path / "older.pt").write_text("an older one")
    with pytest.raises(EnvironmentFault, match=r"differs from the network by 0\.0\d+ of the range of values, more"):
        export_verified("torchscript", item_of("unet"), tmp_path / "older.pt", [])
    assert [path.name for path in tmp_path.iterdir()] == ["older.pt"]
    assert (tmp_path / "older.pt").read_text() == "an older one"


def test_a_kill_leaves_no_file_of_the_final_name(tmp_path, monkeypatch):
    """The name is given by a rename, the last step; what is interrupted before is removed where that is possible."""
    seen = []

    def stopped(cases):
        seen.extend(path.name for path in tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(verification, "verify", stopped)
    with pytest.raises(KeyboardInterrupt):
        export_verified("torchscript", item_of("class"), tmp_path / "G.pt", [])
    assert len(seen) == 1 and ".tmp." in seen[0] and list(tmp_path.iterdir()) == []


class Frozen32(nn.Module):
    """A network of one size: it adds a map of 32x32."""

    def forward(self, image):
        return (image + torch.linspace(-1, 1, 1024).view(32, 32)).tanh()


class Decides(nn.Module):
    """A network whose Python decides by the size, which a trace does not record."""

    def forward(self, image):
        return image.tanh() if image.shape[2] == 32 else -image.tanh()


@pytest.mark.parametrize(("net", "why"), [(Frozen32(), "accepts no other size"), (Decides(), "differs by")])
def test_a_network_of_one_size_is_exported_for_it_alone(net, why, tmp_path, monkeypatch):
    item = item_of("resnet")
    item.generator = Generator("G", net, item.generator.inputs)

    def by_hand(cases):  # without a process
        loaded = torch.jit.load(cases[0].file)
        far = [float((loaded(*inputs) - net(*inputs)).abs().max()) / 2 for inputs in cases[0].samples]
        return [Verdict(far)]

    monkeypatch.setattr(verification, "verify", by_hand)
    written, verdict, reason = export_verified("torchscript", item, tmp_path / "G.pt", [])
    assert written.free == "N" and verdict.is_right and why in reason
    loaded = torch.jit.load(tmp_path / "G.pt")
    loaded(torch.zeros(3, 3, 32, 32))
    with pytest.raises(RuntimeError, match="expand"):
        loaded(torch.zeros(1, 3, 36, 32))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxruntime" else True)
    with pytest.raises(EnvironmentFault, match=r"'onnxruntime': is needed .* not installed; pip install onnxruntime"):
        check_format("onnx")


def test_a_python_without_torchscript_is_told_what_to_use(monkeypatch):
    monkeypatch.setattr(formats.sys, "version_info", (3, 14, 0))
    with pytest.raises(EnvironmentFault, match=r"in Python 3\.14; use --format torch_export, or onnx"):
        check_format("torchscript")
    with pytest.raises(OptionError, match="weights alone"):
        check_format("safetensors", pixels=True)
