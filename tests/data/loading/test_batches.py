"""Batches are trees: nested values arrive, move, are cut and joined; a data set may make batches itself."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence
from torch.utils._pytree import tree_leaves
from torch.utils.data._utils.pin_memory import pin_memory

from data.base import BaseDataset
from data.batches import Parts, batch_signature, concat_batches, join_samples, split_batch
from data.loading.loader import Loader
from tests.support.runs import options
from util.device import map_leaves, to_device
from util.errors import DataError, OptionError


@dataclass(frozen=True, slots=True)
class Box:
    corner: Any
    name: Any


class Pair(NamedTuple):
    left: Any
    right: Any


def sample(n):
    return {
        "A": torch.full((3, 4, 4), float(n)),
        "path_A": f"{n}.png",
        "nested": {"x": torch.tensor([n, n]), "deep": {"number": n, "text": f"t{n}"}},
        "scales": [torch.full((1, 2, 2), n), torch.full((1, 4, 4), n)],
        "box": Box(torch.tensor([n, 0]), f"b{n}"),
        "pair": Pair(n, torch.tensor(n)),
    }


def plain(value):
    """Return a value with lists instead of tensors, for comparison."""
    return map_leaves(lambda leaf: leaf.tolist() if torch.is_tensor(leaf) else leaf, value)


def test_nested_values_are_joined():
    batch = join_samples([sample(0), sample(1)])
    assert batch["nested"]["x"].tolist() == [[0, 0], [1, 1]]
    assert (batch["nested"]["deep"]["number"].tolist(), batch["nested"]["deep"]["text"]) == ([0, 1], ["t0", "t1"])
    assert [scale.shape for scale in batch["scales"]] == [(2, 1, 2, 2), (2, 1, 4, 4)]
    assert type(pin_memory(Parts(("a", "b")))) is Parts, "also in the thread that pins"
    assert batch["box"] == Box(batch["box"].corner, ["b0", "b1"]) and batch["box"].corner.tolist() == [[0, 0], [1, 0]]
    assert plain(batch["pair"]) == Pair([0, 1], [0, 1])


def test_a_batch_is_cut_into_its_samples_and_joined_again():
    """Also two scales of two samples: they are no list of samples."""
    for count in (2, 3):
        batch = join_samples([sample(n) for n in range(count)])
        parts = split_batch(batch, count)
        assert [plain(part) for part in parts] == [plain(join_samples([sample(n)])) for n in range(count)]
        assert batch_signature(parts[0]) == batch_signature(parts[1])
        assert plain(concat_batches(parts)) == plain(batch)


def test_what_belongs_to_no_sample_stays_whole():
    batch = {
        "A": torch.zeros(3, 1, 2, 2),
        "scale": torch.tensor(2.0),
        "n": 4,
        "names": ["x", "y"],
        "table": torch.ones(5),
    }
    batch |= {"boxes": [torch.ones(n, 4) for n in range(3)], "ids": (("a",), ("b", "c"), ()), "none": None}
    first, second = split_batch(batch, 2)
    assert [len(boxes) for boxes in second["boxes"]] == [1, 2] and second["ids"] == (("b", "c"), ())
    assert all(first[key] == batch[key] for key in ("scale", "n", "names", "none")) and len(first["table"]) == 5
    assert batch_signature(first) != batch_signature(first), "numbers cannot be joined"


def test_an_object_that_cannot_be_cut_is_named():
    batch = {"A": torch.zeros(2, 1, 2, 2), "words": pack_sequence([torch.ones(2), torch.ones(1)])}
    moved = to_device(batch, torch.device("meta"))
    assert moved["words"].data.is_meta and not moved["words"].batch_sizes.is_meta
    with pytest.raises(OptionError, match="--accumulate': cannot cut a PackedSequence"):
        split_batch(batch, 2)


def test_all_tensors_move():
    moved = to_device(join_samples([sample(0)]), torch.device("meta"))
    assert all(leaf.is_meta for leaf in tree_leaves(moved) if torch.is_tensor(leaf))
    assert moved["box"].corner.is_meta and moved["box"].name == ["b0"]


@pytest.mark.parametrize(("other", "words"), [
    ({"nested": {"x": torch.zeros(3)}}, "'nested' cannot be batched"),
    ({"nested": {"x": torch.zeros(3), "deep": {"number": 1, "text": ""}}}, r"'nested.x' has the shape \(3,\)"),
    ({"scales": [torch.zeros(1, 2, 2)]}, "'scales' cannot be batched"),
    ({"box": Box([1], "b")}, "'box.corner' has the shape"),
    ({"nested": None}, "'nested' cannot be batched"),
])  # fmt: skip
def test_samples_that_differ_are_told_of_collate(other, words):
    with pytest.raises(DataError, match=f"sample '1.png': its {words}.*a method collate\\(samples\\)"):
        join_samples([sample(0), sample(1) | other])


class Boxes(BaseDataset):
    """As many boxes as its number, and a draw of each batch."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return {"A": torch.rand(3, 4, 4), "path_A": str(index), "boxes": torch.full((index, 4), float(index))}

    def collate(self, samples):
        boxes = [sample.pop("boxes") for sample in samples]
        return super().collate(samples) | {"boxes": boxes, "all": {"count": len(boxes), "draw": torch.rand(2)}}


def loader(workers=0, kind=Boxes):
    o = options(
        "--dataset_mode", "single", "--dataroot", "demo/testA", "--batch_size", "2", "--num_threads", str(workers)
    )
    return Loader(kind(o), o, shuffle=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_collate_depend_on_seed_and_place_only(workers):
    whole, other = loader(), loader(workers)
    example = other.example_batch()
    assert len(example["boxes"]) == 2 and len(example["A"]) == 2
    try:
        expected = [plain(batch) for batch in whole.epoch(1)]
        assert [plain(batch) for batch in other.epoch(1, skip=2)] == expected[1:]
    finally:
        other.close()
    assert sorted(len(boxes) for batch in expected for boxes in batch["boxes"]) == list(range(6))
    assert len({tuple(batch["all"]["draw"]) for batch in expected}) == 3


@pytest.mark.parametrize(("made", "words"), [
    (None, "returns nothing"),
    ({}, "returns nothing, but no A"),
    ({"A": torch.zeros(2, 3, 4, 4)}, "but no path_A"),
    ({"A": torch.zeros(3, 3, 4, 4), "path_A": ["a", "b"]}, r"a tensor of shape \(3, 3, 4, 4\) as A, not 2 images"),
    ({"A": torch.zeros(2, 3, 4, 4), "path_A": ["a"]}, "as path_A, not 2 file names"),
    ({"A": torch.zeros(2, 3, 4, 4), "path_A": ["a", "b"], "n": {"x": torch.zeros(2).numpy()}}, "an array as 'n.x'"),
    ({"A": torch.zeros(2, 3, 4, 4), "path_A": ["a", "b"], "x": [torch.zeros(2)] * 3}, "a list of 3 as 'x'"),
])  # fmt: skip
def test_a_collate_that_returns_no_batch_is_named(made, words):
    kind = type("Wrong", (Boxes,), {"collate": lambda self, samples: made})
    with pytest.raises(OptionError, match=f"its collate\\(samples\\) of 2 samples returns.*{words}|{words}"):
        loader(kind=kind).example_batch()


def test_an_error_in_a_collate_ends_the_epoch():
    class Broken(Boxes):
        def collate(self, samples):
            raise DataError("boxes", "x", "too many", "remove some")

    with pytest.raises(DataError, match="boxes 'x': too many"):
        list(loader(kind=Broken).epoch(1))
