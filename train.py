"""Train a GAN: python train.py --model cycle_gan --dataroot ./horse2zebra."""

import sys

from cli.main import run_command
from options.parse import parse
from registry.attribution import error_context
from util.errors import Stopped, printable


def main(argv, report):
    """Set up a run from the command line and train it to its last epoch."""
    o = parse(argv, "train")  # answers --help before the slow imports below
    from cli.signals import StopRequest
    from training.dry_run import estimate_cost
    from training.preview import Preview
    from training.run_folder import RunFolder
    from util.device import select_device

    device = select_device(o.gpu_ids)  # options and data are checked before a folder is created
    loader, spec, model, preview_data = build(o, device)
    if o.dry_run:
        return print(estimate_cost(o, model, loader, device, train_step))
    folder, stop = RunFolder(o), StopRequest()  # lock the folder, and have errors reported in it
    report.exit_json, report.error_log = folder.path / "exit.json", folder.path / "error.log"
    report.cleanup = folder.release
    run, display = set_up(o, folder, device, loader, spec, model)  # start or resume the run
    report.saved_text = run.saved_step_text
    if run.done:
        return
    try:
        train(run, loader, display, Preview(o, model, run.classes, *preview_data), stop)
    finally:
        loader.close()
        display.close()
    print(printable(f"done: {run.progress.last_epoch} epochs; {folder.next_steps()}"))


def build(o, device):
    """Return (loader, the data set's Spec, a newly initialised model, the data that Preview shows)."""
    from data.loading.loader import Loader
    from inference.sampling import has_sampler
    from networks.padding import check_sizes
    from networks.runtime.apply import apply_runtime_options
    from options import store
    from registry.lookup import find
    from training.fixed_samples import preview_inputs
    from training.preflight import run_preflight
    from util import seeding

    dataset = find("dataset", o.dataset_mode)(o)  # the data set, and the options that it determines
    spec = dataset.spec()
    store.fill_from_dataset(o, spec)
    seeding.seed_everything(o.seed, o.deterministic, one_size="crop" in o.preprocess)
    model = find("model", o.model)(o, spec)  # the model, initialised with the seed
    check_sizes(model.networks().values(), spec.height, spec.width)
    loader = Loader(dataset, o, shuffle=not o.serial_batches, pin=device.type == "cuda")
    run_preflight(model, o.model, o.dataset_mode, loader.example_batch(), spec.classes)
    apply_runtime_options(model.networks(), o, device)
    return loader, spec, model, preview_inputs(o, loader, has_sampler(model))


def set_up(o, folder, device, loader, spec, model):
    """Create the run, or resume it; print a summary, and return (run, display)."""
    from displays.group import make_display
    from networks.summary import summary_text
    from options import store
    from training.run import Run

    run = Run(o, folder.path, model, device, loader.batch_sampler.num_images(), spec.classes, loader.inventory)
    if run.done:  # its folder keeps the options it was trained with
        text = f"run {o.name} is done: {run.progress.epoch - 1} epochs are trained; raise --n_epochs to continue"
    else:
        run.check_disk_space(folder.reclaimable_bytes())
        folder.remove_previous_run()
        store.save(o, folder.path, "train", spec)
        print(summary_text(model.networks(), spec.height, spec.width, o.verbose))
        size = f"{run.progress.epoch_size} images, {len(loader)} steps an epoch"
        text = f"run {o.name}: {size}, on {run.device}, files in {run.folder}"
    print(*map(printable, (text, *run.notes)), sep="\n")
    return run, make_display(o, run.folder)


def train(run, loader, display, preview, stop):
    """Train from the current position to the last epoch; on a signal, save the run and raise Stopped."""
    from inference.visuals import first_visuals
    from training.run_folder import resume_command
    from training.timer import Timer
    from util.device import to_device

    o, progress = run.o, run.progress
    display.start(progress, preview.sheet)
    timer = Timer()
    while progress.epoch <= progress.last_epoch:
        lr_factor = run.begin_epoch()
        for batch in stop.until_requested(loader.epoch(progress.epoch, skip=progress.seen)):  # one step each
            batch = to_device(batch, run.device)
            waited = timer.lap("data")
            out, losses = train_step(**run.step_args, batch=batch, step=progress.step)
            run.losses.add(losses)
            progress.advance(len(batch["A"]), timer.lap("compute"), waited)
            display.step(progress, run.losses.latest, lambda out=out: first_visuals(run.model, out, o))
            timer.lap("display")
            del out, losses  # free their graph before the next step builds its own
            if stop.number:
                break
            if not progress.epoch_done and (progress.due(o.save_latest_freq) or run.save_overdue):
                run.save_latest()
            timer.lap("save")

        # End of the epoch: show and save what is due.
        if not progress.epoch_done:  # a signal stopped it, after a step or while it waited for a batch
            run.save_latest()
            raise Stopped(stop.number, f"stopped and saved in epoch {progress.epoch}; {resume_command(o)}")
        display.epoch(progress, run.losses.epoch_means(), timer.reset(), o.lr * lr_factor)
        sheets = display.preview(progress, preview)
        timer.lap("display")
        signal = stop.number
        done = run.end_epoch(keep_weights=sheets, force_save=bool(signal))
        timer.lap("save")
        if signal and done < progress.last_epoch:
            raise Stopped(signal, f"stopped and saved after epoch {done}; {resume_command(o)}")


def train_step(model, phases, optimizers, params, batch, step, accepts=lambda terms, batch: True, micro_batches=1):
    """Run forward on a batch, in `micro_batches` parts, then each phase due; return (out, {phase: {term: scalar}}).

    `params` freezes other phases' networks, so a loss cannot reach them. Losses that `accepts` refuses end the step.
    """
    from training import accumulation

    params.set_all_trainable()  # forward once for all phases
    work = accumulation.forward(model, batch, micro_batches)
    losses = {}
    for phase in phases:  # then the loss, backward and optimiser step of each phase that is due
        if step % phase.every:
            continue
        params.set_trainable(phase.name)
        optimizers[phase.name].zero_grad(set_to_none=True)
        with error_context(f"phase {phase.name}", model, phase.loss):  # torch's own errors do not name the phase
            terms = work.backward(phase, optimizers.scale_loss)
            if not accepts(terms, batch):
                break
            optimizers.step(phase.name)
        losses[phase.name] = terms
    return work.out, losses


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
