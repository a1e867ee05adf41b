"""What stands behind the operators: heap, threads, oneDNN's cache of primitives, MKL's buffers."""

from __future__ import annotations

from dataclasses import dataclass, field

from peakmem.engines.prediction import Unmodelled
from peakmem.engines.pytorch.heap import Heap
from peakmem.engines.pytorch.network import Call
from peakmem.engines.pytorch.products import Mkl

MOST_PRIMITIVES = 1024
# in oneDNN's cache (ONEDNN_PRIMITIVE_CACHE_CAPACITY)
FIRST_PRIMITIVE = 43_000
# of oneDNN itself, from the first primitive on; measured


@dataclass(slots=True)
class Machine:
    """State that goes from operator to operator and from run to run."""

    heap: Heap
    threads: int
    lanes: int
    # floats in a register that oneDNN uses
    mkldnn: bool
    bfloat16: bool
    # whether oneDNN computes in it here
    half: bool
    mkl: Mkl
    primitives: set[tuple[object, ...]] = field(default_factory=set)
    missing: dict[str, Unmodelled] = field(default_factory=dict)

    def primitive(self, key: tuple[object, ...], nbytes: int, beside: int = 0, first: int = 0) -> None:
        """A primitive of oneDNN: made and kept when it is new, with `beside` bytes while it is made.

        `first` bytes more are kept with the first whose key begins so.
        """
        if key in self.primitives or len(self.primitives) >= MOST_PRIMITIVES:
            return
        if not self.primitives:
            self.heap.take("objects", FIRST_PRIMITIVE)
        if first and all(key[0] != other[0] for other in self.primitives):
            self.heap.take("objects", first)
        self.primitives.add(key)
        self.heap.take("objects", nbytes)
        self.heap.burst("objects", beside)

    def results(self, call: Call) -> None:
        """Storages of all results that have one of their own."""
        for value, own in zip(call.outputs, call.fresh, strict=True):
            if own:
                self.heap.take("activations", value.nbytes)

    def lacks(self, call: Call, reason: str, nbytes: int | None = None) -> None:
        """Note that an operator is not modelled wholly."""
        if nbytes is None:
            seen = {value.root: value.nbytes for value in call.inputs if value is not None and value.stored}
            nbytes = sum(seen.values()) + sum(value.nbytes for value in call.outputs)
        self.missing.setdefault(call.name, Unmodelled(call.title, reason, nbytes))
