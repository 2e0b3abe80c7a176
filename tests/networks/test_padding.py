"""Every generator takes images of any size, and --resize_conv upsamples without a checkerboard pattern."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from networks import generator
from networks.architectures.dcgan import ClassGenerator
from networks.infer_architecture import infer_class_network, infer_generator
from networks.padding import any_size, padded_side, reflect_pad, reflected_indices
from networks.upsample import ResizeConv
from tests.support.architectures import NAMES, OF_PIX2PIXHD
from tests.support.images import ODD_SIDES
from tests.support.runs import SMALL

GENERATORS = NAMES["generator"]
OF_ONE_PART = [name for name in GENERATORS if name != "local"]  # whose layers are `model`
USUAL = dict(ngf=1, norm="instance", no_dropout=True, padding="reflect", init_type="normal", init_gain=0.1,
             resize_conv=False, n_downsample_global=2, n_blocks_global=1, n_local_enhancers=1,
             n_blocks_local=1)  # fmt: skip
RATIOS = ((16, 64), (64, 16), (36, 64), (48, 32), (20, 180))  # height, width
TINY = ((1, 1), (1, 40), (2, 3), (7, 5))  # of single pictures of test.py --native
MULTIPLES = {"unet_256": 256, "unet_128": 128, "unet_64": 64, "unet_32": 32}  # others: 4


def build(netG, channels=3, **changed):
    torch.manual_seed(0)
    return generator(SimpleNamespace(**(USUAL | {"netG": netG} | changed)), channels, channels)


# --- padded around, and cut back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize_conv", [False, True], ids=["transposed", "resized"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("netG", GENERATORS)
def test_a_picture_of_any_size_keeps_its_size_and_gradients(netG, norm, resize_conv):
    """In training mode, one at a time, where a norm over a single value would raise."""
    net = build(netG, norm=norm, resize_conv=resize_conv)
    sizes = [(side, side) for side in ODD_SIDES] + list(RATIOS) + list(TINY)
    for height, width in sizes[resize_conv :: 1 + resize_conv]:
        x = (torch.rand(1, 3, height, width) * 2 - 1).requires_grad_(True)
        out = net(x)
        assert out.shape == x.shape
        assert out.isfinite().all() and out.abs().max() <= 1
        slopes = torch.autograd.grad((out - 2).square().sum(), [x, *net.parameters()])
        assert all(slope.isfinite().all() for slope in slopes)
        assert any(slope.any() for slope in slopes[1:])


@pytest.mark.parametrize("netG", OF_ONE_PART)
def test_a_size_that_fits_is_left_alone_to_the_bit(netG):
    """Output and gradients are those of the layers alone; the layers are given the picture itself, not a copy."""
    net, least = build(netG), MULTIPLES.get(netG, 8)
    for size in ((least, least), (2 * least, least)):
        x = (torch.rand(1, 3, *size) * 2 - 1).requires_grad_(True)
        given: list[torch.Tensor] = []
        hook = net.model.register_forward_pre_hook(lambda module, args, seen=given: seen.append(args[0]))
        out = net(x)
        hook.remove()
        alone = net.model(x)
        assert given[0] is x
        assert torch.equal(out, alone)
        ours, theirs = (torch.autograd.grad(y.square().sum(), [x, *net.parameters()]) for y in (out, alone))
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("netG", OF_ONE_PART)
def test_another_size_is_padded_around_as_by_numpy_and_cut_back(netG):
    net, multiple = build(netG), MULTIPLES.get(netG, 4)
    for height, width in ((30, 37), (5, 50), (65, 257), (1, 2)):
        x = torch.rand(1, 3, height, width) * 2 - 1
        least = 8 if multiple == 4 else 1
        rows, columns = (-(-max(side, least) // multiple) * multiple for side in (height, width))
        top, left = (rows - height) // 2, (columns - width) // 2
        wider = ((0, 0), (0, 0), (top, rows - height - top), (left, columns - width - left))
        padded = torch.from_numpy(np.pad(x.numpy(), wider, mode="reflect"))
        assert torch.equal(net(x), net.model(padded)[:, :, top : top + height, left : left + width])


def test_places_reflect_as_often_as_needed_as_numpy_does():
    for side in range(1, 12):
        for before in range(0, 40, 3):
            for after in (0, 1, 2, 7, 30):
                expected = np.pad(np.arange(side), (before, after), mode="reflect")
                assert np.array_equal(reflected_indices(side, before, side + before + after), expected)


def test_padding_equals_torchs_with_its_gradients():
    x = torch.rand(2, 3, 9, 14, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 3, 16, 20, dtype=torch.float64)
    ours = reflect_pad(x, (3, 16), (2, 20))
    theirs = F.pad(x, (2, 4, 3, 4), mode="reflect")
    assert torch.equal(ours, theirs)
    (a,), (b,) = (torch.autograd.grad((y * weights).sum(), x) for y in (ours, theirs))
    assert torch.allclose(a, b, rtol=1e-14)
    assert torch.autograd.gradcheck(lambda y: any_size(lambda z: z * z.roll(1, 2), y, 8), x[:1, :1, :3, :5])


def test_pixels_go_on_both_sides_alike_and_one_more_behind():
    assert [padded_side(side, 8) for side in (8, 9, 13, 15, 16, 1)] == [
        (0, 8),
        (3, 16),
        (1, 16),
        (0, 16),
        (0, 16),
        (3, 8),
    ]
    assert [padded_side(side, 4, 8) for side in (1, 4, 7, 8, 9)] == [(3, 8), (2, 8), (0, 8), (0, 8), (1, 12)]


def test_any_size_serves_a_network_of_a_plugin(process, paired, tmp_path):
    """A generator that raises for odd sides trains and tests on them once its forward is wrapped."""
    (tmp_path / "odd.py").write_text(
        "from torch import nn\nfrom networks import GENERATORS\nfrom networks.padding import any_size\n\n\n"
        "class Shuffled(nn.Module):\n    def __init__(self, o, input_nc, output_nc):\n        super().__init__()\n"
        "        self.model = nn.Sequential(nn.PixelUnshuffle(8), nn.Conv2d(64 * input_nc, 64 * output_nc, 1),\n"
        "                                   nn.PixelShuffle(8), nn.Tanh())\n\n"
        "    def forward(self, x):\n        return any_size(self.model, x, multiple=8)\n\n\n"
        "GENERATORS['shuffled'] = Shuffled\n"
    )
    flags = ["--plugin", "odd.py", "--netG", "shuffled", "--name", "odd", "--load_size", 35, "--crop_size", 35]
    argv = ["--dataroot", paired, "--model", "pix2pix", *SMALL, *flags, "--n_epochs", 1, "--n_epochs_decay", 0]
    assert (ended := process("train", *argv)).code == 0, ended.err
    ended = process("test", "--name", "odd", "--num_test", 1, "--gpu_ids", -1)
    assert ended.code == 0, ended.err


# --- resize, then convolve ------------------------------------------------------------------------------------------


def checkerboard(net, side):
    """Share of a picture's energy that repeats with period 2: between the means of its four phases, borders left out.

    The picture is what a network in evaluation mode makes of one colour with a grain of noise, which has nothing of
    that period in it. Of a colour alone an exact instance norm leaves zeros.
    """
    grain = 1e-3 * torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    inner = slice(3 * side // 8, 5 * side // 8)
    with torch.inference_mode():
        out = net.eval()(0.3 + grain).double()[0, :, inner, inner]
    phases = torch.stack([out[:, i::2, j::2].mean((1, 2)) for i in (0, 1) for j in (0, 1)])
    return (phases.var(0, correction=0).sum() / out.square().mean((1, 2)).sum()).item()


@pytest.mark.parametrize("netG", ["resnet_4blocks", "unet_32", "unet_64"])
def test_resizing_draws_no_checkerboard(netG):
    """Transposed convolutions with random weights draw one on a plain colour, resized ones none but at the border."""
    drawn = {}
    for resize_conv in (False, True):
        net = build(netG, resize_conv=resize_conv, ngf=8, norm="none", init_type="kaiming")
        drawn[resize_conv] = checkerboard(net, 256)
    assert drawn[False] > 1e-4
    assert drawn[True] < drawn[False] / 100


def test_resizing_leaves_less_of_a_checkerboard():
    left = {}
    for resize_conv in (False, True):
        net = build("resnet_4blocks", resize_conv=resize_conv, ngf=4)
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for _ in range(8):
            optimizer.zero_grad()
            (net(torch.rand(1, 3, 32, 32) * 2 - 1) - 0.5).abs().mean().backward()
            optimizer.step()
        left[resize_conv] = checkerboard(net, 256)
    assert left[False] > 1e-2
    assert left[True] < left[False] / 100


@pytest.mark.parametrize("netG", [name for name in GENERATORS if name not in OF_PIX2PIXHD])
def test_resizing_keeps_places_and_keys_and_is_told_from_shapes(netG):
    """Only the weights of upsampling layers differ: (out, in, 3, 3); a bare file needs no flag."""
    with torch.device("meta"):
        plain, resized = (build(netG, resize_conv=choice, ngf=2).state_dict() for choice in (False, True))
    assert list(plain) == list(resized)
    differing = {key: tuple(value.shape) for key, value in resized.items() if value.shape != plain[key].shape}
    ups = 2 if netG.startswith("resnet") else MULTIPLES[netG].bit_length() - 1
    assert len(differing) == ups
    assert all(shape[2:] == (3, 3) for shape in differing.values())
    assert all(shape[0] == plain[key].shape[1] and shape[1] == plain[key].shape[0] for key, shape in differing.items())
    for state, choice in ((plain, False), (resized, True)):
        found = infer_generator(state)
        assert (found["netG"], found["ngf"], found["input_nc"], found["output_nc"]) == (netG, 2, 3, 3)
        assert found["resize_conv"] is choice


def test_a_class_generator_resizes_too():
    for resize_conv in (False, True):
        net = ClassGenerator(5, 3, 16, 9, 8, ngf=2, resize_conv=resize_conv)
        assert sum(isinstance(m, ResizeConv) for m in net.modules()) == 2 * resize_conv
        assert sum(isinstance(m, nn.ConvTranspose2d) for m in net.modules()) == 1 + 2 * (not resize_conv)
        assert net(torch.zeros(2, 9), torch.tensor([0, 4])).shape == (2, 3, 16, 16)
        found = infer_class_network(net.state_dict())
        expected = {"ngf": 2, "output_nc": 3, "latent_dim": 9, "embedding_dim": 8, "crop_size": 16, "classes": 5}
        assert {name: found[name] for name in expected} == expected
        assert found["resize_conv"] is resize_conv


def test_a_run_that_resizes_is_tested_and_shared_without_a_flag(command, paired, tmp_path):
    argv = ["--dataroot", paired, "--model", "pix2pix", "--netG", "unet_32", "--resize_conv", "--name", "smooth"]
    ended = command("train", *argv, *SMALL, "--n_epochs", 1, "--n_epochs_decay", 0)
    assert ended.code == 0, ended.err
    assert (ended := command("test", "--name", "smooth", "--gpu_ids", -1)).code == 0, ended.err
    bare = tmp_path / "checkpoints" / "bare"
    bare.mkdir()
    (tmp_path / "checkpoints/smooth/latest_net_G.pth").rename(bare / "latest_net_G.pth")
    ended = command("test", "--name", "bare", "--dataroot", paired / "test", "--crop_size", 32, "--gpu_ids", -1)
    assert ended.code == 0, ended.err
    assert "--resize_conv True" in ended.out
    ended = command("test", "--name", "bare", "--no_resize_conv", "--dataroot", paired / "test", "--gpu_ids", -1)
    assert ended.code == 4
    assert "it was made with --resize_conv" in ended.last
