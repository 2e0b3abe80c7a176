"""Metrics of two sets of images by their features: what they collect, and what they say of small sets."""

from torch import Tensor

from metrics.base import Metric, Result, given_sides
from metrics.features import FeatureNetwork, network
from metrics.settings import Settings


class FeatureMetric(Metric):
    """A metric of the features of all real and all generated images.

    A subclass names a FeatureNetwork as `network`, or defines `features`, and defines `compare`.
    """

    network: type[FeatureNetwork]
    least = 2  # images that each side needs

    def __init__(self, settings: Settings):
        super().__init__(settings)
        if hasattr(self, "network"):
            network(self.network, settings)  # what is missing is said before there are images

    def features(self, images: Tensor) -> Tensor:
        """Return the features, (N, D), of images (N, C, H, W) in [-1, 1]."""
        return network(self.network, self.settings)(images)

    def compare(self, real: Tensor, fake: Tensor) -> tuple[float, float | None]:
        """Return the value and its standard error, or None, for features (N, D) and (M, D) in float64."""
        raise NotImplementedError

    def update(self, real: Tensor | None, fake: Tensor | None, labels: Tensor | None = None) -> None:
        """Add images of one side or of both."""
        for name, images in given_sides(real, fake).items():
            self.keep(**{name: self.features(images).float()})

    def result(self) -> Result:
        """Return the value; n counts the generated images. Raise DataError if a side has too few images."""
        real, fake = self.sides()
        return Result(*self.compare(real.double(), fake.double()), len(fake))

    def sides(self) -> tuple[Tensor, Tensor]:
        """Return the features of both sides, in an order of their own; raise DataError if there are too few."""
        found = []
        for name, title in (("real", "real"), ("fake", "generated")):
            rows = self.kept(name)
            if rows is None or len(rows) < self.least:
                number = 0 if rows is None else len(rows)
                why = f"a metric of sets needs at least {self.least} {title} images, and there are {number}"
                raise self.refusal(why, "give more images, or choose a metric of pairs")
            found.append(rows)
        return found[0], found[1]

    def notes(self) -> list[str]:
        """Return that the sides have unlike numbers of images, if they do."""
        real, fake = self.numbers()
        return [] if real == fake else [f"{fake} generated images against {real} real ones"]

    def numbers(self) -> tuple[int, int]:
        """Return the numbers of real and of generated images."""
        real, fake = (sum(map(len, self.rows.get(name, []))) for name in ("real", "fake"))
        return real, fake
