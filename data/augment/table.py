"""Augmentations by name: single-image classes of torchvision.transforms.v2 and ours; does not import torch."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

from registry.lookup import Table

V2_MODULE = "torchvision.transforms.v2"
CONTAINERS = {"apply": "RandomApply", "choice": "RandomChoice", "order": "RandomOrder"}  # name in a spec -> class of v2
_OF_BOXES = ("ClampBoundingBoxes", "ConvertBoundingBoxFormat", "SanitizeBoundingBoxes", "SetClampingMode")
_OF_POINTS = ("ClampKeyPoints", "SanitizeKeyPoints")
_OF_TYPES = ("ConvertImageDtype", "PILToTensor", "ToDtype", "ToImage", "ToPILImage", "ToPureTensor", "ToTensor")
UNSUPPORTED_CLASSES = {  # classes of v2 that are not augmentations of a single image, and why
    "RandomApply": "is written apply(p=0.5: ...)",
    "RandomChoice": "is written choice(... | ...)",
    "RandomOrder": "is written order(... | ...)",
    "Compose": "is what a spec already does: it applies augmentations in order",
    "Transform": "is the base class of the others",
    "CutMix": "mixes the images of a batch, and their labels",
    "MixUp": "mixes the images of a batch, and their labels",
    "RandomIoUCrop": "crops around boxes",
    **dict.fromkeys((*_OF_BOXES, *_OF_POINTS), "changes boxes or key points, not images"),
    "UniformTemporalSubsample": "chooses frames of a video",
    **dict.fromkeys(_OF_TYPES, "changes the type of an image, which GANvas does itself"),
    "Lambda": "takes code; write a class in a plug-in instead",
    "LinearTransformation": "takes a matrix of (C H W) x (C H W) numbers",
    "AutoAugmentPolicy": "is an argument of auto_augment: auto_augment(policy=cifar10)",
    "InterpolationMode": "is an argument of others: rotation(10, interpolation=bilinear)",
}
PHOTOMETRIC = {  # augmentations that move no pixel; the others must be applied to both sides of a pair alike
    "color_jitter", "gaussian_blur", "gaussian_noise", "grayscale", "identity", "jpeg", "normalize", "pepper",
    "random_adjust_sharpness", "random_autocontrast", "random_channel_permutation", "random_equalize", "random_erasing",
    "random_grayscale", "random_invert", "random_photometric_distort", "random_posterize", "random_solarize", "rgb",
    "salt_and_pepper",
}  # fmt: skip

MIXED = {"aug_mix", "auto_augment", "rand_augment", "trivial_augment_wide"}  # they move pixels and change their values
RESIZING = {"random_resize", "random_resized_crop", "random_shortest_size", "resize", "scale_jitter"}


def snake_case(name: str) -> str:
    """Return the snake_case name of a class: random_resized_crop for RandomResizedCrop, jpeg for JPEG."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _list_v2_classes() -> list[str]:
    """Return the class names of torchvision.transforms.v2, read from its source; [] without torchvision."""
    spec = find_spec("torchvision")
    files = [Path(root, "transforms", "v2", "__init__.py") for root in (spec and spec.submodule_search_locations) or ()]
    sources = [file.read_bytes() for file in files if file.is_file()]
    lines = [line for source in sources for line in ast.parse(source).body if isinstance(line, ast.ImportFrom)]
    return [a.name for line in lines for a in line.names if a.name[:1].isupper()]


# classes called with the arguments of a spec; instances take and return a (C, H, W) tensor
AUGMENTATIONS = Table(
    "augmentation",
    {snake_case(name): f"{V2_MODULE}:{name}" for name in _list_v2_classes() if name not in UNSUPPORTED_CLASSES}
    | {"pepper": "data.augment.pipeline:Pepper", "salt_and_pepper": "data.augment.pipeline:Pepper"},
)
