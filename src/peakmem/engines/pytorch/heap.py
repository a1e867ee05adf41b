"""What is asked of malloc, by category, with the highest point of each phase."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from peakmem.engines.prediction import Category, Holding, Moment, Phase


@dataclass(slots=True)
class Heap:
    """Bytes held now and at the worst since the last mark."""

    held: dict[Category, int] = field(default_factory=dict)
    total: int = 0
    peak: int = 0
    at_peak: dict[Category, int] = field(default_factory=dict)
    peak_at: str = ""
    step: str = ""
    # what is being done, for `peak_at`

    def take(self, category: Category, nbytes: int) -> None:
        """`nbytes` more of one category; negative gives back."""
        self.held[category] = self.held.get(category, 0) + nbytes
        self.total += nbytes
        if self.total > self.peak:
            self.peak, self.at_peak, self.peak_at = self.total, dict(self.held), self.step

    @contextmanager
    def lent(self, category: Category, nbytes: int) -> Iterator[None]:
        """`nbytes` of one category until the block ends."""
        self.take(category, nbytes)
        yield
        self.take(category, -nbytes)

    def burst(self, category: Category, nbytes: int) -> None:
        """`nbytes` that live for a moment."""
        self.take(category, nbytes)
        self.take(category, -nbytes)

    def restart(self) -> None:
        """A new phase: the peak is what is held now."""
        self.peak, self.at_peak, self.peak_at = self.total, dict(self.held), self.step

    def moment(self, phase: Phase, code: int = 0) -> Moment:
        """The phase that ends here; `code` bytes are mapped outside the heap."""
        outside = (Holding("objects", code, "code that oneDNN generated, in mappings of its own"),) if code else ()
        return Moment(phase, _holdings(self.held), _holdings(self.at_peak), self.peak_at, outside)


WHAT: dict[Category, str] = {
    "weights": "storages of parameters and buffers",
    "repacked weights": "reordered for oneDNN in every call, for its time",
    "inputs and outputs": "the caller's inputs",
    "activations": "storages of the operators' results, as long as Python holds them",
    "workspace": "copies in blocks of channels for oneDNN, its scratchpads, unfolded images, temporaries",
    "pools": "buffers of MKL's products, kept for the next one",
    "objects": "oneDNN's cache of primitives, modules, tensors' headers, the dispatcher's",
}


def _holdings(held: dict[Category, int]) -> tuple[Holding, ...]:
    return tuple(Holding(name, held[name], what) for name, what in WHAT.items() if held.get(name))
