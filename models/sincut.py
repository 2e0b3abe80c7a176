"""SinCUT: CUT on patches of a single image of each side (Park et al. 2020, section 4.3)."""

from dataclasses import dataclass

from torch.nn import functional as F

from models.cut import CUT
from networks.penalties import r1
from options.fields import option
from util.errors import OptionError


class SinCUT(CUT):
    """CUT that contrasts patches of the whole batch, with R1 for D and a pixel identity loss."""

    dataset_mode = "singleimage"
    defaults = {
        "netG": "stylegan2", "netD": "stylegan2", "ngf": 10, "ndf": 8, "lr": 0.002, "beta1": 0.0, "beta2": 0.99,
        "gan_mode": "nonsaturating", "num_patches": 1, "lambda_NCE": 4.0, "batch_size": 16, "crop_size": 64,
        "load_size": 1024, "nce_includes_all_negatives_from_minibatch": True, "n_epochs": 8, "n_epochs_decay": 8,
        "save_epoch_freq": 1, "save_latest_freq": 20_000,
    }  # fmt: skip

    @dataclass
    class Options:
        lambda_R1: float = option(1.0, "weight of D's gradient penalty at real images", at_least=0)
        lambda_identity: float = option(1.0, "weight of G(B) = B; needs --nce_idt", at_least=0)

    def __init__(self, o, spec):
        super().__init__(o, spec)
        if o.isTrain and o.lambda_identity > 0 and not (o.nce_idt and self.contrasts):
            why = "compares G(B), which is computed only with --nce_idt and --lambda_NCE above 0"
            raise OptionError("option", "--lambda_identity", why, "use --lambda_identity 0, or these")

    def loss_d(self, batch, out):
        terms = super().loss_d(batch, out)
        if self.o.lambda_R1 > 0:
            penalty = self.o.lambda_R1 * r1(self.D, out["real_B"])
            terms["D_R1"] = penalty + (penalty - penalty.detach())  # its slope counts twice, since the phase halves it
        return terms

    def loss_g(self, batch, out):
        terms = super().loss_g(batch, out)
        if self.o.lambda_identity > 0:
            target = out["real_B"].flip(3) if out["flipped"] else out["real_B"]
            identity = self.o.lambda_identity * F.l1_loss(out["idt_B"], target)
            terms |= {"G": terms["G"] + identity, "idt": identity.detach()}
        return terms
