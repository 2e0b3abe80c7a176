"""test.py --watch: each image is translated once, as test.py does, by every restart; a bad file does not stop it."""

import json
import os
import shutil
import signal

import pytest

from inference.streams import arrivals, folder_watch
from tests.support.images import picture

MEMORY = '''"""A model whose output depends on the image before it, and on random numbers."""
import torch
from ganvas import BaseModel, Phase, generator
class Memory(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)
    def __init__(self, o, spec):
        super().__init__()
        self.G, self.last = generator(o, spec.input_nc, spec.output_nc), 0
    def phases(self):
        return [Phase("G", [self.G], self.loss)]
    def forward(self, batch):
        made = self.G(batch["A"]) + 0.1 * torch.randn(1) + self.last
        self.last = 0.5 + self.last
        return {"real_A": batch["A"], "styled": made}
    def loss(self, batch, out):
        return {"L1": (out["styled"] - batch["B"]).abs().mean()}
'''


@pytest.fixture
def inbox(tmp_path, monkeypatch):
    """The folder `inbox` with two images; looks at it follow each other without a pause."""
    monkeypatch.setattr(folder_watch, "POLL_S", 0)
    monkeypatch.setattr(arrivals, "INCOMPLETE_S", 0)
    (tmp_path / "inbox" / "sub").mkdir(parents=True)
    picture(1, 40, 36).save(tmp_path / "inbox" / "a.png")
    picture(2, 32, 48).save(tmp_path / "inbox" / "sub" / "b.jpg")
    return tmp_path / "inbox"


@pytest.fixture
def watch(command, runs):
    """watch(*flags): run test.py --watch inbox, which ends after the images of --num_test."""
    return lambda *flags: command("test", "--checkpoints_dir", runs / "checkpoints", "--watch", "inbox", *flags)


def written(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("run", "flags"), [("p2p", ()), ("cyc", ("--direction", "BtoA")), ("p2p", ("--native",))])
def test_results_are_those_of_test(watch, inbox, command, runs, tmp_path, run, flags):
    ended = watch("--name", run, "--num_test", 2, *flags)
    assert ended.code == 0, ended.err
    made = written(tmp_path / "results" / run / "inbox_latest_watched" / "images")
    assert sorted(made) == ["a.png", "sub/b.png"]
    label = "fake_A" if "BtoA" in flags else "fake_B"
    for name, source in (("a.png", "a.png"), ("sub/b.png", "sub/b.jpg")):
        single = ("--checkpoints_dir", runs / "checkpoints", "--name", run, inbox / source, "--results_only", label)
        assert command("test", *single, *flags, "--results_dir", "single").code == 0
        (file,) = (tmp_path / "single").rglob("*.png")
        assert file.read_bytes() == made[name]
        shutil.rmtree(tmp_path / "single")


def test_a_restart_translates_only_what_is_new(watch, inbox, tmp_path):
    folder = tmp_path / "results" / "p2p" / "inbox_latest_watched"
    assert watch("--name", "p2p", "--num_test", 2).code == 0
    with open(folder / "translated.jsonl", "a") as record:
        record.write('{"input": "a.p')  # of a test that was killed
    first = written(folder / "images")
    picture(3).save(inbox / "a.webp")  # whose result may not replace that of a.png
    assert watch("--name", "p2p", "--num_test", 1).code == 0
    assert written(folder / "images").items() - first.items() == {
        ("a.webp.png", (folder / "images/a.webp.png").read_bytes())
    }
    (folder / "images" / "a.png").unlink()  # it is made again
    assert watch("--name", "p2p", "--num_test", 1).code == 0
    assert first.items() <= written(folder / "images").items()
    picture(4).save(inbox / "a.png")  # another image of the same name
    assert watch("--name", "p2p", "--num_test", 1).code == 0
    assert [n for n, content in written(folder / "images").items() if first.get(n, content) != content] == ["a.png"]
    rows = [json.loads(line) for line in (folder / "translated.jsonl").read_text().splitlines() if line.endswith("}")]
    assert [row["input"] for row in rows] == ["a.png", "sub/b.jpg", "a.webp", "a.png", "a.png"]


def test_a_bad_file_is_one_line_and_is_read_when_it_is_whole(watch, inbox, tmp_path, monkeypatch):
    whole = (inbox / "a.png").read_bytes()
    (inbox / "a.png").write_bytes(whole[: len(whole) // 2])
    (inbox / "0.png").write_bytes(b"no image")
    looks = []

    def mend(pause):  # after the error of a.png, its writer goes on
        looks.append(pause)
        if len(looks) == 4:
            (inbox / "a.png").write_bytes(whole)

    monkeypatch.setattr(folder_watch.time, "sleep", mend)
    ended = watch("--name", "p2p", "--num_test", 2)
    assert ended.code == 0, ended.err
    lines = [line for line in ended.out.splitlines() if "until it changes" in line]
    assert [("0.png" in line, "a.png" in line) for line in lines] == [(True, False), (False, True)]
    images = written(tmp_path / "results" / "p2p" / "inbox_latest_watched" / "images")
    assert sorted(images) == ["a.png", "sub/b.png"]


def test_a_file_that_changes_while_it_is_read_is_read_again(watch, inbox, monkeypatch):
    translate, calls = folder_watch._translate, []

    def changing(arrived, name, translator, results):
        def during(path):
            calls.append(name)
            if len(calls) == 1:
                os.utime(path, ns=(0, 1))
            return translator(path)

        return translate(arrived, name, during, results)

    monkeypatch.setattr(folder_watch, "_translate", changing)
    assert watch("--name", "p2p", "--num_test", 2).code == 0
    assert calls == ["a.png", "sub/b.jpg", "a.png"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_after_the_image(watch, inbox, monkeypatch, number, code, tmp_path):
    add = folder_watch._translate

    def interrupted(*args):
        signal.raise_signal(number)
        return add(*args)

    monkeypatch.setattr(folder_watch, "_translate", interrupted)
    ended = watch("--name", "p2p")
    assert (ended.code, ended.last) == (code, "stopped; 1 image translated since the start")
    folder = tmp_path / "results" / "p2p" / "inbox_latest_watched"
    assert list(written(folder / "images")) == ["a.png"] and not list(folder.parent.glob(".*.lock"))


@pytest.mark.parametrize(("flags", "said"), [
    (("--watch", "nowhere"), "error: option '--watch': there is no folder nowhere; create it"),
    (("--watch", "inbox", "--dataroot", "inbox"), "is another folder or file of images; give one of them"),
    (("--watch", "."), "lies in the watched folder ., so its images would be translated too"),
    (("--watch", "inbox", "--epoch", "7"), "there is no such file"),
])  # fmt: skip
def test_what_cannot_be_watched_is_an_error(command, runs, inbox, flags, said):
    ended = command("test", "--checkpoints_dir", runs / "checkpoints", "--name", "p2p", *flags)
    assert ended.code in (2, 4) and said in ended.last, ended.last


def test_no_result_depends_on_earlier_images(command, runs, inbox, write, tmp_path):
    write("memory.py", MEMORY)
    small = "--netG unet_32 --ngf 4 --load_size 36 --crop_size 32 --max_dataset_size 2 --n_epochs 1 --n_epochs_decay 0"
    data = ("--dataroot", runs / "pairs", "--displays", "console", "--gpu_ids", "-1", *small.split())
    assert command("train", "--plugin", "memory.py", "--model", "memory", "--name", "m", *data).code == 0
    shutil.copyfile(inbox / "a.png", inbox / "again.png")
    assert command("test", "--name", "m", "--watch", "inbox", "--num_test", "3", "--seed", "1").code == 0
    made = written(tmp_path / "results" / "m" / "inbox_latest_watched" / "images")
    assert made["a.png"] == made["again.png"] != made["sub/b.png"]
