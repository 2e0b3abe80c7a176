"""Train a GAN: python train.py --model cycle_gan --dataroot ./horse2zebra."""

import sys

from cli.main import guarded
from options.parse import parse
from registry.attribution import during
from util.errors import Stopped, printable


def main(argv, report):
    """Set up a run from its command line, then train it to its last epoch."""
    o = parse(argv, "train")  # answers --help before the slow imports of what follows
    from cli.signals import StopRequest
    from training.dry_run import dry_run
    from training.preview import Preview
    from training.run_folder import RunFolder
    from util import device

    where = device.pick(o.gpu_ids)  # whatever is wrong with options and data is said before a folder is made
    loader, spec, model, shown = build(o, where)
    if o.dry_run:
        return print(dry_run(o, model, loader, where, train_step))
    folder, stop = RunFolder(o), StopRequest()
    report.exit_json, report.error_log = folder.path / "exit.json", folder.path / "error.log"
    report.release = folder.release
    run, display = set_up(o, folder, where, loader, spec, model)
    report.stands = run.stands
    if run.done:
        return
    try:
        train(run, loader, display, Preview(o, model, run.classes, *shown), stop)
    finally:
        loader.close()
        display.close()
    print(printable(f"done: {run.at.last_epoch} epochs; {folder.next_steps()}"))


def build(o, where):
    """Return the loader of batches, what the data set says of its images, a fresh model, and what Preview shows."""
    from data.loading.loader import Loader
    from inference.sampling import can_generate
    from networks.padding import check_sizes
    from networks.runtime.apply import tune
    from options import store
    from registry.lookup import find
    from training.fixed_samples import first_shown
    from training.preflight import rehearse
    from util import seeding

    dataset = find("dataset", o.dataset_mode)(o)
    spec = dataset.spec()
    store.adopt(o, spec)
    seeding.seed_everything(o.seed, o.deterministic, one_size="crop" in o.preprocess)
    model = find("model", o.model)(o, spec)
    check_sizes(model.networks().values(), spec.height, spec.width)
    loader = Loader(dataset, o, shuffle=not o.serial_batches, pin=where.type == "cuda")
    rehearse(model, o.model, o.dataset_mode, loader.sample(), spec.classes)
    tune(model.networks(), o, where)
    return loader, spec, model, first_shown(o, loader, can_generate(model))


def set_up(o, folder, where, loader, spec, model):
    """Return the run, continued if asked to, and its display; tell people what is about to be trained."""
    from displays.group import make_display
    from networks.summary import describe
    from options import store
    from training.run import Run

    run = Run(o, folder.path, model, where, loader.order.images(), spec.classes, loader.inventory)
    if run.done:  # it keeps the options it was trained with
        said = f"run {o.name} is done: {run.at.epoch - 1} epochs are trained; give a larger --n_epochs to go on"
    else:
        run.check_room(folder.reclaimed())
        folder.begin()
        store.save(o, folder.path, "train", spec)
        print(describe(model.networks(), spec.height, spec.width, o.verbose))
        size = f"{run.at.epoch_size} images, {len(loader)} steps an epoch"
        said = f"run {o.name}: {size}, on {run.device}, files in {run.folder}"
    print(*map(printable, (said, *run.notes)), sep="\n")
    return run, make_display(o, run.folder)


def train(run, loader, display, preview, stop):
    """Train from where the run stands to its last epoch; raise Stopped, saved, when a signal asks for it."""
    from training.run_folder import how_to_continue
    from training.timer import Stopwatch
    from util.device import move
    from util.image_io import first_pixels, pictures

    o, at = run.o, run.at
    display.start(at, preview.sheet)
    watch = Stopwatch()
    while at.epoch <= at.last_epoch:
        share = run.begin_epoch()
        for batch in stop.heed(loader.epoch(at.epoch, skip=at.seen)):
            batch = move(batch, run.device)
            waited = watch.lap("data")
            out, losses = train_step(**run.trained, batch=batch, step=at.step, admits=run.admits, parts=o.accumulate)
            run.means.add(losses)
            at.advance(len(batch["A"]), watch.lap("compute"), waited)
            display.step(at, run.means.latest, lambda shown=out: first_pixels(pictures(run.model, shown, o)))
            watch.lap("display")
            del out, losses  # their graph must not live beside the next one
            if stop.number:
                break
            if not at.epoch_done and (at.due(o.save_latest_freq) or run.overdue):
                run.save_latest()
            watch.lap("save")

        if not at.epoch_done:  # asked to stop, after a step or while no batch came
            run.save_latest()
            raise Stopped(stop.number, f"stopped and saved in epoch {at.epoch}; {how_to_continue(o)}")
        display.epoch(at, run.means.epoch(), watch.take(), o.lr * share)
        sheets = display.preview(at, preview)
        watch.lap("display")
        signal = stop.number
        done = run.end_epoch(keep=sheets, now=bool(signal))
        watch.lap("save")
        if signal and done < at.last_epoch:
            raise Stopped(signal, f"stopped and saved after epoch {done}; {how_to_continue(o)}")


def train_step(model, phases, optimizers, gates, batch, step, admits=lambda terms, batch: True, parts=1):
    """Run one batch, forward once, then each phase due at this step; return (out, {phase: {term: scalar}}).

    `gates` opens only the networks of the phase at hand, so that a loss reaches no others; losses that `admits`
    refuses (NaN) end the step. parts: of the batch, one after another (--accumulate).
    """
    from training import accumulation

    gates.open_all()
    work = accumulation.begin(model, batch, parts)
    losses = {}
    for phase in phases:
        if step % phase.every:
            continue
        gates.open_only(phase.name)
        optimizers[phase.name].zero_grad(set_to_none=True)
        with during(f"phase {phase.name}", model, phase.loss):  # what torch raises there does not say which
            terms = work.backward(phase, optimizers.scaled)
            if not admits(terms, batch):
                break
            optimizers.step(phase.name)
        losses[phase.name] = terms
    return work.out, losses


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
