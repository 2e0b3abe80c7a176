"""Try a model's contract on one batch before training, with tensors that have shapes but no values."""

import copy
import io
from typing import Any

import torch

from util.errors import OptionError, UserError
from util.seeding import seeded
from util.sheets import Request, can_generate


def rehearse(model: Any, name: str, dataset_mode: str, batch: dict[str, Any], classes: tuple[str, ...] = ()) -> None:
    """Run forward and every phase's loss once; raise OptionError for what can be known to fail.

    That is: a method that is missing, a data set that does not give what the model reads, losses that are no
    dictionary of scalars, state that could not be read again. What tensors without values cannot do is left to the
    first real step.
    """
    _check_state(model, name)
    _check_sheets(model, name, classes)
    missed: set[Any] = set()
    shapes = {k: v.to("meta") if torch.is_tensor(v) else v for k, v in batch.items()}
    try:
        with seeded(0), torch.no_grad():
            twin = copy.deepcopy(model).to("meta").train()
            out = _Watched(twin(_Watched(shapes, missed)), missed)
            for phase in twin.phases():
                _check_terms(name, phase.name, phase.loss(_Watched(shapes, missed), out))
    except UserError:
        raise
    except KeyError as missing:
        if missing.args and missing.args[0] in missed:
            why = f"{dataset_mode} gives {', '.join(sorted(batch))}, but model {name} also reads {missing}"
            raise OptionError("option", "--dataset_mode", why, "choose another data set or model") from missing
    except NotImplementedError as problem:
        if "must define" in str(problem):  # BaseModel's own words
            raise OptionError("plug-in", name, f"breaks its contract: {problem}", "see docs/design.md") from problem
    except Exception:  # something real tensors and models can do and these cannot: the first step will tell
        return


class _Watched(dict):
    """A dictionary that notes which names were asked for in vain."""

    def __init__(self, items: dict[str, Any], missed: set[Any]):
        super().__init__(items)
        self.missed = missed

    def __missing__(self, key: Any) -> Any:
        self.missed.add(key)
        raise KeyError(key)


def _check_state(model: Any, name: str) -> None:
    """Raise OptionError if a state of the model's own (get_extra_state) could be saved but not read again."""
    extra = {key: value for key, value in model.state_dict().items() if not torch.is_tensor(value)}
    file = io.BytesIO()
    try:
        torch.save(extra, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception as problem:  # whatever saving or reading says of it, the plug-in has to change
        why = f"the state of {', '.join(extra)} could not be read again ({str(problem).splitlines()[0]})"
        raise OptionError("plug-in", name, why, "keep tensors, numbers, texts, lists and dictionaries") from problem


def _check_sheets(model: Any, name: str, classes: tuple[str, ...]) -> None:
    """Have a model that generates draw each kind of sheet; OptionError if that gives no pictures by name."""
    if not can_generate(model):
        return
    remedy = "return {name: (pictures (N, C, H, W), labels (N,))} from sheets(request)"
    model.eval()
    for kind in ("grid", "per_class", "interpolation"):
        try:
            with seeded(0), torch.inference_mode():
                made = model.sheets(Request(kind, classes[:2], 2, seed=0))
        except Exception as problem:  # whatever it raises, it would raise at the first sheet, epochs from now
            why = f"its sheets(request) of kind '{kind}' raise {type(problem).__name__}: {problem}"
            raise OptionError("plug-in", name, why, remedy) from problem
        if not isinstance(made, dict) or not all(_is_sheet(sheet) for sheet in made.values()):
            raise OptionError("plug-in", name, f"its sheets(request) of kind '{kind}' are no pictures by name", remedy)
    model.train()


def _is_sheet(sheet: Any) -> bool:
    return isinstance(sheet, tuple) and len(sheet) == 2 and torch.is_tensor(sheet[0]) and sheet[0].dim() == 4


def _check_terms(name: str, phase: str, terms: Any) -> None:
    scalars = isinstance(terms, dict) and terms and all(
        not torch.is_tensor(v) or v.dim() == 0 for v in terms.values()
    )  # fmt: skip
    if not scalars:
        raise OptionError("plug-in", name, f"the loss of its phase {phase} must return a dictionary of scalars",
                          "return {name: scalar tensor, ...}")  # fmt: skip
