"""scripts/compare.py matches equal inputs of several runs, and shows their images, means and losses."""

import json
import math
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from cli.main import run_command
from displays.loss_log import MAX_POINTS, read_curves
from pages.paged_gallery import PagedGallery
from pages.rows import Picture
from scripts import compare
from tests.support.galleries import check_gallery, make_book, opened, search, until
from tests.support.runs import ROOT, Ended

L1 = {"one": [0.1, 0.4, 0.3], "two": [0.2, 0.2, 0.2]}
PSNR = {"one": [20, 10, math.inf], "two": [15, 15, 15]}


def colour(run, label):
    """Inputs and truths alike in all runs, outputs not."""
    if label.startswith("real"):
        return (200, 30, 30) if label == "real_A" else (30, 60, 200)
    return {"one": (30, 160, 60), "two": (240, 200, 40), "three": (120, 0, 120)}[run]


def write(folder, run, names, labels=("real_A", "fake_B", "real_B"), size=(24, 16)):
    """What test.py leaves of a run."""

    def save(path, i, label):
        Image.new("RGB", size, colour(run, label)).save(path)
        return size

    def figures(i):
        return [L1.get(run, [0.5] * 3)[i % 3], PSNR.get(run, [9] * 3)[i % 3]]

    make_book(folder, names, save, labels=labels, figures=figures)


@pytest.fixture
def compared(tmp_path, monkeypatch, capsys):
    """compared(*argv) runs the script in an empty folder -> Ended."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        capsys.readouterr()
        try:
            code = run_command(compare.main, list(map(str, argv)))
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return run


@pytest.fixture
def two(tmp_path):
    """Results of the runs one and two, three inputs each that both have, one input that only one of them has."""
    write(tmp_path / "results/one/test_latest", "one", ["a", "b", "c", "only 1"])
    write(tmp_path / "results/two/test_latest", "two", ["a", "c", "b", "only 2"])
    return SimpleNamespace(page=tmp_path / "results/compare/one_two/index.html", results=tmp_path / "results")


def test_runs_of_other_data_and_half_a_test_are_told(compared, two, tmp_path):
    """Pictures of one name were taken for the same, and a run on easy pictures for the better one."""
    for run, data in (("one", "easy"), ("two", "hard")):
        (tmp_path / data).mkdir()
        record = {"checkpoint": f"../../../checkpoints/{run}", "data": f"../../../{data}"}
        (two.results / run / "test_latest" / "metrics.json").write_text(json.dumps(record))
    ended = compared("one", "two")
    said = f"note: the runs were tested on different data (one on {tmp_path / 'easy'}, two on {tmp_path / 'hard'})"
    assert ended.code == 0 and said in ended.out
    (two.results / "two" / "test_latest" / "metrics.json").write_text(json.dumps(record | {"data": "../../../easy"}))
    assert "different data" not in compared("one", "two").out
    (two.results / "two" / "test_latest" / "files.jsonl").touch()
    ended = compared("one", "two")
    assert ended.code == 3 and "holds a test that has not ended" in ended.err


def rows_of(page):
    return page.eval_on_selector_all(
        ".rows:not([hidden]) .row",
        """found => found.map(row => [row.querySelector('h3').textContent,
        [...row.querySelectorAll('img')].map(image => image.alt),
        [...row.querySelectorAll('.figures .best')].map(one => one.textContent)])""",
    )


def test_rows_hold_inputs_once_and_each_runs_outputs(browser, compared, two):
    ended = compared("one", "two")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        "not shown: only 1: only in one",
        "not shown: only 2: only in two",
        "2 runs -> results/compare/one_two/index.html",
    ]
    check_gallery(two.page.parent)
    labels = ["real_A", "real_B", "fake_B · one", "fake_B · two"]
    with opened(browser, two.page, viewport={"width": 1280, "height": 800}) as page:
        assert [row[:2] for row in rows_of(page)] == [["a", labels], ["b", labels], ["c", labels]]
        until(page, "[...document.querySelectorAll('.row img')].every((image) => image.naturalWidth === 24)")
        sources = page.eval_on_selector_all(
            ".row img", "found => found.slice(0, 4).map(one => one.getAttribute('src'))"
        )
        assert sources == [
            f"../../{run}/test_latest/images/a_{label}.png"
            for run, label in (("one", "real_A"), ("one", "real_B"), ("one", "fake_B"), ("two", "fake_B"))
        ]
        page.locator("summary").click()
        assert page.locator("details li").all_inner_texts() == ["only 1: only in one", "only 2: only in two"]
    assert (two.page.parent / "unmatched.txt").read_text().count("\n") == 2
    assert not (two.page.parent / "images").exists()  # no copies


def test_figures_means_and_who_is_better(browser, compared, two):
    """Inputs are matched by name, in any order: b is the second of one (L1 0.4) and the third of two (0.2)."""
    assert compared("one", "two").code == 0
    with opened(browser, two.page) as page:
        best = {name: marked for name, _, marked in rows_of(page)}
        assert best == {"a": ["one 0.1", "one 20"], "b": ["two 0.2", "two 15"], "c": ["two 0.2", "one inf"]}
        cells = page.locator(".means-of td").all_inner_texts()
        assert cells[1:] == ["0.2667 best in 1 of 3", "0.2 best in 2 of 3", "15 best in 2 of 3", "15 best in 1 of 3"]
        marks = page.eval_on_selector_all(".means-of td", "found => found.map(one => one.className)")
        assert marks[1:3] == ["", "best"]
        titles = page.eval_on_selector_all(".order option", "found => found.map(one => [one.textContent, one.value])")
        values = dict(titles)
        orders = {"L1: where one wins most": "acb", "L1: where two wins most": "bca",
                  "PSNR: where one wins most": "cab", "L1 of one, best first": "acb",
                  "PSNR of one, best first": "cab", "name, Z to A": "cba"}  # fmt: skip
        for title, names in orders.items():
            page.select_option(".order", values[title])
            page.wait_for_selector(".found .row")
            assert "".join(row[0] for row in rows_of(page)) == names, title
        page.fill(".search", "b")
        until(page, "document.querySelectorAll('.found .row').length === 1")


def test_the_slider_holds_one_runs_output_against_the_others(browser, compared, two):
    assert compared("one", "two").code == 0
    with opened(browser, two.page) as page:
        page.locator("button.compare").first.click()
        chosen = page.eval_on_selector_all(".slider select", "found => found.map(one => one.selectedOptions[0].text)")
        assert chosen == ["fake_B · one", "fake_B · two"]


@pytest.mark.parametrize("width", [390, 1280])
def test_no_width_scrolls_sideways(browser, compared, two, width):
    shutil.copytree(two.results / "two", two.results / ("x" * 120))
    assert compared("one", "two", "x" * 120).code == 0
    (page_of_three,) = two.results.glob("compare/*/index.html")
    with opened(browser, page_of_three, viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert len(rows_of(page)[0][1]) == 5


def test_inputs_that_differ_are_shown_for_each_run(browser, compared, two, tmp_path):
    """Say of another --crop_size: then real_A is not the same picture."""
    shutil.rmtree(two.results / "two")
    write(two.results / "two/test_latest", "two", ["a"], size=(48, 32))
    assert compared("one", "two").code == 0
    with opened(browser, two.page) as page:
        assert rows_of(page)[0][1] == [
            f"{label} · {run}" for label in ("real_A", "fake_B", "real_B") for run in ("one", "two")
        ]


def test_runs_of_other_folders_phases_and_epochs_are_compared(compared, two, tmp_path):
    write(two.results / "one/val_5", "three", ["a"])
    assert compared("results/one/val_5", "results/two/test_latest").code == 0
    assert (two.results / "compare/one_val_5_two_test_latest/index.html").is_file()
    ended = compared("results/one/val_5", "results/one/test_latest", "two", "--output", "here")
    assert ended.code == 0, ended.err
    check_gallery(tmp_path / "here")
    assert "fake_B · one/val_5" in (tmp_path / "here/index.html").read_text()
    shutil.copytree(two.results / "one", two.results / "four")
    assert compared("one", "four", "--phase", "val", "--epoch", "5").code == 0


def test_results_of_the_reference_are_read_by_their_names(compared, two, tmp_path, browser):
    """Without rows.js: STEM_LABEL.png."""
    (two.results / "two/test_latest/rows.js").unlink()
    ended = compared("one", "two")
    assert ended.code == 0, ended.err
    with opened(browser, two.page) as page:
        assert [row[0] for row in rows_of(page)] == ["a", "b", "c"]
        assert rows_of(page)[0][1] == ["real_A", "real_B", "fake_B · one", "fake_B · two"]


def test_losses_of_the_runs_are_drawn_into_one_plot(browser, compared, two, tmp_path):
    for run in ("one", "two"):
        (tmp_path / "checkpoints" / run).mkdir(parents=True)
        lines = [{"epoch": 1, "at": 1 + i / 5000, "losses": {"G": i, "D": None if i % 2 else 0.5}} for i in range(5000)]
        text = "".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 2, "at": 2.0, "lo'
        (tmp_path / "checkpoints" / run / "losses.jsonl").write_text(text)
    assert compared("one", "two").code == 0
    with opened(browser, two.page) as page:
        data = page.evaluate("JSON.parse(document.getElementById('data').textContent)")
        page.locator("#losses summary").click()
        page.wait_for_selector(".curve")
        assert page.locator(".curve").count() == 4 and page.locator(".legend .run").count() == 2
    assert [run["name"] for run in data["runs"]] == ["one", "two"]
    run = data["runs"][0]
    assert len(run["x"]) == len(run["lines"]["G"]) == len(run["lines"]["D"]) <= MAX_POINTS
    assert run["lines"]["G"][:2] == [3.5, 11.5] and set(run["lines"]["D"]) == {0.5}
    assert read_curves(tmp_path / "none") == {"x": [], "lines": {}}


def test_folders_of_results_name_their_run_and_kind(compared, two, tmp_path):
    """The losses come from the run that metrics.json names; folders of images alone are no comparison's."""
    folder = two.results / "one" / "test_latest"
    folder.rename(folder.with_name("test_latest_1"))
    record = {"checkpoint": "../../../elsewhere/one", "data": ""}
    (folder.with_name("test_latest_1") / "metrics.json").write_text(json.dumps(record))
    (tmp_path / "elsewhere" / "one").mkdir(parents=True)
    (tmp_path / "elsewhere" / "one" / "losses.jsonl").write_text('{"epoch": 1, "mean": {"G": 0.75}}\n')
    ended = compared("results/one/test_latest_1", "two", "--output", "here")
    assert ended.code == 0, ended.err
    assert '"lines": {"G": [0.75]}' in (tmp_path / "here" / "index.html").read_text()
    (tmp_path / "checkpoints" / "one").mkdir(parents=True)  # another run of that name
    (tmp_path / "checkpoints" / "one" / "losses.jsonl").write_text('{"epoch": 1, "mean": {"G": 9.5}}\n')
    shutil.copytree(folder.with_name("test_latest_1"), folder)
    ended = compared("one", "two", "--output", "named")
    assert ended.code == 0 and '"lines": {"G": [0.75]}' in (tmp_path / "named" / "index.html").read_text()
    shutil.rmtree(folder)
    ended = compared("two", "results/one/test_latest_1", "--output", "results/one/test_latest_1")
    assert ended.code == 2 and "holds results; choose another folder" in ended.last
    (two.results / "two/test_latest/rows.js").unlink()
    for path in (two.results / "two/test_latest/images").iterdir():
        path.rename(path.with_name(path.name.replace("_fake_B", "").replace("_real", "")))
    (two.results / "two/test_latest/metrics.json").write_text(json.dumps(record))
    ended = compared("two", "results/one/test_latest_1")
    assert ended.code == 3 and ended.last.endswith("wrote it; run test.py without --results_only")


def test_runs_of_other_ranges_are_told(compared, two, tmp_path):
    """One PSNR was of 0 to 1400, the other of 0 to 65535, and the page said which is best."""
    for run, values in (("one", "0,1400 uint16"), ("two", "uint16")):
        (tmp_path / "checkpoints" / run).mkdir(parents=True)
        options = {"options": {"name": run, "range_B": values}}
        (tmp_path / "checkpoints" / run / "options.json").write_text(json.dumps(options))
        record = {"checkpoint": f"../../../checkpoints/{run}", "data": "demo"}
        (two.results / run / "test_latest" / "metrics.json").write_text(json.dumps(record))
    said = "note: the runs' values have different ranges (one of 0,1400 uint16, two of uint16): L1, PSNR and the like"
    assert said in compared("one", "two").out
    (tmp_path / "checkpoints" / "one" / "options.json").write_text(json.dumps(options))
    assert "ranges" not in compared("one", "two").out


def test_images_of_b_keep_their_own_names(compared, two, tmp_path):
    """Unpaired inputs: rows.js names the stem of each image."""
    for run in ("one", "two"):
        folder = two.results / run / "val_latest"
        (folder / "images").mkdir(parents=True)
        for name in ("horse_real_A.png", "zebra_real_B.png"):
            Image.new("RGB", (24, 16)).save(folder / "images" / name)
        book = PagedGallery(folder, "t", "")
        pictures = [Picture(label, f"_{label}.png", 24, 16) for label in ("real_A", "real_B")]
        for name in ("horse 10", "horse 2"):
            book.add(name, pictures, stem="horse", stems=["horse", "zebra"])
        book.close()
    assert compared("one", "two", "--phase", "val", "--output", "here").code == 0
    (page,) = check_gallery(tmp_path / "here").values()
    assert page.headings == ["horse 2", "horse 10"]
    assert [src.rpartition("/")[2] for src in page.values("img", "src")] == ["horse_real_A.png", "zebra_real_B.png"] * 2


def test_results_of_the_best_epoch_and_of_the_last(compared, two):
    """--epoch best finds best_METRIC; names of results have the epochs; no run is best where the other has no value."""
    options = {"format": 1, "options": {"metrics": ["ssim"]}, "spec": {}}
    (two.results.parent / "checkpoints" / "one").mkdir(parents=True)
    (two.results.parent / "checkpoints" / "one" / "options.json").write_text(json.dumps(options))
    (two.results / "one/test_latest").rename(two.results / "one/test_best_ssim")
    ended = compared("one", "results/two/test_latest", "--epoch", "best", "--output", "here")
    assert ended.code == 0, ended.err
    text = (two.results.parent / "here" / "index.html").read_text()
    assert '<h1 dir="auto">one/test_best_ssim and two/test_latest</h1>' in text and "best in 1 of 3" in text
    rows = two.results / "two/test_latest/rows.js"
    rows.write_text(rows.read_text().replace('"L1"', '"other"').replace('"PSNR"', '"more"'))
    assert compared("one", "results/two/test_latest", "--epoch", "best", "--output", "here").code == 0
    assert "best in" not in (two.results.parent / "here" / "index.html").read_text()


def test_losses_of_short_runs_are_means_of_epochs(tmp_path):
    rows = [{"epoch": e, "mean": {"G": e / 2, "D": None}} for e in (1, 2, 3)]
    (tmp_path / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_curves(tmp_path / "losses.jsonl") == {
        "x": [2, 3, 4],  # the ends of the epochs
        "lines": {"G": [0.5, 1, 1.5], "D": [None, None, None]},
    }


HOSTILE = "</script><script>pwned()</script><img src=x onerror=pwned()>\"'#%20é"


def test_hostile_names_are_text(browser, compared, two):
    name = HOSTILE.replace("/", "\u2215")
    for run in ("one", "two"):
        write(two.results / f"{run}{name}/test_latest", run, [name, f"{run}{name}"])
    ended = compared(f"one{name}", f"two{name}")
    assert ended.code == 0, ended.err
    (folder,) = (two.results / "compare").iterdir()
    check_gallery(folder)
    with opened(browser, folder / "index.html") as page:
        search(page, "PWNED")
        assert [row[0] for row in rows_of(page)] == [name]
        page.locator(".found button.compare").click()
        assert page.evaluate("[typeof pwned, document.querySelectorAll('[onerror]').length]") == ["undefined", 0]


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["one"], 2, "error: runs 'one': is only one run; give two or more"),
        (["one", "one"], 2, "error: runs 'one one': are not all different"),
        (
            ["one", "nobody"],
            3,
            "error: run 'nobody': has no results in results/nobody; there are ",
        ),
        (["one", "two", "--epoch", "7"], 3, "has no results of phase test, epoch 7, only of test_latest; choose with"),
        (["one", "two", "--wrong", "7"], 2, "error: option '--wrong': is not a flag; see --help"),
        (["one", "two", "--display_winsize", "0"], 2, "error: option '--display_winsize': 0 is not a valid width"),
        ([], 2, "needs RUN; add it"),
        (["one", "two", "--output", "results/one/test_latest"], 2, "error: option '--output'"),
        (["one", "three"], 3, "have no input in common ('a' and 'z')"),
        (["one", "empty"], 3, "contains no results"),
        (["one", "broken"], 3, "is damaged, or not from GANvas"),
    ],
)
def test_errors_are_one_line(compared, two, argv, code, said):
    write(two.results / "three/test_latest", "three", ["z"])
    (two.results / "empty/test_latest/images").mkdir(parents=True)
    (two.results / "broken/test_latest/images").mkdir(parents=True)
    (two.results / "broken/test_latest/rows.js").write_text("window.ganvasRows = {")
    ended = compared(*argv)
    assert ended.code == code, ended.err
    assert said in ended.last and ended.last.startswith("error: ") and ended.err.count("\n") == 1
    assert not (two.results / "compare").exists()


def test_help_needs_no_torch():
    code = "import sys; sys.argv = ['compare.py', '--help']; import runpy\n"
    code += "try: runpy.run_path('scripts/compare.py', run_name='__main__')\n"
    code += "except SystemExit: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--checkpoints_dir" in done.stdout
