"""Evaluations: metrics by name, functions and classes, in parts and in any order."""

import math

import pytest
import torch

from metrics import METRICS
from metrics.base import Metric, Result, in_order
from metrics.evaluation import Evaluation
from metrics.settings import Settings, parse_weights
from registry.contract import check_part
from util.errors import DataError, OptionError, UnknownName

NAMES = ("l1", "psnr", "ssim")


@pytest.fixture
def images():
    draw = torch.Generator().manual_seed(0)
    real = torch.rand(5, 3, 24, 20, generator=draw) * 2 - 1
    return real, (real + 0.1 * torch.randn(real.shape, generator=draw)).clamp(-1, 1)


def test_names_are_found_in_any_spelling(images):
    evaluation = Evaluation(NAMES, Settings())
    evaluation.update(*images, names=[f"{n}.png" for n in range(5)])
    assert list(evaluation.results()) == ["L1", "PSNR", "ssim"]
    assert [evaluation.better(name) for name in evaluation.results()] == ["lower", "higher", "higher"]
    values = [row["L1"] for row in evaluation.per_image().values()]
    assert evaluation.results()["L1"].value == pytest.approx((images[0] - images[1]).abs().mean().item(), rel=1e-6)
    assert evaluation.results()["L1"].error == pytest.approx(torch.tensor(values).std().item() / math.sqrt(5), rel=1e-5)
    assert evaluation.results()["L1"].n == 5
    with pytest.raises(UnknownName, match="did you mean ssim"):
        Evaluation(["sim"], Settings())


def test_order_and_parts_do_not_change_a_bit(images):
    real, fake = images
    whole, parts = Evaluation(NAMES, Settings()), [Evaluation(NAMES, Settings()) for _ in range(2)]
    whole.update(real, fake)
    parts[0].update(real[3:], fake[3:])
    for n in (2, 0, 1):
        parts[1].update(real[n : n + 1], fake[n : n + 1])
    joined = Evaluation(NAMES, Settings())
    joined.update(real, fake)  # replaced by the parts
    joined.merge([part.partial() for part in parts])
    assert joined.results() == whole.results()


def test_pairs_must_be_pairs(images):
    real, fake = images
    evaluation = Evaluation(["l1"], Settings())
    for other in (fake[:2], fake[:, :1], fake[..., :-1], None):
        with pytest.raises(DataError, match="metric 'L1': compares pairs"):
            evaluation.update(real, other)


def test_a_nan_is_the_value_and_inf_is_left_out(images):
    real, fake = images[0], images[1].clone()
    fake[0] = real[0]
    evaluation = Evaluation(["psnr"], Settings())
    evaluation.update(real, fake)
    assert 15 < evaluation.results()["PSNR"].value < 30  # the pair of equal images has inf
    fake[1, 0, 0, 0] = math.nan
    evaluation.update(real, fake)
    assert math.isnan(evaluation.results()["PSNR"].value)


class Brightness:
    """A metric of sets that imitates the contract, without extending Metric."""

    better, paired = "lower", False

    def __init__(self):
        self.sums = torch.zeros(2), torch.zeros(2)

    def update(self, real, fake, labels=None):
        for (total, number), side in zip(torch.stack(self.sums), (real, fake), strict=True):
            if side is not None:
                total += side.mean((1, 2, 3)).sum()
                number += len(side)

    def partial(self):
        return {}

    def merge(self, partials):
        pass

    def result(self):
        return 0.25, None, 7


class Largest(Metric):
    """A metric that extends Metric."""

    def update(self, real, fake, labels=None):
        self.keep(fake=fake.amax((1, 2, 3)))

    def result(self):
        return Result(self.kept("fake").max().item(), None, len(self.kept("fake")))


def test_classes_and_functions_of_plugins_are_metrics(images, monkeypatch):
    for name, metric in {
        "brightness": Brightness,
        "largest": Largest,
        "red": lambda fake, real: fake[0].mean(),
    }.items():
        monkeypatch.setitem(METRICS, name, metric)
    evaluation = Evaluation(["brightness", "largest", "red"], Settings())
    evaluation.update(*images, names="abcde")
    results = evaluation.results()
    assert results["brightness"] == Result(0.25, None, 7)
    assert results["largest"].value == images[1].max().item()
    assert list(evaluation.per_image()["a"]) == ["red"]
    assert [evaluation.better(name) for name in results] == ["lower", "lower", ""]


@pytest.mark.parametrize(("changes", "why"), [
    ({"merge": None}, r"has no merge; write def merge\(self, partials\)"),
    ({"result": lambda self, n: 0}, r"its result\(self, n\) cannot be called as self\.result\(\)"),
    ({"better": "smaller"}, 'write better = "lower" or "higher"'),
    ({"paired": None}, "paired = True or False")])  # fmt: skip
def test_a_class_that_breaks_the_contract_is_refused(changes, why):
    assert check_part("metric", Brightness, "fine", "plugin.py") is Brightness
    with pytest.raises(OptionError, match=why):
        check_part("metric", type("Odd", (Brightness,), changes), "odd", "plugin.py")


@pytest.mark.parametrize("returned", [0.5, (0.5, None), ("much", None, 3), None])
def test_a_result_that_is_not_three_numbers_is_refused(returned, images, monkeypatch):
    kind = type("Odd", (Brightness,), {"result": lambda self: returned})
    monkeypatch.setitem(METRICS, "odd", kind)
    evaluation = Evaluation(["odd"], Settings())
    with pytest.raises(OptionError, match=r"metric 'odd': its result\(\) returned .*, not \(value, error, n\)"):
        evaluation.results()
    monkeypatch.setattr(kind, "result", lambda self: (torch.tensor(0.5), torch.tensor(0.25), torch.tensor(3)))
    assert evaluation.results() == {"odd": (0.5, 0.25, 3)}
    assert [type(number) for number in evaluation.results()["odd"]] == [float, float, int]


def test_files_of_weights_are_one_file_or_named(tmp_path):
    assert parse_weights(["a.pth"]) == "a.pth"
    assert parse_weights(["alexnet=a.pth", "vgg16=b=c.pth"]) == {"alexnet": "a.pth", "vgg16": "b=c.pth"}
    odd = tmp_path / "x=y.pth"
    odd.touch()
    assert parse_weights([str(odd)]) == str(odd)
    for words in (["a.pth", "b.pth"], ["vgg16=a.pth", "b.pth"], ["vgg16="]):
        with pytest.raises(OptionError, match="does not say whose weights it holds; write NETWORK=FILE"):
            parse_weights(words)
    assert Settings(weights="a.pth").weights_file("alexnet") == "a.pth"
    assert Settings(weights={"alexnet": "a.pth"}).weights_file("vgg16") == ""


def test_rows_have_one_order_whatever_their_last_bits():
    rows = torch.rand(60, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(in_order(rows.flip(0)), in_order(rows))
    assert torch.allclose(in_order((rows * (1 + 1e-6)).flip(0)), in_order(rows), rtol=1e-5)
    alike = rows[:1] + torch.tensor([[0.0], [1e-7], [3e-7]])
    assert torch.equal(in_order(alike[[2, 0, 1]]), in_order(alike))
