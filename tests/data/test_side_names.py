"""Names of outputs and networks say which side they are of, and from which they are made."""

import pytest

from data.side_names import exchange_sides, input_side, side_of_label


@pytest.mark.parametrize(("label", "of"), [
    ("real_A", "A"), ("rec_A", "A"), ("idt_A", "A"), ("real", "A"), ("real_A_rgb", "A"), ("real_A2", "A2"),
    ("fake", "B"), ("fake_B", "B"), ("fake_B_rgb", "B"),
])  # fmt: skip
def test_labels_say_of_which_side_a_picture_is(label, of):
    assert side_of_label(label) == of


def test_labels_are_named_after_the_side_they_are_made_from():
    of_B = ("real_B", "rec_B", "fake_A", "idt_A", "real_B_rgb", "fake_A_2")
    of_A = ("real_A", "rec_A", "fake_B", "idt_B", "fake_B_rgb", "real", "fake", "B", "fake_AB", "mask_B")
    assert {label: input_side(label) for label in (*of_B, *of_A)} == dict.fromkeys(of_B, "B") | dict.fromkeys(of_A, "A")


def test_names_of_the_other_side():
    names = ("G_A", "fake_B", "fake_B_rgb", "idt_A", "G", "real", "A_to_x", "BAD_AB")
    assert [exchange_sides(name) for name in names] == [
        "G_B", "fake_A", "fake_A_rgb", "idt_B", "G", "real", "A_to_x", "BAD_AB"]  # fmt: skip
