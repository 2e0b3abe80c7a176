"""Label maps arrive as the ids of their files, moved exactly as the pictures that share their draws."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from data import AUGMENTATIONS
from data.labels import instance_edges, one_hot, read_labels
from data.transforms import Preprocess
from tests.support.data_folders import flags
from util.errors import DataError, OptionError
from util.seeding import fork_rng

IDS = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [0, 0, 1, 1]])


def palette(ids, path):
    image = Image.fromarray(ids.astype(np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9, 9, 9, 9])  # two indices have one colour
    image.save(path)


def grey_of_bits(bits):
    def write(ids, path):
        rows = [b"\0" + np.packbits(np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, -bits:]).tobytes()
                for row in ids]  # fmt: skip
        header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
        made = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(made))

    return write


def array(dtype):
    return lambda ids, path: np.save(path, ids.astype(dtype))


FILES = {  # name of a file: (how it is written, what its ids are multiplied with)
    "palette.png": (palette, 1),
    "palette.gif": (palette, 1),
    "grey.png": (lambda ids, path: Image.fromarray(ids.astype(np.uint8)).save(path), 85),
    "two_bits.png": (grey_of_bits(2), 1),
    "four_bits.png": (grey_of_bits(4), 5),
    "sixteen.png": (lambda ids, path: Image.fromarray(ids.astype(np.uint16)).save(path), 21_000),
    "deep.tif": (lambda ids, path: tifffile.imwrite(path, ids.astype(np.uint32)), 1_431_655_765),
    "signed.tif": (lambda ids, path: tifffile.imwrite(path, ids.astype(np.int16)), -900),
    "long.npy": (array(np.int64), 1 << 50),
    "float.npy": (array(np.float64), 7),
    "channel.npy": (lambda ids, path: np.save(path, ids[None]), 1),
}
COLOURS = np.zeros((3, 4, 3), np.uint8)
REFUSED = {  # name of a file: (how it is written, words of the error)
    "colours.png": (lambda path: Image.fromarray(COLOURS).save(path), "has 3 channels"),
    "alpha.png": (lambda path: Image.fromarray(COLOURS[:, :, :2], "LA").save(path), "has 2 channels"),
    "deep.png": (lambda path: tifffile.imwrite(path.with_suffix(".tif"), COLOURS.astype(np.uint16)), "3 channels"),
    "grey.jpg": (lambda path: Image.fromarray(IDS.astype(np.uint8)).save(path), "is a JPEG"),
    "half.npy": (lambda path: np.save(path, IDS / 2), "no integers"),
    "empty.png": (lambda path: path.write_bytes(b""), "empty file"),
}


@pytest.mark.parametrize("name", FILES)
def test_ids_are_those_of_the_file(name, tmp_path):
    write, factor = FILES[name]
    write(IDS * factor, tmp_path / name)
    found = read_labels(tmp_path / name)
    assert found.dtype == np.int64 and (found == IDS * factor).all()


def test_two_values_are_0_and_1(tmp_path):
    np.save(tmp_path / "a.npy", IDS > 1)
    Image.fromarray(IDS > 1).save(tmp_path / "a.png")
    for name in ("a.npy", "a.png"):
        assert (read_labels(tmp_path / name) == (IDS > 1)).all(), name


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_ids_is_refused_in_one_line(name, tmp_path):
    write, words = REFUSED[name]
    write(tmp_path / name)
    (path,) = tmp_path.iterdir()
    with pytest.raises(DataError, match=words) as caught:
        read_labels(path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


def preprocess(*argv, phase="train"):
    o = flags("--interpolation_A", "nearest", *argv)
    o.isTrain = phase == "train"
    return Preprocess(o, single_sides="A")


MOVES = ["horizontal_flip(p=1)", "vertical_flip(p=1)", "rotation(40)", "perspective(p=1)", "elastic_transform(60.)",
         "affine(20, translate=(0.2, 0.1), scale=(0.7, 1.4))", "crop(40)", "zoom_out(fill=128, p=1)",
         "pad(3, padding_mode=reflect)", "five_crop(40)", "choice(rotation(30) | vertical_flip(p=1))",
         "apply(p=0.5: rotation(30))", "color_jitter(0.9) rotation(30) gaussian_blur(3)",
         "order(rotation(30) | color_jitter(0.5))"]  # fmt: skip
STEPS = [[], ["--preprocess", "crop"], ["--preprocess", "scale_width"], ["--preprocess", "none"],
         ["--preprocess", "scale_shortside_and_crop"], ["--preprocess", "resize_and_patch"],
         ["--preprocess", "fixsize"], *(["--augment", move] for move in MOVES)]  # fmt: skip


def moved(steps, ids, tries=6, fill=0):
    """Yield an image of ids and its label map, moved by the same draws."""
    prepare = preprocess("--load_size", 61, "--crop_size", 37, *steps)
    picture = Image.fromarray(np.repeat(ids[:, :, None], 3, 2).astype(np.uint8))
    for draw in range(tries):
        with fork_rng(draw):
            draws = prepare.draw()
            image = prepare(picture, "a.png", draws, side="A")
            yield ((image.double() + 1) / 2 * 255).round().long()[0], prepare.labels(ids, draws, side="A", fill=fill)


@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: " ".join(steps) or "resize_and_crop")
def test_a_label_map_moves_as_its_picture(steps):
    ids = 1 + np.arange(59 * 83).reshape(59, 83) % 200  # neighbours differ
    plain = "color_jitter" not in str(steps)
    for image, labels in moved(steps, ids):
        assert labels.dtype == torch.int64 and labels.shape == image.shape
        outside = labels == 0  # the pictures' is 0 too, or what the augmentation says
        if plain:
            assert torch.equal(labels[~outside], image[~outside])
            assert set(image[outside].tolist()) <= {0, 128}
        assert set(labels.unique().tolist()) <= {0, *range(1, 201)}


def test_resizing_augmentations_keep_ids_at_their_place():
    """The nearest pixel is that at the centre: a map of halves, three times as small, still has halves."""
    ids = np.repeat(np.arange(2), 33)[None].repeat(66, 0) * 7
    prepare = preprocess("--preprocess", "native", "--augment", "resize(22)", "--no_flip")
    labels = prepare.labels(ids, prepare.draw())
    assert labels.tolist() == [[0] * 11 + [7] * 11] * 22


@pytest.mark.parametrize("first", [0, 2**40])
def test_augmentation_keeps_ids_of_any_size(first):
    ids = first + np.arange(59 * 83).reshape(59, 83) * (2**20 if first else 1)
    (_, still), (_, labels) = next(moved([], ids)), next(moved(["--augment", "rotation(40)"], ids, fill=-5))
    assert set(still.flatten().tolist()) <= set(ids.ravel().tolist())
    assert -5 in labels and set(labels.flatten().tolist()) <= {-5, *ids.ravel().tolist()}


def test_colours_do_not_touch_labels_and_a_test_does_not_augment():
    ids, colours = IDS.repeat(20, 0).repeat(20, 1), "color_jitter(0.9) invert(p=1) jpeg(5) gaussian_noise"
    pairs = zip(moved(["--augment", colours], ids), moved([], ids), strict=True)
    assert all(torch.equal(one, other) and not torch.equal(image, plain) for (image, one), (plain, other) in pairs)
    prepare = preprocess("--augment", "vertical_flip(p=1)", "--no_flip", "--preprocess", "native", phase="test")
    assert (prepare.labels(IDS, prepare.draw()).numpy() == IDS).all()


@pytest.mark.parametrize("name", ["auto_augment", "rand_augment", "trivial_augment_wide", "aug_mix"])
def test_augmentations_of_colours_and_places_are_refused(name):
    prepare = preprocess("--augment", f"color_jitter {name}")
    with pytest.raises(OptionError, match=f"{name}.*cannot be applied to label maps; name"):
        prepare.labels(IDS, prepare.draw())


@pytest.mark.parametrize(("function", "works"), [
    (lambda x: torch.roll(x, 2, -1), True), (lambda x: x.flip(-1), True), (lambda x: (x + x.flip(-1)) / 2, False),
    (lambda x: 1 - x, False)], ids=["roll", "flip", "mean", "negative"])  # fmt: skip
def test_a_plug_ins_augmentation_may_move_but_not_mix_ids(function, works, monkeypatch):
    move = type("Move", (), {"__call__": staticmethod(function)})
    monkeypatch.setitem(AUGMENTATIONS, "mine", move)
    monkeypatch.setitem(AUGMENTATIONS.origins, "mine", "mine.py")
    prepare = preprocess("--augment", "mine", "--preprocess", "native", "--no_flip")
    if works:
        assert set(prepare.labels(IDS, prepare.draw()).flatten().tolist()) == {0, 1, 2, 3}
        return
    with pytest.raises(OptionError, match=r"mine.*makes new values, so it cannot be applied to label maps"):
        prepare.labels(IDS, prepare.draw())


@pytest.mark.parametrize("image_first", [True, False])
def test_a_label_map_of_another_size_than_its_picture_is_named(image_first):
    prepare, picture, ids = preprocess("--preprocess", "crop"), Image.new("RGB", (64, 64)), np.zeros((48, 64), int)
    calls = [lambda draws: prepare(picture, "p.png", draws), lambda draws: prepare.labels(ids, draws, "l.png")]
    draws = prepare.draw()
    calls[not image_first](draws)
    with pytest.raises(DataError, match=r"before the crop, but its (picture|label map) is 64x(64|48)"):
        calls[image_first](draws)


def test_one_hot_has_one_channel_per_class():
    labels = torch.tensor([[[0, 2], [1, 255]]])
    made = one_hot(labels, 3, unknown=255)
    assert made.dtype == torch.float32 and made.shape == (1, 4, 2, 2)
    assert made.argmax(1).tolist() == [[[0, 2], [1, 3]]] and (made.sum(1) == 1).all()
    ignored = one_hot(labels[:, None], 3, ignore=255)
    assert torch.equal(ignored, made[:, :3])
    assert one_hot(labels.to("meta"), 3).shape == (1, 3, 2, 2)


@pytest.mark.parametrize(
    ("ids", "named"), [([0, 3], "'3'"), ([-1, 2], "'-1'"), ([255, 1], "'255'"), ([3, 4], "'3, 4'")]
)
def test_ids_outside_the_classes_are_named(ids, named):
    with pytest.raises(DataError, match=f"labels {named}: are not among the 3 classes 0 to 2"):
        one_hot(torch.tensor([[ids]]), 3)


def test_edges_are_where_a_neighbour_differs():
    instance = torch.tensor([[[1, 1, 1, 1], [1, 1, 7, 1], [1, 1, 1, 1], [2, 1, 1, 1]]])
    expected = [[0, 0, 1, 0], [0, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 0]]
    for ids in (instance, instance[:, None]):
        edges = instance_edges(ids)
        assert edges.dtype == torch.float32 and edges.tolist() == [[[[float(x) for x in row] for row in expected]]]


@pytest.mark.filterwarnings("ignore")
def test_a_recorded_one_hot_refuses_negative_ids():
    """ONNX's scatter counts them from the end."""
    recorded = torch.jit.trace(lambda ids: one_hot(ids, 3, ignore=-2), torch.zeros(1, 2, 2, dtype=torch.long))
    assert recorded(torch.full((1, 2, 2), -2)).sum() == 0
    with pytest.raises(RuntimeError, match="out of bounds"):
        recorded(torch.full((1, 2, 2), -1))
