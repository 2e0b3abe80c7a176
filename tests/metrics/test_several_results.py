"""Metrics of several results for one input: the best value of each, and the mean difference between two results."""

from itertools import combinations

import pytest
import torch

from metrics.pixelwise import l1, psnr
from metrics.several_results import mean_difference, measure_several


@pytest.mark.parametrize("number", [2, 3, 7])
def test_the_difference_is_the_mean_over_all_pairs(number):
    torch.manual_seed(number)
    results = [torch.rand(3, 5, 4) * 2 - 1 for _ in range(number)]
    pairs = [(a - b).abs().mean().item() for a, b in combinations(results, 2)]
    assert mean_difference(results) == pytest.approx(sum(pairs) / len(pairs), rel=1e-5)
    assert mean_difference([results[0]] * number) == pytest.approx(0, abs=1e-7)


def test_each_metric_counts_with_its_best_result():
    real = torch.zeros(1, 2, 2)
    results = [torch.full((1, 2, 2), value) for value in (0.5, 0.1, -0.4)]
    metrics = {"L1": l1, "PSNR": psnr, "own": lambda fake, real: fake.mean().item()}
    found = measure_several(results, real, metrics, {"L1": "lower", "PSNR": "higher", "own": ""})
    assert found == {
        "L1 best of 3": pytest.approx(0.1),
        "PSNR best of 3": pytest.approx(psnr(results[1], real)),
        "own mean of 3": pytest.approx(0.2 / 3),  # its better direction is unknown
        "L1 between results": pytest.approx((0.4 + 0.9 + 0.5) / 3),
    }
    assert list(measure_several(results, None, metrics, {})) == ["L1 between results"]
