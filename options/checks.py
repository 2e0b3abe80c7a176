"""Reject combinations of flags that cannot work, before anything is built."""

import re
from pathlib import Path

from cli.launch import is_launched
from data.names.inputs import ONE_INPUT, Input, format_inputs, parse_inputs
from networks.toolbox.settings import tool
from options import best
from options.fields import Options
from options.store import holds_run
from options.toolbox import term_weights
from options.unused_flags import STYLEGAN2_G
from registry.lookup import find, is_known
from serialization.run_names import suggest_folder
from util.errors import OptionError
from util.size import Size, nearest_power_of_two, to_size
from util.spelling import name_hint

SCALE_STEPS = ("resize", "scale_width", "scale_shortside", "fixsize")
CROP_STEPS = ("crop", "patch", "trim")


def check_options(o: Options, phase: str) -> None:
    """Raise OptionError for flags that contradict each other; set the flags that follow from others."""
    whole = whole_preprocess(o) if phase == "test" else o.preprocess
    if phase == "test" and "load_size" not in o.given:
        o.load_size = test_load_size(o, whole, o.saved.get("load_size", o.load_size))
    _check_preprocess(o)
    _check_pixels(o)
    _check_inputs(o)
    if not re.fullmatch(rf"latest|[0-9]{{1,9}}|{best.PATTERN}", o.epoch):
        remedy = f"{name_hint(o.epoch, ['latest', 'best'])}give a number, latest or best"
        raise OptionError("option", "--epoch", f"'{o.epoch}' is not an epoch", remedy)
    if phase == "test" or o.continue_train:
        o.epoch = best.resolve_best(o, Path(o.checkpoints_dir) / o.name, o.saved)
    if o.gpu_ids is not None and "," in o.gpu_ids.strip(",") and not is_launched():
        count = len([word for word in o.gpu_ids.split(",") if word])
        why = f"'{o.gpu_ids}': one process drives one device"
        raise OptionError("option", "--gpu_ids", why, f"use torchrun --nproc_per_node={count} {phase}.py")
    if phase == "train":
        _check_training(o)
    else:  # like the reference: in order, not mirrored, one at a time (inference/batch_translator.py joins what it can)
        if ".." in Path(o.results_dir).parts or "{" in o.results_dir:
            remedy = "give an absolute path, or a folder below the current one"
            raise OptionError("option", "--results_dir", f"'{o.results_dir}' contains .. or braces", remedy)
        _check_networks_of_run(o)
        o.serial_batches, o.no_flip, o.batch_size = True, True, 1 if o.eval else o.batch_size
        o.preprocess = "native" if o.native else whole
        o.num_threads = o.num_threads if "num_threads" in o.given else 0


def _check_networks_of_run(o: Options) -> None:
    """Raise OptionError for a flag of the run's model that shapes its networks, with another value than the run's."""
    own = [flag for flag in o.flags.values() if flag.owner in (o.model, o.dataset_mode)]
    for name in (flag.name for flag in own if flag.meta["fixed"] and flag.meta["of_run"]):
        if name not in o.given or name not in o.saved:
            continue
        trained, given = o.saved[name], getattr(o, name)
        if given != trained:
            is_switch = isinstance(given, bool)
            why = f"is {given}, but the run was trained with {trained}"
            why = f"is given, but the run was trained {'with' if trained else 'without'} it" if is_switch else why
            raise OptionError("option", f"--{name}", why, "omit it: a run remembers such flags")


def test_load_size(o: Options, preprocess: str, trained: int | Size) -> int | Size:
    """Return the --load_size of a test that gives none: --crop_size, or `trained`, that of training.

    It is that of training if the test's `preprocess` is not the run's, because it does not cut, and for a data set that
    says so (scales_as_trained), unless images are cut.
    """
    cuts = set(preprocess.split("_and_")) & set(CROP_STEPS)
    keeps = getattr(find("dataset", o.dataset_mode), "scales_as_trained", False) and not cuts
    return trained if keeps or preprocess != o.preprocess else o.crop_size


def whole_preprocess(o: Options) -> str:
    """Return the --preprocess that keeps an image whole if this one cuts out a part of it, else --preprocess itself.

    It does not zoom. An image scaled to exactly --load_size is not cut in test.py, where --load_size is --crop_size by
    default. The flags that a user of test.py gives mean what they say.
    """
    words = o.preprocess.split("_and_")
    said = getattr(o, "native", None) is not None or (not o.isTrain and {"preprocess", "crop_size"} & o.given)
    if said:
        return o.preprocess
    if not set(words) & set(CROP_STEPS) or set(words) & {"resize", "fixsize"}:
        return "_and_".join(word for word in words if word != "zoom") or "native"
    return "_and_".join([*(word for word in words if word in SCALE_STEPS), "native"])


def _check_preprocess(o: Options) -> None:
    words = o.preprocess.split("_and_")
    if words not in (["none"], ["native"]) and not set(words) <= {*SCALE_STEPS, "zoom", *CROP_STEPS}:
        both = [f"{scale}_and_{crop}" for scale in (*SCALE_STEPS, "zoom") for crop in CROP_STEPS]
        remedy = name_hint(o.preprocess, [*both, *SCALE_STEPS, *CROP_STEPS, "zoom", "none"]) + (
            "choose one of resize_and_crop, crop, scale_width, scale_width_and_crop, none; or resize,"
            " scale_shortside, fixsize, zoom, patch, trim, or several of these joined by _and_"
        )
        raise OptionError("option", "--preprocess", f"'{o.preprocess}' is not a choice", remedy)
    for ways in (SCALE_STEPS, CROP_STEPS):
        if len(both := [word for word in ways if word in words]) > 1:
            raise OptionError("option", "--preprocess", f"{both[0]} and {both[1]} contradict each other", "omit one")
    load, crop = to_size(o.load_size), to_size(o.crop_size)
    small = load.width < crop.width or (load.height < crop.height and "resize" in words)
    if words[0] in ("resize", "scale_width") and set(CROP_STEPS) & set(words) and small:
        why = f"{o.load_size} is smaller than --crop_size {o.crop_size}"
        raise OptionError(
            "option", "--load_size", why, f"give --load_size {o.crop_size} or more, or a smaller --crop_size"
        )


def _check_inputs(o: Options) -> None:
    """Raise OptionError unless --inputs fits the run, whose numbers of channels it then has."""
    inputs = parse_inputs(o.inputs)
    if not (o.remembered and "inputs" in o.given):
        return
    saved = parse_inputs(o.saved.get("inputs", "")) or (Input(*ONE_INPUT, o.saved.get("input_nc", o.input_nc)),)
    fits = [now.channels in (0, then.channels) for now, then in zip(inputs, saved)]
    if len(inputs) != len(saved) or not all(fits):
        why = f"is {o.inputs or 'empty'}, but the run was trained with {format_inputs(saved)}"
        raise OptionError("option", "--inputs", why, "omit it, or name as many inputs of the same channels")
    o.inputs = format_inputs(Input(now.name, then.channels) for now, then in zip(inputs, saved))


def _check_pixels(o: Options) -> None:
    # imported here because --help needs neither Pillow nor NumPy
    from PIL import ImageColor

    from util.value_range import FULL_RANGES, MEASURED_RANGES, parse_range

    for flag in ("range", "range_A", "range_B"):
        text = vars(o)[flag]
        try:
            for part in text.split(";") if flag == "range_A" else [text]:  # one for each of several inputs
                if part not in ("", *MEASURED_RANGES, *FULL_RANGES):
                    parse_range(part)
        except ValueError as problem:
            remedy = "give LO,HI with LO below HI, such as 0,4095, or auto, or percentile"
            raise OptionError("option", f"--{flag}", str(problem), remedy) from None
    try:
        if o.background != "none":
            ImageColor.getrgb(o.background)
    except ValueError:
        why = f"'{o.background}' is not a colour"
        remedy = f"{name_hint(o.background, [*ImageColor.colormap, 'none'])}give a name such as white, #rrggbb, or none"
        raise OptionError("option", "--background", why, remedy) from None


def _check_training(o: Options) -> None:
    best.check_evaluation(o)
    if o.netG in STYLEGAN2_G and not o.stylegan2_G_size:
        o.stylegan2_G_size = nearest_power_of_two(o.load_size, o.crop_size)  # so that the run remembers it
    last = o.n_epochs + o.n_epochs_decay
    if last < 1:
        raise OptionError("option", "--n_epochs", "there are no epochs to train", "give --n_epochs 1 or more")
    if o.continue_train and o.overwrite:
        raise OptionError("option", "--overwrite", "contradicts --continue_train", "omit one")
    folder = Path(o.checkpoints_dir) / o.name
    if o.continue_train and not (o.remembered or holds_run(folder) or {"model", "dataroot"} & o.given):
        others = suggest_folder(folder)
        remedy = f"{others} (a new run needs --model or --dataroot)" if others else "give --model or --dataroot"
        raise OptionError("option", "--continue_train", f"there is no run {folder}", remedy)
    trained = o.saved.get("model", o.model)
    may_fit = o.allow_option_change or not holds_run(folder) or not is_known("model", trained)
    if o.continue_train and not may_fit and not issubclass(find("model", o.model), find("model", trained)):
        why = f"is {o.model}, but the run {o.name} was trained with {trained}"
        remedy = "omit --model to continue it, or give a new run another --name (--overwrite replaces this one)"
        raise OptionError("option", "--model", why, remedy)
    if holds_run(folder) and not (o.continue_train or o.overwrite):
        raise OptionError("option", "--name", f"{folder} already holds a run", "use --continue_train or --overwrite")
    if o.no_sync_batch and o.norm == "syncbatch":
        raise OptionError("option", "--no_sync_batch", "contradicts --norm syncbatch", "use --norm batch, or omit it")
    term_weights(tool(o, "terms", ()))
    if o.label_smoothing and not getattr(find("objective", o.gan_mode), "uses_label", True):
        why = f"has no effect with --gan_mode {o.gan_mode}"
        raise OptionError("option", "--label_smoothing", why, "use --gan_mode vanilla or lsgan")
