"""A generator with --noise_nc is given other noise for each sample, in training and in a test, and keeps its keys."""

import pytest
import torch

from networks import generator
from tests.support.runs import SMALL, options
from tests.support.steps import trained
from util.errors import OptionError


def test_each_sample_has_a_vector_of_noise_at_all_positions():
    o = options("--model", "pix2pix", "--netG", "unet_32", "--noise_nc", "4")
    seen, net = [], generator(o, 3, 3)
    net.model.register_forward_pre_hook(lambda part, args: seen.append(args[0]))
    image = torch.randn(1, 3, 32, 32).expand(2, -1, -1, -1)
    torch.manual_seed(0)
    net.eval()(image)
    torch.manual_seed(0)
    z = torch.randn(2, 4, 1, 1)
    assert torch.equal(seen[0], torch.cat([image, z.expand(-1, -1, 32, 32)], 1))
    plain = generator(options("--model", "pix2pix", "--netG", "unet_32"), 3, 3)
    assert plain.state_dict().keys() == net.state_dict().keys()


@pytest.mark.parametrize(("model", "why"), [("cgan", "none of its generators"), ("gan", "starts from noise already")])
def test_models_that_do_not_translate_refuse_it(model, why):
    with pytest.raises(OptionError, match=rf"--noise_nc.*reaches nothing.*{why}"):
        trained(model, "--noise_nc", "2", steps=1)


def test_a_test_shows_several_results_and_needs_no_flag(command):
    argv = [*SMALL, "--model", "pix2pix", "--netG", "unet_32", "--dataroot", "demo", "--max_dataset_size", "4",
            "--n_epochs_decay", "0", "--displays", "console,html", "--name", "run", "--noise_nc", "3"]  # fmt: skip
    assert command("train", *argv, "--n_epochs", "1").code == 0
    assert command("train", "--name", "run", "--continue_train", "--n_epochs", "2").code == 0
    ended = command("test", "--name", "run", "--gpu_ids", "-1", "--num_test", "1", "--num_results", "2")
    assert ended.code == 0 and "L1 between results" in ended.out, ended.out + ended.err
    ended = command("test", "--name", "run", "--gpu_ids", "-1", "--num_test", "1", "--native", "--tile", "64")
    assert ended.code == 0 and "1 image ->" in ended.out and "note: --tile" not in ended.out, ended.out + ended.err
