"""CycleGAN: unpaired translation with cycle consistency (Zhu et al. 2017)."""

from dataclasses import dataclass

from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss, discriminator, generator
from networks.batched_forward import batched_forward
from options.fields import option
from util.errors import OptionError
from util.image_pool import ImagePool

VISUAL_NAMES = ("real_A", "fake_B", "rec_A", "idt_B", "real_B", "fake_A", "rec_B", "idt_A")


class CycleGAN(BaseModel):
    """G_A: A -> B, G_B: B -> A; D_A classifies images of B, D_B images of A (the paper's D_Y and D_X)."""

    dataset_mode = "unaligned"
    defaults = {"no_dropout": True}
    averaged = ("G_A", "G_B")
    pairs = (("rec_A", "real_A"), ("rec_B", "real_B"))

    @dataclass
    class Options:
        lambda_A: float = option(10.0, "weight of the cycle A -> B -> A", at_least=0)
        lambda_B: float = option(10.0, "weight of the cycle B -> A -> B", at_least=0)
        lambda_identity: float = option(0.5, "weight of G_A(B) = B and G_B(A) = A, relative to the cycle's", at_least=0)

    def __init__(self, o, spec):
        super().__init__()
        if o.isTrain and o.lambda_identity > 0 and spec.input_nc != spec.output_nc:
            why = f"identity needs equal channels, not {spec.input_nc} and {spec.output_nc}"
            raise OptionError("option", "--lambda_identity", why, "use --lambda_identity 0")
        self.o = o
        self.G_A = generator(o, spec.input_nc, spec.output_nc)
        self.G_B = generator(o, spec.output_nc, spec.input_nc)
        self.D_A = discriminator(o, spec.output_nc)
        self.D_B = discriminator(o, spec.input_nc)
        self.gan = GANLoss.from_options(o)
        self.pool_A = ImagePool(o.pool_size)  # holds fake A
        self.pool_B = ImagePool(o.pool_size)

    def phases(self):
        return [Phase("G", [self.G_A, self.G_B], self.loss_g), Phase("D", [self.D_A, self.D_B], self.loss_d)]

    def forward(self, batch):
        real_A, real_B = batch["A"], batch.get("B")  # no B in a one-sided test
        identity = self.training and self.o.lambda_identity > 0
        G_A, G_B = (batched_forward(G, real_A, real_B) if identity else G for G in (self.G_A, self.G_B))
        fake_B = G_A(real_A)
        out = {"real_A": real_A, "fake_B": fake_B, "rec_A": G_B(fake_B)}
        if real_B is not None:
            fake_A = G_B(real_B)
            out |= {"real_B": real_B, "fake_A": fake_A, "rec_B": G_A(fake_A)}
        if identity:
            out |= {"idt_A": G_A(real_B), "idt_B": G_B(real_A)}
        return {name: out[name] for name in VISUAL_NAMES if name in out}

    def loss_g(self, batch, out):
        o = self.o
        identity = o.lambda_identity > 0
        return {
            "G_A": self.gan.generator(self.D_A(out["fake_B"]), lambda: self.D_A(out["real_B"])),
            "G_B": self.gan.generator(self.D_B(out["fake_A"]), lambda: self.D_B(out["real_A"])),
            "cycle_A": o.lambda_A * F.l1_loss(out["rec_A"], out["real_A"]),
            "cycle_B": o.lambda_B * F.l1_loss(out["rec_B"], out["real_B"]),
            "idt_A": o.lambda_B * o.lambda_identity * F.l1_loss(out["idt_A"], out["real_B"]) if identity else 0.0,
            "idt_B": o.lambda_A * o.lambda_identity * F.l1_loss(out["idt_B"], out["real_A"]) if identity else 0.0,
        }

    def loss_d(self, batch, out):
        terms_A = self._discriminator_loss("D_A", self.D_A, out["real_B"], self.pool_B(out["fake_B"].detach()))
        return terms_A | self._discriminator_loss("D_B", self.D_B, out["real_A"], self.pool_A(out["fake_A"].detach()))

    def _discriminator_loss(self, name, D, real, fake):
        predict = batched_forward(D, real, fake)
        loss = sum(self.gan.discriminator(predict(real), predict(fake), name).values())
        penalty = self.gan.penalty(name + "_gp", D, real, fake)
        return {name: 0.5 * loss} | {key: 0.5 * value for key, value in penalty.items()}
