"""Check a model's contract on one batch before training, with meta tensors (shapes without values)."""

import copy
from contextlib import suppress
from functools import wraps
from typing import Any

import torch

from data.base import Spec
from data.notes.fitting import fitting_models
from inference.model_state import ModelWatch, undone_changes
from inference.sampling import Request, has_sampler
from networks.gan_loss import objective_notes
from networks.padding import checked_sizes
from registry import attribution, contract
from registry.contract import contract_error
from registry.lookup import find
from registry.training_position import call_with_now
from training import state_checks
from training.stepping.compiler_import import without_compiler
from training.train_state import TrainState, TrainStep
from util.device import map_leaves, to_device
from util.errors import OptionError, UserError, print_line
from util.seeding import fork_rng
from util.spelling import nearest

MAX_RETRY_PIXELS = 4 * 256**2  # size limit of a batch for a second try with real values
CERTAIN_ERRORS = (NameError, AttributeError, ImportError, KeyError)  # these do not depend on values


def run_preflight(train_step: TrainStep, o: Any, model: Any, batch: dict[str, Any], spec: Spec) -> None:
    """Run `train_step` once on a copy of a model on meta tensors; raise an error that is certain to occur in training.

    Raise OptionError for an image of a size that the network it is given to rejects, for a broken contract (a loss that
    is not a scalar, a batch without a key that the model reads, state that cannot be read back, a layer made in a step,
    ...), and a plug-in's own errors. An error that may be due to the missing values is raised only if it occurs with
    real values too. A large batch is not tried again, to save time: the first real step then raises the error.
    """
    # Check phases, networks, state and sheets.
    phases = contract.check_phases(model, o.model)
    notes = contract.check_networks(model, o.model, phases)
    extra = state_checks.check_state(model, o.model)
    _check_sheets(model, o.model, spec.classes)
    # Run a step on meta tensors.
    shapes = to_device(batch, torch.device("meta"))
    with without_compiler():
        problem, more = _run_on_copy(train_step, o, model, spec, shapes, extra)
        if problem is None and len(spec.classes) > 1 and _runs_without(train_step, o, model, spec, shapes, "label"):
            why = f"it learns the images of all {len(spec.classes)} as one"
            more.append(f"note: {o.model} does not use the classes: {why}")
    for note in notes + _pairs_note(o) + more:
        print_line(note)
    if problem is None or attribution.plugin_error([problem]) is None:
        return  # our own models fail here only because values are missing
    # If the error may be due to missing values, run the step again with real ones.
    if not _is_value_independent(problem):
        small = batch["A"].numel() <= MAX_RETRY_PIXELS * batch["A"].shape[1]
        for_lack_of_values = "meta" in str(problem).lower()
        if for_lack_of_values or not small:
            return
        values = map_leaves(lambda value: value.clone() if torch.is_tensor(value) else value, batch)
        problem, _ = _run_on_copy(train_step, o, model, spec, values, {})
    if problem is not None:
        raise problem


def _is_value_independent(problem: Exception) -> bool:
    return isinstance(problem, CERTAIN_ERRORS) or any(text in str(problem) for text, *_ in attribution.KNOWN_ERRORS[:3])


def _run_on_copy(
    train_step: TrainStep, o: Any, model: Any, spec: Spec, batch: dict[str, Any], extra: dict[str, Any]
) -> tuple[Exception | None, list[str]]:
    """Run a step on a copy of the model, on the batch's device; return (error or None, notes). Raise UserErrors."""
    try:
        twin = _twin(model, o, spec).to(batch["A"].device)
    except Exception:  # a model may not be copyable: the first real step then finds its errors
        return None, []
    try:
        with fork_rng(0):
            state = TrainState.from_options(twin, o)
        with fork_rng(0), checked_sizes(twin), state_checks.no_new_layers(twin, o.model):
            notes = _run_step(train_step, o, state, _CheckedDict(batch, "batch"))
            _restore_extra_state(twin, o.model, extra)
    except UserError:
        raise
    except _MissingKey as missing:
        absent_key = missing.key if missing.label == "batch" else _missing_input(twin, batch, missing.key)
        raise _missing_key_error(missing, o.model, o.dataset_mode, list(batch), absent_key) from missing
    except Exception as problem:  # the caller judges it
        if "'NoneType'" in str(problem) and (key := _absent_key(twin, batch)):  # the model tried to do without it
            unread = _MissingKey(key, "batch", list(batch))
            raise _missing_key_error(unread, o.model, o.dataset_mode, list(batch), key) from problem
        return problem, []
    return None, notes


def _runs_without(train_step: TrainStep, o: Any, model: Any, spec: Spec, batch: dict[str, Any], key: str) -> bool:
    """Whether a step on a copy of the model neither needs a key of the batch nor looks for it."""
    rest = _CheckedDict({name: value for name, value in batch.items() if name != key}, "batch")
    with suppress(Exception), fork_rng(0):  # it needs the key
        twin = _twin(model, o, spec).to(batch["A"].device)
        _run_step(train_step, o, TrainState.from_options(twin, o), rest)
        return key not in rest.absent_keys
    return False


def _pairs_note(o: Any) -> list[str]:
    """Return a note if the model's own data set gives pairs, and --dataset_mode does not."""
    usual = find("model", o.model).dataset_mode
    if usual is None or not find("dataset", usual).paired or find("dataset", o.dataset_mode).paired:
        return []
    why = f"{o.dataset_mode} gives none: B is not the counterpart of A"
    return [f"note: {o.model} is made for pairs (--dataset_mode {usual}), and {why}"]


def _twin(model: Any, o: Any, spec: Spec) -> Any:
    """Return a second model; a new one if functions that the model holds, such as hooks, refer to the model itself."""
    if ModelWatch(model).copyable:
        return copy.deepcopy(model)
    with fork_rng(0):
        return type(model)(o, spec)


def _run_step(train_step: TrainStep, o: Any, state: TrainState, batch: "_CheckedDict") -> list[str]:
    """Train one step on a copy, and check what its forward, losses and show return; return notes."""
    twin = state.model
    state.phases, state.micro_batches = [_with_checked_loss(phase, o.model) for phase in state.phases], 1
    with twin.register_forward_hook(lambda model, args, out: _checked_out(out, o.model)):
        out, losses = train_step(state, batch, state.now(0))
    with attribution.error_context("show", twin):
        contract.check_shown(twin.show(out), o.model)
    notes, phase_of = objective_notes(twin, o), dict[str, str]()
    for phase, terms in losses.items():
        twice = [term for term in terms if term in phase_of]
        notes += [f"note: phases {phase_of[t]} and {phase} both call a loss {t}: they are logged as one" for t in twice]
        phase_of |= dict.fromkeys(terms, phase)
    return notes


def _checked_out(out: Any, name: str) -> Any:
    """Return what forward returned, checked; a key that is missing from it raises _MissingKey."""
    contract.check_out(out, name)
    return _CheckedDict(out, "out") if type(out) is dict else out


def _with_checked_loss(phase: Any, name: str) -> Any:
    """Return a copy of a phase whose loss checks the terms that it returns."""

    @wraps(phase.loss)
    def loss(*args: Any, **kwargs: Any) -> Any:
        terms = phase.loss(*args, **kwargs)
        contract.check_terms(terms, phase.name, name)
        return terms

    checked = copy.copy(phase)
    object.__setattr__(checked, "loss", loss)  # a Phase is frozen
    return checked


def _restore_extra_state(twin: Any, name: str, extra: dict[str, Any]) -> None:
    """Give each module its own extra state, as a resumed run does."""
    parts = state_checks.modules_by_extra_state_key(twin)
    for key, state in extra.items():
        with attribution.error_context("set_extra_state", twin):
            parts[key].set_extra_state(state)


class _MissingKey(KeyError):
    """A key that a checked dictionary does not have."""

    def __init__(self, key: Any, label: str, available: list[Any]):
        super().__init__(key)
        self.key, self.label, self.available = key, label, available


class _CheckedDict(dict):
    """A dict whose KeyError lists the missing key and the available ones."""

    def __init__(self, items: dict[str, Any], label: str):
        super().__init__(items)
        self.label = label
        self.absent_keys: list[Any] = []  # missing keys that were tested with `in` or `get`

    def __contains__(self, key: Any) -> bool:
        is_present = super().__contains__(key)
        self.absent_keys += [] if is_present else [key]
        return is_present

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key, default) if key in self else default  # `in` records it

    def __missing__(self, key: Any) -> Any:
        raise _MissingKey(key, self.label, list(self))


def _absent_key(twin: Any, batch: dict[str, Any]) -> Any:
    """Return the first key that forward looks for in a batch that lacks it, or None."""
    checked_batch = _CheckedDict(batch, "batch")
    with suppress(Exception):  # it is the error that is being explained
        call_with_now(twin, checked_batch)
    return next(iter(checked_batch.absent_keys), None)


def _missing_input(twin: Any, batch: dict[str, Any], key: Any) -> Any:
    """Return the batch key whose absence makes forward omit `key` from its output, or None."""
    checked_batch = _CheckedDict(batch, "batch")
    try:
        call_with_now(twin, checked_batch)
        tries = {word: batch | {word: batch["A"]} for word in checked_batch.absent_keys}
        return next((word for word, tried in tries.items() if key in call_with_now(twin, tried)), None)
    except Exception:  # the guess cannot be tested
        return None


def _missing_key_error(
    missing: _MissingKey, name: str, dataset_mode: str, given: list[str], absent: Any
) -> OptionError:
    """Return the error for a key missing from the batch (from the data set) or from `out` (from forward).

    absent: the key that is missing from the batch, or None if the batch is not the cause.
    """
    available = ", ".join(map(str, missing.available if absent is None else given)) or "nothing"
    near = nearest(str(missing.key), [str(word) for word in missing.available])
    meant = f"did you mean {near!r}? " if near and absent in (None, missing.key) else ""
    place = attribution.plugin_line(missing)
    location = f" ({place})" if place else ""
    if absent is not None:
        why = f"{dataset_mode} gives {available}, but model {name} also reads {absent!r}{location}"
        models = "".join(f", such as --model {model}" for model in fitting_models(dataset_mode)[:1])
        return OptionError("option", "--dataset_mode", why, meant + f"choose another data set or model{models}")
    why = f"it reads out[{missing.key!r}]{location}, but its forward returns {available}"
    return contract_error(name, why, meant + "correct it there, or let forward return it")


def _check_sheets(model: Any, name: str, classes: tuple[str, ...]) -> None:
    """Call an unconditional model's sheets(request) for each kind; OptionError unless it returns images by name."""
    if not has_sampler(model):
        return
    remedy = "return {name: (images (N, C, H, W), labels (N,))} from sheets(request)"
    for kind in ("grid", "per_class", "interpolation"):
        try:
            with fork_rng(0), undone_changes(model), torch.inference_mode():
                made = model.eval().sheets(Request(kind, classes[:2], 2, seed=0))
        except UserError:
            raise
        except Exception as problem:  # otherwise it would occur epochs later, at the first sheet
            place = attribution.plugin_line(problem)
            location = f" ({place})" if place else ""
            why = f"its sheets(request) of kind '{kind}' raises {type(problem).__name__}: {problem}{location}"
            raise contract_error(name, why, remedy) from problem
        if not isinstance(made, dict) or not all(_is_sheet(sheet) for sheet in made.values()):
            raise contract_error(name, f"its sheets(request) of kind '{kind}' does not return images by name", remedy)


def _is_sheet(sheet: Any) -> bool:
    pictures = sheet[0] if isinstance(sheet, tuple | list) and len(sheet) == 2 else None
    return torch.is_tensor(pictures) and pictures.dim() == 4 and pictures.shape[1] in (1, 3) and len(pictures) > 0
