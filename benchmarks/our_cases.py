"""The benchmark cases of GANvas: each class is one case in a separate process, and its `once()` is timed.

`facts` describes the case: losses of its first steps ("numbers"), FLOPs, and the number of `items` that `once` handles.
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

import numpy as np
import torch
from PIL import Image

from benchmarks.harness.worker import time_runs

START_FILE = "start.pt"
GRAPH_WARM_UP = 8  # steps until --cuda_graphs replays
COMPARED_STEPS = 3  # number of first steps that are compared with the reference's
CPU_CONV_SHAPES = [(1, 256, 32), (1, 256, 64), (4, 256, 32), (1, 128, 64), (1, 64, 128)]  # images, channels, side
GPU_CONV_SHAPES = [(16, 256, 64), (64, 256, 64), (16, 512, 32)]


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its work; do nothing on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class TrainingStep:
    """A training step on one batch, with everything that train.py does for a step."""

    def __init__(self, home: str, argv: list[str], shared: str, device: int = -1):
        from train import train_step
        from training.dry_run import count_flops_and_activations

        self._make(argv, shared, device)
        # Counting leaves the model without values, but not its optimizers, so the run is built again afterwards.
        flops, _ = count_flops_and_activations(train_step, self.run.o, self.run.model, self.batch)
        del self.run
        gc.collect()
        self._make(argv, shared, device)
        self.facts: dict[str, Any] = {"flops": flops, "items": len(self.batch["A"])}
        for _ in range(1 if self.run.o.cuda_graphs == "off" else GRAPH_WARM_UP):
            self.once()

    def _make(self, argv: list[str], shared: str, device: int = -1) -> None:
        """Build the model and read the first batch, as train.py does."""
        from data.loading.loader import Loader
        from networks.runtime.apply import apply_runtime_options
        from options.parse import parse
        from options.store import fill_from_dataset
        from registry.lookup import find
        from training.run import Run
        from util.device import select_device, to_device
        from util.seeding import seed_everything

        flags = f"--num_threads 0 --gpu_ids {device} --displays console --name bench --overwrite".split()
        o = parse([*argv, *flags, "--checkpoints_dir", shared], "train")
        self.device = select_device(o.gpu_ids)
        dataset = find("dataset", o.dataset_mode)(o)
        spec = dataset.spec()
        fill_from_dataset(o, spec)
        seed_everything(o.seed, o.deterministic, one_size="crop" in o.preprocess)
        model = find("model", o.model)(o, spec)
        self.batch = to_device(next(Loader(dataset, o, shuffle=not o.serial_batches).epoch(1)), self.device)
        apply_runtime_options(model.networks(), o, self.device)
        self.run = Run(o, Path(shared), model, self.device, 1, spec.classes)
        self.run.set_learning_rates()
        self.step = 0

    def once(self) -> dict[str, Any]:
        """Run a training step."""
        from train import train_step

        run = self.run
        _, losses = train_step(run.train_state, self.batch, run.train_state.now(self.step))
        run.losses.add(losses)
        self.step += 1
        synchronize(self.device)
        return losses


class StepLosses(TrainingStep):
    """The float64 losses of the first steps; saves their initial weights and batch for the reference's side."""

    def __init__(self, home: str, argv: list[str], shared: str, device: int = -1):
        self._make(argv, shared, device)
        weights = {name: net.state_dict() for name, net in self.run.networks().items()}
        torch.save({"weights": weights, "A": self.batch["A"], "B": self.batch["B"]}, Path(shared, START_FILE))
        self.run.model.double()
        self.batch = {name: v.double() if torch.is_tensor(v) else v for name, v in self.batch.items()}
        self.facts = {"numbers": [self.losses(number) for number in range(COMPARED_STEPS)]}

    def losses(self, seed: int) -> dict[str, float]:
        """Return the losses of a step with a seeded random number generator."""
        torch.manual_seed(seed)
        terms = {name: value for phase in self.once().values() for name, value in phase.items()}
        return {name: float(torch.as_tensor(value).detach()) for name, value in terms.items()}


class PeakConvolution:
    """The fastest of several convolutions, forward only, as the peak FLOP/s of the CPU or GPU in a type of numbers."""

    def __init__(self, home: str, device: int = -1, dtype: str = "float32"):
        from util.device import select_device

        candidates, self.device, self.repeats = [], select_device(str(device)), 1
        torch.backends.cudnn.benchmark = True  # as in train.py for images of one size
        for number, channels, side in CPU_CONV_SHAPES if device < 0 else GPU_CONV_SHAPES:
            x = torch.randn(number, channels, side, side, device=self.device).to(getattr(torch, dtype))
            flops = 2 * 9 * channels**2 * number * side**2
            for layout in (torch.contiguous_format, torch.channels_last):
                conv = torch.nn.Conv2d(channels, channels, 3, padding=1)
                self.conv = conv.to(self.device, x.dtype).to(memory_format=layout)
                self.x = x.to(memory_format=layout)
                candidates.append((flops / min(time_runs(self, 6)), flops, self.conv, self.x))
        _, flops, self.conv, self.x = max(candidates, key=lambda candidate: candidate[0])
        self.repeats = max(1, round((2e10 if device < 0 else 1e13) / flops))
        self.facts = {"flops": flops * self.repeats, "shape": list(self.x.shape)}

    def once(self) -> None:
        """Compute about 20 GFLOP of convolutions, 10 TFLOP on a GPU."""
        with torch.inference_mode():
            for _ in range(self.repeats):
                self.conv(self.x)
        synchronize(self.device)


class LoadPairs:
    """An epoch of pairs from JPEG files through the loader of train.py."""

    def __init__(self, home: str, shared: str, pairs: int, workers: int = 0, cache: str = "off"):
        from data.loading.loader import Loader
        from options.parse import parse
        from registry.lookup import find
        from util.malloc import keep_freed_memory

        keep_freed_memory()  # as train.py does on a CPU
        folder = Path(shared, "pairs")
        write_demo_images(folder / "train", pairs, (512, 256))
        flags = f"--model pix2pix --num_threads {workers} --max_dataset_size {pairs} --cache {cache}".split()
        o = parse([*flags, "--dataroot", str(folder), "--name", "loading", "--overwrite"], "train")
        dataset = find("dataset", "aligned")(o)
        dataset.spec()
        self.loader, self.epoch = Loader(dataset, o, shuffle=True), 0
        self.loader.example_batch()  # as for the preflight: it allocates shared memory
        self.facts = {"items": pairs}
        self.once()

    def once(self) -> None:
        """Read all pairs once."""
        self.epoch += 1
        for _ in self.loader.epoch(self.epoch):
            pass


class SaveRun:
    """Saving a run's state and weights."""

    def __init__(self, home: str, argv: list[str], shared: str):
        self.training_step = TrainingStep(home, argv, shared)
        self.facts = {"items": 1}

    def once(self) -> None:
        """Save like training does."""
        self.training_step.run.progress.step += 1
        self.training_step.run.save_latest()


class ResumeRun(SaveRun):
    """Restoring a saved run, like --continue_train."""

    def __init__(self, home: str, argv: list[str], shared: str):
        super().__init__(home, argv, shared)
        super().once()
        self.training_step.run.o.continue_train = True

    def once(self) -> None:
        """Restore the run from its folder."""
        from training.run import Run

        run = self.training_step.run
        Run(run.o, run.folder, run.model, run.device, 1, run.classes)


class ResultsPage:
    """Writing a results page with `rows` rows."""

    def __init__(self, home: str, rows: int, shared: str = ""):
        self.rows, self.facts = rows, {"items": rows}

    def once(self) -> None:
        """Write the page."""
        from benchmarks import page_speed

        with tempfile.TemporaryDirectory() as folder:
            page_speed.write_results_page(Path(folder, "results"), self.rows)


class TrainingPage:
    """Writing the training page after each of `epochs` epochs."""

    def __init__(self, home: str, epochs: int, shared: str = ""):
        self.epochs, self.facts = epochs, {"items": epochs}

    def once(self) -> None:
        """Write the page after every epoch."""
        from benchmarks import page_speed

        with tempfile.TemporaryDirectory() as folder:
            page_speed.write_training_page(Path(folder), self.epochs)


class Command:
    """A command from its start to its end; argv may contain {home} (the checkout) and {shared}."""

    def __init__(self, home: str, argv: list[str], shared: str = "", items: int = 1):
        self.argv = [sys.executable, *(word.format(home=home, shared=shared) for word in argv)]
        self.facts: dict[str, Any] = {"items": items}

    def once(self) -> float | None:
        """Run the command; a subclass returns the seconds that count, if not all of them do."""
        done = subprocess.run(self.argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{self.argv[1]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return None


class CommandUntil(Command):
    """A command from its start until it prints a line, or writes a file, that matches a pattern; then it is killed."""

    def __init__(self, home: str, argv: list[str], shared: str, line: str = "", file: str = ""):
        self.line, self.folder, self.file = line, Path(shared, "made"), file
        super().__init__(home, [word.replace("{made}", str(self.folder)) for word in argv], shared)
        if file:
            prepare_translation(Path(shared), 4, 8)

    def once(self) -> None:
        """Start the command and wait for the line or file."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                done = (
                    wait_for_file(process, self.folder, self.file) if self.file else wait_for_line(process, self.line)
                )
            finally:
                process.kill()
        if not done:
            raise SystemExit(f"{self.argv[1]} ended with {process.returncode} before {self.line or self.file} appeared")


def wait_for_line(process: subprocess.Popen[str], line: str) -> bool:
    """Wait until a process prints a line that matches a pattern, or ends; return whether it printed one."""
    assert process.stdout is not None
    return any(re.search(line, output_line) for output_line in process.stdout)


def wait_for_file(process: subprocess.Popen[str], folder: Path, pattern: str) -> bool:
    """Wait until a file below a folder matches a pattern, or the process ends; return whether there is such a file."""
    while process.poll() is None and not any(folder.rglob(pattern)):
        time.sleep(0.005)
    return any(folder.rglob(pattern))


class Translate(Command):
    """test.py over a folder of images, from its first result to its end, without start-up."""

    def __init__(self, home: str, argv: list[str], shared: str, items: int, ngf: int):
        prepare_translation(Path(shared), items, ngf)
        self.results = Path(shared, f"results_of_{Path(home).name}")
        super().__init__(home, [word.replace("{results}", str(self.results)) for word in argv], shared, items - 1)
        self.once()
        self.facts["numbers"] = [first_picture_stats(self.results)]

    def once(self) -> float:
        """Return the seconds for all images but the first."""
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
    """Write images and a generator's weights, unless they exist, because both sides use the same ones."""
    write_demo_images(shared / "pictures", number, (256, 256))
    if (shared / "bench").is_dir():
        return
    from networks.architectures.resnet import Resnet  # not at the top: the reference's side cannot import it

    (shared / "bench").mkdir()
    torch.manual_seed(0)
    torch.save(Resnet(3, 3, 9, ngf).state_dict(), shared / "bench" / "latest_net_G.pth")


def write_demo_images(folder: Path, number: int, size: tuple[int, int]) -> None:
    """Write demo images, enlarged to (width, height), as JPEG files, unless the folder exists."""
    if folder.is_dir():
        return
    from data.listing.demo import Demo, draw_image  # not at the top: the reference's side cannot import it

    folder.mkdir(parents=True)
    names = Demo().list_images("demo/train")
    for count in range(number):
        draw_image(names[count % len(names)]).resize(size).save(folder / f"{count:04d}.jpg", quality=90)


def first_picture_stats(results: Path) -> dict[str, float]:
    """Return the mean and standard deviation of the first translated image, with pixel values in [0, 1]."""
    pixels = np.asarray(Image.open(next(results.rglob("0000_fake*.png")))).astype(float) / 255
    return {"mean": float(pixels.mean()), "spread": float(pixels.std())}
