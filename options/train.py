"""The flags of train.py alone."""

from dataclasses import dataclass

from options.fields import option


@dataclass
class Train:
    """training"""

    display_freq: int = option(400, "send pictures to visdom every N images", at_least=1, aside=True)
    display_ncols: int = option(4, "pictures in a row in visdom; 0: one window each", at_least=0, aside=True)
    display_id: int = option(1, "first visdom window; 0 turns visdom off", aside=True)
    display_server: str = option("http://localhost", "address of the visdom server", aside=True)
    display_env: str = option("main", "visdom environment", aside=True)
    display_port: int = option(8097, "port of the visdom server", at_least=1, at_most=65_535, aside=True)
    start_visdom: bool = option(False, "start a visdom server on this machine if none answers", aside=True)
    display_allow_remote: bool = option(
        False, "no warning that pictures leave this machine for --display_server", aside=True
    )
    displays: tuple[str, ...] = option(
        ("console", "health", "html", "visdom"),
        "who is shown losses and pictures, comma-separated",
        choices="display",
        aside=True,
    )
    update_html_freq: int = option(1000, "save pictures for the page every N images", at_least=1, aside=True)
    print_freq: int = option(100, "print losses every N images", at_least=1, aside=True)
    fixed_samples: int = option(
        8, "pictures whose translations the page shows at every epoch; 0: none", at_least=0, at_most=1000, aside=True
    )
    val_phase: str = option("val", "sub-folder of dataroot they are from; without it, that of --phase", aside=True)
    no_html: bool = option(False, "do not write the page web/index.html", aside=True)
    no_progress: bool = option(False, "plain lines instead of a progress bar", aside=True)
    save_latest_freq: int = option(5000, "save the latest weights every N images", at_least=1, aside=True)
    save_epoch_freq: int = option(5, "save numbered weights every N epochs", at_least=1, aside=True)
    sample_epoch_freq: int = option(
        10, "sheets of generated pictures every N epochs, with numbered weights", at_least=1, aside=True
    )
    save_minutes: float = option(
        10.0, "save the latest weights at least every N minutes; 0: no", at_least=0, aside=True
    )
    save_by_iter: bool = option(False, "save iter_N beside latest at every save_latest_freq", aside=True)
    keep_last: int = option(2, "states kept for --continue_train", at_least=1, aside=True)
    continue_train: bool = option(False, "go on where the run of this name stopped", momentary=True)
    init_from: str = option(
        "", "start from weights of a .pth file or of another run, whatever of them fits", aside=True
    )
    overwrite: bool = option(False, "start afresh in the folder of an earlier run of this name", momentary=True)
    epoch_count: int = option(1, "number of the first epoch", at_least=1, aside=True)
    phase: str = option("train", "sub-folder of dataroot to read")
    n_epochs: int = option(100, "epochs at the initial learning rate", at_least=0)
    n_epochs_decay: int = option(100, "epochs in which it then falls to zero", at_least=0)
    beta1: float = option(0.5, "first momentum of Adam", at_least=0, below=1)
    lr: float = option(0.0002, "initial learning rate", above=0)
    gan_mode: str = option("lsgan", "objective of the adversarial game", choices="objective", of_run=True, fixed=True)
    label_smoothing: float = option(0.0, "real is labelled 1 - this (vanilla, lsgan)", at_least=0, below=0.5)
    lambda_gp: float = option(10.0, "weight of the gradient penalty of wgangp", at_least=0)
    pool_size: int = option(50, "earlier generated images that discriminators still see", at_least=0)
    on_nan: str = option(
        "stop", "when a loss is NaN or Inf: end, leave the batch out, or go back to the last save",
        choices=("stop", "skip", "rollback"), aside=True,
    )  # fmt: skip
    watchdog: float = option(
        600.0, "say where the run stands when no step ends for N seconds; 0: no", at_least=0, aside=True
    )
    lr_policy: str = option("linear", "how the learning rate falls", choices="lr_policy")
    lr_decay_iters: int = option(50, "epochs between falls of --lr_policy step", at_least=1)
    allow_data_change: bool = option(
        False, "continue although pictures were added, removed or replaced", momentary=True
    )
    allow_option_change: bool = option(
        False, "continue although weights mean something else under what changed", momentary=True
    )
    accumulate: int = option(
        1,
        "parts of a batch that go through the networks one after another, to save memory",
        at_least=1,
        at_most=100_000,
    )
    amp: str = option("off", "mixed precision of the networks in training", choices=("off", "bf16", "fp16"))
    grad_checkpoint: bool = option(
        False, "compute activations again in the backward pass instead of keeping them: less memory, more time",
        aside=True,
    )  # fmt: skip
    dry_run: bool = option(
        False, "train two steps, tell parameters, operations, memory and time, write nothing", momentary=True
    )
    memory_format: str = option(
        "auto", "how weights lie in memory", choices=("auto", "contiguous", "channels_last"), aside=True
    )
    compile: str = option(
        "off", "have torch compile the networks", aside=True,
        choices=("auto", "off", "default", "reduce-overhead", "max-autotune"),
    )  # fmt: skip
    drop_last: bool = option(False, "leave out an epoch's last, smaller batch")
