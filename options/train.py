"""The flags that only train.py has."""

from dataclasses import dataclass

from options.fields import option


@dataclass
class Train:
    """training"""

    # fmt: off
    display_freq: int = option(400, "send images to visdom and wandb every N training images", at_least=1, aside=True)
    display_ncols: int = option(4, "images in a row in visdom; 0: one window for each", at_least=0, aside=True)
    display_id: int = option(1, "first visdom window; 0 turns visdom off", aside=True)
    display_server: str = option("http://localhost",
        "visdom server: localhost, http://host:port, or an address with a path", aside=True)
    display_env: str = option("main", "visdom environment", aside=True)
    display_port: int = option(8097, "port of the visdom server", at_least=1, at_most=65_535, aside=True)
    start_visdom: bool = option(False, "start a visdom server on this machine if none answers", aside=True)
    display_allow_remote: bool = option(False,
        "do not warn when --display_server is another machine, which receives images and losses", aside=True)
    displays: tuple[str, ...] = option(("console", "health", "html", "visdom"),
        "where losses and images are shown, comma-separated", choices="display", aside=True)
    update_html_freq: int = option(1000, "renew the newest images of the page and of TensorBoard every N training"
        " images", at_least=1, aside=True)
    print_freq: int = option(100, "print losses every N images", at_least=1, aside=True)
    fixed_samples: int = option(8,
        "number of images whose translations the page shows after each epoch, in long runs about 50 times in all;"
        " 0: none",
        at_least=0, at_most=1000, aside=True)
    val_phase: str = option("val",
        "set of images for --fixed_samples and --metrics; if you give none and there is no val: --phase for samples,"
        " test for metrics", aside=True)
    eval_freq: int = option(1, "measure --metrics every N epochs, and after the last one", at_least=1, aside=True)
    eval_images: int = option(1000, "measure --metrics on at most this many images of --val_phase, evenly spread;"
        " 0: all", at_least=0, aside=True)
    early_stop: str = option("", "METRIC:PATIENCE: end the run when a metric of --metrics has had no better value in"
        " PATIENCE evaluations", aside=True)
    no_html: bool = option(False, "do not write the page web/index.html", aside=True)
    no_progress: bool = option(False, "plain lines instead of a progress bar", aside=True)
    save_latest_freq: int = option(5000, "save the latest weights every N images", at_least=1, aside=True)
    save_epoch_freq: int = option(5, "save numbered weights every N epochs", at_least=1, aside=True)
    export_format: str = option("pth", "files of weights: pth, as pytorch-CycleGAN-and-pix2pix writes, or safetensors,"
        " which other programs read too and which states the network's architecture",
        choices=("pth", "safetensors"), aside=True)
    keep_epochs: int = option(0, "number of numbered weights to keep, the newest ones; 0: all", at_least=0, aside=True)
    sample_epoch_freq: int = option(10,
        "models without input images: show generated images and save numbered weights every N epochs, and in the"
        " first and last",
        at_least=1, aside=True)
    save_minutes: float = option(10.0, "save the latest weights at least every X minutes; 0: off", at_least=0,
        aside=True)
    save_by_iter: bool = option(False, "at each --save_latest_freq, save the weights as iter_N as well as latest",
        aside=True)
    keep_last: int = option(2, "number of training states (weights and optimisers) to keep; --continue_train uses"
        " the newest readable one",
        at_least=1, aside=True)
    continue_train: bool = option(False, "resume the run of this name", momentary=True)
    init_from: str = option("", "start from the weights of a file or of another run; all that match are loaded",
        aside=True)
    overwrite: bool = option(False, "start a new run in the folder of an earlier run of this name", momentary=True)
    epoch_count: int = option(1, "number of the first epoch", at_least=1, aside=True)
    phase: str = option("train", "set of images to read: train, val, test, ...; train: the folder train, or trainA"
        " and trainB")
    n_epochs: int = option(100, "first epochs; with --lr_policy linear the learning rate is constant in them",
        at_least=0)
    n_epochs_decay: int = option(100, "further epochs; with --lr_policy linear the learning rate falls in them",
        at_least=0)
    beta1: float = option(0.5, "first momentum of Adam; momentum of sgd", at_least=0, below=1)
    beta2: float = option(0.999, "second momentum of Adam; decay of squared gradients of rmsprop", at_least=0, below=1)
    optimizer: str = option("adam", "optimiser of all networks", choices="optimizer")
    ema: float = option(0.0,
        "decay per step, such as 0.999, of a moving average of the generators' weights, which is shown and exported;"
        " 0: off",
        at_least=0, below=1)
    ema_rampup: float = option(0.0,
        "limit the half-life of --ema to this share of the images seen so far, such as 0.05; 0: off",
        at_least=0, at_most=1)
    lr: float = option(0.0002, "initial learning rate", above=0)
    gan_mode: str = option("lsgan", "adversarial loss", choices="objective", of_run=True, fixed=True)
    label_smoothing: float = option(0.0,
        "with --gan_mode vanilla or lsgan: the discriminator's target for real images is 1 - X instead of 1",
        at_least=0, below=0.5)
    lambda_gp: float = option(10.0, "weight of the gradient penalty (gamma of r1 and r2)", at_least=0)
    penalty: str = option("", "gradient penalty of the discriminator; default: gp for wgangp, none for others",
        choices="penalty")
    pool_size: int = option(50, "number of earlier generated images kept to show to discriminators", at_least=0)
    on_nan: str = option("stop", "when a loss is NaN or Inf: stop, skip the rest of the batch, or roll back to the last"
        " save",
        choices=("stop", "skip", "rollback"), aside=True)
    watchdog: float = option(600.0, "print where each thread is when no step ends for X seconds; 0: off", at_least=0,
        aside=True)
    rank_timeout: float = option(600.0, "with several processes (torchrun): end all when one makes no progress for X"
        " seconds", above=0, aside=True)
    no_sync_batch: bool = option(False, "with several processes: compute batch norms in each of them separately")
    lr_policy: str = option("linear", "learning rate schedule", choices="lr_policy")
    lr_decay_iters: int = option(50, "with --lr_policy step: divide the learning rate by 10 every N epochs", at_least=1)
    allow_data_change: bool = option(False, "resume although images were added, removed or replaced", momentary=True)
    allow_option_change: bool = option(False, "resume although an option that the weights depend on has"
        " changed",
        momentary=True)
    accumulate: int = option(1,
        "split a batch into this many parts that are computed one after another, to save memory", at_least=1,
        at_most=100_000)
    amp: str = option("off", "mixed precision in training; auto: bf16 if a trial of some steps finds it faster",
        choices=("auto", "off", "bf16", "fp16"))
    grad_checkpoint: bool = option(False,
        "recompute activations in the backward pass instead of keeping them: less memory, more time", aside=True)
    dry_run: bool = option(False, "train two steps, report parameters, operations, memory and time, write nothing",
        momentary=True)
    memory_format: str = option("auto",
        "memory layout of the weights; auto: the faster one of a trial (with --amp auto, or on CUDA), else contiguous",
        choices=("auto", "contiguous", "channels_last"),
        aside=True)
    fast_convolutions: bool | None = option(True,
        "faster algorithms for convolutions on a CPU, which round differently (--no_fast_convolutions turns them off)")
    compile: str = option("off", "compile the networks with torch.compile; auto: on CUDA if a trial finds it faster",
        aside=True,
        choices=("auto", "off", "default", "reduce-overhead", "max-autotune"))
    cuda_graphs: str = option("off",
        "run steps as CUDA graphs where nothing but the batch changes; auto: only if trials give the same bits",
        choices=("auto", "on", "off"), aside=True)
    drop_last: bool = option(False, "drop an epoch's last, smaller batch")
    # fmt: on
