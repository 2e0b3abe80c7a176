"""GANvas from Python: `ganvas.load` applies a trained run, `ganvas.train` trains one; plug-ins import their parts here.

Importing it changes nothing and loads nothing else: each name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.base import BaseDataset as BaseDataset
    from data.base import Spec as Spec
    from ganvas.finished_run import Run as Run
    from ganvas.loading import load as load
    from ganvas.pictures import Pictures as Pictures
    from ganvas.run_training import TrainingProgress as TrainingProgress
    from ganvas.run_training import train as train
    from ganvas.run_training import training as training
    from ganvas.trained_generator import TrainedGenerator as TrainedGenerator
    from models.base import BaseModel as BaseModel
    from models.base import Now as Now
    from models.base import Phase as Phase
    from networks import Frozen as Frozen
    from networks import GANLoss as GANLoss
    from networks import discriminator as discriminator
    from networks import features as features
    from networks import generator as generator
    from networks import initialised as initialised
    from networks import noise as noise
    from networks import pretrained as pretrained
    from networks import without as without
    from options.fields import option as option
    from util.errors import CheckpointError as CheckpointError
    from util.errors import DataError as DataError
    from util.errors import Diverged as Diverged
    from util.errors import EnvironmentFault as EnvironmentFault
    from util.errors import OptionError as OptionError
    from util.errors import UserError as UserError
    from util.image_pool import ImagePool as ImagePool

__version__ = "0.1.0"
ROOMS = ""  # the package that holds our modules: in a clone none, in the installed package "ganvas._rooms."
_HOMES = {
    # for plug-ins
    "BaseModel": "models.base:BaseModel", "Phase": "models.base:Phase", "Now": "models.base:Now",
    "GANLoss": "networks:GANLoss", "generator": "networks:generator", "discriminator": "networks:discriminator",
    "initialised": "networks:initialised", "Frozen": "networks:Frozen", "pretrained": "networks:pretrained",
    "features": "networks:features", "without": "networks:without", "noise": "networks:noise",
    "ImagePool": "util.image_pool:ImagePool", "option": "options.fields:option",
    "BaseDataset": "data.base:BaseDataset", "Spec": "data.base:Spec",
    # for callers
    "load": "ganvas.loading:load", "TrainedGenerator": "ganvas.trained_generator:TrainedGenerator",
    "Pictures": "ganvas.pictures:Pictures", "train": "ganvas.run_training:train",
    "training": "ganvas.run_training:training", "TrainingProgress": "ganvas.run_training:TrainingProgress",
    "Run": "ganvas.finished_run:Run",
    # errors, each with one line for the user
    "UserError": "util.errors:UserError", "OptionError": "util.errors:OptionError",
    "DataError": "util.errors:DataError", "CheckpointError": "util.errors:CheckpointError",
    "EnvironmentFault": "util.errors:EnvironmentFault", "Diverged": "util.errors:Diverged",
}  # fmt: skip
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ganvas' has no attribute '{name}'")
    module, _, attribute = _HOMES[name].partition(":")
    home = module if module.startswith("ganvas.") else ROOMS + module
    globals()[name] = found = getattr(importlib.import_module(home), attribute)
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
