"""Compare what users type with what exists: names of similar spelling, paths with spaces."""

import os
import shlex

WRONG_LETTER = 1.5  # how many missing letters weigh as much as a wrong one
MIN_ABBREVIATION = 3  # characters of a beginning that stands for a whole name
MAX_COMPARED_FILES = 1000  # a folder with more is not searched for a similar name


def normalise_name(name: str) -> str:
    """Return a name in lower case without underscores and hyphens: cycle_gan, CycleGAN and cycle-gan are the same."""
    return name.lower().replace("_", "").replace("-", "")


def nearest(name: str, names: list[str]) -> str | None:
    """Return the name that is meant, the first of equally similar ones; None if none is close.

    Close are, in this order, the same letters, names that begin with this one, names with few typing errors for its
    length, and names with which it begins.
    """
    typed = normalise_name(name)
    plain = {other: normalise_name(other) for other in names}
    longer = [n for n in names if len(name) >= MIN_ABBREVIATION and n.lower().startswith(name.lower())]
    shorter = [n for n in names if typed.startswith(plain[n]) and len(plain[n]) > max(4, len(typed) / 2)]
    errors = {n: typing_errors(typed, plain[n]) for n in names}
    allowed = min(len(typed) / 2, max(WRONG_LETTER, 1 + len(typed) / 8))
    close = [n for n in names if errors[n] <= allowed]
    if close and not errors[found := min(close, key=errors.__getitem__)]:
        return found
    if longer:
        return min(longer, key=len)
    return min(close, key=errors.__getitem__) if close else max(shorter, key=len, default=None)


def name_hint(name: str, names: list[str]) -> str:
    """Return "did you mean NAME? " for the name that is meant, else ""."""
    near = nearest(name, names)
    return f"did you mean {near}? " if near else ""


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


def nearest_path(path: str) -> str | None:
    """Return the existing path that a missing one stands for: each missing part is replaced by the nearest name there.

    None if the path exists, or if there is no name of similar spelling.
    """
    if not path or os.path.lexists(path):
        return None
    found, rest = os.path.splitdrive(path)
    for part in rest.replace(os.sep, "/").split("/"):
        step = os.path.join(found, part) if part else found or os.sep
        if not os.path.lexists(step):
            try:
                names = os.listdir(found or ".")
            except OSError:  # a file, or a folder without permission
                return None
            near = nearest(part, names) if len(names) <= MAX_COMPARED_FILES else None
            if near is None:
                return None
            step = os.path.join(found, near)
        found = step
    return found


def path_hint(path: str) -> str:
    """Return "did you mean PATH?" for a missing path, else ""."""
    near = nearest_path(path)
    return f"did you mean {shlex.quote(near)}?" if near else ""
