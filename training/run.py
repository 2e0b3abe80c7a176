"""The state of a training run: model, optimisers, progress and history; saving and resuming it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data.base import Spec
from data.listing.fingerprint import LABELS_CHANGED, Inventory
from data.loading.loader import Loader
from networks.frozen import frozen_digests, without_frozen
from networks.summary import summary_text
from networks.toolbox import tool_state
from options import store
from options.recipe import recommended
from registry.training_position import Now
from serialization import checkpoint, mismatch, rank_exchange, weight_exports, weight_files
from serialization.init_from import init_from
from serialization.own_state import IdleNetworks, own_state
from serialization.pretrained import describe_changes, files_read
from serialization.run_names import suggest_folder
from serialization.safetensors_file import check_writable
from serialization.weight_names import list_weights
from training import lr_schedule
from training.distributed import rank_state
from training.evaluation.run_evaluation import RunEvaluation
from training.loss_meter import LossMeter
from training.nan_guard import NanGuard
from training.option_changes import compare_options
from training.phase_optimizers import trained_networks
from training.run_folder import RunFolder, keep_sources
from training.state_checks import check_state, check_state_shapes, state_shapes
from training.train_state import TrainState
from util import disk_space, ranks
from util.errors import CheckpointError, DataError, UserError, count_text, print_line
from util.progress import Progress


def start_run(
    o: Any, folder: RunFolder, device: torch.device, loader: Loader, spec: Spec, model: Any, evaluation: Any
) -> "Run":
    """Return a new or resumed run, and print its size; its folder then holds its options, and no files of another."""
    rank_state.check_same_images(loader.inventory)
    run = Run(
        o, folder.path, model, device, loader.batch_sampler.num_images(), spec.classes, loader.inventory, evaluation
    )
    folder.report.run, folder.report.saved_text = run, run.saved_step_text
    if run.done:  # its folder keeps the options it was trained with
        trained, more = run.evaluation.ending(run.progress.epoch - 1)
        text = f"run {o.name} is done: {trained}; {more} to continue"
    else:
        if ranks.rank() == 0:
            _write_start(run, folder, spec)
        print_line(*summary_text(model.networks(), spec.height, spec.width, o.verbose).splitlines())
        size = f"{count_text(run.progress.epoch_size, 'image')}, {count_text(len(loader), 'step')} an epoch"
        text = f"run {o.name}: {size}, on {run.device}, files in {run.folder}"
    print_line(text, *run.notes)
    return run


def _write_start(run: "Run", folder: RunFolder, spec: Spec) -> None:
    """Make room for a run, and write its options and the source of its plug-ins."""
    run.check_disk_space(folder.reclaimable_bytes())
    folder.remove_previous_run()
    if run.o.continue_train and (before := store.load_own_fields(folder.path)):
        changed = store.with_run_fields(folder.path, spec, before)[1].items()
        run.notes += [f"note: spec.{name} is {now}; it was {was} before" for name, (was, now) in changed]
    store.save(run.o, folder.path, "train", spec, run.pretrained)
    run.notes += [*store.numbering_note(run.o), *keep_sources(folder.path), *recommended(run.o, run.device.type)]


@dataclass(eq=False)
class Run:
    """Model, phases, optimisers, progress and loss history of one training run, saved in one folder."""

    o: Any
    folder: Path
    model: Any
    device: torch.device
    epoch_size: int  # images in an epoch
    classes: tuple[str, ...] = ()
    inventory: Inventory = field(default_factory=Inventory)
    evaluation: RunEvaluation = field(default_factory=RunEvaluation)  # --metrics

    def __post_init__(self) -> None:
        # Model and optimisers.
        o = self.o
        self.model = self.model.to(self.device)  # in training mode, except what its __init__ put in evaluation mode
        self.train_state = TrainState.from_options(self.model, o)
        self.state_shapes = state_shapes(self.model)  # every saved state must have these
        self.train_state.check_losses = lambda terms, batch: self.nan_guard.check_losses(terms, batch, self.progress)
        self.phases, self.optimizers = self.train_state.phases, self.train_state.optimizers
        self.ema = self.train_state.ema
        self.idle = IdleNetworks({n: net for n, net in self.model.networks().items() if n not in self.networks()})
        # Progress and losses.
        self.progress = Progress(epoch=o.epoch_count)
        self.last_epoch = o.n_epochs + o.n_epochs_decay
        self.losses = LossMeter()
        self.history: list[float] = []  # the generator's mean loss in each finished epoch, for the plateau policy
        self.notes: list[str] = rank_state.synchronise_norms(self.model, o)
        self.pretrained = files_read() | frozen_digests(self.model)
        self.has_new_permission = False  # a change was allowed that no saved state holds yet
        # Resume, or start from other weights.
        resumed = o.continue_train and self._resume()
        if resumed and not self.done:
            self._compare_pretrained()
        if o.init_from and resumed and "init_from" in o.given:
            self.notes.append("--init_from has no effect: the run continues with its own weights")
        if o.init_from and not resumed:
            self.notes += init_from(o.init_from, self.networks(), o.checkpoints_dir)
            self.ema.restart()
        if not (resumed and self.progress.step):  # a state has given each process its own
            rank_state.start_together(self.model, o.seed, self.progress.epoch)
            self.ema.restart()
        self.progress.epoch_size, self.progress.last_epoch = self.epoch_size, self.last_epoch
        batch_size = o.batch_size * ranks.world_size()
        if self.epoch_size < batch_size and not self.done:
            makes = f"{count_text(self.epoch_size, 'image')} {'makes' if self.epoch_size == 1 else 'make'}"
            why = f"{makes} one batch of {self.epoch_size}, less than --batch_size {batch_size}"
            self.notes.append(f"note: {why}: an epoch is one step (a smaller --batch_size gives more)")
        steps = -(-self.epoch_size // batch_size) * (self.last_epoch + 1 - self.progress.epoch)
        if o.export_format == "safetensors":
            check_writable({name: net.state_dict() for name, net in self.exported().items()})
        self.notes += self.optimizers.warmup_notes(self.progress.step + steps)
        self.notes += self.optimizers.unused_settings(o.given) + self.ema.notes(self.model.averaged, steps)
        on_cuda = self.device.type == "cuda"
        saved_step = partial(rank_exchange.from_first, self._last_saved_step)
        self.nan_guard = NanGuard(o.on_nan, saved_step, self._roll_back, deferred=on_cuda)
        self.last_save_time = time.monotonic()

    @property
    def done(self) -> bool:
        """Whether all requested epochs are trained, or --early_stop has ended the run."""
        return self.progress.epoch > self.last_epoch or bool(self.evaluation.stopped)

    def networks(self) -> dict[str, nn.Module]:
        """Return by name the networks that are trained."""
        return trained_networks(self.model, self.phases)

    def exported(self) -> dict[str, nn.Module]:
        """Return what is exported: the trained networks, others that the run changes, and the model's own tensors."""
        return self.networks() | self.idle.changed() | own_state(self.model, self.model.networks())

    def check_disk_space(self, reclaimable_bytes: int) -> None:
        """Raise EnvironmentFault if the free space plus `reclaimable_bytes` is too small for this run's files.

        Image pools and the images of web pages are not counted. If only the numbered weights do not fit, add a note.
        """
        files = disk_space.tensor_bytes([net.state_dict() for net in self.networks().values()])
        moments = 2 * disk_space.tensor_bytes([group["params"] for group in self.optimizers.param_groups()])
        state = disk_space.tensor_bytes([self.model.state_dict(), self.ema.state_dict()]) + moments
        state_count = len(checkpoint.state_files(self.folder))
        best = self.evaluation.missing_bests(self.folder)
        number = best + max(1, self.o.keep_last + 1 - state_count)  # the oldest is removed after a new one is written
        needed = number * state + (0 if state_count else files) + best * files
        parts = f"{number} x {disk_space.format_bytes(state)} of state, {disk_space.format_bytes(files)} of weights"
        disk_space.check_free_space(self.folder, needed, parts, reclaimable_bytes)
        # Add a note if the numbered weights do not fit.
        times = self.progress.last_epoch // self.o.save_epoch_freq - (self.progress.epoch - 1) // self.o.save_epoch_freq
        times = min(times, self.o.keep_epochs + 1) if self.o.keep_epochs else times
        if disk_space.is_short(self.folder, needed + times * files, reclaimable_bytes):
            what = f"{times} numbered weights of {disk_space.format_bytes(times * files)} in all will not fit"
            self.notes.append(f"note: {what}: raise --save_epoch_freq or give --keep_epochs 5")

    def now(self) -> Now:
        """Return what the model's methods are told in the next step."""
        return self.train_state.now(self.progress.step, self.progress.epoch, self.progress.share)

    def count_images(self, batch: dict[str, Any]) -> int:
        """Return the number of images in a training step's batch, of all processes."""
        return ranks.pulse.share.total if ranks.pulse.share else len(batch["A"])

    def set_learning_rates(self) -> float:
        """Set the learning rates of the epoch; return the factor on --lr."""
        lr_factor = lr_schedule.lr_factor(self.progress.epoch, self.o, self.history, self.evaluation.plateau)
        self.optimizers.set_lr(lr_factor, self.progress.step)
        return lr_factor

    def end_epoch(self, keep_weights: bool = False, force_save: bool = False) -> int:
        """Count the epoch as done, save what is due, and return the epoch's number.

        keep_weights: also write weights under the epoch's number when --save_epoch_freq does not ask for them.
        force_save: save even if nothing is due.
        """
        names = set(self.model.averaged or self.model.networks())
        generator_phase = next((p.name for p in self.phases if trained_networks(self.model, [p]).keys() & names), None)
        self.history.append(self.losses.phase_mean(generator_phase) if generator_phase else 0.0)
        self.losses.clear()
        keep_weights = rank_exchange.from_first(partial(bool, keep_weights))  # process 0 alone draws sheets
        latest_due, done = self.progress.due(self.o.save_latest_freq), self.progress.epoch
        self.progress.epoch, self.progress.seen = done + 1, 0
        numbered = [str(done)] if keep_weights or done % self.o.save_epoch_freq == 0 else []
        numbered += self.evaluation.new_bests(done)
        if numbered or latest_due or force_save or self.done:
            self.save("latest", *numbered, *(self._iter_prefixes() if latest_due else []))
            weight_exports.remove_old_epochs(self.folder, self.networks(), self.o.keep_epochs)
        return done

    def save_latest(self) -> None:
        """Save in the middle of an epoch."""
        self.save("latest", *self._iter_prefixes())

    def _iter_prefixes(self) -> list[str]:
        return [f"iter_{self.progress.samples}"] if self.o.save_by_iter else []

    def save_if_due(self, unless: bool) -> None:
        """Save within an epoch if --save_latest_freq or --save_minutes asks for it, or an allowed change is not saved.

        unless: do not save, because the run stops after this step and is saved then.
        """
        late = self.o.save_minutes and time.monotonic() - self.last_save_time > 60 * self.o.save_minutes
        due = (
            ranks.agree("save", bool(late) and ranks.rank() == 0)
            or self.has_new_permission
            or self.progress.due(self.o.save_latest_freq)
        )
        if due and not (unless or self.progress.epoch_done):
            self.save_latest()

    @contextmanager
    def saved_if_left(self) -> Iterator[None]:
        """Save the run if the caller of the generator that trains it stops early."""
        try:
            yield
        except GeneratorExit:
            self.save_latest()
            raise

    def save(self, *prefixes: str) -> None:
        """Write the state, then the networks' weights under each prefix; raise Diverged rather than save NaN or Inf."""
        # Check what will be saved.
        check_state(self.model, self.o.model)
        check_state_shapes(self.model, self.o.model, self.state_shapes)
        averages = {f"average of {name}": value for name, value in self.ema.state_dict().items()}
        tools = tool_state.state_dict(self.model)
        checked = self.model.state_dict() | self.optimizers.moments() | averages | tools
        self.nan_guard.check_weights(checked, self.progress)
        # Collect the state; process 0 writes it, and the others go on.
        each = rank_state.collect(self.model)
        self.has_new_permission = False
        ranks.agree("save", 0)
        if ranks.rank():
            return
        state = {
            "model": self.model.state_dict(), "optimizers": self.optimizers.state_dict(),
            "position": dict(vars(self.progress)), "means": self.losses.state_dict(), "history": list(self.history),
            "generators": rank_state.common_generators(each), "classes": list(self.classes), "exports": list(prefixes),
            "inventory": self.inventory.state_dict(),
            "options": {k: mismatch.to_saved_value(v) for k, v in vars(self.o).items()},
        }  # fmt: skip
        own = {"scaler": self.optimizers.scaler.state_dict(), "ema": self.ema.state_dict(),
               "metrics": self.evaluation.state_dict(), "tools": tools, "ranks": each}  # fmt: skip
        state |= {name: part for name, part in own.items() if part}  # of what is on
        # Write it, then the weights.
        for note in checkpoint.save_state(self.folder, state, self.progress.step, self.o.keep_last):
            if note not in self.notes:  # print each note once
                self.notes.append(note)
                print_line(note)
        checkpoint.keep_best(self.folder, self.progress.step, prefixes)
        with self.train_state.exportable():
            self._write_weights(*prefixes)
        self.last_save_time = time.monotonic()

    def _write_weights(self, *prefixes: str) -> None:
        suffix, about = "." + self.o.export_format, store.architecture(self.o, self.folder)
        for prefix in prefixes:
            weight_exports.write(self.folder, prefix, self.exported(), suffix, about)

    def saved_step_text(self) -> str:
        """Return a message that says which step's state is saved."""
        step = self._last_saved_step()
        return "no state was saved yet" if step is None else f"the state of step {step} is saved and complete"

    def _last_saved_step(self) -> int | None:
        return max(checkpoint.state_files(self.folder), default=None)

    def _roll_back(self) -> None:
        """Restore weights and optimisers from the newest state; progress and random generators go on."""
        state, _ = rank_exchange.from_first(lambda: checkpoint.load_state(self.folder))
        assert state is not None
        self.model.load_state_dict(state["model"])
        self.optimizers.load_state_dict(state["optimizers"])
        self.ema.load_state_dict(state.get("ema", {}))
        tool_state.load_state_dict(self.model, state.get("tools", {}))

    def _resume(self) -> bool:
        """Resume from the newest state, else from weights alone as the reference does; return False if none exist."""
        which = weight_files.file_prefix(self.o.epoch, self.o.load_iter)
        state, notes = rank_exchange.from_first(lambda: checkpoint.load_state(self.folder, which))
        self.notes += notes
        if state is not None:
            self._load_state(state)
            if ranks.rank() == 0:
                newest = max(checkpoint.state_files(self.folder), default=0)
                if which != "latest" and newest > self.progress.step and not self.done:
                    self.notes.append(f"note: it goes back to {which}, from step {newest} to step {self.progress.step}")
                checkpoint.keep_best(self.folder, self.progress.step, state.get("exports", []))
                with self.train_state.exportable():
                    self._export_missing(state.get("exports", []))
        elif which != "latest" or rank_exchange.from_first(lambda: bool(list_weights(self.folder, f"{which}_net_*"))):
            if ranks.rank() == 0:  # it gives the others its weights
                weight_exports.load(self.folder, which, self.networks(), locked=True)
                self.notes += self.evaluation.set_aside_bests(self.folder)
            self.ema.restart()
            if self.o.remembered and which.isdigit() and "epoch_count" not in self.o.given:
                self.progress.epoch = int(which) + 1  # in a run of this program the number is the epoch
            epoch = self.progress.epoch
            self.notes.append(f"continuing from the weights {which}_net_*.pth at epoch {epoch} (--epoch_count)")
            self.notes.append("optimisers, image pools and random draws start afresh: weight files do not contain them")
            if self.o.ema and self.o.remembered:
                averaged = ", ".join(self.model.averaged)
                self.notes.append(f"note: the files of {averaged} hold averages (--ema): training continues from these")
        else:
            others = suggest_folder(self.folder)
            reason = f" ({others})" if others else ""
            self.notes.append(f"nothing to continue in {self.folder}: starting afresh{reason}")
            return False
        return True

    def _export_missing(self, prefixes: list[str]) -> None:
        """Write weights that are missing or older than the state, because the run was killed between the two saves.

        Weights that were changed later are not overwritten.
        """
        path = checkpoint.state_files(self.folder).get(self.progress.step)
        saved = path.stat().st_mtime_ns if path else 0
        exported = self.exported()
        stale = [p for p in prefixes if not weight_exports.is_newer(self.folder, p, exported, saved)]
        lacking = [p for p in stale if not weight_files.is_exported(self.folder, p, exported)]
        self._write_weights(*lacking)
        if lacking:
            self.notes.append(f"wrote weights that were missing or older than the state: {', '.join(lacking)}")

    def _load_state(self, state: dict[str, Any]) -> None:
        """Restore everything from a state; raise a UserError if it does not fit the classes, images or options."""
        try:
            trained, now = ", ".join(state["classes"]) or "none", ", ".join(self.classes) or "none"
            if trained != now:
                why = f"it was trained with the classes {trained}; the data set has {now}"
                raise DataError("run", self.folder, why, "use the folders it was trained with, or start afresh")
            # Restore model, optimisers, progress, losses and random generators.
            saved = without_frozen(self.model, state["model"])
            if differs := mismatch.first_difference(self.model.state_dict(), saved):
                raise ValueError(differs)
            self.model.load_state_dict(saved)
            self.notes += self.optimizers.load_state_dict(state["optimizers"], state.get("scaler"))
            self.notes += self.ema.load_state_dict(state.get("ema", {}))
            self.notes += tool_state.load_state_dict(self.model, state.get("tools", {}))
            self.progress = Progress.restored(state["position"])
            self.losses.load_state_dict(state["means"])
            self.history = list(state["history"])
            self.notes += self.evaluation.load_state_dict(state)
            self.notes += rank_state.restore(self.model, state, self.o)
            before = store.FORMER_VALUES | rank_state.options_before(state, self.o)
            pictures = self.inventory.changes_since(state.get("inventory"))
        except UserError:
            raise
        except (LookupError, ValueError, RuntimeError, TypeError, AttributeError, ArithmeticError) as problem:
            why = f"its state does not fit these options ({(str(problem).splitlines() or ['damaged'])[0]})"
            remedy = mismatch.flags_remedy(self.o, state.get("options", {}))
            raise CheckpointError("run", self.folder, why, remedy) from problem
        if self.done:  # changes no longer matter
            return
        # Report where the run continues and what changed.
        progress = self.progress
        self.notes.append(f"continuing at epoch {progress.epoch}, image {progress.seen} of it, step {progress.step}")
        self._compare_pictures(pictures)
        begun = progress.epoch if progress.seen else progress.epoch - 1
        notes, permitted = compare_options(self.o, before, begun, progress.step, self.history, self.evaluation.plateau)
        self.notes += notes
        self.has_new_permission |= permitted

    def _compare_pictures(self, changes: str) -> None:
        """Raise DataError, or with permission add a note, if images changed, because that changes their order."""
        if not changes:
            return
        why, keeps_order = f"its images changed since it was saved: {changes}", changes == LABELS_CHANGED
        if not self.o.allow_data_change:
            remedy = (
                f"restore them, or accept {'that' if keeps_order else 'a different order'} with --allow_data_change"
            )
            raise DataError("run", self.folder, why, remedy)
        self.has_new_permission = True
        result = "; their order is different, and in this epoch some may appear twice or not at all"
        self.notes.append(f"note: {why} (--allow_data_change){'' if keeps_order else result}")

    def _compare_pretrained(self) -> None:
        """Raise CheckpointError, or with permission add a note, if pretrained weights are not those of the run."""
        changes = describe_changes(store.load_pretrained(self.folder), self.pretrained)
        if changes and not self.o.allow_option_change:
            remedy = "give the same file or --seed, or continue with other weights by --allow_option_change"
            raise CheckpointError("run", self.folder, f"its pretrained weights changed: {changes}", remedy)
        self.notes += [f"note: pretrained weights changed: {changes}"] if changes else []
