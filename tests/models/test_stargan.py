"""stargan translates to the domains of the run by the statistics of the image, and reads its authors' weights."""

import numpy as np
import pytest
import torch
from PIL import Image

from data.published.domains import DomainSpec
from networks.architectures.stargan import StarGANDiscriminator, StarGANGenerator
from registry.lookup import find
from registry.training_position import call_with_now
from tests.support.images import picture
from tests.support.runs import options
from tests.support.steps import trained
from util.errors import OptionError

FACES = ("Black_Hair", "Blond_Hair", "Male")


def built(*classes, attributes=False):
    o = options("--model", "stargan", "--g_repeat_num", "1", "--d_repeat_num", "3", "--ngf", "2", "--ndf", "2")
    return find("model", "stargan")(o, DomainSpec(3, 3, 32, 32, classes, attributes=attributes)).eval()


def vectors(model, batch):
    return {name: domain.tolist() for name, domain in model.wanted(batch)}


def test_attributes_are_reversed_and_hair_colours_replaced():
    model, A = built(*FACES, attributes=True), torch.zeros(2, 3, 32, 32)
    own = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    assert vectors(model, {"A": A, "label": own}) == {
        "Black_Hair": [[1, 0, 1], [1, 0, 0]], "Blond_Hair": [[0, 1, 1], [0, 1, 0]], "Male": [[1, 0, 0], [0, 1, 1]],
    }  # fmt: skip
    assert vectors(model, {"A": A})["Male"] == [[0, 0, 1]] * 2
    assert vectors(built("a", "b"), {"A": A}) == {"a": [[1, 0]] * 2, "b": [[0, 1]] * 2}


def test_a_test_shows_every_domain():
    model = built("a", "b")
    out = call_with_now(model, {"A": torch.rand(1, 3, 30, 41) * 2 - 1})
    assert list(model.show(out)) == ["real", "fake_a", "fake_b"]
    assert out["fake_a"].shape == (1, 3, 30, 41) and not torch.equal(out["fake_a"], out["fake_b"])


def test_norms_use_the_statistics_of_the_image_in_every_mode():
    net = StarGANGenerator(3, 2, 4, 1)
    x, domain = torch.randn(2, 3, 16, 16), torch.eye(2)
    made = net(x, domain)
    for name, buffer in net.named_buffers():
        buffer.fill_(7 if "running" in name else 0)
    assert torch.equal(net.eval()(x, domain), made)
    assert torch.allclose(net(x[:1], domain[:1]), made[:1], atol=1e-5)
    assert all(float(value.max()) in (0, 7) for value in net.buffers())


def test_the_generator_has_a_graph_once_in_n_critic():
    _, losses, out = trained("stargan", "--n_critic", "3", steps=5)
    assert [any(name.startswith("G_") for name in step) for step in losses] == [True, False, False, True, False]
    assert "rec" not in out and not out["fake"].requires_grad


def test_too_many_halvings_name_the_number_that_fits():
    with pytest.raises(OptionError, match="6 halvings leave nothing of images of 60x48; use --d_repeat_num 5"):
        StarGANDiscriminator(3, 2, 48, 60, 4, 6)
    assert StarGANDiscriminator(3, 2, 48, 60, 4, 5)(torch.rand(2, 3, 48, 60))[1].shape == (2, 2)


def test_weights_of_the_authors_are_tested_as_they_are(command, tmp_path):
    net = StarGANGenerator(3, 3, 6, 2)
    folder = tmp_path / "stargan_own" / "models"
    folder.mkdir(parents=True)
    torch.save(net.state_dict(), folder / "200000-G.ckpt")
    (tmp_path / "photos").mkdir()
    picture(0, 32, 32).save(tmp_path / "photos" / "p.png")
    argv = "--model stargan --mode test --image_size 32 --rafd_image_dir photos --model_save_dir stargan_own/models"
    ended = command("test", *argv.split(), "--gpu_ids", "-1", "--result_dir", "results")
    assert ended.code == 0, ended.err
    assert "--ngf 6 --g_repeat_num 2 --c_dim 3" in ended.out
    x = torch.from_numpy(np.array(Image.open(tmp_path / "photos" / "p.png"))).permute(2, 0, 1)[None] / 127.5 - 1
    for number, domain in enumerate(torch.eye(3), 1):
        shown = np.array(Image.open(next(tmp_path.glob(f"results/models/*/images/p_fake_{number}.png"))))
        expected = (net(x, domain[None])[0].permute(1, 2, 0).detach().numpy() + 1) * 127.5
        assert np.abs(shown - expected).max() < 1


@pytest.mark.parametrize("accumulate", [1, 2])
def test_memory_of_the_way_back_is_not_held_in_ds_step(accumulate):
    """D's loss sees no graph of the way back, which is shown all the same; no gradients outlive their step."""
    held = []

    def prepare(run):
        loss = run.model.loss_d
        phase = run.train_state.phases[0]

        def watched(batch, out):
            held.append("rec" in out and out["rec"].requires_grad)
            return loss(batch, out)

        object.__setattr__(phase, "loss", watched)  # a Phase is frozen

    run, _, out = trained("stargan", "--n_critic", "1", "--accumulate", accumulate, steps=1, prepare=prepare)
    assert held == [False] * accumulate and out["rec"].shape == out["real"].shape
    assert all(p.grad is None for p in run.model.parameters())
