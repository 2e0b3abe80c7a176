"""Every torchvision class and the --augment language work, draws depend on the sample, and pairs stay pairs."""

import inspect
import pickle
import random
import re
import shlex
import subprocess
import sys
from collections import Counter
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from data import AUGMENTATIONS
from data.augment import table
from data.augment.grammar import parse_spec
from data.augment.pipeline import Augment, to_dtype
from data.augment.table import CONTAINERS, PHOTOMETRIC, UNSUPPORTED_CLASSES, snake_case
from data.decoding.raster import Raster
from data.loading.loader import Loader
from data.transforms import Preprocess
from options.parse import parse
from registry import discovery
from registry.lookup import find
from tests.support.images import picture
from tests.support.runs import ROOT, SMALL
from util.errors import OptionError, UserError
from util.seeding import fork_rng

NAMES = list(AUGMENTATIONS)
SENSIBLE = {"size": 24, "kernel_size": 3, "quality": 60, "mean": (0.1,), "std": (0.8,), "padding": 3, "degrees": 20,
            "sharpness_factor": 2, "bits": 3, "threshold": 0.5, "min_size": 24, "max_size": 48,
            "target_size": (40, 40)}  # fmt: skip
ASKED = {"grayscale": {"num_output_channels": 3}, "color_jitter": {"brightness": 0.4}, "random_grayscale": {"p": 0.5}}
NEVER_DRAW = {"center_crop", "grayscale", "identity", "jpeg", "normalize", "pad", "resize", "rgb",
              "random_shortest_size"}  # fmt: skip
MIXED = {"aug_mix", "auto_augment", "rand_augment", "trivial_augment_wide"}  # move pixels or change colours, as drawn
GEOMETRIC = [name for name in NAMES if name not in PHOTOMETRIC]


def sensible(name: str) -> dict[str, object]:
    """Return arguments for what an augmentation cannot do without, by the names of its parameters."""
    parameters = inspect.signature(find("augmentation", name)).parameters.values()
    needed = {p.name: SENSIBLE[p.name] for p in parameters if p.default is p.empty}
    return needed | ASKED.get(name, {})


def spec_of(name: str) -> str:
    return name + "(" + ", ".join(f"{key}={value!r}" for key, value in sensible(name).items()) + ")"


def pixels(channels: int = 3, seed: int = 0, width: int = 48, height: int = 40) -> torch.Tensor:
    """Return a picture (C, H, W) uint8 in which every pixel differs from its neighbours."""
    return torch.from_numpy(np.random.default_rng(seed).integers(20, 230, (channels, height, width), dtype=np.uint8))


def refused(spec: str, shape=None, flag: str = "--augment") -> str:
    """Return the one line that a spec is refused with, or a picture by it."""
    augment = Augment(spec, flag) if shape else None
    with pytest.raises(OptionError) as caught:
        augment(torch.zeros(shape, dtype=torch.uint8), 0, "a/b.png") if augment else Augment(spec, flag)
    assert caught.value.code == 2
    line = str(caught.value)
    assert line.startswith(f"option '{flag}': ") and "\n" not in line
    return line


# the table


def test_every_torchvision_class_is_usable_or_excused():
    classes = {name for name in dir(v2) if inspect.isclass(getattr(v2, name))}
    usable = {value.rpartition(":")[2] for value in AUGMENTATIONS.values() if value.startswith("torchvision")}
    assert usable | set(UNSUPPORTED_CLASSES) >= classes
    assert usable & set(UNSUPPORTED_CLASSES) == set()
    assert classes >= usable, "what is offered is there"
    assert len(usable) >= 38 and all(UNSUPPORTED_CLASSES.values())
    assert {snake_case(name) for name in usable} < set(AUGMENTATIONS)


def test_a_class_that_torchvision_adds_is_there_by_itself(tmp_path, monkeypatch):
    (tmp_path / "transforms" / "v2").mkdir(parents=True)
    source = "from . import functional\nfrom ._new import RandomFogOfWar, helper\nfrom ._color import ColorJitter\n"
    (tmp_path / "transforms" / "v2" / "__init__.py").write_text(source)
    monkeypatch.setattr(table, "find_spec", lambda _: SimpleNamespace(submodule_search_locations=[tmp_path]))
    assert table._list_v2_classes() == ["RandomFogOfWar", "ColorJitter"]
    monkeypatch.setattr(table, "find_spec", lambda _: None)
    assert table._list_v2_classes() == []


@pytest.mark.parametrize(
    ("name", "snake"),
    [("JPEG", "jpeg"), ("RGB", "rgb"), ("RandomResizedCrop", "random_resized_crop"), ("RandomResize", "random_resize"),
     ("TrivialAugmentWide", "trivial_augment_wide"), ("AugMix", "aug_mix")],
)  # fmt: skip
def test_names_in_snake_case(name, snake):
    assert snake_case(name) == snake


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("random_")])
def test_a_leading_random_may_be_left_out(name):
    short = name.removeprefix("random_")
    meant = short if short in AUGMENTATIONS else name
    (step,) = Augment(spec_of(meant).removeprefix("random_")).steps.transforms
    assert step.name == meant


@pytest.mark.parametrize(
    ("word", "meant"),
    [("rotation(10)", "random_rotation"), ("color_jitter", "color_jitter"), ("ColorJitter", "color_jitter"),
     ("gaussian-blur(3)", "gaussian_blur"), ("horizontal_flip", "random_horizontal_flip"),
     ("RandomAffine(5)", "random_affine"),
     ("perspective", "random_perspective"), ("erasing", "random_erasing"), ("random_resize(20, 30)", "random_resize"),
     ("resize(30)", "resize"), ("grayscale(3)", "grayscale"), ("salt_and_pepper(0.5)", "salt_and_pepper")],
)  # fmt: skip
def test_spellings(word, meant):
    assert [step.name for step in Augment(word).steps.transforms] == [meant]


# every augmentation


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", NAMES)
def test_every_augmentation_is_a_function_of_picture_and_seed(name, dtype):
    augment = Augment(spec_of(name))
    given = pixels() if dtype == torch.uint8 else pixels() / 255
    kept, before = given.clone(), (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())
    made = [augment(given, seed) for seed in range(12)]
    after = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:], "the global generators are as they were"
    assert torch.equal(given, kept), "nothing is written into what it was given"
    for seed in (11, 0, 5):
        assert torch.equal(augment(given, seed), made[seed])
    copied = pickle.loads(pickle.dumps(augment))  # noqa: S301 - as it travels to a spawned worker
    assert torch.equal(copied(given, 3), made[3]) and copied.tested_kinds == augment.tested_kinds == {(3, dtype)}
    for one in made:
        assert one.dtype == dtype and one.shape[0] == 3 and one.dim() == 3
        assert dtype == torch.uint8 or (one.min() >= 0 and one.max() <= 1)
    different = {(tuple(one.shape), one.numpy().tobytes()) for one in made}
    assert (len(different) > 1) == (name not in NEVER_DRAW)


@pytest.mark.parametrize("name", [name for name in GEOMETRIC if name not in MIXED])
def test_both_of_a_pair_share_geometry_for_any_channels(name):
    augment, three = Augment(f"gaussian_noise(sigma=0.001) {spec_of(name)} {spec_of(name)}"), pixels()
    three = (three > 127).to(torch.uint8) * 128 + 64  # noise of 0.26 levels may change a level by one or two
    for seed in range(6):
        both, one = augment(three, seed), augment(three[:1], seed)
        assert both.shape[1:] == one.shape[1:]
        assert (both[:1].int() - one.int()).abs().max() <= 6, "noise drew three times as many numbers for one of them"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("pepper", "salt_and_pepper")])
def test_augmentations_tell_whether_they_move_pixels(name):
    """torchvision's own account: those that move key points, change sizes, or refuse key points because they would."""
    transform = find("augmentation", name)(**sensible(name))
    moves = False
    for seed in range(12):
        torch.manual_seed(seed)
        points = tv_tensors.KeyPoints([[5.0, 7.0], [30.0, 11.0]], canvas_size=(40, 48))
        image = tv_tensors.Image(pixels() / 255 if name == "normalize" else pixels())
        try:
            made, moved = transform(image, points)
        except (TypeError, ValueError):
            moves = True
        else:  # a tuple: several crops
            moves |= isinstance(made, tuple) or made.shape != image.shape or not torch.equal(moved, points)
    assert moves == (name not in PHOTOMETRIC)


def test_pepper_stays_in_place():
    made = Augment("pepper(0.5)")(torch.full((3, 40, 48), 77, dtype=torch.uint8), 0)
    assert set(made.unique().tolist()) == {0, 77, 255} and {"pepper", "salt_and_pepper"} <= PHOTOMETRIC


# to the pixel


@pytest.mark.parametrize("word", ["pepper", "salt_and_pepper"])
def test_pepper_turns_a_share_of_pixels_black_or_white(word):
    grey = torch.full((3, 200, 200), 100, dtype=torch.uint8)
    made = Augment(f"{word}(snr=0.9)")(grey, 1)
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])
    counts = Counter(made[0].flatten().tolist())
    assert set(counts) == {0, 100, 255}
    assert abs(counts[0] - 2000) < 200 and abs(counts[255] - 2000) < 200  # 4.6 standard deviations
    assert torch.equal(Augment(f"{word}(1)")(grey, 1), grey)
    assert set(Augment(f"{word}(0.0)")(grey, 1).unique().tolist()) == {0, 255}
    assert Augment(f"{word}(snr=0.9)")(grey / 255, 1).mul(255).unique().tolist() == [0, 100, 255]


@pytest.mark.parametrize("word", ["five_crop", "ten_crop"])
def test_five_and_ten_crop_give_one_of_their_crops(word):
    given, augment = pixels(), Augment(f"{word}(24)")
    crops = [crop.numpy().tobytes() for crop in getattr(v2.functional, word)(given, [24, 24])]
    found = Counter(crops.index(augment(given, seed).numpy().tobytes()) for seed in range(400))
    share = 400 / len(crops)
    assert sorted(found) == list(range(len(crops))) and all(share / 2 < n < 2 * share for n in found.values())


def test_equal_to_torchvision_where_nothing_is_drawn():
    given = pixels()
    assert torch.equal(Augment("horizontal_flip(1) invert(p=1)")(given, 0), 255 - given.flip(2))
    assert torch.equal(Augment("resize((20, 24), interpolation=nearest)")(given, 0), given[:, ::2, ::2])
    assert torch.equal(Augment("jpeg(30)")(given, 0), v2.functional.jpeg(given, 30))
    assert torch.equal(
        Augment("normalize(mean=(0.5,), std=(0.5,))")(given, 0), (2 * given.float() - 255).clamp(0).byte()
    )
    fine = given.float() / 255
    assert (Augment("jpeg(100)")(fine, 0) * 255).frac().abs().min() < 1e-4
    assert torch.equal(Augment("invert(p=1)")(fine, 0), 1 - fine)


def test_what_writes_in_place_gets_a_copy():
    given = pixels()
    kept = given.clone()
    made = Augment("erasing(1, inplace=true) erasing(1, value=255, inplace=true)")(given, 0)
    assert torch.equal(given, kept) and not torch.equal(made, kept)


def test_noise_does_not_wrap_around():
    white = torch.full((3, 100, 100), 250, dtype=torch.uint8)
    assert Augment("gaussian_noise(sigma=0.05, clip=false)")(white, 0).min() > 180
    erased = Augment("erasing(p=1, value=random)")(white, 0)
    drawn = erased[erased != 250]
    assert 0.4 < (drawn == 0).float().mean() < 0.6 and len(drawn.unique()) > 100  # a normal distribution, clamped


def test_bytes_are_rounded_and_clamped():
    values = torch.tensor([-3, 0.4, 0.6, 99.7, 254.6, 300])[None, None] / 255
    assert to_dtype(values, torch.uint8).flatten().tolist() == [0, 0, 1, 100, 255, 255]
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    assert torch.equal(Augment("gaussian_noise(sigma=0.0)")(every, 0), every)


# the language


@pytest.mark.parametrize(
    ("spec", "read"),
    [
        ("rotation(10)", [("rotation", (10,), {})]),
        ("  a ,b;c  d", [("a", (), {}), ("b", (), {}), ("c", (), {}), ("d", (), {})]),
        ("a(1, (2, 3), [4.5], x=-1e-3)\tb()", [("a", (1, (2, 3), [4.5]), {"x": -0.001}), ("b", (), {})]),
        ("a(bilinear, y=None, z=true, w=False, v=none)",
         [("a", ("bilinear",), {"y": None, "z": True, "w": False, "v": None})]),
        ("a('x)y|z', \"q:'\") b (2)", [("a", ("x)y|z", "q:'"), {}), ("b", (2,), {})]),
    ],
)  # fmt: skip
def test_a_spec_is_described_as_it_is_read(spec, read):
    assert [(word.name, word.args, word.kwargs) for word in parse_spec(spec, "--augment")] == read


def test_containers_describe_themselves():
    apply, choice, order = parse_spec(
        "apply(p=0.3: rotation(10) blur(3)), random_choice((1, 2): a | order(b|c d) ) RandomOrder(x({1: 2}) | y)", ""
    )
    assert (apply.name, apply.kwargs) == ("apply", {"p": 0.3})
    assert [[word.name for word in part] for part in apply.branches] == [["rotation", "blur"]]
    assert (choice.name, choice.args, choice.position) == ("choice", ((1, 2),), 37)
    assert [[word.name for word in part] for part in choice.branches] == [["a"], ["order"]]
    assert [[word.name for word in part] for part in choice.branches[1][0].branches] == [["b"], ["c", "d"]]
    assert [part[0].args for part in order.branches] == [({1: 2},), ()]
    assert set(CONTAINERS.values()) < set(UNSUPPORTED_CLASSES)


def test_containers_apply_choose_and_order():
    given = pixels()
    flipped, black = given.flip(2), torch.zeros_like(given)
    shares = {}
    for spec in (
        "apply(p=0.3: horizontal_flip(1) vertical_flip(1) vertical_flip(1))",
        "choice(p=(1, 3): identity | horizontal_flip(1))",
    ):
        augment = Augment(spec)
        made = [augment(given, seed) for seed in range(300)]
        assert all(torch.equal(one, given) or torch.equal(one, flipped) for one in made)
        shares[spec[:5]] = sum(torch.equal(one, flipped) for one in made) / 300
    assert abs(shares["apply"] - 0.3) < 0.1 and abs(shares["choic"] - 0.75) < 0.1  # 4 standard deviations
    augment = Augment("order(invert(p=1) | posterize(1, p=1))")
    orders = Counter(augment(black, seed).max().item() for seed in range(60))
    assert set(orders) == {255, 128} and min(orders.values()) > 12  # 255: black posterized, then inverted


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("rotatoin(10)", "at character 1: there is no augmentation 'rotatoin'; did you mean random_rotation?"),
        ("invert colour_jitter(1)", "'colour_jitter(1)' at character 8: there is no augmentation 'colour_jitter'"),
        ("flip", "did you mean random_horizontal_flip or random_vertical_flip?"),
        ("invert rotation(degres=3)", "'rotation(degres=3)' at character 8: it has no argument 'degres'; did you "
         "mean degrees? write rotation(degrees, interpolation='nearest', expand=False, center=None, fill=0)"),
        ("rotation", "missing a required argument: 'degrees'; write rotation(degrees"),
        ("rotation(-5)", "at character 1: If degrees is a single number, it must be positive; see docs/augment.md"),
        ("gaussian_blur(4)", "Kernel size value should be an odd and positive number"),
        ("rotation(ten)", "degrees should be a sequence of length 2"),
        ("pepper(snr=2)", "snr is the fraction of pixels that stay unchanged, 0 to 1, not 2"),
        ("auto_augment(policy=cifar9)", "'cifar9' is not a valid AutoAugmentPolicy"),
        ("lambda(x)", "torchvision's Lambda takes code; write a class in a plug-in instead"),
        ("mix_up", "torchvision's MixUp mixes the images of a batch"),
        ("random_iou_crop", "torchvision's RandomIoUCrop crops around boxes"),
        ("rotation(10", "'(10' at character 9: its ( is never closed; add the )"),
        ("rotation(10))", "')' at character 13: expected the name of an augmentation here"),
        ("rotation(1])", "at character 11: this bracket closes no other"),
        ("rotation('10)", "a quote ' is never closed"),
        ("10", "'10' at character 1: expected the name of an augmentation here"),
        ("  ", "'  ' names no augmentation"),
        (",;", "',;' names no augmentation"),
        ("rotation(10 20)", "'10 20' at character 10: is not a list of arguments (invalid syntax"),
        ("rotation(open('x'))", "'open('x')' at character 10: is not a value; write a number"),
        ("rotation(5, fill=1+x)", "'1+x' at character 18: is not a value"),
        ("rotation(p=1, p=2)", "names an argument twice"),
        ("apply: invert", "'apply' at character 1: takes exactly one part; write apply(p=0.3: rot"),
        ("apply(p=2: invert)", "should be a floating point value in the interval [0.0, 1.0]"),
        ("apply(q=2: invert)", "it has no argument 'q'; write apply(p=0.5)"),
        ("apply(invert | jpeg(5))", "takes exactly one part"),
        ("choice(invert)", "'choice(invert)' at character 1: takes two or more parts, with | between them; write ch"),
        ("order(invert |)", "takes two or more parts"),
        ("choice(invert | jpeg(5), p=(1, 2))", "'=(1, 2)' at character 27: expected the name of an augmentation here"),
        ("choice(p=(-1, 2): invert | equalize)", "p needs one number for each part, none of them negative"),
        ("choice(p=(1e999, 2): invert | equalize)", "p needs one number for each part, none of them negative"),
        ("choice(p=(0, 0): invert | equalize)", "division by zero"),
        ("choice(p=(1, 2, 3): invert | equalize)", "Length of p doesn't match the number of transforms: 3 != 2"),
        ("apply(" * 30 + "invert" + ")" * 30, "is nested in 20 containers"),
        ("rotation('\\'', 1)+(2, '\\'')", "is not a list of arguments"),
        ("apply(0.1: invert | a)", "takes exactly one part"),
    ],
)  # fmt: skip
def test_a_wrong_spec_is_refused_with_the_reason(spec, said):
    assert said in refused(spec)


DEEPER = ["-", "not ", "1+", "lambda: ", "1 if 1 else "]


@pytest.mark.parametrize(
    ("deeper", "times"),
    [
        *product(DEEPER, [150, 1000, 3000, 6000, 10_000, 100_000]),
        *product(["["], [150, 190]),  # from 200 brackets on, every parser says that they are too many
    ],
)
def test_arguments_nested_too_deeply_are_refused_in_one_text(deeper, times):
    """Whether this Python's parser takes them, and what it raises if not: MemoryError, RecursionError or neither."""
    spec = f"rotation({deeper * times}1{']' * times if deeper == '[' else ''})"
    wanted = r"option '--augment': '(.{57})\.\.\.' at character 10: is nested too deeply; (.*)"
    found = re.fullmatch(wanted, refused(spec))
    assert found is not None and found[2] == "write numbers, (1, 2), [1, 2], words and name=value, separated by commas"
    assert spec.startswith(f"rotation({found[1]}")


@pytest.mark.parametrize(
    ("spec", "channels", "said"),
    [
        ("photometric_distort(p=0.001)", 4, "with 4 channels, a/b.png: Input image tensor permitted channel"),
        ("apply(p=0.001: adjust_sharpness(2, p=0.001))", 4, "'adjust_sharpness(2, p=0.001)' at character 16: cannot be "
         "applied to an image of 48x40 with 4 channels, a/b.png: Input image tensor can have 1 or 3 channels, but"),
        ("choice(p=(1, 0): invert | random_crop(99))", 3, "'random_crop(99)' at character 27: cannot be applied to an "
         "image of 48x40 with 3 channels, a/b.png: Required crop size (99, 99) is larger than input image size (40,"),
        ("center_crop(20) random_crop(30)", 3, "at character 17: cannot be applied to an image of 20x20"),
        ("grayscale", 3, "it returns an image with 1 channel"),
        ("rgb", 1, "with 1 channel, a/b.png: it returns an image with 3 channels"),
        ("affine(10, interpolation=bilinaer)", 3, "Invalid interpolation mode: 'bilinaer'"),
        ("solarize(999)", 3, "Threshold should be less or equal the maximum value of the dtype"),
        ("normalize(mean=(0.5,), std=(0,))", 3, "std evaluated to zero"),
        ("normalize(mean=(1, 2), std=(1,))", 3, "cannot be applied to an image of 48x40"),
    ],
)  # fmt: skip
def test_what_a_picture_cannot_take_is_found_at_the_first_one(spec, channels, said):
    assert said in refused(spec, (channels, 40, 48), "--augment_A")


@given(st.text(alphabet="ab(){}[]|:,;='\"\\ 1.-#\n\0\u00e9*", max_size=40) | st.text(max_size=20))
def test_any_text_is_read_or_refused(text):
    for spec in (text, f"rotation({text})", f"apply({text}: invert({text}))"):
        try:
            words = parse_spec(spec, "--augment")
        except OptionError as problem:
            line, words = str(problem), ()
        else:
            line = "read"
        assert line.isprintable() and all(spec[word.position - 1 :].startswith(word.text) for word in words)


# in training


@pytest.fixture(autouse=True)
def _as_it_was(tmp_path, monkeypatch):
    """Work in an empty folder; forget what a test's plug-ins put into the table."""
    monkeypatch.chdir(tmp_path)
    discovery.clear()
    kept = dict(AUGMENTATIONS), dict(AUGMENTATIONS.origins)
    yield
    discovery.clear()
    AUGMENTATIONS.clear()
    dict.update(AUGMENTATIONS, kept[0])
    AUGMENTATIONS.origins = kept[1]


def dataset(model: str, *argv: object, train: bool = True):
    o = parse(["--model", model, *SMALL, *map(str, argv)], "train")
    o.isTrain = train
    return find("dataset", o.dataset_mode)(o)


def sample(data, index: int = 0, seed: int = 0):
    with fork_rng(seed):
        return data[index]


def test_no_augmentation_draws_nothing_and_imports_nothing():
    code = """
import random, sys
from options.parse import parse
from registry.lookup import find
data = find("dataset", "aligned")(parse(["--model", "pix2pix"], "train"))
random.seed(3)
geometry = data.preprocess.draw()
after = random.random()
random.seed(3)
drawn = [random.random() for _ in range(4)]
assert (geometry.crop_x, geometry.crop_y, geometry.flip, geometry.seed) == (*drawn[:2], drawn[2] < 0.5, 0)
assert after == drawn[3]
data[0]
assert "torchvision" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=240)


def test_crop_and_flip_stay_what_they_are_without_augmentation():
    flags = SimpleNamespace(
        preprocess="crop",
        load_size=36,
        crop_size=32,
        no_flip=False,
        isTrain=True,
        augment="",
        range="",
        range_A="",
        range_B="",
        augment_A="",
        augment_B="",
    )
    plain, augmented = Preprocess(flags), Preprocess(SimpleNamespace(**vars(flags) | {"augment": "identity"}))
    for seed in range(5):
        with fork_rng(seed):
            without = plain.draw()
        with fork_rng(seed):
            with_it = augmented.draw()
        assert (without.crop_x, without.crop_y, without.flip) == (with_it.crop_x, with_it.crop_y, with_it.flip)
        assert torch.equal(plain(picture(1), "", without), augmented(picture(1), "", with_it))


@pytest.mark.parametrize("kind", ["L", "RGB", "uint8", "uint16", "float32"])
def test_pictures_of_any_depth_are_augmented(kind):
    """The identity gives the same numbers and inversion gives their negatives, for every dtype of storage."""
    deep = np.random.default_rng(3).integers(0, 65536, (40, 48, 5), dtype=np.uint16)
    stored = picture(4, mode=kind) if kind in ("L", "RGB") else Raster((deep >> 8 * (kind == "uint8")).astype(kind))
    flags = dict(
        preprocess="none",
        load_size=9,
        crop_size=9,
        no_flip=True,
        isTrain=True,
        augment_A="",
        augment_B="",
        range="0,65535" if kind == "float32" else "",
        range_A="",
        range_B="",
    )
    made = {}
    for spec in ("", "identity", "invert(p=1)"):
        preprocess = Preprocess(SimpleNamespace(**flags, augment=spec))
        made[spec] = preprocess(stored, "", preprocess.draw())
    assert torch.allclose(made["identity"], made[""], atol=1e-6)
    if made[""].shape[0] in (1, 3):
        assert torch.allclose(made["invert(p=1)"], -made[""], atol=1e-6)
    assert made[""].std() > 0.1


SHARED = (
    "resized_crop(32, interpolation=nearest) horizontal_flip vertical_flip apply(0.5: invert(p=1)) "
    "pad(4, padding_mode=edge)"
)


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_both_of_a_pair_are_augmented_alike(paired, direction):
    flags = ("--dataroot", paired, "--preprocess", "none", "--direction", direction)
    data = dataset("pix2pix", *flags, "--augment", SHARED)
    seen = set()
    for seed in range(8):
        pair = sample(data, 1, seed)
        # B is the negative of A
        assert pair["A"].shape == (3, 40, 40) and torch.allclose(pair["A"], -pair["B"], atol=1e-6)
        seen.add(pair["A"].numpy().tobytes())
    assert len(seen) == 8


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize("model", ["pix2pix", "cycle_gan"])
def test_one_side_alone_after_direction(model, side, direction, paired, unpaired):
    root = paired if model == "pix2pix" else unpaired
    flags = ("--dataroot", root, "--direction", direction, "--preprocess", "none", "--serial_batches", "--no_flip")
    plain = sample(dataset(model, *flags))
    changed = sample(dataset(model, *flags, f"--augment_{side}", "invert(p=1)"))
    other = "B" if side == "A" else "A"
    assert torch.allclose(changed[side], -plain[side], atol=1e-6) and torch.equal(changed[other], plain[other])


def test_the_sides_draw_apart_from_each_other(paired):
    data = dataset(
        "pix2pix", "--dataroot", paired, "--augment_A", "invert", "--augment_B", "invert", "--preprocess", "none"
    )
    alike = [torch.allclose(pair["A"], -pair["B"], atol=1e-6) for pair in (sample(data, 0, seed) for seed in range(20))]
    assert 3 < sum(alike) < 17  # B is the negative of A, unless just one of them was inverted


@pytest.mark.parametrize(
    ("model", "flags", "said"),
    [
        ("pix2pix", ("--augment_A", "jpeg(50) rotation(5)"), "'rotation(5)' at character 10: moves pixels, so that A "
         "and B would no longer match (aligned has pairs); use --augment, which changes both alike"),
        ("pix2pix", ("--augment_B", "apply(0.1: choice(invert | aug_mix))"), "'aug_mix' at character 28: moves pixels"),
        ("colorization", ("--augment_A", "invert"), "colorization does not preprocess images of A separately; use --"),
        ("cgan", ("--augment_B", "invert"), "labeled does not preprocess images of B separately; use --augment"),
    ],
)  # fmt: skip
def test_augmentation_a_data_set_cannot_do_is_refused(model, flags, said):
    with pytest.raises(OptionError) as caught:
        dataset(model, *flags)
    assert str(caught.value).startswith(f"option '{flags[0]}': {said}") and caught.value.code == 2


@pytest.mark.parametrize("flag", ["--augment", "--augment_A"])
def test_labeled_pictures(flag):
    flags = ("--preprocess", "none", "--no_flip", "--dataset_mode", "labeled")
    plain = sample(dataset("cgan", *flags))
    made = sample(dataset("cgan", *flags, flag, "invert(p=1)"))
    assert torch.allclose(made["A"], -plain["A"], atol=1e-6) and made["label"] == plain["label"]


def test_colorization_splits_the_augmented_picture(tmp_path):
    (tmp_path / "train").mkdir()
    picture(7).save(tmp_path / "train" / "a.png")
    Image.fromarray(255 - np.asarray(picture(7))).save(tmp_path / "train" / "b.png")
    flags = ("--dataroot", tmp_path, "--preprocess", "none", "--no_flip")
    inverted, negative = (
        sample(dataset("colorization", *flags, "--augment", "invert(p=1)")),
        sample(dataset("colorization", *flags), 1),
    )
    assert torch.equal(inverted["A"], negative["A"]) and torch.equal(inverted["B"], negative["B"])


def test_geometry_may_differ_where_there_are_no_pairs(unpaired):
    data = dataset(
        "cycle_gan", "--dataroot", unpaired, "--augment_A", "rotation((90, 90), expand=true)", "--preprocess", "none"
    )
    made = sample(data)
    assert made["A"].shape == (3, 48, 40) and made["B"].shape == (3, 40, 48)


def test_test_py_and_fixed_samples_never_augment(paired):
    flags = ("--dataroot", paired, "--preprocess", "none", "--no_flip")
    plain, tested = dataset("pix2pix", *flags), dataset("pix2pix", *flags, "--augment", "invert(p=1)", train=False)
    assert torch.equal(sample(plain)["A"], sample(tested)["A"])


EVERYTHING = (
    "color_jitter(0.2, 0.2, 0.2, 0.05) choice(rotation(10) | affine(5) | pepper) "
    "apply(0.5: gaussian_blur(3)) order(invert | equalize | five_crop(34))"
)


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_stay_the_same_with_workers_and_skipping(paired, workers, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    flags = ("--dataroot", paired, "--num_threads", workers)
    data = dataset("pix2pix", *flags, "--augment", EVERYTHING, "--augment_A", "gaussian_noise")
    loader = Loader(data, data.o, shuffle=True)
    try:
        epoch = {batch["path_A"][0]: batch for batch in loader.epoch(2)}
        rest = {batch["path_A"][0]: batch for batch in loader.epoch(2, skip=3)}
    finally:
        loader.close()
    assert len(epoch) == 5 and set(rest) == set(list(epoch)[3:])
    own = Loader(data, data.o, shuffle=True)  # in this process, where nothing has been tried yet
    data.o.num_threads = 0
    alone = {batch["path_A"][0]: batch for batch in own.epoch(2)}
    own.close()
    for found in (epoch, rest):
        for path, batch in found.items():
            assert torch.equal(batch["A"], alone[path]["A"]) and torch.equal(batch["B"], alone[path]["B"])


def test_a_continued_run_ends_like_an_unbroken_one(command, paired):
    flags = ("--model", "pix2pix", "--dataroot", paired, *SMALL, "--netG", "unet_32", "--n_epochs_decay", 0,
             "--no_html", "--augment", EVERYTHING, "--augment_A", "gaussian_noise")  # fmt: skip
    ended = [
        command("train", *flags, "--name", "unbroken", "--n_epochs", 2),
        command("train", *flags, "--name", "broken", "--n_epochs", 1),
        command("train", "--name", "broken", "--continue_train", "--n_epochs", 2),
        command("train", *flags[:-4], "--name", "plain", "--n_epochs", 2),
    ]
    assert [one.code for one in ended] == [0, 0, 0, 0], ended
    weights = {
        name: torch.load(f"checkpoints/{name}/latest_net_G.pth", weights_only=True)
        for name in ("unbroken", "broken", "plain")
    }
    for key, value in weights["unbroken"].items():
        assert torch.equal(weights["broken"][key], value), key
    assert any(not torch.equal(weights["plain"][key], value) for key, value in weights["unbroken"].items())


def test_a_smaller_picture_later_on_is_named(tmp_path):
    for name, width in (("0", 60), ("1", 30)):
        (tmp_path / "trainA").mkdir(exist_ok=True)
        (tmp_path / "trainB").mkdir(exist_ok=True)
        picture(1, width, 60).save(tmp_path / "trainA" / f"{name}.png")
        picture(2, 60, 60).save(tmp_path / "trainB" / f"{name}.png")
    flags = ("--dataroot", tmp_path, "--preprocess", "crop", "--crop_size", 20)
    data = dataset("cycle_gan", *flags, "--augment", "random_crop(40)")
    assert sample(data)["A"].shape == (3, 20, 20)
    with pytest.raises(UserError) as caught:
        sample(data, 1)
    assert f"an image of 30x60 with 3 channels, {tmp_path}/trainA/1.png: Required crop size" in str(caught.value)
    with pytest.raises(UserError) as caught:
        sample(dataset("cycle_gan", *flags, "--augment", "center_crop(10)"))
    assert (
        "0.png': is 10x10 before the crop, smaller than --crop_size 20; use a smaller --crop_size, or an --augment"
        in str(caught.value)
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--augment", "rotatoin(10)"), "'rotatoin(10)' at character 1: there is no augmentation 'rotatoin'"),
        (("--augment_B", "rotation(10)"), "'rotation(10)' at character 1: moves pixels"),
        (("--augment", "apply(0.001: random_crop(99))"), "'random_crop(99)' at character 14: cannot be applied"),
    ],
)  # fmt: skip
def test_wrong_flags_end_training_before_it_begins(command, paired, tmp_path, flags, said):
    ended = command("train", "--model", "pix2pix", "--dataroot", paired, *SMALL, *flags)
    assert ended.code == 2 and ended.last.startswith(f"error: option '{flags[0]}': {said}")
    assert not (tmp_path / "checkpoints").exists()


# plug-ins

STRIPES = '''"""Augmentations of a user."""
import random
import torch
from data import AUGMENTATIONS
class Stripes:
    """Blackens every nth row, beginning somewhere."""
    geometric = False
    def __init__(self, every=4):
        if every < 2:
            raise ValueError("every must be 2 or more")
        self.every = lambda: every  # what cannot be pickled need not travel
    def __call__(self, picture):
        picture[:, random.randrange(self.every()) :: self.every()] = 0
        return picture
class Turn:
    def __call__(self, picture):
        return picture.flip(1)
class Wrong:
    def __call__(self, picture):
        return picture.max()
class Broken:
    def __call__(self, picture):
        return self.nothing
AUGMENTATIONS["stripes"] = Stripes
AUGMENTATIONS["turn"] = "stripes:Turn"
AUGMENTATIONS["wrong"] = Wrong
AUGMENTATIONS["broken"] = Broken
AUGMENTATIONS["function"] = lambda picture: picture
'''


@pytest.fixture
def stripes(tmp_path):
    path = tmp_path / "stripes.py"
    path.write_text(STRIPES)
    return path


def test_a_users_class_augments_pictures(stripes, paired):
    flags = ("--dataroot", paired, "--preprocess", "none", "--no_flip", "--plugin", stripes)
    plain = sample(dataset("pix2pix", *flags))
    data = dataset("pix2pix", *flags, "--augment", "stripes(every=5)", "--augment_A", "stripes")
    made = sample(data, seed=3)
    rows = (made["B"] == -1).all(2).all(0).nonzero().flatten()
    assert rows.diff().eq(5).all() and len(rows) == 8
    untouched = [row for row in range(40) if row not in rows.tolist()]
    assert torch.equal(made["B"][:, untouched], plain["B"][:, untouched])
    assert (made["A"] == -1).all(2).all(0).sum() > 8
    copied = pickle.loads(pickle.dumps(data))  # noqa: S301 - as it travels to a spawned worker
    assert torch.equal(sample(copied, seed=3)["A"], made["A"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--augment", "stripes(1)"), "option '--augment': 'stripes(1)' at character 1: every must be 2 or more"),
        (("--augment", "stripes(evry=3)"),
         "it has no argument 'evry'; did you mean every? write stripes(every=4)"),
        (("--augment", "strips"), "did you mean stripes?"),
        (("--augment_A", "turn"), "option '--augment_A': 'turn' at character 1: moves pixels"),
        (("--augment", "wrong"), "plug-in 'stripes': its augmentation 'wrong' returns a tensor of shape (); give"),
        (("--augment", "function"),
         "plug-in 'stripes': its augmentation 'function' is not a class; give a class whose"),
        (("--augment", "broken"), "stripes.py, line 23, in __call__"),
    ],
)  # fmt: skip
def test_a_wrong_users_class_is_refused_with_the_reason(command, paired, stripes, flags, said):
    ended = command("train", "--model", "pix2pix", "--dataroot", paired, *SMALL, "--plugin", stripes, *flags)
    assert ended.code == 2 and said in ended.last, ended


def test_list_shows_every_augmentation_and_where_it_is_from(command, stripes):
    listed = command("train", "--plugin", stripes, "--list").out
    section = listed.partition("augmentation:\n")[2].partition("\n\n")[0]
    for name in NAMES:
        assert re.search(rf"^  {name} +built in$", section, re.MULTILINE)
    assert re.search(r"^  turn +.*stripes\.py$", section, re.MULTILINE)


# the page


def test_the_page_names_every_augmentation_and_its_examples_work(tmp_path):
    page = (ROOT / "docs" / "augment.md").read_text()
    assert set(NAMES) - set(re.findall(r"`(\w+)", page)) == set()
    places = page.partition("**These leave pixels in their places**")[2].partition("**These move them**")[0]
    assert set(re.findall(r"`(\w+)`", places)) == PHOTOMETRIC
    ((name, source),) = re.findall(r"```python file=(\S+)\n(.*?)```", page, re.DOTALL)
    (tmp_path / name).write_text(source)
    discovery.add_paths([name])
    commands = [shlex.split(line) for line in page.splitlines() if line.startswith("python train.py --")]
    specs = [words[i : i + 2] for words in commands for i, word in enumerate(words) if word.startswith("--augment")]
    held = (
        "apply(p=0.3: rotation(10) invert)",
        "choice(invert | rotation(10) pepper)",
        "order(jpeg(50) | rotation(10) | invert)",
    )
    containers = [("--augment", spec) for spec in held]
    assert len(specs) == 8 and all(spec.replace("|", "\\|") in page for _, spec in containers)
    for flag, spec in [*specs, *containers]:
        assert len(Augment(spec, flag)(pixels(3, 0, 286, 286), 1)) == 3
