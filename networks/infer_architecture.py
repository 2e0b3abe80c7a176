"""Infer a network's architecture from the keys and shapes of its weights, and describe how two networks differ."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from registry.lookup import is_known
from serialization.weight_files import rename_keys

Weights = Mapping[str, Tensor]
SINCUT_SIDE = 64  # of the images that SinCUT is trained on
MAX_CAPPED_SIDE = 32  # of StyleGAN2's feature maps whose number of channels has an upper limit
MAX_HALVINGS = 8  # of pix2pixHD's generators
MAX_STYLEGAN2_LAYERS = 9  # of its discriminator, for images of 1024 pixels
UNET_BY_DEPTH = {8: "unet_256", 7: "unet_128", 6: "unet_64", 5: "unet_32"}


def infer_generator(state: Weights) -> dict[str, Any]:
    """Return the flags {netG, ngf, norm, no_dropout, input_nc, output_nc, resize_conv, padding} that fit the weights.

    A ResNet also has no_antialias and no_antialias_up; StyleGAN2's generator has netG, ngf, stylegan2_G_size,
    stylegan2_G_num_downsampling, input_nc and output_nc; pix2pixHD's have netG, ngf, norm, input_nc, output_nc and the
    numbers of their layers; SPADE's has norm_G, use_vae and z_dim. {} if the keys do not belong to a generator of the
    reference, of CUT, of pix2pixHD or of SPADE. A U-Net's dropout leaves no trace in its keys; it is assumed to be on
    with batch norm, because the reference's pix2pix trains so.
    """
    state = rename_keys(state)
    if _has_convolutions(state, "model.model.0.weight", "model.model.3.weight"):
        return _infer_unet(state)
    if _has_convolutions(state, "model.1.weight") and any(".conv_block." in key for key in state):
        resnet = _infer_resnet(state)  # of any number of blocks; --netG global of two halvings has the same keys
        is_ours = is_known("generator", resnet.get("netG", ""))
        return resnet if is_ours else _infer_pix2pixhd_generator(state) or resnet
    if _has_convolutions(state, "encoder.convs.1.0.weight"):
        return _infer_stylegan2_generator(state)
    if _has_convolutions(state, "head_0.norm_0.mlp_shared.0.weight", "conv_img.weight"):
        return _infer_spade_generator(state)
    return {}


def infer_discriminator(state: Weights) -> dict[str, Any]:
    """Return the flags {netD, ndf, norm, n_layers_D, num_D, no_antialias} that fit the weights, and input "channels".

    StyleGAN2's has netD, ndf, crop_size (a power of two) and channels; pix2pixHD's have no_ganFeat_loss instead of
    no_antialias, SPADE's norm_D instead of norm. {} if the keys do not belong to a discriminator of the reference, of
    CUT, of pix2pixHD or of SPADE.
    """
    state = rename_keys(state)
    if state and all(re.match(r"(scale\d_)?layer\d+\.", key) for key in state):
        return _infer_pix2pixhd_discriminators(state)
    if state and all(re.match(r"discriminator_\d\.", key) for key in state):
        return _infer_spade_discriminators(state)
    if all(re.match(r"scales\.\d\.", key) for key in state):
        return _infer_multiscale(state)
    if _has_convolutions(state, "convs.0.0.weight", "final_conv.0.weight"):
        return _infer_stylegan2_discriminator(state)
    flags = _infer_pixel(state) or _infer_patch(state)
    return flags if all(key.startswith(("net.", "model.")) for key in state) else {}


def infer_class_network(state: Weights) -> dict[str, Any]:
    """Return the flags that fit the weights of a network of cgan (a discriminator's include "ndf"), else {}."""
    state = rename_keys(state)
    shapes = {key: value.shape for key, value in state.items()}
    numbers = {int(m[1]): key for key in state if (m := re.fullmatch(r"model\.(\d{1,6})\.weight", key))}
    layers = {number: shapes[key] for number, key in sorted(numbers.items()) if len(shapes[key]) == 4}
    embedding = shapes.get("embedding.weight", ())
    if len(layers) < 2 or 0 not in layers or len(embedding) != 2:
        return {}
    first, last = layers[0], layers[max(layers)]
    if "head.weight" in state:
        flags = {"ndf": first[0], "cond": "projection" if embedding[1] == last[0] else "concat"}
        return flags | {"crop_size": 4 * 2 ** len(layers), "classes": embedding[0]}
    resized = last[2:] == (3, 3)  # ResizeConv: (out, in, 3, 3); transposed convolution: (in, out, 4, 4)
    flags = {"ngf": last[resized], "latent_dim": first[0] - embedding[1], "embedding_dim": embedding[1]}
    flags |= {"norm": "none" if "model.1.weight" not in state and "model.1.bias" not in state else "batch"}
    flags |= {"resize_conv": resized, "output_nc": last[not resized]}
    return flags | {"crop_size": 4 * 2 ** (len(layers) - 1), "classes": embedding[0]}


def infer_stargan(state: Weights) -> dict[str, Any]:
    """Return the flags that fit the weights of a network of stargan (a discriminator's include "ndf"), else {}."""
    last = max((int(m[1]) for key in state if (m := re.fullmatch(r"main\.(\d{1,6})\.weight", key))), default=0)
    if _has_convolutions(state, "main.0.weight", "conv1.weight", "conv2.weight") and len(state["conv1.weight"]) == 1:
        flags = {"ndf": state["main.0.weight"].shape[0], "d_repeat_num": last // 2 + 1}
        return flags | {"c_dim": state["conv2.weight"].shape[0]}
    blocks = {m[1] for key in state if (m := re.fullmatch(r"main\.(\d{1,6})\.main\.0\.weight", key))}
    if not _has_convolutions(state, "main.0.weight", f"main.{last}.weight") or last != len(blocks) + 15:
        return {}
    (ngf, channels), output_nc = state["main.0.weight"].shape[:2], state[f"main.{last}.weight"].shape[0]
    if channels <= output_nc or not _is_plausible_size(state, 2 * 9 * (4 * ngf) ** 2 * len(blocks)):
        return {}  # an image alone, without domains
    flags = {"ngf": ngf, "g_repeat_num": len(blocks), "c_dim": channels - output_nc}
    return flags | {"input_nc": output_nc, "output_nc": output_nc}


def weights_description(state: Weights) -> str:
    """Return which network weights belong to, as in "a discriminator (--netD basic)"; "" if that is unknown."""
    if flags := infer_generator(state):
        return f"a generator (--netG {flags['netG']})"
    if flags := infer_discriminator(state):
        return f"a discriminator (--netD {flags['netD']})"
    if flags := infer_class_network(state):
        return f"a {'discriminator' if 'ndf' in flags else 'generator'} of --model cgan"
    if flags := infer_stargan(state):
        return f"a {'discriminator' if 'ndf' in flags else 'generator'} of --model stargan"
    return ""


def mismatch_text(own_state: Weights, other_state: Weights) -> str:
    """Return why weights do not fit the network with `own_state`: they belong to another kind, or to other flags.

    Only the flags that differ from the network's are listed; "" if the reason is unknown.
    """
    other_network, own_network = weights_description(other_state), weights_description(own_state)
    if other_network.partition(" (")[0] != own_network.partition(" (")[0]:
        return f"these are weights of {other_network}" if other_network else ""
    for infer in (infer_generator, infer_discriminator, infer_class_network, infer_stargan):
        other_flags, own_flags = infer(other_state), infer(own_state)
        if other_flags and own_flags:
            return _difference_text(other_flags, own_flags)
    return ""


def _difference_text(other_flags: dict[str, Any], own_flags: dict[str, Any]) -> str:
    differences = {flag: value for flag, value in other_flags.items() if own_flags.get(flag) != value}
    if str(other_flags.get("netG")).startswith("unet"):
        differences.pop("no_dropout", None)  # a U-Net's dropout leaves no trace in its keys
    channels, classes = (differences.pop(word, None) for word in ("channels", "classes"))
    flags = " ".join(_flag_text(name, value) for name, value in differences.items())
    reasons = [f"it was made with {flags}"] if flags else []
    if channels:
        own_channels = f"this one {own_flags['channels']} (pix2pix's takes A and B together)"
        reasons.append(f"it takes {channels} input channels, {own_channels}")
    if classes:
        reasons.append(f"it has {classes} classes, this one {own_flags['classes']}")
    return ", and ".join(reasons)


def _flag_text(name: str, value: Any) -> str:
    if type(value) is not bool:
        return f"--{name} {value}"
    return f"--{name}" if value else {"resize_conv": "--no_resize_conv"}.get(name, "--" + name.removeprefix("no_"))


class InferableNetwork(nn.Module):
    """A network whose architecture can be inferred from its weights."""

    def explain_misfit(self, other_state: Weights) -> str:
        """Return why weights do not fit and the flags they were made with; "" if the reason is unknown."""
        return mismatch_text(self.state_dict(), other_state)


def _has_convolutions(state: Weights, *keys: str) -> bool:
    """Whether all these keys exist, with four-dimensional tensors that are not empty."""
    return all(key in state and state[key].dim() == 4 and state[key].numel() for key in keys)


def _is_plausible_size(state: Weights, inner: int) -> bool:
    """Whether `inner` weights in the inner layers are plausible: a small file must not lead to a giant network."""
    return inner <= 8 * sum(value.numel() for value in state.values()) + 1_000_000


def _infer_pixel(state: Weights) -> dict[str, Any]:
    if not _has_convolutions(state, "net.0.weight", "net.2.weight", "net.5.weight"):
        return {}
    if state["net.0.weight"].shape[2:] != (1, 1):
        return {}
    ndf, channels = state["net.0.weight"].shape[:2]
    flags = {"netD": "pixel", "ndf": ndf, "norm": _infer_norm(state, "net.2", "net.3"), "channels": channels}
    return flags | {"no_antialias": True}


def _infer_patch(state: Weights) -> dict[str, Any]:
    convs = [key for key, value in state.items() if re.fullmatch(r"model\.\d+\.weight", key) and value.dim() == 4]
    layers = len(convs) - 2  # without the first and the last
    blurred = "model.2.filt" in state
    second, step = (3, 4) if blurred else (2, 3)  # numbers of the second convolution, and between two of them
    inner = [second + step * n for n in range(layers)]
    if layers < 1 or convs != [f"model.{n}.weight" for n in (0, *inner, inner[-1] + 3)]:
        return {}
    if state[convs[0]].shape[2:] != (4, 4) or state[convs[-1]].shape[0] != 1:
        return {}
    ndf, channels = state[convs[0]].shape[:2]
    size = {"netD": "basic"} if layers == 3 else {"netD": "n_layers", "n_layers_D": layers}
    norm = _infer_norm(state, f"model.{second}", f"model.{second + 1}")
    return {**size, "ndf": ndf, "norm": norm, "no_antialias": not blurred, "channels": channels}


def _infer_multiscale(state: Weights) -> dict[str, Any]:
    first = {key[9:]: value for key, value in state.items() if key.startswith("scales.0.")}
    flags, count = _infer_patch(first), len({key[:9] for key in state})
    if not flags or len(state) != count * len(first):
        return {}
    return {**flags, "netD": "multiscale", "n_layers_D": flags.get("n_layers_D", 3), "num_D": count}


def _infer_stylegan2_generator(state: Weights) -> dict[str, Any]:
    encoder = {int(m[1]) for key in state if (m := re.match(r"encoder\.convs\.(\d{1,6})\.", key))}
    halvings = [n for n in encoder if f"encoder.convs.{n}.skip.1.weight" in state]
    n_blocks, last = len(encoder) - 1 - len(halvings), f"decoder.convs.{len(encoder) - 1}.0.weight"
    netG = {3: "stylegan2", 1: "smallstylegan2"}.get(n_blocks)
    rows = [f"encoder.convs.{n}.conv2.2.bias" for n in range(2, 2 + len(halvings))]
    if not (netG and _has_convolutions(state, last) and all(row in state for row in rows)):
        return {}
    widths = [state["encoder.convs.1.0.weight"].shape[0], *(state[row].numel() for row in rows)]
    sizes = [2**n for n in range(2 + len(halvings), 11)]
    sizes.sort(key=lambda size: size != SINCUT_SIDE)  # which comes first, because several sizes may fit
    guesses = [(size, widths[0] * size // 512 + more) for size in sizes for more in (0, -1, 1)]
    fits = [g for g in guesses if g[1] > 0 and [generator_width(g[1], g[0] >> n) for n in range(len(widths))] == widths]
    if not fits or not _is_plausible_size(state, 9 * widths[-1] ** 2 * 4 * n_blocks):
        return {}
    return {
        "netG": netG, "ngf": fits[0][1], "stylegan2_G_num_downsampling": len(halvings), "stylegan2_G_size": fits[0][0],
        "input_nc": state["encoder.convs.1.0.weight"].shape[1], "output_nc": state[last].shape[0],
    }  # fmt: skip


def _infer_stylegan2_discriminator(state: Weights) -> dict[str, Any]:
    count = len({key.split(".")[1] for key in state if key.startswith("convs.")})
    rows = [f"convs.{n}.conv2.2.bias" for n in range(1, count)]
    if count > MAX_STYLEGAN2_LAYERS or not all(row in state for row in rows):
        return {}
    widths, size = [len(state["convs.0.0.weight"]), *(state[row].numel() for row in rows)], 4 * 2 ** (count - 1)
    least = widths[0] * size // 256
    for ndf in range(max(1, least - 3), least + 4):  # for over 256 pixels several give one width
        if [discriminator_width(ndf, size >> n) for n in range(count)] == widths:
            channels = state["convs.0.0.weight"].shape[1]
            return {"netD": "stylegan2", "ndf": ndf, "crop_size": size, "channels": channels}
    return {}


def generator_width(ngf: int, size: int) -> int:
    """Return the channels of StyleGAN2's translating generator for feature maps of `size` pixels a side."""
    width = max(1, round(512 * ngf / size))
    return min(width, 512) if size <= MAX_CAPPED_SIDE else width


def discriminator_width(ndf: int, size: int) -> int:
    """Return the channels of SinCUT's StyleGAN2 discriminator for feature maps of `size` pixels a side."""
    width = max(1, 256 * ndf // size)
    return min(width, 384) if size <= MAX_CAPPED_SIDE else width


def _infer_pix2pixhd_generator(state: Weights) -> dict[str, Any]:
    blocks = {int(m[1]) for key in state if (m := re.match(r"model\.(\d{1,6})\.conv_block\.", key))}
    enhancers = len({m[1] for key in state if (m := re.match(r"model(\d{1,2})_1\.", key))})
    halvings, n = (min(blocks, default=4) - 4) // 3, len(blocks)
    local = {int(m[1]) for key in state if (m := re.match(rf"model{enhancers}_2\.(\d{{1,6}})\.conv_block\.", key))}
    start, trunk = 4 + 3 * halvings, 4 + 6 * halvings + n
    last = f"model{enhancers}_2.{len(local) + 4}.weight" if enhancers else f"model.{trunk + 1}.weight"
    fits = "model.1.weight" in state and _has_convolutions(state, last) and halvings <= MAX_HALVINGS
    if not n or not fits or blocks != set(range(start, start + n)):
        return {}
    wide, input_nc = state["model.1.weight"].shape[:2]
    ngf = wide // 2**enhancers
    if not _is_plausible_size(state, 9 * (wide * 2**halvings) ** 2 * 2 * n):
        return {}
    has_bias = "model.1.bias" in state
    norm = _infer_norm_beside_bias(state, "model.2") if has_bias else _infer_norm(state, "model.1", "model.2")
    flags = {"netG": "local" if enhancers else "global", "ngf": ngf, "norm": norm}
    flags |= {"input_nc": input_nc, "output_nc": state[last].shape[0]}
    flags |= {"n_downsample_global": halvings, "n_blocks_global": n}
    return flags | ({"n_local_enhancers": enhancers, "n_blocks_local": len(local)} if enhancers else {})


def _infer_pix2pixhd_discriminators(state: Weights) -> dict[str, Any]:
    by_layer = any(key.startswith("scale") for key in state)
    scales = len({key.partition("_")[0] if by_layer else key.partition(".")[0] for key in state})
    first = "scale0_layer" if by_layer else "layer0."
    convs = [key for key, value in state.items() if key.startswith(first) and value.dim() == 4]
    if len(convs) < 3 or state[convs[0]].shape[2:] != (4, 4) or state[convs[-1]].shape[0] != 1:
        return {}
    ndf, channels = state[convs[0]].shape[:2]
    norm = _infer_norm_beside_bias(state, first + ("1.1" if by_layer else "3"))
    flags = {"netD": "pix2pixhd", "ndf": ndf, "norm": norm, "n_layers_D": len(convs) - 2, "num_D": scales}
    return flags | {"no_ganFeat_loss": not by_layer, "channels": channels}


def _infer_spade_generator(state: Weights) -> dict[str, Any]:
    """Return the flags of SPADE's generator; --num_upsampling_layers normal and more leave the same keys."""
    spectral = "spectral" if "head_0.conv_0.weight_orig" in state else ""
    last, shared = f"up_3.conv_1.weight{'_orig' if spectral else ''}", state["head_0.norm_0.mlp_shared.0.weight"]
    if not _has_convolutions(state, last) or "fc.weight" not in state:
        return {}
    ngf, (_, input_nc, kernel, _) = state[last].shape[0], shared.shape
    if not _is_plausible_size(state, 2 * 9 * 128 * 16 * ngf):
        return {}
    free = "syncbatch" if "head_0.norm_0.param_free_norm.running_mean" in state else "instance"
    flags = {"netG": "spade", "ngf": ngf, "norm_G": f"{spectral}spade{free}{kernel}x{kernel}", "input_nc": input_nc}
    flags |= {"output_nc": state["conv_img.weight"].shape[0], "use_vae": state["fc.weight"].dim() == 2}
    flags |= {"z_dim": state["fc.weight"].shape[1]} if flags["use_vae"] else {}
    is_most = any(key.startswith("up_4.") for key in state)
    return flags | ({"num_upsampling_layers": "most"} if is_most else {})


def _infer_spade_discriminators(state: Weights) -> dict[str, Any]:
    """Return the flags of SPADE's discriminators, whose keys do not tell whether they return features."""
    first = {key.partition(".")[2]: value for key, value in state.items() if key.startswith("discriminator_0.")}
    convs = [value for value in first.values() if value.dim() == 4]
    if len(convs) < 2 or not _has_convolutions(first, "model0.0.weight") or convs[-1].shape[0] != 1:
        return {}
    ndf, channels = first["model0.0.weight"].shape[:2]
    spectral = "spectral" if any(key.endswith("weight_orig") for key in first) else ""
    norm = "instance" if any(key.startswith("model1.0.0.") for key in first) else ""
    if "model1.0.1.weight" in first:
        norm = "batch" if "model1.0.1.running_mean" in first else "instance_affine"
    flags = {"netD": "spade", "ndf": ndf, "norm_D": spectral + norm, "n_layers_D": len(convs) - 1}
    return flags | {"num_D": len({key.partition(".")[0] for key in state}), "channels": channels}


def _infer_norm_beside_bias(state: Weights, norm: str) -> str:
    """Return the norm of a network whose convolutions all have a bias; instance norm and none leave the same keys."""
    if f"{norm}.weight" not in state:
        return "instance"
    return "batch" if f"{norm}.running_mean" in state else "instance_affine"


def _infer_norm(state: Weights, inner_conv: str, after: str) -> str:
    """Return the norm; running statistics after a biased convolution are leftovers of old versions' instance norms."""
    has_bias, has_scale = f"{inner_conv}.bias" in state, f"{after}.weight" in state
    if has_bias:
        return "instance_affine" if has_scale else "instance"
    return ("batch" if f"{after}.running_mean" in state else "layer") if has_scale else "none"


def _infer_unet(state: Weights) -> dict[str, Any]:
    depth, prefix = 1, "model.model"
    while f"{prefix}.{1 if depth == 1 else 3}.model.1.weight" in state:
        prefix += f".{1 if depth == 1 else 3}.model"
        depth += 1
    if depth not in UNET_BY_DEPTH:
        return {}
    norm = _infer_norm(state, "model.model.1.model.1", "model.model.1.model.2")
    ngf, input_nc = state["model.model.0.weight"].shape[:2]
    if not _is_plausible_size(state, 16 * (8 * ngf) ** 2 * 3 * (depth - 4)):
        return {}
    last = state["model.model.3.weight"].shape
    resized = last[2:] == (3, 3)  # ResizeConv: (out, in, 3, 3); transposed convolution: (in, out, 4, 4)
    return {
        "netG": UNET_BY_DEPTH[depth], "ngf": ngf, "norm": norm, "no_dropout": norm != "batch",
        "input_nc": input_nc, "output_nc": last[not resized], "resize_conv": resized,
    }  # fmt: skip


def _infer_resnet(state: Weights) -> dict[str, Any]:
    blocks = {int(m[1]) for key in state if (m := re.match(r"model\.(\d{1,6})\.conv_block\.", key))}
    n, first = len(blocks), 12 if "model.7.filt" in state else 10  # two blurs come before the blocks
    blurs_up = f"model.{first + n}.filt" in state
    up, last = f"model.{first + n + blurs_up}.weight", f"model.{first + n + 7 + 2 * blurs_up}.weight"
    ngf, input_nc = state["model.1.weight"].shape[:2]
    is_resnet = blocks == set(range(first, first + n)) and _has_convolutions(state, up, last)
    if not is_resnet or not _is_plausible_size(state, 9 * (4 * ngf) ** 2 * 2 * n):
        return {}
    padded = f"model.{first}.conv_block.0.weight" not in state  # a padding layer has no weights
    second = f"model.{first}.conv_block.{6 if padded else 4}.weight"
    dropout = second in state and state[second].dim() == 4
    return {
        "netG": f"resnet_{n}blocks", "ngf": ngf,
        "norm": _infer_norm(state, "model.1", "model.2"), "no_dropout": not dropout,
        "input_nc": input_nc, "output_nc": state[last].shape[0], "padding": "reflect" if padded else "zero",
        "resize_conv": not blurs_up and state[up].shape[0] < state[up].shape[1],  # (out, in) instead of (in, out)
        "no_antialias": first == 10, "no_antialias_up": not blurs_up,
    }  # fmt: skip
