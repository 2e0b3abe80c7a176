"""Measure how many images a run trains per second, and forecast how long the rest takes."""

from util.progress import Progress

FORECAST_STEPS, FORECAST_S = 3, 10.0  # a forecast needs so many steps after the first and so many seconds of them,
LONG_STEPS_S = 60.0  # or so many seconds alone


class Pace:
    """Images and seconds of this command; the first step, which loads and tunes kernels, counts with its epoch only."""

    def __init__(self) -> None:
        self.past_images, self.past_seconds = 0, 0.0  # of finished epochs, with the time for displays and saving
        self.epoch_images, self.steps = 0, 0  # in this epoch; in all
        self.images, self.seconds = 0, 0.0  # of this epoch, without the first step

    def step(self, progress: Progress) -> None:
        """Count the last batch."""
        self.steps += 1
        self.epoch_images += progress.batch
        if self.steps > 1:
            self.images += progress.batch
            self.seconds += progress.seconds * progress.batch + progress.data_seconds

    def epoch(self, seconds: float) -> None:
        """Count the seconds of a finished epoch in place of those of its steps."""
        self.past_images, self.past_seconds = self.past_images + self.epoch_images, self.past_seconds + seconds
        self.epoch_images, self.images, self.seconds = 0, 0, 0.0

    @property
    def known(self) -> bool:
        """Whether enough steps are done for a forecast."""
        enough = self.steps > FORECAST_STEPS and self.seconds >= FORECAST_S
        return enough or self.seconds >= LONG_STEPS_S or self.past_images > 0

    @property
    def rate(self) -> float:
        """Images per second so far; 0 before the second step."""
        return (self.past_images + self.images) / max(self.past_seconds + self.seconds, 1e-9)

    def seconds_left(self, progress: Progress) -> float:
        """Return the seconds from this position to the end of the run; 0 before the second step."""
        epochs_left = progress.last_epoch - progress.epoch + 1
        return (epochs_left * progress.epoch_size - progress.seen) / self.rate if self.rate else 0.0


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units: `2 days 3 h`, `3 h 20 min`, `12 min`, `40 s`."""
    minutes = round(seconds / 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} day{'s' * (days > 1)} {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"
