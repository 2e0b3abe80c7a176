"""CUT and FastCUT: unpaired translation by contrastive learning of patches (Park et al. 2020)."""

from dataclasses import dataclass

import torch

from models.base import BaseModel, Phase
from networks import GANLoss, discriminator, features, generator, initialised
from networks.norm import with_norm
from networks.patch_nce import PatchFeatures, compared_layers, draw_places, patch_nce
from options.fields import option
from util.errors import OptionError
from util.image_pool import ImagePool
from util.seeding import common_draws

FASTCUT = {"nce_idt": False, "lambda_NCE": 10.0, "flip_equivariance": True, "n_epochs": 150, "n_epochs_decay": 50}


class CUT(BaseModel):
    """G: A -> B; D classifies images of B; F projects patches of G's features, alike at one place of A and of G(A)."""

    dataset_mode = "unaligned"
    defaults = {"no_dropout": True, "no_antialias": False, "no_antialias_up": False, "init_type": "xavier",
                "pool_size": 0, "n_epochs": 200, "n_epochs_decay": 200}  # fmt: skip
    defaults_for = {"CUT_mode": {"FastCUT": FASTCUT, "fastcut": FASTCUT}}
    averaged = ("G",)

    @dataclass
    class Options:
        # fmt: off
        CUT_mode: str = option("CUT", "defaults of the paper's two models; FastCUT: no --nce_idt, --lambda_NCE 10,"
            " --flip_equivariance, 150 + 50 epochs", choices=("CUT", "cut", "FastCUT", "fastcut"), fixed=True)
        lambda_GAN: float = option(1.0, "weight of the adversarial loss", at_least=0)
        lambda_NCE: float = option(1.0, "weight of the contrastive loss of A and G(A)", at_least=0)
        nce_idt: bool = option(True, "also compare B and G(B), as an identity loss", valued=True)
        nce_layers: str = option("auto", "layers of G that are compared: numbers in its Sequential, or names; auto:"
            " 0,4,8,12,16 of a ResNet, 0,2,4 of stylegan2, the first five convolutions of other generators", fixed=True)
        nce_includes_all_negatives_from_minibatch: bool = option(False,
            "contrast a patch with those of the whole batch (of its part with --accumulate), not only of its image",
            valued=True)
        netF: str = option("mlp_sample", "what is compared: features at random places, projected by a network F"
            " (mlp_sample) or as they are (sample), or means of a 4x4 grid (reshape)",
            choices=("sample", "reshape", "mlp_sample"), fixed=True)
        netF_nc: int = option(256, "channels of F", at_least=1, fixed=True)
        nce_T: float = option(0.07, "temperature of the contrastive loss", above=0)
        num_patches: int = option(256, "places compared per layer", at_least=1)
        flip_equivariance: bool = option(False, "mirror the input of G, and its features back, at random", valued=True)
        normG: str = option("", "normalisation layers of G, if other than --norm", choices="norm", of_run=True,
            fixed=True)
        normD: str = option("", "normalisation layers of D, if other than --norm", choices="norm", fixed=True)
        easy_label: str = option("experiment_name", "has no effect, as in the authors' code", aside=True)
        evaluation_freq: int = option(5000, "has no effect, as in the authors' code", at_least=1, aside=True)
        # fmt: on

    def __init__(self, o, spec):
        super().__init__()
        self.o, self.contrasts = o, o.isTrain and o.lambda_NCE > 0
        if o.isTrain and o.lambda_GAN == o.lambda_NCE == 0:
            raise OptionError("option", "--lambda_GAN", "is 0, and so is --lambda_NCE", "give one of them a weight")
        if self.contrasts and spec.input_nc != spec.output_nc:
            why = f"G's features of A and G(A) are compared, which have {spec.input_nc} and {spec.output_nc} channels"
            raise OptionError("option", "--lambda_NCE", why, "give --input_nc and --output_nc the same number")
        self.G = generator(with_norm(o, o.normG), spec.input_nc, spec.output_nc)
        self.D = discriminator(with_norm(o, o.normD), spec.output_nc)
        self.gan = GANLoss.from_options(o)
        self.pool = ImagePool(o.pool_size)
        if self.contrasts:
            channels = compared_layers(self.G, o.nce_layers, (spec.input_nc, spec.height, spec.width))
            self.layers = list(channels)
            self.F = initialised(PatchFeatures(list(channels.values()), o.netF_nc, o.netF), o)

    def phases(self):
        nets = [self.G, self.F] if self.contrasts else [self.G]
        return [Phase("D", [self.D], self.loss_d, weight=0.5), Phase("G", nets, self.loss_g)]

    def forward(self, batch):
        real_A, real_B = batch["A"], batch.get("B")  # no B in a one-sided test
        sources = [real_A, real_B] if self.training and self.contrasts and self.o.nce_idt else [real_A]
        with common_draws():  # one draw for the batch
            flipped = self.training and self.o.flip_equivariance and torch.rand(()).item() < 0.5
        fake_B, *identity = self._translate([x.flip(3) if flipped else x for x in sources])
        out = {"real_A": real_A, "fake_B": fake_B} | ({} if real_B is None else {"real_B": real_B})
        return out | ({"idt_B": identity[0]} if identity else {}) | {"flipped": flipped}

    def _translate(self, images):
        if len({x.shape[1:] for x in images}) > 1:
            return [self.G(x) for x in images]
        return self.G(torch.cat(images)).split([len(x) for x in images])

    def loss_d(self, batch, out):
        fake = self.pool(out["fake_B"].detach())
        on_fake, on_real = self.D(fake), self.D(out["real_B"])  # in the authors' order
        return self.gan.discriminator(on_real, on_fake) | self.gan.penalty("D_gp", self.D, out["real_B"], fake)

    def loss_g(self, batch, out):
        adversarial, contrasts = out["fake_B"].new_zeros(()), {}
        if self.o.lambda_GAN > 0:
            loss = self.gan.generator(self.D(out["fake_B"]), lambda: self.D(out["real_B"]))
            adversarial = self.o.lambda_GAN * loss
        if self.contrasts:
            contrasts["NCE"] = self._contrast(out["real_A"], out["fake_B"], out["flipped"])
        if "idt_B" in out:
            contrasts["NCE_Y"] = self._contrast(out["real_B"], out["idt_B"], out["flipped"])
        total = adversarial + sum(contrasts.values()) / max(len(contrasts), 1)
        # Only the total has a gradient; its parts are for the log.
        return {"G": total} | {name: x.detach() for name, x in ({"G_GAN": adversarial} | contrasts).items()}

    def _contrast(self, source, translation, flipped):
        query = [x.flip(3) if flipped else x for x in features(self.G, translation, self.layers).values()]
        with torch.no_grad():  # no gradient reaches the keys
            maps = list(features(self.G, source, self.layers).values())
            places = draw_places(maps, self.o.num_patches)
            keys = self.F(maps, places)
        across = self.o.nce_includes_all_negatives_from_minibatch
        losses = [patch_nce(q, k, self.o.nce_T, across) for q, k in zip(self.F(query, places), keys, strict=True)]
        return self.o.lambda_NCE * sum(losses) / len(losses)
