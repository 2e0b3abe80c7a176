"""Which of a model's outputs is written where only one is, and that the others are named."""

from data.names.side_names import generated_label, other_results_note


def test_one_of_several_generated_images_is_named():
    labels = ["real", "fake_blue", "fake_red"]
    assert generated_label(labels) == "fake_blue"
    note = other_results_note(labels, "fake_blue")
    assert note == "note: only fake_blue is written, not fake_red; choose with --results_only"
    assert other_results_note(["real_A", "fake_B", "rec_A"], "fake_B") == ""
