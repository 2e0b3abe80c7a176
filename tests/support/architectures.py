"""Names and default flags of the registered architectures."""

from types import SimpleNamespace

from registry.lookup import entries

NAMES = {kind: [e.name for e in entries(kind)] for kind in ("generator", "discriminator", "norm", "initialiser")}
USUAL = dict(
    netG="resnet_9blocks",
    netD="basic",
    ngf=64,
    ndf=64,
    n_layers_D=3,
    norm="instance",
    no_dropout=True,
    padding="reflect",
    init_type="normal",
    init_gain=0.02,
    resize_conv=False,
)


def flags(**changed):
    return SimpleNamespace(**(USUAL | changed))
