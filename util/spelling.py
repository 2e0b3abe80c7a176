"""Compare what users type with what exists: names of similar spelling, paths with spaces."""

import math
import os

WRONG_LETTER = 1.5  # how many missing letters weigh as much as a wrong one
MIN_ABBREVIATION = 4  # letters of a beginning that stands for a whole name


def normalise_name(name: str) -> str:
    """Return a name in lower case without underscores and hyphens: cycle_gan, CycleGAN and cycle-gan are the same."""
    return name.lower().replace("_", "").replace("-", "")


def nearest(name: str, names: list[str]) -> str | None:
    """Return the name that is meant, the first of equally similar ones; None if none is close.

    Close are names with few typing errors for their length, then names that begin with this one, or with which it
    begins.
    """
    typed = normalise_name(name)
    plain = [normalise_name(other) for other in names]
    scored = [(typing_errors(typed, p), not p.startswith(typed), n) for n, p in enumerate(plain)]
    fewest = min(scored, default=(math.inf, True, 0))
    if fewest[0] <= min(len(typed) / 2.5, 1 + len(typed) / 8):
        return names[fewest[2]]
    longer = [n for n, p in enumerate(plain) if len(typed) >= MIN_ABBREVIATION and p.startswith(typed)]
    shorter = [n for n, p in enumerate(plain) if len(p) > max(MIN_ABBREVIATION, len(typed) / 2) and typed.startswith(p)]
    found = min(longer, key=lambda n: len(plain[n]), default=max(shorter, key=lambda n: len(plain[n]), default=None))
    return None if found is None else names[found]


def typing_errors(one: str, other: str) -> float:
    """Return the weight of the fewest errors between two texts; a letter missing, too many or exchanged weighs 1."""
    before: list[float] = []
    row = [float(n) for n in range(len(other) + 1)]
    for i, letter in enumerate(one, 1):
        above, before = before, row
        row = [float(i)]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + WRONG_LETTER * (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
    return row[-1]


def unquoted_path(words: list[str]) -> str | None:
    """Return the existing path that the first two or more words make when joined by spaces, else None."""
    joined = (" ".join(words[:n]) for n in range(len(words), 1, -1))
    return next((path for path in joined if os.path.exists(os.path.expanduser(path))), None)
