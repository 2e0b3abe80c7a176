"""Compare a resumed run's options with those that it was saved with."""

from typing import Any

from registry.lookup import is_known
from serialization import mismatch
from training import lr_schedule
from util.errors import OptionError, count_text

PIXEL_FLAGS = ("load_size", "crop_size", "preprocess", "range", "range_A", "range_B")  # what images are measured as


def compare_options(
    o: Any, before: dict[str, Any], epochs: int, steps: int, history: list[float], improvements: list[bool] | None
) -> tuple[list[str], bool]:
    """Return notes on the options that changed since the save, and whether some needed a permission that was given.

    epochs: how many have begun; steps: how many are done; history, improvements: see lr_schedule.lr_factor. Raise
    OptionError for those that change what weights mean, without permission.
    """
    meta = {name: flag.meta for name, flag in o.flags.items()}
    changed = {
        name: f"--{name} {was} -> {now}"
        for name, was in before.items()
        if name in meta and was != (now := mismatch.to_saved_value(getattr(o, name)))
        if not meta[name]["momentary"]
    }
    # Refuse changes that alter the meaning of the weights.
    fixed = [n for n in changed if meta[n]["fixed"] and not _is_gone(meta[n]["choices"], before[n])]
    if fixed and not o.allow_option_change:
        details = ", ".join(changed[name] for name in fixed)
        why = f"changed since the run was saved, which changes the meaning of its weights: {details}"
        given = [name for name in fixed if name in o.given]
        restore = f"omit {', '.join(f'--{name}' for name in given)}" if given == fixed else "restore it"
        remedy = f"{restore}, or continue anyway with --allow_option_change"
        raise OptionError("option", f"--{fixed[0]}", why, remedy)
    # Report all other changes.
    notes = ["changed since it was saved: " + ", ".join(changed.values())] if changed else []
    counting = [name for name in changed if not meta[name]["aside"]]
    if of_pixels := [name for name in PIXEL_FLAGS if name in changed and o.metrics]:
        names = ", ".join(f"--{name}" for name in of_pixels)
        notes.append(f"note: from here on --metrics measure other images ({names}): earlier values are not comparable")
    if "warmup" in counting and steps >= max(before["warmup"], o.warmup):
        counting.remove("warmup")
        notes.append(f"note: --warmup has no effect: {count_text(steps, 'step')} are done already")
    only_rates = set(counting) <= set(lr_schedule.FLAGS) and not o.plugin  # plug-ins may read these flags
    if only_rates and lr_schedule.begins_alike(o, before, epochs, history, improvements):
        counting = []
    if counting:
        names = ", ".join(f"--{name}" for name in counting)
        notes.append(f"from here on results differ from an uninterrupted run because of {names}")
    return notes, bool(fixed)


def _is_gone(kind: Any, name: Any) -> bool:
    """Whether the registry no longer has this name: a renamed plug-in does not change what weights mean."""
    return isinstance(kind, str) and isinstance(name, str) and not is_known(kind, name)
