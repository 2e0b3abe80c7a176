"""Label maps that a caller gives, with instance maps and photographs, as the folders that the data set reads."""

from dataclasses import replace
from typing import Any

from data.published.semantic import Semantic
from ganvas.pictures import Source
from registry.lookup import find
from util.errors import DataError


def is_of_label_maps(o: Any) -> bool:
    """Whether a run reads folders of label maps, or of pictures with instance maps."""
    return issubclass(find("dataset", o.dataset_mode), Semantic)


def in_folders(source: Source, o: Any) -> Source:
    """Return a source with its files in PHASE_label, PHASE_inst and PHASE_img; one label map alone as it is.

    Raises DataError unless it has what the run needs: {"labels": ..., "instances": ..., "photograph": ...}, with
    --label_nc 0 "image" instead of "labels". Photographs are for encoders, and for results that are compared.
    """
    ends = {"labels": "label", "instances": "inst", "photograph": "img"}
    ends = ends if o.label_nc else {"image": "A", "instances": "inst", "photograph": "B"}
    needed = [name for name in ends if name != "photograph" and not (name == "instances" and o.no_instance)]
    given = list(dict.fromkeys(name.rpartition("/")[0] for name in source.files))
    if given == [""] and len(needed) == 1:
        return source
    if set(needed) - set(given) or set(given) - set(ends):
        why = f"has {', '.join(given)}" if given != [""] else f"is one {'label map' if o.label_nc else 'picture'}"
        why += f", and the run was trained with{'out' * o.no_instance} instance maps"
        text = ", ".join(f'"{name}": ...' for name in needed)
        raise DataError("image", source.name, why, f'give {{{text}}}; also "photograph" where one is encoded')
    o.layout = "folders"
    files = {
        f"{o.phase}_{ends[name.partition('/')[0]]}/{name.partition('/')[2]}": source.files[name]
        for name in source.files
    }
    return replace(source, files=files)
