"""Every benchmark case runs in a small form, cases take turns, and numbers and errors are correct."""

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import bench, case_table, scaling, variants
from benchmarks.harness import stats
from benchmarks.harness.process import OURS, THEIRS, CaseProcess, time_interleaved
from tests.soak import soak
from tests.support.runs import ROOT, Ended
from util.errors import DataError, OptionError


@pytest.fixture
def bench_command(tmp_path, monkeypatch, capsys):
    """Run benchmarks/bench.py in this process, in an empty folder; its cases have processes of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(*argv: object) -> Ended:
        from cli.main import run_command

        code = run_command(bench.main, [str(word) for word in argv])
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return run


CASES = case_table.make_cases(True)
IN_EVERY_RUN = ("step_pix2pix", "save", "help")  # one of each kind; the others in `make test-slow`


@pytest.mark.parametrize(
    "name", [name if name in IN_EVERY_RUN else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_a_case_runs_and_tells_its_figures(bench_command, tmp_path, name):
    done = bench_command("--quick", "--rounds", "1", "--cases", name, "--json", tmp_path / "all.json")
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "all.json").read_text())
    assert set(told["machine"]) == {"date", "cores", "cpu", "memory_gb", "python", "torch", "GANvas"}
    assert list(told["cases"]) == [name]
    wanted, found = {"seconds", "peak_mb", "items", "rounds", "others"}, told["cases"][name]
    if CASES[name].counts_flops:
        wanted |= {"flops", "flops_per_second", "peak_flops_per_second", "utilisation"}
    assert set(found) == wanted
    assert found["seconds"] > 0 and found["peak_mb"] > 10
    if CASES[name].counts_flops:
        rate = found["flops"] / found["seconds"]
        assert found["flops_per_second"] == pytest.approx(rate)
        assert found["utilisation"] == pytest.approx(rate / found["peak_flops_per_second"])
    table = done.out.split("\n\n")[-1].splitlines()
    assert len(table) == 2 + 1 and table[0].startswith("| case")


@pytest.mark.slow
def test_several_cases_run_in_turns(bench_command, tmp_path):
    done = bench_command("--quick", "--rounds", "2", "--cases", "help", "save", "--json", tmp_path / "all.json")
    assert done.code == 0, done.err
    assert list(json.loads((tmp_path / "all.json").read_text())["cases"]) == ["help", "save"]
    assert len(done.out.split("\n\n")[-1].splitlines()) == 2 + 2


def test_every_model_that_trains_has_a_step():
    from registry.lookup import entries

    models = {entry.name for entry in entries("model") if entry.origin == "built in"} - {"test"}
    assert {f"step_{name}" for name in models} <= set(case_table.make_cases(False))


def test_flops_are_those_of_the_mathematics(tmp_path):
    """A U-Net and a PatchGAN: forward, and twice forward less what reaches pictures from files and shut networks."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.our_cases import TrainingStep

    argv = ["--model", "pix2pix", "--dataroot", "demo", *case_table.TINY_FLAGS]
    step = TrainingStep("", argv, str(tmp_path))
    model = step.run.model.to("meta")  # there no layer computes in a way of its own
    batch, G, D = {name: step.batch[name].to("meta") for name in "AB"}, model.G, model.D

    def counted(work):
        with FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops()

    both = torch.cat([batch["A"], batch["B"]], 1)
    generator = counted(lambda: G(batch["A"]).sum().backward())  # of its first layer the weights' gradient alone
    judge = counted(lambda: D(both).sum().backward())

    def to_pictures():
        for p in D.parameters():
            p.requires_grad_(False)
        D(both.clone().requires_grad_()).sum().backward()

    assert step.facts["flops"] == generator + 2 * judge + counted(to_pictures)


# without COMPILED, which compiles for long
@pytest.mark.parametrize("flags", [way for way in variants.CPU_VARIANTS if way != variants.COMPILED])
def test_steps_with_flags_for_speed_run_and_are_counted(flags, tmp_path):
    from benchmarks.our_cases import TrainingStep

    argv = ["--model", "pix2pix", "--dataroot", "demo", *case_table.TINY_FLAGS, "--batch_size", "4"]
    plain, step = TrainingStep("", argv, str(tmp_path)), TrainingStep("", [*argv, *flags.split()], str(tmp_path))
    assert all(math.isfinite(loss.detach()) for losses in step.once().values() for loss in losses.values())
    more = step.facts["flops"] / plain.facts["flops"]
    if flags in variants.LOW_MEMORY:  # which compute forward again
        assert 1.2 < more < 1.5
    else:
        assert more == 1


class Counted:
    """A side that notes when it is asked."""

    def __init__(self, name, asked):
        self.name, self.asked = name, asked

    def time_runs(self, number):
        self.asked.append((self.name, number))
        return [float(len(self.asked))] * number, 0.0


def test_sides_take_turns():
    asked = []
    taken = time_interleaved([Counted("A", asked), Counted("B", asked)], 3, 2)
    assert asked == [("A", 2), ("B", 2)] * 3
    assert [seconds[0] for seconds, _ in taken["A"]] == [1, 3, 5]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, -1.0])
def test_known_curves_give_their_exponents(power):
    xs = [1, 2, 4, 8, 100]
    assert stats.power_law_exponent(xs, [3 * x**power for x in xs]) == pytest.approx(power)


def test_a_disturbed_curve_gives_the_least_squares_exponent():
    xs = [1.0, 2.0, 4.0]
    assert stats.power_law_exponent(xs, [1, 2 * math.e, 4]) == pytest.approx(1.0)  # the middle one pulls neither way


def test_numbers_that_differ_give_no_ratio():
    medians = {OURS: [1.0, 1.0, 4.0], THEIRS: [2.0, 3.0, 4.0]}
    same = {OURS: {"numbers": [{"G": 1.0, "D": 0.0}]}, THEIRS: {"numbers": [{"G": 1.00005, "D": 0.0}]}}
    found = bench.compare_to_reference(same, medians, 2, 1e-4)
    assert found["equal"] and found["ratio"] == 2.0 and found["reference_seconds"] == 1.5
    other = same | {OURS: {"numbers": [{"G": 1.001, "D": 0.0}]}}
    found = bench.compare_to_reference(other, medians, 2, 1e-4)
    assert not found["equal"] and found["ratio"] is None
    assert bench.max_relative_difference([{"G": 1.0}], [{"G": 1.0, "D": 2.0}]) == math.inf


@pytest.mark.parametrize(("argv", "code", "words"), [
    (["--reference", "nowhere"], 2, "is not a checkout of junyanz/pytorch-CycleGAN-and-pix2pix: it has no train.py"),
    (["--cases", "stepp_cgan"], 2, "did you mean step_cgan?"),
    (["--scaling", "--cases", "batches"], 2, "choose from batch, size"),
    (["--gpu_ids", "0", "--scaling"], 2, "works only with training steps and --ways"),
    (["--ways", "--cases", "help"], 2, "excludes --cases and --reference"),
    (["--ways", "--gpu_ids", "999"], 5, "GPU '999': does not exist; run this where torch.cuda.is_available()"),
    (["--refrence", "x"], 2, "did you mean --reference?"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(bench_command, argv, code, words):
    done = bench_command(*argv)
    assert done.code == code and words in done.last and len(done.err.splitlines()) == 1


def imitation(folder: Path, step: str) -> Path:
    """Make a folder that looks like a checkout of the reference, with a model of one weight."""
    for name in bench.REFERENCE_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for package in ("options", "models"):
        (folder / package / "__init__.py").touch()
    (folder / "options" / "train_options.py").write_text(
        "from types import SimpleNamespace\nclass TrainOptions:\n    def parse(self): return SimpleNamespace()\n"
    )
    (folder / "models" / "__init__.py").write_text(
        "import torch\nclass Any:\n    def __init__(self): self.netG = self.netD = torch.nn.Module()\n"
        f"    def set_input(self, batch): print('read')\n    def optimize_parameters(self): {step}\n"
        "    def get_current_losses(self): return {'G_L1': 12345.0}\ndef create_model(opt): return Any()\n"
    )
    return folder


@pytest.mark.slow
def test_a_reference_that_fails_is_one_line_with_its_reason(bench_command, tmp_path):
    home = imitation(tmp_path / "ref", "raise ValueError('no such layer')")
    done = bench_command("--quick", "--rounds", "1", "--cases", "step_pix2pix", "--reference", home)
    assert done.code == 3 and len(done.err.splitlines()) == 1
    assert str(home) in done.last and "reference_cases:StepLosses ended with 1" in done.last


@pytest.mark.slow
def test_the_reference_gets_our_weights_or_the_case_ends(bench_command, tmp_path):
    """Its modules come from the folder that was named, and weights that do not fit are said."""
    done = bench_command(
        "--quick", "--rounds", "1", "--cases", "step_pix2pix", "--reference", imitation(tmp_path / "ref", "pass")
    )
    assert done.code == 3 and "Unexpected key" in done.err


def test_a_side_that_dies_is_said():
    broken = {"argv": ["-c", "raise SystemExit('broken')"]}
    with CaseProcess("our_cases:Command", broken) as side, pytest.raises(DataError, match="broken"):
        side.time_runs(1)


def test_processes_of_a_case_end_with_it():
    with CaseProcess("our_cases:Command", {"argv": ["-c", ""]}) as side:
        pid = side.process.pid
        assert Path(f"/proc/{pid}").exists() and len(side.time_runs(2)[0]) == 2
    assert side.process.returncode == 0


def test_tables_are_written_between_their_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- cases -->\nold\n<!-- /cases -->\nafter\n")
    stats.write_between(page, "cases", "new")
    stats.write_between(page, "cases", "newer")
    assert page.read_text() == "before\n<!-- cases -->\nnewer\n<!-- /cases -->\nafter\n"
    with pytest.raises(DataError, match="no marks"):
        stats.write_between(page, "scaling", "x")
    for mark in ("cases", "ways", "scaling", "gpu_cases", "gpu_ways"):
        assert (
            f"<!-- {mark} -->" in bench.PERFORMANCE_PAGE.read_text()
            and f"<!-- /{mark} -->" in bench.PERFORMANCE_PAGE.read_text()
        )


@pytest.mark.slow
def test_curves_have_exponents(bench_command, tmp_path):
    done = bench_command("--scaling", "--quick", "--rounds", "1", "--json", tmp_path / "all.json")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "all.json").read_text())["scaling"]
    assert list(found) == list(scaling.make_curves(False))
    for curve in found.values():
        xs, ys = ([p[what] for p in curve["points"]] for what in ("x", "seconds"))
        assert curve["time"] == pytest.approx(stats.power_law_exponent(xs, ys))
        assert {"time_last", "memory", "bare_mb"} <= set(curve) and len(xs) == 2


def test_growth_compares_the_last_tenth_with_the_first_settled():
    seen = [
        soak.ResourceUse(step, 50.0 if step < 200 else 100.0 + (step >= 900), 9 + (step == 960), 3)
        for step in range(0, 1000, 10)
    ]
    assert soak.measure_growth(seen, 200) == {"rss": pytest.approx(0.01), "from_mb": 100.0, "files": 0, "names": 0}
    more = [*seen[:-10], *(one._replace(files=11, names=4) for one in seen[-10:])]
    assert soak.measure_growth(more, 200)["files"] == 2 and soak.measure_growth(more, 200)["names"] == 1


class Pretended:
    """A way that takes so many seconds a step."""

    def __init__(self, argv, name, seconds):
        self.argv, self.name, self.seconds, self.facts = argv, name, seconds, {"flops": 8e9}

    def time_runs(self, number):
        return [self.seconds] * number, 0.0

    def peak_mb(self):
        return 100 * self.seconds

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def short_of_memory():
    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB\nand more")


def test_every_way_stands_beside_the_plain_one_or_is_told(monkeypatch):
    def opened(argv, device, folder, name="plain"):
        if "--grad_checkpoint" in argv:
            raise NotImplementedError
        return Pretended(argv, name, 4.0 if name == "plain" else 2.0)

    monkeypatch.setattr(variants, "open_case", opened)
    found, table = variants.measure_variants(0, False, 3)
    asked = sum(len(each) for each in variants.GPU_VARIANTS.values()) - 1
    assert len(found) == asked and table.count("2.00x") == asked
    assert "fails: NotImplementedError" in table
    first = next(iter(found.values()))
    assert first == {
        "seconds": 2,
        "plain_seconds": 4,
        "ratio": 2,
        "peak_mb": 200,
        "plain_peak_mb": 400,
        "flops_per_second": 4e9,
    }
    monkeypatch.setattr(variants, "open_case", lambda argv, device, folder: short_of_memory())
    found, table = variants.measure_variants(0, False, 3)
    assert not found and table.count("`plain`") == table.count("fails: CUDA out of memory") == len(
        variants.GPU_VARIANTS
    )


@pytest.mark.parametrize("device", [-1, 0])
def test_every_way_is_one_that_training_takes(device):
    from options.parse import parse

    for argv, of in variants.trainings(device, False).values():
        for way in of:
            o = parse([*argv, *variants.PLAIN_FLAGS, *way.split(), "--dataroot", "demo"], "train")
            told = dict(flag.split() if " " in flag else (flag, "True") for flag in way.removeprefix("--").split(" --"))
            assert {name: str(getattr(o, name)) for name in told} == told


def test_on_a_gpu_every_model_is_measured_alone_and_in_batches():
    cases = case_table.make_cases(False, 0)
    steps = {name: case for name, case in cases.items() if name != "test_large"}
    ways = {f"step_{m}_{b}{w}" for m in case_table.COMPARED_MODELS for b, of in case_table.GPU_WAYS.items() for w in of}
    assert set(steps) == {f"step_{m}_{b}" for m in case_table.trainable_models() for b in (1, 16)} | ways
    assert all(case.arguments["device"] == 0 and case.counts_flops for case in steps.values())
    assert {name for name, case in cases.items() if case.is_16_bit} == {n for n in steps if "bf16" in n}
    assert not any(case.compared for case in cases.values() if case.is_16_bit) and list(cases)[-1] == "test_large"
    assert cases["test_large"].arguments["argv"][-2:] == ["--gpu_ids", "0"]


def test_cases_that_start_too_late_have_a_row(monkeypatch):
    monkeypatch.setattr(bench, "GPU_TIME_LIMIT_S", -1)
    o = SimpleNamespace(cases=[], quick=True, gpu_ids=0, reference=None)
    metrics, table = bench.measure_cases(o, 1)
    assert metrics == {} and table.count("not measured: out of time") == len(case_table.make_cases(True, 0))


def test_help_needs_no_torch():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import benchmarks.bench; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_unknown_case_is_an_error_of_options():
    with pytest.raises(OptionError):
        bench.select_cases(["nothing"], True)
