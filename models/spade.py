"""SPADE: photographs from label maps, by norms that the map modulates (Park et al. 2019)."""

from dataclasses import dataclass

import torch

from data.published.semantic import LabelMaps, semantic_channels, semantic_input, shown_input
from data.published.semantic_layouts import LAYOUT_DEFAULTS
from models.base import BaseModel, Phase
from networks import Frozen, GANLoss, discriminator, generator, initialised, noise
from networks.architectures.spade import ENCODED_SIDES, ImageEncoder
from networks.gan_loss import feature_matching
from networks.predictions import detached, halves
from networks.toolbox.perceptual import perceptual_of
from options.fields import option
from options.names.spade import OF_SPADE, VALUES_OF_SPADE
from registry.training_position import AFTER_TRAINING
from util import ranks
from util.errors import OptionError
from util.size import to_size


class SPADE(LabelMaps, BaseModel):
    """G: (label map, z) -> B; D: (label map, B) at several scales; with --use_vae E: B -> distribution of z, its style.

    The generator's loss is adversarial + lambda_feat (difference of D's features) + lambda_vgg (that of VGG19's)
    + lambda_kld (divergence of z's distribution from the standard normal one).
    """

    dataset_mode = "semantic"
    other_names, other_values, ratio_in_size = OF_SPADE, VALUES_OF_SPADE, True  # --aspect_ratio is in --crop_size
    defaults = {"netG": "spade", "netD": "spade", "n_layers_D": 4, "gan_mode": "hinge", "init_type": "xavier",
                "beta1": 0.0, "beta2": 0.9, "label_nc": 182, "load_size": 1024, "crop_size": 512,
                "preprocess": "scale_width_and_crop", "n_epochs": 50, "n_epochs_decay": 0, "num_threads": 0,
                "display_freq": 100, "display_winsize": 400, "save_epoch_freq": 10}  # fmt: skip
    defaults_for = {"no_TTUR": {True: {"beta1": 0.5, "beta2": 0.999}}, "layout": LAYOUT_DEFAULTS}
    averaged, judges_one_batch = ("G",), True  # D sees real and generated images together
    pairs = (("fake_B", "real_B"),)

    @dataclass
    class Options:
        # fmt: off
        lambda_feat: float = option(10.0, "weight of feature matching", at_least=0)
        lambda_vgg: float = option(10.0, "weight of the VGG term", at_least=0)
        lambda_kld: float = option(0.05, "weight of the KL divergence of --use_vae", at_least=0)
        no_ganFeat_loss: bool = option(False, "no matching of D's features of generated and real image")
        no_vgg_loss: bool = option(False, "no matching of VGG19's features, which need published weights")
        no_TTUR: bool = option(False, "G and D learn at --lr, not at half and twice of it; --beta1 0.5", fixed=True)
        D_steps_per_G: int = option(1, "steps of D for each of G", at_least=1)
        use_vae: bool = option(False, "G starts from a z, its style, which an encoder E learns to find in photographs",
            of_run=True, fixed=True)
        z_dim: int = option(256, "length of --use_vae's z", at_least=1, of_run=True, fixed=True)
        num_upsampling_layers: str = option("normal", "doublings of --netG spade: 5, more: 6, most: 7, the last with"
            " layers of its own", choices=("normal", "more", "most"), of_run=True, fixed=True)
        norm_G: str = option("spectralspadesyncbatch3x3", "norms of --netG spade: spectral for that of weights; spade"
            " and batch, syncbatch, instance, layer or none; kernel", of_run=True, fixed=True)
        norm_D: str = option("spectralinstance", "norms of --netD spade: spectral, and a name of --norm", fixed=True)
        norm_E: str = option("spectralinstance", "norms of E, like --norm_D", of_run=True, fixed=True)
        # fmt: on

    def __init__(self, o, spec):
        super().__init__()
        self.o, channels = o, semantic_channels(o, spec)
        self.G = generator(o, channels, spec.output_nc)
        pair = channels, spec.output_nc
        self.D = discriminator(o, sum(pair), features=not o.no_ganFeat_loss, channels=pair)
        if o.use_vae:
            if not getattr(self.G, "z_dim", 0):
                raise OptionError("option", "--use_vae", f"--netG {o.netG} takes no z", "use --netG spade")
            self.averaged = ("G", "E")  # type: ignore[misc, assignment]
            layers = 6 if max(to_size(o.crop_size)) >= ENCODED_SIDES[6] else 5
            self.E = initialised(ImageEncoder(spec.output_nc, o.z_dim, o.ngf, layers, o.norm_E), o, "G")
        if o.isTrain and not o.no_vgg_loss:
            self.vgg = Frozen(perceptual_of(o, "--no_vgg_loss", as_is=True))
        self.gan = GANLoss.from_options(o)

    def phases(self):
        of_G = None if self.o.no_TTUR else self.o.lr / 2
        of_D = None if self.o.no_TTUR or getattr(self.o, "lr_D", None) else self.o.lr * 2
        nets = [self.G, self.E] if self.o.use_vae else [self.G]
        return [Phase("G", nets, self.loss_g, every=self.o.D_steps_per_G, lr=of_G),
                Phase("D", [self.D], self.loss_d, lr=of_D)]  # fmt: skip

    def forward(self, batch, now=AFTER_TRAINING):
        semantic = semantic_input(batch, self.o)
        fake_B, style = self.paint(semantic, batch)
        out = {"semantic": semantic, "fake_B": fake_B, "style": style, "G_learns": "G" in now.due}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def paint(self, semantic, batch):
        """Return G's image, and (mean, log variance) of the photograph's z; None where z is drawn, or there is none."""
        if not self.o.use_vae or "B" not in batch or getattr(self.o, "num_results", 1) > 1:
            return self.G(semantic), None
        mean, log_variance = self.E(batch["B"])
        return self.G(semantic, mean + (0.5 * log_variance).exp() * noise(mean, *mean.shape[1:])), (mean, log_variance)

    def show(self, out):
        shown = {name: out[name] for name in ("fake_B", "real_B") if name in out}
        return {"real_A": shown_input(out["semantic"], self.o)} | shown

    def judge(self, out, fake):
        """Return D's outputs for generated and real pairs, judged as one batch because norms have its statistics."""
        pairs = [torch.cat([out["semantic"], image], 1) for image in (fake, out["real_B"])]
        return (*halves(self.D(torch.cat(pairs))), *pairs)

    def loss_g(self, batch, out):
        fake, real = out["fake_B"], out["real_B"]
        on_fake, on_real, *_ = self.judge(out, fake)
        terms = {"GAN": self.gan.generator(on_fake, detached(on_real))}
        if self.o.use_vae:
            mean, log_variance = out["style"]
            divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
            number = self.o.batch_size * ranks.world_size()  # of images, over which the authors take a sum
            terms["KLD"] = self.o.lambda_kld * number * divergence.mean()
        if not self.o.no_ganFeat_loss:
            terms["GAN_Feat"] = self.o.lambda_feat * feature_matching(detached(on_real), on_fake)
        if not self.o.no_vgg_loss:
            terms["VGG"] = self.o.lambda_vgg * self.vgg(fake, real)
        return terms

    def loss_d(self, batch, out):
        with torch.no_grad():  # by what G has learnt in this step
            fake = self.paint(out["semantic"], batch)[0] if out["G_learns"] else out["fake_B"]
        on_fake, on_real, *pairs = self.judge(out, fake.detach())
        return self.gan.discriminator(on_real, on_fake) | self.gan.penalty("D_gp", self.D, *reversed(pairs))
