"""Measure a run while it trains (--metrics): the values of each evaluation, the best epoch, and when to stop."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from metrics import finite_or_none
from metrics.evaluation import Evaluation
from metrics.history import MetricHistory, Report, Row
from metrics.settings import Settings
from metrics.tables import write_tables
from options.best import best_prefix, main_metric, metric_names, parse_early_stop
from registry.lookup import is_known
from registry.training_position import Now
from serialization import rank_exchange
from training.evaluation.comparison import Comparison, Part, batched, combine
from training.evaluation.images import Compared, Found, Generated, find_images
from training.evaluation.memorization import CopyFinder
from training.run_folder import resume_command
from training.test_mode import in_test_mode
from util import ranks
from util.errors import OptionError, Stopped, UserError, are_text, count_text, print_line
from util.progress import Progress

FEW_IMAGES = 16  # so few are all measured in the trial, because a metric may need more


def make_evaluation(o: Any, model: Any, loader: Any, spec: Any) -> "RunEvaluation":
    """Return the evaluation of a run; without --metrics it never measures.

    The first image is measured now, so that images, weights or a metric that cannot be used end the run here: raise
    UserError.
    """
    if not o.metrics:
        return RunEvaluation(o)
    made = RunEvaluation(o, model, find_images(o, model, spec, loader.inventory), spec.classes)
    if ranks.rank() == 0:
        made.try_out()
    return made


class RunEvaluation:
    """Measures images of --val_phase at every --eval_freq-th epoch and after the last one, with the averaged weights.

    It draws no random number of training's and leaves the model as it was. Its history belongs to the run's state.
    """

    def __init__(self, o: Any = None, model: Any = None, found: Found | None = None, classes: tuple[str, ...] = ()):
        self.o, self.model, self.classes = o, model, classes
        self.images = found.images if found else None
        self.training = found.training if found else None
        self.references, self.about = (found.references, found.about) if found else (None, "")
        self.names = metric_names(o.metrics) if found else []
        self.history = MetricHistory(_directions(self.names, self._settings("cpu")) if self.names else {})
        self.copies: dict[str, CopyFinder] = {}  # by the side that is generated
        self.real_parts: dict[str, Part] = {}  # see Comparison
        self.paired: list[str] = []  # the metrics of pairs
        self.printed: set[str] = set()  # notes
        self.former_checksum = ""  # of the images that a saved history is of
        if self.plateau is not None and o.lr_policy == "plateau":
            print_line(f"--lr_policy plateau follows {main_metric(self.names, o.early_stop)}")
        name, self.patience = parse_early_stop(o.early_stop) if self.names else ("", 0)
        self.stopping = name
        if name and not self.history.better.get(name):
            why = f"{name} does not say which values are better"
            raise OptionError("option", "--early_stop", why, 'declare better = "lower" or "higher" in the metric')

    def _settings(self, device: Any) -> Settings:
        return Settings.of(self.o, device, self.classes)

    # --- what the run asks

    @property
    def stopped(self) -> str:
        """Why training has ended before its last epoch; "" if it has not."""
        return stop_reason(self.history, self.stopping, self.patience)

    @property
    def plateau(self) -> list[bool] | None:
        """Whether each evaluation was an improvement, for --lr_policy plateau; None without a metric to judge by."""
        name = main_metric(self.names, self.o.early_stop) if self.names else ""
        return self.history.improvements(name) if self.history.better.get(name) else None

    def new_bests(self, epoch: int) -> list[str]:
        """Return the prefixes of the files to write because this epoch is the best so far of a metric."""
        return [best_prefix(name) for name, (at, _) in self.history.bests().items() if at == epoch and self.names]

    def missing_bests(self, folder: Path) -> int:
        """Return the number of metrics for which a state and weights of a best epoch will be written beside others."""
        return sum(not (folder / f"{best_prefix(name)}_state.pt").is_file() for name in self.history.better)

    def set_aside_bests(self, folder: Path) -> list[str]:
        """Rename the files of the best epochs, because a run from weights has no earlier values; return a note."""
        bests = [path for path in folder.glob("best_*") if path.suffix not in (".superseded", ".tmp")]
        for path in bests if self.names else ():
            os.replace(path, path.with_name(f"{path.name}.superseded"))
        said = f"note: metrics start afresh: {count_text(len(bests), 'file')} best_* renamed to best_*.superseded"
        return [said] if bests and self.names else []

    def is_due(self, progress: Progress) -> bool:
        """Whether the epoch that ends now is measured."""
        every = progress.epoch % self.o.eval_freq == 0 or progress.epoch == progress.last_epoch
        return self.images is not None and every

    # --- measuring

    def measure(self, run: Any, timer: Any, stop: Any) -> Report | None:
        """Measure at the end of an epoch, if it is due, and return what displays are told, else None.

        If a signal arrives or a metric fails, the run is saved, and Stopped or the error raised: continued, the run
        measures again.
        """
        if not self.is_due(run.progress):
            return None
        report: Report | None = None
        problem: BaseException | None = None
        with timer("metrics"), run.ema.applied():
            try:
                if ranks.rank() == 0:  # the others wait for its values
                    report = self._measure(run.progress, run.device, run.folder, stop)
            except (Exception, Stopped) as raised:
                problem = raised
            failed = problem is not None
            rows, failed, noted = rank_exchange.from_first(lambda: (self.history.state_dict(), failed, stop.noted))
        if failed:
            run.save_latest()
            if problem is None and not noted:
                rank_exchange.from_first(bool)  # waits for process 0, which ends this one
            raise problem or self._stopped(run.progress.epoch, noted)
        if ranks.rank():
            self.history.load_state_dict(rows)
        return report

    def _stopped(self, epoch: int, signal: int) -> Stopped:
        return Stopped(signal, f"stopped and saved at the end of epoch {epoch}; {resume_command(self.o)}")

    def _measure(self, progress: Progress, device: Any, folder: Path, stop: Any) -> Report:
        start, now = time.monotonic(), Now(progress.step, progress.epoch, progress.share)
        with in_test_mode(self.model, self.o.seed):
            comparisons = self._compare(self.images, self.names, now, device, stop)
            training = self._measure_training(now, device, stop)
            values = combine({label: each.results() for label, each in comparisons.items()})
        self._keep_real_parts(comparisons)
        self._print_notes(comparisons)
        images = {name: one for each in comparisons.values() for name, one in each.pairs.per_image().items()}
        earlier = [row for row in self.history.rows if row.epoch < progress.epoch]  # one may have been left halfway
        self.history.rows = [*earlier, Row(progress.epoch, progress.step, values)]
        report = Report(
            self.history.rows[-1], self.history.better, self.history.bests(), images, training,
            self._shares_of_copies(), self.about, time.monotonic() - start, self.stopped,
        )  # fmt: skip
        self._write_tables(folder, report)
        return report

    def _write_tables(self, folder: Path, report: Report) -> None:
        """Write metrics.json and metrics.csv: all evaluations, and the newest values of each image."""
        about = {
            "measured": report.about, "better": report.better, "training_images": finite_or_none(report.training),
            "images": {name: finite_or_none(values) for name, values in report.images.items()},
        }  # fmt: skip
        places = [({"epoch": row.epoch, "step": row.step}, row.values) for row in self.history.rows]
        write_tables(folder, places, report.best, about)

    def _compare(self, images: Any, names: list[str], now: Now, device: Any, stop: Any) -> dict[str, Comparison]:
        """Return the comparisons of these images by their labels, with all images added."""
        comparisons: dict[str, Comparison] = {}
        for found in batched(self._until_stopped(images(now), now, stop)):
            if found.label not in comparisons:
                known = self.real_parts.get(found.label) if images is self.images else None
                comparisons[found.label] = self._comparison(names, device, known)
            comparisons[found.label].update(found)
            if images is self.images and found.fake is not None:
                self._look_for_copies(found)
        return comparisons

    def _comparison(self, names: list[str], device: Any, known: Part | None = None) -> Comparison:
        return Comparison(names, [name for name in self.paired if name in names], self._settings(device), known)

    def _until_stopped(self, found: Iterable[Compared], now: Now, stop: Any) -> Iterator[Compared]:
        for each in found:
            if stop.noted:  # by this process, which alone measures: the others wait, and cannot agree
                raise self._stopped(now.epoch, stop.noted)
            ranks.pulse.beat()
            yield each

    def _print_notes(self, comparisons: dict[str, Comparison]) -> None:
        """Print once what a reader of the values needs to know."""
        notes = dict.fromkeys(note for each in comparisons.values() for note in each.notes())
        for note in notes:
            if note not in self.printed:
                print_line(f"note: {note}")
        self.printed |= notes.keys()

    def _keep_real_parts(self, comparisons: dict[str, Comparison]) -> None:
        """Keep what metrics of sets have collected of the data set's images, which need not be measured again."""
        found = {label: part for label, each in comparisons.items() if (part := each.own_part) is not None}
        self.real_parts = found
        if isinstance(self.images, Generated):
            self.images.has_real = bool(found)

    def _measure_training(self, now: Now, device: Any, stop: Any) -> dict[str, float]:
        """Return the metrics of pairs of a few training images."""
        if not self.training or not self.paired:
            return {}
        comparisons = self._compare(self.training, self.paired, now, device, stop)
        means = combine({label: each.results() for label, each in comparisons.items()})
        return {name: means[name].value for name in self.paired if name in means}

    def _look_for_copies(self, found: Compared) -> None:
        """Compare generated images with training images of the side that they are made for."""
        if self.references is None or found.fake is None:
            return
        side = "A" if isinstance(self.images, Generated) or found.label.startswith("fake_A") else "B"
        if side not in self.copies:
            self.copies[side] = CopyFinder(
                batch[side] for batch in self.references if isinstance(batch.get(side), Tensor)
            )
        self.copies[side].add(found.fake)

    def _shares_of_copies(self) -> tuple[float, float] | None:
        """Return the shares of copies among generated and among real images, for the side that has most of them."""
        found = [shares for each in self.copies.values() if (shares := each.take_shares())]
        return max(found, default=None)

    def try_out(self) -> None:
        """Measure the first image, or all if they may be too few, so that what cannot work fails before training."""
        assert self.images is not None
        device = next(self.model.parameters()).device
        evaluation = Evaluation(self.names, self._settings(device))
        self.paired = evaluation.paired
        if self.paired and not self.images.paired:
            from_noise = isinstance(self.images, Generated)
            kind = "images from noise have" if from_noise else f"data set {self.o.dataset_mode} has"
            raise evaluation.unpaired_error(f"{kind} none")
        now, few = Now(0, 1, 0.0), len(self.images.samples) <= FEW_IMAGES
        comparisons: dict[str, Comparison] = {}
        with in_test_mode(self.model, self.o.seed):
            for found in batched(self.images(now) if few else self.images.first(now)):
                if found.label not in comparisons:
                    comparisons[found.label] = self._comparison(self.names, device)
                comparisons[found.label].update(found)
            try:
                for each in comparisons.values() if few else ():
                    each.results()
            except UserError:  # too few images for a metric
                raise
            except (ArithmeticError, ValueError, RuntimeError):  # a metric may have no value of untrained networks
                return

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """Return the history and a checksum of the images that it is of, for the state file; {} without a history."""
        rows = self.history.state_dict()
        return {"rows": rows, "images": self.images.checksum if self.images else self.former_checksum} if rows else {}

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        """Restore the history from a run's state; return notes. Raise KeyError, TypeError or ValueError if damaged."""
        saved = state.get("metrics") or {"rows": [], "images": ""}
        self.former_checksum = str(saved["images"])
        self.history.load_state_dict(saved["rows"])
        if self.images and self.history.rows and self.former_checksum != self.images.checksum:
            self.history.rows.clear()
            return ["note: --metrics measures other images than before: its history and its best epochs start afresh"]
        was = str(state.get("options", {}).get("early_stop", ""))
        before = parse_early_stop(was) if is_known("metric", was.partition(":")[0]) else ("", 0)
        if (reason := stop_reason(self.history, *before)) and not self.stopped:
            return [f"continuing a run that --early_stop {was} had ended: {reason}"]
        return []

    def trained_text(self, progress: Progress) -> str:
        """Return what a run that has just ended has trained: all its epochs, or why --early_stop ended it."""
        return self.ending(progress.epoch - 1)[0] if self.stopped else count_text(progress.last_epoch, "epoch")

    def ending(self, epochs: int) -> tuple[str, str]:
        """Return what a run that is done has trained, in words, and the flag that lets it go on."""
        if not self.stopped:
            return f"{are_text(epochs, 'epoch')} trained", "raise --n_epochs"
        more = f"give --early_stop {self.stopping}:{2 * self.patience}, or --early_stop ''"
        return f"stopped early after epoch {epochs}: {self.stopped}", more


def stop_reason(history: MetricHistory, name: str, patience: int) -> str:
    """Return why --early_stop ends a run with this history; "" if it does not."""
    waited = history.waited(name) if history.better.get(name) else 0
    if not name or waited < patience or not history.rows:
        return ""
    best = history.best(name)
    had = f" than {best.values[name].value:.4g} of epoch {best.epoch}" if best else ""
    return f"{name} was not better{had} in {count_text(waited, 'evaluation')}"


def _directions(names: list[str], settings: Settings) -> dict[str, str]:
    """Return for each metric that declares it which values are better."""
    evaluation = Evaluation(names, settings)
    return {name: direction for name in names if (direction := evaluation.better(name))}
