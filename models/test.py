"""test: one generator in one direction for images without a counterpart; it cannot be trained."""

from dataclasses import dataclass

from models.base import BaseModel
from networks import generator
from options.fields import option


class Test(BaseModel):
    """Translates with the network G + --model_suffix (suffix _A or _B for a CycleGAN)."""

    dataset_mode = "single"

    @dataclass
    class Options:
        model_suffix: str = option("", "load latest_net_G[suffix].pth, for example _A")

    def __init__(self, o, spec):
        super().__init__()
        self.name = "G" + o.model_suffix
        self.add_module(self.name, generator(o, spec.input_nc, spec.output_nc))

    def forward(self, batch):
        return {"real": batch["A"], "fake": self.get_submodule(self.name)(batch["A"])}
