"""Folders of phases are known in other words: Training, TEST, animals_train."""

import pytest

from data.names.phase_names import spelled_phases


@pytest.mark.parametrize(("folder", "phase"), [
    ("train", "train"), ("Train", "train"), ("TRAINING", "train"), ("training_set", "train"),
    ("Training Data", "train"),
    ("trainA", "train"), ("TrainB", "train"), ("train_A", "train"), ("TRAIN", "train"), ("train_images", "train"),
    ("seg_test", "test"), ("Testing", "test"), ("testset", "test"), ("Validation", "val"), ("valid", "val"),
    ("VAL", "val"),
    ("trains", ""), ("strain", ""), ("trainer", ""), ("Valencia", ""), ("train station", ""), ("A", ""), ("", ""),
    ("images", ""), ("train_label", ""), ("test train", ""),
])  # fmt: skip
def test_a_phase_is_known_in_other_words(folder, phase):
    assert spelled_phases([folder]).get(folder, "") == phase


@pytest.mark.parametrize(("folders", "phases"), [
    (("asl_alphabet_train", "asl_alphabet_test"), ("train", "test")),
    (("DIV2K_train_HR", "DIV2K_valid_HR"), ("train", "val")),
    (("TrainData", "TestData", "notes"), ("train", "test")), (("train_another", "test"), ("", "test")),
    (("asl_alphabet_train", "other_test"), ("", "")), (("freight_train", "steam_train"), ("", "")),
    (("train2017", "val2017", "stuffthingmaps"), ("train", "val")),
])  # fmt: skip
def test_names_that_differ_in_the_phase_alone_are_of_phases(folders, phases):
    spelled = spelled_phases(folders)
    assert tuple(spelled.get(folder, "") for folder in folders)[: len(phases)] == phases
