"""Networks have the reference's keys, shapes, sizes, value ranges and initial distributions."""

import math
import os
import re

import pytest
import torch
from torch import nn

from networks import discriminator, generator
from networks.architectures.patchgan import PatchDiscriminator, PixelDiscriminator
from networks.init import init_weights
from networks.norm import SyncBatchNorm, batch
from networks.padding import checked_sizes
from networks.predictions import scales
from networks.summary import layer_table, parameter_count, receptive_field
from tests.support.architectures import NAMES, flags
from tests.support.runs import options
from util.errors import DataError, OptionError

# --- names, shapes and counts, as published -------------------------------------------------------------------------
# (outer, inner) channels of each level of a U-Net between the outermost and the innermost
LEVELS = {
    8: [(64, 128), (128, 256), (256, 512), (512, 512), (512, 512), (512, 512)],
    7: [(64, 128), (128, 256), (256, 512), (512, 512), (512, 512)],
}


def batch_norm(name, n):
    statistics = {f"{name}.{key}": (n,) for key in ("weight", "bias", "running_mean", "running_var")}
    return statistics | {f"{name}.num_batches_tracked": ()}


def resnet_keys(blocks, norm, dropout):
    """The published listing: up-convolutions at 10+n and 13+n, the last at 17+n; dropout moves .5 to .6."""
    second, up1, up2, last = 6 if dropout else 5, 10 + blocks, 13 + blocks, 17 + blocks
    rows = [("1", "2", (64, 3, 7, 7), 64), ("4", "5", (128, 64, 3, 3), 128), ("7", "8", (256, 128, 3, 3), 256),
            (up1, up1 + 1, (256, 128, 3, 3), 128), (up2, up2 + 1, (128, 64, 3, 3), 64)]  # fmt: skip
    for block in range(10, 10 + blocks):
        for conv in (1, second):
            rows.append((f"{block}.conv_block.{conv}", f"{block}.conv_block.{conv + 1}", (256, 256, 3, 3), 256))
    found = {f"model.{last}.weight": (3, 64, 7, 7), f"model.{last}.bias": (3,)}
    for conv, after, shape, channels in rows:
        found[f"model.{conv}.weight"] = shape
        found |= {f"model.{conv}.bias": (channels,)} if norm == "instance" else {}
        found |= batch_norm(f"model.{after}", channels) if norm == "batch" else {}
    return found


def unet_keys(depth, norm):
    """The published listing: each level inside the last one's `.3`, the first inside `model.1`."""
    biased = norm == "instance"
    found = {"model.model.0.weight": (64, 3, 4, 4), "model.model.3.weight": (128, 3, 4, 4), "model.model.3.bias": (3,)}
    if biased:
        found["model.model.0.bias"] = (64,)
    place = "model.model.1.model"
    for outer, inner in LEVELS[depth]:
        found[f"{place}.1.weight"] = (inner, outer, 4, 4)
        found[f"{place}.5.weight"] = (2 * inner, outer, 4, 4)
        if biased:
            found |= {f"{place}.1.bias": (inner,), f"{place}.5.bias": (outer,)}
        if norm == "batch":
            found |= batch_norm(f"{place}.2", inner) | batch_norm(f"{place}.6", outer)
        place += ".3.model"
    found |= {f"{place}.1.weight": (512, 512, 4, 4), f"{place}.3.weight": (512, 512, 4, 4)}
    if biased:
        found |= {f"{place}.1.bias": (512,), f"{place}.3.bias": (512,)}
    return found | (batch_norm(f"{place}.4", 512) if norm == "batch" else {})


def patch_keys(input_nc, norm):
    found = {"model.0.weight": (64, input_nc, 4, 4), "model.0.bias": (64,),
             "model.11.weight": (1, 512, 4, 4), "model.11.bias": (1,)}  # fmt: skip
    for place, before, after in ((2, 64, 128), (5, 128, 256), (8, 256, 512)):
        found[f"model.{place}.weight"] = (after, before, 4, 4)
        found |= {f"model.{place}.bias": (after,)} if norm == "instance" else {}
        found |= batch_norm(f"model.{place + 1}", after) if norm == "batch" else {}
    return found


def pixel_keys(input_nc, norm):
    found = {"net.0.weight": (64, input_nc, 1, 1), "net.0.bias": (64,), "net.2.weight": (128, 64, 1, 1),
             "net.5.weight": (1, 128, 1, 1)}  # fmt: skip
    found |= {"net.2.bias": (128,), "net.5.bias": (1,)} if norm == "instance" else {}
    return found | (batch_norm("net.3", 128) if norm == "batch" else {})


PUBLISHED = {  # what the published listings call it: (how to build it, its keys and shapes, tensors, parameters)
    "resnet_9blocks instance no_dropout": (
        dict(netG="resnet_9blocks"), resnet_keys(9, "instance", False), 48, 11378179),
    "resnet_6blocks instance no_dropout": (
        dict(netG="resnet_6blocks"), resnet_keys(6, "instance", False), 36, 7837699),
    "resnet_9blocks instance dropout": (
        dict(netG="resnet_9blocks", no_dropout=False), resnet_keys(9, "instance", True), 48, 11378179),
    "resnet_9blocks batch dropout": (
        dict(netG="resnet_9blocks", norm="batch", no_dropout=False), resnet_keys(9, "batch", True), 140, 11383427),
    "resnet_9blocks batch no_dropout": (
        dict(netG="resnet_9blocks", norm="batch"), resnet_keys(9, "batch", False), 140, 11383427),
    "unet_256 batch dropout": (
        dict(netG="unet_256", norm="batch", no_dropout=False), unet_keys(8, "batch"), 82, 54413955),
    "unet_256 batch no_dropout": (dict(netG="unet_256", norm="batch"), unet_keys(8, "batch"), 82, 54413955),
    "unet_256 instance": (dict(netG="unet_256"), unet_keys(8, "instance"), 32, 54409603),
    "unet_128 batch": (dict(netG="unet_128", norm="batch"), unet_keys(7, "batch"), 70, 41828995),
    "basic D batch 6ch": (dict(netD="basic", norm="batch", input_nc=6), patch_keys(6, "batch"), 22, 2768705),
    "basic D instance 3ch": (dict(netD="basic", input_nc=3), patch_keys(3, "instance"), 10, 2764737),
    "pixel D batch 6ch": (dict(netD="pixel", norm="batch", input_nc=6), pixel_keys(6, "batch"), 9, 9024),
    "pixel D instance 3ch": (dict(netD="pixel", input_nc=3), pixel_keys(3, "instance"), 6, 8705),
}  # fmt: skip


def build(input_nc=None, **changed):
    """Build a network without memory for its weights: a discriminator where input_nc is given."""
    with torch.device("meta"):
        if input_nc is not None:
            return discriminator(flags(**changed), input_nc)
        return generator(flags(**changed), 3, 3)


def shapes(net):
    return {key: tuple(value.shape) for key, value in net.state_dict().items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_shapes_and_counts_are_the_published_ones(name):
    how, keys, tensors, parameters = PUBLISHED[name]
    net = build(**how)
    assert shapes(net) == keys
    assert len(keys) == tensors
    assert parameter_count(net) == parameters


def test_keys_are_those_of_the_reference_listings(shared):
    """Every listing in FORMATS.md, line by line, and every count in its line of counts."""
    text = (shared / "reference" / "FORMATS.md").read_text()
    listings = re.findall(r"^`([^`|]+) \| tensors (\d+) \| params (\d+)`\n```\n(.*?)```", text, re.M | re.S)
    assert len(listings) == 6
    for name, tensors, parameters, body in listings:
        lines = [re.fullmatch(r"(\S+) \(([\d, ]*)\)", line).groups() for line in body.strip().splitlines()]
        expected = {key: tuple(int(n) for n in shape.split(",") if n.strip()) for key, shape in lines}
        net = build(**PUBLISHED[name][0])
        assert shapes(net) == expected, name
        assert (len(expected), parameter_count(net)) == (int(tensors), int(parameters)), name
    counts = re.search(r"Parameter counts: (.*)\.\n", text)[1]
    stated = re.findall(r"([^;]+?) ([\d,]{5,}) \((\d+)(?: tensors)?\)", counts)
    assert len(stated) == 10
    ours = {(parameters, tensors) for _, _, tensors, parameters in PUBLISHED.values()}
    assert {(int(count.replace(",", "")), int(tensors)) for _, count, tensors in stated} <= ours


@pytest.mark.parametrize("netD", ["basic", "n_layers", "pixel"])
@pytest.mark.parametrize("netG", ["resnet_4blocks", "unet_32"])
def test_syncbatch_has_batchs_keys_and_none_has_no_norm(netG, netD):
    for how in (dict(netG=netG), dict(netD=netD, input_nc=3)):
        with_batch = shapes(build(**how, norm="batch"))
        assert shapes(build(**how, norm="syncbatch")) == with_batch
        gone = {key for key in with_batch if "running_mean" in key}
        norms = {key.removesuffix("running_mean") for key in gone}
        without = {key: shape for key, shape in with_batch.items() if not any(key.startswith(n) for n in norms)}
        assert norms
        assert shapes(build(**how, norm="none")) == without


@pytest.mark.parametrize(("netG", "halvings"), [("unet_32", 5), ("unet_64", 6), ("unet_128", 7), ("unet_256", 8)])
def test_unets_halve_their_pictures_as_often_as_their_name_says(netG, halvings):
    net = build(netG=netG)
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == halvings
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in net.modules()) == halvings


DROPOUTS = {"resnet_4blocks": 4, "resnet_6blocks": 6, "resnet_9blocks": 9,
            "unet_32": 0, "unet_64": 1, "unet_128": 2, "unet_256": 3}  # fmt: skip


@pytest.mark.parametrize(("netG", "dropouts"), DROPOUTS.items())
def test_dropout_is_where_the_reference_has_it_or_gone(netG, dropouts):
    def count(net):
        return sum(isinstance(m, nn.Dropout) and m.p == 0.5 for m in net.modules())

    assert count(build(netG=netG, no_dropout=False)) == dropouts
    assert count(build(netG=netG, no_dropout=True)) == 0


# --- what goes in and what comes out --------------------------------------------------------------------------------


def fitting(netG):
    """Return the smallest (height, width), one twice the other, that a generator's layers take as they are."""
    side = int(netG.removeprefix("unet_")) if netG.startswith("unet") else 8
    return side, 2 * side


# a U-Net pads with zeros whatever --padding says
PADDED = [
    (netG, padding)
    for netG in NAMES["generator"]
    for padding in ("reflect", "replicate", "zero")
    if padding == "reflect" or not netG.startswith("unet")
]


@pytest.mark.parametrize(("netG", "padding"), PADDED)
@pytest.mark.parametrize("no_dropout", [True, False], ids=["no_dropout", "dropout"])
@pytest.mark.parametrize("norm", NAMES["norm"])
def test_generators_keep_the_size_and_stay_within_one(netG, norm, no_dropout, padding):
    """For 1, 3 and 4 channels on either side; weights of gain 1 would leave [-1, 1] at once without the tanh."""
    for input_nc, output_nc in ((1, 3), (3, 4), (4, 1)):
        torch.manual_seed(input_nc)
        o = flags(netG=netG, norm=norm, no_dropout=no_dropout, padding=padding, ngf=2, init_gain=1.0)
        net = generator(o, input_nc, output_nc)
        height, width = fitting(netG)
        out = net(torch.rand(2, input_nc, height, width) * 2 - 1)
        assert out.shape == (2, output_nc, height, width)
        assert out.isfinite().all()
        assert out.abs().max() <= 1
        assert out.std() > 0.1


@pytest.mark.parametrize("netG", [name for name in NAMES["generator"] if name.startswith("unet")])
def test_padding_changes_nothing_in_a_unet(netG):
    nets = []
    for padding in ("reflect", "zero"):
        torch.manual_seed(0)
        nets.append(generator(flags(netG=netG, padding=padding, ngf=1), 3, 3).state_dict())
    assert nets[0].keys() == nets[1].keys()
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])


@pytest.mark.parametrize("padding", ["reflect", "replicate", "zero"])
def test_padding_pads_residual_blocks_as_it_says(padding):
    """A block of one averaging convolution shows at its border what lies beyond it."""
    from networks.architectures.resnet import ResnetBlock

    torch.manual_seed(0)
    block = ResnetBlock(1, lambda channels: nn.Identity(), False, False, padding)
    for conv in (m for m in block.modules() if isinstance(m, nn.Conv2d)):
        nn.init.constant_(conv.weight, 1.0)
    x = torch.rand(1, 1, 5, 6)
    once = x
    mode = {"reflect": "reflect", "replicate": "replicate", "zero": "constant"}[padding]
    for _ in range(2):
        once = nn.functional.conv2d(nn.functional.pad(once, (1, 1, 1, 1), mode=mode), torch.ones(1, 1, 3, 3))
    assert torch.allclose(block(x), x + once)


@pytest.mark.parametrize("norm", NAMES["norm"])
@pytest.mark.parametrize("netG", NAMES["generator"])
def test_dropout_is_random_in_training_and_off_in_evaluation(netG, norm):
    torch.manual_seed(0)
    net = generator(flags(netG=netG, norm=norm, no_dropout=False, ngf=2, init_gain=0.5), 3, 3)
    x = torch.rand(1, 3, *fitting(netG))
    random = any(isinstance(m, nn.Dropout) for m in net.modules())
    assert torch.equal(net(x), net(x)) != random
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("norm", NAMES["norm"])
@pytest.mark.parametrize("netD", NAMES["discriminator"])
def test_discriminators_judge_every_channel_count_without_bounds(netD, norm):
    for input_nc in (1, 3, 4):
        torch.manual_seed(input_nc)
        net = discriminator(flags(netD=netD, norm=norm, ndf=2, init_gain=4.0), input_nc)
        for out in scales(net(torch.rand(2, input_nc, 64, 48) * 2 - 1)):
            assert out.shape[:2] == (2, 1)
            assert out.isfinite().all()
            assert out.abs().max() > 1, "no squashing at the end: the objectives take logits"


@pytest.mark.parametrize("layers", range(1, 6))
def test_patch_discriminators_give_one_output_a_patch(layers):
    """Each stride-2 layer halves, the two last layers each take one off; 8 layers of channels at most 8 * ndf."""
    net = discriminator(flags(netD="n_layers", n_layers_D=layers, ndf=2), 3)
    height, width = 4 * 2**layers, 6 * 2**layers
    assert net(torch.zeros(1, 3, height, width)).shape == (1, 1, 4 - 2, 6 - 2)
    widths = [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [2 * min(2**n, 8) for n in range(layers + 1)] + [1]


def test_multiscale_judges_halved_images_by_own_networks():
    """Each scale is a PatchGAN on the image averaged over 3x3 pixels at every second one, borders by what is there."""
    net = discriminator(flags(netD="multiscale", n_layers_D=2, num_D=3, ndf=2), 3).double()
    x = torch.rand(2, 3, 61, 50, dtype=torch.double)
    outputs = net(x)
    assert [tuple(out.shape) for out in outputs] == [(2, 1, 13, 10), (2, 1, 5, 4), (2, 1, 2, 1)]
    for scale, out in zip(net.scales, outputs, strict=True):
        assert torch.allclose(scale(x), out, rtol=1e-9)
        rows, columns = ([range(max(0, n - 1), min(side, n + 2)) for n in range(0, side, 2)] for side in x.shape[2:])
        x = torch.stack([torch.stack([x[:, :, r][..., c].mean((2, 3)) for c in columns], -1) for r in rows], -2)
    assert shapes(net.scales[0]) == shapes(discriminator(flags(netD="n_layers", n_layers_D=2, ndf=2), 3))


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_multiscale_refuses_less_than_its_smallest_size(scales):
    net = discriminator(flags(netD="multiscale", n_layers_D=1, num_D=scales, ndf=2), 3)
    assert all(out.numel() for out in net(torch.rand(1, 3, net.min_side, net.min_side)))
    with pytest.raises(DataError, match=rf"{scales} scales need sides of at least {net.min_side}"):
        net(torch.rand(1, 3, net.min_side - 1, 64))
    with pytest.raises(DataError):
        net.scales[-1](torch.rand(1, 3, -(-(net.min_side - 1) // 2 ** (scales - 1)), 64))


def test_basic_is_n_layers_3_and_pixel_keeps_every_pixel():
    assert shapes(build(netD="n_layers", n_layers_D=3, input_nc=6)) == shapes(build(netD="basic", input_nc=6))
    assert shapes(build(netD="basic", n_layers_D=5, input_nc=6)) == shapes(build(netD="basic", input_nc=6))
    assert discriminator(flags(netD="basic", ndf=2), 3)(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    assert discriminator(flags(netD="pixel", ndf=2), 3)(torch.zeros(1, 3, 5, 7)).shape == (1, 1, 5, 7)


# --- sizes that do not fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NAMES["norm"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_a_discriminator_refuses_less_than_its_smallest_size(layers, norm):
    net = discriminator(flags(netD="n_layers", n_layers_D=layers, norm=norm, ndf=2), 3)
    least = net.min_side
    out = net(torch.rand(1, 3, least, least))
    assert out.numel() >= 1
    assert out.isfinite().all()
    with pytest.raises(DataError, match=f"at least {least}"):
        net(torch.rand(1, 3, least - 1, least))


def test_sizes_are_checked_before_training_naming_the_option():
    nets = [generator(flags(netG="unet_64", ngf=1), 3, 3), discriminator(flags(ndf=1), 3), nn.Conv2d(3, 3, 1)]
    with checked_sizes(nn.ModuleList(nets)):
        for net, size in zip(nets, [(5, 7), (24, 129), (3, 3)]):  # each by the images that it is given
            net(torch.rand(1, 3, *size))
    with pytest.raises(OptionError) as caught, checked_sizes(nn.ModuleList(nets)):
        nets[1](torch.rand(1, 3, 23, 128))
    assert "'--crop_size': images are 128x23; this discriminator needs sides of at least 24" in str(caught.value)
    assert str(caught.value).endswith("or another --netD")
    judge = nn.Identity()
    judge.check_size = nets[1].check_size  # a plug-in's own, whose forward checks nothing
    with pytest.raises(OptionError, match="images are 23x23"), checked_sizes(judge):
        judge(input=torch.rand(1, 3, 23, 23))


def test_train_refuses_a_size_its_discriminator_cannot_judge(command, paired):
    """Before the first step, in one line, as an error of options."""
    ended = command(
        "train",
        "--model",
        "pix2pix",
        "--dataroot",
        paired,
        "--gpu_ids",
        -1,
        "--ngf",
        1,
        "--ndf",
        1,
        "--load_size",
        20,
        "--crop_size",
        20,
        "--num_threads",
        0,
        "--display_id",
        0,
    )
    assert ended.code == 2
    assert ended.last.startswith("error: option '--crop_size': images are 20x20; this discriminator needs sides of")
    assert len(ended.err.strip().splitlines()) == 1


# --- initial weights ------------------------------------------------------------------------------------------------


def deviation(init_type, gain, weight):
    """Return the standard deviation that an initialiser promises for a weight (out, in, k, k)."""
    field = weight[0, 0].numel()
    fan_out, fan_in = weight.shape[0] * field, weight.shape[1] * field
    return {
        "normal": gain,
        "xavier": gain * math.sqrt(2 / (fan_in + fan_out)),
        "kaiming": math.sqrt(2 / fan_in),
        "orthogonal": gain / math.sqrt(max(weight.shape[0], fan_in)),
    }[init_type]


@pytest.mark.parametrize("gain", [0.02, 0.5])
@pytest.mark.parametrize("init_type", ["normal", "xavier", "kaiming", "orthogonal"])
def test_weights_are_drawn_as_the_initialiser_says(init_type, gain):
    """Convolutions and their transposes: mean 0, the promised spread, a bell; and rows at right angles."""
    torch.manual_seed(0)
    o = flags(netG="unet_32", norm="instance", ngf=12, init_type=init_type, init_gain=gain)
    net = generator(o, 3, 3)
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert len(layers) == 10
    drawn = []
    for layer in layers:
        weight = layer.weight.detach()
        drawn.append((weight / deviation(init_type, gain, weight)).flatten())
        if init_type == "orthogonal":
            rows = weight.flatten(1)
            rows = rows if rows.shape[0] <= rows.shape[1] else rows.T
            assert torch.allclose(rows @ rows.T, gain**2 * torch.eye(len(rows)), atol=1e-5 * gain**2 + 1e-7)
        else:
            n = weight.numel()
            assert drawn[-1].std().item() == pytest.approx(1, abs=5 / math.sqrt(2 * n))
            assert drawn[-1].mean().item() == pytest.approx(0, abs=5 / math.sqrt(n))
    together = torch.cat(drawn)
    assert together.std().item() == pytest.approx(1, abs=0.01)
    within = (together.abs() < 1).float().mean().item()  # a bell has 68.3 % within one deviation, a box 57.7 %
    assert within == pytest.approx(0.683, abs=0.01)


@pytest.mark.parametrize("init_type", NAMES["initialiser"])
def test_biases_start_at_zero_and_norms_near_one(init_type):
    torch.manual_seed(0)
    gain = 0.02
    for norm in ("batch", "syncbatch", "instance"):
        o = flags(netG="resnet_4blocks", norm=norm, ngf=16, ndf=32, init_type=init_type, init_gain=gain)
        for net in (generator(o, 3, 3), discriminator(o, 3)):
            biases = [p for key, p in net.named_parameters() if key.endswith("bias")]
            assert biases
            assert all(bool((b == 0).all()) for b in biases)
            norms = [m.weight.detach() for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
            assert bool(norms) == (norm != "instance")
            if norms:
                together = torch.cat(norms)
                n = len(together)
                assert together.mean().item() == pytest.approx(1, abs=5 * gain / math.sqrt(n))
                assert together.std().item() == pytest.approx(gain, rel=5 / math.sqrt(2 * n))


@pytest.mark.parametrize("init_type", NAMES["initialiser"])
def test_initial_weights_follow_the_seed_alone(init_type):
    def drawn(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in discriminator(flags(ndf=4, init_type=init_type), 3).parameters()])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_linear_layers_and_affine_norms_of_plugins_are_drawn_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(100, 100), nn.InstanceNorm2d(1000, affine=True), nn.Conv3d(4, 4, 3), nn.ReLU())
    init_weights(net, "normal", 0.1)
    assert net[0].weight.std().item() == pytest.approx(0.1, rel=0.05)
    assert (net[1].weight.mean().item(), net[1].weight.std().item()) == pytest.approx((1, 0.1), abs=0.02)
    assert all(bool((net[n].bias == 0).all()) for n in range(3))


# --- SyncBatchNorm --------------------------------------------------------------------------------------------------


def seeded_like(layer, seed):
    """Give a norm weights and running statistics that are not the neutral ones."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias, layer.running_mean):
            tensor.copy_(torch.randn_like(tensor))
        layer.running_var.copy_(torch.rand_like(layer.running_var) + 0.5)
    return layer


def test_syncbatchnorm_in_one_process_is_batchnorm():
    ours, torchs = (seeded_like(kind(5).double(), 3) for kind in (SyncBatchNorm, batch))
    for training in (True, True, False):
        values = torch.randn(3, 5, 4, 6, dtype=torch.double)
        xs = [values.clone().requires_grad_() for _ in range(2)]
        for layer, x in zip((ours, torchs), xs, strict=True):
            layer.train(training)
            layer.zero_grad()
            layer(x).pow(3).sum().backward()
        assert torch.equal(ours(xs[0]), torchs(xs[1]))
        assert torch.equal(xs[0].grad, xs[1].grad)
        for key, value in torchs.state_dict().items():
            assert torch.equal(ours.state_dict()[key], value), key
        for mine, theirs in zip(ours.parameters(), torchs.parameters(), strict=True):
            assert torch.equal(mine.grad, theirs.grad)


def small_net(norm):
    torch.manual_seed(7)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), norm(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 3, 3), norm(3))
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            seeded_like(layer, 11)
    return net


def first_and_second(net, x):
    """Return what a training step with a penalty needs: output, slope on the input, slopes of the slope's square."""
    x = x.clone().requires_grad_()
    out = net(x)
    (slope,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
    penalty = slope.square().sum() + out.square().sum()
    second = torch.autograd.grad(penalty, [x, *net.parameters()])
    return {"out": out.detach(), "slope": slope.detach(), "second": second[0], "weights": list(second[1:])}


SPLITS = {"even": (2, 2), "uneven": (3, 1)}


def whole_batch():
    draws = torch.Generator().manual_seed(5)
    return torch.randn(4, 2, 7, 6, generator=draws, dtype=torch.double) * 1.5 + 0.7


def one_rank(rank, folder, both_done):
    """Run one of two processes: its part of the batch through the same network, results into a file."""
    import datetime

    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    found = {}
    for name, sizes in SPLITS.items():
        net = small_net(SyncBatchNorm).double()
        part = whole_batch().split(list(sizes))[rank]
        found[name] = first_and_second(net, part) | {"state": dict(net.state_dict())}
        if rank == 0:  # evaluation asks nobody: it would hang here if it did
            found[name]["eval"] = net.eval()(part).detach()
    torch.manual_seed(rank)
    far = torch.randn(8, 3, 16, 16) + 100
    found["far"] = {"x": far, "out": SyncBatchNorm(3)(far).detach()}
    torch.save(found, f"{folder}/rank{rank}.pt")
    both_done.wait(60)  # else one may close connections that the other still reads from, which aborts it
    os._exit(0)  # gloo's own teardown, of two processes at once, aborts one of them now and then


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What each of two gloo processes got."""
    folder = tmp_path_factory.mktemp("ranks")
    both_done = torch.multiprocessing.get_context("spawn").Barrier(2)
    torch.multiprocessing.spawn(one_rank, args=(str(folder), both_done), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("split", SPLITS)
def test_syncbatchnorm_over_two_processes_is_batchnorm(two_ranks, split):
    """Outputs, first and second derivatives and running statistics; also where one process has more pictures."""
    net = small_net(batch).double()
    expected = first_and_second(net, whole_batch())
    parts = [rank[split] for rank in two_ranks]
    for what in ("out", "slope", "second"):
        assert torch.allclose(torch.cat([p[what] for p in parts]), expected[what], rtol=1e-9, atol=1e-10), what
    for n, whole in enumerate(expected["weights"]):
        assert torch.allclose(parts[0]["weights"][n] + parts[1]["weights"][n], whole, rtol=1e-9, atol=1e-9), n
    for part in parts:
        for key, value in net.state_dict().items():
            assert torch.allclose(part["state"][key], value, rtol=1e-10, atol=1e-12), key
    rows = parts[0]["out"].shape[0]
    assert torch.allclose(parts[0]["eval"], net.eval()(whole_batch()[:rows]))


def test_syncbatchnorm_stays_exact_far_from_zero(two_ranks):
    """float32 values of deviation 1 around 100: a difference of two large squares would lose the deviation."""
    whole = torch.cat([rank["far"]["x"] for rank in two_ranks])
    expected = batch(3).double()(whole.double()).detach()
    found = torch.cat([rank["far"]["out"] for rank in two_ranks]).double()
    assert (batch(3)(whole).double() - expected).abs().max() < 1e-4, "what the norm of one process reaches"
    assert (found - expected).abs().max() < 1e-4


# --- the summary ----------------------------------------------------------------------------------------------------

FIELDS = [("basic", 3, 70), ("pixel", 3, 1), ("n_layers", 1, 16), ("n_layers", 2, 34), ("n_layers", 4, 142)]


@pytest.mark.parametrize(("netD", "layers", "pixels"), FIELDS)
def test_receptive_fields_are_the_published_ones_and_true(netD, layers, pixels):
    """Counted from the layers, and seen: how far the gradient of one output reaches."""
    net = discriminator(flags(netD=netD, n_layers_D=layers, norm="none", ndf=1), 1)
    assert receptive_field(net) == pixels
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight.numel())
    x = torch.ones(1, 1, 256, 256, dtype=torch.double, requires_grad=True)
    out = net.double()(x)
    out[0, 0, out.shape[2] // 2, out.shape[3] // 2].backward()
    reached = x.grad[0, 0].nonzero()
    assert (reached.max(0).values - reached.min(0).values + 1).tolist() == [pixels, pixels]


def test_the_summary_lists_layers_shapes_and_totals():
    net = discriminator(flags(norm="batch", ndf=4), 6).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    text = layer_table("D", net, 64, 32)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[1:-2]}
    layers = {name: module for name, module in net.named_modules() if name and not list(module.children())}
    assert rows.keys() == layers.keys()
    assert rows["model.0"] == ["Conv2d", "4x32x16", str(4 * 6 * 16 + 4)]
    assert rows["model.3"] == ["BatchNorm2d", "8x16x8", "16"]
    assert rows["model.11"] == ["Conv2d", "1x6x2", str(32 * 16 + 1)]
    counts = [int(row[-1]) for row in rows.values() if row[-1].isdigit()]
    total = sum(p.numel() for p in net.parameters())
    assert sum(counts) == total
    assert text.splitlines()[-2:] == [
        "receptive field: 70x70 pixels",
        f"[Network D] Total number of parameters : {total / 1e6:.3f} M",
    ]
    assert "network D (PatchDiscriminator)" in text
    assert net.training, "it looks without changing anything"
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(not m._forward_hooks for m in net.modules())


@pytest.mark.parametrize(("netD", "layers", "pixels"), FIELDS)
def test_the_summary_says_the_receptive_field(netD, layers, pixels):
    net = discriminator(flags(netD=netD, n_layers_D=layers, ndf=1), 3)
    assert f"receptive field: {pixels}x{pixels} pixels" in layer_table("D", net, 256, 256)


@pytest.mark.parametrize("resize_conv", [False, True])
def test_the_summary_of_a_generator_has_shapes_and_no_field(resize_conv):
    text = layer_table("G", generator(flags(netG="unet_64", ngf=2, resize_conv=resize_conv), 3, 3), 64, 64)
    assert "receptive field" not in text
    assert " 3x64x64 " in text


def test_a_summary_omits_shapes_where_a_size_is_refused():
    net = discriminator(flags(ndf=2), 3)
    text, refused = layer_table("D", net, 64, 64), layer_table("D", net, 16, 16)
    assert " 2x32x32 " in text and " 2x8x8 " not in refused
    assert len(refused.splitlines()) == len(text.splitlines())


def test_verbose_prints_the_summary_of_every_network(command, paired):
    ended = command(
        "train",
        "--model",
        "pix2pix",
        "--netG",
        "unet_32",
        "--dataroot",
        paired,
        "--gpu_ids",
        -1,
        "--ngf",
        1,
        "--ndf",
        1,
        "--load_size",
        32,
        "--crop_size",
        32,
        "--num_threads",
        0,
        "--display_id",
        0,
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
        "--max_dataset_size",
        1,
        "--no_html",
        "--verbose",
    )
    assert ended.code == 0, ended.err
    assert "network G (Unet)" in ended.out
    assert "network D (PatchDiscriminator)" in ended.out
    assert "receptive field: 70x70 pixels" in ended.out


def test_networks_are_what_the_classes_build():
    """The classes that plug-ins may use directly are those behind the names."""
    o = options("--model", "pix2pix", "--netD", "n_layers", "--n_layers_D", "2", "--name", "x")
    assert shapes(discriminator(o, 6)) == shapes(PatchDiscriminator(6, 4, 2, "batch"))
    o.netD = "pixel"
    assert shapes(discriminator(o, 6)) == shapes(PixelDiscriminator(6, 4, "batch"))
