"""Tiled translation equals that of the whole image, with the activations of one tile."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from inference.receptive_field import ReceptiveField, receptive_field
from inference.tile_norm import TileCore, TileNormStats
from inference.tiling import TiledForward, add_tile, tile_spans
from networks import generator
from networks.architectures.resnet import Resnet
from networks.architectures.unet import Unet
from tests.support.images import picture
from tests.support.runs import SMALL
from util.size import Size

RUN = ["--gpu_ids", -1, "--num_threads", 0]


def scene(height, width, count=1, seed=0):
    """Pictures whose parts differ, so that a tile's statistics are not the whole's."""
    torch.manual_seed(seed)
    coarse = torch.rand(count, 3, max(height // 12, 2), max(width // 12, 2)) * 2 - 1
    light = torch.linspace(-0.6, 0.6, width)
    return (F.interpolate(coarse, size=(height, width), mode="bicubic") * 0.5 + light).clamp(-1, 1)


def resnet(norm="instance", **changed):
    """A resnet of one block, which sees 20 pixels to each side, with weights that do not fade."""
    torch.manual_seed(1)
    net = Resnet(3, 3, 1, ngf=4, norm=norm, **changed)
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(m.weight, 0, 0.2)
        elif getattr(m, "affine", False):
            nn.init.normal_(m.weight, 1, 0.3)
    return net.eval()


def tiled(net, x, tile, overlap=None, shared=True):
    seen = receptive_field(net)
    size = tile if isinstance(tile, Size) else Size(tile, tile)
    with torch.inference_mode():
        return TiledForward(net, size, int(np.ceil(seen.radius)) if overlap is None else overlap, seen, shared)(x)


def whole(net, x):
    with torch.inference_mode():
        return net(x)


# --- where tiles lie ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ramp", [0, 1], ids=["plain", "blended"])
@pytest.mark.parametrize(
    ("tile", "overlap", "grain"), [(64, 20, 4), (64, 0, 4), (65, 10, 1), (128, 31, 32), (64, 16, 64)]
)
def test_tiles_cover_a_side_and_share_it_evenly(tile, overlap, grain, ramp):
    for side in range(grain, 12 * tile, grain * (29 if grain == 1 else 3)):
        found = tile_spans(side, tile, overlap, grain, ramp * overlap)
        assert (found[0].first, found[-1].last) == (0, side)
        assert (found[0].start, found[-1].stop) == (0, side)
        assert all(a.last == b.first for a, b in pairwise(found))
        assert all(s.stop - s.start <= tile for s in found)
        for a, b in pairwise(found):
            assert a.last + overlap <= a.stop and b.start <= b.first - overlap, "as far as asked beyond what is its own"
        if tile - 2 * overlap >= grain:
            assert all(s.start % grain == 0 for s in found)
        assert len(found) <= 1 + -(-side // max((tile - 2 * overlap) // grain * grain, 1)) or grain > tile - 2 * overlap
        out = torch.zeros(1, 1, side, 1)
        column = tile_spans(1, 1, 0, 1, 0)[0]
        for span in found:
            add_tile(out, torch.ones(1, 1, span.stop - span.start, 1), span, column, 0, 0)
        assert torch.allclose(out, torch.ones(()), atol=1e-6), "shares add up to one"


def test_cores_count_every_activation_once_at_every_scale():
    side, grain = 96, 8
    for scale in (1, 2, 4, 8):
        counted = torch.zeros(1, 1, side // scale, 1)
        for s in tile_spans(side, 40, 9, grain, 0):
            view = counted[:, :, s.start // scale : s.stop // scale]
            TileCore((s.first - s.start, s.last - s.start, s.stop - s.start), (0, 1, 1)).crop(view).add_(1)
        assert counted.eq(1).all()


def test_moments_met_in_parts_are_those_of_the_whole():
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64) * 3 + 100
    met = TileNormStats()
    for part in x.split([1, 0, 3, 5], 2):
        met.add(part)
    ways = {"instance_norm": (1, (2, 3)), "batch_norm": (1, (0, 2, 3)), "group_norm": (3, None)}
    for name, (groups, dims) in ways.items():
        mean, var = met.mean_and_var(name, groups)
        if dims is None:
            parts = x.reshape(2, 3, -1)
            expected = [v.repeat_interleave(2, 1) for v in (parts.mean(2), parts.var(2, correction=0))]
        else:
            expected = [
                v.expand(2, 6, 1, 1)[:, :, 0, 0] for v in (x.mean(dims, True), x.var(dims, correction=0, keepdim=True))
            ]
        assert torch.allclose(mean, expected[0], rtol=1e-12) and torch.allclose(var, expected[1], rtol=1e-12), name


# --- how far a network sees -----------------------------------------------------------------------------------------


def reach(net, side):
    """How far from a pixel its gradient reaches, measured: over all pixels of one period in the middle."""
    far = 0
    x = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    out = net(x)
    for at in range(side // 2, side // 2 + 4):
        (slope,) = torch.autograd.grad(out[:, :, at, side // 2].sum(), x, retain_graph=True)
        touched = slope.abs().sum((0, 1, 3)).nonzero().flatten()
        far = max(far, at - int(touched[0]), int(touched[-1]) - at)
    return far


@pytest.mark.parametrize("resize_conv", [False, True])
@pytest.mark.parametrize("blocks", [1, 2])
def test_the_radius_of_a_resnet_is_what_its_gradients_reach(blocks, resize_conv):
    torch.manual_seed(0)
    net = Resnet(3, 3, blocks, ngf=4, norm="none", resize_conv=resize_conv).double()
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.uniform_(m.weight, 0.1, 1)  # nothing cancels, no unit is off
            m.weight.data /= m.weight.abs().sum() / 4
    measured, (radius, multiple) = reach(net, 112), receptive_field(net)
    assert measured <= radius <= measured + 4
    assert multiple == 4


def test_the_field_of_networks_by_name_and_of_plugins():
    o = SimpleNamespace(
        ngf=1,
        norm="instance",
        no_dropout=True,
        padding="reflect",
        init_type="normal",
        init_gain=0.02,
        resize_conv=False,
    )

    def of(netG):
        o.netG = netG
        return receptive_field(generator(o, 3, 3))

    assert of("resnet_9blocks") == ReceptiveField(84, 4)
    assert of("unet_256") == ReceptiveField(765, 256)
    assert of("unet_32") == ReceptiveField(93, 32)
    odd = nn.Sequential(
        nn.Conv2d(3, 4, 5, padding=4, dilation=2), nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")
    )
    assert receptive_field(odd) == ReceptiveField(4 + 0.5 + 2, 2)
    assert receptive_field(nn.Conv2d(3, 3, 4)) is None, "another size than its input's"
    assert receptive_field(nn.Linear(3, 3)) is None


class Looks(nn.Conv2d):
    """A network that needs values, and pools the whole picture."""

    def __init__(self):
        super().__init__(3, 3, 3, padding=1)

    def forward(self, x):
        gain = 1.0 if x.mean().item() < 5 else 2.0
        return super().forward(x) * gain + F.adaptive_avg_pool2d(x, 1)


def test_a_network_that_needs_values_is_tried_with_some():
    net = Looks()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert receptive_field(net) == ReceptiveField(float("inf"), 1)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_looking_changes_no_statistics_and_no_draws():
    net = resnet("batch").train()
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    receptive_field(net)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


# --- as if it were one piece ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize_conv", [False, True])
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("norm", ["instance", "instance_affine", "batch", "syncbatch", "layer", "none"])
def test_a_resnet_makes_of_tiles_what_it_makes_of_the_whole(norm, mode, resize_conv):
    """Two pictures at once, with sides that are no multiples; also with the statistics of the batch (--no_eval)."""
    net, x = resnet(norm, resize_conv=resize_conv).train(mode == "train"), scene(151, 118, 2)
    expected = whole(net, x)
    assert expected.std() > 0.1
    assert (tiled(net, x, 72) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(90, 400), (400, 61), (5, 200), (73, 73), (72, 72)])
def test_tiles_of_other_shapes_give_the_same(size):
    net, x = resnet(), scene(*size)
    for tile in (72, Size(100, 71), Size(64, 300)):
        assert (tiled(net, x, tile) - whole(net, x)).abs().max() < 1e-4


def test_local_statistics_are_each_tiles_own():
    net, x = resnet(), scene(120, 200)
    made = tiled(net, x, 72, shared=False)
    assert (made - whole(net, x)).abs().max() > 0.1
    assert torch.equal(made[:, :, :40, :40], whole(net, x[:, :, :72, :72])[:, :, :40, :40])


def test_a_picture_that_fits_a_tile_goes_through_as_it_is():
    net, x = resnet(), scene(64, 72)
    assert torch.equal(tiled(net, x, 72), whole(net, x))


def test_no_more_than_a_tile_goes_through_at_once():
    net, sizes = resnet(), []
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            m.register_forward_pre_hook(lambda module, args: sizes.append(args[0]))
    tiled(net, scene(300, 260), Size(80, 64))
    rows, columns = zip(*(x.shape[2:] for x in sizes if x.device.type == "cpu"), strict=True)  # not those looked with
    assert (max(rows), max(columns)) == (64 + 6, 80 + 6), "a tile, and its padding"


def test_group_norm_and_a_norm_called_as_a_function_share_too():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1), nn.GroupNorm(3, 6)

        def forward(self, x):
            return F.instance_norm(self.b(self.norm(self.a(x)).relu())).tanh()

    torch.manual_seed(0)
    net, x = Own(), scene(70, 90, 2)
    assert (tiled(net, x, 32) - whole(net, x)).abs().max() < 1e-5
    assert (tiled(net, x, 32, shared=False) - whole(net, x)).abs().max() > 0.1


def test_dropout_draws_the_same_every_time_and_is_blended():
    net, x = resnet(dropout=True).train(), scene(120, 130)
    first, second = tiled(net, x, 72), tiled(net, x, 72)
    assert torch.equal(first, second)
    assert first.isfinite().all() and not torch.equal(first, tiled(net.eval(), x, 72))


def test_half_precision_is_computed_in_the_networks_own():
    net, x = resnet(), scene(100, 90)
    made = tiled(net, x.half(), 72)
    assert made.dtype == torch.half
    assert (made.float() - whole(net, x.half().float())).abs().max() < 1e-3


def test_where_tiles_differ_they_fade_into_each_other():
    """A network that paints a tile in its mean colour: from one to the next in a ramp of twice the overlap."""
    net = Looks()
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    x = torch.linspace(-1, 1, 256).expand(1, 3, 40, 256)
    for overlap, steepest in ((16, 0.06), (0, 1.0)):
        made = tiled(net, x, 64, overlap)
        assert made[..., -1].mean() - made[..., 0].mean() > 1
        assert (made.diff(dim=3).max() < steepest) and (overlap or made.diff(dim=3).max() > 0.4)


def seam(net, x, tile, overlap, shared):
    """Energy of differences across the borders of tiles over that at other places of one period, rows and columns."""
    seen, made, (energy, others) = receptive_field(net), tiled(net, x, tile, overlap, shared), ([], [])
    for dim in (2, 3):
        steps = made.diff(dim=dim).square().mean([d for d in range(4) if d != dim])
        edges = {s.first - 1 for s in tile_spans(x.shape[dim], tile, overlap, seen.multiple, overlap)[1:]}
        energy += [steps[edge].item() for edge in edges]
        others += [steps[n].item() for n in range(31, len(steps), 32) if n not in edges]
    return np.mean(energy) / np.mean(others), np.std(others) / np.mean(others) / len(energy) ** 0.5


@pytest.mark.parametrize("shared", [True, False])
def test_a_unet_shows_no_seam_where_tiles_meet(shared):
    """It sees more than a tile: neighbours are blended. Without an overlap the same measure shows the borders."""
    torch.manual_seed(2)
    net = Unet(3, 3, 5, ngf=4, norm="instance").eval()
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(m.weight, 0, 0.15)
    x = scene(512, 512, 1, seed=4)
    ratio, noise = seam(net, x, 128, 32, shared)
    assert abs(ratio - 1) < 3 * noise
    ratio, noise = seam(net, x, 128, 0, shared)
    assert abs(ratio - 1) > 6 * noise


# --- test.py --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(command, unpaired, tmp_path):
    """A run of a small CycleGAN, and pictures larger than its tiles."""
    argv = ["--dataroot", unpaired, "--name", "run", "--netG", "resnet_4blocks", "--init_gain", 0.2, *SMALL]
    ended = command("train", *argv, "--n_epochs", 1, "--n_epochs_decay", 0, "--max_dataset_size", 1)
    assert ended.code == 0, ended.err
    for side in ("A", "B"):
        (tmp_path / "huge" / f"test{side}").mkdir(parents=True)
        picture(7, 260, 170).save(tmp_path / "huge" / f"test{side}" / "0.png")

    def test(*flags):
        ended = command("test", "--name", "run", "--dataroot", "huge", "--preprocess", "none", *RUN, *flags)
        images = tmp_path / "results/run/test_latest/images"
        return ended, {p.name: np.asarray(Image.open(p)).astype(int) for p in images.glob("*.png")}

    return test


def test_test_py_gives_with_tiles_what_it_gives_without(run):
    """Both generators of a CycleGAN, one fed with the other's picture."""
    ended, plain = run()
    assert ended.code == 0, ended.err
    ended, made = run("--tile", "140x128")
    assert ended.code == 0, ended.err
    assert made.keys() == plain.keys() and len(plain) == 6
    assert all(abs(made[name] - plain[name]).max() <= 1 for name in plain)
    assert "note: network" not in ended.out
    ended, local = run("--tile", 140, "--tile_norm", "local")
    assert ended.code == 0 and max(abs(local[name] - plain[name]).max() for name in plain) > 1


def test_too_small_an_overlap_is_blended_with_a_note(run):
    for tile, asked, overlap in ((64, [], 16), (128, ["--overlap", 10], 10)):
        ended, _ = run("--tile", tile, *asked, "--tile_norm", "local")
        assert ended.code == 0, ended.err
        depends = "an output pixel of network G_A depends on the input up to 44 pixels away"
        note = f"note: {depends}, and tiles overlap by {overlap} pixels: the result differs from the untiled one, and"
        assert note + " tiles are blended; --tile 128 without --overlap gives the untiled result" in ended.out


REFUSED = {
    "no tiles": (["--overlap", 8], "'--overlap': has no effect without --tile; add --tile 512"),
    "half a tile": (
        ["--tile", 64, "--overlap", 32],
        "'--tile': 64 is not larger than twice --overlap 32; give --tile 128",
    ),
    "half of one side": (["--tile", "200x64", "--overlap", 32], "'--tile': 200x64 is not larger than twice"),
    "less than a network works on": (
        ["--tile", 3],
        "'--tile': 3 is smaller than the size multiple of network G_A, 4 pixels",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_tiled_is_refused_before_anything_is_made(what, run, tmp_path):
    flags, said = REFUSED[what]
    ended, _ = run(*flags)
    assert ended.code == 2 and said in ended.last
    assert not (tmp_path / "results").exists()


def test_a_model_without_a_network_for_pictures_is_refused(command, tmp_path):
    argv = ["--model", "cgan", "--name", "classes", "--crop_size", 16, "--n_epochs", 1, "--n_epochs_decay", 0]
    for name in ("one", "two"):
        (tmp_path / "labelled" / "train" / name).mkdir(parents=True)
        picture(3, 16, 16).save(tmp_path / "labelled" / "train" / name / "0.png")
    small = ["--gpu_ids", -1, "--ngf", 2, "--ndf", 2, "--num_threads", 0, "--display_id", 0]
    ended = command("train", "--dataroot", "labelled", *argv, *small)
    assert ended.code == 0, ended.err
    ended = command("test", "--name", "classes", "--tile", 64, *RUN)
    assert ended.code == 2
    assert "'--tile': cgan has no network whose output has the size of its input; omit --tile" in ended.last
