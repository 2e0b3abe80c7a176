"""Images from noise are asked for in parts: memory is bounded, and no image comes twice."""

import weakref
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data.base import Spec
from inference import sampling
from inference.sampling import MAX_PART_IMAGES, Request, generate, part_size, sample_parts, sample_sheets
from pages.results import Results
from registry.lookup import find
from tests.support.runs import options
from util.image_io import to_pixels

SEEN: list[Request] = []


class Sampler:
    """Images whose values are drawn from the seed; `start` decides from where on."""

    def start(self, request):
        return request.start

    def sheets(self, request):
        request = self.prepared(request)
        SEEN.append(request)
        rng = torch.Generator().manual_seed(request.seed)
        start = self.start(request)
        images = torch.stack([torch.rand(1, 8, 8, generator=rng) * 2 - 1 for _ in range(start + request.number)])[
            start:
        ]
        return {name: (images, torch.zeros(len(images))) for name in request.classes or ("all",)}

    def prepared(self, request):
        return request


class Old(Sampler):
    """A plug-in from before there were parts."""

    def start(self, request):
        return 0


class Copying(Old):
    """The same, but it copies the request, which reads all of it."""

    def prepared(self, request):
        return replace(request, kind="grid")


@pytest.fixture(autouse=True)
def _unseen():
    SEEN.clear()


def joined(model, request):
    """The images of all parts, by sheet."""
    found: dict[str, list[np.ndarray]] = {}
    for part in sample_parts(model, request, 8, 8):
        for name, images in part.items():
            found.setdefault(name, []).extend(images)
    return found


@pytest.mark.parametrize("classes", [(), ("a", "b", "c")])
@pytest.mark.parametrize("number", [1, 512, 1300])
def test_parts_of_a_model_that_reads_start_are_one_request(number, classes):
    request = Request("per_class", classes, number, seed=3)
    parts, whole = joined(Sampler(), request), sample_sheets(Sampler(), request)
    assert parts.keys() == whole.keys()
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


@pytest.mark.parametrize("model", [Sampler(), Old(), Copying()], ids=lambda model: type(model).__name__)
def test_no_model_repeats_itself_in_later_parts(model):
    images = joined(model, Request("per_class", (), 1300, seed=3))["all"]
    assert len({image.tobytes() for image in images}) == len(images) == 1300
    assert np.array_equal(images[:512], sample_sheets(model, Request("per_class", (), 512, seed=3))["all"])
    assert len(SEEN) - 1 == 3 + isinstance(model, Copying)  # a part is asked for again if it repeats the first
    assert max(request.number for request in SEEN) == MAX_PART_IMAGES
    assert all(0 <= request.seed < 2**31 for request in SEEN)


def test_a_request_that_fits_is_asked_for_once_as_ever():
    """So that images of old plug-ins are those of before."""
    joined(Old(), Request("per_class", ("a", "b"), 16, seed=3))
    assert [asdict(request) for request in SEEN] == [asdict(Request("per_class", ("a", "b"), 16, seed=3))]


def test_cgan_draws_the_same_in_parts(monkeypatch):
    monkeypatch.setattr(sampling, "MAX_PART_IMAGES", 6)
    o = options("--model", "cgan", "--latent_dim", "5", "--embedding_dim", "3")
    model = find("model", "cgan")(o, Spec(3, 3, 16, 16, ("bird", "cat"))).eval()
    request = Request("per_class", ("bird", "cat"), 7, seed=3)
    parts, whole = joined(model, request), sample_sheets(model, request)
    for name, images in whole.items():  # as far as sums in batches of other sizes are equal
        assert np.abs(np.subtract(parts[name], images, dtype=int)).max() <= 1


def test_large_images_come_in_smaller_parts():
    assert part_size(0, 8, 8) == part_size(1, 64, 64) == 512
    assert part_size(3, 64, 64) == 128  # a multiple of 64
    assert part_size(1000, 64, 64) == 1
    assert part_size(1, 2048, 2048) == 4


def test_thousands_of_images_are_never_in_memory_together(tmp_path, monkeypatch):
    alive = {"now": 0, "most": 0}

    def counted(image):
        pixels = to_pixels(image)
        alive["now"] += 1
        alive["most"] = max(alive.values())
        weakref.finalize(pixels, lambda: alive.update(now=alive["now"] - 1))
        return pixels

    monkeypatch.setattr(sampling, "to_pixels", counted)
    o = SimpleNamespace(
        results_dir=tmp_path,
        name="many",
        phase="test",
        epoch="latest",
        load_iter=0,
        dataroot="demo",
        pairs="auto",
        checkpoints_dir=tmp_path / "checkpoints",
        display_winsize=64,
        aspect_ratio=1.0,
        range_A="",
        range_B="",
        results_only="",
        format="auto",
        num_results=1,
        num_samples=2100,
        seed=0,
        classes="",
        run_classes=(),
        metrics=(),
        metric_weights=(),
        download=False,
    )
    results = Results(o, "latest", compare=False, generated=True)
    generate(o, Sampler(), results, Spec(3, 3, 8, 8))
    results.close()
    results.release()
    assert alive["most"] <= MAX_PART_IMAGES + 10  # and a sheet of ten
    assert len(list((results.folder / "images").glob("all_[0-9]*_fake.png"))) == 2100
    pages = [page.read_text() for page in results.folder.glob("class_all*.html")]
    assert len(pages) == 9 and sum(page.count("<img ") for page in pages) == 2100
    assert (results.count, results.counted) == (2100, "2100 images and 2 sheets")
