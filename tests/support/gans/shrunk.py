"""shrunk: B is an image, A the same image at a quarter of its size."""

from torch.nn import functional as F

from data.base import BaseDataset


class Shrunk(BaseDataset):
    paired = True

    def __init__(self, o):
        super().__init__(o)
        self.paths = self.files()

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        B = self.preprocess(self.read(path, 3), path, self.preprocess.draw())
        return {"A": F.avg_pool2d(B, 4), "B": B, "path_A": path, "path_B": path}
