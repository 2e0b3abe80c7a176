"""Small plug-ins, and checks of the errors for parts that cannot be found or loaded."""

import pytest

from registry import lookup
from util.errors import OptionError

KINDS = list(lookup.PART_TABLES)
EMPTY_MODEL = "from models.base import BaseModel\n\n\nclass {0}(BaseModel):\n    dataset_mode = 'aligned'\n"
SMALLEST = '''"""The smallest model that trains."""
from dataclasses import dataclass
from torch import nn
from torch.nn import functional as F
from models.base import BaseModel, Phase
from options.fields import option
class Smallest(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)
    @dataclass
    class Options:
        strength: float = option(1.0, "how strong", at_least=0)
    def __init__(self, o, spec):
        super().__init__()
        self.o = o
        self.G = nn.Conv2d(spec.input_nc, spec.output_nc, 1)
    def phases(self):
        return [Phase("G", [self.G], self.loss)]
    def forward(self, batch):
        return {"real_A": batch["A"], "fake_B": self.G(batch["A"]).tanh()}
    def loss(self, batch, out):
        return {"L1": self.o.strength * F.l1_loss(out["fake_B"], batch["B"])}
'''


def refused(kind: str, name: str) -> str:
    """Look up a part that cannot be loaded; return the text of the OptionError, whose exit code is 2."""
    with pytest.raises(OptionError) as caught:
        lookup.find(kind, name)
    assert caught.value.code == 2
    return str(caught.value)


def last_line(command, *argv: object) -> str:
    """Run train.py, which must end with exit code 2 and one line on stderr; return that line."""
    ended = command("train", "--dataroot", "missing", *argv)
    assert (ended.code, len(ended.err.strip().splitlines())) == (2, 1), ended
    return ended.last
