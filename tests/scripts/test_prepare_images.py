"""scripts/edges, resize and check_data draw edges, scale images and list all problems of a data set."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.prepare import lossless
from data.prepare.survey import guess_mode
from scripts import edges
from tests.support.images import picture
from tests.support.packages import needs


def save(folder, *names, start=0, **kind):
    for number, name in enumerate(names):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(start + number, **kind).save(path)


# edges

FLAGS = {"sigma": 1.0, "low": 0.03, "high": 0.06, "min_length": 5}


def shapes():
    """A grey disc and a dark square on white, and a faint bar: (H, W, 3)."""
    y, x = np.mgrid[:80, :100]
    photo = np.full((80, 100), 255, np.uint8)
    photo[(y - 30) ** 2 + (x - 30) ** 2 < 400] = 120
    photo[45:70, 60:90] = 20
    photo[5:10, 60:95] = 250
    return np.repeat(photo[..., None], 3, axis=2)


def count_lines(mask):
    from skimage.measure import label  # optional

    return label(mask, connectivity=2).max()


@needs("skimage")
def test_edges_lie_on_the_outlines_one_pixel_wide():
    mask = edges.detect_edges(shapes(), **FLAGS)
    y, x = np.nonzero(mask)
    to_disc = np.abs(np.hypot(y - 30, x - 30) - 20)
    to_square = np.maximum(np.abs(y - 57) - 12.5, np.abs(x - 74.5) - 15)
    assert (np.minimum(to_disc, np.abs(to_square)) < 2.5).all()
    assert count_lines(mask) == 2, "two closed outlines, nothing of the faint bar"
    for outline, length in ((to_disc < 2.5, 2 * np.pi * 20), (np.abs(to_square) < 2.5, 2 * (25 + 30))):
        assert 0.7 * length < np.count_nonzero(outline) < 1.3 * length
    thick = mask[:-1, :-1] & mask[1:, :-1] & mask[:-1, 1:] & mask[1:, 1:]
    assert np.count_nonzero(thick) <= 4


@needs("skimage")
def test_each_parameter_does_what_it_says():
    def drawn(**other):
        return edges.detect_edges(shapes(), **(FLAGS | other))

    assert count_lines(drawn(low=0.001, high=0.005)) == 3, "now the faint bar too"
    assert count_lines(drawn(high=0.25)) == 1, "only the square is that steep"
    assert not drawn(min_length=500).any() and not drawn(low=1, high=1).any()
    weak_then_strong = np.full((40, 60, 3), 255, np.uint8)
    weak_then_strong[20:] = np.linspace(235, 0, 60)[:, None]
    reached = edges.detect_edges(weak_then_strong, 1.0, 0.02, 0.2, 5)
    assert reached[17:23, 2:20].any(), "a faint line that reaches a strong one stays"
    assert not edges.detect_edges(weak_then_strong, 1.0, 0.15, 0.2, 5)[:, 2:20].any()
    rng = np.random.default_rng(0)
    noisy = np.clip(shapes() + rng.normal(0, 25, (80, 100, 1)), 0, 255).astype(np.uint8)
    few, many = (np.count_nonzero(edges.detect_edges(noisy, **(FLAGS | {"sigma": sigma}))) for sigma in (3, 0.5))
    assert few < many / 2
    width = [np.count_nonzero(edges.draw_edges(drawn(), width) == 0) for width in (1, 3)]
    assert 2 < width[1] / width[0] < 4


@needs("skimage")
def test_edges_of_colour_alone_are_drawn_once():
    """Red meets a green of the same brightness: a line one pixel wide, because each channel has an edge there."""
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[:, :30], photo[:, 30:] = (200, 0, 60), (0, 102, 60)
    mask = edges.detect_edges(photo, **FLAGS)[2:-2]
    assert (mask.sum(axis=1) == 1).all() and set(np.nonzero(mask)[1]) <= {29, 30}


@needs("skimage")
def test_pairs_of_drawing_and_photograph(script, tmp_path):
    save("in", "train/a.png", "test/b.jpg", "c.bmp")
    ended = script("edges", "--input", "in", "--output", "out", "--high", 0.03, "--low", 0.01)
    assert ended.code == 0 and ended.out.splitlines()[-1] == "3 written to out", ended.err
    both = np.asarray(Image.open("out/train/a.png"))
    assert both.shape == (40, 96, 3) and np.array_equal(both[:, 48:], np.asarray(Image.open("in/train/a.png")))
    assert set(np.unique(both[:, :48])) == {0, 255} and 0 < np.mean(both[:, :48] == 0) < 0.5
    assert Path("out/test/b.png").is_file() and Path("out/c.png").is_file()
    ended = script(
        "edges",
        "--input",
        "in",
        "--output",
        "thick",
        "--only_edges",
        "--line_width",
        3,
        "--sigma",
        1,
        "--high",
        0.03,
        "--low",
        0.01,
        "--min_length",
        5,
        "--format",
        "jpg",
    )
    assert ended.code == 0, ended.err
    with Image.open("thick/train/a.jpg") as alone:
        assert alone.mode == "L" and alone.size == (48, 40) and np.asarray(alone).min() < 30


@needs("skimage")
def test_deep_photographs_keep_their_bits(script, tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (20, 24, 3), dtype=np.uint16)
    Path("in").mkdir()
    lossless.write_image(lossless.LosslessImage(values, "PNG"), Path("in/a.png"), "PNG")
    assert script("edges", "--input", "in", "--output", "out").code == 0
    both = lossless.read_image("out/a.png").values
    assert np.array_equal(both[:, 24:], values) and set(np.unique(both[:, :24])) <= {0, 65535}


@needs("skimage")
def test_dark_images_and_further_pages_are_noted(script, tmp_path):
    """Those of 12 bits in 16, and masks of 0 and 1, have no visible edge; of a video, one frame is drawn."""
    save("in", "a.png", "b.png", "c.png")
    mask = np.asarray(Image.open("in/b.png").convert("L")) >> 7
    Image.fromarray(mask).save("in/b.png")
    deep = np.asarray(Image.open("in/c.png")).astype(np.uint16) << 4
    lossless.write_image(lossless.LosslessImage(deep, "PNG"), Path("in/c.png"), "PNG")
    frames = [picture(i, mode="L") for i in range(70, 74)]
    frames[0].save("in/d.gif", save_all=True, append_images=frames[1:])
    ended = script("edges", "--input", "in", "--output", "out", "--high", 0.03, "--low", 0.01)
    assert ended.code == 0, ended.err
    notes = [line for line in ended.out.splitlines() if line.startswith("note: ")]
    assert notes[0] == "note: 1 image with several frames or pages, such as 'in/d.gif': only the first is used"
    assert notes[1].startswith(
        "note: 2 drawings are without a line, such as that of 'in/b.png': no edge is as steep as"
    )
    assert len(notes) == 2


@pytest.mark.parametrize("flags", [("--sigma", 0), ("--low", 0.5, "--high", 0.1), ("--high", 2), ("--low", -1)])
def test_edges_out_of_range(script, tmp_path, flags):
    ended = script("edges", "--input", "in", "--output", "out", *flags)
    assert ended.code == 2 and "are out of range; give 0 < sigma <= 100" in ended.last


def test_edges_without_scikit_image_are_one_line(script, monkeypatch):
    monkeypatch.setattr(edges, "canny", None)
    ended = script("edges", "--input", "in", "--output", "out")
    assert ended.code == 5
    assert ended.last == "error: package 'scikit-image': is not installed in this Python; run make extras"


def test_it_says_that_it_is_not_hed(script):
    assert "The detector is Canny's (1986), not HED" in " ".join(script("edges", "--help").out.split())


# resize


@pytest.mark.parametrize(("flags", "sizes"), [
    (("--size", 16), [(16, 16), (16, 16)]), (("--size", "30x10"), [(30, 10), (30, 10)]),
    (("--short_side", 20), [(24, 20), (20, 60)]), (("--long_side", 24), [(24, 20), (8, 24)]),
    (("--short_side", 20, "--only_shrink"), [(24, 20), (10, 30)]),
    (("--long_side", 1), [(1, 1), (1, 1)])])  # fmt: skip
def test_sizes(script, tmp_path, flags, sizes):
    save("in", "a/x.png")
    save("in", "y.jpg", width=10, height=30)
    ended = script("resize", "--input", "in", "--output", "out", *flags)
    assert ended.code == 0 and ended.out.splitlines()[-1] == "2 written to out", ended.err
    found = [Image.open("out/a/x.png"), Image.open("out/y.jpg")]
    assert [image.size for image in found] == sizes and [image.format for image in found] == ["PNG", "JPEG"]


def test_an_image_that_its_format_cannot_hold_is_named(script, tmp_path):
    Path("in").mkdir()
    picture(1).convert("P").save("in/x.gif")
    ended = script("resize", "--input", "in", "--output", "out", "--size", 16)
    assert ended.code == 3
    assert ended.last.startswith("error: image 'out/x.gif': 3 channels of uint8 cannot be stored in a GIF file"), (
        ended.last
    )
    assert script("resize", "--input", "in", "--output", "out", "--size", 16, "--format", "png").code == 0


@pytest.mark.parametrize("name", lossless.RESAMPLE_FILTERS)
def test_every_filter_is_pillows(script, tmp_path, name):
    save("in", "x.png")
    assert script("resize", "--input", "in", "--output", "out", "--size", "13x11", "--resample", name).code == 0
    wanted = Image.open("in/x.png").resize((13, 11), lossless.RESAMPLE_FILTERS[name])
    assert np.array_equal(np.asarray(Image.open("out/x.png")), np.asarray(wanted))


def test_scaling_label_maps_smoothly_is_told(script, tmp_path):
    Path("maps").mkdir()
    for n in range(3):
        ids = np.arange(48 * 40, dtype=np.uint8).reshape(40, 48) // 7 % 4 * 3
        Image.fromarray(ids).save(f"maps/{n}.png")
        save("photos", f"{n}.png")
    said = "note: these images look like label maps (one channel, 4 values at most), and scaling mixes"
    ended = script("resize", "--input", "maps", "--output", "small", "--size", 16)
    assert said in ended.out and "--resample nearest keeps them" in ended.out
    for flags in (["maps", "--output", "kept", "--resample", "nearest"], ["photos", "--output", "other"]):
        assert "label maps" not in script("resize", "--input", *flags, "--size", 16).out
    join = ["combine_A_and_B", "--fold_A", "photos", "--fold_B", "small", "--fold_AB"]
    assert "label maps" not in script(*[*join[:3], "small", "--fold_B", "photos", "--fold_AB"], "one", "--resize").out
    assert "--resize nearest keeps them" in script(*join, "two", "--resize").out
    assert "label maps" not in script(*join, "three", "--resize", "nearest").out


def test_label_maps_keep_their_numbers_palettes_and_bits(script, tmp_path):
    Path("in").mkdir()
    source = picture(1).quantize(5)
    source.save("in/p.png")
    deep = np.random.default_rng(0).integers(0, 65536, (40, 48), dtype=np.uint16)
    Image.fromarray(deep).save("in/d.tif")
    assert script("resize", "--input", "in", "--output", "out", "--size", 16, "--resample", "nearest").code == 0
    with Image.open("out/p.png") as small:
        assert small.mode == "P" and set(np.unique(small)) <= set(range(5))
        assert small.getpalette()[:15] == source.getpalette()[:15]
    assert set(lossless.read_image("out/d.tif").values.ravel()) <= set(deep.ravel())
    assert script("resize", "--input", "in", "--output", "soft", "--size", 16).code == 0
    assert lossless.read_image("soft/d.tif").values.dtype == np.uint16 and lossless.read_image(
        "soft/p.png"
    ).values.shape == (
        16,
        16,
        3,
    )


@pytest.mark.parametrize(("kind", "name"), [("keep", "x.jpg"), ("png", "x.png"), ("tif", "x.tif"), ("npy", "x.npy")])
def test_formats_follow_what_a_file_is(script, tmp_path, kind, name):
    """A PNG called .jpg stays a PNG called .jpg: its alpha would not go into a JPEG."""
    Path("in").mkdir()
    picture(1, mode="RGBA").save("in/x.jpg", format="PNG")
    ended = script("resize", "--input", "in", "--output", "out", "--size", 16, "--format", kind)
    assert ended.code == 0, ended.err
    made = lossless.read_image(f"out/{name}")
    assert made.values.shape == (16, 16, 4) and made.format == {"keep": "PNG", "tif": "TIFF"}.get(kind, kind.upper())


@pytest.mark.parametrize(("flags", "said"), [
    ((), "needs --size WxH or --short_side N or --long_side N"),
    (("--size", "8", "--long_side", "9"), "; omit one of them"), (("--size", "0"), "is not a size; give pixels: 256"),
    (("--size", "8x"), "is not a size; give pixels: 256"), (("--size", "70000"), "is not a size"),
    (("--short_side", "x"), "'x' is not a whole number above 0"),
    (("--size", "8", "--resample", "cubic"), "'cubic' is not a choice; "),
    (("--size", "8", "--output", "in"), "is the input folder")])  # fmt: skip
def test_wrong_sizes(script, tmp_path, flags, said):
    save("in", "x.png")
    ended = script("resize", "--input", "in", "--output", "out", *flags)
    assert ended.code == 2 and said in ended.last and ended.err.count("\n") == 1


def test_what_a_format_cannot_hold_is_refused(script, tmp_path):
    save("in", "x.png", mode="RGBA")
    ended = script("resize", "--input", "in", "--output", "out", "--size", 8, "--format", "jpg")
    assert ended.code == 3
    assert "4 channels of uint8 cannot be stored in a JPEG file; choose another --format" in ended.last


# check_data


def checked(script, *flags):
    """How check_data ended, and its JSON file."""
    ended = script("check_data", "--json", "seen.json", *flags)
    return ended, json.loads(Path("seen.json").read_text()) if Path("seen.json").is_file() else {}


def kinds(seen):
    return sorted(problem["kind"] for problem in seen["problems"])


def test_sound_data(script, unpaired, paired, tmp_path):
    ended, seen = checked(script, "--dataroot", "unpaired")
    assert ended.code == 0 and not ended.err
    assert ended.out.splitlines() == [
        "unpaired as unaligned: 5 samples in train, 3 samples in test",
        "folder  files  sizes      kinds        numbers",
        "trainA  5      48x40 (5)  PNG RGB (5)  0 to 255",
        "trainB  4      48x40 (4)  PNG RGB (4)  0 to 255",
        "testA   3      48x40 (3)  PNG RGB (3)  0 to 255",
        "testB   2      48x40 (2)  PNG RGB (2)  0 to 255",
        "train: unpaired: trainA + trainB, 5 + 4 images",
        "train: note: --load_size 286 enlarges images of 48x40 to 286x286, 6.53 times as wide and high",
        "test: unpaired: testA + testB, 3 + 2 images",
        "test: note: --load_size 286 enlarges images of 48x40 to 286x286, 6.53 times as wide and high",
        "to train: use --model cycle_gan or --model cut (python train.py --model cycle_gan --dataroot unpaired)",
        "nothing here would stop training",
    ]
    assert seen["samples"] == {"train": 5, "test": 3} and not seen["problems"]
    assert seen["folders"]["trainA"] == {
        "files": 5,
        "sizes": {"48x40": 5},
        "kinds": {"PNG RGB": 5},
        "least": 0,
        "greatest": 255,
    }
    ended, seen = checked(script, "--dataroot", "paired", "--phases", "test")
    assert ended.code == 0 and seen["dataset_mode"] == "aligned" and seen["samples"] == {"test": 3}


def test_all_that_is_wrong_is_told_at_once(script, unpaired, tmp_path):
    Path("unpaired/trainA/0.png").write_bytes(b"<html>")
    Path("unpaired/trainB/1.png").write_bytes(b"")
    Path("unpaired/testA/2.png").write_bytes(Path("unpaired/testA/2.png").read_bytes()[:500])
    shutil.copy("unpaired/trainA/4.png", "unpaired/testA/leak.png")
    shutil.copy("unpaired/trainA/3.png", "unpaired/trainA/again.png")
    Image.open("unpaired/trainA/1.png").save("unpaired/trainA/1.bmp")
    save("unpaired/trainA", "Two.png", "two.png", start=900)
    moving = [picture(i, mode="L") for i in (70, 71)]
    moving[0].save("unpaired/testB/x.gif", save_all=True, append_images=moving[1:])
    ended, seen = checked(script, "--dataroot", "unpaired")
    assert ended.code == 3
    assert kinds(seen) == ["case", "equal", "file", "file", "file", "frames", "leak", "stems"]
    said = {problem["kind"]: problem["said"] for problem in seen["problems"]}
    assert "unpaired/trainA/0.png': not an image (a web page)" in ended.out
    assert "unpaired/trainB/1.png': not an image (empty file)" in ended.out
    assert "trainA/4.png = testA/leak.png" in said["leak"] and "in several phases" in said["leak"]
    assert "2 images are twice or more in one phase: trainA/1.bmp = trainA/1.png, trainA/3.png" in said["equal"]
    assert "Two.png, two.png" in said["case"] and "1.bmp, 1.png" in said["stems"]
    assert "testB: 1 hold several frames" in said["frames"]
    assert ended.last == (
        "error: folder 'unpaired': 3 problems would stop training: trainA/0.png, trainB/1.png, "
        "testA/2.png; see the lines above"
    )
    assert seen["folders"]["trainA"]["files"] == 9
    assert [problem["stops"] for problem in seen["problems"]] == [True] * 3 + [False] * 5


def test_what_only_samples_show_is_told_as_training_would(script, unpaired, tmp_path):
    save("unpaired/trainB", "small.png", "tiny.png", width=20, height=20, start=50)
    ended, _ = checked(script, "--dataroot", "unpaired")
    assert ended.code == 0, "pictures are scaled before they are cropped"
    flags = ("--dataroot", "unpaired", "--preprocess", "crop", "--crop_size", "32")
    ended, seen = checked(script, *flags)
    assert ended.code == 3 and kinds(seen) == ["sample"]
    assert (
        "stops training: train: unpaired/trainB/small.png, unpaired/trainB/tiny.png: is 20x20 before the crop"
        in ended.out
    )


def test_layouts_that_are_wrong(script, unpaired, tmp_path):
    shutil.rmtree("unpaired/testB")
    ended, seen = checked(script, "--dataroot", "unpaired")
    assert ended.code == 3 and kinds(seen) == ["layout"] and seen["samples"] == {"train": 5}
    assert "stops training: test: folder 'unpaired/testB': there is no such folder" in ended.out
    assert seen["folders"]["testA"]["files"] == 3, "what is there is looked at all the same"
    ended, _ = checked(script, "--dataroot", "nowhere")
    assert ended.code == 3 and "there is no such folder" in ended.out


def test_hint_of_pairs_in_unpaired_folders(script, unpaired, tmp_path):
    save("unpaired", "testB/2.png", start=77)
    ended, seen = checked(script, "--dataroot", "unpaired")
    assert ended.code == 0 and not seen["problems"]
    hint = "test: hint: every A has a B of the same name; --model pix2pix or --dataset_mode aligned would use the pairs"
    assert hint in seen["notes"] and hint in ended.out.splitlines()


@pytest.mark.parametrize(("names", "mode"), [
    (("trainA/x.png", "trainB/x.png"), "unaligned"), (("trainB/x.png",), "unaligned"), (("train/x.png",), "aligned"),
    (("train/cat/x.png", "train/dog/x.png"), "labeled"), (("cat/x.png", "dog/x.png"), "labeled"),
    (("x.png",), "labeled"), (("A/train/x.png", "B/train/x.png"), "unaligned"), (("A/x.png", "B/x.png"), "unaligned"),
    (("train/x.png", "train/more/y.png"), "aligned"), (("readme.txt", "cat/x.png"), "labeled")])  # fmt: skip
def test_the_layout_is_guessed(tmp_path, names, mode):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert guess_mode(str(tmp_path), "train") == mode


def test_zip_files_and_manifests_are_looked_at_as_they_are(script, unpaired, paired, tmp_path):
    shutil.make_archive("packed", "zip", tmp_path, "unpaired")
    ended, seen = checked(script, "--dataroot", "packed.zip")
    assert ended.code == 0 and seen["dataset_mode"] == "unaligned", ended.err
    assert seen["samples"] == {"train": 5, "test": 3}
    rows = [
        f"unpaired/{phase}A/{i}.png,unpaired/{phase}B/{i}.png,{phase}" for phase in ("train", "test") for i in (0, 1)
    ]
    Path("pairs.csv").write_text("\n".join(["a,b,split", *rows]) + "\n")
    ended, seen = checked(script, "--dataroot", "pairs.csv")
    assert ended.code == 0 and seen["dataset_mode"] == "aligned" and seen["samples"] == {"train": 2, "test": 2}
    assert list(seen["folders"]) == ["."]
    Path("unpaired/trainA/0.png").write_bytes(b"")
    ended, seen = checked(script, "--dataroot", "pairs.csv")
    assert ended.code == 3 and ended.last.startswith(
        "error: folder 'pairs.csv': 1 problem would stop training: unpaired/trainA/0.png;"
    )
    shutil.copy("unpaired/trainA/2.png", "unpaired/trainA/0.png")
    Path("pairs.csv").write_text("a,label\nunpaired/trainA/0.png,cat\nunpaired/trainA/1.png,dog\n")
    ended, seen = checked(script, "--dataroot", "pairs.csv")
    assert ended.code == 0 and seen["dataset_mode"] == "labeled" and seen["samples"] == {"train": 2}


def test_labelled_single_and_colour_pictures(script, tmp_path):
    save("hands", "train/rock/1.png", "train/paper/1.png")
    ended, seen = checked(script, "--dataroot", "hands")
    assert ended.code == 0 and seen["dataset_mode"] == "labeled" and seen["samples"] == {"train": 2}
    assert sorted(seen["folders"]) == ["train/paper", "train/rock"]
    ended, seen = checked(script, "--dataroot", "hands/train/rock")
    assert ended.code == 0 and seen["dataset_mode"] == "labeled"
    assert "train: classes: 1 (rock 1)" in ended.out
    assert "use --model cgan or --model gan (python train.py --model cgan --dataroot hands/train/rock)" in ended.out
    ended, seen = checked(script, "--dataroot", "hands", "--model", "colorization")
    assert ended.code == 0 and seen["dataset_mode"] == "colorization" and seen["samples"] == {"train": 2}


@pytest.mark.parametrize(("flags", "said"), [
    (("--dataset_mode", "alined"), "did you mean aligned?"), (("--crop_siz", "3"), "did you mean --crop_size?"),
    (("--num_threads", "0"), "'0' is not a whole number above 0")])  # fmt: skip
def test_flags_of_training_are_held_to_its_rules(script, unpaired, tmp_path, flags, said):
    ended, _ = checked(script, "--dataroot", "unpaired", *flags)
    assert ended.code == 2 and said in ended.last and ended.err.count("\n") == 1


def test_a_json_file_that_cannot_be_written(script, unpaired, tmp_path):
    ended = script("check_data", "--dataroot", "unpaired", "--json", "no/such/folder.json")
    assert ended.code == 5 and "folder.json': cannot be written" in ended.last


def test_more_than_ten_problems_are_counted(script, tmp_path):
    for i in range(13):
        Path("many/train").mkdir(parents=True, exist_ok=True)
        Path(f"many/train/{i:02}.png").write_bytes(b"x")
    ended = script("check_data", "--dataroot", "many")
    assert ended.code == 3 and ended.out.count("stops training: image") == 10
    assert "stops training: 3 more (--json FILE lists all)" in ended.out
    assert "13 problems would stop training" in ended.last and "and 3 more; see the lines above" in ended.last


def test_real_odd_pictures(script, shared, tmp_path):
    """Every unreadable file is listed, and the command continues with the others."""
    ended, seen = checked(script, "--dataroot", shared / "data/odd_images/unreadable", "--num_threads", 4)
    assert ended.code == 3
    files = {Path(file).name for problem in seen["problems"] if problem["stops"] for file in problem["files"]}
    whole = {".DS_Store", "truncated_jpeg.jpg"}  # no picture; one that lacks no pixel
    assert len(files) > 15
    assert files == {path.name for path in (shared / "data/odd_images/unreadable").iterdir()} - whole
