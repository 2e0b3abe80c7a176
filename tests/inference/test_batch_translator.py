"""test.py with batches and writer threads writes the same files as one image at a time."""

import errno
import itertools
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from inference import batch_translator
from inference.batch_translator import Translator, batch_groups
from pages.async_writer import AsyncWriter
from tests.support.runs import SMALL
from util.errors import OptionError

CPU = torch.device("cpu")


def batches(sizes, broken=None):
    """One picture a batch, of these sides; the one numbered `broken` cannot be made."""
    for number, side in enumerate(sizes):
        if number == broken:
            raise ValueError("broken")
        yield {"A": torch.full((1, 3, side, side), number / 100), "path_A": [f"{number}.png"]}


class Tally(list):
    """A list that copies of a model share, and that does not count as what a model remembers."""

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return Tally, ()


class Model(torch.nn.Module):
    """Shows what `made` makes of A, and tallies how many it was given at a time."""

    def __init__(self, made=lambda x: x):
        super().__init__()
        self.made, self.numbers = made, Tally()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, batch):
        self.numbers.append(len(batch["A"]))
        return {"real_A": batch["A"], "fake_B": self.made(batch["A"]) * self.weight}

    def show(self, out):
        return out


WAYS = ("translate_parallel", "translate_batched", "__call__")


def run(model, sizes, way="__call__", **flags):
    o = SimpleNamespace(
        **{"eval": True, "batch_size": 1, "tile": 0, "input_nc": 3, "output_nc": 3, "num_results": 1} | flags
    )
    made = list(getattr(Translator(o, model, CPU), way)(batches(sizes)))
    return [(path, shown["fake_B"][i]) for shown, paths in made for i, (path, _) in enumerate(paths)]


@pytest.fixture
def two_threads():
    """As many as a machine with two cores has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("way", WAYS)
def test_pictures_come_in_order_as_one_at_a_time_makes_them(way):
    sizes = [8] * 40 + [16, 8, 8]
    several, alone = Model(torch.sin), Model(torch.sin)
    made, expected = run(several, sizes, way), run(alone, sizes, batch_size=2)  # as it comes
    assert [path for path, _ in made] == [f"{n}.png" for n in range(43)]
    assert all(torch.equal(ours, theirs) for (_, ours), (_, theirs) in zip(made, expected, strict=True))
    # the first at once, a batch and each of its images for the trial, and then each once
    assert several.numbers == ([1, *[1] * 16, 16, 16, 16, 7, 1, 2] if way == "translate_batched" else [1] * 43)
    assert alone.numbers == [1] * 43


class Waiting(Tally):
    """Returns an image once two threads have one; lists the threads and how many threads each may use."""

    def __init__(self):
        self.both = threading.Barrier(2, timeout=60)

    def __call__(self, x):
        name = threading.current_thread().name
        if name.startswith("translator"):
            self.append((name, torch.get_num_threads()))
            self.both.wait()
        return x


@pytest.mark.usefixtures("two_threads")
def test_each_picture_side_by_side_has_a_thread_and_a_model(monkeypatch):
    """Two at a time: neither goes on before the other has begun."""
    wait = Waiting()
    made = run(Model(wait), [8] * 9, "translate_parallel")
    assert [path for path, _ in made] == [f"{n}.png" for n in range(9)]
    assert len({name for name, _ in wait}) == 2 and {threads for _, threads in wait} == {1}
    assert torch.get_num_threads() == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("translator")]


class Remembering(torch.nn.Module):
    """Adds to each image what it keeps of the images before it, from the image `first` on, in one of these ways."""

    def __init__(self, way, first):
        super().__init__()
        self.way, self.first, self.seen = way, first, 0.0
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("memory", torch.zeros(1))
        self.images, self.cache, self.rng, self.count = [], {}, torch.Generator(), itertools.count()
        self.watched = torch.nn.Identity()
        if way == "closure":  # the usual way to read a layer's output
            self.watched.register_forward_hook(lambda layer, args, out: self.images.append(out.mean()))

    def forward(self, batch):
        x = self.watched(batch["A"])
        active = batch["A"].mean() * 100 > self.first - 0.5
        return {"real_A": x, "fake_B": x + (MEMORY[self.way](self, x) if active else 0)}

    def by_buffer(self, x):
        self.memory.mul_(0.5).add_(x.mean())
        return self.memory

    def by_data(self, x):
        self.memory.data = 0.5 * self.memory.data + x.mean()
        return self.memory

    def by_parameter(self, x):
        self.weight.add_(x.mean())
        return self.weight

    def by_number(self, x):
        self.seen += 0.01
        return self.seen

    def by_list(self, x):
        self.images.append(x.mean())
        return sum(self.images)

    def by_closure(self, x):
        return sum(self.images)

    def by_cache(self, x):
        return self.cache.setdefault(tuple(x.shape[2:]), x.mean())

    def by_generator(self, x):
        return torch.rand((), generator=self.rng)

    def by_count(self, x):
        return next(self.count) / 100

    def by_draw(self, x):
        return torch.rand(())

    def show(self, out):
        return out


MEMORY = {
    "buffer": Remembering.by_buffer,
    "data": Remembering.by_data,
    "parameter": Remembering.by_parameter,
    "number": Remembering.by_number,
    "list": Remembering.by_list,
    "closure": Remembering.by_closure,
    "cache": Remembering.by_cache,
    "generator": Remembering.by_generator,
    "count": Remembering.by_count,
    "draw": Remembering.by_draw,
}


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("first", [0, 1, 2, 7, 20], ids="from image {}".format)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("memory", [name for name in MEMORY if name != "parameter"])
def test_what_a_model_remembers_is_as_one_at_a_time(memory, way, first):
    sizes = [8] * 9 + [16] * 4 + [8] * 20
    results = []
    for this, flags in ((way, {}), ("__call__", {"batch_size": 2})):
        torch.manual_seed(3)
        results.append(run(Remembering(memory, first), sizes, this, **flags))
    assert [path for path, _ in results[0]] == [f"{n}.png" for n in range(33)]
    for (path, ours), (_, theirs) in zip(*results, strict=True):
        assert torch.equal(ours, theirs), path


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("way", WAYS)
def test_weights_that_images_change_are_as_in_turn_or_refused(way):
    ours, theirs = (
        run(Remembering("parameter", 0), [8] * 9, way),
        run(Remembering("parameter", 0), [8] * 9, batch_size=2),
    )
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(ours, theirs, strict=True))
    with pytest.raises(OptionError, match="keep them in the model"):
        run(Remembering("parameter", 5), [8] * 9, way)


def draws(x):
    return x + torch.randn(x.shape)


def mixes(x):
    return x + x.sum(0, keepdim=True) - x


def first_of_the_batch(x):
    return x + x[:1].mean()


def one_only(x):
    return x.view(3, *x.shape[2:])[None]


def size_of_the_batch(x):
    return x / len(x)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("made", [draws, mixes, first_of_the_batch, one_only, size_of_the_batch])
def test_networks_that_draw_or_use_the_batch_get_one_at_a_time(made, way):
    torch.manual_seed(3)
    got = run(Model(made), [8] * 9, way)
    torch.manual_seed(3)
    expected = run(Model(made), [8] * 9, batch_size=2)
    assert all(torch.equal(ours, theirs) for (_, ours), (_, theirs) in zip(got, expected, strict=True))


@pytest.mark.parametrize("flags", [{"eval": False}, {"tile": 64}, {"batch_size": 2}], ids=str)
def test_other_ways_that_were_asked_for_stay(flags):
    model = Model(lambda x: x if threading.current_thread() is threading.main_thread() else 1 / 0)
    run(model, [8] * 5, **flags)
    run(model, [8] * 5, **flags)
    assert model.numbers == [1] * 10


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("way", WAYS)
def test_an_error_follows_the_pictures_before_it_in_every_way(way):
    o = SimpleNamespace(eval=True, batch_size=1, tile=0, input_nc=3, output_nc=3, num_results=1)
    seen = []
    with pytest.raises(ValueError, match="broken"):
        seen.extend(
            path for _, files in getattr(Translator(o, Model(), CPU), way)(batches([8] * 9, 5)) for path, _ in files
        )
    assert seen == [f"{n}.png" for n in range(5)]


def test_a_model_that_cannot_be_copied_goes_one_by_one():
    assert len(batch_translator.shared_copies(torch.nn.Conv2d(1, 1, 1), 2)) == 2
    bare = torch.nn.Conv2d(1, 1, 1)
    bare.lock = threading.Lock()
    assert batch_translator.shared_copies(bare, 2) == []


def test_only_small_pictures_go_together():
    groups = batch_groups(batches([256] * 9 + [600, 600]), batch_translator.MAX_BATCH_PIXELS)
    assert [len(group) for group in groups] == [1, 4, 4, 1, 1]


def test_an_error_comes_after_the_pictures_before_it():
    seen = []
    with pytest.raises(ValueError, match="broken"):
        seen.extend(len(group) for group in batch_groups(batches([8] * 9, broken=5), batch_translator.MAX_BATCH_PIXELS))
    assert seen == [1, 4]


def test_calls_end_in_order_and_a_bounded_number_wait():
    gate, begun, heard, here = threading.Event(), threading.Semaphore(0), [], []

    def make(n):
        if n == 0:
            gate.wait(60)
        begun.release()
        return n

    with AsyncWriter(max_weight=3) as writer:
        for n in range(3):
            writer.submit(1, lambda n=n: make(n), heard.append)
        assert heard == []
        assert len(writer.pending) == 3
        threading.Timer(0, gate.set).start()
        writer.submit(1, lambda: make(3), heard.append)  # waits until there is room
        assert heard[0] == 0
        assert len(writer.pending) <= 3
        writer.submit(9, lambda: here.append(threading.current_thread()), lambda _: heard.append("large"))
        assert here == [threading.main_thread()]
    assert heard == [0, 1, 2, 3, "large"]


@pytest.mark.parametrize("ending", [KeyboardInterrupt, "theirs"])
def test_no_thread_or_call_outlives_an_interrupt_or_error(ending):
    made, gate = [], threading.Event()

    def make(n):
        gate.wait(60)
        if ending == "theirs":
            raise OSError(errno.ENOSPC, "full", "x.png")
        made.append(n)

    def work():
        with AsyncWriter(max_weight=100) as writer:
            for n in range(50):
                writer.submit(1, lambda n=n: make(n), lambda _: None)
            gate.set()
            if ending is KeyboardInterrupt:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt if ending is KeyboardInterrupt else OSError):
        work()
    assert len(made) < 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("writer")]


@pytest.fixture
def trained(command, tmp_path):
    """A tiny pix2pix run and nine pairs to test it on."""
    rng = np.random.default_rng(5)
    for phase, number in (("train", 2), ("test", 9)):
        (tmp_path / "pairs" / phase).mkdir(parents=True)
        for i in range(number):
            array = rng.integers(0, 256, (32, 64, 3), dtype=np.uint8)
            Image.fromarray(array).save(tmp_path / "pairs" / phase / f"{i}.png")
    done = command(
        "train",
        "--model",
        "pix2pix",
        "--dataroot",
        tmp_path / "pairs",
        "--name",
        "run",
        *SMALL,
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
    )
    assert done.code == 0, done.err
    return tmp_path / "pairs"


def test_results_of_pictures_together_are_those_of_one_at_a_time(command, trained, tmp_path, monkeypatch):
    told, files = [], []
    for results, pixels in (("several", batch_translator.MAX_BATCH_PIXELS), ("alone", 0)):
        monkeypatch.setattr(batch_translator, "MAX_BATCH_PIXELS", pixels)
        done = command("test", "--dataroot", trained, "--name", "run", "--results_dir", tmp_path / results)
        assert done.code == 0, done.err
        told.append(done.out.replace(results, ""))
        folder = tmp_path / results / "run" / "test_latest"
        files.append({p.name: p for p in folder.rglob("*") if p.is_file()})
    assert told[0] == told[1]
    assert files[0].keys() == files[1].keys()
    for name, path in files[0].items():
        if path.suffix == ".png":
            ours, theirs = (np.asarray(Image.open(one[name])).astype(int) for one in files)
            assert np.abs(ours - theirs).max() <= 1
        elif path.suffix == ".html" and name == "index.html":
            rows = [[line for line in one[name].read_text().split('"') if line.startswith("images/")] for one in files]
            assert rows[0] == rows[1] != []


def test_a_disk_that_is_full_in_a_thread_ends_with_one_line(command, trained, tmp_path, monkeypatch):
    real = os.replace

    def full(source, target):
        if str(target).endswith("4_fake_B.png"):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    done = command("test", "--dataroot", trained, "--name", "run", "--results_dir", tmp_path / "results")
    assert done.code == 5
    assert "4_fake_B.png" in done.last
    assert done.err.count("error:") == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("writer")]
