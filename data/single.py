"""single: all images under dataroot itself, without targets; for testing."""

from data.base import BaseDataset, Sample


class Single(BaseDataset):
    """Samples {"A", "path_A"}."""

    sides = "A"

    def __init__(self, o):
        super().__init__(o)
        self.paths = self.files()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        A = self.preprocess(self.load_image(path, self.o.input_nc, "A"), path, self.preprocess.draw(), side="A")
        return {"A": A, "path_A": path}
