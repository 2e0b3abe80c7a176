"""What metrics are told of the run: the device, the classes, and where weights of networks come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from util.errors import OptionError


@dataclass(frozen=True)
class Settings:
    """device: for the metrics' networks. classes: names of the classes that labels number.

    download: whether published weights may be downloaded. weights: files of weights, {network: file}, or one file for
    the only network that needs one.
    """

    device: Any = "cpu"
    download: bool = False
    weights: Mapping[str, str] | str = field(default_factory=dict)
    classes: Sequence[str] = ()

    @classmethod
    def of(cls, o: Any, device: Any, classes: Sequence[str] = ()) -> "Settings":
        """Return the settings that the flags --metric_weights and --download give."""
        return cls(device, o.download, parse_weights(o.metric_weights), tuple(classes))

    def weights_file(self, network: str) -> str:
        """Return the file given for a network; "" if there is none."""
        return self.weights if isinstance(self.weights, str) else self.weights.get(network, "")


def parse_weights(words: Sequence[str]) -> dict[str, str] | str:
    """Return {network: file} for NETWORK=FILE, or the file of a single FILE.

    Raises OptionError for one of several files that names no network.
    """
    pairs = [word.partition("=") for word in words]
    if len(words) == 1 and (not pairs[0][1] or Path(words[0]).exists()):
        return words[0]
    for name, equals, file in pairs:
        if not (name and equals and file):
            why = f"'{name}{equals}{file}' does not say whose weights it holds"
            raise OptionError("option", "--metric_weights", why, "write NETWORK=FILE for each of several files")
    return {name: file for name, _, file in pairs}
