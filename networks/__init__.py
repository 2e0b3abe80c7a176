"""Tables of generators, discriminators, norms, initialisers, objectives and penalties, without importing torch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from networks.toolbox.settings import mark, tool
from registry.contract import check_network
from registry.lookup import Table, entry, resolve
from util.errors import OptionError
from util.size import to_size

if TYPE_CHECKING:
    from torch import nn

    from networks.frozen import Frozen as Frozen
    from networks.frozen import without as without
    from networks.gan_loss import GANLoss as GANLoss
    from networks.layer_outputs import features as features  # names of this package, by __getattr__
    from networks.sample_noise import noise as noise
    from serialization.pretrained import known_weights as known_weights
    from serialization.pretrained import pretrained as pretrained


# a generator is called as (o, input_nc, output_nc), a discriminator as (o, input_nc); o holds all flags
GENERATORS = Table("generator", {
    "resnet_9blocks": "networks.architectures.resnet:resnet_9blocks",
    "resnet_6blocks": "networks.architectures.resnet:resnet_6blocks",
    "resnet_4blocks": "networks.architectures.resnet:resnet_4blocks",
    "unet_256": "networks.architectures.unet:unet_256",
    "unet_128": "networks.architectures.unet:unet_128",
    "unet_64": "networks.architectures.unet:unet_64",
    "unet_32": "networks.architectures.unet:unet_32",
    "dcgan": "networks.architectures.dcgan:generator",  # from noise: (N, input_nc)
    "sngan_resnet": "networks.architectures.sngan:generator",
    "stylegan2": "networks.architectures.stylegan2:generator",  # of SinCUT; its output has no bounds
    "smallstylegan2": "networks.architectures.stylegan2:small_generator",
    "global": "networks.architectures.pix2pixhd:global_generator",  # pix2pixHD's
    "local": "networks.architectures.pix2pixhd:local_enhancer",
    "spade": "networks.architectures.spade:generator",  # its norms are modulated by the input
})  # fmt: skip
DISCRIMINATORS = Table("discriminator", {
    "basic": "networks.architectures.patchgan:basic",
    "n_layers": "networks.architectures.patchgan:n_layers",
    "pixel": "networks.architectures.patchgan:pixel",
    "dcgan": "networks.architectures.dcgan:discriminator",  # of whole images: (N, 1)
    "sngan_resnet": "networks.architectures.sngan:discriminator",
    "multiscale": "networks.architectures.patchgan:multiscale",
    "stylegan2": "networks.architectures.stylegan2:discriminator",  # of whole images: (N, 1)
    "tilestylegan2": "networks.architectures.stylegan2:discriminator",  # the same network, as in SinCUT's own code
    "pix2pixhd": "networks.architectures.pix2pixhd:discriminators",  # its own kind of multiscale
    "spade": "networks.architectures.spade:discriminators",  # another kind
})  # fmt: skip
_RESNETS, _UNETS = (tuple(name for name in GENERATORS if name.startswith(kind)) for kind in ("resnet_", "unet_"))
NETWORK_FLAGS: dict[str, dict[str, tuple[str, ...]]] = {  # the flags that only these of the networks above read
    "no_dropout": {"generator": (*_RESNETS, *(name for name in _UNETS if name != "unet_32"))},  # too small for any
    "padding": {"generator": _RESNETS},
    "no_antialias": {"generator": _RESNETS, "discriminator": ("basic", "n_layers", "multiscale")},
    "no_antialias_up": {"generator": _RESNETS},
    "resize_conv": {"generator": (*_RESNETS, *_UNETS, "dcgan")},
    "n_layers_D": {"discriminator": ("n_layers", "multiscale", "pix2pixhd", "spade")},
    "num_D": {"discriminator": ("multiscale", "pix2pixhd", "spade")},
    "stylegan2_G_num_downsampling": {"generator": ("stylegan2", "smallstylegan2")},
    "stylegan2_G_size": {"generator": ("stylegan2", "smallstylegan2")},
    "n_downsample_global": {"generator": ("global", "local")},
    "n_blocks_global": {"generator": ("global", "local")},
    "n_local_enhancers": {"generator": ("local",)},
    "n_blocks_local": {"generator": ("local",)},
    "num_upsampling_layers": {"generator": ("spade",)},
    "norm_G": {"generator": ("spade",)},
    "norm_D": {"discriminator": ("spade",)},
}
NORMS = Table("norm", {  # called as (channels)
    "instance": "networks.norm:instance",
    "instance_affine": "networks.norm:instance_affine",
    "batch": "networks.norm:batch",
    "syncbatch": "networks.norm:SyncBatchNorm",
    "layer": "networks.norm:layer",
    "none": "networks.norm:none",
})  # fmt: skip
INITIALISERS = Table("initialiser", {  # called as (weight, gain)
    "normal": "networks.init:normal",
    "xavier": "networks.init:xavier",
    "kaiming": "networks.init:kaiming",
    "orthogonal": "networks.init:orthogonal",
})  # fmt: skip
OBJECTIVES = Table("objective", {
    "lsgan": "networks.gan_loss:LSGAN",
    "vanilla": "networks.gan_loss:VANILLA",
    "nonsaturating": "networks.gan_loss:VANILLA",  # its name in StyleGAN2 and CUT
    "wgangp": "networks.gan_loss:WGANGP",
    "hinge": "networks.gan_loss:HINGE",
    "relativistic": "networks.gan_loss:RELATIVISTIC",
    "ragan": "networks.gan_loss:RAGAN",
    "ralsgan": "networks.gan_loss:RALSGAN",
})  # fmt: skip
PENALTIES = Table("penalty", {  # called as (D, real, fake)
    "none": "networks.penalties:none",
    "gp": "networks.penalties:gradient_penalty",
    "one_sided_gp": "networks.penalties:one_sided_gp",
    "zero_centred_gp": "networks.penalties:zero_centred_gp",
    "r1": "networks.penalties:r1",
    "r2": "networks.penalties:r2",
    "r1r2": "networks.penalties:r1r2",
    "dragan": "networks.penalties:dragan",
})  # fmt: skip
D_AUGMENTATIONS = Table("d_augmentation", {  # called as (images, channels): of what a discriminator is given
    "color": "networks.toolbox.diffaugment:color",
    "translation": "networks.toolbox.diffaugment:translation",
    "cutout": "networks.toolbox.diffaugment:cutout",
    "flip": "networks.toolbox.diffaugment:flip",
    "rotate90": "networks.toolbox.diffaugment:rotate90",
})  # fmt: skip


def generator(o: Any, input_nc: int, output_nc: int) -> "nn.Module":
    """Build and initialise the generator --netG: (N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1].

    SinCUT's output has no bounds.
    """
    noise_nc = tool(o, "noise_nc", 0)
    net = initialised(_build_network("generator", o.netG, o, input_nc + noise_nc, output_nc), o, "G")
    if "G" in tool(o, "attention", "none"):
        net = _with_attention(net, o, input_nc + noise_nc, "generator")
    return resolve("", _NOISE_INPUT)(net, noise_nc, o.netG) if noise_nc else net


def discriminator(o: Any, input_nc: int, features: bool = False, channels: Sequence[int] = ()) -> "nn.Module":
    """Build and initialise the discriminator --netD: (N, input_nc, H, W) -> logits (N, 1, h, w), or a list of scales.

    features: it returns a list of lists, for each scale its features and then the logits. Raises OptionError for a
    discriminator that cannot (one without an attribute `returns_features`). channels: those of each picture in its
    input, such as (nA, nB) of a pair, for augmentations and added terms; their sum is input_nc, else ValueError.
    """
    if channels and sum(channels) != input_nc:
        raise ValueError(f"discriminator: channels {tuple(channels)} do not add up to input_nc, {input_nc}")
    net = _build_network("discriminator", o.netD, o, input_nc)
    if features:
        if not hasattr(net, "returns_features"):
            raise OptionError("option", "--netD", f"{o.netD} does not return its features", "use basic or multiscale")
        net.returns_features = True  # type: ignore[assignment]
    net = initialised(net, o, "D", channels)
    return _with_attention(net, o, input_nc, "discriminator") if "D" in tool(o, "attention", "none") else net


def _with_attention(net: "nn.Module", o: Any, input_nc: int, which: str) -> "nn.Module":
    width, height = to_size(o.saved.get("crop_size", o.crop_size))  # of the run, in a test of other sizes too
    shape = (input_nc,) if getattr(net, "from_noise", False) else (input_nc, height, width)
    return resolve("", _ATTENTION)(net, o, shape, tool(o, "attention_size", 32), which)


def _build_network(kind: str, name: str, *args: Any) -> "nn.Module":
    registered = entry(kind, name)
    net = registered.load()(*args)
    check_network(net, kind, registered.name, registered.origin)
    return net


def initialised(net: "nn.Module", o: Any, role: str = "", channels: Sequence[int] = ()) -> "nn.Module":
    """Initialise a network's weights by --init_type and --init_gain; for networks that a plug-in builds itself.

    role: "G" for a generator, "D" for a discriminator, for a model whose `averaged` and phases do not tell them apart;
    channels: see `discriminator`.
    """
    from networks.init import init_weights  # imports torch, which the tables do not need

    initial = init_weights(net, o.init_type, o.init_gain)
    return mark(initial, role, channels) if role else initial


_NOISE_INPUT = "networks.toolbox.noise_input:add_noise_input"
_ATTENTION = "networks.toolbox.attention:add_attention"
_LATER = {  # names of this package that need torch: `import networks` alone does not import it
    "Frozen": "networks.frozen:Frozen",
    "GANLoss": "networks.gan_loss:GANLoss",
    "features": "networks.layer_outputs:features",
    "known_weights": "serialization.pretrained:known_weights",
    "noise": "networks.sample_noise:noise",
    "pretrained": "serialization.pretrained:pretrained",
    "without": "networks.frozen:without",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return resolve("", _LATER[name])
    raise AttributeError(f"module 'networks' has no attribute '{name}'")
