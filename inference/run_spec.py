"""Return the Spec that a test's model is built with, of the class that the run was trained with."""

from pathlib import Path
from typing import Any

from data.spec import Spec
from inference.found_images import FoundImages
from options import store
from registry.lookup import find
from util.errors import print_line


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
