"""frozen_features: paired translation, compared by the features of a network that others trained."""

from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import Frozen, GANLoss, discriminator, features, generator, pretrained
from options.fields import option


def classifier():
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Conv2d(4, 8, 3, stride=2)
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


class FrozenFeatures(BaseModel):
    dataset_mode = "aligned"
    defaults = {"netG": "unet_32"}
    averaged = ("G",)

    @dataclass
    class Options:
        classifier_file: str = option("", "file of the classifier's weights")
        lambda_features: float = option(10.0, "weight of the difference of features", at_least=0)

    def __init__(self, o, spec):
        super().__init__()
        self.o = o
        self.G = generator(o, spec.input_nc, spec.output_nc)
        self.D = discriminator(o, spec.output_nc)
        self.gan = GANLoss(o.gan_mode)
        if o.isTrain:
            net = classifier()
            net.load_state_dict(pretrained(o.classifier_file))
            self.classifier = Frozen(net)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        out = {"real_A": batch["A"], "fake_B": self.G(batch["A"])}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        return self.gan.discriminator(self.D(out["real_B"]), self.D(out["fake_B"].detach()))

    def loss_g(self, batch, out):
        fake, real = (features(self.classifier, out[name], ["2", "4"]) for name in ("fake_B", "real_B"))
        difference = sum(F.l1_loss(fake[name], real[name]) for name in fake)
        return {"G_GAN": self.gan.generator(self.D(out["fake_B"])), "G_feat": self.o.lambda_features * difference}
