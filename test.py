"""Translate or generate images with a trained run: python test.py --dataroot ./horse2zebra --name NAME."""

import sys
from pathlib import Path

from cli.main import run_script
from options.parse import answer_help, parse

if __name__ == "__main__":  # answers --help, then imports this file as a module and calls main
    sys.exit(run_script("test", sys.argv[1:], answer_help, parse))

from data.decoding.videos import Video, is_video
from data.loading.loader import Loader
from data.names.side_names import own_names
from inference import shared_translation
from inference.batch_translator import Translator
from inference.found_images import find_images
from inference.network_flags import read_network_flags
from inference.run_spec import run_spec, without_images
from inference.sampling import generate
from inference.streams.folder_watch import watch_folder
from inference.streams.image_translator import ImageTranslator
from inference.streams.video_frames import translate_video
from inference.trained_model import load_trained
from options import store
from pages.results import open_results
from pages.video_results import VideoResults
from pages.watch_results import WatchResults
from registry.lookup import find
from serialization import weight_files
from training.phase_optimizers import inference_networks
from util import ranks
from util.device import select_device
from util.errors import OptionError, count_text, print_line
from util.seeding import restores_settings, seed_everything


@restores_settings
def main(argv, report):
    """Load a run's networks, translate every image of the data set, and write the results page."""
    # Find the run.
    o = parse(argv, "test")
    folder = Path(o.checkpoints_dir) / o.name
    if folder.is_dir():
        report.log_errors(folder / "test_error.log")  # until there are results
    which = weight_files.file_prefix(o.epoch, o.load_iter)
    if not o.remembered:
        read_network_flags(o, folder, which)
    device = select_device(o.gpu_ids)
    seed_everything(o.seed, o.deterministic)

    # Find the images; a model without input needs only the Spec of those that it was trained on.
    known = store.load_spec(folder)
    o.run_classes = known.get("classes", [])  # labels number these, whichever of them the data set has
    model_class = find("model", o.model)
    if o.watch or (is_video(o.dataroot) and not o.generate):
        return translate_singly(o, folder, which, device)
    images = None if o.generate else find_images(o, folder, model_class)
    spec = run_spec(folder, known, images)

    # Build the model and load its weights.
    model = model_class(images.o if images else o, spec)
    networks = inference_networks(model)
    load_trained(o, folder, which, model, images.rename(networks) if images else networks, device)

    # Translate or generate images, and write the results page.
    results = open_results(o, folder, which, images is not None and images.dataset.paired, generated=images is None)
    results.log_errors(report)
    if images is None:
        generate(o, model, results, spec)
    else:
        translate(images, model, results, device)
    results.close()
    print_line(f"{results.counted} -> {results.page}")


def translate(images, model, results, device):
    """Run the model on the images of the data set until it ends or --num_test images are done."""
    o, loader = images.o, Loader(images.dataset, images.o, shuffle=False)
    try:
        with results.writer:  # its threads write earlier images while the model runs
            for shown, files in shared_translation.translate(Translator(o, model, device), loader, o.num_test):
                files = files if o.num_test is None else files[: o.num_test - results.count]
                results.add(images.rename(shown), [path_A for path_A, _ in files], [path_B for _, path_B in files])
                if results.count == o.num_test:
                    break
    finally:
        loader.close()


def translate_singly(o, folder, which, device):
    """Translate images that form no data set: the frames of a video, or those that arrive in the folder --watch."""

    def build(exchanged):
        model = find("model", o.model)(*without_images(o, folder, exchanged))
        return load_trained(o, folder, which, model, own_names(inference_networks(model), exchanged), device)

    if ranks.world_size() > 1:
        why = "is for one process: images are translated one after another"
        raise OptionError("option", "--watch" if o.watch else "--dataroot of a video", why, "omit torchrun")
    video = None if o.watch else Video(o.dataroot)
    translator = ImageTranslator(o, folder, build, device, alone=video is None)
    store.save(o, folder, "test")
    if video is None:
        with WatchResults(o) as results:
            print_line(f"watching {o.watch}; results are written to {results.path / 'images'}; Ctrl-C stops")
            return watch_folder(o, translator, results)
    with VideoResults(o, video) as videos:
        count = translate_video(video, translator, videos, o.num_test)
        print_line(f"{count_text(count, 'frame')} -> {', '.join(map(str, videos.close()))}")
