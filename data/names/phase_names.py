"""Recognise folders of phases by their names in other words: Training, TEST, animals_train."""

import re
from collections.abc import Iterable

PHASE_WORDS = {"train": "train", "training": "train", "trainset": "train", "test": "test", "testing": "test",
               "testset": "test", "val": "val", "valid": "val", "validation": "val"}  # fmt: skip
OTHER_WORDS = {"data", "dataset", "folder", "image", "images", "img", "imgs", "photo", "photos", "picture",
               "pictures", "seg", "set", "split"}  # fmt: skip


def spelled_phases(folders: Iterable[str]) -> dict[str, str]:
    """Return {folder: phase} of the folders whose names mean a phase (train, val or test) in other words.

    The rest of the name is a side or a word such as images (Training, TEST, trainA, test_images), or it is the same for
    another phase (animals_train and animals_test).
    """
    phase_of, rest_of = {}, {}
    for folder in folders:
        plain = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", without_side(folder)).lower()
        words = [word for word in re.split(r"[\W_\d]+", plain) if word]
        if len(phases := [word for word in words if word in PHASE_WORDS]) == 1:
            phase_of[folder] = PHASE_WORDS[phases[0]]
            rest_of[folder] = " ".join(word for word in words if word not in {*phases, *OTHER_WORDS})
    with_rest = {(rest_of[folder], phase) for folder, phase in phase_of.items()}
    divided = {rest for rest, _ in with_rest if sum(rest == other for other, _ in with_rest) > 1}
    return {folder: phase for folder, phase in phase_of.items() if rest_of[folder] in ("", *divided)}


def without_side(folder: str) -> str:
    """Return a folder's name without the side A or B at its end: Train for TrainA, but DATA for DATA."""
    return re.sub(r"(?<=[a-z\W_])[AB]$", "", folder)


def divided_phases(folders: Iterable[str]) -> set[str]:
    """Return the folders of phases in other words, if they are of two phases or more."""
    spelled = spelled_phases(folders)
    return set(spelled) if len(set(spelled.values())) > 1 else set()
