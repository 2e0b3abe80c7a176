"""Translate or generate images with a trained run: python test.py --dataroot ./horse2zebra --name NAME."""

import sys
from itertools import islice
from pathlib import Path

from cli.main import run_command
from cli.startup import skip_interpreter_shutdown
from options.parse import parse
from util.errors import CheckpointError, printable


def main(argv, report):
    """Load a run's networks, translate every image of the data set, and write the results page."""
    o = parse(argv, "test")  # answers --help before the slow imports below
    from data.base import Spec
    from data.loading.loader import Loader
    from inference.sampling import has_sampler, unused_flag_notes
    from inference.tiling import apply_tiling
    from networks.runtime.apply import apply_inference_options
    from options import store, texts
    from pages.results import Results
    from registry.lookup import find
    from serialization import weight_exports, weight_files
    from training.optim import inference_networks
    from util import seeding
    from util.device import select_device

    folder = Path(o.checkpoints_dir) / o.name  # find the run
    if folder.is_dir():
        report.error_log = folder / "error.log"
    which = weight_files.file_prefix(o.epoch, o.load_iter)
    if not o.remembered:
        read_architecture(o, folder, which)
    device = select_device(o.gpu_ids)
    seeding.seed_everything(o.seed, o.deterministic)
    known = store.load_spec(folder)  # a saved Spec replaces the data set of a model without input
    model_class = find("model", o.model)
    dataset = None if known and has_sampler(model_class) else find("dataset", o.dataset_mode)(o)
    spec = dataset.spec() if dataset else Spec(**known | {"classes": tuple(known["classes"])})
    store.fill_from_dataset(o, spec)
    model = model_class(o, spec)  # build the model and load its weights
    apply_tiling(inference_networks(model), o)
    weight_exports.load(folder, which, inference_networks(model), texts.mismatch_hint(o))
    set_mode(model.to(device), o.eval)
    apply_inference_options(model.networks(), o, device)
    # Generate or translate images, and write the results page.
    store.save(o, folder, "test")
    results = Results(o, which, compare=dataset is not None and dataset.paired)
    for note in unused_flag_notes(o.given, generates=dataset is None):
        print(printable(note))
    if dataset is None:
        generate_sheets(o, model, results, spec.classes)
    else:
        loader = Loader(dataset, o, shuffle=False)
        try:
            translate(o, model, results, loader.epoch(0), device)
        finally:
            loader.close()
    results.close()
    print(printable(f"{results.count} images -> {results.page}"))


def translate(o, model, results, batches, device):
    """Run the model on batches until the data set ends or --num_test images are done."""
    from inference.batch_translator import Translator

    with results.writer:  # its threads write earlier images while the model runs
        for shown, paths in Translator(o, model, device)(islice(batches, o.num_test)):
            results.add(shown, paths if o.num_test is None else paths[: o.num_test - results.count])
            if results.count == o.num_test:
                break


def generate_sheets(o, model, results, classes):
    """Generate from noise a grid, interpolations and single images of each class, or of --classes."""
    from inference.sampling import INTERPOLATION_STEPS, Request, sample_sheets
    from util.class_names import select_classes
    from util.image_io import SHEET_COLUMNS

    wanted = select_classes(o.classes, classes)
    columns = min(SHEET_COLUMNS, o.num_samples)
    numbers = {"grid": columns, "interpolation": INTERPOLATION_STEPS, "per_class": o.num_samples}
    for kind, number in numbers.items():
        sheets = sample_sheets(model, Request(kind, wanted, number, o.seed))
        results.add_sheets(kind, sheets, min(number, SHEET_COLUMNS), wanted if kind == "grid" else ())


def set_mode(model, evaluate):
    """Put the model in evaluation mode; with --no_eval, put only its networks in training mode."""
    model.eval()
    if not evaluate:
        for net in model.networks().values():
            net.train()


def read_architecture(o, folder, which):
    """Set the flags that the user did not give from the generator's weights, in a folder without options.json."""
    from networks.infer_architecture import infer_generator, weights_description
    from serialization import weight_files

    path = folder / f"{which}_net_G{getattr(o, 'model_suffix', '')}.pth"
    if not path.is_file() and (folder / f"{which}_net_G_A.pth").is_file() and o.model == "cycle_gan":
        path = folder / f"{which}_net_G_A.pth"
    inferred = infer_generator(weights := weight_files.load_weights(weight_files.check_exists(path)))
    if not inferred and "netG" not in o.given:
        other = weights_description(weights)
        why = f"holds the weights of {other}" if other else "does not match any known generator"
        raise CheckpointError("file", path, why, "name its network with --netG, from a --plugin if needed")
    flags = {flag: value for flag, value in inferred.items() if flag not in o.given}
    for flag, value in flags.items():
        setattr(o, flag, value)
    if flags:
        print(printable(f"read from {path.name}: " + " ".join(f"--{flag} {value}" for flag, value in flags.items())))


if __name__ == "__main__":
    ended = skip_interpreter_shutdown()
    ended.append(run_command(main, sys.argv[1:]))
    sys.exit(ended[0])
