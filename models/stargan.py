"""StarGAN: one generator that translates between many domains (Choi et al. 2018)."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss
from networks.architectures.stargan import StarGANDiscriminator, StarGANGenerator
from networks.infer_architecture import infer_stargan
from options.fields import option
from options.names.stargan import OF_STARGAN
from util.errors import OptionError

HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")  # of CelebA: an image has one of them


class StarGAN(BaseModel):
    """G: (image, wanted domain) -> image; D: image -> real or not, and its domain.

    A domain is one of the folders' classes, which exclude each other, or a vector of attributes.
    """

    dataset_mode = "domains"
    other_names, infer_flags = OF_STARGAN, staticmethod(infer_stargan)
    defaults = {"gan_mode": "wgangp", "n_critic": 5, "lr": 1e-4, "batch_size": 16, "crop_size": 128,
                "load_size": "crop_size"}  # fmt: skip
    averaged = ("G",)
    pairs = (("rec", "real"),)

    @dataclass
    class Options:
        # fmt: off
        lambda_cls: float = option(1.0, "weight of the classification of domains", at_least=0)
        lambda_rec: float = option(10.0, "weight of the way back to the own domain", at_least=0)
        g_repeat_num: int = option(6, "residual blocks of the generator", at_least=0, at_most=1000, of_run=True,
            fixed=True)
        d_repeat_num: int = option(6, "halvings of the discriminator", at_least=1, at_most=16, of_run=True, fixed=True)
        # fmt: on

    def __init__(self, o, spec):
        super().__init__()
        self.o, self.classes = o, spec.classes
        self.attributes = getattr(spec, "attributes", False)
        if spec.input_nc != spec.output_nc or not spec.classes:
            why = f"{o.dataset_mode} gives {len(spec.classes)} domains of {spec.input_nc} and {spec.output_nc} channels"
            raise OptionError("option", "--dataset_mode", why, "use domains, with equal channels")
        self.G = StarGANGenerator(spec.input_nc, len(spec.classes), o.ngf, o.g_repeat_num)
        if o.isTrain:
            self.D = StarGANDiscriminator(
                spec.input_nc, len(spec.classes), spec.height, spec.width, o.ndf, o.d_repeat_num
            )
        self.gan = GANLoss.from_options(o)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch, now):  # type: ignore[override]
        real = batch["A"]
        if not self.training:
            return {"real": real} | {f"fake_{name}": self.G(real, c) for name, c in self.wanted(batch)}
        with torch.set_grad_enabled("G" in now.due and torch.is_grad_enabled()):  # without G's phase, without its graph
            out = {"real": real, "fake": self.G(real, self.vectors(batch["target"]))}
        if "G" in now.due and not torch.is_grad_enabled():  # else loss_g makes it
            out["rec"] = self.G(out["fake"], self.vectors(batch["label"]))
        return out

    def vectors(self, label):
        """Return domains (N, domains): attributes as they are, numbers of classes as 1 of 0 and 1."""
        return label if label.dim() > 1 else torch.eye(len(self.classes), device=label.device)[label]

    def wanted(self, batch):
        """Yield (name, domains) for a test: each class; or each attribute changed, a hair colour instead of others."""
        eye = torch.eye(len(self.classes), device=batch["A"].device)
        own = batch.get("label")
        if own is None or own.dim() == 1:
            own = torch.zeros(len(batch["A"]), len(eye), device=eye.device)
        hair = torch.tensor([name in HAIR_COLOURS for name in self.classes], device=eye.device)
        for name, one in zip(self.classes, eye, strict=True):
            if not self.attributes:
                yield name, one.expand_as(own)
            else:
                yield name, torch.where(hair, one, own) if name in HAIR_COLOURS else (own - one).abs()

    def loss_d(self, batch, out):
        real, fake = out["real"], out["fake"].detach()
        (on_real, domain), (on_fake, _) = self.D(real), self.D(fake)
        terms = self.gan.discriminator(on_real, on_fake) | self.gan.penalty("D_gp", lambda x: self.D(x)[0], real, fake)
        return terms | {"D_cls": self.o.lambda_cls * self.classification(domain, batch["label"])}

    def loss_g(self, batch, out):
        out["rec"] = self.G(out["fake"], self.vectors(batch["label"]))  # not before D's step, to save memory
        on_fake, domain = self.D(out["fake"])
        terms = {"G_GAN": self.gan.generator(on_fake, lambda: self.D(out["real"])[0])}
        terms["G_cls"] = self.o.lambda_cls * self.classification(domain, batch["target"])
        return terms | {"G_rec": self.o.lambda_rec * F.l1_loss(out["rec"], out["real"])}

    def classification(self, logits, label):
        """Return the cross entropy of classes, or the sum of those of attributes, as a mean over the images."""
        if label.dim() == 1:
            return F.cross_entropy(logits, label)
        return F.binary_cross_entropy_with_logits(logits, label.type_as(logits), reduction="sum") / len(logits)
