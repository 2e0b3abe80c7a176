"""Say where an epoch's time went, and what holds training up."""

import os

# share of an epoch above which a section is the bottleneck
MAX_SHARES = {"data": 0.4, "display": 0.3, "save": 0.3, "metrics": 0.4}
MIN_EPOCH_S = 5.0  # shorter epochs are not judged


def time_shares_text(spent: dict[str, float]) -> str:
    """Return the share of each section in an epoch's time: `data 62 %, compute 30 %, ...`."""
    whole = sum(spent.values()) or 1.0
    return ", ".join(f"{part} {seconds / whole:.0%}".replace("%", " %") for part, seconds in spent.items())


def bottleneck_text(spent: dict[str, float], threads: int) -> str:
    """Return `; SECTION is the bottleneck: ADVICE` if a section other than compute clearly is, else an empty string."""
    whole = sum(spent.values())
    part = max(spent, key=lambda name: spent[name], default="")
    if whole < MIN_EPOCH_S or part not in MAX_SHARES or spent[part] < MAX_SHARES[part] * whole:
        return ""
    more = threads < (os.cpu_count() or 1)
    advice = {
        "data": f"raise --num_threads (now {threads})" if more else "store smaller images, or use a faster disk",
        "display": "raise --update_html_freq, or lower --fixed_samples",
        "save": "raise --save_latest_freq and --save_epoch_freq",
        "metrics": "raise --eval_freq, or lower --eval_images",
    }[part]
    return f"; {part} is the bottleneck: {advice}"
