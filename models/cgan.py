"""cgan: generate images of a given class from noise (Mirza & Osindero 2014)."""

from dataclasses import dataclass
from functools import partial

import torch

from models.base import BaseModel, Phase
from networks import GANLoss, initialised
from networks.architectures.dcgan import ClassDiscriminator, ClassGenerator
from options.fields import option
from util.errors import OptionError
from util.seeding import mix_seed

SAMPLE_BATCH_SIZE = 64  # images generated at a time


class ClassGAN(BaseModel):
    """G: (z, class) -> image; D: (image, class) -> real or not."""

    dataset_mode = "labeled"
    defaults = {"norm": "batch", "gan_mode": "vanilla", "crop_size": 128, "load_size": "crop_size", "no_flip": True,
                "batch_size": 64, "lambda_gp": 10.0, "keep_epochs": 5}  # fmt: skip
    averaged = ("G",)

    @dataclass
    class Options:
        latent_dim: int = option(100, "size of the noise vector", at_least=1, of_run=True)
        embedding_dim: int = option(100, "size of a class's embedding in the generator", at_least=1, of_run=True)
        cond: str = option("projection", "how the discriminator receives the class", choices=("concat", "projection"))

    def __init__(self, o, spec):
        super().__init__()
        if not spec.classes or spec.height != spec.width:
            why = f"cgan needs square images with classes, not {spec.width}x{spec.height} with {len(spec.classes)}"
            raise OptionError("option", "--dataset_mode", why, "use labeled, and --preprocess resize_and_crop")
        self.o, self.classes, n = o, spec.classes, len(spec.classes)
        widths = o.latent_dim, o.embedding_dim, o.ngf
        G = ClassGenerator(n, spec.output_nc, spec.height, *widths, o.norm, o.resize_conv)
        self.gan = GANLoss(o.gan_mode, o.label_smoothing, o.lambda_gp)
        # a gradient penalty is defined for each image, which batch norm would make depend on the others
        per_picture = self.gan.objective.penalised and "batch" in o.norm
        norm_D = "instance" if per_picture else o.norm
        self.G = initialised(G, o)
        self.D = initialised(ClassDiscriminator(n, spec.output_nc, spec.height, o.ndf, norm_D, o.cond), o)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        z = torch.randn(len(batch["A"]), self.o.latent_dim, device=batch["A"].device, dtype=batch["A"].dtype)
        return {"real": batch["A"], "fake": self.G(z, batch["label"])}

    def loss_d(self, batch, out):
        real, fake, label = out["real"], out["fake"].detach(), batch["label"]
        terms = {"D_real": self.gan.real(self.D(real, label)), "D_fake": self.gan.fake(self.D(fake, label))}
        return terms | self.gan.penalty("D_gp", partial(self.D, label=label), real, fake)

    def loss_g(self, batch, out):
        return {"G_GAN": self.gan.generator(self.D(out["fake"], batch["label"]))}

    def sheets(self, request):
        """Return {name: (images, labels)}: samples of all classes, or for each class the steps between two latents.

        A class's n-th latent depends only on the seed, the class and n, not on the rest of the request.
        """
        device, dim = next(self.G.parameters()).device, self.o.latent_dim
        sheets = {}
        for name in request.classes:
            number = self.classes.index(name)
            rng = torch.Generator().manual_seed(mix_seed(request.seed, number, 0))
            for _ in range(request.start):
                torch.randn(dim, generator=rng)  # the latents of earlier images
            z = torch.stack([torch.randn(dim, generator=rng) for _ in range(request.number)])
            if request.kind == "interpolation":
                fraction = torch.linspace(0, 1, request.number)[:, None]
                z = (1 - fraction) * z[:1] + fraction * z[-1:]
            label = torch.full((request.number,), number, device=device)
            parts = zip(torch.as_tensor(z, device=device).split(SAMPLE_BATCH_SIZE), label.split(SAMPLE_BATCH_SIZE))
            sheets[name] = (torch.cat([self.G(*part) for part in parts]), label)
        if request.kind != "grid":
            return sheets
        return {"grid": tuple(torch.cat(parts) for parts in zip(*sheets.values()))}
