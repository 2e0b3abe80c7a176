"""Read the sides A and B in the names of outputs and networks, such as fake_B, real_A2 and G_A."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

OTHER = {"A": "B", "B": "A"}
RESULT = re.compile(r".+_((?:real|fake)(?:_[AB])?)(?:_preview)?")  # the name of an image that test.py wrote


def side_of_label(label: str) -> str:
    """Return the side of a label's images: A for real_A and rec_A, A2 for real_A2, B for fake and idt_B."""
    match = re.search(r"(?:^|_)(A\d*)(?:_|$)", label)
    return match[1] if match else "A" if label == "real" else "B"


def input_side(label: str) -> str:
    """Return the side of the input from which a label's images are made: "B" for real_B, rec_B, fake_A and idt_A."""
    return "B" if re.match(r"(?:(?:real|rec)_B|(?:fake|idt)_A)(?:_|$)", label) else "A"


def exchange_sides(name: str) -> str:
    """Return the name of the other side's network or output: G_A and G_B, fake_B_rgb and fake_A_rgb."""
    return re.sub(r"(?<=_)[AB](?=_|$)", lambda match: OTHER[match[0]], name)


def own_names(things: Mapping[str, Any], exchanged: bool) -> dict[str, Any]:
    """Return networks or outputs by their own names, where those of a model whose sides are exchanged are given."""
    return {exchange_sides(name) if exchanged else name: thing for name, thing in things.items()}


def generated_label(labels: Sequence[str]) -> str:
    """Return the label of the generated image among a model's outputs: the first that is called fake, or not real."""
    fake = [label for label in labels if label.startswith("fake")]
    return (fake or [label for label in labels if not label.startswith("real")] or [*labels])[0]


def result_labels(stems: Iterable[str]) -> list[str]:
    """Return the labels, such as fake_B, of files that test.py seems to have written; [] unless of both kinds."""
    labels = sorted({match[1] for stem in stems if (match := RESULT.fullmatch(stem))})
    return labels if len({label[:4] for label in labels}) == 2 else []


def other_results_note(labels: Sequence[str], written: str) -> str:
    """Return a note about generated images that are not written beside the one that is; "" if there are none."""
    others = [label for label in labels if label.startswith("fake") and label != written]
    return f"note: only {written} is written, not {', '.join(others)}; choose with --results_only" if others else ""
