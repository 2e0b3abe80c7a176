"""What the loop of train.py calls, and the tables of optimisers and of added terms, without importing torch."""

from registry.lookup import Table

OPTIMIZERS = Table("optimizer", {  # called as (params, lr), and with betas=(beta1, beta2) if it declares them
    "adam": "training.stepping.optimizer_kinds:adam",
    "adamw": "training.stepping.optimizer_kinds:adamw",
    "rmsprop": "training.stepping.optimizer_kinds:rmsprop",
    "sgd": "training.stepping.optimizer_kinds:sgd",
    "radam": "training.stepping.optimizer_kinds:radam",
    "adafactor": "training.stepping.optimizer_kinds:adafactor",
})  # fmt: skip
# called as (fake, real): images (N, C, H, W) in [-1, 1] -> scalar; a class is made once, for the run's device
TERMS = Table("term", {
    "tv": "training.extra_terms:total_variation",
    "hed_lpips": "training.hed_lpips_term:HedLpipsTerm",
})  # fmt: skip
