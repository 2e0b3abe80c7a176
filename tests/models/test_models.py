"""Models follow the published equations to nine digits, with the reference's names and each phase's networks."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from data.base import Spec
from data.listing.demo import CLASSES
from data.loading.loader import Loader
from models.base import BaseModel
from options.parse import parse
from registry.lookup import entries, find
from tests.support.models_by_hand import BY_HAND
from tests.support.runs import options
from tests.support.small_models import MODELS, TINY, own_networks
from tests.support.steps import TRAINED
from train import train_step
from training.run import Run
from training.train_state import TrainState
from util.errors import OptionError

# models between pictures; one that generates from classes has a file of its own
TRAINABLE = [n for n, kind in MODELS.items() if kind.phases is not BaseModel.phases and not hasattr(kind, "sheets")]
OBJECTIVES = [e.name for e in entries("objective")]

REPORTED = {  # what the reference logs
    "pix2pix": {"G_GAN", "G_L1", "D_real", "D_fake"},
    "cycle_gan": {"D_A", "G_A", "cycle_A", "idt_A", "D_B", "G_B", "cycle_B", "idt_B"},
}
PENALTIES = {"pix2pix": {"D_gp"}, "cycle_gan": {"D_A_gp", "D_B_gp"}}
NETWORKS = {"pix2pix": {"G", "D"}, "cycle_gan": {"G_A", "G_B", "D_A", "D_B"}}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Work in an empty folder: without one called `demo`, which would win over the generated pictures."""
    monkeypatch.chdir(tmp_path)


def make_run(tmp_path, model, *flags):
    """Return a run of a tiny model that nothing was trained of yet."""
    o = options("--model", model, *TINY, *own_networks(model), "--checkpoints_dir", str(tmp_path), *map(str, flags))
    torch.manual_seed(0)
    built = find("model", model)(o, Spec(o.input_nc, o.output_nc, o.crop_size, o.crop_size, CLASSES))
    run = Run(o, tmp_path, built, torch.device("cpu"), 1000)
    run.set_learning_rates()
    return run


def step(run, batch, number=0):
    """One real training step; return (out, {term: value})."""
    out, losses = train_step(run.train_state, batch, run.train_state.now(number))
    every = {name: value for terms in losses.values() for name, value in terms.items()}
    return out, {name: float(value.detach() if torch.is_tensor(value) else value) for name, value in every.items()}


def pictures(seed, channels=3, count=2, size=32):
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, size, size, generator=draws, dtype=torch.double) * 2 - 1


# --- every model with every objective -------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("model", TRAINABLE)
def test_twenty_steps_stay_finite_and_move_every_network(model, objective, tmp_path):
    """On batches of the model's own data set; every loss of every step and every weight is a number."""
    run = make_run(
        tmp_path, model, "--gan_mode", objective, "--dataroot", "demo", "--batch_size", 2, "--max_dataset_size", 8
    )
    loader = Loader(find("dataset", run.o.dataset_mode)(run.o), run.o, shuffle=True)
    before = copy.deepcopy({name: dict(net.named_parameters()) for name, net in run.networks().items()})
    done = 0
    for epoch in range(1, 6):
        for batch in loader.epoch(epoch):
            _, losses = step(run, batch, done)
            assert losses
            assert all(math.isfinite(value) for value in losses.values()), (done, losses)
            if model in REPORTED and not run.model.gan.paired:
                penalties = PENALTIES[model] if find("objective", objective).penalised else set()
                assert losses.keys() == REPORTED[model] | penalties
            done += 1
    assert done == 20
    for name, net in run.networks().items():
        weights = net.state_dict()
        assert all(bool(value.isfinite().all()) for value in weights.values()), name
        still = [key for key, p in net.named_parameters() if torch.equal(before[name][key], p)]
        # a last bias has no say where only the difference of real and fake counts
        assert all(key.endswith("bias") for key in still), f"{name}: {still}"


@pytest.mark.parametrize("penalty", [e.name for e in entries("penalty")])
@pytest.mark.parametrize("model", [name for name in TRAINED if name != "colorization"])  # which has no D
def test_every_penalty_fits_pairs_and_scales(model, penalty):
    """A step on meta tensors with a paired objective: terms are scalars, and the penalty is logged beside them."""
    flags = ["--gan_mode", "relativistic", "--penalty", penalty, "--netD", "multiscale"]
    o = options("--model", model, *TINY, *flags, *own_networks(model))
    state = TrainState.from_options(find("model", model)(o, Spec(3, 3, 32, 32, ("a", "b"))).to("meta"), o)
    batch = {"A": torch.zeros(2, 3, 32, 32, device="meta"), "path_A": ["a", "b"]}
    batch |= {"B": batch["A"].clone(), **dict.fromkeys(("label", "target"), torch.zeros(2, dtype=int, device="meta"))}
    _, losses = train_step(state, batch, state.now(0))
    terms = {term: value for each in losses.values() for term, value in each.items()}
    assert all(value.shape == () for value in terms.values() if torch.is_tensor(value))
    assert any(term.endswith("_gp") for term in terms) is (penalty != "none"), terms


@pytest.mark.parametrize("model", NETWORKS)
def test_networks_are_called_as_in_the_reference(model, tmp_path):
    run = make_run(tmp_path, model, "--input_nc", 3, "--output_nc", 3)
    assert run.networks().keys() == NETWORKS[model]
    assert run.model.networks().keys() == NETWORKS[model]


def test_pix2pix_judges_pairs_and_cyclegan_single_pictures(tmp_path):
    run = make_run(tmp_path, "pix2pix", "--input_nc", 1, "--output_nc", 3)
    assert run.model.D.model[0].in_channels == 4
    run = make_run(tmp_path, "cycle_gan", "--input_nc", 1, "--output_nc", 3, "--lambda_identity", 0)
    assert run.model.D_A.model[0].in_channels == 3, "D_A judges pictures of B"
    assert run.model.D_B.model[0].in_channels == 1


# --- the published equations, once more -----------------------------------------------------------------------------


CASES = [
    ("pix2pix", "--gan_mode vanilla"),
    ("pix2pix", "--gan_mode vanilla --label_smoothing 0.1 --beta1 0.9 --norm instance --lambda_L1 3"),
    ("pix2pix", "--gan_mode lsgan --input_nc 1 --netG resnet_4blocks"),
    ("pix2pix", "--gan_mode hinge --netD pixel --lr 0.002"),
    ("pix2pix", "--gan_mode wgangp --lambda_gp 7"),
    ("pix2pix", "--gan_mode wgangp --lambda_gp 0 --beta1 0"),
    ("cycle_gan", "--gan_mode lsgan --lambda_A 7 --lambda_B 3 --lambda_identity 0.4"),
    ("cycle_gan", "--gan_mode vanilla --label_smoothing 0.2 --beta1 0.9 --norm batch --netG resnet_4blocks"),
    ("cycle_gan", "--gan_mode hinge --input_nc 1 --lambda_identity 0 --lr 0.002"),
    ("cycle_gan", "--gan_mode wgangp --lambda_gp 4 --lambda_A 2"),
    ("pix2pix", "--gan_mode relativistic --penalty r1r2 --lambda_gp 3"),
    ("cycle_gan", "--gan_mode relativistic --penalty r1r2 --lambda_gp 3"),
]


@pytest.mark.parametrize(("model", "flags"), CASES)
def test_losses_weights_and_statistics_follow_the_equations(model, flags, tmp_path):
    """Three steps in float64 on the same weights, batches and draws: relative 1e-9 in every loss of every step."""
    run = make_run(tmp_path, model, *flags.split(), "--no_dropout", "--pool_size", 0, "--init_gain", 0.2)
    run.model.double()
    by_hand = BY_HAND[model](copy.deepcopy(run.model.networks()), run.o)
    nets = by_hand.nets if model == "cycle_gan" else {"G": by_hand.G, "D": by_hand.D}
    for number in range(3):
        A, B = pictures(number, run.o.input_nc), pictures(number + 100, run.o.output_nc)
        torch.manual_seed(number)
        _, got = step(run, {"A": A, "B": B}, number)
        torch.manual_seed(number)
        expected = by_hand.step(A, B)
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            assert got[name] == pytest.approx(value, rel=1e-9, abs=1e-300), (number, name)
    for name, net in run.networks().items():
        for key, value in nets[name].state_dict().items():
            # a bias before a norm has only rounding for its slope, which Adam enlarges
            near = 1e-6 if key.endswith("bias") else 1e-9
            assert torch.allclose(net.state_dict()[key].double(), value.double(), rtol=1e-9, atol=near), (name, key)


# --- the discriminators' past ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "pools"), [("pix2pix", ["pool"]), ("cycle_gan", ["pool_A", "pool_B"])])
def test_pools_show_discriminators_earlier_pictures(model, pools, tmp_path):
    run = make_run(tmp_path, model, "--pool_size", 3)
    for number in range(3):
        step(run, {"A": pictures(number).float()[:1], "B": pictures(number + 9).float()[:1]}, number)
    for name in pools:
        pool = getattr(run.model, name)
        assert len(pool.images) == 3
    step(run, {"A": pictures(5).float()[:1], "B": pictures(6).float()[:1]}, 3)
    assert all(len(getattr(run.model, name).images) == 3 for name in pools)
    if model == "pix2pix":  # it keeps pairs
        assert run.model.pool.images[0].shape == (6, 32, 32)


def test_each_cyclegan_discriminator_has_its_own_sides_pool(tmp_path):
    run = make_run(tmp_path, "cycle_gan", "--input_nc", 1, "--lambda_identity", 0, "--pool_size", 2)
    out, _ = step(run, {"A": pictures(0, 1).float()[:1], "B": pictures(1, 3).float()[:1]})
    assert torch.equal(run.model.pool_A.images[0], out["fake_A"][0])
    assert torch.equal(run.model.pool_B.images[0], out["fake_B"][0])


# --- identity -------------------------------------------------------------------------------------------------------


def test_identity_is_zero_and_not_computed_at_lambda_identity_0(tmp_path):
    run = make_run(tmp_path, "cycle_gan", "--lambda_identity", 0)
    calls = []
    run.model.G_A.register_forward_hook(lambda *_: calls.append("G_A"))
    run.model.G_B.register_forward_hook(lambda *_: calls.append("G_B"))
    out, losses = step(run, {"A": pictures(0).float(), "B": pictures(1).float()})
    assert (losses["idt_A"], losses["idt_B"]) == (0.0, 0.0)
    assert sorted(calls) == ["G_A", "G_A", "G_B", "G_B"], "there and back, each once"
    assert not {"idt_A", "idt_B"} & out.keys()


def test_identity_of_unequal_channels_is_refused_by_option(tmp_path):
    with pytest.raises(OptionError) as caught:
        make_run(tmp_path, "cycle_gan", "--input_nc", 1, "--output_nc", 3)
    assert "'--lambda_identity': identity needs equal channels, not 1 and 3" in str(caught.value)
    make_run(tmp_path, "cycle_gan", "--input_nc", 1, "--output_nc", 3, "--lambda_identity", 0)


def test_identity_with_unequal_channels_ends_train_with_two(command, unpaired):
    ended = command(
        "train",
        "--dataroot",
        unpaired,
        "--input_nc",
        1,
        *TINY,
        "--gpu_ids",
        -1,
        "--load_size",
        32,
        "--crop_size",
        32,
        "--num_threads",
        0,
        "--display_id",
        0,
    )
    assert ended.code == 2
    assert ended.last.startswith("error: option '--lambda_identity': ")
    assert ended.last.endswith("use --lambda_identity 0")


def test_identity_does_not_stop_a_test_of_unequal_channels():
    o = parse(["--model", "cycle_gan", *TINY], "test")
    model = MODELS["cycle_gan"](o, Spec(1, 3, 32, 32)).eval()
    assert model({"A": torch.zeros(1, 1, 32, 32)})["fake_B"].shape == (1, 3, 32, 32)


# --- who trains when ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("model", TRAINABLE)
def test_a_phase_changes_only_its_networks_and_their_slopes(model, objective, tmp_path):
    """So the discriminators' phase never touches a generator, nor the generators' a discriminator."""
    run = make_run(tmp_path, model, "--gan_mode", objective, "--dataroot", "demo", "--batch_size", 2, "--pool_size", 0)
    batch = next(iter(Loader(find("dataset", run.o.dataset_mode)(run.o), run.o, shuffle=False).epoch(1)))
    for phase in run.phases:
        run.model.zero_grad(set_to_none=True)
        before = {name: copy.deepcopy(dict(net.named_parameters())) for name, net in run.networks().items()}
        alone = [replace(each, every=1 if each is phase else 2) for each in run.phases]
        state = replace(run.train_state, phases=alone)
        _, losses = train_step(state, batch, state.now(1))
        assert list(losses) == [phase.name]
        own = {id(net) for net in phase.nets}
        for name, net in run.networks().items():
            for key, p in net.named_parameters():
                if id(net) not in own:
                    assert p.grad is None, (phase.name, name, key)
                    assert torch.equal(p, before[name][key]), (phase.name, name, key)
            if id(net) in own:
                assert any(not torch.equal(p, before[name][key]) for key, p in net.named_parameters())


def test_the_phases_come_in_the_published_order(tmp_path):
    """The generator of pix2pix answers the new discriminator; the discriminators of CycleGAN judge the old fakes."""
    assert [phase.name for phase in make_run(tmp_path, "pix2pix").phases] == ["D", "G"]
    assert [phase.name for phase in make_run(tmp_path, "cycle_gan").phases] == ["G", "D"]


@pytest.mark.parametrize("model", TRAINABLE)
def test_forward_runs_once_a_step(model, tmp_path):
    run = make_run(tmp_path, model, "--dataroot", "demo", "--batch_size", 2)
    batch = next(iter(Loader(find("dataset", run.o.dataset_mode)(run.o), run.o, shuffle=False).epoch(1)))
    calls = []
    run.model.register_forward_hook(lambda *_: calls.append(1))
    step(run, batch)
    assert calls == [1]


@pytest.mark.parametrize(("norm", "calls"), [("batch", (3, 3, 2)), ("instance", (2, 2, 1))])
def test_cycle_gan_calls_its_networks_in_the_references_order(norm, calls, tmp_path):
    """Batch norm's running statistics depend on it; without them what is known at once is one batch."""
    run = make_run(tmp_path, "cycle_gan", "--norm", norm, "--pool_size", 0)
    seen = {name: [] for name in ("G_A", "G_B", "D_A")}
    for name, inputs in seen.items():
        net = run.model.networks()[name]
        net.forward = lambda x, forward=net.forward, inputs=inputs: inputs.append(x.detach()) or forward(x)
    batch = {"A": pictures(0).float(), "B": pictures(1).float(), "path_A": ["a", "b"]}
    out = run.model(batch)
    run.model.loss_d(batch, out)
    assert tuple(map(len, seen.values())) == calls
    order = {"G_A": ("real_A", "fake_A", "real_B"), "G_B": ("fake_B", "real_B", "real_A"), "D_A": ("real_B", "fake_B")}
    if norm == "instance":
        order["G_A"], order["G_B"] = ("real_A", "real_B", "fake_A"), ("real_A", "real_B", "fake_B")
    for name, expected in order.items():
        assert torch.equal(torch.cat(seen[name]), torch.cat([out[word] for word in expected])), name


# --- what is shown, and one-sided batches ---------------------------------------------------------------------------


def test_pictures_have_the_references_names_and_order(tmp_path):
    batch = {"A": pictures(0).float(), "B": pictures(1).float(), "path_A": ["a", "b"]}
    run = make_run(tmp_path, "pix2pix")
    assert list(run.model.show(run.model(batch))) == ["real_A", "fake_B", "real_B"]
    run = make_run(tmp_path, "cycle_gan")
    training = ["real_A", "fake_B", "rec_A", "idt_B", "real_B", "fake_A", "rec_B", "idt_A"]
    assert list(run.model.show(run.model(batch))) == training
    run.model.eval()
    testing = [name for name in training if not name.startswith("idt")]
    assert list(run.model.show(run.model(batch))) == testing
    run = make_run(tmp_path, "cycle_gan", "--lambda_identity", 0)
    assert list(run.model.show(run.model(batch))) == testing


def test_only_pictures_are_shown(tmp_path):
    """Tensors of 4 dimensions and 1 or 3 channels are shown, and no other values that forward returns."""
    model = BaseModel()
    out = {"grey": torch.zeros(1, 1, 2, 2), "lab": torch.zeros(1, 2, 2, 2), "rgb": torch.zeros(1, 3, 2, 2),
           "code": torch.zeros(1, 3), "name": "x", "four": torch.zeros(1, 4, 2, 2)}  # fmt: skip
    assert list(model.show(out)) == ["grey", "rgb"]


@pytest.mark.parametrize(
    ("model", "names"), [("pix2pix", ["real_A", "fake_B"]), ("cycle_gan", ["real_A", "fake_B", "rec_A"])]
)
def test_a_batch_without_b_is_translated(model, names, tmp_path):
    run = make_run(tmp_path, model)
    run.model.eval()
    batch = {"A": pictures(0).float(), "B": pictures(1).float()}
    both, one = run.model(batch), run.model({"A": batch["A"]})
    assert list(one) == names
    assert all(torch.equal(one[name], both[name]) for name in names)


@pytest.mark.parametrize("suffix", ["", "_A", "_B"])
def test_the_test_model_is_one_generator_named_with_its_suffix(suffix):
    o = parse(["--model", "test", "--model_suffix", suffix, *TINY], "test")
    model = MODELS["test"](o, Spec(3, 1, 32, 32)).eval()
    assert list(model.networks()) == ["G" + suffix]
    out = model({"A": torch.zeros(2, 3, 32, 32)})
    assert list(out) == ["real", "fake"]
    assert out["fake"].shape == (2, 1, 32, 32)
    assert torch.equal(out["fake"], model.networks()["G" + suffix](out["real"]))
    assert model.phases() == []


def test_the_test_model_cannot_be_trained(command, unpaired):
    ended = command(
        "train",
        "--model",
        "test",
        "--dataroot",
        unpaired / "trainA",
        *TINY,
        "--gpu_ids",
        -1,
        "--load_size",
        32,
        "--crop_size",
        32,
        "--num_threads",
        0,
        "--display_id",
        0,
    )
    assert ended.code == 2
    assert "'--model': test only translates" in ended.last


# --- the penalty in the log -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", PENALTIES)
def test_the_wgangp_penalty_is_logged_unless_lambda_gp_is_0(model, command, unpaired, paired, tmp_path):
    data = {"pix2pix": paired, "cycle_gan": unpaired}[model]
    for lambda_gp, expected in ((10, PENALTIES[model]), (0, set())):
        ended = command(
            "train",
            "--model",
            model,
            "--dataroot",
            data,
            *TINY,
            "--gpu_ids",
            -1,
            "--load_size",
            32,
            "--crop_size",
            32,
            "--num_threads",
            0,
            "--display_id",
            0,
            "--no_html",
            "--n_epochs",
            1,
            "--n_epochs_decay",
            0,
            "--max_dataset_size",
            2,
            "--print_freq",
            1,
            "--gan_mode",
            "wgangp",
            "--lambda_gp",
            lambda_gp,
            "--name",
            f"gp{lambda_gp}",
            "--no_progress",
        )
        assert ended.code == 0, ended.err
        log = (tmp_path / "checkpoints" / f"gp{lambda_gp}" / "loss_log.txt").read_text()
        lines = [line for line in log.splitlines() if line.startswith("(epoch")]
        assert len(lines) == 2
        for line in lines:
            words = line.partition(") ")[2].split()
            values = {name.rstrip(":"): float(value) for name, value in zip(words[::2], words[1::2], strict=True)}
            assert values.keys() == REPORTED[model] | expected
            assert all(values[name] > 0 for name in expected)
