"""The table of benchmark cases: name, title, the class that runs it, and its settings."""

from dataclasses import dataclass
from typing import Any

from registry.lookup import entries

SMALL_FLAGS = "--netG resnet_6blocks --ngf 8 --ndf 8 --load_size 64 --crop_size 64".split()
TINY_FLAGS = "--netG resnet_6blocks --ngf 2 --ndf 2 --load_size 32 --crop_size 32".split()
CYCLE_GAN_FLAGS = "--netG resnet_9blocks --load_size 128 --crop_size 128".split()
# terms that need published weights are off; images of 32 pixels are halved four times
OWN_FLAGS = {"pix2pixhd": ["--no_vgg_loss"], "spade": ["--no_vgg_loss"], "stargan": ["--d_repeat_num", "4"]}
NOISE_MODELS = ("cgan", "gan")  # their generators start from noise: another --netG, and sizes of their own
COMPARED_MODELS = ("pix2pix", "cycle_gan")  # models whose steps are also measured in the reference
BF16_STEP = "--amp bf16 --memory_format channels_last"
GPU_WAYS = {  # by batch size, what is measured of these models: names and flags
    1: {"": "", "_graphs": "--cuda_graphs on"},
    16: {"": "", "_bf16": BF16_STEP, "_bf16_graphs": f"{BF16_STEP} --cuda_graphs on"},
}
TRAIN_COMMAND = (
    "{home}/train.py --checkpoints_dir {shared} --gpu_ids -1 --model pix2pix --dataroot demo "
    "--name first --overwrite --print_freq 1"
)
TEST_COMMAND = (
    "{home}/test.py --checkpoints_dir {shared} --model test --dataset_mode single "
    "--dataroot {shared}/pictures --name bench --no_dropout"
)


@dataclass(frozen=True)
class Case:
    """One row of the table. kind: a class of our_cases.py; repeats: runs in a turn."""

    title: str
    kind: str
    arguments: dict[str, Any]
    compared: bool = False  # whether reference_cases.py has such a class, too
    repeats: int = 1
    tolerance: float = 1e-6  # the largest allowed relative difference of the two sides' numbers

    @property
    def counts_flops(self) -> bool:
        """Whether its FLOPs and losses are known: those of training steps are."""
        return self.kind == "TrainingStep"

    @property
    def is_16_bit(self) -> bool:
        """Whether it computes in 16 bits, so that its peak is that of a convolution in 16 bits."""
        return "bf16" in self.arguments.get("argv", ())


def make_cases(quick: bool, device: int = -1) -> dict[str, Case]:
    """Return all cases by name; on a GPU, training steps and test.py. quick: use sizes that take seconds."""
    if device >= 0:
        return _gpu_cases(device, quick)
    pairs, pictures, ngf, rows, epochs = (4, 2, 2, 20, 3) if quick else (100, 106, 8, 1000, 100)
    big = {"argv": _step_argv("cycle_gan", [*CYCLE_GAN_FLAGS, *_width_flags(4 if quick else 32)])}
    first_step = {"argv": [*TRAIN_COMMAND.split(), *TINY_FLAGS], "line": "iters: 1,"}
    first_picture = {
        "argv": f"{TEST_COMMAND} --gpu_ids -1 --ngf 8 --results_dir {{made}}".split(),
        "file": "*_fake.png",
    }
    return _step_cases(quick) | {
        # Loading.
        "load_0": Case("a pair 286 -> 256, 0 workers", "LoadPairs", {"pairs": pairs, "workers": 0}, compared=True),
        "load_2": Case("a pair 286 -> 256, 2 workers", "LoadPairs", {"pairs": pairs, "workers": 2}, compared=True),
        "load_cached": Case("a pair, from the cache", "LoadPairs", {"pairs": pairs, "cache": "ram"}),
        # Checkpoints and pages.
        "save": Case("saving CycleGAN, ngf 32", "SaveRun", big, repeats=2),
        "resume": Case("reading it back", "ResumeRun", big, repeats=2),
        "results_page": Case("a row of a results page", "ResultsPage", {"rows": rows}),
        "training_page": Case("an epoch of a training page", "TrainingPage", {"epochs": epochs}),
        # Whole commands.
        "test_tiny": _translation_case(pictures, ngf),
        "test_large": _translation_case(pictures // 10 or 2, 4 if quick else 64),
        "import_torch": Case("import torch", "Command", {"argv": ["-c", "import torch"]}),
        "help": Case("train.py --help", "Command", {"argv": ["{home}/train.py", "--help"]}, compared=True),
        "first_step": Case("command to first training step", "CommandUntil", first_step),
        "first_picture": Case("command to first picture", "CommandUntil", first_picture),
    }


def trainable_models() -> list[str]:
    """Return the names of all models that can be trained."""
    return sorted(entry.name for entry in entries("model") if entry.name != "test")


def _step_cases(quick: bool) -> dict[str, Case]:
    """Return a small training step of every trainable model, and steps of the compared models in their usual sizes."""
    cases = {}
    for model in trainable_models():
        flags = _tiny_flags(model) if quick else _small_flags(model)
        cases[f"step_{model}"] = _step_case(f"step of {model}, small", model, flags, repeats=5)
    for ngf in (32, 64):
        flags = TINY_FLAGS if quick else [*CYCLE_GAN_FLAGS, *_width_flags(ngf)]
        cases[f"step_cycle_gan_{ngf}"] = _step_case(f"step of CycleGAN, 128x128, ngf {ngf}", "cycle_gan", flags)
    flags = TINY_FLAGS if quick else []
    cases["step_cycle_gan_256"] = _step_case("step of CycleGAN at its defaults", "cycle_gan", flags)
    flags = _width_flags(2) if quick else []
    cases["step_pix2pix_256"] = _step_case("step of pix2pix at its defaults", "pix2pix", flags, repeats=2)
    return cases


def _gpu_cases(device: int, quick: bool) -> dict[str, Case]:
    """Return a GPU training step of every model with its defaults, those beside the reference first, and test.py."""
    cases = {}
    for model in sorted(trainable_models(), key=lambda name: name not in COMPARED_MODELS):
        size_flags = _tiny_flags(model) if quick else []
        for batch, repeats in ((1, 10), (16, 3)):
            title, flags = f"a picture of {model}'s step, batch {batch}", [*size_flags, "--batch_size", str(batch)]
            ways = GPU_WAYS[batch] if model in COMPARED_MODELS else {"": ""}
            for name, way in ways.items():
                full, argv = f"{title}, `{way}`" if way else title, [*flags, *way.split()]
                cases[f"step_{model}_{batch}{name}"] = _step_case(full, model, argv, repeats, device)
    return cases | {"test_large": _translation_case(2 if quick else 106, 4 if quick else 64, device)}


def _step_case(title: str, model: str, flags: list[str], repeats: int = 1, device: int = -1) -> Case:
    arguments = {"argv": _step_argv(model, flags), "device": device}
    return Case(title, "TrainingStep", arguments, model in COMPARED_MODELS and "--amp" not in flags, repeats)


def _step_argv(model: str, flags: list[str]) -> list[str]:
    return ["--model", model, "--dataroot", "demo", *OWN_FLAGS.get(model, []), *flags]


def _tiny_flags(model: str) -> list[str]:
    return [*_width_flags(4), "--batch_size", "4"] if model in NOISE_MODELS else TINY_FLAGS


def _small_flags(model: str) -> list[str]:
    """Return flags of a step that takes tenths of a second; cgan's defaults are those of the images, 128x128 here."""
    return {"cgan": "--load_size 32 --crop_size 32".split(), "gan": _width_flags(16)}.get(model, SMALL_FLAGS)


def _width_flags(ngf: int) -> list[str]:
    return ["--ngf", str(ngf), "--ndf", str(ngf)]


def _translation_case(pictures: int, ngf: int, device: int = -1) -> Case:
    argv = f"{TEST_COMMAND} --results_dir {{results}} --ngf {ngf} --num_test {pictures} --gpu_ids {device}".split()
    title, arguments = f"a picture of test.py, 256x256, ngf {ngf}", {"argv": argv, "items": pictures, "ngf": ngf}
    return Case(title, "Translate", arguments, compared=True, tolerance=0.02)
