"""What the loop of train.py calls, and the tables of optimisers and of added terms, without importing torch."""

from registry.lookup import Table

OPTIMIZERS = Table("optimizer", {  # called as (params, lr), and with betas=(beta1, beta2) if it declares them
    "adam": "training.stepping.optimizers:adam",
    "adamw": "training.stepping.optimizers:adamw",
    "rmsprop": "training.stepping.optimizers:rmsprop",
    "sgd": "training.stepping.optimizers:sgd",
    "radam": "training.stepping.optimizers:radam",
    "adafactor": "training.stepping.optimizers:adafactor",
})  # fmt: skip
# called as (fake, real): images (N, C, H, W) in [-1, 1] -> scalar; a class is made once, for the run's device
TERMS = Table("term", {
    "tv": "training.extra_terms:total_variation",
    "hed_lpips": "training.hed_lpips:HedLpipsTerm",
})  # fmt: skip
