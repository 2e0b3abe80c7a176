"""Each side is scaled as its flag says: label maps without new values, all other images as ever."""

import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from data.decoding.raster import Raster
from data.decoding.side_threads import map_sides
from data.transforms import Preprocess, to_tensor
from tests.support.data_folders import load, make, sample, save
from tests.support.images import picture
from tests.support.runs import SMALL
from util.errors import OptionError

LABELS = (3, 90, 200)


def labels(number, width=46, height=46):
    """Stripes of three values, as a segmentation has."""
    rows = (np.arange(height)[:, None] // 5 + np.arange(width) // 7 + number) % len(LABELS)
    return np.array(LABELS, np.uint8)[rows]


@pytest.fixture
def masks(tmp_path):
    """Photographs and their label maps, in pairs of two folders, of one file, and of numbers in 16 bits."""
    for n in range(3):
        photo, mask = picture(n, 46, 46, "L"), Image.fromarray(labels(n))
        save(photo, tmp_path / "two" / "trainA" / f"{n}.png")
        save(mask, tmp_path / "two" / "trainB" / f"{n}.png")
        both = np.concatenate([np.asarray(photo), labels(n)], axis=1)
        save(Image.fromarray(both), tmp_path / "one" / "train" / f"{n}.png")
        for side, array in (("A", np.asarray(photo)), ("B", labels(n))):
            save(Image.fromarray(array.astype(np.uint16) * 257), tmp_path / "deep" / f"train{side}" / f"{n}.png")
    return tmp_path


def values(tensor):
    return set(np.unique(((tensor.double() + 1) / 2 * 255).round().numpy()).astype(int).tolist())


@pytest.mark.parametrize("cache", ["off", "ram"])
@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
@pytest.mark.parametrize(("layout", "mode"), [("two", "aligned"), ("one", "aligned"), ("deep", "aligned"),
                                              ("two", "unaligned")])  # fmt: skip
def test_nearest_makes_no_new_values_on_its_side_only(layout, mode, direction, cache, masks):
    side, other = ("B", "A") if direction == "AtoB" else ("A", "B")
    common = [masks / layout, "--direction", direction, "--load_size", 71, "--crop_size", 64, "--input_nc", 1,
              "--output_nc", 1, "--cache", cache]  # fmt: skip
    plain, nearest = make(mode, *common), make(mode, *common, f"--interpolation_{side}", "nearest")
    for dataset in (plain, nearest):
        dataset.spec()
    for index in range(3):
        for _ in range(2):  # the second time from the cache
            old, new = sample(plain, index), sample(nearest, index)
            assert values(new[side]) == set(LABELS) < values(old[side])
            assert (new[other] == old[other]).all()


@pytest.mark.parametrize("spec", ["elastic_transform(90.)", "rotation(40, interpolation=bilinear)",
                                  "apply(p=1.: perspective(0.6, p=1.0))", "random_resized_crop(50)"])  # fmt: skip
def test_augmentations_make_no_new_values_either(spec, masks):
    """Both sides of a pair are moved alike: A shows the label map too, and differs only between its labels."""
    for n in range(3):
        Image.fromarray(labels(n)).save(masks / "two" / "trainA" / f"{n}.png")
    argv = [masks / "two", "--load_size", 71, "--crop_size", 40, "--input_nc", 1, "--output_nc", 1, "--augment", spec]
    plain, nearest = make("aligned", *argv), make("aligned", *argv, "--interpolation_B", "nearest")
    for draw in range(4):
        old, new = sample(plain, 1, draw), sample(nearest, 1, draw)
        assert values(new["B"]) <= {*LABELS, 0} and not values(old["B"]) <= {*LABELS, 0}
        assert (new["A"] == old["A"]).all()
        assert (new["A"] - new["B"]).abs().mean() < 0.25, "they are moved alike"


def test_a_file_of_both_sides_is_cached_for_each(masks):
    (masks / "same" / "trainA").mkdir(parents=True)
    Image.fromarray(labels(0)).save(masks / "same" / "trainA" / "0.png")
    (masks / "same" / "pairs.csv").write_text("a,b\ntrainA/0.png,trainA/0.png\n")
    dataset = make("unaligned", masks / "same", "--cache", "ram", "--interpolation_B", "nearest", "--load_size", 71,
                   "--crop_size", 64, "--input_nc", 1, "--output_nc", 1)  # fmt: skip
    dataset.spec()
    for _ in range(2):
        batch = next(iter(load(dataset).epoch(1)))
        assert values(batch["B"]) == set(LABELS) < values(batch["A"])


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_nearest_keeps_the_values_of_every_type(kind):
    top = 1e300 if kind == "float64" else np.finfo(kind).max if kind == "float32" else np.iinfo(kind).max
    array = np.array([[[0, 1], [top, 2]], [[3, 4], [5, top]]], kind)
    scaled = Raster(array).resize((4, 6), Image.Resampling.NEAREST).array
    assert scaled.dtype == kind and (scaled == array.repeat(3, axis=0).repeat(2, axis=1)).all()


@pytest.mark.parametrize("kind", ["uint32", "int32", "float64"])
def test_small_steps_of_large_numbers_survive_scaling(kind):
    """Near 2e9 float32 holds only multiples of 128."""
    array = np.linspace(0, 100, 32).astype(kind)[None, :, None].repeat(8, axis=0) + np.array(2_000_000_000, kind)
    scaled = Raster(array).resize((64, 8), Image.Resampling.BICUBIC).array
    assert scaled.dtype == kind
    expected = np.interp((np.arange(64) + 0.5) / 2 - 0.5, np.arange(32), array[0, :, 0].astype(float))
    assert np.abs(scaled[4, 4:-4, 0].astype(float) - expected[4:-4]).max() < 1.5


@pytest.mark.parametrize("mode", ["labeled", "colorization"])
def test_a_filter_without_images_of_its_side_is_refused(mode, tmp_path):
    save(picture(1), tmp_path / "train" / "a" / "1.png")
    with pytest.raises(OptionError, match=f"--range_B': {mode} does not preprocess images of B separately; omit it"):
        make(mode, "demo", "--range_B", "0,100").spec()
    with pytest.raises(OptionError, match=f"--interpolation_B': {mode} does not preprocess images of B separately"):
        make(mode, tmp_path, "--interpolation_B", "nearest")


def test_a_run_remembers_how_label_maps_are_scaled(masks, command):
    """test.py scales as in training; a run without the flag, or saved before there was one, scales as ever."""
    argv = [*SMALL, "--model", "pix2pix", "--dataroot", masks / "two", "--direction", "BtoA", "--input_nc", 1,
            "--output_nc", 1, "--n_epochs", 1, "--n_epochs_decay", 0, "--netG", "resnet_4blocks"]  # fmt: skip
    for side in "AB":
        (masks / "two" / f"train{side}").rename(masks / "two" / f"test{side}")
    argv += ["--phase", "test"]
    made = {}
    for name, extra in (("near", ["--interpolation_A", "nearest"]), ("old", [])):
        ended = command("train", *argv, "--name", name, *extra)
        assert ended.code == 0, ended.err
        file = masks / "checkpoints" / name / "options.json"
        stored = json.loads(file.read_text())
        assert stored["options"]["interpolation_A"] == ("nearest" if extra else "bicubic")
        if not extra:
            del stored["options"]["interpolation_A"], stored["options"]["interpolation_B"]
            file.write_text(json.dumps(stored))
        ended = command("test", "--name", name)
        assert ended.code == 0, ended.err
        shown = Image.open(masks / "results" / name / "test_latest" / "images" / "0_real_A.png")
        made[name] = set(np.unique(np.asarray(shown)).tolist())
    assert made["near"] == set(LABELS) < made["old"]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (70, 50), (257, 260)])
def test_tensors_have_the_bits_of_the_formula(mode, size):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    tensor = to_tensor(Image.fromarray(array))
    expected = (torch.from_numpy(np.atleast_3d(array)).permute(2, 0, 1).float() / 255 - 0.5) / 0.5
    assert torch.equal(tensor, expected) and tensor.is_contiguous()
    tensor += 1  # its memory is its own


@pytest.fixture
def scaling_threads(monkeypatch):
    """The names of the threads that have scaled an image; two threads may compute."""
    names, scaled, before = set(), Preprocess.scaled, torch.get_num_threads()

    def noted(*args):
        names.add(threading.current_thread().name)
        return scaled(*args)

    monkeypatch.setattr(Preprocess, "scaled", noted)
    torch.set_num_threads(2)
    yield names
    torch.set_num_threads(before)


STEPS = ["resize_and_crop", "scale_width_and_crop", "scale_shortside_and_crop", "resize_and_zoom_and_crop", "none"]


@pytest.mark.parametrize("mode", ["aligned", "unaligned"])
@pytest.mark.parametrize("steps", STEPS)
def test_sides_scaled_in_threads_are_the_same(steps, mode, tmp_path, scaling_threads):
    for n, size in enumerate(((151, 171), (151, 171), (203, 190))):
        for side in "AB":
            save(picture(n, *size), tmp_path / f"train{side}" / f"{n}.png")
    argv = [tmp_path, "--load_size", 160, "--crop_size", 144, "--preprocess", steps, "--augment", "rotation(20)"]
    dataset, samples = make(mode, *argv, "--interpolation_B", "bilinear"), {}
    for threads in (2, 1):
        torch.set_num_threads(threads)
        samples[threads] = [sample(dataset, index, draw) for index in range(3) for draw in range(2)]
        assert any(name.startswith("sides") for name in scaling_threads) is (threads == 2)
        scaling_threads.clear()
    for found, expected in zip(samples[2], samples[1], strict=True):
        assert all(torch.equal(found[side], expected[side]) for side in "AB")


def test_an_error_in_a_thread_is_raised():
    assert map_sides(str, [1, 2, 3]) == ["1", "2", "3"]
    with pytest.raises(ZeroDivisionError):
        map_sides(lambda x: 1 / x, [1, 0])
