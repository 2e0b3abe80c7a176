"""Added terms are those of their papers, for the pairs that a model names, and train no discriminator."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from networks.gan_loss import feature_matching
from networks.toolbox import perceptual
from networks.toolbox.settings import mark
from tests.support.small_models import MODELS
from tests.support.steps import TRAINED, trained
from training.extra_terms import ExtraTerms, total_variation
from util.errors import CheckpointError, EnvironmentFault, OptionError

NO_DROPOUT = ("--norm", "instance", "--no_dropout")


def test_total_variation_by_hand():
    image = torch.tensor([[0.0, 1.0], [3.0, -1.0]])[None, None]
    assert total_variation(image, image) == pytest.approx((3 + 2) / 2 + (1 + 4) / 2)


class Judge(nn.Module):
    """Two layers with features, on pairs."""

    def __init__(self, channels=(1, 2)):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 4, 3), nn.LeakyReLU(0.2))
        self.last = nn.Conv2d(4, 1, 1)
        mark(self, "D", channels)

    def forward(self, x, features=False):
        first = self.layers[1](self.layers[0](x))
        second = self.layers[3](self.layers[2](first))
        return [[first, second, self.last(second)]] if features else self.last(second)


class Phased:
    name = "G"

    def __init__(self, *nets):
        self.nets = nets


@pytest.mark.parametrize("order", ["pair", "reversed", "middle", "alone"])
def test_feature_matching_is_that_of_returned_features(order):
    torch.manual_seed(0)
    G, D = nn.Conv2d(1, {"alone": 3, "middle": 1}.get(order, 2), 1), Judge()
    A = torch.randn(2, 1, 8, 8)
    fake, real = G(A), torch.randn(2, G.out_channels, 8, 8)

    def judged(B):
        parts = {"pair": (A, B), "reversed": (B, A), "middle": (A, B, 2 * A)}
        return torch.cat(parts[order], 1) if order in parts else B

    terms = ExtraTerms((("fake", "real"),), {"tv": (0.5, total_variation)}, 10.0, [D], [Phased(G)])
    out = {"fake": fake, "real": real}
    found = terms.extend(Phased(G), lambda batch, out: {"G_GAN": D(judged(out["fake"])).mean()}, {}, out)
    wanted = 10 * feature_matching(D(judged(real), features=True), D(judged(fake), features=True))
    assert found.keys() == {"G_GAN", "G_tv", "G_feat"}
    assert found["G_feat"].item() == pytest.approx(wanted.item(), rel=1e-6)
    assert found["G_tv"].item() == pytest.approx(0.5 * total_variation(fake, real).item())
    found["G_feat"].backward()
    assert G.weight.grad is not None and all(p.grad is None and p.requires_grad for p in D.parameters())


def test_terms_go_to_the_first_phase_that_trains_the_image():
    G, H, D = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), Judge()
    phases = [Phased(H), Phased(G), Phased(G)]
    for number, phase in enumerate(phases):
        phase.name = f"P{number}"
    terms = ExtraTerms((("fake", "real"),), {"tv": (1.0, total_variation)}, 0.0, [D], phases)
    x = torch.randn(1, 3, 8, 8)
    out = {"fake": G(x), "real": x}
    found = [terms.extend(phase, lambda batch, out: {"own": torch.zeros(())}, {}, out).keys() for phase in phases]
    assert found == [{"own"}, {"own", "P1_tv"}, {"own"}]
    assert terms.extend(phases[1], lambda batch, out: {}, {}, out) == {}


@pytest.mark.parametrize("model", ["pix2pix", "colorization"])
def test_while_g_trains_d_gets_no_gradient(model):
    flags = ("--lambda_feat", "10", "--lambda_tv", "1", "--spectral_norm", "D", "--diffaugment", "color,cutout")
    seen = []

    def watch(run):
        step, D, G = run.optimizers.step, run.model.D, run.model.G

        def spied(name):
            seen.append((name, *([p.grad is not None for p in net.parameters()] for net in (G, D))))
            step(name)
            for net in (G, D):
                net.zero_grad()

        run.optimizers.step = spied

    trained(model, *NO_DROPOUT, *flags, steps=2, prepare=watch)
    assert [name for name, *_ in seen] == ["D", "G"] * 2
    for name, of_G, of_D in seen:
        assert all(of_G if name == "G" else of_D) and not any(of_D if name == "G" else of_G)


def test_terms_are_equal_with_accumulate():
    flags = (*NO_DROPOUT, "--lambda_feat", "10", "--lambda_tv", "1", "--lambda_lecam", "1")
    (_, whole, _), (_, parts, _) = (trained("pix2pix", *flags, "--accumulate", n, double=True) for n in (1, 4))
    assert whole[-1]["G_feat"] > 0 and whole[-1]["D_lecam"] > 0
    for one, other in zip(whole, parts, strict=True):
        assert other == pytest.approx(one, rel=1e-6)


REFUSED = {  # flags: (model, what the error says)
    ("--terms", "tv:x"): ("pix2pix", "is no name and weight"),
    ("--terms", "tv:1,tv:2"): ("pix2pix", "given twice"),
    ("--terms", "tvv:1"): ("pix2pix", "did you mean tv"),
}


@pytest.mark.parametrize("flags", REFUSED, ids=" ".join)
def test_terms_that_reach_nothing_are_refused(flags):
    model, why = REFUSED[flags]
    with pytest.raises(OptionError, match=why):
        trained(model, *flags, steps=1)


TERMS_OF_PAIRS = ("--lambda_tv", "--lambda_feat", "--lambda_perceptual", "--lambda_lpips")


@pytest.mark.parametrize("model", TRAINED)
def test_a_model_has_pairs_or_refuses_terms(model):
    """What is named in `pairs` gets its term in the first step; unpaired images and images from noise have no pairs."""
    if getattr(MODELS[model], "pairs", ()):
        _, losses, _ = trained(model, "--lambda_tv", "1", steps=1)
        assert any(name.endswith("_tv") and value > 0 for name, value in losses[0].items())
        return
    for flags in (*((flag, "1") for flag in TERMS_OF_PAIRS), ("--terms", "tv:1")):
        with pytest.raises(
            OptionError, match=f"'{flags[0]}[^-]*: reaches nothing in .*names no pairs.*; omit it$"
        ) as refused:
            trained(model, *flags, steps=1)
        assert "\n" not in str(refused.value)


def test_feature_matching_that_finds_no_call_is_refused():
    with pytest.raises(OptionError, match=r"--lambda_feat.*reaches nothing.*show no generated image"):
        trained("cycle_gan", "--lambda_feat", "1", steps=1)


def small_vgg(name, scale=0.02):
    import torchvision

    with torch.device("meta"):
        net = getattr(torchvision.models, name)().features
    torch.manual_seed(0)
    return {f"features.{key}": scale * torch.randn(value.shape) for key, value in net.state_dict().items()}


@pytest.mark.parametrize("flag", ["perceptual", "lpips"])
def test_without_weights_the_error_names_the_flags(flag, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(EnvironmentFault, match=f"--download.*--lambda_{flag} 0|--lpips_file.*--lambda_lpips 0"):
        trained("pix2pix", f"--lambda_{flag}", "1", steps=1)


def test_the_perceptual_term_by_hand(tmp_path):
    weights = small_vgg("vgg19")
    torch.save(weights, tmp_path / "vgg.pth")
    distance = perceptual.Perceptual(weights)
    fake, real = torch.rand(1, 3, 16, 16) * 2 - 1, torch.rand(1, 1, 16, 16) * 2 - 1

    def first(image):  # relu1_1
        x = ((image.expand(1, 3, 16, 16) + 1) / 2 - torch.tensor(perceptual.MEAN)[:, None, None]) / torch.tensor(
            perceptual.STD
        )[:, None, None]
        return F.relu(F.conv2d(x, weights["features.0.weight"], weights["features.0.bias"], padding=1))

    seen = distance.features(fake), distance.features(real)
    assert torch.allclose(seen[0][0], first(fake), atol=1e-6) and torch.allclose(seen[1][0], first(real), atol=1e-6)
    wanted = sum(w * (f - r).abs().mean() for w, f, r in zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), *seen))
    assert distance(fake, real).item() == pytest.approx(wanted.item())
    run, losses, _ = trained(
        "pix2pix", *NO_DROPOUT, "--lambda_perceptual", "1", "--vgg19_file", str(tmp_path / "vgg.pth"), steps=1
    )
    assert losses[0]["G_perceptual"] > 0 and not any("vgg" in key for key in run.model.state_dict())
    with pytest.raises(CheckpointError, match="no weights of torchvision's vgg16"):
        perceptual.VGGFeatures("vgg16", {**weights, "features.2.weight": torch.zeros(1)}, (3,))


def test_lpips_by_hand():
    torch.manual_seed(0)
    heads = {f"lin{i}.model.1.weight": torch.rand(1, n, 1, 1) for i, n in enumerate((64, 128, 256, 512, 512))}
    distance = perceptual.LPIPS(small_vgg("vgg16", 0.1), heads)
    fake, real = torch.rand(2, 3, 16, 16) * 2 - 1, torch.rand(2, 3, 16, 16) * 2 - 1
    wanted = 0.0
    for i, (f, r) in enumerate(zip(distance.features(fake), distance.features(real))):
        gap = (F.normalize(f, dim=1) - F.normalize(r, dim=1)) ** 2
        wanted += float(F.conv2d(gap, heads[f"lin{i}.model.1.weight"]).mean())
    assert float(distance(fake, real)) == pytest.approx(wanted, rel=1e-4)
    assert float(distance(fake, fake)) == 0
    with pytest.raises(CheckpointError, match="no weights of LPIPS"):
        perceptual.LPIPS(small_vgg("vgg16"), {})


GAP = """from training import TERMS

TERMS["gap"] = lambda fake, real: (fake - real).abs().mean()


class Made:
    def __init__(self, device):
        print("made on", device)

    def __call__(self, fake, real):
        return (fake - real).abs().mean()


TERMS["made"] = Made
"""


@pytest.mark.parametrize("name", ["gap", "made"])
def test_a_term_of_a_plug_in_is_added(write, capsys, name):
    path = write("edges.py", GAP)
    _, losses, _ = trained("pix2pix", *NO_DROPOUT, "--plugin", str(path), "--terms", f"{name}:100", steps=2)
    assert [step[f"G_{name}"] for step in losses] == pytest.approx([step["G_L1"] for step in losses])
    assert capsys.readouterr().out.count("made on cpu") == (name == "made")  # a class is made once, not in each step


@pytest.mark.parametrize(
    ("made", "called", "why"),
    [
        ("self", "self, fake, real", r"its term 'made'\(\) cannot be called as \(device\)"),
        ("self, device", "self, x", r"its __call__ of term 'made'\(self, x\) cannot be called as \(fake, real\)"),
    ],
    ids=["made otherwise", "called otherwise"],
)
def test_a_class_of_a_term_is_checked_before_training(write, made, called, why):
    path = write(
        "edges.py",
        f"""from training import TERMS


class Made:
    def __init__({made}):
        pass

    def __call__({called}):
        return 0.0


TERMS["made"] = Made
""",
    )
    with pytest.raises(OptionError, match=why):
        trained("pix2pix", "--plugin", str(path), "--terms", "made:1", steps=1)
