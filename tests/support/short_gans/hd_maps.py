"""hd_maps: label and instance maps become photographs, judged at two scales by features (as pix2pixHD)."""

from dataclasses import dataclass

import torch
from torch import nn

from data.base import BaseDataset, Spec
from data.labels import instance_edges, one_hot, read_labels
from models.base import BaseModel, Phase
from networks import GANLoss, discriminator, initialised
from networks.gan_loss import feature_matching


@dataclass(frozen=True)
class MapSpec(Spec):
    things: int = 0  # number of classes in the label maps


class HdMaps(BaseDataset):
    paired = True

    def __init__(self, o):
        super().__init__(o)
        self.photos, self.maps, self.objects = (self.files(f"{o.phase}_{kind}") for kind in ("img", "label", "inst"))

    def spec(self):
        return MapSpec(**vars(super().spec()), things=1 + max(int(read_labels(path).max()) for path in self.maps))

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        path, draws = self.photos[index], self.preprocess.draw()
        labels, instances = (self.preprocess.labels(maps[index], draws) for maps in (self.maps, self.objects))
        B = self.preprocess(self.read(path, 3), path, draws)
        maps = {"labels": labels, "edges": instance_edges(instances[None])[0]}
        return {"A": labels[None] / 127.5 - 1, "B": B, "path_A": self.maps[index], "path_B": path, "maps": maps}


class HdMapsModel(BaseModel):
    dataset_mode = "hd_maps"
    defaults = {"netD": "multiscale", "n_layers_D": 1}
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.n = spec.things
        layers = nn.Conv2d(self.n + 1, o.ngf, 5, padding=2), nn.ReLU(), nn.Conv2d(o.ngf, spec.output_nc, 1), nn.Tanh()
        self.G = initialised(nn.Sequential(*layers), o)
        self.D = discriminator(o, self.n + 1 + spec.output_nc, features=True)
        self.gan = GANLoss(o.gan_mode)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        maps = torch.cat([one_hot(batch["maps"]["labels"], self.n), batch["maps"]["edges"]], 1)
        out = {"real_A": batch["A"], "fake_B": self.G(maps), "maps": maps}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        real, fake = (self.D(torch.cat([out["maps"], image], 1)) for image in (out["real_B"], out["fake_B"].detach()))
        return self.gan.discriminator(real, fake)

    def loss_g(self, batch, out):
        real, fake = (self.D(torch.cat([out["maps"], image], 1)) for image in (out["real_B"], out["fake_B"]))
        return {"G_GAN": self.gan.generator(fake), "G_feat": 10 * feature_matching(real, fake)}
