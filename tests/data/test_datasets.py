"""Data sets equal the reference's preprocessing to the pixel, share a pair's crop, and seed each sample."""

import gc
import hashlib
import pickle
import random
import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from data.base import BaseDataset
from data.loading.loader import collate
from registry import discovery
from registry.lookup import entries
from tests.support.data_folders import channels_first, flags, load, make, pixels, refused_data, sample, save
from tests.support.images import picture
from tests.support.runs import SMALL
from util.errors import DataError

DATASETS = [e.name for e in entries("dataset")]
BICUBIC = Image.Resampling.BICUBIC


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Work in an empty folder: without one called `demo`, which would win over the generated pictures."""
    monkeypatch.chdir(tmp_path)


def noisy(seed, width, height):
    """A picture without two alike neighbourhoods, so that a crop is found at one place only."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def places(whole, part):
    """Return where (x, y) `part` lies in `whole`, and whether it is mirrored, for every place it does."""
    (_, big_h, big_w), (_, h, w) = whole.shape, part.shape
    return [
        (x, y, flip)
        for flip, look in ((False, part), (True, part[:, :, ::-1]))
        for y in range(big_h - h + 1)
        for x in range(big_w - w + 1)
        if (whole[:, y : y + h, x : x + w] == look).all()
    ]


def whole(image, size):
    return image if size is None else image.resize(size, BICUBIC)


# --- the five modes -------------------------------------------------------------------------------------------------

# width x height of the picture, flags, and the size it is scaled to (None: as it is) before the crop (None: no crop)
MODES = {
    "resize_and_crop": ((37, 23), "--preprocess resize_and_crop --load_size 20 --crop_size 16", (20, 20), 16),
    "resize_and_crop, upwards": ((13, 29), "--preprocess resize_and_crop --load_size 40 --crop_size 37", (40, 40), 37),
    "resize_and_crop, no room": ((37, 23), "--preprocess resize_and_crop --load_size 16 --crop_size 16", (16, 16), 16),
    "crop": ((37, 23), "--preprocess crop --crop_size 16", None, 16),
    "scale_width": ((40, 30), "--preprocess scale_width --load_size 20 --crop_size 8", (20, 15), None),
    "scale_width, rounded down": ((37, 23), "--preprocess scale_width --load_size 20 --crop_size 8", (20, 12), None),
    "scale_width, flat": ((40, 10), "--preprocess scale_width --load_size 20 --crop_size 8", (20, 8), None),
    "scale_width, as it is": ((20, 30), "--preprocess scale_width --load_size 20 --crop_size 8", None, None),
    "scale_width, right width but flat": (
        (20, 6), "--preprocess scale_width --load_size 20 --crop_size 8", (20, 8), None),
    "scale_width_and_crop": ((40, 30), "--preprocess scale_width_and_crop --load_size 28 --crop_size 16", (28, 21), 16),
    "scale_width_and_crop, flat": (
        (40, 10), "--preprocess scale_width_and_crop --load_size 20 --crop_size 12", (20, 12), 12),
    "none": ((37, 23), "--preprocess none", (36, 24), None),
    "none, halves to the even multiple": ((42, 46), "--preprocess none", (40, 48), None),
    "none, fitting": ((40, 24), "--preprocess none", None, None),
    "none, tiny": ((1, 3), "--preprocess none", (4, 4), None),
    "resize": ((37, 23), "--preprocess resize --load_size 20 --crop_size 16", (20, 20), None),
    "resize_and_crop, oblong": (
        (37, 23), "--preprocess resize_and_crop --load_size 30x20 --crop_size 24x16", (30, 20), (24, 16)),
    "crop, oblong": ((37, 23), "--preprocess crop --crop_size 10x20", None, (10, 20)),
    "scale_width, oblong": ((40, 10), "--preprocess scale_width --load_size 20x9 --crop_size 8x7", (20, 7), None),
    "scale_shortside, landscape": ((40, 30), "--preprocess scale_shortside --load_size 20", (27, 20), None),
    "scale_shortside, portrait": ((15, 45), "--preprocess scale_shortside --load_size 20", (20, 60), None),
    "scale_shortside_and_crop": (
        (40, 30), "--preprocess scale_shortside_and_crop --load_size 20 --crop_size 16", (27, 20), 16),
    "fixsize": ((37, 23), "--preprocess fixsize --crop_size 20x12", (20, 12), None),
    "patch": ((37, 23), "--preprocess patch --crop_size 8", None, 8),
    "resize_and_patch": ((37, 23), "--preprocess resize_and_patch --load_size 30 --crop_size 8", (30, 30), 8),
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["single", "unaligned", "aligned"])
@pytest.mark.parametrize("case", MODES)
def test_preprocessing_is_pillows_to_the_pixel(case, mode, channels, tmp_path):
    """Grey, scale, crop, mirror, 2 v / 255 - 1: for each layout, every value of every pixel of both sides."""
    size, words, scaled, crop = MODES[case]
    sides = {side: noisy(n, *size) for n, side in enumerate("AB")}
    if mode == "aligned":
        both = np.concatenate([np.asarray(sides["A"]), np.asarray(sides["B"])], axis=1)
        save(Image.fromarray(both), tmp_path / "train" / "x.png")
    elif mode == "unaligned":
        for side in "AB":
            save(sides[side], tmp_path / f"train{side}" / "x.png")
    else:
        save(sides["A"], tmp_path / "x.png")
    dataset = make(mode, tmp_path, *words.split(), "--input_nc", channels, "--output_nc", channels)
    seen = set()
    for draw in range(12):
        got = sample(dataset, draw=draw)
        for side in "A" if mode == "single" else "AB":
            image = sides[side].convert("L" if channels == 1 else "RGB")
            expected = channels_first(whole(image, scaled))
            values = pixels(got[side])
            cut = (crop, crop) if isinstance(crop, int) else crop and crop[::-1]
            assert values.shape == (channels, *(cut or expected.shape[1:]))
            found = places(expected, values)
            assert found, f"side {side} is no part of the scaled picture"
            seen |= {flip for _, _, flip in found}
    assert seen == {True, False}


@pytest.mark.parametrize("mode", ["single", "aligned"])
def test_crops_reach_every_place_and_no_flip_mirrors_none(mode, tmp_path):
    """Each of 4 x 3 places is drawn, none preferred; half are mirrored unless --no_flip."""
    image = noisy(0, 19, 18)
    if mode == "aligned":
        save(Image.fromarray(np.concatenate([np.asarray(image)] * 2, axis=1)), tmp_path / "train" / "x.png")
    else:
        save(image, tmp_path / "x.png")
    words = ("--preprocess", "crop", "--crop_size", 16)
    for no_flip in ([], ["--no_flip"]):
        dataset = make(mode, tmp_path, *words, *no_flip)
        found = [places(channels_first(image), pixels(sample(dataset, draw=n)["A"])) for n in range(600)]
        assert all(len(one) == 1 for one in found)
        spots = [(x, y) for [(x, y, _)] in found]
        counts = {spot: spots.count(spot) for spot in spots}
        assert counts.keys() == {(x, y) for x in range(4) for y in range(3)}
        assert max(abs(n - 50) for n in counts.values()) < 4 * (600 / 12 * 11 / 12) ** 0.5
        mirrored = sum(flip for [(_, _, flip)] in found)
        assert abs(mirrored - 300) < 4 * 150**0.5 if not no_flip else mirrored == 0


def test_patches_are_cells_of_a_grid_that_is_shifted_at_random(tmp_path):
    """Of 19 x 9 pixels in cells of 8: two cells, one row, shifted by up to 3 and 1."""
    save(noisy(0, 19, 9), tmp_path / "x.png")
    dataset = make("single", tmp_path, "--preprocess", "patch", "--crop_size", 8, "--no_flip")
    found = [places(channels_first(noisy(0, 19, 9)), pixels(sample(dataset, draw=n)["A"])) for n in range(400)]
    spots = [(x, y) for [(x, y, _)] in found]
    assert set(spots) == {(x, y) for x in (0, 1, 2, 3, 8, 9, 10, 11) for y in (0, 1)}
    assert abs(sum(x < 8 for x, _ in spots) - 200) < 4 * 100**0.5


@pytest.mark.parametrize(("words", "said"), [
    ("--preprocess resize_and_fixsize", "resize and fixsize contradict"), ("--preprocess crop_and_patch", "contradict"),
    ("--preprocess bend", "'bend' is not a choice"), ("--load_size 30x10 --crop_size 20", "30x10 is smaller"),
    ("--load_size 20 --crop_size 16x24", "20 is smaller than --crop_size 16x24"),
    ("--preprocess resize_and_patch --load_size 20 --crop_size 24", "is smaller"), ("--load_size 12x", "is not a size"),
    ("--crop_size 1x2x3", "is not a size"), ("--crop_size 0x9", "out of range"),
    ("--load_size 9x70000", "out of range"),
])  # fmt: skip
def test_sizes_and_steps_that_cannot_be_are_refused(words, said, command):
    ended = command("train", *words.split())
    assert ended.code == 2
    assert said in ended.last


def test_values_are_the_full_range_of_minus_one_to_one(tmp_path):
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (4, 1)))
    save(ramp, tmp_path / "x.png")
    values = sample(make("single", tmp_path, "--preprocess", "none", "--no_flip", "--input_nc", 1))["A"]
    assert values.dtype == torch.float32
    assert (values.min(), values.max()) == (-1, 1)
    assert torch.equal(values[0, 0], ((torch.arange(256).float() / 255) - 0.5) / 0.5)


# --- pairs and what they share --------------------------------------------------------------------------------------


def coded(width, height):
    """A picture whose pixels tell their own place: red is x, green is y."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8)


@settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.generate])
@given(width=st.integers(16, 60), height=st.integers(16, 60), extra=st.integers(0, 1), draw=st.integers(0, 10**6))
def test_pairs_share_crop_and_flip_for_any_size(width, height, extra, draw):
    """Both halves show the same places, also where an odd width leaves B one column more than A."""
    with tempfile.TemporaryDirectory() as folder:
        both = np.concatenate([coded(width, height), coded(width + extra, height)], axis=1)
        save(Image.fromarray(both), Path(folder) / "train" / "x.png")
        dataset = make("aligned", folder, "--preprocess", "crop", "--crop_size", 16)
        for n in range(4):
            got = sample(dataset, draw=draw + n)
            A, B = pixels(got["A"]), pixels(got["B"])
            assert A.shape == (3, 16, 16)
            assert (A == B).all(), f"A shows {A[:2, 0, 0]}, B {B[:2, 0, 0]}"


@pytest.mark.parametrize("flags", [("--preprocess", "native"), ("--preprocess", "crop", "--crop_size", 16)])
def test_the_halves_of_a_file_of_odd_width_become_one_size(flags, tmp_path):
    """The column that B has more than A is left out, so that positions agree."""
    save(Image.fromarray(np.concatenate([coded(20, 17), coded(21, 17)], axis=1)), tmp_path / "train" / "x.png")
    got = sample(make("aligned", tmp_path, "--no_flip", *flags))
    assert (pixels(got["A"]) == pixels(got["B"])).all()


def test_pairs_share_crop_and_flip_after_scaling(paired):
    """B is the negative of A there: their sum stays flat, to the two roundings of the scaling."""
    dataset = make("aligned", paired, "--load_size", 40, "--crop_size", 24)
    crops = set()
    for index in range(len(dataset)):
        for draw in range(6):
            got = sample(dataset, index, draw)
            assert (got["A"] + got["B"]).abs().max() <= 2 * 2 / 255
            crops.add(hashlib.sha256(got["A"].numpy().tobytes()).hexdigest())
    assert len(crops) == 6 * len(dataset), "and every draw shows another part"


def test_unpaired_sides_are_cropped_and_mirrored_apart(tmp_path):
    """The same picture on both sides: if they shared their draws, both crops would be equal."""
    image = noisy(0, 30, 30)
    for side in "AB":
        save(image, tmp_path / f"train{side}" / "x.png")
    dataset = make("unaligned", tmp_path, "--preprocess", "crop", "--crop_size", 16)
    both = []
    for draw in range(200):
        got = sample(dataset, draw=draw)
        [a], [b] = (places(channels_first(image), pixels(got[side])) for side in "AB")
        both.append((a, b))
    assert sum(a[:2] == b[:2] for a, b in both) < 10, "1 in 225 by chance"
    assert 60 < sum(a[2] == b[2] for a, b in both) < 140, "half by chance"


def test_a_pair_no_larger_than_the_crop_stays_whole(tmp_path):
    image = noisy(0, 20, 12)
    save(image, tmp_path / "train" / "x.png")
    got = sample(make("aligned", tmp_path, "--preprocess", "crop", "--crop_size", 16, "--no_flip"))
    assert (pixels(got["A"]) == channels_first(image)[:, :, :10]).all()
    assert (pixels(got["B"]) == channels_first(image)[:, :, 10:]).all()


# --- sides and channels ---------------------------------------------------------------------------------------------


def test_direction_exchanges_the_halves_of_a_pair(tmp_path):
    left, right = noisy(0, 8, 8), noisy(1, 8, 8)
    both = Image.fromarray(np.concatenate([np.asarray(left), np.asarray(right)], axis=1))
    save(both, tmp_path / "train" / "x.png")
    words = ("--preprocess", "none", "--no_flip")
    for direction, (first, second) in (("AtoB", (left, right)), ("BtoA", (right, left))):
        got = sample(make("aligned", tmp_path, *words, "--direction", direction))
        assert (pixels(got["A"]) == channels_first(first)).all()
        assert (pixels(got["B"]) == channels_first(second)).all()
        assert got["path_A"] == got["path_B"] == str(tmp_path / "train" / "x.png")


def test_direction_exchanges_the_folders_of_unpaired_data(unpaired):
    words = ("--preprocess", "none", "--no_flip", "--serial_batches")
    there, back = (make("unaligned", unpaired, *words, "--direction", d) for d in ("AtoB", "BtoA"))
    assert len(there) == len(back) == 5
    for index in range(5):
        a, b = sample(there, index), sample(back, index)
        assert a["path_A"] == b["path_B"] == str(unpaired / "trainA" / f"{index}.png")
        assert a["path_B"] == b["path_A"] == str(unpaired / "trainB" / f"{index % 4}.png")
        assert torch.equal(a["A"], b["B"])
        assert torch.equal(a["B"], b["A"])


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
@pytest.mark.parametrize("mode", ["aligned", "unaligned", "single"])
def test_a_has_input_nc_channels_and_b_output_nc(mode, direction):
    """A is the source and B the target, whichever folder they come from."""
    for input_nc, output_nc in ((1, 3), (3, 1), (1, 1)):
        dataset = make(mode, "demo", "--input_nc", input_nc, "--output_nc", output_nc, "--direction", direction)
        got = sample(dataset)
        assert got["A"].shape[0] == input_nc
        assert "B" not in got or got["B"].shape[0] == output_nc
        spec = dataset.spec()
        assert (spec.input_nc, spec.output_nc) == (input_nc, output_nc)
        assert (spec.height, spec.width) == tuple(got["A"].shape[1:])
        both = {input_nc, output_nc} if mode == "aligned" else set()  # a file of A|B holds both
        assert dataset.file_channels("A") == {input_nc} | both
        assert mode == "single" or dataset.file_channels("B") == {output_nc} | both


def test_grey_is_luminance_before_scaling(tmp_path):
    image = save(noisy(0, 30, 22), tmp_path / "x.png")
    got = sample(make("single", tmp_path, "--input_nc", 1, "--load_size", 32, "--no_flip"))
    assert (pixels(got["A"])[0] == np.asarray(image.convert("L").resize((32, 32), BICUBIC))).all()


# --- which files, in which order ------------------------------------------------------------------------------------


def stems(batches, side="path_A"):
    return [Path(path).stem for batch in batches for path in batch[side]]


def test_serial_batches_take_both_sides_in_order(unpaired):
    loader = load(make("unaligned", unpaired, "--serial_batches"), batch_size=2)
    for epoch in (1, 2):
        batches = list(loader.epoch(epoch))
        assert stems(batches) == ["0", "1", "2", "3", "4"]
        assert stems(batches, "path_B") == ["0", "1", "2", "3", "0"]


def test_b_is_drawn_at_random_anew_each_epoch(unpaired):
    loader = load(make("unaligned", unpaired), shuffle=True)
    drawn = [stems(loader.epoch(epoch), "path_B") for epoch in range(60)]
    together = [stem for epoch in drawn for stem in epoch]
    assert set(together) == {"0", "1", "2", "3"}
    assert all(abs(together.count(stem) - 75) < 4 * (300 * 3 / 16) ** 0.5 for stem in "0123")
    assert len({tuple(epoch) for epoch in drawn}) > 50


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_each_image_comes_once_an_epoch_in_a_new_order(unpaired, batch_size):
    loader = load(make("unaligned", unpaired), shuffle=True, batch_size=batch_size)
    orders = []
    for epoch in range(20):
        batches = list(loader.epoch(epoch))
        orders.append(tuple(stems(batches)))
        assert sorted(orders[-1]) == ["0", "1", "2", "3", "4"]
        assert len(batches) == len(loader) == -(-5 // batch_size)
    assert loader.batch_sampler.num_images() == 5
    assert len(set(orders)) > 12


def test_orders_follow_the_seed(unpaired):
    def order(seed):
        loader = load(make("unaligned", unpaired, "--seed", seed), shuffle=True)
        return [(stems(batches), stems(batches, "path_B")) for batches in [list(loader.epoch(n)) for n in range(4)]]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_drop_last_omits_the_smaller_batch_in_training_alone(unpaired):
    dataset = make("unaligned", unpaired, "--drop_last", "--batch_size", 2)
    loader = load(dataset, shuffle=True)
    counts = {}
    for epoch in range(30):
        batches = list(loader.epoch(epoch))
        assert [len(batch["A"]) for batch in batches] == [2, 2]
        for stem in stems(batches):
            counts[stem] = counts.get(stem, 0) + 1
    assert (len(loader), loader.batch_sampler.num_images()) == (2, 4)
    assert len(counts) == 5, "another one each time"
    testing = load(dataset, isTrain=False)
    assert [len(batch["A"]) for batch in testing.epoch(1)] == [2, 2, 1]


def test_max_dataset_size_takes_the_first_of_each_side(unpaired, paired):
    dataset = make("unaligned", unpaired, "--max_dataset_size", 2, "--serial_batches")
    assert stems(load(dataset).epoch(1)) == ["0", "1"]
    assert set(stems(load(make("unaligned", unpaired, "--max_dataset_size", 2)).epoch(1), "path_B")) <= {"0", "1"}
    assert len(make("unaligned", unpaired, "--max_dataset_size", 100)) == 5
    assert len(make("aligned", paired, "--max_dataset_size", 3)) == 3
    assert len(make("single", unpaired / "trainA", "--max_dataset_size", 3)) == 3
    assert len(make("aligned", "demo", "--max_dataset_size", 3)) == 3


def test_folders_are_read_as_the_phase_says_and_sub_folders_too(unpaired, tmp_path):
    assert len(make("unaligned", unpaired, phase="test")) == 3
    shutil.move(unpaired / "trainA" / "3.png", (unpaired / "trainA" / "sub").mkdir() or unpaired / "trainA" / "sub")
    (unpaired / "trainA" / "notes.txt").write_text("not a picture")
    names = [str(Path(path).relative_to(unpaired)) for path in make("unaligned", unpaired).paths_A]
    assert names == [f"trainA/{name}.png" for name in ("0", "1", "2", "4", "sub/3")]
    assert len(make("single", unpaired)) == 14, "single reads all of its folder, whatever the phase"


# --- a pure function of (seed, epoch, index) ------------------------------------------------------------------------


def digest(batches):
    """Return what batches hold, to the bit, one entry a sample."""
    found = []
    for batch in batches:
        for n in range(len(batch["A"])):
            values = {k: v[n].numpy().tobytes() if torch.is_tensor(v) else v[n] for k, v in sorted(batch.items())}
            found.append(hashlib.sha256(repr(values).encode()).hexdigest())
    return found


def test_samples_are_equal_with_workers_and_after_skipping(unpaired):
    dataset = make("unaligned", unpaired, "--batch_size", 2)
    plain = load(dataset, shuffle=True, num_threads=0)
    epochs = {epoch: digest(plain.epoch(epoch)) for epoch in (1, 2, 3)}
    assert len({tuple(epoch) for epoch in epochs.values()}) == 3
    workers = load(dataset, shuffle=True, num_threads=2)
    for epoch in (3, 1, 2):
        assert digest(workers.epoch(epoch)) == epochs[epoch]
    for skip in (2, 4):
        assert digest(plain.epoch(2, skip=skip)) == epochs[2][skip:]
        assert digest(workers.epoch(2, skip=skip)) == epochs[2][skip:]
    half = workers.epoch(1)
    next(half)
    half.close()  # an epoch that is left early does not show in the next one
    assert digest(workers.epoch(3)) == epochs[3]


@pytest.mark.parametrize("mode", DATASETS)
def test_every_data_set_draws_from_seed_epoch_and_index_alone(mode):
    """For any batch size, order of requests and state of the global generators."""

    def epoch(number, seed=5, batch_size=1):
        dataset = make(mode, "demo", "--max_dataset_size", 6, "--seed", seed, "--load_size", 40)
        return digest(load(dataset, shuffle=True, batch_size=batch_size).epoch(number))

    random.seed(1)
    first = epoch(1)
    random.seed(2)
    torch.manual_seed(2)
    np.random.seed(2)
    assert epoch(1, batch_size=3) == first
    assert epoch(2) != first
    assert sorted(epoch(2)) != sorted(first), "other crops, not only another order"
    assert epoch(1, seed=6) != first


def generators():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


@pytest.mark.parametrize("threads", [0, 2])
def test_loading_leaves_the_global_generators_alone(unpaired, threads):
    dataset = make("unaligned", unpaired)
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    before = generators()
    dataset.spec()
    loader = load(dataset, shuffle=True, num_threads=threads)
    for epoch in (1, 2):
        for _ in loader.epoch(epoch):
            assert generators() == before
    assert generators() == before


class Drawing(BaseDataset):
    """Draws from every generator a data set may use."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        values = [random.random(), np.random.rand(), torch.rand(()).item()]
        return {"A": torch.tensor(values).view(3, 1, 1), "path_A": str(index)}


def test_random_numpy_and_torch_are_seeded_for_a_sample():
    dataset = Drawing(flags())
    one, two = ([batch["A"] for batch in load(dataset).epoch(1)] for _ in range(2))
    other = [batch["A"] for batch in load(dataset).epoch(2)]
    for n in range(3):
        assert torch.equal(one[n], two[n])
        assert bool((one[n] != other[n]).all())
    assert bool((one[0] != one[1]).all())


# --- into other processes -------------------------------------------------------------------------------------------


def travelled(thing):
    return pickle.loads(pickle.dumps(thing))  # noqa: S301 - our own


@pytest.mark.parametrize("mode", DATASETS)
def test_data_sets_and_the_loaders_pieces_travel_as_pickles(mode):
    dataset = make(mode, "demo", "--max_dataset_size", 3)
    loader = load(dataset, shuffle=True)
    again = travelled(dataset)
    assert len(again) == len(dataset)
    assert torch.equal(sample(again, 1, 7)["A"], sample(dataset, 1, 7)["A"])
    inner = loader.loader
    assert vars(travelled(dataset.o)) == vars(dataset.o)
    assert torch.equal(travelled(inner.dataset)[(2, 1)]["A"], inner.dataset[(2, 1)]["A"])
    assert list(travelled(inner.batch_sampler)) == list(inner.batch_sampler)
    assert isinstance(travelled(inner.collate_fn), type(inner.collate_fn))
    assert travelled(inner.worker_init_fn) is inner.worker_init_fn


PLUGIN = '''"""A data set of its own, from outside."""

import torch

from data.base import BaseDataset


class Numbers(BaseDataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return {"A": torch.full((3, 4, 4), float(index)) + torch.rand(()), "path_A": str(index)}
'''


def test_spawned_workers_give_the_same_batches_also_of_a_plugin(tmp_path):
    """Workers that inherit nothing import the plug-in again, from the path that is pickled with the data set."""
    (tmp_path / "numbers_from_outside.py").write_text(PLUGIN)
    discovery.add_paths([tmp_path / "numbers_from_outside.py"])
    dataset = make("numbers_from_outside", "unused", "--batch_size", 2)
    expected = digest(load(dataset, shuffle=True).epoch(1))
    loader = load(dataset, shuffle=True, num_threads=2)
    loader.loader.multiprocessing_context = "spawn"
    assert digest(loader.epoch(1)) == expected
    assert len(expected) == 6


# --- what cannot be loaded ------------------------------------------------------------------------------------------


def error_of(batches):
    """Return the error that batches end with; pytest.raises would keep it, and with it the loader, in a cycle."""
    try:
        list(batches)
    except DataError as problem:
        return str(problem)
    raise AssertionError("there was no error")


@pytest.mark.parametrize("threads", [0, 2])
def test_pictures_of_different_sizes_in_a_batch_name_the_option(tmp_path, threads):
    for n, size in enumerate([(16, 16), (16, 16), (16, 24), (16, 16)]):
        save(picture(n, *size), tmp_path / f"{n}.png")
    loader = load(make("single", tmp_path, "--preprocess", "none"), batch_size=2, num_threads=threads)
    batches = loader.epoch(1)
    assert next(batches)["A"].shape == (2, 3, 16, 16)
    text = error_of(batches)
    assert text.startswith(f"image '{tmp_path / '3.png'}': cannot be batched: images of 16x24 and 16x16; ")
    assert "--batch_size 1" in text
    assert "--preprocess" in text


@pytest.mark.parametrize("threads", [0, 2])
def test_a_broken_image_is_named_in_one_line_from_any_process(unpaired, threads):
    (unpaired / "trainA" / "2.png").write_bytes(b"")
    loader = load(make("unaligned", unpaired, "--serial_batches"), num_threads=threads)
    batches = loader.epoch(1)
    assert [Path(next(batches)["path_A"][0]).stem for _ in range(2)] == ["0", "1"]
    broken = unpaired / "trainA" / "2.png"
    reason = "not an image (empty file); delete or replace it, or use --on_bad_image skip"
    assert error_of(batches) == f"image '{broken}': {reason}"


def test_an_error_leaves_no_cycle_that_holds_the_workers(unpaired):
    """Once the error is dealt with the loader goes, and ends its workers.

    In a reference cycle with the error, its queues would be closed before the workers get the order to end: the main
    process would wait 5 seconds for each, then kill them.
    """
    (unpaired / "trainA" / "2.png").write_bytes(b"")
    loader = load(make("unaligned", unpaired, "--serial_batches"), num_threads=2)
    alive = weakref.ref(loader)
    gc.disable()
    try:
        assert "2.png" in error_of(loader.epoch(1))
        del loader
        assert alive() is None
    finally:
        gc.enable()


def test_collate_passes_the_first_error_on():
    problem = DataError("image", "x.png", "why", "remedy")
    good = {"A": torch.zeros(3, 2, 2), "path_A": "a"}
    assert collate([good, problem, DataError("image", "y", "z", "w")]) is problem
    assert collate([good, good])["A"].shape == (2, 3, 2, 2)


def test_a_missing_folder_is_named_with_what_is_there_instead(unpaired, tmp_path):
    text = refused_data("unaligned", tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in text
    assert "--dataroot" in text
    assert "there is no such folder" in text
    text = refused_data("colorization", unpaired)
    assert text.startswith(f"folder '{unpaired / 'train'}': there is no such folder ")
    assert all(repr(name) in text for name in ("trainA", "trainB", "testA", "testB"))
    assert "--dataset_mode" in text
    text = refused_data("unaligned", unpaired, phase="val")
    assert str(unpaired / "valA") in text
    assert "--phase" in text
    (tmp_path / "file").write_text("x")
    assert "is a file, not a folder" in refused_data("single", tmp_path / "file")


def test_an_empty_folder_and_one_without_pictures_are_named(unpaired):
    shutil.rmtree(unpaired / "trainB")
    (unpaired / "trainB").mkdir()
    text = refused_data("unaligned", unpaired)
    assert text.startswith(f"folder '{unpaired / 'trainB'}': holds no files; ")
    for name in ("a.txt", "b.pdf", ".hidden.png"):
        (unpaired / "trainB" / name).write_text("x")
    text = refused_data("unaligned", unpaired)
    assert text.startswith(f"folder '{unpaired / 'trainB'}': holds no images, but 3 other files such as ")


@pytest.mark.parametrize("mode", ["single", "unaligned", "aligned"])
def test_a_crop_larger_than_the_picture_names_file_and_option(mode, tmp_path):
    folder = {"single": "", "unaligned": "trainA", "aligned": "train"}[mode]
    save(picture(0, 60, 20), tmp_path / folder / "x.png")
    if mode == "unaligned":
        save(picture(0, 60, 20), tmp_path / "trainB" / "x.png")
    text = refused_data(mode, tmp_path, "--preprocess", "crop", "--crop_size", 24)
    size = "30x20" if mode == "aligned" else "60x20"
    assert text.startswith(f"image '{tmp_path / folder / 'x.png'}': is {size} ")
    assert "--crop_size 24" in text


def test_channels_other_than_1_or_3_are_refused_with_the_flags(unpaired):
    text = refused_data("unaligned", unpaired, "--input_nc", 4)
    assert "--input_nc" in text
    assert "has 3 channels and cannot be converted to 4" in text


WRONG = {
    "missing": ("--dataroot", "nowhere"),
    "empty": ("--dataroot", "empty"),
    "broken": ("--dataroot", "broken"),
    "too small": ("--dataroot", "small", "--preprocess", "crop", "--crop_size", 64, "--load_size", 64),
    "sizes": ("--dataroot", "sizes", "--preprocess", "none", "--batch_size", 2, "--serial_batches"),
    "channels": ("--dataroot", "small", "--input_nc", 2, "--output_nc", 2),
}


@pytest.mark.parametrize("case", WRONG)
def test_train_exits_with_3_and_one_line_for_unusable_data(case, command, tmp_path):
    for side in "AB":
        (tmp_path / "empty" / f"train{side}").mkdir(parents=True)
        save(picture(0), tmp_path / "broken" / f"train{side}" / "1.png")
        for n, width in enumerate((32, 48)):
            save(picture(n, width, 32), tmp_path / "sizes" / f"train{side}" / f"{n}.png")
        save(picture(0, 48, 40), tmp_path / "small" / f"train{side}" / "1.png")
    (tmp_path / "broken" / "trainA" / "1.png").write_bytes(b"<html>404</html>")
    ended = command("train", *SMALL, "--netG", "resnet_4blocks", "--netD", "pixel", *WRONG[case], "--no_html")
    assert ended.code == 3, ended.err
    assert ended.last.startswith("error: ")
    assert len(ended.err.strip().splitlines()) == 1
    assert "; " in ended.last, "it ends with a remedy"


# --- the generated data set -----------------------------------------------------------------------------------------


def shown(mode, phase, side, index):
    words = ("--preprocess", "none", "--no_flip", "--serial_batches")
    return pixels(sample(make(mode, "demo", *words, phase=phase), index)[side])


def test_demo_pictures_are_the_same_every_time():
    random.seed(1)
    first = [shown("unaligned", "train", side, 3) for side in "AB"]
    random.seed(2)
    np.random.seed(2)
    torch.manual_seed(2)
    assert all((a == b).all() for a, b in zip(first, [shown("unaligned", "train", side, 3) for side in "AB"]))
    assert first[0].shape == first[1].shape == (3, 128, 128)
    assert len({shown("unaligned", "train", "A", n).tobytes() for n in range(64)}) == 64, "and all different"


def test_demo_has_every_layout_and_no_files():
    for phase, count in (("train", 64), ("val", 16), ("test", 16)):
        assert len(make("unaligned", "demo", phase=phase)) == count
        assert len(make("aligned", "demo", phase=phase)) == count
    assert len(make("single", "demo")) == 16
    assert len(make("single", "demo/testB")) == 16
    assert list(Path.cwd().iterdir()) == []
    assert "demo/trainC" in refused_data("single", "demo/trainC")


def test_paired_demo_test_pictures_are_the_unpaired_ones():
    for index in (0, 7, 15):
        for side in "AB":
            assert (shown("aligned", "test", side, index) == shown("unaligned", "test", side, index)).all()


def test_demo_sides_share_scenes_in_test_and_none_in_training():
    """A ball is darker where its light does not reach, in any colour: luminance is alike in one scene."""

    def alike(phase, a, b):
        grey = [shown("unaligned", phase, side, n).mean(0).flatten() for side, n in (("A", a), ("B", b))]
        return np.corrcoef(*grey)[0, 1]

    same = [alike("test", n, n) for n in range(4)]
    apart = [alike("test", n, n + 1) for n in range(4)]
    assert min(same) > max(apart)
    training = [alike("train", a, b) for a in range(4) for b in range(4)]
    assert max(training) < min(same)


def test_a_real_folder_named_demo_wins(tmp_path):
    for side in "AB":
        save(noisy(0, 8, 8), tmp_path / "demo" / f"train{side}" / "x.png")
    dataset = make("unaligned", "demo", "--preprocess", "none", "--no_flip")
    assert len(dataset) == 1
    assert (pixels(sample(dataset)["A"]) == channels_first(noisy(0, 8, 8))).all()
    assert "demo/testA" in refused_data("unaligned", "demo", phase="test")
