"""All registered models, and flags for the smallest networks."""

from registry.lookup import entries

MODELS = {e.name: e.load() for e in entries("model")}
TINY = ("--netG", "unet_32", "--netD", "n_layers", "--n_layers_D", "1", "--ngf", "2", "--ndf", "2")
