"""Palettes, label maps and dark masks are noted, with a flag that keeps their values; photographs are not."""

import numpy as np
import pytest
from PIL import Image

from data.notes.label_maps import MAX_LABELS, SAMPLE_FILES
from tests.support.data_folders import make, save
from tests.support.images import picture
from tests.support.runs import SMALL
from util.errors import DataError


def grey(array):
    return Image.fromarray(np.asarray(array))


def stripes(count, kind="uint8", step=1, width=48, height=40):
    """Return (H, W) with the values 0, step, 2 * step, ..., `count` of them."""
    return (np.arange(width * height).reshape(height, width) // 7 % count * step).astype(kind)


def with_palette(array):
    image = grey(array)
    image.putpalette([n for i in range(256) for n in (7 * i % 256, 255 - i, 13 * i % 256)])
    return image


def photo(number):
    return np.asarray(picture(number, mode="L")) // 2 + np.arange(48, dtype=np.uint8)


MAPS = {
    "8 bits": ("png", lambda n: grey(stripes(20, step=12))),
    "all labels": ("png", lambda n: grey(stripes(MAX_LABELS, step=4))),
    "0 and 255": ("png", lambda n: grey(stripes(2, step=255))),
    "1 bit": ("png", lambda n: grey(stripes(2) > 0)),
    "16 bits": ("png", lambda n: grey(stripes(30, "uint16", 1000))),
    "colours": ("png", lambda n: with_palette(stripes(21)).convert("RGB")),
    "some of one colour": ("png", lambda n: with_palette(stripes(1 if n else 5) + 3).convert("RGB")),
    "colours of 8 bits": ("bmp", lambda n: with_palette(stripes(3)).convert("RGB")),
    "greys in RGB": ("png", lambda n: grey(stripes(4, step=80)).convert("RGB")),
    "ids in RGB": ("png", lambda n: grey(stripes(20)).convert("RGB")),
    "palette": ("png", lambda n: with_palette(stripes(21))),
    "palette of many": ("png", lambda n: with_palette(stripes(200))),
    "gif": ("gif", lambda n: with_palette(stripes(5))),
    "bmp": ("bmp", lambda n: with_palette(stripes(5))),
    "int32 tif": ("tif", lambda n: grey(stripes(9, "int32", 70000))),
    "floats": ("npy", lambda n: stripes(3, "float32", 2)),
    "bools": ("npy", lambda n: stripes(2) > 0),
    "int64": ("npy", lambda n: stripes(50, "int64", 10**9)),
}
OTHERS = {
    "colours": ("png", lambda n: picture(n)),
    "grey": ("png", lambda n: grey(photo(n))),
    "a sketch in RGB": ("png", lambda n: grey(stripes(40, step=6)).convert("RGB")),
    "a smooth sketch in RGB": (
        "png",
        lambda n: grey(np.where(stripes(3) > 1, 255, stripes(9, step=1) + 90)).convert("RGB"),
    ),
    "two colours": ("png", lambda n: with_palette(stripes(2)).convert("RGB")),
    "black and white in RGB": ("png", lambda n: grey(stripes(2, step=255)).convert("RGB")),
    "too many colours": ("png", lambda n: with_palette(stripes(MAX_LABELS + 1)).convert("RGB")),
    "one too many": ("png", lambda n: grey(stripes(MAX_LABELS + 1))),
    "fractions": ("npy", lambda n: stripes(3, "float32") / 2),
    "one is a photograph": ("png", lambda n: grey(stripes(2, step=255) if n else photo(n))),
    "animations": ("gif", lambda n: with_palette(stripes(200))),
    "jpegs": ("jpg", lambda n: picture(n)),
}


def write(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, image) if path.suffix == ".npy" else image.save(path)


def sides(folder, A, B, count=3):
    for side, (suffix, draw) in (("A", A), ("B", B)):
        for n in range(count):
            write(draw(n), folder / f"train{side}" / f"{n}.{suffix}")
    return folder


def notes(dataset, word):
    dataset.spec()
    return [note for note in dataset.notes if word in note]


@pytest.mark.parametrize("kind", MAPS)
def test_label_maps_get_a_note_that_names_the_flag(kind, tmp_path):
    channels = ["--input_nc", 1, "--output_nc", 1] if MAPS[kind][0] == "npy" or "tif" in kind or "16" in kind else []
    sides(tmp_path, OTHERS["colours"] if not channels else OTHERS["grey"], MAPS[kind])
    found = notes(make("unaligned", tmp_path, *channels), "look like label maps")
    assert len(found) == 1
    assert found[0].startswith("note: the images of B") and "--interpolation_B nearest" in found[0]
    found = notes(make("unaligned", tmp_path, *channels, "--direction", "BtoA"), "look like label maps")
    assert len(found) == 1 and "--interpolation_A nearest" in found[0]
    for flags in (["--interpolation_B", "nearest"], ["--interpolation_B", "bicubic"], ["--preprocess", "crop"]):
        assert not notes(make("unaligned", tmp_path, *channels, *flags), "look like label maps"), flags


@pytest.mark.parametrize("kind", OTHERS)
def test_other_images_get_no_note(kind, tmp_path):
    channels = ["--input_nc", 1, "--output_nc", 1] if OTHERS[kind][0] == "npy" else []
    dataset = make("unaligned", sides(tmp_path, OTHERS[kind], OTHERS[kind]), *channels)
    assert not notes(dataset, "--interpolation")
    assert not notes(dataset, "--range")


def test_label_maps_are_found_in_every_layout(tmp_path):
    both = np.concatenate([photo(1), stripes(4, step=80)], axis=1)
    for n in range(2):
        save(grey(both), tmp_path / "one" / "train" / f"{n}.png")
        save(grey(stripes(4, step=80)), tmp_path / "two" / "A" / "train" / f"{n}.png")
        save(picture(n), tmp_path / "two" / "B" / "train" / f"{n}.png")
        save(grey(stripes(4, step=80)), tmp_path / "classes" / "train" / f"class{n}" / "1.png")
    (tmp_path / "t.csv").write_text("a,b\ntwo/A/train/0.png,two/B/train/0.png\n")
    for mode, place, side in (("aligned", "one", "B"), ("aligned", "two", "A"), ("unaligned", "two", "A"),
                              ("aligned", "t.csv", "A"), ("labeled", "classes", "A")):  # fmt: skip
        found = notes(make(mode, tmp_path / place), "look like label maps")
        assert len(found) == 1 and f"--interpolation_{side} nearest" in found[0], (mode, place)


def test_images_that_are_not_scaled_get_no_note(tmp_path):
    maps = ("png", lambda n: grey(stripes(4, step=80, width=36, height=36)))
    sides(tmp_path, maps, maps)
    assert not notes(make("aligned", tmp_path), "--interpolation")


def test_the_sample_is_fixed_and_small(tmp_path, monkeypatch):
    """However many files there are, each side's sample is the same few, read twice at most."""
    for n in range(200):
        save(grey(stripes(4, step=20, width=4, height=4)), tmp_path / "train" / f"{n:03d}.png")
    opened = []
    dataset = make("labeled", tmp_path.parent, "--phase", tmp_path.name, phase=tmp_path.name)
    monkeypatch.setattr("data.notes.label_maps.open_binary", lambda path: opened.append(path) or open(path, "rb"))
    dataset.spec()
    first, opened[:] = [*opened], []
    dataset.spec()
    assert first == opened and len(set(opened)) == len(opened) == SAMPLE_FILES


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_one_channel_of_a_palette_is_said_to_be_luminance(direction, tmp_path, command):
    """The remedies work: three channels show the colours, grey files their values; a grey palette needs no note."""
    ramp = grey(stripes(100))
    ramp.putpalette([i for i in range(256) for _ in range(3)])
    sides(tmp_path / "d", ("png", lambda n: ramp), MAPS["palette"])
    side, flag = ("B", "output_nc") if direction == "AtoB" else ("A", "input_nc")
    found = notes(make("unaligned", tmp_path / "d", "--direction", direction, f"--{flag}", 1), "luminance")
    assert len(found) == 1 and f"images of {side} have a palette" in found[0]
    assert f"--{flag} 3 keeps the colours" in found[0] and "trainB/0.png" in found[0]
    assert not notes(make("unaligned", tmp_path / "d", "--direction", direction), "luminance")


@pytest.mark.parametrize(("kind", "flags", "said"), [
    ("uint8", [], "--input_nc 4 keeps it as a channel"), ("uint8", ["--input_nc", 4], ""), ("uint16", [], ""),
])  # fmt: skip
def test_a_fourth_channel_taken_for_transparency_is_noted(kind, flags, said, tmp_path):
    """Near infrared beside colours would whiten the images; it is kept with --input_nc 4."""
    draw = lambda n: np.full((40, 48, 4 if n or flags else 3), 90 + n, kind)  # noqa: E731, the first has no fourth channel
    sides(tmp_path / "d", ("npy", draw), ("png", lambda n: picture(n)))
    if kind == "uint16":  # refused, as their fourth channel may be anything
        with pytest.raises(DataError, match="4 channels"):
            make("unaligned", tmp_path / "d", *flags)[1]
        return
    found = notes(make("unaligned", tmp_path / "d", *flags), "transparency")
    assert len(found) == bool(said) and all("arrays of A, such as" in note and said in note for note in found)


@pytest.mark.parametrize(("name", "draw", "said"), [
    ("masks", lambda n: stripes(2), "0 to 1"),
    ("the first is empty", lambda n: stripes(2) * (n > 0), "0 to 1"),
    ("labels", lambda n: stripes(34), "0 to 33"),
    ("dark", lambda n: (photo(n) // 12).astype(np.uint8), "1 to "),
    ("bright", lambda n: stripes(2, step=255), ""),
    ("one is bright", lambda n: stripes(2, step=255 if n == 2 else 1), ""),
    ("empty", lambda n: stripes(1), ""),
])  # fmt: skip
def test_dark_masks_of_8_bits_get_a_hint(name, draw, said, tmp_path):
    flags = ["--load_size", 40, "--crop_size", 32, "--output_nc", 1]
    sides(tmp_path, OTHERS["colours"], ("png", lambda n: grey(draw(n))))
    found = notes(make("aligned", tmp_path, *flags), "--range_B auto")
    assert len(found) == bool(said) and all(f"images of B hold only {said}" in note for note in found)
    assert not notes(make("aligned", tmp_path, *flags, "--range_B", "auto"), "--range_B auto")


def test_images_of_one_value_get_a_hint(tmp_path):
    """Fully transparent images are read as white; their colours are not seen."""

    def clear(n):
        image = picture(n).convert("RGBA")
        image.putalpha(0)
        return image

    sides(tmp_path / "clear", ("png", clear), OTHERS["colours"])
    (found,) = notes(make("unaligned", tmp_path / "clear"), "one value everywhere")
    assert found == (
        "hint: the images of A have one value everywhere, 255 (3 were read); --background none shows the colours of "
        "transparent images"
    )
    assert not notes(make("unaligned", tmp_path / "clear", "--background", "none"), "one value everywhere")
    sides(tmp_path / "black", ("png", lambda n: grey(stripes(1))), OTHERS["colours"])
    (found,) = notes(make("unaligned", tmp_path / "black"), "one value everywhere")
    assert found == "hint: the images of A have one value everywhere, 0 (3 were read)"


def test_the_hint_for_masks_of_0_and_1_can_be_followed(tmp_path, command):
    """Results hold 0 and 1 again, and the page shows black and white."""
    for phase in ("train", "test"):
        for n in range(2):
            save(picture(n, 32, 32), tmp_path / "d" / f"{phase}A" / f"{n}.jpg")
            save(grey(stripes(2, width=32, height=32)), tmp_path / "d" / f"{phase}B" / f"{n}.png")
    argv = ["train", *SMALL, "--model", "pix2pix", "--netG", "resnet_4blocks", "--dataroot", tmp_path / "d",
            "--n_epochs", 1, "--n_epochs_decay", 0, "--output_nc", 1]  # fmt: skip
    ended = command(*argv, "--name", "dark")
    assert ended.code == 0, ended.err
    assert ended.out.count("hint: the images of B hold only 0 to 1") == 1
    assert "--interpolation_B nearest" in ended.out
    ended = command(*argv, "--name", "x", "--range_B", "auto", "--interpolation_B", "nearest")
    assert ended.code == 0, ended.err
    assert "hint" not in ended.out and "label maps" not in ended.out
    ended = command("test", "--name", "x")
    assert ended.code == 0, ended.err
    assert "hint" not in ended.out
    images = tmp_path / "results" / "x" / "test_latest" / "images"
    stored = np.asarray(Image.open(images / "0_real_B.png"))
    assert (stored == stripes(2, width=32, height=32)).all()
    assert (np.asarray(Image.open(images / "0_real_B_preview.png")) == 255 * stored).all()
    assert "0_real_B_preview.png" in (images.parent / "index.html").read_text()


def test_a_test_names_dark_inputs_and_no_flag_of_training(tmp_path):
    """Its run has decided how images are scaled and which channels it has."""
    maps = ("png", lambda n: with_palette(stripes(2)))
    masks = ("png", lambda n: grey(stripes(2)))
    for kind, said in ((masks, "hint: the images of A hold only 0 to 1"), (maps, "note: images of A have a palette")):
        dataset = make("aligned", sides(tmp_path, kind, masks), "--input_nc", 1, "--output_nc", 1)
        dataset.o.isTrain = False
        found = [note for note in dataset.file_notes() if said in note]
        assert len(found) == 1 and "--input_nc" not in found[0]
        assert not [note for note in dataset.file_notes() if "--interpolation" in note or "images of B" in note]
    assert "if the run was trained on all of it, --range_A auto" in make_test_hint(tmp_path, masks)


def make_test_hint(folder, masks):
    dataset = make("aligned", sides(folder, masks, masks))
    dataset.o.isTrain = False
    return next(note for note in dataset.file_notes() if note.startswith("hint"))
