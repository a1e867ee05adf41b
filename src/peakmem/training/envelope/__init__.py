"""The peak of a training step as a formula of its batch, sequence or resolution, from logs at a few values."""

from peakmem.training.envelope.matching import Stretch, alike, difference, stretches
from peakmem.training.envelope.moments import Reign, last_within, live, reigns
from peakmem.training.envelope.sampling import Sample, sample
from peakmem.training.envelope.series import Series, fit, series

__all__ = [
    "Reign", "Sample", "Series", "Stretch", "alike", "difference", "fit", "last_within", "live", "reigns", "sample",
    "series", "stretches",
]  # fmt: skip
