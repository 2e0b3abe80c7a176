"""Compare names that users type: ignore case, underscores and hyphens, and find similar names."""

import difflib


def normalise_name(name: str) -> str:
    """Return a name in lower case without underscores and hyphens: cycle_gan, CycleGAN and cycle-gan are the same."""
    return name.lower().replace("_", "").replace("-", "")


def nearest(name: str, names: list[str], alike: float = 0.5) -> str | None:
    """Return the most similar name, the first of equals; None if none has a similarity of at least `alike` (0 to 1)."""

    def likeness(other: str) -> float:
        ratio = difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio()
        return max(ratio, 0.95) if other.lower().startswith(name.lower()) else ratio  # an abbreviation

    scored = [(likeness(other), other) for other in names if name]
    best = max(scored, key=lambda pair: pair[0], default=(0.0, ""))
    return best[1] if best[0] >= alike else None
