"""clips: a recurrent generator translates the frames of clips of any length, each with the frame before it."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from data.base import BaseDataset
from models.base import BaseModel, Phase
from networks import GANLoss, discriminator, initialised


class Clips(BaseDataset):
    paired = True

    def __init__(self, o):
        super().__init__(o)
        frames = self.files(o.phase)
        self.clips = [[p for p in frames if clip in p] for clip in sorted({p.rpartition("_")[0] for p in frames})]

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        paths, draws = self.clips[index], self.preprocess.draw()
        frames = torch.stack([self.preprocess(self.read(path, 3), path, draws) for path in paths])
        moves = [{"mean": frame.mean(), "at": i} for i, frame in enumerate(frames[:2])]
        sides = {"A": -frames[0], "B": frames[0], "path_A": paths[0], "path_B": paths[0]}
        return sides | {"frames": frames, "moves": moves}

    def collate(self, samples):
        frames = [sample.pop("frames") for sample in samples]
        there = pad_sequence([torch.ones(len(clip)) for clip in frames], batch_first=True)
        clip = {"frames": pad_sequence(frames, batch_first=True), "there": there}
        return super().collate(samples) | {"clip": clip, "uncut": frames}


class ClipsModel(BaseModel):
    dataset_mode = "clips"
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        layers = nn.Conv2d(spec.input_nc + spec.output_nc, o.ngf, 3, padding=1), nn.ReLU()
        self.G = initialised(nn.Sequential(*layers, nn.Conv2d(o.ngf, spec.output_nc, 3, padding=1), nn.Tanh()), o)
        self.D = discriminator(o, spec.output_nc)
        self.gan = GANLoss(o.gan_mode)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        made = [torch.zeros_like(batch["A"])]
        for frame in batch["clip"]["frames"].unbind(1):
            made.append(self.G(torch.cat([-frame, made[-1]], 1)))
        return {"real_A": batch["A"], "fake_B": made[1], "real_B": batch["B"], "made": torch.stack(made[1:], 1)}

    def loss_d(self, batch, out):
        there = batch["clip"]["there"] > 0
        return self.gan.discriminator(self.D(torch.cat(batch["uncut"])), self.D(out["made"].detach()[there]))

    def loss_g(self, batch, out):
        there, start = batch["clip"]["there"] > 0, batch["moves"][0]
        mean = F.l1_loss(out["fake_B"].mean((1, 2, 3)), start["mean"] + start["at"])
        L1 = F.l1_loss(out["made"][there], batch["clip"]["frames"][there])
        return {"G_GAN": self.gan.generator(self.D(out["made"][there])), "G_L1": 10 * L1, "G_mean": mean}
