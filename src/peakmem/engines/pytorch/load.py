"""Loading: storages of parameters and buffers, and the objects around them."""

from __future__ import annotations

from peakmem.engines.pytorch.heap import Heap
from peakmem.engines.pytorch.network import Network, Value
from peakmem.ir.graph import Graph

BASE, TENSOR = 28_000, 531
# bytes of objects: the code, and each parameter or buffer with its share of a module; measured
EXPORTED_BASE, EXPORTED_CALL, READING = 25_338_000, 26_000, 500_000
# of torch.export with what it imports (sympy among it), from a program's file on; while the program is read, for each
# call and in all; measured with three programs
CONVERTED = 10_000
# of the first change of a dtype
LISTING = 105
# of the list of storages that the runner makes, for each


def load(heap: Heap, network: Network, graph: Graph) -> None:
    """From the module's code, or the file, to a module that runs."""
    heap.step = "loading"
    exported = not network.frames
    heap.take("objects", EXPORTED_BASE if exported else BASE)
    built = {value.name: _as_built(graph, value) for value in network.stored}
    heap.take("objects", TENSOR * len(network.stored))
    heap.take("weights", sum(built.values()))
    converted = CONVERTED
    for value in network.stored:
        # module.to(dtype): one tensor after the other
        if built[value.name] != value.nbytes:
            heap.take("objects", converted)
            converted = 0
            heap.take("weights", value.nbytes)
            heap.take("weights", -built[value.name])
    heap.burst("objects", LISTING * len(network.stored))
    if exported:
        heap.burst("objects", READING + EXPORTED_CALL * len(network.calls))


def _as_built(graph: Graph, value: Value) -> int:
    """Bytes before the dtype was changed."""
    tensor = graph.tensors[value.name]
    return tensor.nbytes or 0
