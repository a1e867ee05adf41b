"""Profile of PyTorch, eager inference on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peakmem.engines.prediction import Moment, Prediction, Processor, Unmodelled, Value
from peakmem.engines.pytorch import kernels
from peakmem.engines.pytorch.heap import Heap
from peakmem.engines.pytorch.load import load
from peakmem.engines.pytorch.machine import Machine
from peakmem.engines.pytorch.network import Network, network_of
from peakmem.engines.pytorch.onednn import AVX2, AVX512
from peakmem.engines.pytorch.products import Mkl
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph

VERIFIED = "2.13.0+cpu"
# with oneDNN 3.12.0 and MKL 2024.2
FIRST_RUN, THREAD = 13_000, 33_700
# of the dispatcher and the interpreter's caches from the first run on, and of each further thread; measured
CODE = 7_000
# resident of the 256 KiB that each primitive maps for its code; measured with two networks
INPUT_OBJECTS = 3_303
# of the binding of inputs; measured
STEADY_RUN = 3
REFUSED: Mapping[str, tuple[Value, str]] = {
    "compiled": (False, "fused operators and their code"),
    "jit": ("off", "TorchScript's own lifetimes and repacked weights"),
    "channels_last": (False, "other kernels of oneDNN with other scratch memory"),
    "profile": (False, "the profiler's own memory"),
}
# settings with the one value that is modelled, and what the others would need
_MODELLED = frozenset(
    {
        "target", "malloc_mmap_threshold", "malloc_trim_threshold", "malloc_arena_max", "threads", "mode", "dtype",
        "mkldnn",
    }
)  # fmt: skip
# settings that rules look at, or that move no request


class Pytorch:
    """Simulates the calls of one run after the other."""

    name = "pytorch"
    reads: tuple[str, ...] = ("torch",)

    def predict(self, graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
        """What PyTorch holds with `graph`, which has ATen's operators (`source.graph_for`).

        Raises:
            UsageError: a setting that is not modelled, another processor, another kind of graph.
            GraphError: an operator that PyTorch does not have.
        """
        _check(graph, settings, processor)
        dtype = str(settings.get("dtype", "as_built"))
        network = network_of(graph, "" if dtype == "as_built" else dtype)
        heap = Heap()
        threads = int(settings.get("threads", 1))
        features = processor.features
        lanes = AVX512 if "avx512bw" in features else AVX2
        machine = Machine(
            heap, threads, lanes, bool(settings.get("mkldnn", True)), "avx512bw" in features, "avx512_fp16" in features,
            Mkl(heap, threads),
        )  # fmt: skip
        load(heap, network, graph)
        moments = [heap.moment("load")]
        for value in network.inputs:
            heap.take("inputs and outputs", value.nbytes)
        heap.take("objects", INPUT_OBJECTS)
        for run in range(1, STEADY_RUN + 1):
            heap.restart()
            heap.take("objects", FIRST_RUN + THREAD * (threads - 1) if run == 1 else 0)
            _run(network, machine)
            if run == 1:
                moments.append(heap.moment("run 1", CODE * len(machine.primitives)))
        moments.append(heap.moment("steady", CODE * len(machine.primitives)))
        return Prediction(
            engine=self.name, verified=VERIFIED, settings=dict(settings), moments=tuple(moments),
            unmodelled=(*_settings_without_rule(settings), *_others(network), *machine.missing.values()),
            notes=_notes(network, settings), details=_details(machine, moments),
        )  # fmt: skip


def _run(network: Network, machine: Machine) -> None:
    """One inference, results dropped at its end."""
    heap = machine.heap
    alive: dict[str, int] = {}
    for step, call in enumerate(network.calls):
        heap.step = call.title
        kernels.run(call, machine)
        for value, own in zip(call.outputs, call.fresh, strict=True):
            if own:
                alive[value.root] = value.nbytes
        for root in network.dying.get(step, ()):
            heap.take("activations", -alive.pop(root, 0))
    for nbytes in alive.values():
        heap.take("activations", -nbytes)


def _check(graph: Graph, settings: Mapping[str, Value], processor: Processor) -> None:
    if graph.format not in ("torch", "pt2"):
        raise UsageError(
            f"PyTorch is predicted from a graph in ATen's operators, this one is of kind {graph.format}",
            where=graph.source, expected="torch", hint="peakmem.engines.pytorch.source.graph_for",
        )  # fmt: skip
    if processor.architecture != "x86_64" or not processor.features & {"avx2", "avx512bw"}:
        raise UsageError(
            "oneDNN's kernels are modelled for AVX2 and AVX-512 alone", where=processor.architecture,
            expected="x86_64 with avx2 or avx512bw",
        )  # fmt: skip
    if any(name.startswith("amx") for name in processor.features) and settings.get("dtype") == "bfloat16":
        raise UsageError("oneDNN's kernels for AMX are not modelled", expected="dtype=as_built or another processor")
    for name, (modelled, what) in REFUSED.items():
        if settings.get(name, modelled) != modelled:
            raise UsageError(f"{name}={settings[name]} is not modelled: {what}", expected=f"{name}={modelled}")
    if settings.get("mode", "inference") == "grad":
        raise UsageError("mode=grad is not modelled: what a backward pass would need", expected="inference or no_grad")
    for operator in graph.operators:
        if operator.domain not in ("aten", "prims", "prim", "higher_order", "python"):
            raise GraphError(
                f"PyTorch has no operator {operator.domain}::{operator.op_type} of its own", where=operator.name
            )


def _settings_without_rule(settings: Mapping[str, Value]) -> list[Unmodelled]:
    found = []
    if settings.get("python_malloc", "pymalloc") != "pymalloc":
        found.append(Unmodelled("python_malloc=malloc", "Python's small objects, modules among them, on the heap"))
    known = {*REFUSED, *_MODELLED, "python_malloc"}
    found += [Unmodelled(f"{name}={value}", "no rule") for name, value in settings.items() if name not in known]
    return found


def _others(network: Network) -> list[Unmodelled]:
    if not network.differs:
        return []
    reason = f"in inference mode others run than were captured: {network.differs}"
    return [Unmodelled("operators of the run", reason)]


def _notes(network: Network, settings: Mapping[str, Value]) -> tuple[str, ...]:
    notes = [
        "MKL's buffers are those of its kernels for AMD; the code that oneDNN generates is mapped, not on the heap"
    ]
    if network.frames:
        notes.append("what a factory makes and drops while it builds is not known: its peak of loading is the module's")
    if network.frames and not network.looked:
        notes.append("a module's variables are taken to be let go at their last use; its arguments, when it returns")
    if int(settings.get("threads", 1)) > 2:
        notes.append("how MKL divides a product among more than two threads was measured with three and four")
    return tuple(notes)


def _details(machine: Machine, moments: list[Moment]) -> dict[str, Any]:
    return {
        "primitives": len(machine.primitives),
        "kept by MKL": sum(sum(sizes) for sizes in machine.mkl.kept),
        "peak": max(one.peak_bytes for one in moments),
    }


PROFILE = Pytorch()
