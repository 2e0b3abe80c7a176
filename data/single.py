"""single: all images under dataroot itself, or dataroot if it is an image, without targets; for testing."""

from data.base import BaseDataset, Sample, column_values
from data.listing import layouts
from data.listing.manifest import is_manifest


class Single(BaseDataset):
    """Samples {"A", "path_A"}; of a manifest that is dataroot itself, those of column a with its further columns."""

    sides = "A"

    def __init__(self, o):
        super().__init__(o)
        if is_manifest(o.dataroot):
            found = layouts.find_manifest_inputs(o, self.root)
            self.columns, self.paths = found.columns, self.register_files(*found.paths)[0]
            self.notes += found.notes
        else:
            self.paths = self.files()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        return self.input_sample(self.paths[index]) | column_values(self.columns, index)
