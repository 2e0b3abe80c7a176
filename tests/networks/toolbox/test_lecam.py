"""LeCam's penalty and ADA's signs are those that predictions give by hand."""

import pytest
import torch

from networks import GANLoss
from networks.toolbox import tool_state

REAL, FAKE = torch.tensor([[2.0], [0.0]]), torch.tensor([[-1.0], [0.5]])


def lecam(gan_mode="hinge", weight=0.5):
    gan = GANLoss(gan_mode)
    gan.judgements.lambda_lecam = weight
    return gan


@pytest.mark.parametrize("gan_mode", ["hinge", "vanilla", "lsgan", "relativistic"])
def test_lecam_by_hand(gan_mode):
    gan = lecam(gan_mode)
    assert gan.discriminator(REAL, FAKE)["D_lecam"] == 0  # nothing is known of earlier steps
    gan.judgements.end_step()  # alpha_R = 1, alpha_F = -0.25
    wanted = 0.5 * ((2.25**2 + 0.25**2) / 2 + (2.0**2 + 0.5**2) / 2)
    assert gan.discriminator(REAL, FAKE)["D_lecam"] == pytest.approx(wanted)
    gan.discriminator(REAL + 3, FAKE)  # in the same step: the mean of real predictions is 2.5
    gan.judgements.end_step()  # alpha_R = 0.99 + 0.025
    assert float(tool_state.kept(gan.judgements, "lecam_D_0")[0, 0]) == pytest.approx(0.99 * 1 + 0.01 * 2.5)


def test_real_and_fake_add_their_part_for_each_scale():
    gan, plain = lecam("vanilla"), GANLoss("vanilla")
    gan.real([REAL, REAL - 1]), gan.fake([FAKE, FAKE - 1])
    gan.judgements.end_step()
    assert float(gan.real([REAL, REAL - 1]) - plain.real([REAL, REAL - 1])) == pytest.approx(
        0.5 * (2.25**2 + 0.25**2) / 2
    )
    assert float(gan.fake(FAKE) - plain.fake(FAKE)) == pytest.approx(0.5 * (2.0**2 + 0.5**2) / 2)
    assert not gan.state_dict()


def test_parts_of_a_batch_are_averaged_as_the_whole():
    whole, parts = lecam(), lecam()
    for _ in range(2):
        losses = [whole.discriminator(REAL, FAKE)["D_lecam"]]
        losses += [sum(parts.discriminator(REAL[i : i + 1], FAKE[i : i + 1])["D_lecam"] for i in range(2)) / 2]
        whole.judgements.end_step(), parts.judgements.end_step()
        assert float(losses[0]) == pytest.approx(float(losses[1]))


def test_a_nan_of_a_skipped_batch_does_not_stay():
    gan, clean = lecam(), lecam()
    gan.judgements.counts_signs = clean.judgements.counts_signs = True
    gan.discriminator(torch.full_like(REAL, torch.nan), FAKE * torch.inf)  # --on_nan skip: the step ends here
    for each in (gan, clean):
        each.discriminator(REAL, FAKE), each.judgements.end_step()
    assert tool_state.kept(gan.judgements, "lecam_D_0").isfinite().all()
    assert torch.equal(*(tool_state.kept(each.judgements, "lecam_D_0")[:2] for each in (gan, clean)))
    assert gan.judgements.take_signs()[:2].tolist() == clean.judgements.take_signs()[:2].tolist()


def test_the_phase_of_a_generator_is_not_watched():
    gan = lecam()
    gan.judgements.watching = False
    assert gan.discriminator(REAL, FAKE).keys() == {"D_real", "D_fake"} and not gan.judgements.seen


@pytest.mark.parametrize(
    ("gan_mode", "signs"), [("hinge", [1, 2, 2]), ("lsgan", [0, 2, 2]), ("relativistic", [0, 2, 2])]
)
def test_signs_are_counted_from_where_predictions_say_real(gan_mode, signs):
    """lsgan: above 0.5; a paired objective: above the prediction on the generated image."""
    gan = GANLoss(gan_mode)
    gan.judgements.counts_signs, gan.judgements.boundary = True, getattr(gan.objective, "boundary", 0.0)
    assert gan.judgements.take_signs() is None
    gan.discriminator(REAL, FAKE)
    assert gan.judgements.take_signs().tolist() == signs
    assert gan.judgements.take_signs().tolist() == [0, 0, 0]
