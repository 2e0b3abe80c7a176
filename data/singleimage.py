"""singleimage: random patches of one image of each side, or of a few, without pairs."""

from data.unaligned import Unaligned

SAMPLES = 100_000  # of an epoch, as in SinCUT's code


class SingleImage(Unaligned):
    """Samples {"A", "B", "path_A", "path_B"} of Unaligned, 100,000 an epoch: patches of the same few images.

    --max_dataset_size bounds the images and the samples. Test images are whole; without a folder for the phase of
    test.py they are those of training.
    """

    defaults = {"preprocess": "zoom_and_patch", "random_scale_max": 3.0, "interpolation_A": "bilinear",
                "interpolation_B": "bilinear"}  # fmt: skip

    def __len__(self) -> int:
        return int(min(SAMPLES, self.o.max_dataset_size)) if self.o.isTrain else super().__len__()
