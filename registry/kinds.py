"""List the kinds of named parts, with the table and the flag of each."""

PART_TABLES = {  # kind: (module of its table, name of the table, base class for plug-in files or None)
    "model": ("models", "MODELS", "models.base:BaseModel"),
    "dataset": ("data", "DATASETS", "data.base:BaseDataset"),
    "augmentation": ("data", "AUGMENTATIONS", None),
    "generator": ("networks", "GENERATORS", None),
    "discriminator": ("networks", "DISCRIMINATORS", None),
    "norm": ("networks", "NORMS", None),
    "initialiser": ("networks", "INITIALISERS", None),
    "objective": ("networks", "OBJECTIVES", None),
    "penalty": ("networks", "PENALTIES", None),
    "d_augmentation": ("networks", "D_AUGMENTATIONS", None),
    "term": ("training", "TERMS", None),
    "lr_policy": ("training.lr_schedule", "LR_POLICIES", None),
    "optimizer": ("training", "OPTIMIZERS", None),
    "metric": ("metrics", "METRICS", None),
    "display": ("displays.base", "DISPLAYS", None),
    "recipe": ("options.recipe", "RECIPES", None),
}
PART_FLAGS = {"model": "--model", "dataset": "--dataset_mode", "augmentation": "--augment", "generator": "--netG",
              "discriminator": "--netD", "norm": "--norm", "initialiser": "--init_type", "objective": "--gan_mode",
              "penalty": "--penalty", "d_augmentation": "--diffaugment", "term": "--terms",
              "lr_policy": "--lr_policy", "optimizer": "--optimizer", "metric": "--metrics", "display": "--displays",
              "recipe": "--recipe"}  # fmt: skip
