"""A run's whole state in one place: what is trained, where it stands, how it is saved and continued."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data.fingerprint import Inventory
from registry.lookup import entries
from serialization import checkpoint, export, mismatch, weight_files
from serialization.init_from import init_from
from serialization.run_names import list_runs, suggest_run
from training import lr_schedule
from training.loss_meter import LossMeter
from training.nan_guard import NanGuard
from training.optim import Optimizers, TrainableParameters, trained_networks
from training.state_checks import check_state, check_state_shapes, state_shapes
from util import disk_space, seeding
from util.errors import CheckpointError, DataError, OptionError, UserError, printable
from util.progress import Progress
from util.spelling import normalise_name


class Run:
    """Model, phases, optimisers, counters and history of one training run, in one folder."""

    def __init__(self, o: Any, folder: Path, model: Any, device: torch.device, epoch_size: int,
                 classes: tuple[str, ...] = (), inventory: Inventory | None = None):  # fmt: skip
        self.o, self.folder, self.device, self.classes = o, folder, device, classes
        self.inventory = inventory or Inventory()
        self.model = model.to(device).train()
        self.state_shapes = state_shapes(self.model)  # what a state can be loaded into
        self.phases = model.phases()
        self.optimizers = Optimizers(self.phases, o)
        self.params = TrainableParameters(self.phases)
        self.step_args = {"model": self.model, "phases": self.phases, "optimizers": self.optimizers,
                          "params": self.params, "accepts": self.accepts, "micro_batches": o.accumulate}  # fmt: skip
        self.progress = Progress(epoch=o.epoch_count)
        self.last_epoch = o.n_epochs + o.n_epochs_decay
        self.losses = LossMeter()
        self.history: list[float] = []  # the generator's mean loss in each finished epoch: what plateau looks at
        self.notes: list[str] = []
        self.has_new_permission = False  # other pictures or options were allowed, which the state does not know yet
        resumed = o.continue_train and self._resume()
        if o.init_from and resumed and "init_from" in o.given:
            self.notes.append("--init_from is without effect: the run continues with its own weights")
        if o.init_from and not resumed:
            self.notes += init_from(o.init_from, self.networks(), o.checkpoints_dir)
        self.progress.epoch_size, self.progress.last_epoch = epoch_size, self.last_epoch
        if epoch_size < o.batch_size and not self.done:
            why = f"{epoch_size} images make one batch of {epoch_size}, less than --batch_size {o.batch_size}"
            self.notes.append(f"note: {why}: an epoch is one step")
        self.nan_guard = NanGuard(o.on_nan, self._last_saved_step, self._roll_back, deferred=device.type == "cuda")
        self.last_save_time = time.monotonic()

    @property
    def done(self) -> bool:
        """Whether every epoch that was asked for is trained."""
        return self.progress.epoch > self.last_epoch

    def networks(self) -> dict[str, nn.Module]:
        """Return the networks that are trained, by name: those that are exported."""
        return trained_networks(self.model, self.phases)

    def check_disk_space(self, reclaimable_bytes: int) -> None:
        """Raise EnvironmentFault if the disk has no room for what this run keeps, beside the bytes reclaimed.

        Pictures in pools and on pages are not counted. Numbered weights that will not all fit are a note.
        """
        weights, files = (
            disk_space.tensor_bytes(part.state_dict()) for part in (self.model, nn.ModuleDict(self.networks()))
        )
        trained = disk_space.tensor_bytes([group["params"] for group in self.optimizers.param_groups()])
        state, state_count = weights + 2 * trained, len(checkpoint.state_files(self.folder))  # Adam keeps two moments
        number = max(1, self.o.keep_last + 1 - state_count)  # the newest is written beside the old
        needed = number * state + (0 if state_count else files)
        parts = f"{number} x {disk_space.format_bytes(state)} of state, {disk_space.format_bytes(files)} of weights"
        disk_space.check_free_space(self.folder, needed, parts, reclaimable_bytes)
        times = self.progress.last_epoch // self.o.save_epoch_freq - (self.progress.epoch - 1) // self.o.save_epoch_freq
        if disk_space.is_short(self.folder, needed + times * files, reclaimable_bytes):
            size = disk_space.format_bytes(times * files)
            self.notes.append(f"note: {times} numbered weights of {size} in all will not fit: raise --save_epoch_freq")

    def begin_epoch(self) -> float:
        """Set the epoch's learning rates; return the factor on --lr."""
        lr_factor = lr_schedule.lr_factor(self.progress.epoch, self.o, self.history)
        self.optimizers.set_lr(lr_factor)
        return lr_factor

    def end_epoch(self, keep_weights: bool = False, force_save: bool = False) -> int:
        """Count the epoch as done and return its number; save what is due.

        keep_weights: they are kept under its number though --save_epoch_freq does not ask for it. force_save: save in
        any case.
        """
        names = self._generator_names()
        generator_phase = next((p.name for p in self.phases if trained_networks(self.model, [p]).keys() & names), None)
        self.history.append(self.losses.phase_mean(generator_phase) if generator_phase else 0.0)
        self.losses.clear()
        latest_due, done = self.progress.due(self.o.save_latest_freq), self.progress.epoch
        self.progress.epoch, self.progress.seen = done + 1, 0
        numbered = [str(done)] if keep_weights or done % self.o.save_epoch_freq == 0 else []
        if numbered or latest_due or force_save or done == self.progress.last_epoch:
            self.save("latest", *numbered, *(self._iter_prefixes() if latest_due else []))
        return done

    def save_latest(self) -> None:
        """Save in mid-epoch."""
        self.save("latest", *self._iter_prefixes())

    def _iter_prefixes(self) -> list[str]:
        return [f"iter_{self.progress.samples}"] if self.o.save_by_iter else []

    def _generator_names(self) -> set[str]:
        return set(self.model.averaged or self.model.networks())

    def accepts(self, terms: dict[str, Any], batch: dict[str, Any]) -> bool:
        """Whether an optimiser may step on these losses: see NanGuard."""
        return self.nan_guard.accepts(terms, batch, self.progress)

    @property
    def save_overdue(self) -> bool:
        """Whether the last save is --save_minutes ago, or is of before a change that had to be allowed."""
        late = time.monotonic() - self.last_save_time > 60 * self.o.save_minutes
        return self.has_new_permission or (bool(self.o.save_minutes) and late)

    def save(self, *prefixes: str) -> None:
        """Write the state to continue from, then the networks' weights under each prefix; never NaN (Diverged)."""
        check_state(self.model, self.o.model)
        check_state_shapes(self.model, self.o.model, self.state_shapes)
        self.nan_guard.check_weights(self.model.state_dict() | self.optimizers.moments(), self.progress)
        state = {
            "model": self.model.state_dict(), "optimizers": self.optimizers.state_dict(),
            "position": dict(vars(self.progress)), "means": self.losses.state_dict(), "history": list(self.history),
            "generators": seeding.generator_states(), "classes": list(self.classes), "exports": list(prefixes),
            "inventory": self.inventory.state_dict(),
            "options": {k: mismatch.to_saved_value(v) for k, v in vars(self.o).items()},
        }  # fmt: skip
        if scaler := self.optimizers.scaler.state_dict():  # empty but with --amp fp16
            state["scaler"] = scaler
        for note in checkpoint.save_state(self.folder, state, self.progress.step, self.o.keep_last):
            if note not in self.notes:  # once is enough
                self.notes.append(note)
                print(printable(note), flush=True)
        for prefix in prefixes:
            export.write(self.folder, prefix, self.networks())
        self.last_save_time, self.has_new_permission = time.monotonic(), False

    def saved_step_text(self) -> str:
        """Return which step's state is saved."""
        step = self._last_saved_step()
        return "no state was saved yet" if step is None else f"the state of step {step} is saved and whole"

    def _last_saved_step(self) -> int | None:
        return max(checkpoint.state_files(self.folder), default=None)

    def _roll_back(self) -> None:
        """Take weights and optimisers from the newest state; position and draws go on."""
        state, _ = checkpoint.load_state(self.folder)
        assert state is not None
        self.model.load_state_dict(state["model"])
        self.optimizers.load_state_dict(state["optimizers"])

    def _resume(self) -> bool:
        """Continue from the newest state; else from weights alone, as the reference does; else (False) afresh."""
        which = weight_files.file_prefix(self.o.epoch, self.o.load_iter)
        state, self.notes = checkpoint.load_state(self.folder) if which == "latest" else (None, [])
        if state is not None:
            self._load_state(state)
            self._export_missing(state.get("exports", []))
        elif any(self.folder.glob(f"{which}_net_*.pth")) or which != "latest":
            weight_files.load_networks(self.folder, which, self.networks())
            if self.o.remembered and which.isdigit() and "epoch_count" not in self.o.given:
                self.progress.epoch = int(which) + 1  # of a run of ours the epoch is known
            epoch = self.progress.epoch
            self.notes.append(f"continuing from the weights {which}_net_*.pth at epoch {epoch} (--epoch_count)")
            self.notes.append("optimisers, image pools and random draws start anew: such files do not hold them")
        else:
            others = suggest_run(self.folder.name, list_runs(self.folder.parent))
            self.notes.append(
                f"nothing to continue in {self.folder}: starting afresh" + (f" ({others})" if others else "")
            )
            return False
        return True

    def _export_missing(self, prefixes: list[str]) -> None:
        """Write weights that belong to the state but are missing or older: a kill came between the two.

        Weights that somebody changed since then stay as they are.
        """
        path = checkpoint.state_files(self.folder).get(self.progress.step)
        saved = path.stat().st_mtime_ns if path else 0
        stale = [p for p in prefixes if not export.is_newer(self.folder, p, self.networks(), saved)]
        lacking = [p for p in stale if not weight_files.is_exported(self.folder, p, self.networks())]
        for prefix in lacking:
            export.write(self.folder, prefix, self.networks())
        if lacking:
            self.notes.append(f"weights written that were missing or older than the state: {', '.join(lacking)}")

    def _load_state(self, state: dict[str, Any]) -> None:
        """Take everything from a state; refuse other classes, pictures or meanings than it was trained with."""
        try:
            trained, now = ", ".join(state["classes"]) or "none", ", ".join(self.classes) or "none"
            if trained != now:
                why = f"it was trained with the classes {trained}; the data set's are {now}"
                raise DataError("run", self.folder, why, "use the folders it was trained with, or start afresh")
            if differs := mismatch.first_difference(self.model.state_dict(), state["model"]):
                raise ValueError(differs)
            self.model.load_state_dict(state["model"])
            self.optimizers.load_state_dict(state["optimizers"], state.get("scaler"))
            self.progress = Progress.restored(state["position"])
            self.losses.load_state_dict(state["means"])
            self.history = list(state["history"])
            seeding.restore_generators(state["generators"])
            before = dict(state["options"])
            pictures = self.inventory.changes_since(state.get("inventory"))
        except UserError:
            raise
        except (LookupError, ValueError, RuntimeError, TypeError, AttributeError, ArithmeticError) as problem:
            why = f"its state does not fit these options ({(str(problem).splitlines() or ['damaged'])[0]})"
            remedy = mismatch.flags_remedy(self.o, state.get("options", {}))
            raise CheckpointError("run", self.folder, why, remedy) from problem
        if self.done:  # then nothing that changed matters any more
            return
        progress = self.progress
        self.notes.append(f"continuing at epoch {progress.epoch}, image {progress.seen} of it, step {progress.step}")
        self._compare_pictures(pictures)
        self._compare_options(before)

    def _compare_pictures(self, changes: str) -> None:
        """Refuse other pictures than the state knows, whose order would silently be another; or say so."""
        if changes and not self.o.allow_data_change:
            why = f"its pictures changed since it was saved: {changes}"
            remedy = "restore them, or accept another order with --allow_data_change"
            raise DataError("run", self.folder, why, remedy)
        self.has_new_permission |= bool(changes)
        if changes:
            self.notes.append(f"note: its pictures changed since it was saved: {changes} (--allow_data_change); their "
                              "order is another one, and in this epoch some may come twice or not at all")  # fmt: skip

    def _compare_options(self, before: dict[str, Any]) -> None:
        """List options that are not what the state knows; refuse those under which its weights mean something else."""
        changed = {
            name: f"--{name} {was} -> {now}"
            for name, was in before.items()
            if name in self.o.flags and not self.o.flags[name].meta["momentary"]
            and was != (now := mismatch.to_saved_value(getattr(self.o, name)))
        }  # fmt: skip
        flags = self.o.flags
        fixed = [n for n in changed if flags[n].meta["fixed"] and not _is_gone(flags[n].meta["choices"], before[n])]
        if fixed and not self.o.allow_option_change:
            why = "changed since the run was saved, and its weights mean something else then: "
            why += ", ".join(changed[name] for name in fixed)
            remedy = "go back to what it was, or go on all the same with --allow_option_change"
            raise OptionError("option", f"--{fixed[0]}", why, remedy)
        if changed:
            self.notes.append("changed since it was saved: " + ", ".join(changed.values()))
        self.has_new_permission |= bool(fixed)
        counting = [f"--{name}" for name in changed if not self.o.flags[name].meta["aside"]]
        if counting:
            which = ", ".join(counting)
            self.notes.append(f"from here on the numbers are no longer those of an unbroken run, by {which}")


def _is_gone(kind: Any, name: Any) -> bool:
    """Whether nothing of a registry's kind has this name any more: a plug-in's that was renamed means the same."""
    return (
        isinstance(kind, str)
        and isinstance(name, str)
        and normalise_name(name) not in {normalise_name(e.name) for e in entries(kind)}
    )
