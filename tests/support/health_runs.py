"""Record healthy runs and deliberately broken runs, whose histories test the health rules.

`python tests/support/health_runs.py [NAME ...]` trains them (small networks, generated images, 15 minutes for all) and
writes their losses and the metrics of their fixed samples to tests/facts/health.json.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FACTS = ROOT / "tests" / "facts" / "health.json"
EPOCHS = ["--n_epochs", "25", "--n_epochs_decay", "15"]
SMALL = ["--ngf", "8", "--ndf", "8", "--load_size", "40", "--crop_size", "32", "--num_threads", "0", "--gpu_ids", "-1",
         "--dataroot", "demo", "--print_freq", "1000000"]  # fmt: skip
MODELS = {
    "pix2pix": ["--netG", "unet_32"],
    "colorization": ["--netG", "unet_32"],
    "cycle_gan": ["--netG", "resnet_4blocks"],
    "cgan": ["--dataroot", "demo/train", "--batch_size", "16", "--load_size", "32", "--sample_epoch_freq", "1"],
    "gan": ["--dataroot", "demo/train", "--batch_size", "16", "--load_size", "32", "--sample_epoch_freq", "1"],
    "cut": ["--netG", "resnet_4blocks", "--max_dataset_size", "32"],
    "pix2pixhd": ["--netG", "resnet_4blocks", "--no_vgg_loss", "--label_nc", "0", "--no_instance", "--load_size", "32"],
    "stargan": ["--dataroot", "demo/train", "--batch_size", "8", "--load_size", "32", "--d_repeat_num", "3",
                "--g_repeat_num", "1", "--n_critic", "1", "--lr", "0.0002"],
    "spade": ["--no_vgg_loss", "--label_nc", "0", "--no_instance", "--preprocess", "resize_and_crop",
              "--load_size", "32"],
    "sincut": ["--netG", "resnet_4blocks", "--max_dataset_size", "16"],
}  # fmt: skip
GAN_MODES = ("lsgan", "vanilla", "hinge", "wgangp")

RECORDER = '''"""recorder: a display that keeps the measures of the fixed samples."""
import json

from displays import health_rules as health
from displays.base import DISPLAYS, Sink


class Recorder(Sink):
    def __init__(self, o, folder):
        self.health, self.file = health.Health(o.gan_mode, o.dataset_mode), open(folder / "figures.jsonl", "w")

    def samples(self, at, samples):
        self.health.add_samples(at.epoch, at.step, samples)
        print(json.dumps(self.health.figures[-1]), file=self.file, flush=True)

    def sheets(self, at, sheets):
        self.health.add_sheets(at.epoch, at.step, sheets)
        print(json.dumps(self.health.figures[-1]), file=self.file, flush=True)


DISPLAYS["recorder"] = Recorder
'''
SLOW = '''"""A generator that learns a thousand times slower than its discriminator."""
from dataclasses import replace

from models.{file} import {base}


class Slow({base}):
    def phases(self):
        return [replace(p, lr=self.o.lr / 1000) if p.name == "G" else p for p in super().phases()]
'''
DEAF = '''"""Generators that hear nothing."""
import torch
from torch import nn
from torch.nn import functional as F

from networks import GENERATORS


class Deaf(nn.Module):
    """Return one image for every input."""

    def __init__(self, o, input_nc, output_nc, side=8):
        super().__init__()
        self.picture = nn.Parameter(torch.randn(1, output_nc, side, side))

    def forward(self, x):
        same = self.picture.expand(len(x), -1, -1, -1) + 0 * x.mean()
        return torch.tanh(F.interpolate(same, x.shape[2:], mode="bilinear"))


GENERATORS["deaf"] = Deaf
GENERATORS["blank"] = lambda o, input_nc, output_nc: Deaf(o, input_nc, output_nc, side=1)
'''
NEGATIVE = '''"""pix2pix with a sign wrong: it is taught the negative."""
from models.pix2pix import Pix2Pix


class Negative(Pix2Pix):
    def loss_g(self, batch, out):
        return super().loss_g(batch, out | {"real_B": -out["real_B"]})
'''
TURNED = '''"""CycleGAN pulled to the solution in which both directions are negatives."""
from torch.nn import functional as F

from models.cycle_gan import CycleGAN


class Turned(CycleGAN):
    def loss_g(self, batch, out):
        pulled = F.l1_loss(out["fake_B"], -out["real_A"]) + F.l1_loss(out["fake_A"], -out["real_B"])
        return super().loss_g(batch, out) | {"pull": 10 * pulled}
'''
TIRED = '''"""A learning rate that ends after three epochs."""
from training.lr_schedule import LR_POLICIES

LR_POLICIES["tired"] = lambda epoch, o, history: float(epoch <= 3)
'''
PIX2PIX, CYCLE_GAN = ["--model", "pix2pix", *MODELS["pix2pix"]], ["--model", "cycle_gan", *MODELS["cycle_gan"]]
NO_IDENTITY = ["--lambda_identity", "0"]
SHORT = ["--n_epochs", "8", "--n_epochs_decay", "0", "--max_dataset_size", "16"]

# name: (flags, plug-in files, the expected notes)
HEALTHY = {
    f"{model} {mode}": (["--model", model, "--gan_mode", mode, *flags], {}, set())
    for model, flags in MODELS.items()
    for mode in GAN_MODES
}
REAL, AT_64 = "../shared/data/", ["--crop_size", "64", "--load_size", "72", "--phase", "test"]
HEALTHY |= {  # longer runs, wider networks, and photographs
    "cgan vanilla, wide": (
        [
            "--model",
            "cgan",
            *MODELS["cgan"],
            "--ngf",
            "16",
            "--ndf",
            "32",
            "--n_epochs",
            "60",
            "--n_epochs_decay",
            "40",
        ],
        {},
        set(),
    ),
    "cgan wgangp, long": (
        ["--model", "cgan", *MODELS["cgan"], "--gan_mode", "wgangp", "--n_epochs", "100", "--n_epochs_decay", "50"],
        {},
        set(),
    ),
    "facades": (
        [
            "--model",
            "pix2pix",
            "--netG",
            "unet_64",
            "--ngf",
            "16",
            "--ndf",
            "32",
            *AT_64,
            "--n_epochs",
            "30",
            "--n_epochs_decay",
            "20",
            "--dataroot",
            REAL + "facades",
        ],
        {},
        set(),
    ),
    "apple2orange": (
        [
            "--model",
            "cycle_gan",
            "--netG",
            "resnet_4blocks",
            "--ndf",
            "16",
            *AT_64,
            "--lambda_identity",
            "0",
            "--n_epochs",
            "80",
            "--n_epochs_decay",
            "0",
            "--dataroot",
            REAL + "apple2orange",
        ],
        {},
        set(),
    ),
}
SICK = {
    "slow generator, vanilla": (["--model", "slow", *MODELS["pix2pix"]],
                                {"slow": SLOW.format(file="pix2pix", base="Pix2Pix")}, {"discriminator winning"}),
    "slow generator, lsgan": (["--model", "slow", *MODELS["cycle_gan"], "--lr", "0.001"],
                              {"slow": SLOW.format(file="cycle_gan", base="CycleGAN")}, {"discriminator winning"}),
    "slow generator, hinge": (["--model", "slow", *MODELS["pix2pix"], "--gan_mode", "hinge"],
                              {"slow": SLOW.format(file="pix2pix", base="Pix2Pix")}, {"discriminator winning"}),
    "deaf generator": ([*PIX2PIX, "--netG", "deaf"], {"deaf": DEAF}, {"outputs constant"}),
    "blank generator": ([*PIX2PIX, "--netG", "blank"], {"deaf": DEAF}, {"outputs constant"}),
    "wrong sign": (["--model", "negative", *MODELS["pix2pix"]], {"negative": NEGATIVE}, {"colours inverted"}),
    "negatives both ways": (["--model", "turned", *MODELS["cycle_gan"], *NO_IDENTITY], {"turned": TURNED},
                            {"colours inverted"}),
    "far too high a rate": ([*CYCLE_GAN, "--lr", "1"], {}, {"loss exploding"}),
    "no rate": ([*PIX2PIX, "--lr_policy", "tired", *SHORT], {"tired": TIRED}, {"learning rate 0"}),
}  # fmt: skip


def record(flags: list[str], files: dict[str, str]) -> dict:
    """Train a run in a new folder; return its command, its exit code and its history by epoch."""
    with tempfile.TemporaryDirectory() as folder:
        words = []
        for stem, source in {"recorder": RECORDER, **files}.items():
            (Path(folder) / f"{stem}.py").write_text(source)
            words += ["--plugin", f"{stem}.py"]
        epochs = [] if "--n_epochs" in flags else EPOCHS
        argv = [*words, "--displays", "recorder", "--name", "run", *SMALL, *epochs, *flags]
        there = [word.replace("../shared", str(ROOT.parent / "shared")) for word in argv]
        ended = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *there],
            cwd=folder,
            text=True,
            check=False,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        run = Path(folder) / "checkpoints" / "run"
        rows = map(json.loads, (run / "losses.jsonl").read_text().splitlines())
        events = [{key: row[key] for key in ("epoch", "step", "lr", "mean")} for row in rows if "mean" in row]
        figures = [json.loads(line) for line in (run / "figures.jsonl").read_text().splitlines()]
        options = json.loads((run / "options.json").read_text())["options"]
    return {
        "command": "python train.py " + " ".join(argv), "code": ended.returncode, "gan_mode": options["gan_mode"],
        "dataset_mode": options["dataset_mode"], "rows": packed(events), "figures": packed(figures),
    }  # fmt: skip


def packed(tables: list[dict]) -> dict:
    """Return tables of one epoch each as columns; losses and measures have four significant digits."""
    columns: dict = {}
    for table in tables:
        for key, value in table.items():
            if isinstance(value, dict):
                for inner, number in value.items():
                    short = None if number is None else float(f"{number:.4g}")
                    columns.setdefault(key, {}).setdefault(inner, []).append(short)
            else:
                columns.setdefault(key, []).append(value)
    return columns


def unpacked(columns: dict) -> list[dict]:
    """Return the tables from which `packed` made columns; a shorter column belongs to the last epochs."""
    count = len(columns["epoch"])
    return [
        {
            key: {n: v[i - count] for n, v in column.items() if i - count >= -len(v)}
            if isinstance(column, dict)
            else column[i]
            for key, column in columns.items()
        }
        for i in range(count)
    ]


def facts() -> dict[str, dict]:
    """Return all recorded histories by name, with rows and figures as tables."""
    found = json.loads(FACTS.read_text())
    return {name: run | {key: unpacked(run[key]) for key in ("rows", "figures")} for name, run in found.items()}


def main(names: list[str]) -> None:
    """Record the named runs, or all; keep the records of the others."""
    known = {**HEALTHY, **SICK}
    found = json.loads(FACTS.read_text()) if FACTS.is_file() else {}
    for name in names or known:
        flags, files, _ = known[name]
        found[name] = record(flags, files)
        print(f"{name}: {len(found[name]['rows']['epoch'])} epochs, exit {found[name]['code']}", flush=True)
        lines = (f"{json.dumps(key)}: {json.dumps(found[key], separators=(',', ':'))}" for key in sorted(found))
        FACTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
