"""The history of metrics: the best evaluation, the number since it, improvements, and what a damaged state gives."""

import math

import pytest

from metrics.base import Result
from metrics.history import MetricHistory, Row

INF, NAN = math.inf, math.nan


def history(values, better="lower"):
    made = MetricHistory({"m": better})
    made.rows = [Row(i + 1, 10 * i, {"m": Result(v, None, 3)} if v is not None else {}) for i, v in enumerate(values)]
    return made


@pytest.mark.parametrize(
    ("values", "better", "best", "waited"),
    [
        ([3.0, 1.0, 2.0], "lower", 2, 1),
        ([3.0, 1.0, 2.0], "higher", 1, 2),
        ([1.0, 1.0, 1.0], "lower", 1, 2),  # the first of equal ones
        ([NAN, 2.0, NAN], "lower", 2, 1),
        ([NAN, NAN], "higher", None, 2),
        ([5.0, INF, 6.0], "higher", 2, 1),  # PSNR of equal images
        ([1.0, None, 2.0], "lower", 1, 1),  # the metric was not measured then
        ([], "lower", None, 0),
    ],
)
def test_the_best_and_the_evaluations_since(values, better, best, waited):
    made = history(values, better)
    assert (made.best("m").epoch if best else made.best("m")) == best
    assert made.waited("m") == waited


@pytest.mark.parametrize(
    ("values", "better", "improved"),
    [
        ([1.0, 0.995, 0.98, 0.98], "lower", [True, False, True, False]),
        ([1.0, 1.005, 1.02], "higher", [True, False, True]),
        ([-1.0, -1.005, -1.02, -0.5], "lower", [True, False, True, False]),
        ([NAN, 0.0, 0.0, -0.1], "lower", [False, True, False, True]),
    ],
)
def test_an_improvement_is_more_than_a_hundredth(values, better, improved):
    assert history(values, better).improvements("m") == improved


def test_a_state_restores_all_and_a_damaged_one_is_refused():
    made, other = history([1.0, NAN, 3.0]), history([])
    other.load_state_dict(made.state_dict())
    assert repr(other.rows) == repr(made.rows)
    for damaged in ([{"epoch": 1}], [{"epoch": "1", "step": 1, "values": {}}],
                    [{"epoch": 1, "step": 1, "values": {"m": ["1", None, 1]}}]):  # fmt: skip
        with pytest.raises((KeyError, ValueError)):
            other.load_state_dict(damaged)
