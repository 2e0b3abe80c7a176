"""Return the Spec that a test's model is built with, of the class that the run was trained with."""

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.spec import Spec
from inference.found_images import FoundImages, exchange_options
from options import store
from registry.lookup import find
from util.errors import print_line
from util.size import to_size


def run_spec(folder: Path, known: dict[str, Any], images: FoundImages | None) -> Spec:
    """Return the Spec of a test's images, or without images of those the run was trained on (`known`).

    The fields that the run's data set added to it have the values of the run, because the networks depend on them.
    """
    spec = images.spec() if images else Spec(**known | {"classes": tuple(known["classes"])})
    if table := store.load_own_fields(folder):
        find("dataset", store.load(folder)["dataset_mode"])  # its file defines the class
        spec, differs = store.with_run_fields(folder, spec, table)
        for name, (own, other) in differs.items():
            print_line(f"note: spec.{name} is {own}, as in the run; the images here give {other}")
    return spec


def without_images(o: Any, folder: Path, exchanged: bool) -> tuple[Any, Spec]:
    """Return the options and the Spec of a model that is built before there are images.

    exchanged: whether it translates images of the other side, by networks that change places.
    """
    known, model_o, size = store.load_spec(folder), copy(o), to_size(o.crop_size)
    spec = run_spec(folder, known, None) if known else Spec(o.input_nc, o.output_nc, size.height, size.width)
    if exchanged:
        exchange_options(model_o)
        spec = replace(spec, input_nc=spec.output_nc, output_nc=spec.input_nc)
    return model_o, spec
