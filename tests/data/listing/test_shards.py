"""Tar shards are read in place like the unpacked folder, on disk and from a server."""

import io
import os
import tarfile

import numpy as np
import pytest
import torch

from data.listing import shards
from data.listing.files import dataset_root, find_storage, list_files
from data.listing.shard_index import IndexBuilder, load_index
from data.listing.shard_names import expand, member_path, phase_of
from tests.support.data_folders import epoch, load, make, names, pairs, pixels, png, sample, tar_bytes, write_tar
from util.errors import DataError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "_opened", {})


def unpacked(folder, members):
    """Write members as files below a folder, by the paths that they have in shards."""
    for path, content in members:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def same_samples(one, other):
    assert len(one) == len(other) > 0 and one.spec() == other.spec()
    for index in range(len(one)):
        a, b = sample(one, index, index), sample(other, index, index)
        assert a.keys() == b.keys()
        for key in a.keys() - {"path_A", "path_B"}:
            assert torch.equal(torch.as_tensor(a[key]), torch.as_tensor(b[key]))
    serial = [epoch_of(dataset) for dataset in (one, other)]
    assert all(torch.equal(x["A"], y["A"]) for x, y in zip(*serial, strict=True))


def epoch_of(dataset):
    return list(load(dataset, num_threads=0, batch_size=3).epoch(1))


LAYOUTS = {  # data set mode: (members of the shards of train, the same files in a folder)
    "aligned": ([(f"{n}.{s}.png", png(n + 9 * (s == "B"))) for n in range(7) for s in "AB"],
                [(f"train{s}/{n}.png", png(n + 9 * (s == "B"))) for n in range(7) for s in "AB"]),
    "joined": ([(f"x/{n}.png", png(n, 96)) for n in range(7)], [(f"train/x/{n}.png", png(n, 96)) for n in range(7)]),
    "unaligned": ([*((f"{n}.A.png", png(n)) for n in range(4)), *((f"x/{n}.B.png", png(n + 9)) for n in range(3))],
                  [*((f"trainA/{n}.png", png(n)) for n in range(4)),
                   *((f"trainB/x/{n}.png", png(n + 9)) for n in range(3))]),
    "labeled": ([each for n in range(7) for each in ((f"{n}.png", png(n)), (f"{n}.cls", b"cow" if n % 3 else b"ant"))],
                [(f"train/{'cow' if n % 3 else 'ant'}/{n}.png", png(n)) for n in range(7)]),
    "single": ([(f"{n}.png", png(n)) for n in range(7)], [(f"train/{n}.png", png(n)) for n in range(7)]),
    "colorization": ([(f"{n}.png", png(n)) for n in range(7)], [(f"train/{n}.png", png(n)) for n in range(7)]),
    "folders": ([(f"train{s}/{n}.png", png(n + 9 * (s == "B"))) for n in range(7) for s in "AB"],
                [(f"train{s}/{n}.png", png(n + 9 * (s == "B"))) for n in range(7) for s in "AB"]),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shards_give_the_batches_of_the_same_files(layout, tmp_path):
    """Names, order, labels and pixels; whether the shards are named by a folder, braces or a wildcard."""
    members, files = LAYOUTS[layout]
    mode = {"joined": "aligned", "folders": "aligned"}.get(layout, layout)
    folder = unpacked(tmp_path / "files", files)
    keys = sorted({name.partition(".")[0] for name, _ in members})
    for number in range(2):
        own = [(name, content) for name, content in members if keys.index(name.partition(".")[0]) % 2 == number]
        write_tar(tmp_path / f"shards/train-{number:04d}.tar", own)
    one = make(mode, folder)
    notes = list(one.notes)
    for root in ("shards", "shards/train-{0000..0001}.tar", "shards/train-*.tar"):
        other = make(mode, root)
        assert other.notes == notes and other.shard_numbers() is not None
        same_samples(one, other)


@pytest.mark.parametrize("mode", ["aligned", "unaligned", "single", "colorization", "labeled"])
def test_shards_that_name_no_phase_are_for_each(mode, tmp_path):
    labelled = [("1.png", png(1)), ("1.cls", b"7"), ("2.png", png(2)), ("2.cls", b"11")]
    write_tar(tmp_path / "a/0000.tar", labelled if mode == "labeled" else pairs(1, 2, 3))
    for phase in ("train", "test"):
        assert len(make(mode, "a", phase=phase)) == {"single": 6, "colorization": 6, "labeled": 2}.get(mode, 3)
    if mode == "aligned":
        train, test = (make(mode, "a", "--split", 0.5, phase=phase) for phase in ("train", "test"))
        assert sorted([*train.paths, *test.paths]) == [f"a/*.tar/A/00{n}.png" for n in (1, 2, 3)]
        assert "for every phase" in make(mode, "a").notes[0]


def test_the_classes_of_pairs_arrive_as_labels(tmp_path):
    write_tar(tmp_path / "a/0000.tar", pairs(1, 2, 3, label=lambda n: str(n * 5)))
    dataset = make("aligned", "a")
    assert [int(sample(dataset, i)["label"]) for i in range(3)] == [5, 10, 15]
    assert "label (whole numbers)" in dataset.notes[1] and dataset.spec().columns == {"label": "int64"}
    assert "are not used" in make("unaligned", "a").notes[1]
    with pytest.raises(DataError, match="states the classes of pairs"):
        make("labeled", "a")


def test_names_that_several_shards_use_are_kept_apart(tmp_path):
    for number in range(2):
        write_tar(tmp_path / f"a/part{number}.tar", pairs(number * 0 + 1))
    dataset = make("aligned", "a")
    assert [os.path.relpath(path, "a/*.tar") for path in dataset.paths] == ["A/part0/001.png", "A/part1/001.png"]
    write_tar(tmp_path / "b/0.tar", [("1.png", png(1)), ("1.png", png(2))])
    with pytest.raises(DataError, match=r"file 'b/0.tar': '1.png' occurs twice"):
        make("single", "b")


@pytest.mark.parametrize(("pattern", "found"), [
    ("x/{08..11}.tar", ["x/08.tar", "x/09.tar", "x/10.tar", "x/11.tar"]),
    ("x/{a,b}-{0..1}.tar", ["x/a-0.tar", "x/a-1.tar", "x/b-0.tar", "x/b-1.tar"]),
    ("http:/host/d/{0..1}.tar", ["http://host/d/0.tar", "http://host/d/1.tar"]),
    ("x/*.tar", []), ("x/1.tar", ["x/1.tar"]),
])  # fmt: skip
def test_patterns(pattern, found):
    assert expand(pattern) == found


@pytest.mark.parametrize(("shard", "phase"), [
    ("d/train-000.tar", "train"), ("imagenet-val-0001.tar", "val"), ("d/test/0001.tar", "test"), ("contest-1.tar", ""),
    ("train0001.tar", "train"), ("0001.tar", ""), ("my_test.tar", "test"), ("restrain-1.tar", ""),
])  # fmt: skip
def test_the_phase_is_in_the_name_of_a_shard_or_its_folder(shard, phase):
    assert phase_of(shard) == phase


@pytest.mark.parametrize(("name", "phase", "label", "path"), [
    ("1.A.png", "train", None, "trainA/1.png"), ("s/1.b.JPG", "test", None, "testB/s/1.JPG"),
    ("1.A2.png", "", None, "A2/1.png"),
    ("1.png", "train", "cat", "train/cat/1.png"), ("cat/1.png", "train", "cat", "train/cat/1.png"),
    ("trainA/1.png", "", None, "trainA/1.png"), ("trainA/1.png", "train", None, "trainA/1.png"),
    ("x.v2.png", "", None, "x.v2.png"),
    ("train/1.A.png", "", None, "trainA/1.png"), ("train/cat/1.png", "test", None, "train/cat/1.png"),
])  # fmt: skip
def test_members_have_the_paths_of_a_folder(name, phase, label, path):
    assert member_path(name, phase, label)[0] == path


def test_shards_answer_as_a_folder_does(tmp_path):
    files = [(f"{folder}/{n}.png", png(n)) for folder in ("trainA", "trainA/x", "trainB/x") for n in range(2)]
    folder = unpacked(tmp_path / "files", files)
    write_tar(
        tmp_path / "a/0.tar", [*files, ("trainA/.hidden.png", b"x"), ("__MACOSX/1.png", b"x"), ("trainA/a.heic", b"x")]
    )
    (folder / "trainA/a.heic").write_bytes(b"x")
    disk = find_storage(str(folder))
    for below in ("", "trainA", "trainA/x", "trainB", "nowhere", "trainA/0.png"):
        ours, theirs = os.path.join("a/*.tar", below).rstrip("/"), os.path.join(folder, below).rstrip("/")
        tar = find_storage(ours)
        assert tar.entry_type(ours) == disk.entry_type(theirs)
        assert tar.list_folders(ours) == disk.list_folders(theirs)
        found, expected = tar.list_images(ours), disk.list_images(theirs)
        assert [found.name(i) for i in range(len(found))] == [expected.name(i) for i in range(len(expected))]
        assert found.sizes.tolist() == expected.sizes.tolist() and found.unused == expected.unused
    assert names("a/*.tar/trainB") == ["x/0.png", "x/1.png"] and len(list_files("a/*.tar/trainA/1.png")) == 1
    assert find_storage("a/0.tar/trainA/1.png").open("a/0.tar/trainA/1.png").read() == png(1)
    assert any("a.heic" in note for note in make("single", "a").file_notes())


def test_a_top_folder_is_entered(tmp_path):
    write_tar(tmp_path / "maps.tar", [(f"maps/train{s}/{n}.png", png(n)) for s in "AB" for n in range(2)])
    assert dataset_root("maps.tar", "train") == "maps.tar/maps" and len(make("aligned", "maps.tar")) == 2


def test_a_folder_of_images_beside_a_tar_is_read_as_before(tmp_path):
    unpacked(
        tmp_path / "d", [("trainA/1.png", png(1)), ("trainB/1.png", png(2)), ("old.tar", b"x"), ("e/1.png", png(1))]
    )
    (tmp_path / "d/e/old.tar").write_bytes(b"x")
    assert dataset_root("d", "train") == "d" and dataset_root("d/e", "train") == "d/e"
    (tmp_path / "dir.tar/trainA").mkdir(parents=True)
    assert dataset_root("dir.tar", "train") == "dir.tar"


def test_phases_may_be_folders_of_shards(tmp_path):
    for phase in ("train", "test"):
        write_tar(tmp_path / f"d/{phase}/0.tar", pairs(*range(3 if phase == "train" else 2)))
    assert [len(make("aligned", "d", phase=phase)) for phase in ("train", "test")] == [3, 2]


REFUSED = {
    "compressed": ({"a/0.tar.gz": b"x", "a/1.tar": tar_bytes(pairs(1))}, "a", r"file 'a/0.tar.gz': it is"),
    "missing": ({"a/0.tar": tar_bytes(pairs(1))}, "a/{0..1}.tar", r"file 'a/1.tar': cannot be read"),
    "no shard": ({}, "a/*.tar", r"pattern 'a/\*.tar': fits no file"),
    "cut": ({"a/0.tar": tar_bytes(pairs(1))[:2000]}, "a", r"file 'a/0.tar': it is truncated"),
    "no numbers": ({}, "a/{9..1}.tar", r"names no shards"),
    "an empty class": ({"a/0.tar": tar_bytes([("1.png", png(1)), ("1.cls", b" ")])}, "a", "name or number of a class"),
    "a class that leads out": ({"a/0.tar": tar_bytes([("1.png", png(1)), ("1.cls", b"../x")])}, "a", "of a class"),
    "unfinished": ({"a/0.tar": tar_bytes(pairs(1)), "a/shards.json":
                    b'{"complete": false, "index": "", "classes": [], "shards": []}'}, "a", "not complete"),
    "another list": ({"a/0.tar": tar_bytes(pairs(1)), "a/shards.json": b"[]"}, "a", "is not a list of shards"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_shard_is_refused_in_one_line(case, tmp_path):
    files, root, said = REFUSED[case]
    unpacked(tmp_path, files.items())
    with pytest.raises(DataError, match=said) as caught:
        make("single", root)
    assert "\n" not in str(caught.value)


def test_the_index_is_kept_and_made_again_for_changed_shards(tmp_path, monkeypatch):
    write_tar(tmp_path / "a/0.tar", pairs(1, 2))
    assert len(make("aligned", "a")) == 2
    made = []
    original = IndexBuilder.add
    monkeypatch.setattr(
        IndexBuilder, "add", lambda self, shard, file: made.append(shard) or original(self, shard, file)
    )
    monkeypatch.setattr(shards, "_opened", {})  # as in another process
    assert len(make("aligned", "a")) == 2 and not made
    write_tar(tmp_path / "a/0.tar", pairs(1, 2, 3))  # seen by the same process too
    write_tar(tmp_path / "a/1.tar", pairs(4))
    assert len(make("aligned", "a")) == 4 and len(made) == 2
    for kept in (tmp_path / "cache").rglob("*.npz"):
        kept.write_bytes(kept.read_bytes()[:-40])
    monkeypatch.setattr(shards, "_opened", {})
    assert len(make("aligned", "a")) == 4 and len(made) == 4


def test_a_shard_that_changes_while_it_is_read_is_noticed(tmp_path):
    path = write_tar(tmp_path / "a/0.tar", [("1.png", png(1)), ("2.png", png(2))])
    dataset = make("single", "a")
    before = pixels(sample(dataset, 0)["A"])
    content = path.read_bytes()
    path.write_bytes(content.replace(content[:512], bytes(512), 1))
    with pytest.raises(DataError, match=r"image 'a/\*.tar/1.png': .*checksum"):
        sample(dataset, 0)
    path.write_bytes(content + bytes(512))
    with pytest.raises(DataError, match="when it was listed"):
        sample(dataset, 0)
    path.write_bytes(content)
    assert np.array_equal(pixels(sample(dataset, 0)["A"]), before)


def test_an_index_from_elsewhere_is_checked(tmp_path):
    builder = IndexBuilder()
    content = tar_bytes([("1.png", png(1)), ("d/2.png", png(2))])
    builder.add(shards.Shard("0.tar", len(content), "0"), io.BytesIO(content))
    index = builder.index()

    def reloaded(**changed):
        for name, value in changed.items():
            setattr(index.paths if hasattr(index.paths, name) else index, name, value)
        file = io.BytesIO()
        index.save(file)
        return load_index(io.BytesIO(file.getvalue()))

    assert reloaded().folders == ["", "d"]
    good = {"names": index.paths.names, "starts": index.starts, "sizes": index.paths.sizes}
    for wrong in ({"names": b"1.png../../x"}, {"starts": index.starts + 10**9}, {"sizes": index.paths.sizes[:1]},
                  {"names": b"/.pngd/2.png"}, {"starts": index.starts - 10**6}):  # fmt: skip
        with pytest.raises(ValueError, match="is not an index"):
            reloaded(**wrong)
        reloaded(**good)


def test_a_million_names_take_little_memory():
    names = [f"{n % 1000:03d}/{n:07d}.A.png" for n in range(3_000)]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), None)
    builder = IndexBuilder()
    builder.add(shards.Shard("0.tar", len(content.getvalue()), "0"), content)
    index = builder.index()
    columns = (index.paths.offsets, index.paths.sizes, index.starts, index.marks)
    assert len(index.paths) == 3_000
    assert (len(index.paths.names) + sum(each.nbytes for each in columns)) / 3_000 < 60  # bytes of an image


@pytest.mark.parametrize("threads", [0, 2])
def test_any_number_of_workers_reads_the_same(threads, tmp_path):
    for number in range(3):
        write_tar(tmp_path / f"a/{number}.tar", pairs(*range(9 * number, 9 * number + 6)))
    batches = epoch(make("aligned", "a"), threads)
    alone = epoch(make("aligned", "a"))
    assert len(batches) == 5
    for one, other in zip(batches, alone, strict=True):
        assert one["path_A"] == other["path_A"] and torch.equal(one["A"], other["A"])
