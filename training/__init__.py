"""What the loop of train.py calls, and the table of optimisers by name, without importing torch."""

from registry.lookup import Table

OPTIMIZERS = Table("optimizer", {  # called as (params, lr), and with betas=(beta1, beta2) if it declares them
    "adam": "training.optimizers:adam",
    "adamw": "training.optimizers:adamw",
    "rmsprop": "training.optimizers:rmsprop",
    "sgd": "training.optimizers:sgd",
    "radam": "training.optimizers:radam",
    "adafactor": "training.optimizers:adafactor",
})  # fmt: skip
