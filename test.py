"""Translate or generate images with a trained run: python test.py --dataroot ./horse2zebra --name NAME."""

import sys
from itertools import islice
from pathlib import Path

from cli.main import run_script
from options.parse import answer_help, parse

if __name__ == "__main__":  # answers --help, then imports this file as a module and calls main
    sys.exit(run_script("test", sys.argv[1:], answer_help))

from data.base import Spec
from data.loading.loader import Loader
from inference.batch_translator import Translator
from inference.network_flags import read_network_flags
from inference.sampling import INTERPOLATION_STEPS, Request, has_sampler, sample_sheets
from inference.tiling import apply_tiling
from networks.runtime.apply import apply_inference_options
from options import store
from options.texts import mismatch_hint
from pages.results import Results
from registry.lookup import find
from serialization import weight_exports, weight_files
from training.optim import inference_networks
from util.class_names import select_classes
from util.device import select_device
from util.errors import printable
from util.image_io import SHEET_COLUMNS
from util.seeding import restores_settings, seed_everything


@restores_settings
def main(argv, report):
    """Load a run's networks, translate every image of the data set, and write the results page."""
    # Find the run.
    o = parse(argv, "test")
    folder = Path(o.checkpoints_dir) / o.name
    if folder.is_dir():
        report.error_log = folder / "error.log"
    which = weight_files.file_prefix(o.epoch, o.load_iter)
    if not o.remembered:
        read_network_flags(o, folder, which)
    device = select_device(o.gpu_ids)
    seed_everything(o.seed, o.deterministic)

    # Find the images; a model without input needs only the Spec of those that it was trained on.
    known = store.load_spec(folder)
    model_class = find("model", o.model)
    dataset = None if known and has_sampler(model_class) else find("dataset", o.dataset_mode)(o)
    spec = dataset.spec() if dataset else Spec(**known | {"classes": tuple(known["classes"])})
    store.fill_from_dataset(o, spec)

    # Build the model and load its weights.
    model = model_class(o, spec)
    networks = inference_networks(model)
    apply_tiling(networks, o)
    weight_exports.load(folder, which, networks, mismatch_hint(o))
    set_mode(model.to(device), o.eval)
    apply_inference_options(model.networks(), o, device)

    # Translate or generate images, and write the results page.
    store.save(o, folder, "test")
    results = Results(o, which, compare=dataset is not None and dataset.paired)
    if dataset is None:
        generate(o, model, results, spec.classes)
    else:
        translate(o, model, results, Loader(dataset, o, shuffle=False), device)
    results.close()
    print(printable(f"{results.count} images -> {results.page}"))


def translate(o, model, results, loader, device):
    """Run the model on the images of the data set until it ends or --num_test images are done."""
    translator = Translator(o, model, device)
    try:
        with results.writer:  # its threads write earlier images while the model runs
            for shown, paths in translator(islice(loader.epoch(0), o.num_test)):
                results.add(shown, paths if o.num_test is None else paths[: o.num_test - results.count])
                if results.count == o.num_test:
                    break
    finally:
        loader.close()


def generate(o, model, results, classes):
    """Generate from noise a grid, interpolations and single images of each class, or of --classes."""
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
