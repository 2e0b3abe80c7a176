"""Self-attention is the paper's formula, starts as the identity, and is found in files again."""

import pytest
import torch

from inference.receptive_field import receptive_field
from networks import discriminator, generator
from networks.toolbox.attention import SelfAttention
from tests.support.runs import SMALL, options
from tests.support.small_models import own_networks
from tests.support.steps import trained
from util.errors import OptionError


def test_attention_by_hand():
    part, x = SelfAttention(8).double(), torch.randn(1, 8, 2, 3).double()
    assert torch.equal(part(x), x)
    part.gamma.data.fill_(0.5)
    flat = x[0].flatten(1)  # (8, 6)
    query, key, value = (layer.weight[:, :, 0, 0] @ flat for layer in (part.query, part.key, part.value))
    wanted = torch.empty_like(flat)
    for j in range(6):
        scores = torch.stack([(key[:, i] * query[:, j]).sum() for i in range(6)]).exp()
        mixed = sum(score * value[:, i] for i, score in enumerate(scores / scores.sum()))
        wanted[:, j] = flat[:, j] + 0.5 * part.out.weight[:, :, 0, 0] @ mixed
    assert torch.allclose(part(x)[0].flatten(1), wanted)


@pytest.mark.parametrize("netG", ["resnet_4blocks", "unet_32", "dcgan", "sngan_resnet"])
def test_it_starts_as_the_network_without_and_adds_only_its_keys(netG):
    argv = ("--netG", netG, "--attention", "G", "--attention_size", "8")
    torch.manual_seed(0)
    net = generator(options(*argv), 3, 3).eval()
    torch.manual_seed(0)
    plain = generator(options(*argv[:2]), 3, 3).eval()
    x = torch.randn(2, 3) if getattr(net, "from_noise", False) else torch.randn(2, 3, 32, 32)
    assert torch.equal(net(x), plain(x))
    more = net.state_dict().keys() - plain.state_dict().keys()
    assert len(more) == 5 and all(".attention." in key for key in more)
    assert plain.state_dict().keys() <= net.state_dict().keys()


def test_another_size_is_answered_with_those_that_there_are():
    with pytest.raises(OptionError, match=r"--attention_size.*no activation of 5 pixels, but of 16, 8, 7"):
        discriminator(
            options("--attention", "D", "--attention_size", "5", "--netD", "n_layers", "--n_layers_D", "2"), 3
        )
    with pytest.raises(OptionError, match=r"none of its networks is built by discriminator"):
        trained("cgan", "--attention", "D", steps=1)


def test_tiles_know_that_attention_sees_the_whole_image():
    net = generator(options("--netG", "resnet_4blocks", "--attention", "G", "--attention_size", "8"), 3, 3)
    assert receptive_field(net).radius == float("inf")
    assert receptive_field(generator(options("--netG", "resnet_4blocks"), 3, 3)).radius < 100


@pytest.mark.parametrize("model", ["pix2pix", "gan"])
def test_a_run_with_attention_resumes_and_is_tested(command, model):
    argv = [*SMALL, "--model", model, "--netG", "unet_32", *own_networks(model), "--dataroot", "demo",
            "--max_dataset_size", "4", "--n_epochs_decay", "0", "--displays", "console,html", "--name", "run",
            "--attention", "DG", "--attention_size", "8", "--spectral_norm", "DG"]  # fmt: skip
    assert command("train", *argv, "--n_epochs", "1").code == 0
    assert command("train", "--name", "run", "--continue_train", "--n_epochs", "2").code == 0
    more = ["--num_samples", "1"] if model == "gan" else ["--num_test", "1", "--crop_size", "64", "--load_size", "64"]
    ended = command("test", "--name", "run", "--gpu_ids", "-1", *more)
    assert ended.code == 0, ended.out + ended.err
