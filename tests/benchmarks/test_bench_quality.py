"""The benchmark of recipes: runs are stored once, failures are not, and the report compares what is stored."""

import json
import math
from dataclasses import replace

import pytest
import torch

from benchmarks import bench_quality
from benchmarks.quality import report
from benchmarks.quality.tasks import TASKS, Comparison
from cli.main import run_command
from tests.support.images import picture
from tests.support.runs import ROOT, Ended
from util import file_lock

PAGE = "# Recipes\n<!-- quality -->\nnothing\n<!-- /quality -->\n<!-- tried -->\n<!-- /tried -->\n"
SMALL = {"model": "pix2pix", "netG": "unet_32", "load_size": "32", "ngf": "4", "ndf": "4"}


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run the benchmark with one task of six small pairs; its recipe is best.yaml."""
    for phase in ("train", "test"):
        (tmp_path / "data/dots" / phase).mkdir(parents=True)
        for number in range(6):
            picture(number, 64, 32).save(tmp_path / f"data/dots/{phase}/{number}.png")
    best = tmp_path / "best.yaml"
    best.write_text("model: pix2pix\nngf: 6\nnum_threads: 0\n")
    kept = {"comparisons": (Comparison("L1,PSNR"),), "decides": {"L1": "lower"}, "shown": ("PSNR",)}
    task = replace(TASKS[1], data="dots", recipe=str(best), flags="--crop_size 32", usual=SMALL, minutes=0.05, **kept)
    for module in (bench_quality, report):
        monkeypatch.setattr(module, "TASKS", {1: task})
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/recipes.md").write_text(PAGE)
    places = [f"--{name}={tmp_path / name}" for name in ("data", "results", "docs")]

    def run(*words: object) -> Ended:
        code = run_command(bench_quality.main, [*places, "--tasks=1", "--points=2", *map(str, words)])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def made_up(monkeypatch):
    """Replace training and measuring; return {contestant: (images, L1) of each share} and the list of trained keys."""
    curves = {"reference": [(10, 0.5), (20, 0.4)], "best": [(20, 0.39), (40, 0.3)]}
    trained: list[str] = []

    def train(job, run, data, log):
        trained.append(job.key())
        run.mkdir()
        torch.save({"w": torch.zeros(3), "running_mean": torch.zeros(9)}, run / "latest_net_G.pth")
        shares = [job.seconds / 2, job.seconds]
        return [{"epoch": str(k), "seconds": s, "images": images, "steps": images, "cores_of_others": 0.0, "L1": L1}
                for k, (s, (images, L1)) in enumerate(zip(shares, curves[job.contestant]))]  # fmt: skip

    def measure(task, run, epoch, last, data, images, extra):
        contestant = run.name.split("-")[1]
        return {"L1": curves[contestant][int(epoch)][1], "PSNR": 1.0}, []

    monkeypatch.setattr(bench_quality, "train", train)
    monkeypatch.setattr(bench_quality, "measure", measure)
    return curves, trained


def stored(tmp_path) -> list[str]:
    return sorted(file.name.rpartition("-")[0] for file in (tmp_path / "results").glob("*.json"))


@pytest.mark.slow
def test_runs_are_trained_measured_and_reported(bench, tmp_path):
    done = bench("--seeds=1")
    assert done.code == 0, done.err
    assert stored(tmp_path) == ["1-best-seed1", "1-reference-seed1"]
    for file in (tmp_path / "results").glob("*.json"):
        result = json.loads(file.read_text())
        one, two = result["points"]
        assert 1.5 <= one["seconds"] < two["seconds"] and two["seconds"] == pytest.approx(3, abs=0.5)
        assert 0 < one["images"] < two["images"] and set(two["values"]) == {"L1", "PSNR"}
        assert result["parameters"].keys() == {"G", "D"} and not (tmp_path / "results/work").exists()
    assert "2 runs of 2 stored" in bench("--seeds=1").out
    assert bench("--seeds=1", "--report").code == 0
    page = (tmp_path / "docs/recipes.md").read_text()
    assert "| L1 after" in page and "![Images of both](images/quality_1.png)" in page
    assert (tmp_path / "docs/images/quality_1.png").is_file()


def test_a_rerun_does_what_is_missing(bench, made_up, tmp_path):
    _, trained = made_up
    assert bench("--seeds=1").code == 0
    assert bench("--seeds=1,2").code == 0
    assert stored(tmp_path) == ["1-best-seed1", "1-best-seed2", "1-reference-seed1", "1-reference-seed2"]
    assert len(trained) == len(set(trained)) == 4
    (tmp_path / "best.yaml").write_text("ngf: 7\n")  # another recipe, another result
    assert bench("--seeds=1").code == 0 and len(trained) == 5
    lock = file_lock.acquire(tmp_path / "results/.lock", "nothing")
    assert bench("--seeds=3").code == 5 and len(trained) == 5  # another benchmark is at work
    lock.release()
    late = bench("--seeds=3", "--minutes=0.001")
    assert late.out.count("not started, it needs") == 2 and len(trained) == 5


def test_the_report_compares_at_equal_time_and_images(bench, made_up, tmp_path):
    curves, _ = made_up
    curves["best"] = [(20, 0.41), (40, 0.3)]  # wins at the end, not at the reference's 20 images
    assert bench().code == 0
    assert bench("--report").code == 0
    page = (tmp_path / "docs/recipes.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| 1 "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["1", "L1 (lower is better)", "0.4", "0.3", "yes", "no", "0.05 of 0.05 min (100%)"]
    assert "0.41 (0.41, 0.41, 0.41)" in page and "Nothing else is stored." in page


def test_what_was_tried_is_listed(bench, made_up, tmp_path):
    curves, _ = made_up
    mine = tmp_path / "mine.yaml"
    mine.write_text("lr: 0.001\n")
    curves["mine"] = curves[str(mine)] = [(1, 0.9), (2, 0.8)]
    refused = bench("--candidate", mine, "--seeds=1,12")
    assert refused.code == 2 and "seeds 1,2,3 are for the comparison" in refused.err
    assert bench("--candidate", mine).code == 0 and bench().code == 0
    assert bench("--report").code == 0
    row = (tmp_path / "docs/recipes.md").read_text().splitlines()[-2]
    assert row.split("|")[2:] == [" mine   ", " 0.05    ", " 11, 12 ", " L1 0.8 (0.8, 0.8)  ", " lr=0.001 ", ""]


def test_a_run_that_fails_is_reported_and_not_stored(bench, tmp_path):
    (tmp_path / "bad.yaml").write_text("netG: unet_31\n")
    done = bench("--recipe", tmp_path / "bad.yaml", "--seeds=1")
    assert done.code == 3 and "FAILED, not stored" in done.out and "unet_31" in done.out
    assert stored(tmp_path) == [] and "0 runs of 1 stored" in done.out
    unknown = bench("--recipe=nothing")
    assert unknown.code == 2 and "no recipe 'nothing'" in unknown.err
    assert bench("--tasks=7").code == 2 and bench("--report").code == 3


def test_wins_and_times_are_computed_from_all_seeds():
    assert report.all_win([0.3, 0.39], [0.4, 0.5], "lower")
    assert not report.all_win([0.3, 0.41], [0.4, 0.5], "lower")
    assert not report.all_win([0.4], [0.4], "higher")
    points = [{"seconds": s, "images": s, "values": {"m": v}} for s, v in ((1, 0.2), (2, 0.5), (3, 0.4))]
    run = {"points": points}
    assert report.reached(run, 0.4, "m", "higher") == 2
    assert math.isinf(report.reached(run, 0.6, "m", "higher"))
    assert report.at_images(run, 1.4, "m") == 0.2


def test_the_page_lists_the_tasks():
    page = (ROOT / "docs/recipes.md").read_text()
    for task in TASKS.values():
        assert f"| {task.number} | {task.title} | {task.minutes} | `{task.recipe}` |" in page
