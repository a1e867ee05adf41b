"""What is asked of malloc, by category, with the highest point of each phase."""

from __future__ import annotations

from dataclasses import dataclass, field

from peakmem.engines.prediction import Category, Holding, Moment, Phase

OVERREAD = 64
# bytes behind every block of ncnn's own (NCNN_MALLOC_OVERREAD of allocator.h)
OPENMP, OPENMP_POOL, OPENMP_THREAD = 192, 1576, 560
# of libgomp from the first loop on, of its pool, and for each thread more; measured with 1 to 4 threads
TEAM = 1560
# of a loop of one thread, while it runs; measured


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
    teamed: int = 0
    # threads of the largest loop so far; 0 before the OpenMP runtime has begun

    def take(self, category: Category, nbytes: int) -> None:
        """`nbytes` more of one category; negative gives back."""
        self.held[category] = self.held.get(category, 0) + nbytes
        self.total += nbytes
        if self.total > self.peak:
            self.peak, self.at_peak, self.peak_at = self.total, dict(self.held), self.step

    def move(self, source: Category, target: Category, nbytes: int) -> None:
        """`nbytes` change their category."""
        self.held[source] = self.held.get(source, 0) - nbytes
        self.held[target] = self.held.get(target, 0) + nbytes

    def block(self, category: Category, nbytes: int, sign: int = 1) -> None:
        """A block of ncnn's fastMalloc without a pool; `sign` -1 gives it back."""
        self.held["allocator"] = self.held.get("allocator", 0) + sign * OVERREAD
        self.total += sign * OVERREAD
        self.take(category, sign * nbytes)

    def burst(self, nbytes: int) -> None:
        """`nbytes` of objects that live for a moment."""
        self.take("objects", nbytes)
        self.take("objects", -nbytes)

    def team(self, threads: int) -> None:
        """A loop for several threads; the first brings up the OpenMP runtime, the first of two or more its pool."""
        if threads > self.teamed:
            before, self.teamed = self.teamed, threads
            more = 0 if before else OPENMP
            more += OPENMP_POOL if threads > 1 >= before else 0
            self.take("objects", more + OPENMP_THREAD * (threads - max(1, before)))
        if threads == 1:
            self.burst(TEAM)

    def restart(self) -> None:
        """A new phase: the peak is what is held now."""
        self.peak, self.at_peak, self.peak_at = self.total, dict(self.held), self.step

    def moment(self, phase: Phase) -> Moment:
        """The phase that ends here."""
        return Moment(phase, _holdings(self.held), _holdings(self.at_peak), self.peak_at)


WHAT: dict[Category, str] = {
    "weights": "as the file has them, kept",
    "repacked weights": "transformed, tiled or packed copies",
    "inputs and outputs": "matrices of the caller",
    "activations": "blobs in use",
    "workspace": "padding, im2col and Winograd tiles, packing; originals of weights while they are repacked",
    "state": "keys and values of earlier tokens, with room for more",
    "pools": "kept by the two pools for the next request, or more than a request needs",
    "objects": "layers, their lists, the extractor; a table measured by type of layer",
    "allocator": "64 bytes behind each block, 32 for its place in a pool's list",
}


def _holdings(held: dict[Category, int]) -> tuple[Holding, ...]:
    return tuple(Holding(name, held[name], what) for name, what in WHAT.items() if held.get(name))
