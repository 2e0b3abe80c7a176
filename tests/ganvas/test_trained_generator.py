"""ganvas.load: the results equal the files that test.py writes, for every model, kind of image, size and thread."""

import pickle
import shutil
import threading
from io import BytesIO
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

import ganvas
from ganvas.loading import FOR_COMMAND
from inference.model_state import states_equal
from options.parse import flags_for
from tests.support.data_folders import save_label_maps
from tests.support.images import picture
from tests.support.runs import SMALL
from tests.support.small_models import own_networks
from tests.support.training_runs import DEMO, EVERY, TRAINABLE, run_in
from util.seeding import generator_states

TINY = [*SMALL, "--netG", "unet_32", "--n_epochs", 1, "--n_epochs_decay", 0, "--max_dataset_size", 2, "--no_html"]
TRANSLATING = [name for name in TRAINABLE if not hasattr(EVERY[name], "sheets")]
GENERATING = [name for name in TRAINABLE if hasattr(EVERY[name], "sheets")]
MEMORY = '''"""memory: draws random numbers and remembers earlier images."""
import torch
from torch import nn
from torch.nn import functional as F
from ganvas import BaseModel, Phase
class Memory(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)
    def __init__(self, o, spec):
        super().__init__()
        self.G, self.kept = nn.Conv2d(spec.input_nc, spec.output_nc, 1), 0.0
    def phases(self):
        return [Phase("G", [self.G], self.loss)]
    def forward(self, batch):
        fake = (self.G(batch["A"]) + self.kept + 0.1 * torch.randn(len(batch["A"]), 1, 1, 1)).tanh()
        self.kept = 0.0 if self.training else 0.5 * float(batch["A"].mean())
        return {"real_A": batch["A"], "fake_B": fake} | ({"real_B": batch["B"]} if "B" in batch else {})
    def loss(self, batch, out):
        return {"L1": F.l1_loss(out["fake_B"], out["real_B"])}
'''


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with three images, `checkpoints` with a run of every model, and one of a plug-in."""
    where = tmp_path_factory.mktemp("api")
    (where / "images").mkdir()
    for number, size in enumerate([(64, 64), (40, 56), (33, 20)]):
        picture(number, *size).save(where / "images" / f"{number}.png")
    (where / "memory.py").write_text(MEMORY)
    for name in TRAINABLE:
        ended = run_in(where, "train", *TINY, *own_networks(name), *DEMO, "--model", name, "--name", name)
        assert ended.code == 0, ended.err
    ended = run_in(where, "train", *TINY, *DEMO, "--model", "memory", "--plugin", "memory.py", "--name", "memory")
    assert ended.code == 0, ended.err
    return where


@pytest.fixture
def files(trained, tmp_path):
    """files(run, *flags) -> {file of test.py: values} of a test with these flags."""

    def run(name, *flags):
        folder = tmp_path / f"results{len(list(tmp_path.iterdir()))}"
        given = ["--checkpoints_dir", trained / "checkpoints", "--results_dir", folder, "--name", name, *flags]
        ended = run_in(trained, "test", "--gpu_ids", "-1", *given)
        assert ended.code == 0, ended.err
        return {path.name: stored(path) for path in sorted(folder.rglob("images/*"))}

    return run


def stored(path):
    """Return the values of an image file."""
    if path.suffix in (".tif", ".npy"):
        return tifffile.imread(path) if path.suffix == ".tif" else np.load(path)
    return imagecodecs.png_decode(path.read_bytes())


def load(trained, name, **more):
    return ganvas.load(trained / "checkpoints" / name, device="cpu", **more)


@pytest.mark.parametrize("name", [*TRANSLATING, "memory"])
def test_every_model_gives_the_files_of_test_py(trained, files, name):
    """One call with a list, an iterator, and a call with the first image alone."""
    paths, g = sorted((trained / "images").iterdir()), load(trained, name)
    made = {file: values for file, values in files(name, trained / "images").items() if "_fake" in file}
    first = next(iter(made)).removeprefix(paths[0].stem)  # of several fakes of an image
    expected = {file: values for file, values in made.items() if file.endswith(first)}
    pillow = [Image.open(path) for path in paths]
    for images in (g(paths), list(g(iter(pillow))), g(list(map(np.asarray, pillow)))):
        assert all(np.array_equal(x, y) for x, y in zip(images, expected.values(), strict=True))
    for _ in range(2):  # a call changes nothing for the next one
        assert np.array_equal(g(paths[0]), next(iter(expected.values())))
    assert expected


def deep(channels):
    """Return (H, W, C) uint16."""
    planes = [np.asarray(picture(seed, 64, 50, "L")).astype(np.uint16) * 250 + seed for seed in range(1, channels + 1)]
    return np.stack(planes, axis=2)


def turned():
    exif = Image.Exif()
    exif[274] = 6
    return exif


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXTRAS = {"turned": {"exif": turned()}, "profile": {"icc_profile": SRGB}}
FORMATS = {  # file: the image in it
    "rgb.png": picture(1, 64, 50),
    "turned.jpg": picture(1, 64, 50),
    "profile.png": picture(1, 64, 50),
    "grey.png": picture(1, 64, 50, "L"),
    "palette.gif": picture(1, 64, 50).convert("P"),
    "alpha.png": picture(1, 64, 50).convert("RGBA").rotate(30),
    "cmyk.jpg": picture(1, 64, 50).convert("CMYK"),
    "deep.png": deep(3),
    "deep_alpha.png": deep(4),
    "deep_grey.png": deep(1)[:, :, 0],
    "deep.pgm": deep(1)[:, :, 0],
    "float.tif": (deep(3) / 65535).astype(np.float32),
    "ints.npy": deep(1)[:, :, 0].astype(np.int32),
    "bool.npy": deep(1)[:, :, 0] > 30000,
}


def write(path, image):
    """Write an image to a file; with an orientation or a profile if its name says so."""
    if isinstance(image, Image.Image):
        image.save(path, **EXTRAS.get(path.stem, {}))
    elif path.suffix == ".npy":
        np.save(path, image)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, image, photometric="rgb")
    elif path.suffix == ".pgm":
        path.write_bytes(b"P5 64 50 65535\n" + image.astype(">u2").tobytes())
    else:
        path.write_bytes(imagecodecs.png_encode(image))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_and_depth_gives_the_file_of_test_py(trained, files, tmp_path, name):
    write(tmp_path / name, FORMATS[name])
    size, flags = [("run", []), ("native", ["--native"])][len(name) % 2]
    (expected,) = files("pix2pix", tmp_path / name, "--results_only", "fake_B", *flags).values()
    g = load(trained, "pix2pix")
    result = g(tmp_path / name, size=size)
    assert same(result, expected)
    if isinstance(FORMATS[name], np.ndarray):
        result = g(FORMATS[name], size=size)
        assert same(result, expected) and result.dtype == expected.dtype and result.flags.writeable
    else:
        assert same(g(Image.open(tmp_path / name), size=size), expected)


def same(image, values):
    array = np.asarray(image)
    return array.shape[:2] == values.shape[:2] and np.array_equal(array.squeeze(), values.squeeze())


def test_the_result_is_of_the_kind_that_is_given(trained):
    g, array = load(trained, "pix2pix"), np.array(picture(1, 64, 64))
    expected = g(array)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    assert torch.equal(g(tensor).permute(1, 2, 0), torch.from_numpy(expected)) and g(tensor).dtype == torch.uint8
    assert torch.equal(g(tensor[None]), g(tensor)[None]) and np.array_equal(g(array[None]), expected[None])
    assert isinstance(g([array, tensor])[1], torch.Tensor) and g([]) == []
    assert isinstance(g(Image.fromarray(array)), Image.Image) and "<img" in g([array])._repr_html_()
    lazy = g(item for item in [array, 3])
    assert np.array_equal(next(lazy), expected)
    with pytest.raises(TypeError, match="not int"):
        next(lazy)


def test_bytes_and_open_files_hold_an_image_file(trained):
    g, file = load(trained, "pix2pix"), BytesIO()
    picture(1, 64, 64).save(file, "PNG")
    expected = np.asarray(g(Image.open(file)))
    file.seek(0)
    for given in (file.getvalue(), bytearray(file.getvalue()), memoryview(file.getvalue()), file):
        result = g(given)
        assert isinstance(result, Image.Image) and np.array_equal(np.asarray(result), expected)
    with open(trained / "memory.py", encoding="utf-8") as text, pytest.raises(TypeError, match="binary mode"):
        g(text)
    with pytest.raises(TypeError, match=r"SimpleNamespace.read\(\) gives no bytes but tuple"):
        g(SimpleNamespace(read=lambda: (True, expected)))  # as of a camera


def test_a_pickled_generator_is_the_same(trained):
    image = picture(1, 64, 64)
    (file,) = (trained / "checkpoints" / "pix2pix").glob("latest_net_G.pth")
    shutil.copy(file, trained / "bare_net.pth")
    for g in (load(trained, "pix2pix"), ganvas.load(trained / "bare_net.pth", device="cpu", netG="unet_32", ngf=4)):
        again = pickle.loads(pickle.dumps(g))  # noqa: S301
        assert (repr(again), again.device) == (repr(g), g.device)
        assert np.array_equal(np.asarray(again(image)), np.asarray(g(image)))


def test_flags_that_only_the_command_uses_are_noted(trained, caplog):
    assert {flag.name for flag in flags_for("pix2pix", "test")} >= FOR_COMMAND
    load(trained, "pix2pix", no_eval=True)
    assert "no effect" not in caplog.text
    g = load(trained, "pix2pix", num_test=3, format="jpg", num_results=3)
    assert "note: format, num_results, num_test have no effect: only test.py uses such flags" in caplog.text
    caplog.clear()
    pickle.loads(pickle.dumps(g))  # noqa: S301
    assert "no effect" not in caplog.text


def test_stretched_floats_are_noted_once(trained, caplog):
    g, array = load(trained, "pix2pix"), np.array(picture(1, 64, 64))
    g(array)
    g((array / 255).astype(np.float32), value_range=(0, 1))
    assert "stretched" not in caplog.text
    for _ in range(2):
        g((array / 500).astype(np.float32))
    assert caplog.text.count("each image is stretched") == 1 and "value_range=(0, 1)" in caplog.text
    caplog.clear()
    for flags in ({"range": "0,1"}, {"range_A": "0,1"}, {"range_A": "auto"}):
        load(trained, "pix2pix", **flags)((array / 500).astype(np.float32))
    assert "stretched" not in caplog.text
    load(trained, "cycle_gan", direction="BtoA")((array / 500).astype(np.float32))
    assert caplog.text.count("each image is stretched") == 1


def test_floats_are_read_as_value_range_says(trained):
    g, array = load(trained, "pix2pix"), np.array(picture(1, 64, 64))
    unit = g((array / 255).astype(np.float32), value_range=(0, 1))
    assert unit.dtype == np.float32 and unit.min() >= 0 and np.abs(unit * 255 - g(array)).max() < 1.5


def test_a_run_of_16_bits_gives_16_bits(trained, files, tmp_path):
    for folder, number in (("train", 2), ("test", 1)):
        (tmp_path / "deep" / folder).mkdir(parents=True)
        for n in range(number):
            pair = np.concatenate([deep(1), 65535 - deep(1)], axis=1)
            (tmp_path / "deep" / folder / f"{n}.png").write_bytes(imagecodecs.png_encode(pair[:, :, 0]))
    flags = ["--model", "pix2pix", "--input_nc", 1, "--output_nc", 1, "--dataroot", tmp_path / "deep", "--name", "deep"]
    assert run_in(trained, "train", *TINY, *flags).code == 0
    (expected,) = files("deep", "--results_only", "fake_B").values()
    image = Image.open(tmp_path / "deep" / "test" / "0.png")
    result = load(trained, "deep")(np.asarray(image))
    assert result.dtype == expected.dtype == np.uint16 and same(result, expected)
    assert same(load(trained, "deep")(image), expected)


@pytest.mark.parametrize("flags", [["--no_instance"], [], ["--instance_feat", "--n_downsample_E", 1]])
def test_label_maps_are_given_with_what_the_run_was_trained_with(flags, tmp_path):
    save_label_maps(tmp_path / "city")
    own = ["--model", "pix2pixhd", "--label_nc", 2, "--no_vgg_loss", "--n_blocks_global", 1, "--netG", "global"]
    ended = run_in(tmp_path, "train", *TINY, *own, *flags, "--dataroot", "city", "--name", "maps", "--num_D", 1)
    assert ended.code == 0, ended.err
    run_in(tmp_path, "test", "--name", "maps", "--gpu_ids", "-1", "--num_test", 1)
    g, city = ganvas.load(tmp_path / "checkpoints/maps", device="cpu"), tmp_path / "city"
    given = {"labels": city / "test_label/0.png", "instances": city / "test_inst/0.png"}
    made = g(given | {"photograph": city / "test_img/0.png"})
    (file,) = tmp_path.glob("results/maps/*/images/0_fake_B.png")
    assert np.array_equal(made, Image.open(file))
    arrays = {name: np.asarray(Image.open(path)) for name, path in given.items()}
    if "--no_instance" in flags:
        assert np.array_equal(g(arrays["labels"]), made)
        return
    with pytest.raises(ganvas.UserError, match="encodes photographs" if flags else "is one label map, and the run was"):
        g(arrays) if flags else g(given["labels"])
    assert flags or np.array_equal(g(arrays), made)


def test_a_run_of_several_inputs_takes_a_dictionary(trained, files, tmp_path):
    sides = {"A1": picture(1, 32, 32), "A2": picture(2, 32, 32, "L"), "B": picture(3, 32, 32)}
    for phase in ("train", "test"):
        for side, image in sides.items():
            (tmp_path / "many" / f"{phase}{side}").mkdir(parents=True)
            image.save(tmp_path / "many" / f"{phase}{side}" / "0.png")
    flags = ["--model", "pix2pix", "--dataroot", tmp_path / "many", "--name", "many"]
    assert run_in(trained, "train", *TINY, *flags).code == 0
    (expected,) = files("many", "--results_only", "fake_B").values()
    g, images = load(trained, "many"), {side: np.asarray(image) for side, image in sides.items() if side != "B"}
    assert same(g(images), expected) and isinstance(g(images), np.ndarray)
    assert same(g([{"A1": sides["A1"], "A2": tmp_path / "many" / "testA2" / "0.png"}])[0], expected)
    for wrong in (images["A1"], {"A1": images["A1"]}):
        with pytest.raises(ganvas.DataError, match=r"A1.*A2"):
            g(wrong)
    with pytest.raises(ganvas.DataError, match="one input"):
        load(trained, "pix2pix")(images)


GENERATOR = """
from networks import GENERATORS
from networks.architectures.unet import unet_32
def make(o, input_nc, output_nc):
    net = unet_32(o, input_nc, output_nc)
    net.register_forward_hook(lambda net, given, out: FACTOR * out)
    return net
GENERATORS["mine"] = make
"""


def test_runs_of_plug_ins_that_differ_work_side_by_side(trained, files, tmp_path):
    """Two plug-ins of one name add a generator of one name; each run uses its own."""
    path, expected = trained / "images" / "0.png", {}
    for factor in ("0", "0.5"):
        (tmp_path / factor).mkdir()
        (tmp_path / factor / "mine.py").write_text(f"FACTOR = {factor}{GENERATOR}")
        flags = ["--plugin", tmp_path / factor / "mine.py", "--netG", "mine", "--model", "pix2pix"]
        ended = run_in(trained, "train", *TINY, *flags, *DEMO, "--name", f"mine{factor}")
        assert ended.code == 0, ended.err
        (expected[factor],) = files(f"mine{factor}", path, "--results_only", "fake_B").values()
    loaded = {factor: load(trained, f"mine{factor}") for factor in expected}
    for factor in ("0", "0.5", "0", "0.5"):
        assert same(loaded[factor](path), expected[factor])
        assert loaded[factor].network is loaded[factor].network
    assert not np.array_equal(expected["0"], expected["0.5"])


def test_eight_threads_share_a_generator(trained):
    arrays = [np.array(picture(n, 64, 64)) for n in range(8)]
    for name in ("pix2pix", "memory"):
        g = load(trained, name)
        expected, found = [g(array) for array in arrays], [None] * 8

        def work(n, g=g, found=found):
            found[n] = [g(arrays[n]) for _ in range(2)]

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(np.array_equal(x, y) for results, y in zip(found, expected, strict=True) for x in results)


def test_the_other_direction_is_translated_by_the_other_network(trained, files):
    expected = files("cycle_gan", trained / "images", "--direction", "BtoA")
    path = trained / "images" / "0.png"
    assert same(load(trained, "cycle_gan", direction="BtoA")(path), expected["0_fake_A.png"])
    file = trained / "checkpoints" / "cycle_gan" / "latest_net_G_B.pth"
    assert same(ganvas.load(file, device="cpu")(path), expected["0_fake_A.png"])
    assert same(load(trained, "cycle_gan")(path, label="rec_A"), files("cycle_gan", path)["0_rec_A.png"])


def test_a_bare_file_of_weights_is_a_generator(trained, tmp_path, caplog):
    path = trained / "images" / "0.png"
    (tmp_path / "mine.pth").write_bytes((trained / "checkpoints" / "pix2pix" / "latest_net_G.pth").read_bytes())
    small = {"load_size": 32, "crop_size": 32}
    assert same(
        ganvas.load(tmp_path / "mine.pth", device="cpu", **small)(path), np.asarray(load(trained, "pix2pix")(path))
    )
    assert "how large" not in caplog.text
    g = ganvas.load(tmp_path / "mine.pth", device="cpu")
    assert repr(g) == f"<TrainedGenerator {tmp_path / 'mine.pth'}: unet_32 on cpu>"
    assert g(path, size="native").size == Image.open(path).size and "how large" not in caplog.text
    assert g(path).size == (256, 256) == g(path).size
    assert caplog.text.count("how large their images were: each is scaled to 256x256") == 1
    (tmp_path / "mine.pth").write_bytes(b"no weights")
    with pytest.raises(ganvas.CheckpointError, match=str(tmp_path / "mine.pth")):
        ganvas.load(tmp_path / "mine.pth")


@pytest.mark.parametrize("name", GENERATING)
def test_samples_are_those_of_test_py(trained, files, name):
    g, expected = load(trained, name), files(name, "--num_samples", 3, "--seed", 5)
    named = sorted(file for file in expected if file.endswith("_fake.png"))
    images = g.sample(3, seed=5)
    assert named and all(np.array_equal(x, expected[file]) for x, file in zip(images, named, strict=True))
    between = g.interpolate(5, 6, steps=4, classes=images.labels[0])
    first, last = (g.sample(1, seed=seed, classes=images.labels[0])[0] for seed in (5, 6))
    assert len(between) == 4
    zeros = g.interpolate(torch.zeros(100), [0.0] * 100, steps=2, classes=images.labels[0])
    assert np.array_equal(zeros[0], zeros[1])
    with pytest.raises(ganvas.OptionError, match="a latent of 100 numbers"):
        g.interpolate(5, torch.zeros(3))
    for one, other in ((between[0], first), (between[-1], last)):
        assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() <= 1
    with pytest.raises(ganvas.OptionError, match="use sample"):
        g(trained / "images" / "0.png")


def test_the_network_is_a_plain_module_with_the_runs_weights(trained):
    g = load(trained, "cycle_gan", direction="BtoA")
    weights = torch.load(trained / "checkpoints/cycle_gan/latest_net_G_B.pth", weights_only=True)
    assert all(torch.equal(value, weights[key]) for key, value in g.network.state_dict().items())
    assert not g.network.training and g.network(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    assert not any("_conv_forward" in vars(part) or "forward" in vars(part) for part in g.network.modules())
    assert "cycle_gan" in g._repr_html_()


def test_a_name_is_answered_with_the_runs_folder(trained, monkeypatch):
    monkeypatch.chdir(trained)
    with pytest.raises(ganvas.CheckpointError, match=r"did you mean checkpoints.pix2pix\?"):
        ganvas.load("pix2pix")
    with pytest.raises(ganvas.CheckpointError, match=r"did you mean checkpoints.pix2pix\?"):
        ganvas.Run("pix2pi")


def test_a_run_is_taken_for_its_folder(trained):
    run = ganvas.Run(trained / "checkpoints" / "pix2pix")
    assert repr(ganvas.load(run, device="cpu")) == repr(load(trained, "pix2pix"))


ERRORS = [
    (
        lambda t: ganvas.load(t / "checkpoints" / "pix2pic"),
        r"there is no such folder; did you mean /\S+/checkpoints/pix2pix\?$",
    ),
    (lambda t: load(t, "pix2pix", epoch=9), "there is no such file"),
    (lambda t: load(t, "pix2pix", direction="BtoA"), "omit --direction"),
    (lambda t: load(t, "pix2pix", natve=True), "did you mean"),
    (lambda t: load(t, "pix2pix")(t / "none.png"), "none.png"),
    (lambda t: load(t, "pix2pix")(t / "memory.py"), "memory.py"),
    (lambda t: load(t, "pix2pix")(t), "is a folder"),
    (lambda t: load(t, "pix2pix")(np.zeros((3, 32, 32))), "tensor"),
    (lambda t: load(t, "pix2pix")(torch.zeros(32, 32, 3)), r"permute\(2, 0, 1\)"),
    (lambda t: ganvas.load(t / "checkpoints" / "pix2pix" / "latest_net_D.pth"), "holds D, but results come from G;"),
    (
        lambda t: ganvas.load(t / "checkpoints" / "cycle_gan" / "latest_net_G_B.pth", direction="AtoB"),
        "holds G_B, but results come from G_A;",
    ),
    (
        lambda t: ganvas.load(t / "checkpoints" / "cycle_gan" / "latest_net_G_A.pth", direction="BtoA"),
        "holds G_A, but results come from G_B;",
    ),
    (
        lambda t: ganvas.load(t / "checkpoints" / "pix2pix" / "latest_net_G.pth", epoch=1),
        "is 1, but the file holds the ",
    ),
    (lambda t: ganvas.load(t / "memory.py"), "memory.py': is a file; give the folder of a run"),
    (
        lambda t: ganvas.load(t / "checkpoints" / "pix2pix", device="gpu"),
        'option \'device\': .gpu. is not a device; give "cpu", "cuda"',
    ),
    (lambda t: load(t, "pix2pix")(np.zeros(3)), "has the shape"),
    (lambda t: load(t, "pix2pix")(np.full((32, 32), np.nan)), "number 1.*not finite"),
    (lambda t: load(t, "pix2pix")(np.zeros((32, 32, 3), np.uint8), size="large"), "choose one of run, native"),
    (lambda t: load(t, "pix2pix")(np.zeros((32, 32, 3), np.uint8), label="fake_C"), "choose one of real_A, fake_B"),
    (lambda t: load(t, "pix2pix").sample(2), "call it with an image"),
]


@pytest.mark.parametrize(("call", "text"), ERRORS, ids=range(len(ERRORS)))
def test_an_error_is_the_commands_line_as_an_exception(trained, call, text):
    with pytest.raises(ganvas.UserError, match=text) as caught:
        call(trained)
    assert "<memory>" not in str(caught.value)


def test_a_call_leaves_the_process_as_it_is(trained):
    load(trained, "memory")  # imports what is needed
    before = generator_states(), threading.active_count(), torch.get_num_threads(), Image.MAX_IMAGE_PIXELS
    g = load(trained, "memory")
    g([trained / "images" / f"{n}.png" for n in range(3)])
    after = generator_states(), threading.active_count(), torch.get_num_threads(), Image.MAX_IMAGE_PIXELS
    assert states_equal(before[0], after[0]) and before[1:] == after[1:]
