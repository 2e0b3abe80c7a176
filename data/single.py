"""single: all images under dataroot itself, or dataroot if it is an image, without targets; for testing."""

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
        return self.input_sample(self.paths[index])
