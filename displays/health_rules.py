"""Rules that detect from a run's history that training goes wrong.

Every rule prefers a missed problem to a false alarm: a note needs several epochs of evidence, losses are judged only
for names and objectives whose equilibrium is known, and images only under the labels of translations.
"""

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from displays.metric_rules import MAX_EVALUATIONS, Note, metric_notes
from util.image_io import GRID_PADDING, SHEET_COLUMNS

Row = Mapping[str, Any]  # one epoch: {"epoch", "step", "lr", "mean": {loss: value, None for NaN and Inf}}
Figures = dict[str, Any]  # the fixed samples of one epoch: {"epoch", "step", label: {measure: value}}

EQUILIBRIUM = {"lsgan": 0.25, "vanilla": math.log(2), "hinge": 1.0}  # D's term when it cannot tell real from fake
LOSING_LOSS = {"lsgan": 0.8, "vanilla": 3.0, "hinge": 0.9}  # G's term when D detects every fake
WINNING_FRACTION = 0.015  # share of EQUILIBRIUM at which the discriminator has nothing left to learn (vanilla: 0.01)
GAN_TERMS = {"G_GAN": ("D_real", "D_fake"), "G_A": ("D_A",), "G_B": ("D_B",)}  # G's term: its D's terms
PAIRED_DATASET_MODES = ("aligned", "colorization")  # data sets whose B is the translation of A
EARLY_EPOCHS = 5  # epochs that set the early level
MIN_WINDOW_EPOCHS, MIN_WINDOW_STEPS = 10, 500  # consecutive epochs of evidence, and steps between first and last
SAMPLES_IN_ROW, MIN_SAMPLE_STEPS = 5, 1000  # consecutive samples, and steps, before images are judged
EXPLODED_GAN, EXPLODED = 400, 1000  # multiples of EQUILIBRIUM, and of a loss's early level, not reached by chance
MAX_SAMPLES, SIDE_PIXELS = 16, 96  # fixed samples measured at most; approximate pixels per side after subsampling
FLAT_LEVELS, VARIED_LEVELS = 0.5, 10.0  # of 255: invisible and clear differences
MIN_LR_FRACTION = 1e-9  # share of the highest learning rate that counts as 0


class Health:
    """Collects what the rules need from a run of any length: its first and its latest epochs.

    gan_mode, dataset_mode: the values of these flags.
    """

    def __init__(self, gan_mode: str, dataset_mode: str):
        self.gan_mode, self.paired = gan_mode, dataset_mode in PAIRED_DATASET_MODES
        self.first: list[Row] = []
        self.newest: deque[Row] = deque()  # enough for _window
        self.figures: deque[Figures] = deque(maxlen=SAMPLES_IN_ROW)
        self.metrics: deque[Row] = deque(maxlen=MAX_EVALUATIONS)

    def add_row(self, row: Row) -> None:
        """Add an epoch's losses."""
        if len(self.first) < EARLY_EPOCHS:
            self.first.append(row)
            return
        self.newest.append(row)
        if _window(list(self.newest)[1:]):
            self.newest.popleft()

    def add_samples(self, epoch: int, step: int, samples: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Add an epoch's fixed samples, {file: {label: (H, W, C) uint8}}."""
        self.figures.append(measure_samples(epoch, step, samples))

    def add_sheets(self, epoch: int, step: int, sheets: Mapping[str, np.ndarray]) -> None:
        """Add an epoch's generated sheets, {name: grid (H, W, C) uint8}, of an unconditional model."""
        cells = {name: made for name, sheet in sheets.items() if (made := _measure_sheet(sheet))}
        self.figures.append({"epoch": epoch, "step": step, **cells})

    def add_metrics(self, row: Row) -> None:
        """Add an evaluation, a row of losses.jsonl."""
        self.metrics.append(row)

    def notes(self) -> list[Note]:
        """Return the problems of the latest epoch."""
        found = notes([*self.first, *self.newest], list(self.figures), self.gan_mode, self.paired)
        return found + metric_notes(list(self.metrics))


def notes(rows: Sequence[Row], figures: Sequence[Figures], gan_mode: str, paired: bool) -> list[Note]:
    """Return the problems of the latest epoch; rows and figures are ordered oldest first."""
    found: list[Note | None] = []
    if rows:
        found += [_zero_lr(rows), _exploding_loss(rows, gan_mode), _discriminator_winning(rows, gan_mode)]
    if len(figures) >= SAMPLES_IN_ROW and figures[-1]["step"] >= MIN_SAMPLE_STEPS:
        found += [_constant_outputs(figures[-SAMPLES_IN_ROW:]), _inverted_colours(figures[-SAMPLES_IN_ROW:], paired)]
    return [note for note in found if note]


# --- losses


def _zero_lr(rows: Sequence[Row]) -> Note | None:
    """Check for two epochs at 0, because a warm-up may begin at 0 and a schedule may end there."""
    rates, highest = [row["lr"] for row in rows[-2:]], max(row["lr"] for row in rows)
    if len(rates) < 2 or any(rate > MIN_LR_FRACTION * highest for rate in rates):
        return None
    evidence = f"it is {rates[-1]:g} in epochs {rows[-2]['epoch']} and {rows[-1]['epoch']}, so nothing is learnt"
    return Note("learning rate 0", evidence, "check --lr_policy, --n_epochs and --n_epochs_decay")


def _exploding_loss(rows: Sequence[Row], gan_mode: str) -> Note | None:
    """Check for NaN or Inf, and for two epochs far above equilibrium or above the loss's own early level."""
    newest, advice = rows[-1], "lower --lr; if it came suddenly, look at the images of that epoch"
    for name, value in newest["mean"].items():
        limit, was = _loss_limit(name, rows, gan_mode)
        before = rows[-2]["mean"].get(name) if len(rows) > 1 else None
        if value is None:
            return Note("loss exploding", f"{name} is not finite in epoch {newest['epoch']}", advice)
        if before is not None and min(abs(value), abs(before)) > limit:
            return Note("loss exploding", f"{name} is {value:.4g} in epoch {newest['epoch']}, {was}", advice)
    return None


def _loss_limit(name: str, rows: Sequence[Row], gan_mode: str) -> tuple[float, str]:
    """Return a limit that a loss does not exceed by chance, and a text that says what the limit is based on."""
    if name in GAN_TERMS or any(name in terms for terms in GAN_TERMS.values()):
        even = EQUILIBRIUM.get(gan_mode)  # other losses, such as wgangp's, are free to drift
        return (EXPLODED_GAN * even, f"where equilibrium is {even:.2g}") if even else (math.inf, "")
    early = rows[: min(EARLY_EPOCHS, len(rows) - 2)] if len(rows) > 2 else []
    levels = {n: float(np.median(v)) for n in rows[-1]["mean"] if (v := _absolute_values(early, n))}
    if name not in levels:
        return math.inf, ""
    floor = max(levels[name], 0.1 * max(levels.values()))  # a loss that was near 0 may grow
    return (EXPLODED * floor or math.inf), f"and was {levels[name]:.4g} at first"


def _absolute_values(rows: Sequence[Row], name: str) -> list[float]:
    return [abs(row["mean"][name]) for row in rows if row["mean"].get(name) is not None]


def _discriminator_winning(rows: Sequence[Row], gan_mode: str) -> Note | None:
    """Check for a discriminator that is certain for many epochs while the generator makes no progress."""
    latest = _window(rows)
    if gan_mode not in EQUILIBRIUM or not latest:
        return None
    for name, terms in GAN_TERMS.items():
        theirs = [[row["mean"].get(term) for row in latest] for term in terms]
        own = [row["mean"].get(name) for row in latest]
        if any(value is None for values in (*theirs, own) for value in values):
            continue
        sure = all(0 <= value < WINNING_FRACTION * EQUILIBRIUM[gan_mode] for values in theirs for value in values)
        early, late = float(np.mean(own[: len(own) // 2])), float(np.mean(own[len(own) // 2 :]))
        if sure and min(own) > LOSING_LOSS[gan_mode] and late > 0.95 * early:
            said = " and ".join(f"{term} {values[-1]:.2g}" for term, values in zip(terms, theirs, strict=True))
            evidence = f"{said} (at equilibrium {EQUILIBRIUM[gan_mode]:.2g}) and {name} {own[-1]:.2g}, not falling, in "
            evidence += f"epochs {latest[0]['epoch']} to {latest[-1]['epoch']}"
            smooth = "" if gan_mode == "hinge" else ", or --label_smoothing 0.1"
            return Note("discriminator winning", evidence, f"weaken it: a smaller --ndf or --n_layers_D{smooth}")
    return None


def _window(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the latest epochs, as few as have MIN_WINDOW_EPOCHS and MIN_WINDOW_STEPS; none if there are too few."""
    for start in range(len(rows) - MIN_WINDOW_EPOCHS, -1, -1):
        if rows[-1].get("step", 0) - rows[start].get("step", 0) >= MIN_WINDOW_STEPS:
            return rows[start:]
    return []


# --- images


def measure_samples(epoch: int, step: int, samples: Mapping[str, Mapping[str, np.ndarray]]) -> Figures:
    """Return the measures of an epoch's fixed samples: a few numbers for each translation."""
    first = list(samples.values())[:MAX_SAMPLES]
    shown = [{label: _small_lightness(array) for label, array in each.items()} for each in first]
    figures: Figures = {"epoch": epoch, "step": step}
    for label in shown[0] if shown else ():
        if match := re.fullmatch(r"fake(?:_([AB]))?(_\w+)?", label):
            figures |= _measure_translation(shown, label, match[1] or "", match[2] or "")
    return figures


def _measure_translation(shown: list[dict[str, np.ndarray]], label: str, side: str, suffix: str) -> Figures:
    """Return {label: its measures over all files with its input}, without what cannot be computed; {} for one file."""
    other = "B" if side == "A" else "A"
    source, there, back = f"real_{other}" if side else "real", f"real_{side}{suffix}", f"rec_{other}"
    shown = [each for each in shown if {label, source} <= each.keys()]
    if len(shown) < 2:
        return {}
    fakes = [each[label] for each in shown]
    figures = _variation(fakes) | _variation([each[source] for each in shown], "source ")
    # Correlate the translation with its input and its target, and the reconstruction with the input.
    for name, one, two in (("follows", label, source), ("returns", back, source), ("meets", label, there)):
        values = _correlations((each[one], each[two]) for each in shown if {one, two} <= each.keys())
        if len(values) > 1:
            figures |= {name: float(np.median(values)), f"{name} at most": max(values)}
    # Compare the distribution of lightness with the target's, unchanged and inverted.
    if all(there in each for each in shown):
        targets = [each[there] for each in shown]
        figures |= _variation(targets, "target ")
        theirs = _lightness_quantiles(targets)
        figures["off"] = float(np.abs(_lightness_quantiles(fakes) - theirs).mean())
        figures["off if turned"] = float(np.abs(_lightness_quantiles([255 - fake for fake in fakes]) - theirs).mean())
    return {label: {name: round(float(value), 3) for name, value in figures.items()}}


def _measure_sheet(sheet: np.ndarray) -> dict[str, float]:
    """Return the measures of a grid of square images, one row of SHEET_COLUMNS per class; {} for another layout."""
    side = sheet.shape[1] // SHEET_COLUMNS
    if side * SHEET_COLUMNS != sheet.shape[1] or side <= GRID_PADDING or sheet.shape[0] % side:
        return {}
    cells = sheet.reshape(-1, side, SHEET_COLUMNS, side, sheet.shape[2]).swapaxes(1, 2)
    rows = [[_small_lightness(cell[:-GRID_PADDING, :-GRID_PADDING]) for cell in row] for row in cells]
    drawn = {"source contrast": 255.0, "source spread": 255.0}  # noise always varies
    found = [_variation(row) for row in rows]
    return {name: round(max(row[name] for row in found), 3) for name in ("contrast", "spread")} | drawn


def _small_lightness(array: np.ndarray) -> np.ndarray:
    """Return the lightness (H, W) of an image, subsampled to about SIDE_PIXELS per side."""
    every = max(1, min(array.shape[:2]) // SIDE_PIXELS)
    return array[::every, ::every].astype(np.float32).mean(axis=2)


def _variation(pictures: list[np.ndarray], prefix: str = "") -> dict[str, float]:
    """Return how much a list of pictures varies, under the names PREFIXcontrast and PREFIXspread.

    Contrast: the largest standard deviation within a picture. Spread: the largest mean absolute difference of
    neighbours in the list; NaN if none have the same shape.
    """
    pairs = [(a, b) for a, b in pairwise(pictures) if a.shape == b.shape]
    spread = max((float(np.abs(a - b).mean()) for a, b in pairs), default=math.nan)
    return {f"{prefix}contrast": max(float(picture.std()) for picture in pictures), f"{prefix}spread": spread}


def _correlations(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """Return the correlation [-1, 1] of lightness for each pair of equal shape and sufficient contrast."""
    varied = [(a, b) for a, b in pairs if a.shape == b.shape and min(a.std(), b.std()) > VARIED_LEVELS / 2]
    return [float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in varied]


def _lightness_quantiles(pictures: list[np.ndarray]) -> np.ndarray:
    """Return the deciles of lightness over all pixels, darkest first (11 values)."""
    return np.quantile(np.concatenate([picture.ravel() for picture in pictures]), np.linspace(0, 1, 11))


def _common_labels(figures: Sequence[Figures]) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """Yield each label that all epochs have, with its measures in each epoch."""
    for label in figures[-1]:
        every = [each.get(label) for each in figures]
        if all(isinstance(measures, dict) for measures in every):
            yield label, every  # type: ignore[misc]


def _constant_outputs(figures: Sequence[Figures]) -> Note | None:
    """Check for outputs without contrast, or the same for every input, in all epochs although the inputs vary."""
    since = f"in epochs {figures[0]['epoch']} to {figures[-1]['epoch']}"
    advice = "start again with another --seed or a lower --lr, and look at the losses before it began"
    for label, every in _common_labels(figures):
        if all(m["contrast"] < FLAT_LEVELS and _is_varied(m, "contrast") for m in every):
            evidence = f"{label} is a single colour ({every[-1]['contrast']:.1f} levels of 255 of contrast) {since}"
            return Note("outputs constant", evidence, advice)
        if all(m["spread"] < FLAT_LEVELS and _is_varied(m, "spread") for m in every):
            evidence = f"{label} hardly depends on the input ({every[-1]['spread']:.1f} levels of 255 apart) {since}"
            return Note("outputs constant", evidence, advice)
    return None


def _is_varied(m: Mapping[str, float], measure: str) -> bool:
    """Whether the inputs, and the targets where they are known, clearly vary."""
    return min(m[f"source {measure}"], m.get(f"target {measure}", math.inf)) > VARIED_LEVELS


def _inverted_colours(figures: Sequence[Figures], paired: bool) -> Note | None:
    """Check for inverted lightness: against the target with paired data, else against an input that is restored."""
    since = f"in epochs {figures[0]['epoch']} to {figures[-1]['epoch']}"
    for label, every in _common_labels(figures):
        if paired and all(m.get("meets", 0) < -0.5 and m["meets at most"] < -0.2 for m in every):
            evidence = f"{label} is dark where its true counterpart is light (correlation {every[-1]['meets']:.2f})"
            return Note("colours inverted", f"{evidence} {since}", "check the pairs, and the signs of the losses")
        if not paired and all(_is_negative(m) for m in every):
            evidence = f"{label} is dark where its input is light (correlation {every[-1]['follows']:.2f}) {since}, "
            evidence += "while the reconstruction restores it"
            advice = "if that is not what B looks like, start again with another --seed or a larger --lambda_identity"
            return Note("colours inverted", evidence, advice)
    return None


def _is_negative(m: Mapping[str, float]) -> bool:
    """Whether a cycle's translation is the negative of its input, whose inverse would fit the target about as well."""
    against = m.get("follows", 0) < -0.6 and m["follows at most"] < -0.3
    return against and m.get("returns", 0) > 0.8 and m.get("off if turned", math.inf) < m["off"] + 30
