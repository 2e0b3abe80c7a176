"""Try a model's contract on one batch before training, with tensors that have shapes but no values."""

import copy
from typing import Any

import torch

from inference.sampling import Request, has_sampler
from registry import attribution, contract
from registry.contract import contract_error
from training import state_checks
from training.optim import TrainableParameters, trainable_parameters
from util.errors import OptionError, UserError, printable
from util.seeding import fork_rng
from util.spelling import nearest

MAX_RETRY_PIXELS = 4 * 256**2  # of a batch that is tried once more with values, where shapes alone leave a doubt
CERTAIN_ERRORS = (NameError, AttributeError, ImportError, KeyError)  # values would not change these


def run_preflight(
    model: Any, name: str, dataset_mode: str, batch: dict[str, Any], classes: tuple[str, ...] = ()
) -> None:
    """Run a first step, forward and every phase's loss and backward, without values; raise what is known to fail.

    That is OptionError for a broken promise (losses that are no scalars, a data set that does not give what the model
    reads, state that could not be read again, ...), and a plug-in's own error. An error that values might not bring
    is believed only if it comes with values too, and left to the first real step where that would take long.
    """
    phases = contract.check_phases(model, name)
    notes = contract.check_networks(model, name, phases)
    extra = state_checks.check_state(model, name)
    _check_sheets(model, name, classes)
    shapes = {k: v.to("meta") if torch.is_tensor(v) else v for k, v in batch.items()}
    problem, more = _run_on_copy(model, name, dataset_mode, shapes, extra)
    for note in notes + more:
        print(printable(note))
    if problem is None or attribution.plugin_error([problem]) is None:
        return  # what fails here of our own models fails for lack of values
    if not _is_value_independent(problem):
        small = batch["A"].numel() <= MAX_RETRY_PIXELS * batch["A"].shape[1]
        for_lack_of_values = "meta" in str(problem).lower()
        if for_lack_of_values or not small:
            return
        values = {k: v.clone() if torch.is_tensor(v) else v for k, v in batch.items()}
        problem, _ = _run_on_copy(model, name, dataset_mode, values)
    if problem is not None:
        raise problem


def _is_value_independent(problem: Exception) -> bool:
    return isinstance(problem, CERTAIN_ERRORS) or any(text in str(problem) for text, *_ in attribution.KNOWN_ERRORS[:3])


def _run_on_copy(model: Any, name: str, dataset_mode: str, batch: dict[str, Any],
                 extra: dict[str, Any] | None = None) -> tuple[Exception | None, list[str]]:  # fmt: skip
    """Return what a copy of the model raises on a batch, on the batch's device, and notes; UserErrors are raised."""
    try:
        twin = copy.deepcopy(model).to(batch["A"].device).train()
    except Exception:  # a model may hold what cannot be copied: the first step will tell
        return None, []
    try:
        with fork_rng(0):
            notes = _run_step(twin, name, batch)
            _restore_extra_state(twin, name, extra or {})
    except UserError:
        raise
    except _MissingKey as missing:
        absent_key = missing.key if missing.label == "batch" else _missing_input(twin, batch, missing.key)
        raise _missing_key_error(missing, name, dataset_mode, list(batch), absent_key) from missing
    except Exception as problem:  # the caller judges it
        return problem, []
    return None, notes


def _run_step(twin: Any, name: str, batch: dict[str, Any]) -> list[str]:
    """Do what train_step does, with each check on the way; return notes."""
    phases, start = twin.phases(), state_checks.state_shapes(twin)
    params, terms_of = TrainableParameters(phases), dict[str, str]()
    notes, checked_batch = [], _CheckedDict(batch, "batch")
    with attribution.error_context("forward", twin):
        out = twin(checked_batch)
    contract.check_out(out, name)
    if type(out) is dict:
        out = _CheckedDict(out, "out")
    for phase in phases:
        params.set_trainable(phase.name)
        with attribution.error_context(f"phase {phase.name}", twin, phase.loss):
            terms = phase.loss(checked_batch, out)
            contract.check_terms(terms, phase.name, name)
            (phase.weight * sum(terms.values())).backward()
        with torch.no_grad():
            for p in (p for net in phase.nets for p in trainable_parameters(net) if p.grad is not None):
                p.add_(0)  # as an optimiser changes it
                p.grad = None
        twice = [term for term in terms if term in terms_of]
        notes += [
            f"note: phases {terms_of[t]} and {phase.name} both call a loss {t}: they are logged as one" for t in twice
        ]
        terms_of |= dict.fromkeys(terms, phase.name)
    with attribution.error_context("show", twin):
        contract.check_shown(twin.show(out), name)
    state_checks.check_state_shapes(twin, name, start)
    return notes


def _restore_extra_state(twin: Any, name: str, extra: dict[str, Any]) -> None:
    """Give each part of the model its own extra state, as a continued run does."""
    parts = state_checks.modules_by_extra_state_key(twin)
    for key, state in extra.items():
        with attribution.error_context("set_extra_state", twin):
            parts[key].set_extra_state(state)


class _MissingKey(KeyError):
    """A name that a watched dictionary does not have."""

    def __init__(self, key: Any, label: str, available: list[Any]):
        super().__init__(key)
        self.key, self.label, self.available = key, label, available


class _CheckedDict(dict):
    """A dictionary that says, of a name asked for in vain, which one it was and what there is."""

    def __init__(self, items: dict[str, Any], label: str):
        super().__init__(items)
        self.label = label
        self.absent_keys: list[Any] = []  # what was looked for with `in`

    def __contains__(self, key: Any) -> bool:
        is_present = super().__contains__(key)
        self.absent_keys += [] if is_present else [key]
        return is_present

    def __missing__(self, key: Any) -> Any:
        raise _MissingKey(key, self.label, list(self))


def _missing_input(twin: Any, batch: dict[str, Any], key: Any) -> Any:
    """Return the name for lack of which in the batch forward leaves `key` out of what it returns; None if none."""
    checked_batch = _CheckedDict(batch, "batch")
    try:
        twin(checked_batch)
        return next((word for word in checked_batch.absent_keys if key in twin(batch | {word: batch["A"]})), None)
    except Exception:  # a guess that cannot be tried
        return None


def _missing_key_error(
    missing: _MissingKey, name: str, dataset_mode: str, given: list[str], absent: Any
) -> OptionError:
    """Return the error for a name that is not in the batch, which the data set gives, or in out, which forward does.

    absent: the name that the batch lacks, if it is to blame.
    """
    available = ", ".join(map(str, missing.available if absent is None else given)) or "nothing"
    near = nearest(str(missing.key), [str(word) for word in missing.available])
    meant = f"did you mean {near!r}? " if near and absent in (None, missing.key) else ""
    place = attribution.plugin_line(missing)
    location = f" ({place})" if place else ""
    if absent is not None:
        why = f"{dataset_mode} gives {available}, but model {name} also reads {absent!r}{location}"
        return OptionError("option", "--dataset_mode", why, meant + "choose another data set or model")
    why = f"it reads out[{missing.key!r}]{location}, but its forward returns {available}"
    return contract_error(name, why, meant + "correct it there, or let forward return it")


def _check_sheets(model: Any, name: str, classes: tuple[str, ...]) -> None:
    """Have a model that generates draw each kind of sheet; OptionError if that gives no pictures by name."""
    if not has_sampler(model):
        return
    remedy = "return {name: (pictures (N, C, H, W), labels (N,))} from sheets(request)"
    model.eval()
    for kind in ("grid", "per_class", "interpolation"):
        try:
            with fork_rng(0), torch.inference_mode():
                made = model.sheets(Request(kind, classes[:2], 2, seed=0))
        except UserError:
            raise
        except Exception as problem:  # whatever it raises, it would raise at the first sheet, epochs from now
            place = attribution.plugin_line(problem)
            location = f" ({place})" if place else ""
            why = f"its sheets(request) of kind '{kind}' raise {type(problem).__name__}: {problem}{location}"
            raise contract_error(name, why, remedy) from problem
        if not isinstance(made, dict) or not all(_is_sheet(sheet) for sheet in made.values()):
            raise contract_error(name, f"its sheets(request) of kind '{kind}' are no pictures by name", remedy)
    model.train()


def _is_sheet(sheet: Any) -> bool:
    pictures = sheet[0] if isinstance(sheet, tuple | list) and len(sheet) == 2 else None
    return torch.is_tensor(pictures) and pictures.dim() == 4 and pictures.shape[1] in (1, 3) and len(pictures) > 0
