"""The flags of StarGAN's own code that have another name or form here."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from options.words import value_of
from util.errors import OptionError, print_line

BATCH_SIZE = 16  # the default
WORDS_OF_BOTH = "a run is of one data set: train one for each, with --dataset CelebA and --dataset RaFD"
Words = list[str]
# {data set: {(flag here, its name there): the authors' default}}
USUAL = {
    "CelebA": {("dataroot", "celeba_image_dir"): "data/celeba/images", ("center_crop", "celeba_crop_size"): "178",
               ("attr_path", ""): "data/celeba/list_attr_celeba.txt"},
    "RaFD": {("dataroot", "rafd_image_dir"): "data/RaFD/train", ("center_crop", "rafd_crop_size"): "256"},
}  # fmt: skip


def _mode(value: str, argv: Words, phase: str) -> Words:
    if value != phase:
        other = f"{value}.py {value}s" if value in ("train", "test") else "there are train and test"
        raise OptionError("option", "--mode", f"is {value}, and {phase}.py {phase}s", f"{other}: run python {value}.py")
    return []


def _dataset(value: str, argv: Words, phase: str) -> Words:
    if value not in USUAL:
        raise OptionError("option", "--dataset", f"is {value}", WORDS_OF_BOTH)
    if value == "RaFD" and value_of(argv, "attr_path"):
        raise OptionError("option", "--attr_path", "is for --dataset CelebA", "omit it: RaFD's domains are folders")
    missing = {flag: v for (flag, other), v in USUAL[value].items() if value_of(argv, flag, other) is None}
    return [word for flag, v in missing.items() for word in (f"--{flag}", v)]


def _of_dataset(name: str, flag: str, value: str, argv: Words, phase: str) -> Words:
    """Return a flag that counts for one of the authors' data sets alone."""
    return [f"--{flag}", value] if value_of(argv, "dataset") in (name, None) else []


def _g_lr(value: str, argv: Words, phase: str) -> Words:
    has_other = value_of(argv, "d_lr", "lr_D") is not None
    return ["--lr", value, *([] if has_other else ["--lr_D", "0.0001"])]  # the authors' default of --d_lr


def _images(flags: str, value: str, argv: Words, phase: str) -> Words:
    """Return flags that count images for one that counts steps."""
    steps, size = value, value_of(argv, "batch_size") or str(BATCH_SIZE)
    count = str(int(steps) * int(size)) if steps.isdigit() and size.isdigit() else steps
    flag, *more = flags.split()
    return [f"--{flag}", count, *(f"--{name}" for name in more)] if phase == "train" else []


def _folder(value: str, argv: Words, phase: str) -> Words:
    """Return where a run is: its name and the folder around it; a test of the authors' files takes their last step."""
    above, name = os.path.split(os.path.normpath(value))
    words = ["--checkpoints_dir", above or ".", "--name", name]
    is_own = Path(value, "options.json").exists() or value_of(argv, "test_iters", "epoch", "load_iter") is not None
    return words if phase == "train" or is_own else [*words, "--epoch", "200000"]


def _tensorboard(value: str, argv: Words, phase: str) -> Words:
    is_on = value.lower() == "true" and phase == "train"
    return ["--displays", "console,health,html,tensorboard"] if is_on else []


def _of_run(what: str, value: str, argv: Words, phase: str) -> Words:
    if phase == "train":
        print_line(f"note: {what} are in the run's folder, not in {value}")
    return []


def _refused(flag: str, remedy: str, value: str, argv: Words, phase: str) -> Words:
    raise OptionError("option", f"--{flag}", "is a flag of StarGAN's code alone", remedy)


# the flag here, or a function of (value, command line, phase) that returns the words here
OF_STARGAN: dict[str, str | Callable[[str, Words, str], Words]] = {
    "celeba_image_dir": partial(_of_dataset, "CelebA", "dataroot"),
    "rafd_image_dir": partial(_of_dataset, "RaFD", "dataroot"),
    "celeba_crop_size": partial(_of_dataset, "CelebA", "center_crop"),
    "rafd_crop_size": partial(_of_dataset, "RaFD", "center_crop"),
    "image_size": "crop_size", "g_conv_dim": "ngf", "d_conv_dim": "ndf",
    "d_lr": "lr_D", "g_lr": _g_lr, "num_workers": "num_threads", "test_iters": "epoch", "result_dir": "results_dir",
    "mode": _mode, "dataset": _dataset, "model_save_dir": _folder, "use_tensorboard": _tensorboard,
    "log_step": partial(_images, "print_freq"), "sample_step": partial(_images, "update_html_freq"),
    "model_save_step": partial(_images, "save_latest_freq save_by_iter"),
    "log_dir": partial(_of_run, "losses"), "sample_dir": partial(_of_run, "images of training"),
    "c2_dim": partial(_refused, "c2_dim", WORDS_OF_BOTH),
    "resume_iters": partial(_refused, "resume_iters", "use --continue_train, which resumes the newest state"),
    "lr_update_step": partial(_refused, "lr_update_step", "omit it: the learning rate falls once an epoch"),
}  # fmt: skip
