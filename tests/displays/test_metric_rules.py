"""Health notes on metrics: the best long passed, overfitting, copies; and none where training goes well."""

import pytest

from displays.metric_rules import LONG_AGO, metric_notes


def rows(values, training=(), better="higher", copies=None, error=0.01):
    training = [*training, *[None] * len(values)]
    return [
        {
            "epoch": i + 1,
            "metrics": {"ssim": [value, error, 50]},
            "better": {"ssim": better},
            "training": {} if training[i] is None else {"ssim": training[i]},
            "copies": copies,
        }
        for i, value in enumerate(values)
    ]


RISE_AND_FALL = [0.3, 0.5, 0.6, *[0.5] * LONG_AGO]
LEARNT_BY_HEART = [0.3, 0.5, 0.6, *[0.6 + 0.03 * i for i in range(1, LONG_AGO + 1)]]


@pytest.mark.parametrize(
    ("history", "names"),
    [
        (rows(RISE_AND_FALL), ["best passed"]),
        (rows([1 - v for v in RISE_AND_FALL], better="lower"), ["best passed"]),
        (rows(RISE_AND_FALL[:-1]), []),  # too early to say
        (rows(RISE_AND_FALL, error=0.2), []),  # within chance
        (rows([*RISE_AND_FALL[:-1], 0.59]), []),  # it comes back
        (rows(RISE_AND_FALL, LEARNT_BY_HEART), ["overfitting"]),
        (rows(RISE_AND_FALL, RISE_AND_FALL), ["best passed"]),  # training images are worse too
        (rows([0.3, 0.4, 0.5, 0.6] * 5), []),
        (rows([0.5] * 3, copies=[0.8, 0.02]), ["copies of training images"]),
        (rows([0.5] * 3, copies=[0.8, 0.3]), []),  # real images resemble each other as much
        (rows([0.5], copies=[0.8, 0.0]), []),
        (rows([None] * 20), []),
        ([], []),
    ],
)
def test_notes(history, names):
    assert [note.name for note in metric_notes(history)] == names


def test_notes_say_where_and_what_to_do():
    (note,) = metric_notes(rows(RISE_AND_FALL))
    assert str(note) == (
        "health: best passed: ssim was best in epoch 3 (0.6) and is 0.5 in epoch 13, 10 evaluations later; "
        "test with --epoch best_ssim, and stop with --early_stop"
    )
    (note,) = metric_notes(rows(RISE_AND_FALL, LEARNT_BY_HEART))
    assert "since epoch 3 ssim has gone from 0.6 to 0.9 on training images, and from 0.6 to 0.5 on" in note.evidence


def test_one_metric_that_still_improves_prevents_the_note():
    history = rows(RISE_AND_FALL)
    for i, row in enumerate(history):
        row["metrics"]["l1"], row["better"] = [1 - 0.05 * i, None, 50], {"ssim": "higher", "l1": "lower"}
    assert metric_notes(history) == []
