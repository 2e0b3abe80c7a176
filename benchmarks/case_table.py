"""The table of cases: what each is called, which class does it on either side, and with what settings."""

from dataclasses import dataclass, field
from typing import Any

from registry.lookup import entries

SMALL = ["--netG", "resnet_6blocks", "--ngf", "8", "--ndf", "8", "--load_size", "64", "--crop_size", "64"]
TINY = ["--netG", "resnet_6blocks", "--ngf", "2", "--ndf", "2", "--load_size", "32", "--crop_size", "32"]
COMPARED = ("pix2pix", "cycle_gan")  # models of which the reference's steps are measured
CYCLE = ["--model", "cycle_gan", "--netG", "resnet_9blocks", "--load_size", "128", "--crop_size", "128"]


FIRST_STEP = ["{home}/train.py", "--model", "pix2pix", "--dataroot", "demo", *TINY, "--name", "first", "--overwrite",
              "--checkpoints_dir", "{shared}", "--print_freq", "1", "--gpu_ids", "-1"]  # fmt: skip
TRANSLATE = ["{home}/test.py", "--model", "test", "--dataset_mode", "single", "--dataroot", "{shared}/pictures",
             "--name", "bench", "--checkpoints_dir", "{shared}", "--gpu_ids", "-1", "--no_dropout"]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One line of the table. maker and theirs: "module:class" below benchmarks/; times: how often a turn does it."""

    title: str
    maker: str
    made_of: dict[str, Any] = field(default_factory=dict)
    theirs: str = ""
    times: int = 1
    numbers: str = ""  # the class, on either side, that tells numbers first; "": the timed one does, if it has any
    computes: bool = False  # whether FLOPs are counted
    within: float = 1e-6  # how far the two sides' numbers may differ
    shares: bool = True  # whether it is given a folder that both sides see

    def settings(self, shared: str) -> dict[str, Any]:
        """Return what its classes are made of."""
        return self.made_of | ({"shared": shared} if self.shares else {})


def plan(quick: bool, device: int = -1) -> dict[str, Case]:
    """Return all cases by name; quick: with sizes that take seconds. Of a GPU, training steps alone."""
    if device >= 0:
        return _steps_on(device, quick)
    cases = _steps(quick)
    pairs, pictures, ngf, rows, epochs = (4, 2, 2, 20, 3) if quick else (100, 106, 8, 1000, 100)
    for workers in (0, 2):
        title = f"a pair 286 -> 256, {workers} workers"
        cases[f"load_{workers}"] = Case(
            title, "our_cases:Load", {"pairs": pairs, "workers": workers}, "reference_cases:Load"
        )
    cases["load_cached"] = Case("a pair, from the cache", "our_cases:Load", {"pairs": pairs, "cache": "ram"})
    big = [*CYCLE, *_sized(4 if quick else 32), "--dataroot", "demo"]
    cases["save"] = Case("saving CycleGAN, ngf 32", "our_cases:Save", {"argv": big}, times=2)
    cases["resume"] = Case("reading it back", "our_cases:Resume", {"argv": big}, times=2)
    cases["results_page"] = Case("a row of a results page", "our_cases:ResultsPage", {"rows": rows}, shares=False)
    cases["training_page"] = Case(
        "an epoch of a training page", "our_cases:TrainingPage", {"epochs": epochs}, shares=False
    )
    cases["test_tiny"] = _translation(pictures, ngf)
    cases["test_large"] = _translation(pictures // 10 or 2, 4 if quick else 64)
    cases["import_torch"] = Case("import torch", "our_cases:Command", {"argv": ["-c", "import torch"]})
    cases["help"] = Case(
        "train.py --help", "our_cases:Command", {"argv": ["{home}/train.py", "--help"]}, "our_cases:Command"
    )
    cases["first_step"] = Case(
        "command to first training step", "our_cases:Until", {"argv": FIRST_STEP, "line": "iters: 1,"}
    )
    argv = [*TRANSLATE, "--ngf", "8", "--results_dir", "{made}"]
    cases["first_picture"] = Case("command to first picture", "our_cases:Until", {"argv": argv, "file": "*_fake.png"})
    return cases


def trained() -> list[str]:
    """Return the models that train."""
    return sorted(entry.name for entry in entries("model") if entry.name != "test")


def _steps(quick: bool) -> dict[str, Case]:
    """Return a training step of every model that trains, small, and of those that are compared, as large as usual."""
    cases = {}
    for model in trained():
        argv = ["--model", model, *(TINY if quick else SMALL), "--dataroot", "demo"]
        if model == "cgan":  # it has a generator and a size of its own
            argv = ["--model", model, "--dataroot", "demo", *([*_sized(4), "--batch_size", "4"] if quick else [])]
        cases[f"step_{model}"] = _step(f"step of {model}, small", argv, times=5)
    for ngf in (32, 64):
        argv = ["--model", "cycle_gan", *TINY] if quick else [*CYCLE, *_sized(ngf)]
        argv += ["--dataroot", "demo"]
        cases[f"step_cycle_gan_{ngf}"] = _step(f"step of CycleGAN, 128x128, ngf {ngf}", argv)
    argv = ["--model", "cycle_gan", "--dataroot", "demo", *(TINY if quick else [])]
    cases["step_cycle_gan_256"] = _step("step of CycleGAN at its defaults", argv)
    argv = ["--model", "pix2pix", "--dataroot", "demo", *(_sized(2) if quick else [])]
    cases["step_pix2pix_256"] = _step("step of pix2pix at its defaults", argv, times=2)
    return cases


def _steps_on(device: int, quick: bool) -> dict[str, Case]:
    """Return a training step of every model with its defaults, on a GPU."""
    cases = {}
    for model in trained():
        argv = ["--model", model, "--dataroot", "demo", *([] if not quick else _sized(4) if model == "cgan" else TINY)]
        for batch in (1, 16):
            title, sized = f"a picture of {model}'s step, batch {batch}", [*argv, "--batch_size", str(batch)]
            cases[f"step_{model}_{batch}"] = _step(title, sized, times=10 if batch == 1 else 3, device=device)
    return cases


def _step(title: str, argv: list[str], times: int = 1, device: int = -1) -> Case:
    compared = argv[argv.index("--model") + 1] in COMPARED
    theirs, numbers = ("reference_cases:Step", "Numbers") if compared else ("", "")
    return Case(title, "our_cases:Step", {"argv": argv, "device": device}, theirs, times, numbers, computes=True)


def _sized(ngf: int) -> list[str]:
    return ["--ngf", str(ngf), "--ndf", str(ngf)]


def _translation(pictures: int, ngf: int) -> Case:
    argv = [*TRANSLATE, "--results_dir", "{results}", "--ngf", str(ngf), "--num_test", str(pictures)]
    title, made_of = f"a picture of test.py, 256x256, ngf {ngf}", {"argv": argv, "items": pictures, "ngf": ngf}
    return Case(title, "our_cases:Translate", made_of, "reference_cases:Translate", within=0.02)
