"""A run that compiles nothing does not import torch's compiler, which takes most of a second."""

import subprocess
import sys
from pathlib import Path

import pytest

from training.stepping import compiler_import
from training.stepping.compiler_import import without_compiler

ROOT = Path(__file__).parents[3]
TRAIN = """
import sys
import train
train.main(sys.argv[1:])
assert "torch._dynamo" not in sys.modules
import torch
assert torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(1)) == 1
"""


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """The name of a module, not imported yet, that takes the compiler's place."""
    (tmp_path / "some_compiler.py").write_text("disable, reset = 'real', 'reset'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(compiler_import, "COMPILER", "some_compiler")
    yield "some_compiler"
    sys.modules.pop("some_compiler", None)


def hide(function):
    """Hide a function from the compiler as torch does, which keeps the result in an attribute."""
    import some_compiler  # the stand-in or the module, which only now is where imports find it

    vars(function)["__dynamo_disable"] = some_compiler.disable(function, True, wrapping=False)


def test_functions_are_hidden_without_the_compiler(compiler):
    def function():
        pass

    with without_compiler():
        hide(function)
        assert vars(function)["__dynamo_disable"] is function
    assert compiler not in sys.modules and not vars(function)


def test_functions_of_others_are_hidden_by_the_compiler(compiler, tmp_path):
    (tmp_path / "some_compiler.py").write_text("disable = lambda function, recursive, **options: 'hidden'\n")
    with without_compiler():
        import some_compiler

        assert some_compiler.disable(hide) == some_compiler.disable(None, False) == "hidden"
    assert sys.modules[compiler] is not some_compiler


def test_a_module_inside_the_compiler_is_imported(compiler, tmp_path):
    (tmp_path / "some_compiler.py").unlink()
    (tmp_path / "some_compiler").mkdir()
    (tmp_path / "some_compiler" / "__init__.py").write_text("disable = 'real'\n")
    (tmp_path / "some_compiler" / "inside.py").write_text("made = 1\n")
    with without_compiler():
        from some_compiler.inside import made
    assert made == 1 and sys.modules.pop("some_compiler.inside") and sys.modules[compiler].disable == "real"


def test_what_else_is_asked_of_the_compiler_imports_it(compiler):
    with without_compiler():
        import some_compiler

        assert some_compiler.reset == "reset"
        assert sys.modules[compiler].disable == "real"
    assert sys.modules[compiler].disable == "real"


def test_an_imported_compiler_is_left_alone(compiler):
    __import__(compiler)
    with without_compiler():
        assert sys.modules[compiler].disable == "real"
    assert sys.modules[compiler].disable == "real"


def test_a_run_trains_and_saves_without_the_compiler(tmp_path):
    argv = "--model pix2pix --dataroot demo --name run --gpu_ids -1 --netG resnet_6blocks --ngf 2 --ndf 2".split()
    argv += "--load_size 32 --crop_size 32 --max_dataset_size 1 --n_epochs 1 --n_epochs_decay 0".split()
    argv += ["--num_threads", "0", "--displays", "console", "--checkpoints_dir", str(tmp_path)]
    command = [sys.executable, "-c", TRAIN, *argv]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "latest_net_G.pth").is_file()
