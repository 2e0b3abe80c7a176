"""The names of a run's files of weights: PREFIX_net_NAME.pth, or .safetensors where there is no .pth."""

from pathlib import Path

PTH, SAFETENSORS = ".pth", ".safetensors"
SUFFIXES = (PTH, SAFETENSORS)  # the first one that exists is read
WEIGHT_PATTERNS = tuple("*_net_*" + suffix for suffix in SUFFIXES)


def weight_path(folder: Path, prefix: str, name: str) -> Path:
    """Return the file of a network's weights that is read; without one, the name of a .pth.

    Last comes the name in StarGAN's code, PREFIX-NAME.ckpt.
    """
    paths = [folder / f"{prefix}_net_{name}{suffix}" for suffix in SUFFIXES] + [folder / f"{prefix}-{name}.ckpt"]
    return next((path for path in paths if path.is_file()), paths[0])


def other_format(path: Path) -> Path:
    """Return the name of the same weights in the other format."""
    return path.with_suffix(PTH if path.suffix == SAFETENSORS else SAFETENSORS)


def list_weights(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the files of weights whose name without suffix matches a pattern, sorted; each name once."""
    found = {path.stem: path for suffix in reversed(SUFFIXES) for path in folder.glob(pattern + suffix)}
    return sorted(found.values())
