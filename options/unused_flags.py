"""Say which of the flags that were given have no effect in this command, with this model and these other flags."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.launch import is_launched
from data.shards.addresses import is_url
from networks import NETWORK_FLAGS
from networks.toolbox.settings import OWNER, tool
from options import store
from options.fields import Options
from options.toolbox import Toolbox
from registry import discovery
from registry.kinds import PART_FLAGS
from registry.lookup import entry, find, table
from util.errors import OptionError, printable
from util.size import to_size

STYLEGAN2_G, STYLEGAN2_D = ("stylegan2", "smallstylegan2"), ("stylegan2", "tilestylegan2")  # networks of ours
LABELED = ("labeled", "domains")  # data sets of ours with classes
OWN_NETWORKS = ("cgan", "stargan")  # models of ours that --netG and --netD do not choose networks for
PRETRAINED_TERMS = ("lambda_perceptual", "lambda_lpips")  # terms of the toolbox that need published weights
READING = ("pairs", "split", "max_dataset_size", "on_bad_image", "max_image_pixels", "range", "range_A", "range_B",
           "background", "icc", "load_size", "crop_size", "preprocess", "native", "interpolation_A",
           "interpolation_B")  # fmt: skip


@dataclass(frozen=True)
class Command:
    """What decides which flags have an effect: the options, the model's class, the model's own flags for training."""

    o: Options
    model: Any  # a subclass of BaseModel
    own: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether the model is built in; a plug-in may read any flag."""
        return entry("model", self.o.model).origin == "built in"

    @property
    def layout(self) -> str:
        """The --layout of label maps; empty for other data sets."""
        return vars(self.o).get("layout", "") if self.o.dataset_mode == "semantic" else ""

    @property
    def has_sheets(self) -> bool:
        """Whether the model generates images from noise."""
        return callable(getattr(self.model, "sheets", None))

    @property
    def translates_too(self) -> bool:
        """Whether a model that has sheets also has a forward pass of its own."""
        return self.has_sheets and not self.model.forward.__qualname__.startswith("BaseModel.")

    @property
    def generates(self) -> bool:
        """Whether test.py needs no images, because the model has sheets and the run knows the size of its images.

        A model that also translates does so with --translate, and if images are given and it was trained on two sides.
        """
        if self.o.isTrain or not self.has_sheets or not store.load_spec(self.folder):
            return False
        given = "dataroot" in self.o.given or bool(self.o.input)
        return self.o.generate or not (self.o.translate or (given and self.translates_too and self.has_two_sides))

    @property
    def has_two_sides(self) -> bool:
        """Whether the data set gives more than images of one side."""
        return find("dataset", self.o.dataset_mode).sides != "A"

    @property
    def has_classes(self) -> bool:
        """Whether the data set may have classes; that of a plug-in may."""
        return self.o.dataset_mode in LABELED or entry("dataset", self.o.dataset_mode).origin != "built in"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are measured: --metrics, or in a test of images those of the run."""
        of_run = () if self.o.isTrain or self.generates else self.o.saved.get("metrics", ())
        return self.o.metrics or tuple(of_run)

    @property
    def penalty(self) -> str:
        """The gradient penalty: --penalty, or what the objective needs."""
        own = "gp" if getattr(find("objective", self.o.gan_mode), "penalised", False) else "none"
        return self.o.penalty or own

    @property
    def ignores_classes(self) -> bool:
        """Whether --cond none tells a model to learn the images of all classes as one."""
        return vars(self.o).get("cond") == "none"

    @property
    def projects(self) -> bool:
        """Whether a network F of CUT projects features."""
        own = vars(self.o)
        return own.get("netF") == "mlp_sample" and own["lambda_NCE"] > 0

    @property
    def judges_without_norm(self) -> bool:
        """Whether there is no discriminator with normalisation layers and initialised weights."""
        return self.o.netD in STYLEGAN2_D or not self.o.isTrain

    @property
    def gives_video(self) -> bool:
        """Whether test.py translates a video."""
        # imported here because --help needs no NumPy
        from data.decoding.videos import is_video

        return not self.o.isTrain and not self.generates and is_video(self.o.dataroot)

    @property
    def is_new(self) -> bool:
        """Whether train.py starts a run, so that it loads nothing."""
        return self.o.isTrain and not self.o.continue_train

    @property
    def ignores_plugins(self) -> bool:
        """Whether every plug-in of a new run defines models alone, and the run trains none of them."""
        found = [each for each in discovery.list_entries() if not each.module]
        homes = {str(place) for each in found for place in (Path(each.origin), Path(each.origin).parent)}
        all_models = set(self.o.plugin) <= homes and {each.kind for each in found} == {"model"}
        return self.is_new and all_models and self.o.model not in {each.name for each in found}

    @property
    def resumes(self) -> bool:
        """Whether train.py continues from a saved state."""
        newest = self.o.isTrain and self.o.continue_train and not self.o.epoch.isdigit() and not self.o.load_iter
        return newest and any(self.folder.glob("state_*.pt"))

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.o.checkpoints_dir) / self.o.name

    def sizes_networks(self, name: str) -> bool:
        """Whether --load_size or --crop_size, the one called `name`, shapes networks: StyleGAN2's, SPADE's with a z."""
        if name == "crop_size" and self.o.netG == "spade" and getattr(self.o, "use_vae", False):
            return True
        sides = {flag: min(to_size(vars(self.o)[flag])) for flag in ("load_size", "crop_size")}
        sized = self.o.netG in STYLEGAN2_G or self.o.netD in STYLEGAN2_D
        return sized and sides[name] == min(sides.values())

    def shows(self, *displays: str) -> bool:
        """Whether one of these displays is on."""
        return bool(set(displays) & set(requested_displays(self.o)))

    @property
    def shows_samples(self) -> bool:
        """Whether a display that is on shows fixed samples."""
        return self.shows("html", "health", "tensorboard", "wandb")

    def steps(self, *words: str) -> bool:
        """Whether --preprocess has one of these steps."""
        return bool(set(words) & set(self.o.preprocess.split("_and_")))


def requested_displays(o: Options) -> list[str]:
    """Return the names in --displays without those that --no_html and --display_id 0 turn off.

    --use_wandb, the reference's flag, adds wandb.
    """
    off = ({"html"} if o.no_html else set()) | ({"visdom"} if o.display_id <= 0 else set())
    return [name for name in dict.fromkeys((*o.displays, *(["wandb"] if o.use_wandb else []))) if name not in off]


Condition = Callable[[Command], bool]
Rows = tuple[tuple[str, str, Condition], ...]  # (flags, why they have no effect, when)

BOTH: Rows = (
    ("download", "neither this model nor --metrics needs published weights",
     lambda c: c.is_ours and not c.metrics and not any(tool(c.o, name, 0.0) for name in PRETRAINED_TERMS)
     and (vars(c.o).get("no_vgg_loss", True) or not c.o.isTrain)),
    ("metric_weights", "there are no --metrics", lambda c: not c.metrics),
    ("epoch", "--load_iter chooses the weights", lambda c: c.o.load_iter > 0 and not c.is_new),
    ("classes", "only images of --dataset_mode labeled and domains have classes", lambda c: not c.has_classes),
    ("direction", "labelled images have one side", lambda c: c.o.dataset_mode in LABELED),
    ("pairs", "this data set has no pairs", lambda c: c.o.dataset_mode in ("single", "colorization")),
    ("random_scale_max", "--preprocess has no zoom", lambda c: not c.steps("zoom")),
    ("pairs split", "semantic takes the folders of --phase", lambda c: c.o.dataset_mode == "semantic"),
    ("feat_num nef n_downsample_E", "they are for --instance_feat and --label_feat",
     lambda c: c.is_ours and not (vars(c.o).get("instance_feat") or vars(c.o).get("label_feat"))),
    ("z_dim norm_E lambda_kld", "they are for --use_vae", lambda c: c.is_ours and vars(c.o).get("use_vae") is False),
    ("label_dir image_dir instance_dir", "they are for --layout custom", lambda c: c.layout != "custom"),
    ("dataroot phase", "--layout custom reads the folders that its flags name", lambda c: c.layout == "custom"),
    ("coco_no_portraits", "it is for --layout coco", lambda c: c.layout != "coco"),
    ("layout", "only --dataset_mode semantic reads such folders", lambda c: not c.layout),
    ("contain_dontcare_label", "--label_nc 0 reads no label maps", lambda c: vars(c.o).get("label_nc") == 0),
    ("split", "single takes all images", lambda c: c.o.dataset_mode == "single"),
    ("netG netD n_layers_D num_D no_dropout padding no_antialias no_antialias_up pool_size"
     " stylegan2_G_num_downsampling stylegan2_G_size"
     " n_downsample_global n_blocks_global n_local_enhancers n_blocks_local",
     "the model has its own networks", lambda c: c.o.model in OWN_NETWORKS),
    ("norm resize_conv", "stargan has its own networks", lambda c: c.o.model == "stargan"),
    ("selected_attrs", "it is for --attr_path", lambda c: not vars(c.o).get("attr_path")),
    ("pool_size", "gan and spade have no image pool", lambda c: c.o.model in ("gan", "spade")),
    ("norm", "SPADE's networks have --norm_G and --norm_D",
     lambda c: "norm_G" in vars(c.o) and c.o.netG == "spade" and (c.o.netD == "spade" or not c.o.isTrain)),
    ("lambda_class", "it is for --cond acgan", lambda c: vars(c.o).get("cond") != "acgan"),
    ("embedding_dim", "--cond none uses no classes", lambda c: c.ignores_classes),
    ("normG", "StyleGAN2's generator has no normalisation layers", lambda c: c.o.netG in STYLEGAN2_G),
    ("normD", "StyleGAN2's discriminator has no normalisation layers", lambda c: c.o.netD in STYLEGAN2_D),
    ("norm", "StyleGAN2's networks have no normalisation layers",
     lambda c: c.is_ours and c.o.netG in STYLEGAN2_G and c.judges_without_norm),
    ("resize_conv", "--antialias_up upsamples otherwise (--no_antialias_up)",
     lambda c: c.o.netG in NETWORK_FLAGS["no_antialias_up"]["generator"] and not c.o.no_antialias_up),
    ("netF netF_nc nce_layers nce_T num_patches nce_idt nce_includes_all_negatives_from_minibatch",
     "--lambda_NCE is 0", lambda c: vars(c.o).get("lambda_NCE") == 0),
    ("easy_label evaluation_freq", "CUT's own code does not use it either", lambda c: True),
    ("netF_nc", "it is for --netF mlp_sample", lambda c: vars(c.o).get("netF", "mlp_sample") != "mlp_sample"),
    ("shard_cache_gb", "--dataroot names no shards on a server", lambda c: not is_url(c.o.dataroot)),
    ("num_patches", "--netF reshape compares 16 means of each layer", lambda c: vars(c.o).get("netF") == "reshape"),
)  # fmt: skip
TRAIN: Rows = (
    ("rank_timeout no_sync_batch", "there is one process (torchrun starts several)", lambda c: not is_launched()),
    ("plugin", "it defines only models, and --model names none of them", lambda c: c.ignores_plugins),
    ("epoch load_iter allow_data_change allow_option_change", "a new run resumes nothing (--continue_train does)",
     lambda c: c.is_new),
    ("epoch_count", "the saved state says at which epoch the run continues", lambda c: c.resumes),
    ("init_type init_gain", "the run continues with its own weights", lambda c: c.resumes),
    ("init_type init_gain", "StyleGAN2's networks draw their own weights",
     lambda c: c.is_ours and c.o.netG in STYLEGAN2_G and c.o.netD in STYLEGAN2_D and not c.projects),
    ("init_type init_gain", "stargan's networks draw their own weights", lambda c: c.o.model == "stargan"),
    ("n_epochs n_epochs_decay", "--num_iters counts the steps", lambda c: bool(vars(c.o).get("num_iters"))),
    ("num_iters_decay", "it is for --num_iters", lambda c: not vars(c.o).get("num_iters")),
    ("lr_decay_iters", "it is for --lr_policy step", lambda c: c.o.lr_policy in ("linear", "cosine", "plateau")),
    ("beta1", "this optimizer has no momentum", lambda c: c.is_ours and c.o.optimizer in ("rmsprop", "adafactor")),
    ("beta2", "this optimizer has no such decay", lambda c: c.is_ours and c.o.optimizer in ("sgd", "adafactor")),
    ("ema_rampup", "--ema is off", lambda c: not c.o.ema),
    ("ema ema_rampup", "the model names no networks as averaged", lambda c: not getattr(c.model, "averaged", ())),
    ("attention_size", "--attention is off", lambda c: tool(c.o, "attention", "none") == "none"),
    ("ada_target ada_kimg", "--ada is off", lambda c: not tool(c.o, "ada", False)),
    ("vgg19_file", "it is for --lambda_perceptual",
     lambda c: not tool(c.o, "lambda_perceptual", 0.0) and vars(c.o).get("no_vgg_loss", True)),
    ("instance_feat", "--label_feat takes its place", lambda c: c.is_ours and bool(vars(c.o).get("label_feat"))),
    ("lambda_feat", "--no_ganFeat_loss turns its term off",
     lambda c: c.is_ours and bool("lambda_vgg" in vars(c.o) and vars(c.o).get("no_ganFeat_loss"))),
    ("lambda_vgg", "--no_vgg_loss turns its term off",
     lambda c: c.is_ours and bool(vars(c.o).get("no_vgg_loss"))),
    ("lambda_feat", "--no_ganFeat_loss and --no_vgg_loss leave nothing that it weighs",
     lambda c: c.is_ours and bool(vars(c.o).get("no_ganFeat_loss") and vars(c.o).get("no_vgg_loss"))),
    ("vgg16_file lpips_file", "it is for --lambda_lpips", lambda c: not tool(c.o, "lambda_lpips", 0.0)),
    ("lambda_gp", "there is no gradient penalty (see --penalty)",
     lambda c: c.is_ours and c.penalty == "none"),
    ("penalty", "its weight --lambda_gp is 0",  # but gan and cgan choose D's norm by it
     lambda c: c.is_ours and not c.o.lambda_gp and c.penalty != "none"
     and not ("cond" in vars(c.o) and "batch" in c.o.norm)),
    ("display_ncols display_server display_env display_port start_visdom display_allow_remote",
     "no display that is on uses it", lambda c: not c.shows("visdom")),
    ("display_port", "--display_server names the port", lambda c: bool(re.search(r":\d+(/|$)", c.o.display_server))),
    ("display_freq", "no display that is on uses it", lambda c: not c.shows("visdom", "wandb")),
    ("display_winsize", "no display that is on uses it", lambda c: not c.shows("html", "visdom")),
    ("update_html_freq", "no display that is on uses it", lambda c: not c.shows("html", "tensorboard")),
    ("wandb_project_name", "Weights & Biases is off (--use_wandb)", lambda c: not c.shows("wandb")),
    ("no_progress", "console is not in --displays", lambda c: not c.shows("console")),
    ("fixed_samples", "this model generates images from noise", lambda c: c.has_sheets),
    ("val_phase", "this model generates images from noise", lambda c: c.has_sheets and not c.o.metrics),
    ("fixed_samples", "no display shows fixed samples", lambda c: not c.shows_samples and not c.has_sheets),
    ("val_phase", "no display shows fixed samples",
     lambda c: not c.shows_samples and not c.has_sheets and not c.o.metrics),
    ("val_phase", "there are no --fixed_samples",
     lambda c: not c.o.fixed_samples and not c.has_sheets and not c.o.metrics),
    ("eval_freq eval_images", "nothing is measured (--metrics)", lambda c: not c.o.metrics),
    ("sample_epoch_freq", "this model generates no images from noise", lambda c: not c.has_sheets),
    ("accumulate", "a batch is one image (--batch_size 1)", lambda c: c.o.batch_size == 1),
    ("cache_gb", "--cache is off", lambda c: c.o.cache == "off"),
    ("cache_dir", "it is for --cache disk, remote shards", lambda c: c.o.cache != "disk" and not is_url(c.o.dataroot)),
    ("load_size", "--preprocess does not scale to it",
     lambda c: not c.steps("resize", "scale_width", "scale_shortside") and not c.sizes_networks("load_size")),
    ("crop_size", "--preprocess does not use it",
     lambda c: not c.steps("crop", "patch", "trim", "zoom", "fixsize", "scale_width")
     and not c.sizes_networks("crop_size")),
)  # fmt: skip
TEST: Rows = (
    ("num_iters num_iters_decay", "only training uses it", lambda c: True),
    ("ndf netD n_layers_D num_D d_repeat_num", "test.py loads no discriminator",
     lambda c: bool(getattr(c.model, "averaged", ()))),
    ("netD ndf n_layers_D num_D", "the model has no discriminator", lambda c: c.o.model == "test"),
    ("init_type init_gain", "the weights are those of the run", lambda c: True),
    ("classes", "the run's --cond none uses no classes", lambda c: c.ignores_classes),
    ("use_wandb wandb_project_name", "results are pages and files", lambda c: True),
    ("verbose", "train.py prints the layers", lambda c: True),
    ("cache cache_gb", "test.py reads every image once", lambda c: True),
    ("coco_no_portraits", "only training reads portraits", lambda c: True),
    ("cache_dir", "test.py uses it only for shards on a server", lambda c: not is_url(c.o.dataroot)),
    ("augment augment_A augment_B", "test.py does not augment images", lambda c: True),
    ("overlap tile_norm", "it is for --tile", lambda c: not c.o.tile),
    ("load_size crop_size preprocess", "--native keeps the size of every image", lambda c: bool(c.o.native)),
    ("load_size crop_size", "--preprocess none keeps the size of every image", lambda c: c.steps("none")),
    ("load_size", "--preprocess does not scale to it",
     lambda c: not c.steps("resize", "scale_width", "scale_shortside", "none") and not c.o.native),
    ("crop_size", "--preprocess does not use it",  # beside --load_size, which else is --crop_size
     lambda c: "load_size" in c.o.given and not c.o.native
     and not c.steps("crop", "patch", "trim", "zoom", "fixsize", "scale_width", "none")),
    ("display_winsize", "--results_only writes no page", lambda c: bool(c.o.results_only)),
    ("input_nc output_nc", "the run knows the channels of its images", lambda c: c.generates and c.is_ours),
    ("batch_size", "every image is translated as if it were alone, several at a time where that is the same",
     lambda c: not c.generates and c.o.eval),
    ("num_samples", "this model does not generate samples from noise", lambda c: not c.generates),
    ("metrics metric_weights display_winsize num_threads phase split max_dataset_size batch_size on_bad_image",
     "--watch translates single images and writes no page", lambda c: bool(c.o.watch)),
    ("metrics metric_weights display_winsize num_threads phase split max_dataset_size batch_size on_bad_image"
     " aspect_ratio format", "of a video test.py makes a video", lambda c: c.gives_video),
    ("translate generate", "the model can do nothing else", lambda c: not (c.has_sheets and c.translates_too)),
    ("num_results dataroot num_test results_only batch_size num_threads aspect_ratio " + " ".join(READING),
     "this model generates images from noise", lambda c: c.generates),
)  # fmt: skip


def check_task(command: Command) -> None:
    """Raise OptionError for --translate, --generate or a folder that a test of this model cannot take."""
    o, name = command.o, command.o.model
    if o.translate and o.generate:
        raise OptionError("option", "--generate", "contradicts --translate", "omit one")
    if o.generate and not command.has_sheets:
        why = f"{name} translates images and generates none from noise: it has no sheets(request)"
        raise OptionError("option", "--generate", why, "omit it")
    if o.generate and not command.generates:
        why = f"{command.folder / store.OPTIONS_FILE} does not say how large the run's images are"
        raise OptionError("option", "--generate", why, "restore the file")
    if o.translate and command.has_sheets and not command.translates_too:
        why = f"{name} generates images from noise and translates none: it has no forward(batch)"
        raise OptionError("option", "--translate", why, "omit it")
    if o.watch and not Path(o.watch).is_dir():
        raise OptionError("option", "--watch", f"there is no folder {o.watch}", "create it, or correct its path")
    if (given := o.watch or o.input) and command.generates:
        why = f"{name} generates images from noise and reads no folder or file"
        other = "" if command.is_ours or o.generate or not command.translates_too else "; to translate, add --translate"
        named = "" if Path(given).exists() else f"; for a class write --classes {given}"
        raise OptionError(*(("option", "--watch") if o.watch else ("argument", given)), why, f"omit it{named}{other}")


def unused(command: Command) -> dict[str, str]:
    """Return {flag: why} of all flags that would have no effect if they were given."""
    o = command.o
    found: dict[str, str] = {}
    for flags, why, applies in (*BOTH, *(TRAIN if o.isTrain else TEST)):
        if applies(command):
            found = dict.fromkeys(flags.split(), why) | found
    if o.model not in OWN_NETWORKS:
        found = _flags_of_other_networks(o) | found
    replaced = {name for name in vars(Toolbox()) if o.flags[name].owner != OWNER}  # by a flag of the model's own,
    replaced.discard("lambda_feat")  # of which the table tells
    found = {name: why for name, why in found.items() if name not in replaced}
    if not o.isTrain:
        found = dict.fromkeys(command.own, "only training uses it") | found
        for name in ("serial_batches", "no_flip"):
            if not getattr(o, name):  # --no_serial_batches, --flip
                found[name] = "test.py takes images in order and not mirrored"
    return found


def _flags_of_other_networks(o: Options) -> dict[str, str]:
    """Return {flag: why} of flags that only networks read which are not chosen; those of plug-ins may read any."""
    found = {}
    for flag, kinds in NETWORK_FLAGS.items():
        readers = {kind: names for kind, names in kinds.items() if o.isTrain or kind == "generator"}
        chosen = {kind: vars(o)[PART_FLAGS[kind].removeprefix("--")] for kind in readers}
        may_read = [name in readers[k] or table(k).origin(name) != "built in" for k, name in chosen.items()]
        if readers and not any(may_read):
            found[flag] = "it is for " + " or ".join(f"{PART_FLAGS[k]} {', '.join(readers[k])}" for k in readers)
    return found


def notes(command: Command) -> list[str]:
    """Return a note for each reason why flags that were given have no effect."""
    by_reason: dict[str, list[str]] = {}
    for name, why in unused(command).items():
        if name in command.o.given:
            flag = command.o.flags[name]
            is_off = flag.is_switch and getattr(command.o, name) is False
            by_reason.setdefault(why, []).append(f"--{flag.opposite if is_off else name}")
    found = [
        printable(f"note: {', '.join(flags)} {'has' if len(flags) == 1 else 'have'} no effect: {why}")
        for why, flags in by_reason.items()
    ]
    if command.generates and command.translates_too and command.has_two_sides and not command.o.generate:
        found.append(printable(f"note: {command.o.model} generates images from noise; with --translate it translates"))
    return found
