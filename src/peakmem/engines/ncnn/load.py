"""What each layer keeps, gives back and holds meanwhile when a network is loaded.

Sources: Net::load_model in `src/net.cpp`; ModelBinFromDataReader::load in `src/modelbin.cpp`; `load_model` and
`create_pipeline` of each layer; commit a4d2ea1d (2026-07-22).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from peakmem.dtypes import FLOAT32, DType
from peakmem.engines.ncnn.heap import Heap
from peakmem.engines.ncnn.layers import STRUCTURES, Layer, Weight
from peakmem.engines.ncnn.mat import Sizes, mat_bytes
from peakmem.engines.ncnn.options import Options
from peakmem.engines.prediction import Category

PARAMETERS = 4096
# a ParamDict, while a helper is made; measured
WRAPPER = 232
# a layer made through create_layer stands in another (Layer_final); measured
ACTIVATIONS = {1: "ReLU", 2: "ReLU", 3: "Clip", 4: "Sigmoid", 5: "Mish", 6: "HardSwish"}
# layers that `create_activation_layer` of fused_activation.h makes


@dataclass(slots=True)
class Held:
    """An array that a layer keeps, or keeps for a while."""

    category: Category
    nbytes: int
    # 0 for one that lies in the mapped file


@dataclass(slots=True)
class Made:
    """What a layer became when it was created."""

    algorithm: str = ""
    # of a convolution: winograd63, winograd43, winograd23, gemm, packed
    tiles: tuple[int, int, int] = (0, 0, 0)
    groups: list[Made] = field(default_factory=list)
    gemm: Made | None = None
    # the product inside a transposed convolution


class Loader:
    """Creates layers one after another."""

    def __init__(self, heap: Heap, options: Options, hints: Mapping[str, Sizes], *, empty: bool = False) -> None:
        self.heap = heap
        self.options = options
        self.hints = hints
        # shapes that the file says, so that they are known when weights are transformed
        self.empty = empty
        # no .bin: all weights are floats of zero (DataReaderFromEmpty), also those that a .bin would have as int8
        self.mapped = options.mapped and not empty

    # -- arrays --------------------------------------------------------------------------

    def take(self, category: Category, sizes: Sizes, element: int = 4) -> Held:
        """A matrix of `element` bytes for an element, from malloc."""
        nbytes = mat_bytes(sizes, element)
        if nbytes:
            self.heap.block(category, nbytes)
        return Held(category, nbytes)

    def give(self, *held: Held | None) -> None:
        """They are released."""
        for one in held:
            if one is not None and one.nbytes:
                self.heap.block(one.category, one.nbytes, -1)
                one.nbytes = 0

    def original(self, held: Held) -> None:
        """An array that was repacked: given back in light mode."""
        if self.options.light:
            self.give(held)

    def read(self, weight: Weight) -> Held:
        """ModelBin::load: an array as the file has it; half precision becomes single.

        Half precision goes through a vector of as many shorts as the file has bytes: twice of what it reads.
        """
        dtype = self.stored(weight)
        half = dtype.name == "float16"
        if self.mapped and not half:
            return Held("weights", 0)
        if half and not self.mapped:
            passing = -(-weight.count * 2 // 4) * 4 * 2
            self.heap.take("workspace", passing)
            held = self._cast(weight.count)
            self.heap.take("workspace", -passing)
            return held
        if half:
            return self._cast(weight.count)
        if _bytes(dtype) == 1:
            passing = -(-weight.count // 4) * 4
            self.heap.take("workspace", passing)
            held = self.take("weights", (weight.count,), 1)
            self.heap.take("workspace", -passing)
            return held
        return self.take("weights", (weight.count,))

    def _cast(self, count: int) -> Held:
        """Single precision of `count` halves, by a layer that is made for it."""
        helper = WRAPPER + STRUCTURES["Cast"] + PARAMETERS
        self.heap.take("objects", helper)
        held = self.take("weights", (count,))
        self.parallel()
        self.heap.take("objects", -helper)
        return held

    def stored(self, weight: Weight) -> DType:
        """How the reader gets it."""
        return FLOAT32 if self.empty else weight.dtype or FLOAT32

    def element(self, weight: Weight) -> int:
        """Bytes of an element as the layer gets it."""
        return 1 if _bytes(self.stored(weight)) == 1 else 4

    def floats(self, layer: Layer) -> bool:
        """Whether the first array of a layer is not int8 yet."""
        return _bytes(self.stored(layer.weights[0])) > 1

    def read_all(self, layer: Layer) -> list[Held]:
        """All arrays of a layer in the order of the file."""
        return [self.read(weight) for weight in layer.weights]

    # -- helpers -------------------------------------------------------------------------

    def helper(self, kind: str) -> None:
        """A layer inside a layer, which stays."""
        self.heap.take("objects", STRUCTURES[kind])
        self.heap.burst(PARAMETERS)

    def activation(self, kind: int) -> None:
        """The activation that a layer applies itself."""
        if kind in ACTIVATIONS:
            self.helper(ACTIVATIONS[kind])

    def parallel(self) -> None:
        """A loop for several threads."""
        self.heap.team(self.options.threads)

    # -- layers --------------------------------------------------------------------------

    def create(self, layer: Layer) -> Made:
        """Load and create one layer."""
        self.heap.step = layer.title
        rule = RULES.get(layer.type)
        if rule is not None:
            return rule(self, layer)
        self.read_all(layer)
        if layer.type == "BatchNorm":
            # a_data, b_data: the four arrays folded into two
            for _ in range(2):
                self.take("repacked weights", (layer.number("channels"),))
        return Made()


def _bytes(dtype: DType) -> int:
    return max(1, (dtype.bits or 8) // 8)


Rule = Callable[[Loader, Layer], Made]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for types of layers."""

    def register(one: Rule) -> Rule:
        for name in names:
            RULES[name] = one
        return one

    return register
