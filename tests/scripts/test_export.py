"""scripts/export.py writes what test.py gives, and refuses what it cannot do in one line, without a file."""

import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from cli.main import run_command
from data.labels import read_labels
from scripts import export
from serialization.safetensors_file import read_architecture
from tests.support.data_folders import save_label_maps
from tests.support.runs import SMALL, Ended
from tests.support.training_runs import run_in

PLUGIN = '''
"""pair: two networks make an image, in a file that is no part of GANvas."""
from torch import nn
from models.base import BaseModel, Phase


class Pair(BaseModel):
    dataset_mode = "aligned"
    averaged = ("E", "G")

    def __init__(self, o, spec):
        super().__init__()
        self.E, self.G = nn.Conv2d(spec.input_nc, 4, 3, padding=1), nn.Conv2d(4, spec.output_nc, 1)

    def phases(self):
        return [Phase("G", [self.E, self.G], self.loss)]

    def forward(self, batch):
        return {"real_A": batch["A"], "fake_B": self.G(self.E(batch["A"]).relu()).tanh()}

    def loss(self, batch, out):
        return {"G": (out["fake_B"] - batch["B"]).abs().mean()}
'''
TINY = [*SMALL, "--dataroot", "demo", "--max_dataset_size", 2, "--n_epochs", 1, "--n_epochs_decay", 0]
MAPS = ("label", "inst")
LABELS = ["--model", "pix2pixhd", "--dataroot", "city", "--label_nc", 2, "--no_vgg_loss"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with runs: cyc, and pair of a plug-in."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "pair.py").write_text(PLUGIN)
    save_label_maps(folder / "city")
    for name, flags in {
        "cyc": ["--model", "cycle_gan", "--netG", "resnet_4blocks"],
        "pair": ["--model", "pair", "--plugin", folder / "pair.py"],
        "labels": [*LABELS, "--num_D", 1, "--n_blocks_global", 1, "--preprocess", "none"],
        "features": [*LABELS, "--num_D", 1, "--n_blocks_global", 1, "--label_feat", "--n_downsample_E", 1],
        "z": ["--model", "gan", "--netG", "dcgan", "--latent_dim", 6],
    }.items():
        run_in(folder, "train", *TINY, *flags, "--name", name)
    return folder


@pytest.fixture
def exported(trained, monkeypatch, capsys):
    """exported(*argv) runs the script beside the runs -> Ended."""
    monkeypatch.chdir(trained)

    def run(*argv):
        capsys.readouterr()
        code = run_command(export.main, list(map(str, argv)))
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return run


def test_pixels_equal_test_py(exported, trained):
    ended = exported("--name", "cyc", "--format", "torchscript", "--pixels", "--direction", "BtoA")
    assert ended.code == 0, ended.err
    assert "note: Python 3.14 and later have no TorchScript" in ended.out
    assert "verified in a fresh process on images of demo/testB, 32x32 and 41x25" in ended.out
    net = torch.jit.load(trained / "results/cyc/export/latest_net_G_B_pixels.pt")
    run_in(trained, "test", "--name", "cyc", "--num_test", 1, "--gpu_ids", "-1")
    images = trained / "results/cyc/test_latest/images"
    real, fake = (np.asarray(Image.open(images / f"0000_{name}.png")) for name in ("real_B", "fake_A"))
    assert np.abs(net(torch.from_numpy(real.copy())).numpy().astype(int) - fake).max() <= 1


def test_a_file_of_label_maps_gives_what_test_py_gives(exported, trained):
    ended = exported("--name", "labels", "--format", "torchscript")
    assert ended.code == 0 and "labels, instances -> picture" in ended.out, ended.err
    net = torch.jit.load(trained / "results/labels/export/latest_net_G.pt")
    run_in(trained, "test", "--name", "labels", "--num_test", 1, "--gpu_ids", "-1")
    ids = [torch.from_numpy(read_labels(trained / f"city/test_{kind}/0.png"))[None] for kind in MAPS]
    made = ((net(*ids).clamp(-1, 1) + 1) * 127.5).round()[0].permute(1, 2, 0).detach().numpy()
    (fake,) = trained.glob("results/labels/*/images/*fake_B.png")
    assert np.abs(made - np.asarray(Image.open(fake))).max() <= 1
    with pytest.raises(RuntimeError, match="out of bounds"):
        net(ids[0] + 2, ids[1])


def test_the_file_names_its_inputs_and_no_paths(exported, trained):
    ended = exported("--name", "z", "--format", "torch_export")
    assert ended.code == 0 and "verified in a fresh process on noise" in ended.out, ended.err
    with zipfile.ZipFile(trained / "results/z/export/latest_net_G.pt2") as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("ganvas.json"))
        about = json.loads(archive.read(name))
    assert about["inputs"] == ["z", "label"] and about["classes"] == ["ball", "box", "cone", "ring"]
    assert about["options"]["latent_dim"] == 6 and str(trained) not in json.dumps(about)


def test_safetensors_are_rebuilt_from_their_metadata(exported, trained):
    ended = exported("--name", "cyc", "--format", "safetensors", "--output", "G.safetensors")
    assert ended.code == 0 and "largest difference 0 of the range" in ended.out, ended.err
    assert read_architecture(trained / "G.safetensors")["network"] == "G_A"


@pytest.mark.parametrize(("argv", "said"), [
    (["--name", "cyx"], "did you mean cyc?"),
    (["--name", "pair", "--format", "safetensors"], "holds one network, and several make this model's images"),
    (["--name", "pair", "--direction", "BtoA"], "this run was trained AtoB and has no other generator"),
    (["--name", "z", "--images", "demo/testA"], "makes images from noise"),
    (["--name", "features"], "sees more than label maps"),
    (["--name", "labels", "--pixels"], "it takes ids of classes, no colours"),
    (["--name", "cyc", "--images", "none/here"], "none/here"),
    (["--name", "cyc", "--output", "G.onnx"], "name it G.pt2"),
    (["--name", "cyc", "--network", "G_C"], "there is no 'G_C'"),
    (["--name", "cyc", "--epoch", "7"], "there is no such file"),
    (["--name", "cyc", "--format", "safetensors", "--pixels"], "safetensors hold weights alone"),
    (["--name", "cyc", "--pixel"], "did you mean --pixels?"),
])  # fmt: skip
def test_what_cannot_be_exported_gives_one_line(argv, said, exported, trained):
    before = sorted(trained.rglob("export/*"))
    ended = exported("--format", "torch_export", *argv)
    assert ended.code in (2, 3, 4, 5) and ended.err.count("\n") == 1 and said in ended.last
    assert sorted(trained.rglob("export/*")) == before
