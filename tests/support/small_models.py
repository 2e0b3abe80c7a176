"""All registered models, and flags for the smallest networks."""

from registry.lookup import entries

MODELS = {e.name: e.load() for e in entries("model")}
TINY = ("--netG", "unet_32", "--netD", "n_layers", "--n_layers_D", "1", "--ngf", "2", "--ndf", "2")
OWN = {  # networks of models that cannot use those of the others, and what makes their data like that of the others
    "gan": ("--netG", "dcgan", "--netD", "dcgan"),
    "stargan": ("--g_repeat_num", "1", "--d_repeat_num", "3"),
    "pix2pixhd": ("--no_vgg_loss", "--label_nc", "0", "--no_instance", "--preprocess", "resize_and_crop"),
    "spade": tuple(
        "--no_vgg_loss --label_nc 0 --no_instance --netG spade --netD spade --norm_G spectralspadesyncbatch1x1".split()
    ),
}


def own_networks(model: str) -> tuple[str, ...]:
    """Return flags to be given after TINY's and the like, which choose networks that the model can use."""
    return OWN.get(model, ())
