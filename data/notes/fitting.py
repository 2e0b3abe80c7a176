"""Name the models that fit a data set, from the registry: in the error of a data set that does not, and on request."""

import os
import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stderr
from contextvars import ContextVar
from copy import copy
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from data.joined_pairs import twice_as_wide
from data.listing import layouts
from data.listing.files import PHASE_FOLDERS, PHASES, is_folder, list_folders
from data.listing.listing_cache import listed_once
from data.listing.manifest import find_manifest
from registry.lookup import entries, find
from registry.suggestions import models_by_dataset_mode
from util.errors import DataError, OptionError, UserError

PREFERENCE = ("aligned", "unaligned", "labeled")  # where several dataset modes fit; then plug-ins', then these:
LAST_CHOICES = ("single", "colorization")
KEPT_FLAGS = ("name", "phase", "pairs", "split", "classes", "direction")  # those of the data, repeated in commands
LAYOUT_FLAGS = ("--dataset_mode", "--pairs")
TEST_MODELS = ("test",)  # models that cannot be trained
ALIKE = {"labeled", "domains"}  # they read the same data, so one is no advice where the other does not fit
QUESTION = "question: "  # the beginning of a note that doubts what the files are
SHARE = 0.9  # --split, where it is needed
_is_searching: ContextVar[bool] = ContextVar("_is_searching", default=False)


@dataclass(frozen=True)
class Fit:
    """A dataset mode that reads the data, its models, and the flags that it needs."""

    mode: str
    models: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    alternative: "Fit | None" = None  # for pairs, which photographs that are wider than high may be or not

    def command(self, o: Any) -> str:
        """Return the command that trains the first of the models on the data."""
        flags = {"dataroot": o.dataroot} | {name: getattr(o, name) for name in KEPT_FLAGS if name in o.given}
        flags |= self.changes | ({"dataset_mode": self.mode} if "dataset_mode" in o.given else {})
        pairs = [("model", self.models[0]), *flags.items(), *(("plugin", file) for file in o.plugin)]
        return " ".join(["python train.py", *(f"--{name} {shlex.quote(str(value))}" for name, value in pairs)])

    def describe(self, o: Any) -> str:
        """Return the advice: the models, and the command for the first of them."""
        advice = f"use {' or '.join(f'--model {name}' for name in self.models)} ({self.command(o)})"
        return advice + (f", or for pairs of A|B {self.alternative.describe(o)}" if self.alternative else "")


@contextmanager
def naming_models(o: Any, root: str) -> Iterator[None]:
    """Add the models that fit to an error about the data of training; root: the folder of the data set's folders."""
    with listed_once():
        try:
            yield
        except (DataError, OptionError) as problem:
            about_layout = isinstance(problem, DataError) or problem.args[1] in LAYOUT_FLAGS
            if not (o.isTrain and about_layout and is_folder(root)) or _is_searching.get():
                raise
            raise _with_advice(problem, o, root) from None


@listed_once()
def find_fit(o: Any, root: str, without: Collection[str] = ()) -> Fit | None:
    """Return the dataset mode, other than that of `o` and `without`, that fits the data best; None if no model fits."""
    without = {o.dataset_mode, *without, *(ALIKE if o.dataset_mode in ALIKE else ())}
    plug_ins = {each.name for each in entries("model") if each.origin != "built in"}
    wanted = plug_ins if o.plugin and "model" not in o.given else set()  # --plugin is given, --model was forgotten
    by_mode = {mode: _trained(names) for mode, names in models_by_dataset_mode().items() if mode not in without}
    models = {mode: tuple(sorted(names, key=lambda name: name not in wanted)) for mode, names in by_mode.items()}
    found = {}
    for mode in filter(models.get, models):
        for changes in _possible_changes(o, root):
            if dataset := _read_data(o, mode, changes):
                found[mode] = dataset, Fit(mode, models[mode], changes)
                break
    if not found:
        return None
    best = found[min(found, key=lambda mode: (wanted.isdisjoint(models[mode]), *_rank(mode, *found[mode])))][1]
    others = [fit for _, fit in found.values() if fit.mode != best.mode and fit.changes == best.changes]
    more = [name for fit in others for name in fit.models if name in plug_ins]
    best = replace(best, models=(*best.models, *more))
    may_be_pairs = "aligned" in found and best.mode == "labeled" and not _has_classes(*found["labeled"])
    return replace(best, alternative=found["aligned"][1]) if may_be_pairs else best


def fitting_models(mode: str) -> tuple[str, ...]:
    """Return the names of the models that train on a dataset mode."""
    return _trained(models_by_dataset_mode().get(mode, []))


def ask(o: Any, root: str, question: str) -> str:
    """Return a question about data that may not be what a data set takes them for, with the models that fit."""
    fit = None if _is_searching.get() or not o.isTrain else find_fit(o, root, LAST_CHOICES)
    return QUESTION + question + (f"; if not, {fit.describe(o)}" if fit else "")


def _with_advice(problem: UserError, o: Any, root: str) -> UserError:
    """Return the error with the --dataroot that its own dataset mode needs, or else with the models that fit."""
    thing, name, why, remedy = problem.args
    names_root = remedy.startswith("give --dataroot")
    above = [{"dataroot": str(Path(root).parent)}] if names_root else []
    tried = ((each, _read_data(o, o.dataset_mode, each)) for each in [*_possible_changes(o, root)[1:], *above])
    own, dataset = next((found for found in tried if found[1]), ({}, None))
    if "dataroot" in own:
        return problem if names_root else type(problem)(thing, name, why, f"give --dataroot {own['dataroot']}")
    is_vague = remedy.startswith("expected ")
    if dataset and not is_vague:
        doubts = [note.removeprefix(QUESTION) for note in dataset.notes if note.startswith(QUESTION)]
        fit = find_fit(o, root, LAST_CHOICES) if doubts else None
        remedy = f"{doubts[0]}; if so, {remedy}; if not, {fit.describe(o)}" if fit else remedy
        return type(problem)(thing, name, why, remedy)
    if (fit := find_fit(o, root)) is None:
        return problem
    if "split" in own:
        remedy = f"use --split {SHARE} to train on nine tenths of them, by their names"
    is_split = remedy.startswith("use --split")
    splits = not is_split or _read_data(o, o.dataset_mode, {"split": SHARE}, with_doubts=True)
    otherwise = f"; otherwise {remedy}" if splits and not names_root and (own or not is_vague) else ""
    return type(problem)(thing, name, why, fit.describe(o) + otherwise)


def _possible_changes(o: Any, root: str) -> list[dict[str, Any]]:
    """Return the flags that may have to change: none, --dataroot to a folder below or above, --phase, or --split."""
    below = layouts.inner_roots(root)
    splits = [{"split": SHARE}] if o.split is None and not below and not layouts.list_phases(root) else []
    if find_manifest(o.dataroot, o.pairs, root):
        return [{}, *splits]
    roots = [*below, *_single_folders(root)]
    sides = [folder for folder in layouts.phase_folders(root, o.phase, "sides") if is_folder(folder)]
    if len(sides) == 1 and find("dataset", o.dataset_mode).sides != "AB":  # else the other side is missing
        roots += sides
    above = str(Path(root).parent)
    if Path(root).name.rstrip("AB") in PHASES and above != root:
        roots.append(above)
    phases = [{"phase": name} for name in layouts.other_phases(root, o)]
    return [{}, *({"dataroot": folder} for folder in dict.fromkeys(roots)), *phases, *splits]


def _single_folders(root: str) -> list[str]:
    """Return the folder that is the only one in root, the only one in that, and so on."""
    folders: list[str] = []
    while len(folders) < layouts.MAX_OUTER_FOLDERS:
        names = [name for name in list_folders(root) if name != "__MACOSX"]
        if len(names) != 1 or names[0] in PHASE_FOLDERS:
            break
        root = os.path.join(root, names[0])
        folders.append(root)
    return folders


def _read_data(o: Any, mode: str, changes: dict[str, Any], with_doubts: bool = False) -> Any:
    """Return the data set of a mode with changed options; None if it refuses the data, or doubts that they fit."""
    token = _is_searching.set(True)
    try:
        kind, trial = find("dataset", mode), copy(o)
        declared = kind.Options if is_dataclass(kind.Options) else None
        own = {each.name: each.default for each in fields(declared) if each.default is not MISSING} if declared else {}
        defaults = {name: value for name, value in kind.defaults.items() if name not in o.given}
        values = own | vars(o) | defaults | changes
        vars(trial).update(values, dataset_mode=mode)
        with redirect_stderr(StringIO()):  # a trial says nothing
            dataset = kind(trial)
        return dataset if len(dataset) and (with_doubts or not dataset.questions) else None
    except Exception:  # a plug-in's data set may raise anything; it is tried, not asked for
        return None
    finally:
        _is_searching.reset(token)


def _rank(mode: str, dataset: Any, fit: Fit) -> tuple[int, int]:
    """Return the order of preference: label maps, several classes, as in PREFERENCE, and the data as they are first.

    Files of A|B go before one class only if they are exactly twice as wide as high.
    """
    order = PREFERENCE.index(mode) if mode in PREFERENCE else 9 if mode in LAST_CHOICES else 8
    if mode == "semantic":  # its folders have names of their own
        order = -2
    elif _has_classes(dataset, fit):
        order = -1
    elif (
        mode == "aligned" and dataset.partners is None and not twice_as_wide(dataset.paths, dataset.o.max_image_pixels)
    ):
        order = len(PREFERENCE)
    return order, bool(fit.changes)


def _has_classes(dataset: Any, fit: Fit) -> bool:
    """Whether a data set has several classes."""
    return fit.mode == "labeled" and len(dataset.classes) > 1


def _trained(names: list[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in TEST_MODELS)
