"""gan: images from noise, of classes where there are any, with any network, objective, penalty and conditioning."""

from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional as F

from inference.latents import sheets_from_latents
from models.base import BaseModel, Phase
from networks import GANLoss, discriminator, generator, noise
from networks.conditioning import ConditionalDiscriminator, ConditionalGenerator
from networks.norm import with_norm
from options.fields import option
from util.errors import OptionError


class GAN(BaseModel):
    """G: z, or (z, class) -> image; D: image, or (image, class) -> real or not."""

    dataset_mode = "labeled"
    defaults = {"netG": "dcgan", "netD": "dcgan", "norm": "batch", "gan_mode": "vanilla", "crop_size": 64,
                "load_size": "crop_size", "no_flip": True, "batch_size": 64, "lambda_gp": 10.0,
                "keep_epochs": 5}  # fmt: skip
    averaged = ("G",)

    @dataclass
    class Options:
        latent_dim: int = option(100, "size of the noise vector", at_least=1, of_run=True)
        embedding_dim: int = option(100, "size of a class's embedding in the generator", at_least=1, of_run=True)
        cond: str = option("auto", "how D receives the class; auto: projection for two classes or more, else none",
            choices=("auto", "none", "concat", "projection", "acgan"), of_run=True, fixed=True)  # fmt: skip
        lambda_class: float = option(1.0, "weight of the classification loss of --cond acgan", at_least=0)

    def __init__(self, o, spec):
        super().__init__()
        n = len(spec.classes)
        self.o, self.cond = o, {"auto": "projection" if n > 1 else "none"}.get(o.cond, o.cond)
        self._check_options(spec, n)
        conditional = self.cond != "none"
        self.classes = spec.classes if conditional else ()
        G = generator(o, o.latent_dim + conditional * o.embedding_dim, spec.input_nc)
        if not getattr(G, "from_noise", False):
            why = f"'{o.netG}' translates images: it does not start from noise (it has no from_noise = True)"
            raise OptionError("option", "--netG", why, "use dcgan or sngan_resnet")
        self.gan = GANLoss.from_options(o)
        D = discriminator(with_norm(o, self.gan.norm_of_D(o.norm, "layer")), spec.input_nc + (self.cond == "concat"))
        self.G = ConditionalGenerator(G, n, o.embedding_dim) if conditional else G
        self.D = ConditionalDiscriminator(D, n, self.cond, spec.height) if conditional else D

    def _check_options(self, spec, n):
        if {spec.height, spec.width} != {self.o.crop_size}:
            why = f"gan makes square images of --crop_size {self.o.crop_size}, and these are {spec.width}x{spec.height}"
            raise OptionError("option", "--preprocess", why, "use resize_and_crop")
        if self.cond != "none" and n < 2:
            why = f"{self.cond} needs two classes or more, and the images have {n or 'none'}"
            raise OptionError("option", "--cond", why, "use auto or none, or a folder for each class")

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch, now):  # type: ignore[override]
        z = noise(batch, self.o.latent_dim)
        with torch.set_grad_enabled("G" in now.due and torch.is_grad_enabled()):  # without G's phase, without its graph
            return {"real": batch["A"], "fake": self.generate(z, batch["label"] if self.classes else None)}

    def generate(self, z, label):
        """Return G's images for latents z (N, latent_dim) and, of a conditional model, labels (N,)."""
        return self.G(z) if self.cond == "none" else self.G(z, label)

    def judge(self, batch):
        """Return D as a function of images alone."""
        return self.D if self.cond == "none" else partial(self.D, label=batch["label"])

    def loss_d(self, batch, out):
        D, real, fake = self.judge(batch), out["real"], out["fake"].detach()
        on_real, on_fake = D(real), D(fake)
        terms = self.gan.discriminator(on_real, on_fake) | self.gan.penalty("D_gp", D, real, fake)
        if self.cond == "acgan":
            terms["D_class"] = self._class_loss(on_real, batch) + self._class_loss(on_fake, batch)
        return terms

    def loss_g(self, batch, out):
        D = self.judge(batch)
        on_fake = D(out["fake"])
        terms = {"G_GAN": self.gan.generator(on_fake, lambda: D(out["real"]))}
        return terms | ({"G_class": self._class_loss(on_fake, batch)} if self.cond == "acgan" else {})

    def _class_loss(self, judged, batch):
        return self.o.lambda_class * F.cross_entropy(judged[0][0], batch["label"])

    def sheets(self, request):
        """Return samples, or the steps between two latents, of each class if there are any; see `latents`."""
        device = next(self.G.parameters()).device
        return sheets_from_latents(request, self.classes, self.o.latent_dim, self.generate, device)
