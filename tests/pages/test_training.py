"""The training page has the right files, and a real browser follows a run on it."""

import json
import math
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from displays.html import History, Html
from displays.loss_log import EPOCH_AXIS, MAX_POINTS, Curves
from pages.training import label_lines
from tests.support.images import picture
from tests.support.runs import SMALL
from tests.support.small_models import own_networks
from tests.support.training_runs import DEMO, TRAINABLE, Page, history, run_in, weights
from util.progress import Progress

TINY = [*SMALL, *DEMO, "--netG", "resnet_4blocks", "--print_freq", 1, "--name", "run"]


# --- curves


@pytest.mark.parametrize("number", [1, 2, 999, 1000, 1001, 2500, 20_001])
def test_thinned_curves_keep_mean_order_and_ends(number):
    values, curves = list(np.random.default_rng(number).uniform(-10, 10, number)), Curves()
    for i, value in enumerate(values):
        curves.add(float(i), {"G": value})
    told = curves.to_json()
    x, y = told["x"], told["lines"]["G"]
    assert len(x) == len(y) <= MAX_POINTS and x == sorted(x)
    assert x[0] <= curves.stride and x[-1] >= len(values) - 1 - curves.stride
    whole = len(values) // curves.stride * curves.stride
    assert np.mean(y[: whole // curves.stride]) == pytest.approx(np.mean(values[:whole]), abs=1e-4)


def test_a_loss_that_begins_late_or_is_no_number_leaves_gaps():
    curves = Curves()
    for x, values in enumerate([{"G": 1.0}, {"G": math.nan, "D": 2.0}, {"G": None, "D": math.inf}]):
        curves.add(float(x), values)
    assert curves.to_json() == {"x": [0, 1, 2], "lines": {"G": [1.0, None, None], "D": [None, 2.0, None]}}
    json.dumps(curves.to_json(), allow_nan=False)


# --- which pictures there are


def test_spans_of_epochs_do_not_grow_with_their_number():
    kept = History()
    for epoch in range(1, 1001):
        kept.add_row(epoch, ["real_A", "fake_B"])
        kept.add_row(epoch, ["real_A", "fake_B"])  # twice in an epoch
    assert kept.rows == [[1, 1000, ["real_A", "fake_B"], False, 1]]
    every_tenth = History()
    for epoch in range(10, 1001, 10):
        every_tenth.add_row(epoch, ["real_A"])
    assert every_tenth.rows == [[10, 1000, ["real_A"], False, 10]]


def test_other_labels_begin_another_span():
    kept = History()
    for epoch, labels in ((1, ["a"]), (2, ["a", "b"]), (3, ["a", "b"]), (5, ["a", "b"])):
        kept.add_row(epoch, labels)
    assert kept.rows == [[1, 1, ["a"], False, 1], [2, 3, ["a", "b"], False, 1], [5, 5, ["a", "b"], False, 1]]


@pytest.mark.parametrize(
    "text", ["", "ganvas.take(", "ganvas.take({});", "ganvas.take([1]);", "\0\0", 'ganvas.take({"rows": 3});']
)
def test_a_damaged_history_is_an_empty_one(tmp_path, text):
    (tmp_path / "history.js").write_text(text)
    assert vars(History.read(tmp_path / "history.js", 5)) == vars(History())


def options(**changes):
    usual = {"print_freq": 1, "update_html_freq": 1, "display_winsize": 64, "name": "run", "given": {"name"},
             "gan_mode": "lsgan", "dataset_mode": "aligned", "model": "pix2pix", "metrics": (),
             "flags": {}}  # fmt: skip
    return SimpleNamespace(**usual | changes)


def a_thousand_epochs(folder, name="run", label="fake_B"):
    """A page of 1,000 epochs of ten steps with twelve losses, of which the last one was written."""
    sink = Html(options(name=name), folder)
    sink._write = lambda at, state="training": None  # every update costs the same; here only the last one counts
    at = Progress(epoch_size=10, last_epoch=1000)
    for epoch in range(1, 1001):
        at.epoch, at.seen = epoch, 0
        for _ in range(10):
            at.advance(1, 0.1, 0.1)
            sink.losses(at, {f"loss_{i}": 1 / at.step + i for i in range(12)})
        sink.history.add_row(epoch, ["real_A", label, "real_B"])
        if epoch % 20 == 0:
            sink.history.sample_epochs.append(epoch)
            sink.history.add_sample(epoch, label)
    sink.history.sizes = {name: [64, 48] for name in ("real_A", label, "real_B")}
    sink.history.files = [f"picture {i}.png" for i in range(8)]
    del sink._write
    sink._write(at)
    return folder / "web" / "index.html"


def test_a_thousand_epochs_of_ten_rows_make_a_small_page(tmp_path):
    page = a_thousand_epochs(tmp_path)
    assert page.stat().st_size < 400_000
    assert (page.parent / "history.js").stat().st_size < 300_000
    assert Page(page).texts["h3"] == [f"epoch [{epoch}]" for epoch in range(1000, 980, -1)]


# --- fixed samples


@pytest.fixture
def with_val(tmp_path):
    """A folder of pairs with train, val and test of 5, 9 and 3, of other sizes than the networks'."""
    for number, (folder, count) in enumerate((("train", 5), ("val", 9), ("test", 3))):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for i in range(count):
            both = [np.asarray(picture(100 * number + 10 * i + side)) for side in (0, 1)]
            Image.fromarray(np.concatenate(both, axis=1)).save(tmp_path / "data" / folder / f"{i}.png")
    return tmp_path / "data"


@pytest.mark.parametrize("flags", [[], ["--preprocess", "scale_width_and_crop", "--load_size", 44]])
def test_fixed_samples_are_what_test_gives_for_the_same_weights(command, tmp_path, with_val, flags):
    """Of the validation phase, spread evenly, to the pixel; whole images, also of a run trained on crops."""
    ended = command(
        "train",
        *SMALL,
        "--dataroot",
        with_val,
        "--model",
        "pix2pix",
        "--netG",
        "unet_32",
        "--name",
        "run",
        "--n_epochs",
        1,
        "--n_epochs_decay",
        1,
        "--fixed_samples",
        4,
        *flags,
    )
    assert ended.code == 0, ended.err
    folder = tmp_path / "checkpoints" / "run"
    told = history(folder)["samples"]
    assert [name.rpartition("/")[2] for name in told["files"]] == ["0.png", "2.png", "4.png", "6.png"]
    assert all("/val/" in name for name in told["files"]) and told["epochs"] == [1, 2]
    assert told["labels"] == {"real_A": [1], "fake_B": [1, 2], "real_B": [1]}  # inputs are kept once
    ended = command("test", "--name", "run", "--phase", "val", "--dataroot", with_val)
    assert ended.code == 0, ended.err
    results = tmp_path / "results" / "run" / "val_latest" / "images"
    for number, stem in enumerate("0246", 1):
        shown = Image.open(folder / "web" / "samples" / f"epoch002_{number}_fake_B.png")
        assert np.array_equal(np.asarray(shown), np.asarray(Image.open(results / f"{stem}_fake_B.png")))


def test_fixed_samples_of_large_images_are_crops(command, tmp_path, with_val, monkeypatch):
    monkeypatch.setattr("training.preview.MAX_WHOLE_PIXELS", 1000)
    flags = ["--preprocess", "crop", "--load_size", 32, "--fixed_samples", 2, *FEW]
    ended = command("train", *SMALL, "--dataroot", with_val, *flags)
    assert ended.code == 0 and "note: fixed samples are crops of 32" in ended.out + ended.err, ended.err
    shown = Image.open(tmp_path / "checkpoints" / "run" / "web" / "samples" / "epoch001_1_fake_B.png")
    assert shown.size == (32, 32)


def test_without_a_validation_phase_they_are_training_pictures(command, tmp_path, with_val):
    shutil.rmtree(with_val / "val")
    ended = command(
        "train",
        *SMALL,
        "--dataroot",
        with_val,
        "--model",
        "pix2pix",
        "--netG",
        "unet_32",
        "--name",
        "run",
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
    )
    assert ended.code == 0, ended.err
    files = history(tmp_path / "checkpoints" / "run")["samples"]["files"]
    assert [name.rpartition("/train/")[2] for name in files] == [f"{i}.png" for i in range(5)]


FEW = ["--model", "pix2pix", "--netG", "unet_32", "--name", "run", "--n_epochs", 1, "--n_epochs_decay", 0]


def test_a_validation_phase_without_pictures_is_told(command, tmp_path, with_val):
    for path in (with_val / "val").iterdir():
        path.rename(path.with_suffix(".txt"))
    ended = command("train", *SMALL, "--dataroot", with_val, *FEW)
    assert ended.code == 0, ended.err
    assert "note: fixed samples are images of train (folder" in ended.err + ended.out
    assert "holds no images, but 9 other files such as '0.txt'" in ended.err + ended.out


def test_a_spoilt_validation_picture_is_a_note_and_no_end(command, tmp_path, with_val):
    (with_val / "val" / "0.png").write_bytes(b"no picture")
    ended = command("train", *SMALL, "--dataroot", with_val, *FEW)
    assert ended.code == 0, ended.err
    (note,) = [line for line in ended.out.splitlines() if "fixed samples" in line]
    assert note.startswith("note: no fixed samples can be shown (DataError: image ") and "val/0.png" in note
    ended = command("train", *SMALL, "--dataroot", with_val, *FEW, "--overwrite", "--displays", "console")
    assert ended.code == 0 and "fixed samples" not in ended.out  # nobody wants them, so nobody reads them


@pytest.mark.parametrize("model", TRAINABLE)
def test_what_is_shown_does_not_change_what_is_trained(tmp_path_factory, model):
    """Drawing samples in evaluation mode leaves weights, statistics and random draws alone."""
    trained = []
    for flags in (["--fixed_samples", 0, "--no_html"], ["--fixed_samples", 3, "--sample_epoch_freq", 1]):
        folder = tmp_path_factory.mktemp("run")
        ended = run_in(
            folder,
            "train",
            *TINY,
            "--model",
            model,
            *own_networks(model),
            "--n_epochs",
            2,
            "--n_epochs_decay",
            0,
            *flags,
        )
        assert ended.code == 0, ended.err
        trained.append(weights(folder / "checkpoints" / "run"))
    for name, net in trained[0].items():
        assert all(np.array_equal(net[key], trained[1][name][key]) for key in net), name


def test_long_runs_keep_about_fifty_epochs_of_samples():
    from training.preview import Preview

    shown = SimpleNamespace(seed=0, sample_epoch_freq=10)
    preview = Preview(shown, torch.nn.Linear(1, 1), (), None, [{"path_A": ["a"]}])
    preview._translate = lambda batch, now: {}
    for last in (1, 7, 50, 51, 200, 999):
        drawn = [e for e in range(1, last + 1) if preview.samples(Progress(epoch=e, last_epoch=last))]
        assert drawn[0] == 1 and drawn[-1] == last and (len(drawn) == last if last <= 50 else 25 < len(drawn) <= 52)


SHOWN = """
import torch
from models.pix2pix import Pix2Pix

class Shown(Pix2Pix):
    def forward(self, batch):
        n = len(batch["A"])
        if getattr(self, "mask", None) is None or len(self.mask) != n:
            self.mask = torch.ones(n, 1, 1, 1)  # kept from one step to the next
        if not self.training:
            torch.rand(3)
        return super().forward(batch | {"A": batch["A"] * self.mask})

    def show(self, out):
        return {"real/A": out["real_A"], "x" * 300: out["fake_B"], "..": out["real_B"]}
"""
FAILING = """
import torch
from models.cgan import ClassGAN

class Failing(ClassGAN):
    def forward(self, batch):
        if not self.training or not self.G.training:
            raise ValueError("trained as if it were a test")
        return super().forward(batch)

    def sheets(self, request):
        if request.number > 2:  # more than the rehearsal asks for
            raise MemoryError("too little")
        return super().sheets(request)
"""


def test_training_uses_what_show_kept_and_any_label_gets_a_file(command, tmp_path):
    """A tensor made while samples were drawn is used in the next step; labels with / and of 300 letters get files."""
    (tmp_path / "shown.py").write_text(SHOWN)
    ended = command("train", *TINY, "--plugin", "shown.py", "--model", "shown", "--n_epochs", 2, "--n_epochs_decay", 0)
    assert ended.code == 0, ended.err
    assert "is off from here on" not in ended.out
    told = history(tmp_path / "checkpoints" / "run")
    ((first, last, labels, _, _),) = told["rows"]
    assert (first, last) == (1, 2) and labels[0] == "real_A" and len(labels[1]) == 40
    web = tmp_path / "checkpoints" / "run" / "web"
    assert len(list((web / "images").iterdir())) == 6 and told["samples"]["labels"].keys() == set(labels)


def test_a_model_whose_sheets_fail_stays_in_training_mode(command, tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    ended = command(
        "train",
        *TINY,
        "--plugin",
        "failing.py",
        "--model",
        "failing",
        "--n_epochs",
        3,
        "--n_epochs_decay",
        0,
        "--sample_epoch_freq",
        1,
    )
    assert ended.code == 0, ended.err
    assert ended.out.count("no samples are shown from here on (MemoryError: too little") == 1


# --- in a browser


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("page")
    ended = run_in(folder, "train", *TINY, "--model", "pix2pix", "--n_epochs", 2, "--n_epochs_decay", 0)
    assert ended.code == 0, ended.err
    return folder / "checkpoints" / "run"


@pytest.fixture
def opened(browser):
    """Open a page and return it; afterwards require no errors and no requests outside its folder."""
    pages, faults = [], []

    def told(message):
        if message.type in ("error", "warning"):
            faults.append(message.text)

    def open_page(path, width=1280, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", told)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith("file:") else faults.append(request.url))
        page.goto(path.resolve().as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert faults == []


DECODED = "image => image.decode().then(() => image.naturalWidth)"


def drawn(page):
    return page.eval_on_selector_all(
        ".curve", "found => found.map(path => [path.dataset.loss, path.getAttribute('d')])"
    )


def test_a_browser_shows_curves_samples_and_every_epoch(run, opened):
    page = opened(run / "web" / "index.html")
    page.wait_for_selector(".curve")
    curves = dict(drawn(page))
    steps = [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]
    assert curves.keys() == steps[0]["losses"].keys()
    assert all(path.count("L") == len([row for row in steps if "losses" in row]) - 1 for path in curves.values())
    assert page.text_content("#state").startswith("epoch 2 of 2, step 10: done")
    assert page.eval_on_selector_all("#rows h3", "all => all.map(h => h.textContent)") == ["epoch [2]", "epoch [1]"]
    assert page.locator("#samplerows img").first.evaluate(DECODED) == 32
    assert page.locator("#samplerows tr").count() == 1 + 5
    assert page.locator("dl").first.text_content().count("--") >= 10
    assert "--norm" in page.locator("details").text_content()


def test_the_slider_goes_through_the_epochs(run, opened):
    page = opened(run / "web" / "index.html")
    first = "#samplerows tr:nth-child(2) td:nth-child(2) img"
    page.wait_for_selector(f"{first}[src$='epoch002_1_fake_B.png']")
    page.locator("#epoch").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(f"{first}[src$='epoch001_1_fake_B.png']")
    assert page.text_content("#chosen") == "epoch 1"


def test_curves_tell_values_smooth_scale_and_zoom(run, opened):
    page = opened(run / "web" / "index.html")
    page.wait_for_selector(".curve")
    page.locator(".plot").focus()
    page.keyboard.press("ArrowLeft")
    last = [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()][-2]["losses"]
    told = page.text_content(".told")
    assert "epoch 3.00 (2.00 done)" in told and all(name in told for name in last)
    assert page.locator(".plot text.title").text_content() == EPOCH_AXIS
    before = dict(drawn(page))
    page.locator("label:has-text('log scale') input").check()
    logarithmic = dict(drawn(page))
    assert all(before[name] != logarithmic[name] for name in before)
    page.locator(".legend input").first.uncheck()
    assert len(drawn(page)) == len(before) - 1
    box = page.locator(".plot").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 600, box["y"] + 100)
    page.mouse.up()
    page.wait_for_selector("text=whole run")
    page.get_by_text("whole run").click()
    assert page.get_by_text("whole run").is_hidden()


def test_an_open_page_follows_the_run_without_reloading(run, opened, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    script = folder / "web" / "history.js"
    told = json.loads(script.read_text()[len("ganvas.take(") : -len(");\n")])
    early = told | {"state": "training", "epoch": 1, "updated": told["updated"] - 50}
    early["rows"] = [[1, 1, *row[2:]] for row in told["rows"]]
    early["curves"] = {"x": told["curves"]["x"][:3], "lines": {k: v[:3] for k, v in told["curves"]["lines"].items()}}
    script.write_text(f"ganvas.take({json.dumps(early)});\n")
    page_file = folder / "web" / "index.html"
    head, data, tail = re.split('(?<=id="data" type="application/json">)(.*?)(?=</script>)', page_file.read_text())
    page_file.write_text(head + json.dumps(json.loads(data) | {"history": early}) + tail)
    page = opened(page_file)
    page.evaluate("window.mark = 'the same page'")
    assert page.eval_on_selector_all("#rows h3", "all => all.map(h => h.textContent)") == ["epoch [1]"]
    short = dict(drawn(page))
    script.write_text(f"ganvas.take({json.dumps(told)});\n")
    page.wait_for_selector("#rows section:nth-of-type(2)")
    assert page.evaluate("window.mark") == "the same page"
    assert page.eval_on_selector_all("#rows h3", "all => all.map(h => h.textContent)") == ["epoch [2]", "epoch [1]"]
    assert all(len(path) > len(short[name]) for name, path in drawn(page))
    assert page.text_content("#state").endswith("done")


def test_rows_that_come_do_not_move_what_is_read(browser, tmp_path):
    """New epochs appear above the old ones, and an old one that the user looks at does not move."""
    page_file = a_thousand_epochs(tmp_path)
    script = page_file.parent / "history.js"
    told = json.loads(script.read_text()[len("ganvas.take(") : -len(");\n")])
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(page_file.as_uri())
    old = page.locator("#rows section[data-epoch='990']")
    old.scroll_into_view_if_needed()
    before = old.bounding_box()["y"]
    for more in (1, 2, 3):
        told["rows"][0][1] = 1000 + more
        script.write_text(f"ganvas.take({json.dumps(told | {'updated': told['updated'] + more})});\n")
        page.evaluate("requestHistory()")
        page.wait_for_selector(f"#rows section[data-epoch='{1000 + more}']", state="attached")
        assert abs(old.bounding_box()["y"] - before) < 2
    page.close()


def test_samples_fade_where_they_go_on_sideways(run, opened):
    sides = {}
    for width in (250, 1280):
        page = opened(run / "web" / "index.html", width)
        frame = page.locator("#samples .scroll")
        for place in ("start", "middle", "end"):
            frame.evaluate(
                "(frame, share) => frame.scrollLeft = share * (frame.scrollWidth - frame.clientWidth)",
                {"start": 0, "middle": 0.5, "end": 1}[place],
            )
            expected = {"start": "after", "middle": "before after", "end": "before"}[place] if width < 1000 else ""
            for side in ("before", "after"):
                page.wait_for_function(
                    "([side, is]) => document.querySelector('.scroll').classList.contains(side) === is",
                    arg=[side, side in expected],
                )
            sides[width, place] = frame.evaluate("frame => getComputedStyle(frame).maskImage")
    assert len(set(sides.values())) == 4


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_window_in_light_and_dark(run, opened, width):
    grounds = set()
    for scheme in ("light", "dark"):
        page = opened(run / "web" / "index.html", width, scheme)
        page.wait_for_selector(".curve")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_a_thousand_epochs_open_and_page_through(browser, tmp_path):
    page = browser.new_page()
    page.goto(a_thousand_epochs(tmp_path).as_uri())
    page.wait_for_selector(".curve")
    assert page.locator(".curve").count() == 12
    page.locator("#older").click()
    assert page.locator("#rows h3").first.text_content() == "epoch [980]"
    page.close()


def test_a_page_without_scripts_shows_the_newest_samples(run, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((run / "web" / "index.html").resolve().as_uri())
    assert "need JavaScript" in page.locator("noscript").text_content()
    assert page.locator("#rows img").count() == 6
    context.close()


NASTY = "<img src=x onerror=alert(1)>\"'&%23 </script><script>alert(2)</script>"


def test_nothing_in_names_runs_or_breaks_a_link(browser, tmp_path):
    """Run, label and file names of HTML: text on the page, and pictures that are found."""
    label = NASTY.replace("/", "_")
    page_file = a_thousand_epochs(tmp_path, NASTY, label)
    for number in range(1, 9):
        Image.new("RGB", (8, 8)).save(tmp_path / "web" / "samples" / f"epoch1000_{number}_{label}.png")
    for name in ("real_A", label, "real_B"):
        Image.new("RGB", (8, 8)).save(tmp_path / "web" / "images" / f"epoch1000_{name}.png")
    page, asked = browser.new_page(), []
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    page.goto(page_file.resolve().as_uri())
    page.wait_for_selector(".curve")
    for image in (page.locator("#samplerows img").first, page.locator("#rows img").nth(1)):
        assert image.evaluate(DECODED) == 8
    assert asked == [] and NASTY in page.text_content("h1")
    names = page.evaluate("[...document.querySelectorAll('*')].flatMap(e => [...e.attributes].map(a => a.name))")
    assert not [name for name in names if name.startswith("on")]
    scripts = "[...document.scripts].filter(s => !s.type && s.textContent.includes('alert')).length"
    assert page.evaluate(scripts) == 0
    page.close()


# --- sheets of generated images


@pytest.fixture(scope="module")
def classes_run(tmp_path_factory):
    """A run of cgan of three epochs, continued from the second with another command."""
    folder = tmp_path_factory.mktemp("classes")
    argv = [*TINY, "--model", "cgan", "--n_epochs_decay", 0, "--sample_epoch_freq", 1, "--save_epoch_freq", 1]
    for more in (["--n_epochs", 2], ["--continue_train", "--n_epochs", 3]):
        ended = run_in(folder, "train", *(argv if "--continue_train" not in more else ["--name", "run"]), *more)
        assert ended.code == 0, ended.err
    return folder / "checkpoints" / "run"


def test_a_sheet_of_each_epoch_with_its_classes_and_no_rows(classes_run, opened):
    """The names of the classes stand at the height of their rows; the slider goes back to the first epoch."""
    assert {p.name for p in (classes_run / "web" / "images").iterdir()} == {f"epoch00{n}_grid.png" for n in (1, 2, 3)}
    page = opened(classes_run / "web" / "index.html")
    image = page.locator("#samplerows img[src='images/epoch003_grid.png']")
    page.wait_for_selector("#samplerows .classes")
    image.evaluate(DECODED)
    names = page.locator("#samplerows .classes div")
    assert names.all_text_contents() == ["ball", "box", "cone", "ring"]
    sheet = image.bounding_box()
    for row, box in enumerate(names.nth(i).bounding_box() for i in range(4)):
        middle = sheet["y"] + (row + 0.5) * sheet["height"] / 4
        assert box["y"] <= middle <= box["y"] + box["height"]
    page.locator("#epoch").focus()
    page.keyboard.press("Home")
    page.wait_for_selector("#samplerows img[src='images/epoch001_grid.png']")
    assert names.count() == 4 and page.text_content("#chosen") == "epoch 1"
    assert page.locator("#pictures").is_hidden()


def test_without_scripts_the_newest_sheet_is_there(classes_run):
    assert Page(classes_run / "web" / "index.html").images[0] == "images/epoch003_grid.png"


@pytest.mark.parametrize("names", [["grid"], ["grid", "truncated"]])
def test_each_of_several_sheets_has_its_name(browser, tmp_path, names):
    """With scripts and without."""
    sink = Html(options(), tmp_path)
    sink.sheets(Progress(epoch_size=10, last_epoch=3), dict.fromkeys(names, np.zeros((64, 64, 3), np.uint8)))
    captions = names if len(names) > 1 else []
    for scripts in (True, False):
        context = browser.new_context(java_script_enabled=scripts)
        page = context.new_page()
        page.goto((tmp_path / "web" / "index.html").as_uri())
        page.locator("#samplerows img").last.wait_for(state="attached")
        assert page.locator("#samplerows td p").all_text_contents() == captions
        context.close()


def test_a_resumed_run_shows_the_options_of_the_whole_run(classes_run, opened):
    """The second command gave only --name, --continue_train and --n_epochs."""
    shown = opened(classes_run / "web" / "index.html").locator("dl").first.text_content()
    for flag in ("--modelcgan", "--dataroot", "--n_epochs3", "--sample_epoch_freq1", "--continue_trainTrue"):
        assert flag in shown
    assert "--beta1" not in shown


# --- lines of images


@pytest.mark.parametrize(("labels", "lines"), [
    (["real_A", "fake_B", "real_B"], [3]), (["real_A", "fake_B", "rec_A", "real_B", "fake_A", "rec_B"], [3, 3]),
    (["real_A", "fake_B", "rec_A", "idt_B", "real_B", "fake_A", "rec_B", "idt_A"], [4, 4]),
    (["real_A", "fake_B", "rec_A", "real_B"], [4]), (["input", "real_A", "a", "b"], [4]), (["x"], [1]), ([], [0]),
])  # fmt: skip
def test_a_line_for_each_real_image_with_its_translations(labels, lines, browser, tmp_path):
    """In the page without scripts, and the same where a script makes it."""
    assert [len(line) for line in label_lines(labels)] == lines
    assert [label for line in label_lines(labels) for label in line] == labels
    page = browser.new_page()
    page.goto(a_thousand_epochs(tmp_path).as_uri())
    assert page.evaluate("labels => labelLines(labels).map(line => line.length)", labels) == lines
    page.close()


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_no_image_of_an_epoch_is_cut_and_rows_keep_their_height(browser, tmp_path, width):
    """Before and after the lazy images are there."""
    sink = Html(options(display_winsize=256), tmp_path)
    labels = ["real_A", "fake_B", "rec_A", "real_B", "fake_A", "rec_B"]
    at = Progress(epoch_size=10, last_epoch=30)
    for epoch in range(1, 31):
        at.epoch = epoch
        sink.images(at, dict.fromkeys(labels, np.zeros((64, 128, 3), np.uint8)))
    page = browser.new_page(viewport={"width": width, "height": 600})
    page.goto((tmp_path / "web" / "index.html").as_uri())
    oldest = page.locator("#rows section").last
    before = oldest.bounding_box()
    assert page.locator("#rows img").last.evaluate("image => !image.complete")
    oldest.scroll_into_view_if_needed()
    page.locator("#rows img").last.evaluate(DECODED)
    assert oldest.bounding_box()["height"] == pytest.approx(before["height"], abs=1)
    for box in [page.locator("#rows img").nth(i).bounding_box() for i in range(6)]:
        assert (
            box["x"] >= 0
            and box["x"] + box["width"] <= width
            and box["width"] == pytest.approx(2 * box["height"], abs=1)
        )
    page.close()


# --- metrics


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A finished run of three epochs with metrics."""
    folder = tmp_path_factory.mktemp("measured")
    ended = run_in(folder, "train", *TINY, "--model", "pix2pix", "--n_epochs", 3, "--n_epochs_decay", 0,
                   "--metrics", "l1,ssim", "--displays", "html,console")  # fmt: skip
    assert ended.code == 0, ended.err
    return folder / "checkpoints" / "run", ended.out


def test_each_metric_has_a_chart_with_its_best_epoch(measured, opened):
    folder, _ = measured
    page = opened(folder / "web" / "index.html")
    page.wait_for_selector("#metriccharts .mark")
    told = json.loads((folder / "metrics.json").read_text())
    assert page.locator("#metriccharts .metric h3").all_text_contents() == ["L1", "ssim"]
    marks = page.locator("#metriccharts .mark title").all_text_contents()
    assert [mark.rpartition(" ")[2] for mark in marks] == [str(best["epoch"]) for best in told["best"].values()]
    lines = page.eval_on_selector_all("#metriccharts .curve", "all => all.map(path => path.dataset.loss)")
    assert lines == ["L1", "training images", "ssim", "training images"]
    assert page.text_content("#measured") == told["measured"]


def test_values_of_images_are_sorted_by_a_click(measured, opened):
    folder, _ = measured
    page = opened(folder / "web" / "index.html")
    page.wait_for_selector("#imagevalues tr", state="attached")
    page.locator("#measuredimages summary").click()
    told = json.loads((folder / "metrics.json").read_text())["images"]
    by_ssim = sorted(told, key=lambda image: told[image]["ssim"])
    first = page.locator("#imagevalues tr td:first-child")
    assert first.all_text_contents() == sorted(told)
    for order in (by_ssim, by_ssim[::-1]):
        page.get_by_role("button", name="ssim").click()
        assert first.all_text_contents() == order


def test_the_console_prints_metrics_and_their_time(measured):
    _, out = measured
    lines = [line for line in out.splitlines() if line.startswith("  metrics ")]
    assert len(lines) == 3 and all(re.search(r"L1 0\.\d+ ± \S+ \(best", line) for line in lines)
    assert lines[0].endswith(" sec") and "images of val" in lines[0]
    assert all(re.search(r"metrics \d+ %", line) for line in out.splitlines() if line.startswith("  time "))
