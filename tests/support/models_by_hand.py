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


def squares(D, x):
    """Return half the mean of the squared norm of D's gradient at x: R1 or R2 of Mescheder et al. 2018."""
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return slope.square().sum((1, 2, 3)).mean() / 2


def against(on_real, on_fake, o):
    """Return the discriminator's terms for its predictions on real and generated images."""
    if o.gan_mode == "relativistic":
        return {"D_GAN": F.softplus(on_fake - on_real).mean()}
    real = judged(o.gan_mode, on_real, True, 1 - o.label_smoothing)
    return {"D_fake": judged(o.gan_mode, on_fake, False), "D_real": real}


def regularised(D, real, fake, o, name):
    """Return the weighted penalty of the discriminator, if there is one."""
    if o.gan_mode == "wgangp" and o.lambda_gp > 0:
        return {name: o.lambda_gp * penalty(D, real, fake)}
    return {name: o.lambda_gp * (squares(D, real) + squares(D, fake))} if o.penalty == "r1r2" else {}


def deceived(D, real, fake, o):
    """Return the generator's loss."""
    on_fake = D(fake)
    return F.softplus(D(real) - on_fake).mean() if o.gan_mode == "relativistic" else fooled(o.gan_mode, on_fake)


def l1(a, b):
    return (a - b).abs().mean()


class Pix2PixByHand:
    """Isola et al. 2017: train D on (A, B) with half its loss, then G with the new D and lambda |fake - B|."""

    def __init__(self, nets, o):
        self.G, self.D, self.o = nets["G"], nets["D"], o
        self.for_G, self.for_D = Adam([self.G], o.lr, o.beta1), Adam([self.D], o.lr, o.beta1)

    def step(self, A, B):
        o = self.o
        fake_B = self.G(A)
        fake, real = torch.cat([A, fake_B.detach()], 1), torch.cat([A, B], 1)
        on_fake, on_real = self.D(fake), self.D(real)
        found = against(on_real, on_fake, o) | regularised(self.D, real, fake, o, "D_gp")
        self.for_D.minimise(0.5 * sum(found.values()))
        found["G_GAN"] = deceived(self.D, real, torch.cat([A, fake_B], 1), o)
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
        o, n = self.o, self.nets
        fake_B = n["G_A"](A)
        rec_A = n["G_B"](fake_B)
        fake_A = n["G_B"](B)
        rec_B = n["G_A"](fake_A)
        found = {"idt_A": torch.zeros(()), "idt_B": torch.zeros(())}
        if o.lambda_identity > 0:
            found["idt_A"] = l1(n["G_A"](B), B) * o.lambda_B * o.lambda_identity
            found["idt_B"] = l1(n["G_B"](A), A) * o.lambda_A * o.lambda_identity
        found |= {"cycle_A": o.lambda_A * l1(rec_A, A), "cycle_B": o.lambda_B * l1(rec_B, B)}
        found |= {"G_A": deceived(n["D_A"], B, fake_B, o), "G_B": deceived(n["D_B"], A, fake_A, o)}
        self.for_G.minimise(sum(found.values()))
        of_D = {}
        for D, real, fake in (("D_A", B, fake_B.detach()), ("D_B", A, fake_A.detach())):
            of_D[D] = 0.5 * sum(against(n[D](real), n[D](fake), o).values())
            of_D |= {name: 0.5 * value for name, value in regularised(n[D], real, fake, o, D + "_gp").items()}
        self.for_D.minimise(sum(of_D.values()))
        return {name: float(value.detach()) for name, value in (found | of_D).items()}


BY_HAND = {"pix2pix": Pix2PixByHand, "cycle_gan": CycleGANByHand}
