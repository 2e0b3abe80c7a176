"""cgan: generate images of a given class from noise (Mirza & Osindero 2014)."""

from dataclasses import dataclass
from functools import partial

from inference.latents import sheets_from_latents
from models.base import BaseModel, Phase
from networks import GANLoss, initialised, noise
from networks.architectures.dcgan import ClassDiscriminator, ClassGenerator
from options.fields import option
from util.errors import OptionError


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
        self.gan = GANLoss.from_options(o)
        norm_D = self.gan.norm_of_D(o.norm)
        self.G = initialised(G, o)
        self.D = initialised(ClassDiscriminator(n, spec.output_nc, spec.height, o.ndf, norm_D, o.cond), o)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        return {"real": batch["A"], "fake": self.G(noise(batch, self.o.latent_dim), batch["label"])}

    def loss_d(self, batch, out):
        real, fake, label = out["real"], out["fake"].detach(), batch["label"]
        D = partial(self.D, label=label)
        return self.gan.discriminator(D(real), D(fake)) | self.gan.penalty("D_gp", D, real, fake)

    def loss_g(self, batch, out):
        D = partial(self.D, label=batch["label"])
        return {"G_GAN": self.gan.generator(D(out["fake"]), lambda: D(out["real"]))}

    def sheets(self, request):
        """Return samples of all classes, or for each class the steps between two latents; see `latents`."""
        device = next(self.G.parameters()).device
        return sheets_from_latents(request, self.classes, self.o.latent_dim, self.G, device)
