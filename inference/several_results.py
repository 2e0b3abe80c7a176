"""Call a model several times for one input, with random numbers that depend on the seed and the input alone."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from inference.model_state import states_equal, undone_changes
from inference.visuals import collect_visuals
from registry.training_position import call_with_now
from util.device import to_device
from util.errors import OptionError, print_line
from util.seeding import fork_rng, generator_states, mix_seed

Visuals = dict[str, Tensor]


@contextmanager
def seeded(bits: int, device: torch.device) -> Iterator[None]:
    """Seed all random generators inside the block; restore them after it, on an accelerator only CUDA's."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []), fork_rng(bits):
        torch.manual_seed(bits)  # the device's generator too
        yield


def translate_once(model: nn.Module, batch: dict[str, Any], o: Any, device: torch.device) -> Visuals:
    """Return the images that a model shows of its outputs for a batch."""
    return collect_visuals(model, call_with_now(model, to_device(batch, device)), o)


class SeveralResults:
    """Returns --num_results results of each image: those that differ as LABEL_1, LABEL_2, ..., others as LABEL.

    The n-th result's draws depend on --seed, n and the values of A. A model with a memory remembers its first result.
    With --no_eval, --batch_size images share their statistics, and then their draws too.
    """

    def __init__(self, o: Any, device: torch.device):
        self.o, self.device, self.number = o, device, o.num_results
        self.varying: set[str] = set()  # labels whose results have differed
        self.has_dropout = False
        self.checked = False  # whether the model is known to use its input

    def __call__(self, model: nn.Module, batch: dict[str, Any]) -> Visuals:
        """Return the images of all results; with one result, random numbers go on from image to image."""
        if not self.checked:
            self.checked = True
            self.has_dropout = any(isinstance(part, nn.modules.dropout._DropoutNd) for part in model.modules())
            check_input_matters(model, batch, self.o, self.device)
        if self.number == 1:
            return translate_once(model, batch, self.o, self.device)
        values = batch["A"].detach().float().cpu().contiguous().numpy()
        key = int.from_bytes(hashlib.blake2b(values.tobytes(), digest_size=8).digest(), "big")
        results = []
        for n in reversed(range(1, self.number)):
            with undone_changes(model), seeded(mix_seed(self.o.seed, key, n), self.device):
                results.append(translate_once(model, batch, self.o, self.device))
        with seeded(mix_seed(self.o.seed, key, 0), self.device):
            before = generator_states()
            first = translate_once(model, batch, self.o, self.device)
            has_drawn = not states_equal(before, generator_states())
        return self._numbered([first, *reversed(results)], has_drawn)

    def _numbered(self, results: list[Visuals], has_drawn: bool) -> Visuals:
        for label, image in results[0].items():
            if not all(torch.equal(image, other[label]) for other in results[1:] if label in other):
                self.varying.add(label)
        if not has_drawn and not self.varying:
            self.number = 1  # nor will they differ for other images
            remedy = " (with --no_eval, dropout does)" if self.o.eval and self.has_dropout else ""
            remedy = " (a run of --use_vae does)" if getattr(self.o, "use_vae", True) is False else remedy
            self._note(f"the model draws no random numbers{remedy}")
        shown: Visuals = {}
        for label, image in results[0].items():
            every = [other[label] for other in results if label in other]
            shown |= {f"{label}_{n + 1}": x for n, x in enumerate(every)} if label in self.varying else {label: image}
        return shown

    def finish(self) -> None:
        """Print a note if the results of an image never differed."""
        if self.number > 1 and not self.varying:
            self._note("the random numbers that the model draws do not change its images")

    def _note(self, why: str) -> None:
        print_line(f"note: the {self.o.num_results} results of an image do not differ, so one is shown: {why}")


def check_input_matters(model: nn.Module, batch: dict[str, Any], o: Any, device: torch.device) -> None:
    """Raise OptionError for a model that could be told to generate, if its images do not depend on its input."""
    if not callable(getattr(model, "sheets", None)):
        return
    results = []
    for tried in (batch, batch | {"A": 0.1 - batch["A"]}):
        with undone_changes(model), seeded(o.seed, device), torch.inference_mode():
            results.append(translate_once(model, tried, o, device))
    made = [label for label in results[0] if not label.startswith("real")]
    if made and all(torch.equal(results[0][label], results[1][label]) for label in made):
        why = f"{o.model} generates images from noise: the input image does not change its {', '.join(made)}"
        raise OptionError("option", "--translate", why, "use --generate")
