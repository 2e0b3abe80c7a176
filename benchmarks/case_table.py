"""The table of benchmark cases: name, title, the class that runs it on each side, and its settings."""

from dataclasses import dataclass, field
from typing import Any

from registry.lookup import entries

SMALL_FLAGS = ["--netG", "resnet_6blocks", "--ngf", "8", "--ndf", "8", "--load_size", "64", "--crop_size", "64"]
TINY_FLAGS = ["--netG", "resnet_6blocks", "--ngf", "2", "--ndf", "2", "--load_size", "32", "--crop_size", "32"]
COMPARED_MODELS = ("pix2pix", "cycle_gan")  # models whose steps are also measured in the reference
CYCLE_GAN_FLAGS = ["--model", "cycle_gan", "--netG", "resnet_9blocks", "--load_size", "128", "--crop_size", "128"]
FIRST_STEP_ARGV = ["{home}/train.py", "--model", "pix2pix", "--dataroot", "demo", *TINY_FLAGS, "--name", "first",
                   "--overwrite", "--checkpoints_dir", "{shared}", "--print_freq", "1", "--gpu_ids", "-1"]  # fmt: skip
TRANSLATE_ARGV = ["{home}/test.py", "--model", "test", "--dataset_mode", "single", "--dataroot", "{shared}/pictures",
                  "--name", "bench", "--checkpoints_dir", "{shared}", "--gpu_ids", "-1", "--no_dropout"]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One row of the table. case_class, reference_class: "module:class" in benchmarks/; repeats: runs in a turn."""

    title: str
    case_class: str
    arguments: dict[str, Any] = field(default_factory=dict)
    reference_class: str = ""
    repeats: int = 1
    losses_class: str = ""  # the class of both sides that computes the numbers to compare; "": the timed class
    counts_flops: bool = False
    tolerance: float = 1e-6  # the largest allowed relative difference of the two sides' numbers
    needs_folder: bool = True  # whether the class gets a folder that both sides share

    def settings(self, shared: str) -> dict[str, Any]:
        """Return the keyword arguments of its classes."""
        return self.arguments | ({"shared": shared} if self.needs_folder else {})


def make_cases(quick: bool, device: int = -1) -> dict[str, Case]:
    """Return all cases by name; on a GPU, only training steps. quick: use sizes that take seconds."""
    if device >= 0:
        return _gpu_step_cases(device, quick)

    # Training steps and loading.
    cases = _step_cases(quick)
    pairs, pictures, ngf, rows, epochs = (4, 2, 2, 20, 3) if quick else (100, 106, 8, 1000, 100)
    for workers in (0, 2):
        title = f"a pair 286 -> 256, {workers} workers"
        cases[f"load_{workers}"] = Case(
            title, "our_cases:LoadPairs", {"pairs": pairs, "workers": workers}, "reference_cases:LoadPairs"
        )
    cases["load_cached"] = Case("a pair, from the cache", "our_cases:LoadPairs", {"pairs": pairs, "cache": "ram"})

    # Checkpoints and pages.
    big = [*CYCLE_GAN_FLAGS, *_width_flags(4 if quick else 32), "--dataroot", "demo"]
    cases["save"] = Case("saving CycleGAN, ngf 32", "our_cases:SaveRun", {"argv": big}, repeats=2)
    cases["resume"] = Case("reading it back", "our_cases:ResumeRun", {"argv": big}, repeats=2)
    cases["results_page"] = Case("a row of a results page", "our_cases:ResultsPage", {"rows": rows}, needs_folder=False)
    cases["training_page"] = Case(
        "an epoch of a training page", "our_cases:TrainingPage", {"epochs": epochs}, needs_folder=False
    )

    # Whole commands.
    cases["test_tiny"] = _translation_case(pictures, ngf)
    cases["test_large"] = _translation_case(pictures // 10 or 2, 4 if quick else 64)
    cases["import_torch"] = Case("import torch", "our_cases:Command", {"argv": ["-c", "import torch"]})
    cases["help"] = Case(
        "train.py --help", "our_cases:Command", {"argv": ["{home}/train.py", "--help"]}, "our_cases:Command"
    )
    cases["first_step"] = Case(
        "command to first training step", "our_cases:CommandUntil", {"argv": FIRST_STEP_ARGV, "line": "iters: 1,"}
    )
    argv = [*TRANSLATE_ARGV, "--ngf", "8", "--results_dir", "{made}"]
    cases["first_picture"] = Case(
        "command to first picture", "our_cases:CommandUntil", {"argv": argv, "file": "*_fake.png"}
    )
    return cases


def trainable_models() -> list[str]:
    """Return the names of all models that can be trained."""
    return sorted(entry.name for entry in entries("model") if entry.name != "test")


def _step_cases(quick: bool) -> dict[str, Case]:
    """Return a small training step of every trainable model, and steps of the compared models in their usual sizes."""
    cases = {}
    for model in trainable_models():
        argv = ["--model", model, *(TINY_FLAGS if quick else SMALL_FLAGS), "--dataroot", "demo"]
        if model == "cgan":  # its generator and image size differ from the others'
            argv = ["--model", model, "--dataroot", "demo", *([*_width_flags(4), "--batch_size", "4"] if quick else [])]
        cases[f"step_{model}"] = _step_case(f"step of {model}, small", argv, repeats=5)
    for ngf in (32, 64):
        argv = ["--model", "cycle_gan", *TINY_FLAGS] if quick else [*CYCLE_GAN_FLAGS, *_width_flags(ngf)]
        argv += ["--dataroot", "demo"]
        cases[f"step_cycle_gan_{ngf}"] = _step_case(f"step of CycleGAN, 128x128, ngf {ngf}", argv)
    argv = ["--model", "cycle_gan", "--dataroot", "demo", *(TINY_FLAGS if quick else [])]
    cases["step_cycle_gan_256"] = _step_case("step of CycleGAN at its defaults", argv)
    argv = ["--model", "pix2pix", "--dataroot", "demo", *(_width_flags(2) if quick else [])]
    cases["step_pix2pix_256"] = _step_case("step of pix2pix at its defaults", argv, repeats=2)
    return cases


def _gpu_step_cases(device: int, quick: bool) -> dict[str, Case]:
    """Return a GPU training step of every model with its defaults."""
    cases = {}
    for model in trainable_models():
        size_flags = [] if not quick else _width_flags(4) if model == "cgan" else TINY_FLAGS
        argv = ["--model", model, "--dataroot", "demo", *size_flags]
        for batch in (1, 16):
            title, sized = f"a picture of {model}'s step, batch {batch}", [*argv, "--batch_size", str(batch)]
            cases[f"step_{model}_{batch}"] = _step_case(title, sized, repeats=10 if batch == 1 else 3, device=device)
    return cases


def _step_case(title: str, argv: list[str], repeats: int = 1, device: int = -1) -> Case:
    is_compared = argv[argv.index("--model") + 1] in COMPARED_MODELS
    reference_class, losses_class = ("reference_cases:TrainingStep", "StepLosses") if is_compared else ("", "")
    return Case(
        title,
        "our_cases:TrainingStep",
        {"argv": argv, "device": device},
        reference_class,
        repeats,
        losses_class,
        counts_flops=True,
    )


def _width_flags(ngf: int) -> list[str]:
    return ["--ngf", str(ngf), "--ndf", str(ngf)]


def _translation_case(pictures: int, ngf: int) -> Case:
    argv = [*TRANSLATE_ARGV, "--results_dir", "{results}", "--ngf", str(ngf), "--num_test", str(pictures)]
    title, arguments = f"a picture of test.py, 256x256, ngf {ngf}", {"argv": argv, "items": pictures, "ngf": ngf}
    return Case(title, "our_cases:Translate", arguments, "reference_cases:Translate", tolerance=0.02)
