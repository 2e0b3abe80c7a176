"""Try a model's contract on one batch before training, with tensors that have shapes but no values."""

import copy
from typing import Any

import torch

from util.errors import OptionError, UserError
from util.seeding import seeded


def rehearse(model: Any, name: str, dataset_mode: str, batch: dict[str, Any]) -> None:
    """Run forward and every phase's loss once; raise OptionError for what can be known to fail.

    That is: a method that is missing, a data set that does not give what the model reads, losses that are no
    dictionary of scalars. What tensors without values cannot do is left to the first real step.
    """
    try:
        with seeded(0), torch.no_grad():
            twin = copy.deepcopy(model).to("meta").train()
            batch = {k: v.to("meta") if torch.is_tensor(v) else v for k, v in batch.items()}
            out = twin(batch)
            for phase in twin.phases():
                _check_terms(name, phase.name, phase.loss(batch, out))
    except UserError:
        raise
    except KeyError as missing:
        given = ", ".join(sorted(batch))
        why = f"{dataset_mode} gives {given}, but model {name} also reads {missing}"
        raise OptionError("option", "--dataset_mode", why, "choose another data set or model") from missing
    except (NotImplementedError, TypeError) as problem:
        if not str(problem).startswith("Cannot copy out of meta"):
            raise OptionError("plug-in", name, f"breaks its contract: {problem}", "see docs/design.md") from problem
    except Exception:  # something real tensors can do and these cannot: the first step will tell
        return


def _check_terms(name: str, phase: str, terms: Any) -> None:
    scalars = isinstance(terms, dict) and terms and all(
        not torch.is_tensor(v) or v.dim() == 0 for v in terms.values()
    )  # fmt: skip
    if not scalars:
        raise OptionError("plug-in", name, f"the loss of its phase {phase} must return a dictionary of scalars",
                          "return {name: scalar tensor, ...}")  # fmt: skip
