"""Which epoch of a run is the best: --early_stop, and what --epoch best and the names of files say."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.lookup import entry, is_known
from serialization.weight_names import list_weights
from util.errors import OptionError

PREFIX = "best_"  # of the files of the best epoch: best_ssim_net_G.pth
PATTERN = r"best(_[\w.-]+)?"  # what --epoch may be besides an epoch's number and latest


def parse_early_stop(text: str, metrics: Sequence[str] = ()) -> tuple[str, int]:
    """Return (metric, patience) of --early_stop METRIC:PATIENCE, ("", 0) if it is empty; raise OptionError.

    metrics: those of --metrics, for the error's example.
    """
    if not text:
        return "", 0
    name, _, patience = text.partition(":")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", patience):
        why = f"'{text}' is not METRIC:PATIENCE"
        words = re.findall(r"[\w.-]+", text)
        metric = next((word for word in words if is_known("metric", word)), next(iter(metrics), "l1"))
        number = next((word for word in words if re.fullmatch(r"[1-9][0-9]{0,8}", word)), "5")
        remedy = f"give a metric and the number of evaluations without a better value, such as {metric}:{number}"
        raise OptionError("option", "--early_stop", why, remedy)
    return entry("metric", name, "--early_stop").name, int(patience)


def check_evaluation(o: Any) -> None:
    """Raise OptionError for an --early_stop that is not among --metrics."""
    name, _ = parse_early_stop(o.early_stop, o.metrics)
    if name and name not in metric_names(o.metrics):
        named = ",".join([*o.metrics, name])
        raise OptionError("option", "--early_stop", f"{name} is not measured", f"give --metrics {named}")


def metric_names(metrics: Sequence[str]) -> list[str]:
    """Return the names of metrics as they are registered, each once."""
    return list(dict.fromkeys(entry("metric", name).name for name in metrics))


def main_metric(metrics: Sequence[str], early_stop: str) -> str:
    """Return the metric that decides: that of --early_stop, else the first of --metrics, else ""."""
    return parse_early_stop(early_stop)[0] or next(iter(metric_names(metrics)), "")


def best_prefix(metric: str) -> str:
    """Return the prefix of the files of a metric's best epoch."""
    return PREFIX + re.sub(r"[^\w.-]", "_", metric.lower())


def resolve_best(o: Any, folder: Path, run: Mapping[str, Any]) -> str:
    """Return --epoch with best_METRIC for best and in the spelling of the files; raise OptionError without a metric.

    run: the options that the run was trained with; one that does not exist, or has no weights yet, is reported when its
    weights are read.
    """
    if not re.fullmatch(PATTERN, o.epoch):
        return o.epoch
    named = o.epoch.removeprefix("best").removeprefix("_")
    if named:
        return best_prefix(entry("metric", named).name if is_known("metric", named) else named)
    if metric := main_metric(run.get("metrics", ()), run.get("early_stop", "")):
        return best_prefix(metric)
    kept = {path.name.partition("_net_")[0] for path in list_weights(folder, f"{PREFIX}*_net_*")}
    if len(kept) == 1:  # the run's options are not there, or its metrics were dropped later
        return kept.pop()
    if not list_weights(folder, "*_net_*"):
        return o.epoch
    none = "the run was trained without --metrics" if run else f"{folder} has no file {PREFIX}METRIC_net_NAME.pth"
    why = none if not kept else f"there are {', '.join(sorted(kept))}"
    remedy = "give latest or the number of an epoch" if not kept else "name one of them"
    raise OptionError("option", "--epoch", f"'best' is unknown: {why}", remedy)
