"""Read a network's architecture from the keys and shapes of its weights, and say how two of them differ."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from serialization.weight_files import renamed

Weights = Mapping[str, Tensor]
DEPTHS = {8: "unet_256", 7: "unet_128", 6: "unet_64", 5: "unet_32"}


def infer_generator(state: Weights) -> dict[str, Any]:
    """Return the flags {netG, ngf, norm, no_dropout, input_nc, output_nc, resize_conv, padding} that fit the weights.

    {} where the keys are those of no generator of the reference. Dropout of a U-Net leaves no trace in its keys: it
    is on with batch norm, as the reference's pix2pix trains.
    """
    state = renamed(state)
    if _convolutions(state, "model.model.0.weight", "model.model.3.weight"):
        return _unet(state)
    if _convolutions(state, "model.1.weight") and any(".conv_block." in key for key in state):
        return _resnet(state)
    return {}


def infer_discriminator(state: Weights) -> dict[str, Any]:
    """Return the flags {netD, ndf, norm, n_layers_D} that fit the weights, and the channels it judges as "channels".

    {} where the keys are those of no discriminator of the reference.
    """
    state = renamed(state)
    found = _pixel(state) or _patch(state)
    return found if all(key.startswith(("net.", "model.")) for key in state) else {}


def infer_class_network(state: Weights) -> dict[str, Any]:
    """Return the flags that fit the weights of a network of cgan: with "ndf" of its discriminator, else {}."""
    state = renamed(state)
    shapes = {key: value.shape for key, value in state.items()}
    layers = sorted(
        (int(m[1]), s) for key, s in shapes.items() if (m := re.fullmatch(r"model\.(\d{1,6})\.weight", key))
    )
    layers = [(n, shape) for n, shape in layers if len(shape) == 4]
    embedding = shapes.get("embedding.weight", ())
    if len(layers) < 2 or layers[0][0] != 0 or len(embedding) != 2:
        return {}
    first, last = layers[0][1], layers[-1][1]
    if "head.weight" in state:
        found = {"ndf": first[0], "cond": "projection" if embedding[1] == last[0] else "concat"}
        return found | {"crop_size": 4 * 2 ** len(layers), "classes": embedding[0]}
    resized = last[2:] == (3, 3)  # instead of 4x4, and (out, in) instead of (in, out)
    found = {"ngf": last[resized], "latent_dim": first[0] - embedding[1], "embedding_dim": embedding[1]}
    found |= {"norm": "none" if "model.1.weight" not in state and "model.1.bias" not in state else "batch"}
    found |= {"resize_conv": resized, "output_nc": last[not resized]}
    return found | {"crop_size": 4 * 2 ** (len(layers) - 1), "classes": embedding[0]}


KINDS = (  # what the weights are of, how to say it, what reads their flags
    ("a generator (--netG {netG})", infer_generator),
    ("a discriminator (--netD {netD})", infer_discriminator),
)


def kind(state: Weights) -> str:
    """Return what weights are of, in words: "a discriminator (--netD basic)"; "" if that is not known."""
    for words, infer in KINDS:
        if found := infer(state):
            return words.format(**found)
    found = infer_class_network(state)
    return f"a {'discriminator' if 'ndf' in found else 'generator'} of --model cgan" if found else ""


def explain(own: Weights, theirs: Weights) -> str:
    """Return why weights do not fit a network that has `own`: of what they are, or the flags they were made with.

    Only flags that differ from the network's are named; "" where nothing is known.
    """
    there, here = kind(theirs), kind(own)
    if there.partition(" (")[0] != here.partition(" (")[0]:
        return f"these are weights of {there}" if there else ""
    for infer in (infer_generator, infer_discriminator, infer_class_network):
        made, wanted = infer(theirs), infer(own)
        if made and wanted:
            return _difference(made, wanted)
    return ""


def _difference(made: dict[str, Any], wanted: dict[str, Any]) -> str:
    differing = {flag: value for flag, value in made.items() if wanted.get(flag) != value}
    if str(made.get("netG")).startswith("unet"):
        differing.pop("no_dropout", None)  # it leaves no trace in a U-Net's keys
    channels, classes = (differing.pop(word, None) for word in ("channels", "classes"))
    flags = " ".join(_flag(name, value) for name, value in differing.items())
    told = [f"it was made with {flags}"] if flags else []
    if channels:
        told.append(f"it judges {channels} channels, this one {wanted['channels']} (pix2pix's judges A and B together)")
    if classes:
        told.append(f"it knows {classes} classes, this one {wanted['classes']}")
    return ", and ".join(told)


def _flag(name: str, value: Any) -> str:
    if name == "no_dropout":
        return "--no_dropout" if value else "--dropout"
    if name == "resize_conv":
        return "--resize_conv" if value else "--no_resize_conv"
    return f"--{name} {value}"


class Known(nn.Module):
    """A network whose architecture can be read from its weights."""

    def explain_misfit(self, theirs: Weights) -> str:
        """Return why weights do not fit, and the flags they were made with; "" where nothing is known."""
        return explain(self.state_dict(), theirs)


def _convolutions(state: Weights, *keys: str) -> bool:
    """Whether these are there, with four dimensions and something in them."""
    return all(key in state and state[key].dim() == 4 and state[key].numel() for key in keys)


def _plausible(state: Weights, inner: int) -> bool:
    """Whether a network whose inner layers have so many weights may be of these: one small tensor claims no giant."""
    return inner <= 8 * sum(value.numel() for value in state.values()) + 1_000_000


def _pixel(state: Weights) -> dict[str, Any]:
    if not _convolutions(state, "net.0.weight", "net.2.weight", "net.5.weight"):
        return {}
    if state["net.0.weight"].shape[2:] != (1, 1):
        return {}
    ndf, channels = state["net.0.weight"].shape[:2]
    return {"netD": "pixel", "ndf": ndf, "norm": _norm(state, "net.2", "net.3"), "channels": channels}


def _patch(state: Weights) -> dict[str, Any]:
    convs = [key for key, value in state.items() if re.fullmatch(r"model\.\d+\.weight", key) and value.dim() == 4]
    layers = len(convs) - 2  # one before them, one after
    if layers < 1 or convs != [f"model.{n}.weight" for n in (0, *range(2, 3 * layers + 3, 3))]:
        return {}
    if state[convs[0]].shape[2:] != (4, 4) or state[convs[-1]].shape[0] != 1:
        return {}
    ndf, channels = state[convs[0]].shape[:2]
    size = {"netD": "basic"} if layers == 3 else {"netD": "n_layers", "n_layers_D": layers}
    return {**size, "ndf": ndf, "norm": _norm(state, "model.2", "model.3"), "channels": channels}


def _norm(state: Weights, inner_conv: str, after: str) -> str:
    """Return the norm; statistics beside a biased convolution are what old instance norms left in their files."""
    has_bias = f"{inner_conv}.bias" in state
    if has_bias:
        return "instance_affine" if f"{after}.weight" in state else "instance"
    return "batch" if f"{after}.weight" in state else "none"


def _unet(state: Weights) -> dict[str, Any]:
    depth, prefix = 1, "model.model"
    while f"{prefix}.{1 if depth == 1 else 3}.model.1.weight" in state:
        prefix += f".{1 if depth == 1 else 3}.model"
        depth += 1
    if depth not in DEPTHS:
        return {}
    norm = _norm(state, "model.model.1.model.1", "model.model.1.model.2")
    ngf, input_nc = state["model.model.0.weight"].shape[:2]
    if not _plausible(state, 16 * (8 * ngf) ** 2 * 3 * (depth - 4)):
        return {}
    last = state["model.model.3.weight"].shape
    resized = last[2:] == (3, 3)  # instead of 4x4, and (out, in) instead of (in, out)
    return {
        "netG": DEPTHS[depth], "ngf": ngf, "norm": norm, "no_dropout": norm != "batch",
        "input_nc": input_nc, "output_nc": last[not resized], "resize_conv": resized,
    }  # fmt: skip


def _resnet(state: Weights) -> dict[str, Any]:
    blocks = {int(m[1]) for key in state if (m := re.match(r"model\.(\d{1,6})\.conv_block\.", key))}
    n, up, last = len(blocks), f"model.{10 + len(blocks)}.weight", f"model.{17 + len(blocks)}.weight"
    ngf, input_nc = state["model.1.weight"].shape[:2]
    known = blocks == set(range(10, 10 + n)) and _convolutions(state, up, last)
    if not known or not _plausible(state, 9 * (4 * ngf) ** 2 * 2 * n):
        return {}
    padded = "model.10.conv_block.0.weight" not in state  # a padding layer has no weights
    second = f"model.10.conv_block.{6 if padded else 4}.weight"
    dropout = second in state and state[second].dim() == 4
    return {
        "netG": f"resnet_{n}blocks", "ngf": ngf, "norm": _norm(state, "model.1", "model.2"), "no_dropout": not dropout,
        "input_nc": input_nc, "output_nc": state[last].shape[0], "padding": "reflect" if padded else "zero",
        "resize_conv": state[up].shape[0] < state[up].shape[1],  # (out, in), not (in, out)
    }  # fmt: skip
