"""Train a GAN: python train.py --model cycle_gan --dataroot ./horse2zebra. docs/batch.md shows a batch's way."""

import sys
from contextlib import closing

from cli.main import run_script
from options.parse import answer_help, parse

if __name__ == "__main__":  # answers --help, or imports this file as a module and calls main
    sys.exit(run_script("train", sys.argv[1:], answer_help, parse))

from cli.signals import StopRequest
from data.loading.loader import Loader
from displays.group import make_display
from inference.visuals import first_visuals
from options.store import fill_from_dataset
from registry.attribution import error_context
from registry.lookup import find
from training.dry_run import estimate_cost
from training.evaluation.run_evaluation import make_evaluation
from training.forward_pass import run_forward
from training.preflight import run_preflight
from training.preview import make_preview
from training.run import start_run
from training.run_folder import RunFolder, resume_command
from training.timer import Timer
from training.trials.runtime import apply_fastest
from util.device import select_device, to_device
from util.errors import Stopped, print_line
from util.seeding import restores_settings, seed_everything


def main(argv, report=None):
    """Train as the command line says."""
    for _ in training(parse(argv, "train"), report):  # what it yields is for callers from Python
        pass


@restores_settings
def training(o, report=None, signals=True):
    """Train a run to its last epoch, yielding its Progress after each step; save it if the caller stops early."""
    # Find the data, build the model, and check that they fit, before a folder is created.
    device = select_device(o.gpu_ids)
    dataset = find("dataset", o.dataset_mode)(o)
    spec = fill_from_dataset(o, dataset.spec())  # channels, size, classes: the flags that the images determine
    seed_everything(o.seed, o.deterministic, one_size="crop" in o.preprocess)  # one_size: cuDNN may tune
    model = find("model", o.model)(o, spec)
    loader = Loader(dataset, o, shuffle=not o.serial_batches, pin=device.type == "cuda")
    run_preflight(train_step, o, model, loader.example_batch(), spec)  # one step of a copy on the meta device
    apply_fastest(train_step, o, model, loader, device)  # kernels, --amp, --compile, ...; "auto" by a trial
    if o.dry_run:
        return print_line(*estimate_cost(train_step, o, model, loader, device).splitlines())
    preview, evaluation = make_preview(o, model, loader, spec), make_evaluation(o, model, loader, spec)

    # Lock the run's folder, start the run or resume it, and train.
    with RunFolder(o, report) as folder, StopRequest(signals) as stop:  # a signal then ends the run after a step
        run = start_run(o, folder, device, loader, spec, model, evaluation)  # new or resumed, on the device
        if run.done:  # start_run has said so
            return
        with closing(make_display(o, folder.path)) as display, closing(loader), run.saved_if_left():
            display.start(run.progress, preview.data_sheet)
            yield from train(run, loader, display, preview, stop)
        print_line(f"done: {run.evaluation.trained_text(run.progress)}; {folder.next_steps()}")


def train(run, loader, display, preview, stop):
    """Train from the run's position until it is done, or save it and raise Stopped after a signal."""
    o, progress, timer = run.o, run.progress, Timer()
    while not run.done:  # one epoch each; done: after the last one, or by --early_stop
        lr = o.lr * run.set_learning_rates()  # sets all rates by --lr_policy, returns the factor; lr is only shown
        for batch in timer.waiting("data", stop.until_requested(loader.epoch(progress.epoch, skip=progress.seen))):
            with timer("compute"):
                out, losses = train_step(run.train_state, to_device(batch, run.device), run.now())  # now: epoch, step
                run.losses.add(losses)
            progress.advance(run.count_images(batch), timer.last["compute"], timer.last["data"])  # of all processes
            with timer("display"):
                display.step(progress, run.losses.latest, first_visuals, run.model, out, o)  # first_visuals: if due
            del out, losses  # free their graph before the next step builds its own
            with timer("save"):
                run.save_if_due(unless=bool(stop.signal))  # by images or minutes; after a signal it is saved below
            yield progress

        # The end of the epoch: measure, show and save what is due.
        if not progress.epoch_done:  # only a signal ends it early, after a step or while waiting for a batch
            run.save_latest()
            raise Stopped(stop.signal, f"stopped and saved in epoch {progress.epoch}; {resume_command(o)}")
        measured = run.evaluation.measure(run, timer, stop)  # --metrics, of averaged weights (--ema); None if not due
        display.epoch(progress, run.losses.epoch_means(), timer.take(), lr, measured)  # take() resets the timer
        with timer("display"), run.ema.applied():  # the page's images come from averaged weights, as those of test.py
            has_sheets = display.preview(progress, preview)  # fixed samples, or sheets if images are made from noise
        with timer("save"):  # counts the epoch; keeps weights that drew sheets; reads the signal once, for both uses
            epoch = run.end_epoch(keep_weights=has_sheets, force_save=bool(stop_signal := stop.signal))
        if stop_signal and not run.done:
            raise Stopped(stop_signal, f"stopped and saved after epoch {epoch}; {resume_command(o)}")


def train_step(state, batch, now):
    """Run forward on a batch, then train each phase that is due; return (outputs to show, {phase: {term: scalar}})."""
    forward_pass, losses = run_forward(state, batch, now), {}  # calls the model, with all networks trainable
    for phase in state.due_phases(now):  # a phase: a loss and the networks that it trains
        with state.only_trainable(phase), error_context(f"phase {phase.name}", state.model, phase.loss):
            state.optimizers.zero_grad(phase.name)
            terms = forward_pass.compute_gradients(phase, state.optimizers.scale_loss)  # backward; fp16 scales the loss
            terms = state.average_gradients(phase, terms)  # both averaged over processes
            if not state.check_losses(terms, batch):
                break  # NaN or Inf: skip this phase and later ones; --on_nan may also have restored older weights
            state.optimizers.step(phase.name)
        losses[phase.name] = terms
    state.end_step(now)  # the model's after_step, --warmup, --ema; also after a skipped batch
    return forward_pass.out, losses
