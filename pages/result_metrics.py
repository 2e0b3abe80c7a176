"""The metrics of a test's images: those of each image, and those of all images as a set."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from metrics import finite_or_none
from metrics.base import Result
from metrics.evaluation import Evaluation, checked_result, make_metric
from metrics.settings import Settings
from metrics.several_results import DIFFERENCE, explanation, measure_several, several_name
from metrics.tables import result_table
from pages.names import natural_key
from registry.lookup import entries, entry
from util.device import select_device
from util.errors import OptionError, UserError, count_text, print_line

DEFAULT = ("L1", "PSNR")


class ResultMetrics:
    """The metrics --metrics of a test's images; by default L1, PSNR, those of plug-ins, of pairs, and the run's.

    compare: whether real_B is the target of fake_B; generated: whether images have no inputs. Metrics of sets compare
    all fake_X with all real_X, each image once. Raises OptionError for metrics that these images cannot have.
    """

    def __init__(self, o: Any, compare: bool, generated: bool):
        self.of_run = () if o.metrics or generated else tuple(o.saved.get("metrics", ()))
        self.settings = Settings.of(o, select_device(o.gpu_ids) if o.metrics or self.of_run else "cpu", o.run_classes)
        self.number, self.asked = o.num_results, bool(o.metrics)
        if generated and o.metrics:
            why = "images that are generated from noise are not compared with real ones here"
            raise OptionError("option", "--metrics", why, "use scripts/evaluate.py, with a folder of real images")
        names = o.metrics or _default_names(self.settings, self.of_run, compare)
        self.pairs = Evaluation(names, self.settings)
        self.set_names = [name for name in self.pairs.metrics if name not in self.pairs.paired]
        if self.pairs.paired and not compare:
            raise self.pairs.unpaired_error("this data set has none")
        self.sets: dict[str, Evaluation] = {}  # "fake_B" -> the metrics of this set of images
        self.seen: dict[str, set[str]] = {}  # of each set: its images, because an unpaired input may return
        self.of_images: dict[str, dict[str, float]] = {}
        self.has_pairs = False
        self.sizes: set[tuple[int, ...]] = set()  # of targets that all metrics can measure
        for name in self.set_names:
            del self.pairs.metrics[name]
        self.better = {name: self.pairs.better(name) for name in self.pairs.metrics}
        self.better |= {several_name(name, better, self.number): better for name, better in self.better.items()}

    def add(self, name: str, images: Mapping[str, Tensor], i: int, sources: Mapping[str, str]) -> dict[str, float]:
        """Add the i-th image of a batch, and return its own metrics; {} without a target, if it has one result.

        images: {label: (N, C, H, W) in [-1, 1]}; sources: {side: path of the image that it comes from}.
        """
        if self.set_names:
            self._add_to_sets(images, i, sources)
        measured = self._measure(images, i)
        if measured:
            self.of_images[name] = measured
        return measured

    def _measure(self, images: Mapping[str, Tensor], i: int) -> dict[str, float]:
        made = [key for key in images if key.startswith("fake_B")]  # fake_B_rgb with colorization
        numbered = [key for key in [*made, *images] if self.number > 1 and key.endswith("_1")]
        label = (made or numbered or [""])[0]
        base = label.removesuffix("_1") if label in numbered else label
        truth = base.replace("fake", "real", 1)
        target = images[truth][i].float() if made and self.pairs.metrics and truth in images else None
        if target is not None:
            self._drop_unfit(target[None])
        if label in numbered:
            keys = (f"{base}_{n + 1}" for n in range(self.number))
            functions = {name: _of_one(m) for name, m in self.pairs.metrics.items() if hasattr(m, "measure")}
            return measure_several([images[key][i] for key in keys if key in images], target, functions, self.better)
        if target is None:
            return {}
        self.has_pairs = True
        self.pairs.update(target[None], images[label][i].float()[None], names=[""])
        return self.pairs.per_image().pop("", {})

    def _drop_unfit(self, target: Tensor) -> None:
        """Drop metrics of the run that cannot measure images of this size, with a printed note."""
        size = tuple(target.shape)
        for name in [entry("metric", name).name for name in self.of_run] if size not in self.sizes else ():
            try:
                if metric := self.pairs.metrics.get(name):
                    getattr(metric, "measure", lambda *_: None)(target, target)
            except UserError as problem:
                print_line(f"note: metric {name} is skipped ({problem})")
                del self.pairs.metrics[name]
        self.sizes.add(size)

    def _add_to_sets(self, images: Mapping[str, Tensor], i: int, sources: Mapping[str, str]) -> None:
        """Add an image to the sets of what is made for side B and for side A, unless it is there already."""
        for side, source in (("B", "A"), ("A", "B")):
            first = next((key for key in images if key.startswith(f"fake_{side}")), "")
            several = self.number > 1 and first.endswith("_1")
            base = first.removesuffix("_1") if several else first
            truth = base.replace("fake", "real", 1)
            if not base or truth not in images:
                continue
            if base not in self.sets:
                self.sets[base], self.seen[base] = Evaluation(self.set_names, self.settings), set()
            fakes = [f"{base}_{n + 1}" for n in range(self.number)] if several else [base]
            for key, path in [(truth, sources[side]), *((fake, sources[source]) for fake in fakes if fake in images)]:
                if f"{key} {path}" not in self.seen[base]:
                    self.seen[base].add(f"{key} {path}")
                    image = images[key][i][None].to(self.settings.device)
                    self.sets[base].update(*((image, None) if key == truth else (None, image)))

    def means(self) -> dict[str, float]:
        """Return the mean over the images of each metric, without values that are not finite."""
        names = dict.fromkeys(name for measured in self.of_images.values() for name in measured)
        return {m: _finite_mean([row[m] for row in self.of_images.values() if m in row]) for m in names}

    def meaning(self) -> str:
        """Return what the names of the metrics of several results mean; "" if there is one result of an image."""
        has_difference = any(DIFFERENCE in measured for measured in self.of_images.values())
        return explanation(self.number, bool(self.pairs.metrics)) if has_difference else ""

    def set_results(self) -> dict[str, Result]:
        """Return {"lite0_kid of fake_B": Result}; print the notes of the metrics, and why there is none of one."""
        found: dict[str, Result] = {}
        # of the pairs only a plug-in's metrics without values of single images
        for base, evaluation in [*self.sets.items(), *([("fake_B", self.pairs)] if self.has_pairs else [])]:
            for name, metric in evaluation.metrics.items():
                try:
                    if not hasattr(metric, "measure"):
                        found[f"{name} of {base}"] = checked_result(name, metric)
                        for note in getattr(metric, "notes", list)():
                            print_line(f"note: {name} of {base}: {note}")
                except UserError as problem:
                    print_line(f"note: {name} of {base} is not computed ({problem})")
        if self.asked and not found and not self.of_images:
            print_line("note: --metrics has no effect: no generated image has a real one beside it")
        return found

    def tables(self, means: Mapping[str, float], sets: Mapping[str, Result]) -> dict[str, Any]:
        """Return what metrics.json holds of the metrics; {} if there are none."""
        meaning = self.meaning()
        about = {"num_results": self.number, "meaning": meaning} if meaning else {}
        rows = {name: finite_or_none(self.of_images[name]) for name in sorted(self.of_images, key=natural_key)}
        tables: dict[str, Any] = about | {"mean": finite_or_none(dict(means)), "images": rows} if rows else {}
        return tables | ({"sets": {name: result_table(result) for name, result in sets.items()}} if sets else {})


def results_text(results: Mapping[str, Result]) -> str:
    """Return Results in words: "lite0_kid of fake_B 0.0123 +- 0.0045 (106 images), ..."."""
    texts = []
    for name, (value, error, n) in results.items():
        margin = "" if error is None else f" +- {error:.4f}"
        texts.append(f"{name} {value:.4f}{margin} ({count_text(n, 'image')})")
    return ", ".join(texts)


def _default_names(settings: Settings, of_run: Sequence[str], compare: bool) -> list[str]:
    """Return L1, PSNR and those of plug-ins, of pairs, then those of the run; print a note on one that is skipped.

    That is one that cannot be made. compare: whether there are pairs; else only the run's metrics of sets remain.
    """
    usual = [each for each in entries("metric") if each.origin != "built in" or each.name in DEFAULT] if compare else []
    names, own = [], [entry("metric", name) for name in of_run]
    for each in dict.fromkeys([*usual, *own]):
        try:
            paired = make_metric(each.name, each.load(), settings).paired
        except UserError as problem:
            print_line(f"note: metric {each.name} is skipped ({problem})")
        else:
            names += [each.name] if (compare if paired else each in own) else []
    return names


def _of_one(metric: Any) -> Any:
    """Return a metric's function of one pair, (C, H, W) each: (fake, real) -> float."""
    return lambda fake, real: metric.measure(real[None], fake[None].float())[0].item()


def _finite_mean(values: list[float]) -> float:
    finite_values = [v for v in values if math.isfinite(v)]
    return sum(finite_values) / len(finite_values) if finite_values else math.inf
