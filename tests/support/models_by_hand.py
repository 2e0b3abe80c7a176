"""Training steps of pix2pix and CycleGAN, written from the papers in plain torch."""

import torch
from torch.nn import functional as F


class Adam:
    """Kingma & Ba 2015, algorithm 1, with eps 1e-8."""

    def __init__(self, nets, lr, beta1):
        self.params = [p for net in nets for p in net.parameters()]
        self.lr, self.beta1, self.t = lr, beta1, 0
        self.m = [torch.zeros_like(p) for p in self.params]
        self.v = [torch.zeros_like(p) for p in self.params]

    @torch.no_grad()
    def minimise(self, loss):
        with torch.enable_grad():
            slopes = torch.autograd.grad(loss, self.params, retain_graph=True, allow_unused=True)
        self.t += 1
        for p, g, m, v in zip(self.params, slopes, self.m, self.v, strict=True):
            if g is None:  # a bias without influence on the loss
                continue
            m.mul_(self.beta1).add_(g, alpha=1 - self.beta1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            p -= self.lr * (m / (1 - self.beta1**self.t)) / ((v / (1 - 0.999**self.t)).sqrt() + 1e-8)


def judged(objective, prediction, real, label=1.0):
    """Return the discriminator's loss on predictions for real or generated images."""
    if objective == "lsgan":
        return ((prediction - (label if real else 0.0)) ** 2).mean()
    if objective == "vanilla":
        target = label if real else 0.0
        return (target * F.softplus(-prediction) + (1 - target) * F.softplus(prediction)).mean()
    sign = -1 if real else 1
    if objective == "wgangp":
        return sign * prediction.mean()
    return (1 + sign * prediction).clamp(min=0).mean()


def fooled(objective, prediction):
    """Return the generator's loss on predictions for its images."""
    return -prediction.mean() if objective in ("wgangp", "hinge") else judged(objective, prediction, real=True)


def penalty(D, real, fake):
    """Return the penalty of Gulrajani et al. 2017: mean (|gradient| - 1)^2 at random points between real and fake."""
    share = torch.rand(len(real), 1, 1, 1, dtype=real.dtype)
    x = (share * real + (1 - share) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return ((slope.flatten(1).square().sum(1).sqrt() - 1) ** 2).mean()


def l1(a, b):
    return (a - b).abs().mean()


class Pix2PixByHand:
    """Isola et al. 2017: train D on (A, B) with half its loss, then G with the new D and lambda |fake - B|."""

    def __init__(self, nets, o):
        self.G, self.D, self.o = nets["G"], nets["D"], o
        self.for_G, self.for_D = Adam([self.G], o.lr, o.beta1), Adam([self.D], o.lr, o.beta1)

    def step(self, A, B):
        o, objective = self.o, self.o.gan_mode
        fake_B = self.G(A)
        fake, real = torch.cat([A, fake_B.detach()], 1), torch.cat([A, B], 1)
        found = {"D_fake": judged(objective, self.D(fake), False)}
        found["D_real"] = judged(objective, self.D(real), True, 1 - o.label_smoothing)
        if objective == "wgangp" and o.lambda_gp > 0:
            found["D_gp"] = o.lambda_gp * penalty(self.D, real, fake)
        self.for_D.minimise(0.5 * sum(found.values()))
        found["G_GAN"] = fooled(objective, self.D(torch.cat([A, fake_B], 1)))
        found["G_L1"] = o.lambda_L1 * l1(fake_B, B)
        self.for_G.minimise(found["G_GAN"] + found["G_L1"])
        return {name: float(value.detach()) for name, value in found.items()}


class CycleGANByHand:
    """Zhu et al. 2017: G is G_A (A -> B), F is G_B; D_A judges B and D_B judges A, with the fakes of the same step."""

    def __init__(self, nets, o):
        self.nets, self.o = nets, o
        self.for_G = Adam([nets["G_A"], nets["G_B"]], o.lr, o.beta1)
        self.for_D = Adam([nets["D_A"], nets["D_B"]], o.lr, o.beta1)

    def step(self, A, B):
        o, objective, n = self.o, self.o.gan_mode, self.nets
        fake_B = n["G_A"](A)
        rec_A = n["G_B"](fake_B)
        fake_A = n["G_B"](B)
        rec_B = n["G_A"](fake_A)
        found = {"idt_A": torch.zeros(()), "idt_B": torch.zeros(())}
        if o.lambda_identity > 0:
            found["idt_A"] = l1(n["G_A"](B), B) * o.lambda_B * o.lambda_identity
            found["idt_B"] = l1(n["G_B"](A), A) * o.lambda_A * o.lambda_identity
        found |= {"cycle_A": o.lambda_A * l1(rec_A, A), "cycle_B": o.lambda_B * l1(rec_B, B)}
        found |= {"G_A": fooled(objective, n["D_A"](fake_B)), "G_B": fooled(objective, n["D_B"](fake_A))}
        self.for_G.minimise(sum(found.values()))
        of_D = {}
        for D, real, fake in (("D_A", B, fake_B.detach()), ("D_B", A, fake_A.detach())):
            on_real = judged(objective, n[D](real), True, 1 - o.label_smoothing)
            of_D[D] = 0.5 * (on_real + judged(objective, n[D](fake), False))
            if objective == "wgangp" and o.lambda_gp > 0:
                of_D[D + "_gp"] = 0.5 * o.lambda_gp * penalty(n[D], real, fake)
        self.for_D.minimise(sum(of_D.values()))
        return {name: float(value.detach()) for name, value in (found | of_D).items()}


BY_HAND = {"pix2pix": Pix2PixByHand, "cycle_gan": CycleGANByHand}
