"""What is measured: each class is one case, made in a process of its own; `once()` is what is timed.

`facts` is what a case says of itself: losses of its first steps, FLOPs, how many `items` one time handles.
"""

import gc
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

CPU_FLAGS = ["--gpu_ids", "-1", "--num_threads", "0"]
START_FILE = "start.pt"
COMPARED_STEPS = 3  # so many first steps are compared with the reference's
CPU_CONV_SHAPES = [(1, 256, 32), (1, 256, 64), (4, 256, 32), (1, 128, 64), (1, 64, 128)]  # pictures, channels, side
GPU_CONV_SHAPES = [(16, 256, 64), (64, 256, 64), (16, 512, 32)]


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class TrainingStep:
    """A training step on one batch, with what train.py does for each."""

    def __init__(self, home: str, argv: list[str], shared: str, device: int = -1):
        from training.dry_run import count_flops_and_activations

        self._make(argv, shared, device)
        # which leaves it without values; its optimizers have them still
        flops, _ = count_flops_and_activations(self.run.model, self.batch, self.run.o.accumulate)
        del self.run
        gc.collect()
        self._make(argv, shared, device)
        self.facts: dict[str, Any] = {"flops": flops, "items": len(self.batch["A"])}
        self.once()

    def _make(self, argv: list[str], shared: str, device: int = -1) -> None:
        """Build the model and read the first batch, as train.py does."""
        from options.parse import parse
        from train import build
        from training.run import Run
        from util.device import select_device, to_device

        flags = [*argv, *CPU_FLAGS, "--displays", "console", "--name", "bench", "--checkpoints_dir", shared,
                 "--overwrite"]  # fmt: skip
        o = parse([*flags, "--gpu_ids", str(device)], "train")
        self.device = select_device(o.gpu_ids)
        loader, spec, model, _ = build(o, self.device)
        self.batch = to_device(next(loader.epoch(1)), self.device)
        loader.close()
        self.run = Run(o, Path(shared), model, self.device, 1, spec.classes)
        self.run.begin_epoch()
        self.step = 0

    def once(self) -> dict[str, Any]:
        """Do a step."""
        from train import train_step

        run = self.run
        _, losses = train_step(**run.step_args, batch=self.batch, step=self.step)
        run.losses.add(losses)
        self.step += 1
        synchronize(self.device)
        return losses


class StepLosses(TrainingStep):
    """The losses of some first steps in 64 bits; where they begin is left for the other side."""

    def __init__(self, home: str, argv: list[str], shared: str, device: int = -1):
        self._make(argv, shared, device)
        weights = {name: net.state_dict() for name, net in self.run.networks().items()}
        torch.save({"weights": weights, "A": self.batch["A"], "B": self.batch["B"]}, Path(shared, START_FILE))
        self.run.model.double()
        self.batch = {name: v.double() if torch.is_tensor(v) else v for name, v in self.batch.items()}
        self.facts = {"numbers": [self.losses(number) for number in range(COMPARED_STEPS)]}

    def losses(self, seed: int) -> dict[str, float]:
        """Return the losses of a step with draws from a seed."""
        torch.manual_seed(seed)
        terms = {name: value for phase in self.once().values() for name, value in phase.items()}
        return {name: float(torch.as_tensor(value).detach()) for name, value in terms.items()}


class PeakConvolution:
    """The fastest of some convolutions, forward alone: what this machine, or a GPU, can do."""

    def __init__(self, home: str, device: int = -1):
        from util.device import select_device

        self.convs, self.device = [], select_device(str(device))
        torch.backends.cudnn.benchmark = True  # as train.py has it for pictures of one size
        for number, channels, side in CPU_CONV_SHAPES if device < 0 else GPU_CONV_SHAPES:
            x = torch.randn(number, channels, side, side, device=self.device)
            flops = 2 * 9 * channels**2 * number * side**2
            for layout in (torch.contiguous_format, torch.channels_last):
                conv = torch.nn.Conv2d(channels, channels, 3, padding=1).to(self.device).to(memory_format=layout)
                conv_input = x.to(memory_format=layout)
                self.convs.append((self.measure_flops(conv, conv_input, flops), flops, conv, conv_input))
        _, flops, self.conv, self.x = max(self.convs, key=lambda candidate: candidate[0])
        self.repeats = max(1, round((2e10 if device < 0 else 1e13) / flops))
        self.facts = {"flops": flops * self.repeats, "shape": list(self.x.shape)}

    def measure_flops(self, conv: Any, x: torch.Tensor, flops: int) -> float:
        """Return the best FLOP/s of a few calls."""
        best = 0.0
        with torch.inference_mode():
            for _ in range(6):
                start = time.perf_counter()
                conv(x)
                synchronize(self.device)
                best = max(best, flops / (time.perf_counter() - start))
        return best

    def once(self) -> None:
        """Convolve about 20 GFLOP, on a GPU 10 TFLOP."""
        with torch.inference_mode():
            for _ in range(self.repeats):
                self.conv(self.x)
        synchronize(self.device)


class LoadPairs:
    """An epoch of pairs from JPEG files, through the loader that train.py uses."""

    def __init__(self, home: str, shared: str, pairs: int, workers: int = 0, cache: str = "off"):
        from benchmarks import loading

        folder = Path(shared, "pairs")
        if not folder.is_dir():
            folder.mkdir()
            loading.write_pairs(folder, pairs)
        self.loader, self.epoch = loading.make_loader(folder, pairs, workers, cache), 0
        self.facts = {"items": pairs}
        self.once()

    def once(self) -> None:
        """Read all pairs once."""
        self.epoch += 1
        for _ in self.loader.epoch(self.epoch):
            pass


class SaveRun:
    """Writing the whole state and the networks' files of a run."""

    def __init__(self, home: str, argv: list[str], shared: str):
        self.training_step = TrainingStep(home, argv, shared)
        self.facts = {"items": 1}

    def once(self) -> None:
        """Save as training does."""
        self.training_step.run.progress.step += 1
        self.training_step.run.save_latest()


class ResumeRun(SaveRun):
    """Reading it back, as --continue_train does."""

    def __init__(self, home: str, argv: list[str], shared: str):
        super().__init__(home, argv, shared)
        super().once()
        self.training_step.run.o.continue_train = True

    def once(self) -> None:
        """Make the run anew from its folder."""
        from training.run import Run

        run = self.training_step.run
        run.params.set_all_trainable()  # as a new model is
        Run(run.o, run.folder, run.model, run.device, 1, run.classes)


class ResultsPage:
    """Writing the pages of a number of results."""

    def __init__(self, home: str, rows: int):
        self.rows, self.facts = rows, {"items": rows}

    def once(self) -> None:
        """Write them."""
        from benchmarks import page_speed

        with tempfile.TemporaryDirectory() as folder:
            page_speed.write_results_page(Path(folder, "results"), self.rows)


class TrainingPage:
    """Writing the training page at the end of each of a number of epochs."""

    def __init__(self, home: str, epochs: int):
        self.epochs, self.facts = epochs, {"items": epochs}

    def once(self) -> None:
        """Write it after every epoch."""
        from benchmarks import page_speed

        with tempfile.TemporaryDirectory() as folder:
            page_speed.write_training_page(Path(folder), self.epochs)


class Command:
    """A command from its start to its end; argv may name {home} (the checkout) and {shared}."""

    def __init__(self, home: str, argv: list[str], shared: str = "", items: int = 1):
        self.argv = [sys.executable, *(word.format(home=home, shared=shared) for word in argv)]
        self.facts: dict[str, Any] = {"items": items}

    def once(self) -> float | None:
        """Run it; return its seconds where not all of them count."""
        done = subprocess.run(self.argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{self.argv[1]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return None


class CommandUntil(Command):
    """A command from its start until it has printed a line that matches, or made a file that does; then it is ended."""

    def __init__(self, home: str, argv: list[str], shared: str, line: str = "", file: str = ""):
        self.line, self.folder, self.file = line, Path(shared, "made"), file
        super().__init__(home, [word.replace("{made}", str(self.folder)) for word in argv], shared)
        if file:
            prepare_translation(Path(shared), 4, 8)

    def once(self) -> None:
        """Start it and wait for what it is to bring."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                if self.file:
                    is_done = wait_for_file(process, self.folder, self.file)
                else:
                    is_done = wait_for_line(process, self.line)
            finally:
                process.kill()
        if not is_done:
            raise SystemExit(
                f"{self.argv[1]} ended with {process.returncode} before there was {self.line or self.file}"
            )


def wait_for_line(process: subprocess.Popen[str], line: str) -> bool:
    """Wait until a process prints what a pattern finds; return whether it did before it ended."""
    assert process.stdout is not None
    return any(re.search(line, output_line) for output_line in process.stdout)


def wait_for_file(process: subprocess.Popen[str], folder: Path, pattern: str) -> bool:
    """Wait until there is a file of this pattern below a folder; return whether there is before the process ended."""
    while process.poll() is None and not any(folder.rglob(pattern)):
        time.sleep(0.005)
    return any(folder.rglob(pattern))


class Translate(Command):
    """test.py over a folder of pictures, from its first result to its end: start-up aside."""

    def __init__(self, home: str, argv: list[str], shared: str, items: int, ngf: int):
        prepare_translation(Path(shared), items, ngf)
        self.results = Path(shared, f"results_of_{Path(home).name}")
        super().__init__(home, [word.replace("{results}", str(self.results)) for word in argv], shared, items - 1)
        self.once()
        self.facts["numbers"] = [first_picture_stats(self.results)]

    def once(self) -> float:
        """Return the seconds that all pictures but the first one took."""
        shutil.rmtree(self.results, ignore_errors=True)
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(self.argv, stdout=log, stderr=log, text=True)
            wait_for_file(process, self.results, "*_fake*.png")
            start = time.perf_counter()
            code = process.wait()
            took = time.perf_counter() - start
            log.seek(0)
            if code:
                raise SystemExit(f"{self.argv[1]} ended with {code}: {log.read().strip()[-300:]}")
        return took


def prepare_translation(shared: Path, number: int, ngf: int) -> None:
    """Write pictures and the weights of a generator, unless they are there: both sides use the same."""
    if (shared / "pictures").is_dir():
        return
    from data.listing import demo  # of ours: the reference's side finds its files there
    from networks.architectures.resnet import Resnet

    (shared / "pictures").mkdir()
    (shared / "bench").mkdir()
    names = demo.list_paths("demo/train")
    for count in range(number):
        picture = demo.draw_image(names[count % len(names)]).resize((256, 256))
        picture.save(shared / "pictures" / f"{count:04d}.jpg", quality=90)
    torch.manual_seed(0)
    net = Resnet(3, 3, 9, ngf)
    torch.save(net.state_dict(), shared / "bench" / "latest_net_G.pth")


def first_picture_stats(results: Path) -> dict[str, float]:
    """Return mean and spread of the first translated picture, out of 255."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(next(results.rglob("0000_fake*.png")))).astype(float) / 255
    return {"mean": float(pixels.mean()), "spread": float(pixels.std())}
