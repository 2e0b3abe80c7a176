"""pix2pixHD: photographs of high resolution from label maps, with instance maps (Wang et al. 2018)."""

from dataclasses import dataclass
from typing import Any

import torch

from data.labels import label_colours
from data.published.semantic import LabelMaps, object_ids, semantic_channels, semantic_input
from models.base import BaseModel, Phase
from networks import Frozen, GANLoss, discriminator, generator, initialised
from networks.architectures.pix2pixhd import InstanceEncoder
from networks.gan_loss import feature_matching
from networks.predictions import scales
from networks.toolbox.perceptual import perceptual_of
from options.fields import option
from options.names.pix2pixhd import OF_PIX2PIXHD
from util.errors import OptionError
from util.image_pool import ImagePool


class Pix2PixHD(LabelMaps, BaseModel):
    """G: (classes, edges and features of objects) -> B; D: (classes, edges, B) at several scales; E: B -> features.

    The generator's loss is adversarial + lambda_feat (difference of D's features + that of VGG19's).
    """

    dataset_mode = "semantic"
    other_names = OF_PIX2PIXHD
    defaults = {"netG": "global", "netD": "pix2pixhd", "pool_size": 0, "load_size": 1024, "crop_size": 512,
                "preprocess": "scale_width", "num_threads": 2, "display_freq": 100, "display_winsize": 512,
                "save_latest_freq": 1000, "save_epoch_freq": 10}  # fmt: skip
    averaged = ("G",)
    pairs = (("fake_B", "real_B"),)

    @dataclass
    class Options:
        # fmt: off
        lambda_feat: float = option(10.0, "weight of feature matching and of the VGG term", at_least=0)
        no_ganFeat_loss: bool = option(False, "no matching of D's features of generated and real image", of_run=True,
            fixed=True)
        no_vgg_loss: bool = option(False, "no matching of VGG19's features, which need published weights")
        niter_fix_global: int = option(0, "epochs in which only the outermost enhancer of --netG local learns",
            at_least=0)
        instance_feat: bool = option(False, "G also sees features of each object, which a network E encodes from B",
            of_run=True, fixed=True)
        label_feat: bool = option(False, "like --instance_feat, with the features of each class", of_run=True,
            fixed=True)
        feat_num: int = option(3, "features of an object", at_least=1, of_run=True, fixed=True)
        n_downsample_E: int = option(4, "how often E halves its images", at_least=0, at_most=8, of_run=True, fixed=True)
        nef: int = option(16, "filters of E's first convolution", at_least=1, of_run=True, fixed=True)
        # fmt: on

    def __init__(self, o, spec):
        super().__init__()
        self.o, self.encodes = o, o.instance_feat or o.label_feat
        channels = semantic_channels(o, spec)
        self.G = generator(o, channels + self.encodes * o.feat_num, spec.output_nc)
        if o.niter_fix_global and not hasattr(self.G, "outermost"):
            raise OptionError("option", "--niter_fix_global", f"--netG {o.netG} has no enhancers", "use --netG local")
        pair = channels, spec.output_nc
        self.D = discriminator(o, sum(pair), features=not o.no_ganFeat_loss, channels=pair)
        if self.encodes:
            self.averaged = ("G", "E")  # type: ignore[misc, assignment]
            encoder = InstanceEncoder(spec.output_nc, o.feat_num, o.nef, o.n_downsample_E, o.norm)
            self.E = initialised(encoder, o, "G")
        if o.isTrain and not o.no_vgg_loss:
            self.vgg = Frozen(perceptual_of(o, "--no_vgg_loss", as_is=True))
        self.gan, self.pool = GANLoss.from_options(o), ImagePool(o.pool_size)

    def phases(self):
        nets = [self.G, self.E] if self.encodes else [self.G]
        of_G = [Phase("G", nets, self.loss_g)]
        if self.o.niter_fix_global:
            outer: Any = [*self.G.outermost, *nets[1:]]  # type: ignore[misc]
            of_G = [Phase("G_outer", outer, self.loss_outer), Phase("G", nets, self.loss_whole)]  # type: ignore[arg-type]
        return [*of_G, Phase("D", [self.D], self.loss_d, weight=0.5)]

    def forward(self, batch):
        semantic = semantic_input(batch, self.o)
        ids = object_ids(batch, self.o) if self.encodes else None
        features = [self.E(batch["B"], ids)] if self.encodes else []
        out = {"semantic": semantic, "fake_B": self.G(torch.cat([semantic, *features], 1))}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def show(self, out):
        without_edges = out["semantic"] if self.o.no_instance else out["semantic"][:, :-1]
        real_A = label_colours(without_edges) if self.o.label_nc else without_edges
        return {"real_A": real_A} | {name: out[name] for name in ("fake_B", "real_B") if name in out}

    def pair(self, out, image):
        return torch.cat([out["semantic"], image], 1)

    def loss_outer(self, batch, out, now):
        return self.loss_g(batch, out) if now.epoch <= self.o.niter_fix_global else {}

    def loss_whole(self, batch, out, now):
        return self.loss_g(batch, out) if now.epoch > self.o.niter_fix_global else {}

    def loss_g(self, batch, out):
        fake, real = out["fake_B"], out["real_B"]
        on_fake = self.D(self.pair(out, fake))
        with torch.no_grad():
            on_real = None if self.o.no_ganFeat_loss and not self.gan.paired else self.D(self.pair(out, real))
        terms = {"G_GAN": len(scales(on_fake)) * self.gan.generator(on_fake, on_real)}  # the paper adds scales up
        if not self.o.no_ganFeat_loss:
            share = 4 / (len(on_fake[0]) - 1)  # of a layer
            terms["G_GAN_Feat"] = self.o.lambda_feat * share * feature_matching(on_real, on_fake)
        if not self.o.no_vgg_loss:
            terms["G_VGG"] = self.o.lambda_feat * self.vgg(fake, real)
        return terms

    def loss_d(self, batch, out):
        real, fake = self.pair(out, out["real_B"]), self.pool(self.pair(out, out["fake_B"].detach()))
        on_real, on_fake = self.D(real), self.D(fake)
        terms = self.gan.discriminator(on_real, on_fake)
        terms = {name: len(scales(on_real)) * term for name, term in terms.items()}
        return terms | self.gan.penalty("D_gp", self.D, real, fake)
