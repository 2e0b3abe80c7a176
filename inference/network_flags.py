"""Infer a network's flags from its weights, for a folder without an options.json."""

from pathlib import Path
from typing import Any

from data.published.semantic import LabelMaps, input_flags
from networks.infer_architecture import infer_generator, weights_description
from registry.lookup import find
from serialization.weight_files import check_exists, load_weights
from serialization.weight_names import weight_path
from util.errors import CheckpointError, print_line


def read_network_flags(o: Any, folder: Path, which: str) -> None:
    """Set the flags that the user did not give from the generator's weights `which`, and print them.

    Raise CheckpointError if there are no such weights, or if they are of an unknown network and --netG is not given.
    """
    path = weight_path(folder, which, f"G{getattr(o, 'model_suffix', '')}")
    if not path.is_file() and o.model == "cycle_gan":
        path = weight_path(folder, which, "G_A")
    infer = getattr(find("model", o.model), "infer_flags", infer_generator)
    inferred = infer(weights := load_weights(check_exists(path)))
    if not inferred and "netG" not in o.given:
        other = weights_description(weights)
        why = f"holds the weights of {other}" if other else "does not match any known generator"
        remedy = "name its network with --netG, from a --plugin if needed"
        remedy += "" if other else "; one that makes images from noise needs its run's options.json beside it"
        raise CheckpointError("file", path, why, remedy)
    if issubclass(find("model", o.model), LabelMaps) and "input_nc" in inferred:
        inferred |= input_flags(o, inferred.pop("input_nc"))
    flags = {flag: value for flag, value in inferred.items() if flag not in o.given}
    for flag, value in flags.items():
        setattr(o, flag, value)
    if flags:
        print_line(f"read from {path.name}: " + " ".join(f"--{flag} {value}" for flag, value in flags.items()))
