"""The flags that train.py and test.py share."""

from dataclasses import dataclass

from options.fields import option


@dataclass
class Common:
    """all runs"""

    # fmt: off
    dataroot: str = option("demo", "folder of images, zip file, manifest, or tar shards in a folder or on a server,"
        " such as 'DATA/{0000..0099}.tar' (test.py: also an image or a video; default: the run's data);"
        " demo: images that the program draws", of_run=True, aside=True)
    name: str = option("experiment_name", "name of the run: its folder in checkpoints_dir and results_dir", aside=True)
    gpu_ids: str | None = option(None, "device: -1 CPU, 0 the first GPU, mps; default: the best available")
    checkpoints_dir: str = option("./checkpoints", "folder that holds the runs", aside=True)
    model: str = option("cycle_gan", "the GAN: a name from --list, or from a --plugin file", choices="model",
        of_run=True, fixed=True)
    input_nc: int = option(3, "channels of input images: 3 RGB, 1 grey", at_least=1, of_run=True)
    output_nc: int = option(3, "channels of output images: 3 RGB, 1 grey", at_least=1, of_run=True)
    ngf: int = option(64, "width of the generator: filters of its outermost layers", at_least=1, of_run=True)
    ndf: int = option(64, "width of the discriminator: filters of its first convolution", at_least=1, of_run=True)
    netD: str = option("basic", "discriminator: basic is the 70x70 PatchGAN; multiscale: several, each at half the size"
        " of the one before", choices="discriminator", of_run=True, fixed=True)
    netG: str = option("resnet_9blocks", "generator", choices="generator", of_run=True, fixed=True)
    n_layers_D: int = option(3, "depth of --netD n_layers, multiscale, pix2pixhd, spade", at_least=1, at_most=8,
        of_run=True)
    num_D: int = option(2, "scales of --netD multiscale, pix2pixhd, spade", at_least=1, at_most=8, of_run=True)
    norm: str = option("instance", "normalisation layers", choices="norm", of_run=True, fixed=True)
    init_type: str = option("normal", "weight initialisation", choices="initialiser", of_run=True, aside=True)
    init_gain: float = option(0.02, "scale of the initial weights", above=0, of_run=True, aside=True)
    no_dropout: bool = option(False, "no dropout in the generator (--dropout undoes it)", of_run=True,
        valued=True)
    padding: str = option("reflect", "padding inside residual blocks", choices=("reflect", "replicate", "zero"),
        of_run=True, fixed=True)
    no_antialias: bool = option(True, "downsample by strides (--antialias: with a blur, Zhang 2019, as in CUT)",
        of_run=True, fixed=True)
    no_antialias_up: bool = option(True, "upsample by learned filters (--antialias_up: fixed ones, as in CUT)",
        of_run=True, fixed=True)
    stylegan2_G_num_downsampling: int = option(1, "how often --netG stylegan2 halves its images", at_least=0, at_most=8,
        of_run=True, fixed=True)
    stylegan2_G_size: int = option(0, "image size for which --netG stylegan2 chooses its widths; 0: the smaller of"
        " --load_size and --crop_size in training, rounded to a power of two", at_least=0, at_most=65_536, of_run=True,
        fixed=True)
    n_downsample_global: int = option(4, "how often --netG global and local halve their images", at_least=0, at_most=8,
        of_run=True, fixed=True)
    n_blocks_global: int = option(9, "residual blocks of --netG global, and of the coarse part of local", at_least=0,
        at_most=1000, of_run=True, fixed=True)
    n_local_enhancers: int = option(1, "enhancers of --netG local, each for twice the size", at_least=1, at_most=8,
        of_run=True, fixed=True)
    n_blocks_local: int = option(3, "residual blocks of an enhancer of --netG local", at_least=0, at_most=1000,
        of_run=True, fixed=True)
    dataset_mode: str = option("unaligned", "layout and use of the data; default: that of the model",
        choices="dataset", of_run=True, fixed=True)
    direction: str = option("AtoB", "which side is the input", choices=("AtoB", "BtoA"), of_run=True, fixed=True)
    serial_batches: bool = option(False, "take images in order, not shuffled")
    num_threads: int = option(4, "worker processes that load images; 0: the main process loads them", at_least=0,
        at_most=256, aside=True)
    batch_size: int = option(1, "images per step", at_least=1, at_most=100_000)
    classes: str = option("", "use only these classes of labelled images, comma-separated; default: all")
    display_winsize: int = option(256, "width of an image on pages and in visdom, in pixels", at_least=1, aside=True)
    resize_conv: bool = option(False, "upsample by resizing, then convolving, to avoid checkerboard artefacts",
        of_run=True, fixed=True)
    epoch: str = option("latest", "weights to load: an epoch's number, latest, or, if the run had --metrics,"
        " best_METRIC or best (by the metric of --early_stop, else the first of --metrics)", momentary=True)
    load_iter: int = option(0, "load the weights iter_N of --save_by_iter, not those of --epoch; 0: off", at_least=0,
        momentary=True)
    verbose: bool = option(False, "print every layer of every network", momentary=True)
    suffix: str = option("", "appended to the name, for example {model}_{netG}_size{load_size}", aside=True)
    use_wandb: bool = option(False, "log the training run to Weights & Biases, as --displays ...,wandb does",
        aside=True)
    wandb_project_name: str = option("CycleGAN-and-pix2pix", "project in Weights & Biases", aside=True)
    plugin: tuple[str, ...] = option((), "a .py file or folder with plug-ins; may be repeated", of_run=True, aside=True)
    config: str = option("", "YAML or JSON file of options; the command line overrides it", momentary=True)
    download: bool = option(False, "download published weights (VGG19, ...) that a model, term or metric needs and"
        " torch's cache lacks", momentary=True)
    metrics: tuple[str, ...] = option((), "metrics of the generated images, comma-separated: names from --list"
        " (test.py, default: those of the run, and for pairs also L1, PSNR and those of plug-ins)", choices="metric",
        aside=True)
    metric_weights: tuple[str, ...] = option((), "FILE, or NETWORK=FILE, with the published weights of a network that"
        " a metric needs; may be repeated", aside=True)
    recipe: str = option("", "a named set of options from --list, or your own as a .yaml file; --config and the command"
        " line override it",
        of_run=True, aside=True)
    seed: int = option(0, "seed of all random numbers", at_least=0, at_most=2**63 - 1)
    deterministic: bool = option(False, "use only reproducible operations; slower on GPUs")
    debug: bool = option(False, "show tracebacks", momentary=True)
    # fmt: on
