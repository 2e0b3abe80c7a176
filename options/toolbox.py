"""The flags of the toolbox: what any model may be trained with."""

import math
from dataclasses import dataclass

from networks.toolbox.settings import OWNER
from options.fields import Flag, option
from registry.lookup import entry, is_known
from util.errors import OptionError


@dataclass
class Toolbox:
    """toolbox"""

    # fmt: off
    spectral_norm: str = option("none",
        "spectral norm of all layers of discriminators, generators or both (Miyato et al. 2018)",
        choices=("none", "D", "G", "DG"), fixed=True)
    noise_nc: int = option(0, "noise channels added to the input of a translating generator, so that one image has"
        " several results (Zhu et al. 2017, BicycleGAN); 0: off", at_least=0, of_run=True, fixed=True)
    minibatch_std: bool = option(False, "show the last layer of discriminators how much the samples of a batch differ"
        " (Karras et al. 2018)", fixed=True)
    attention: str = option("none", "self-attention in discriminators, generators or both, at feature maps of"
        " --attention_size (Zhang et al. 2019)", choices=("none", "D", "G", "DG"), of_run=True, fixed=True)
    attention_size: int = option(32, "with --attention: side of these feature maps, in pixels", at_least=2, of_run=True,
        fixed=True)
    diffaugment: tuple[str, ...] = option((),
        "augmentations of all images that discriminators are given, comma-separated (Zhao et al. 2020)",
        choices="d_augmentation")
    ada: bool = option(False, "augment the images of discriminators with a probability that rises as they overfit"
        " (Karras et al. 2020): with those of --diffaugment, else with flip, rotate90, translation and color")
    ada_target: float = option(0.6, "with --ada: target of the mean sign of the discriminator's predictions on real"
        " images", above=-1, below=1)
    ada_kimg: float = option(500.0, "with --ada: the probability rises from 0 to 1 in at least this many thousands"
        " of images", above=0)
    lambda_lecam: float = option(0.0, "weight of LeCam, which pulls the discriminator's predictions on real and"
        " generated images towards each other's average (Tseng et al. 2021)", at_least=0)
    lr_D: float | None = option(None, "initial learning rate of discriminators; default: --lr", above=0)
    n_critic: int = option(1, "steps of the discriminator for one of the generator", at_least=1)
    clip_grad: float = option(0.0, "scale the gradient of each update (of G or D) down to this norm if it is"
        " larger; 0: off", at_least=0)
    warmup: int = option(0, "steps in which learning rates rise linearly from 0 to their values; 0: off", at_least=0)
    lambda_feat: float = option(0.0, "weight of feature matching: the difference of a discriminator's features of"
        " generated and real image (Wang et al. 2018)", at_least=0)
    lambda_perceptual: float = option(0.0, "weight of the difference of VGG19's features of generated and real image"
        " (Johnson et al. 2016)", at_least=0)
    lambda_lpips: float = option(0.0, "weight of LPIPS, a learned distance of VGG16's features (Zhang et al. 2018)",
        at_least=0)
    lambda_tv: float = option(0.0, "weight of the total variation of generated images (Rudin et al. 1992)", at_least=0)
    terms: tuple[str, ...] = option((), "further losses of generators, NAME:WEIGHT, comma-separated; names: the kind"
        " term in --list")
    vgg19_file: str = option("", "with --lambda_perceptual: file of torchvision's VGG19", aside=True)
    vgg16_file: str = option("", "with --lambda_lpips: file of torchvision's VGG16", aside=True)
    lpips_file: str = option("", "with --lambda_lpips: file of the lpips package's weights of VGG's layers (vgg.pth);"
        " default: that of the installed package", aside=True)
    # fmt: on


def without_replaced(flags: list[Flag], own: list[Flag]) -> list[Flag]:
    """Return flags without those of the toolbox for which a model or data set has a flag of its own of that name."""
    names = {name for flag in own for name in flag.names}
    return [flag for flag in flags if flag.owner != OWNER or not names & set(flag.names)]


def term_weights(texts: tuple[str, ...]) -> dict[str, float]:
    """Return {name: weight} of --terms; raise OptionError for an unknown name, or text that is no NAME:WEIGHT."""
    found: dict[str, float] = {}
    for text in filter(str.strip, ",".join(texts).split(",")):
        word, _, number = (part.strip() for part in text.rpartition(":"))
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        name = entry("term", word if is_known("term", word) or math.isfinite(weight) else text.strip()).name
        if not 0 <= weight < math.inf:
            remedy = f"write a weight of at least 0 after it, such as {name}:0.1"
            raise OptionError("option", "--terms", f"'{text.strip()}' is no name and weight", remedy)
        if name in found:
            raise OptionError("option", "--terms", f"{name} is given twice", "give one weight")
        found[name] = weight
    return found
