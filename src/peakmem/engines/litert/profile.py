"""Profile of LiteRT: its interpreter with XNNPACK (the default), built-in or reference kernels; the compiled model.

The file is mapped; the built-in kernels use weights from there, XNNPACK packs a copy of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from peakmem.engines.litert.interpreter import Interpreter, interpreter
from peakmem.engines.litert.model import Model, read_model
from peakmem.engines.prediction import PHASES, Holding, Moment, Prediction, Processor, Unmodelled, Value
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph

VERIFIED = "2.3.0"
# of ai-edge-litert
KERNELS = ("xnnpack", "builtin", "reference")
MODELLED = frozenset((
    "api", "kernels", "threads", "preserve_all_tensors", "model_as_bytes", "disable_delegate_clustering",
    "disable_delegate_node_fusion", "latest_delegate_features", "compress_zero_points", "weight_cache",
    "malloc_mmap_threshold", "malloc_trim_threshold", "malloc_arena_max",
))  # fmt: skip
BYTES = 33
# of a Python object around a file's content


class LiteRT:
    """The interpreter, or a compiled model around it."""

    name = "litert"
    reads = ("tflite",)
    domain = "tflite"

    def predict(self, graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
        """What the engine holds with `graph`.

        Raises:
            UsageError: a setting that is not modelled, no .tflite file, or other shapes than the file's.
            GraphError: no subgraph, or a tensor of a type without a size.
        """
        kernels = str(settings.get("kernels", "xnnpack"))
        if kernels not in KERNELS:
            raise UsageError(f"kernels={kernels} is not modelled", expected=" or ".join(KERNELS))
        outside = settings.get("api", "interpreter") != "interpreter"
        if outside and kernels == "reference":
            kernels = "builtin"
        threads = int(settings.get("threads", 1))
        model = self._model(graph)
        found = interpreter(
            model, kernels, processor, threads,
            preserve=bool(settings.get("preserve_all_tensors", False)),
            clustering=not settings.get("disable_delegate_clustering", False),
            fusion=not settings.get("disable_delegate_node_fusion", False),
            compressed=bool(settings.get("compress_zero_points", False)),
            outside=outside,
            cached=outside and kernels == "xnnpack" and bool(settings.get("weight_cache", False)),
            latest=bool(settings.get("latest_delegate_features", False)),
        )  # fmt: skip
        unmodelled = list(found.unmodelled)
        for name, value in settings.items():
            if name not in MODELLED and value not in (False, "", -1, "pymalloc"):
                unmodelled.append(Unmodelled(f"{name}={value}", "no rule"))
        extra: tuple[Holding, ...] = ()
        mapped = [Holding("file", model.census.nbytes, "the model, mapped")]
        if settings.get("model_as_bytes"):
            extra = (Holding("file", model.census.nbytes + BYTES, "the model, read by the caller"),)
            mapped = []
        if found.in_file:
            mapped.append(Holding("file", found.in_file, "packed weights, mapped"))
        notes = [] if mapped else ["the model is read into memory and not mapped"]
        if processor.architecture != "x86_64":
            notes.append("measured on x86_64 only; sizes of structures and tiles of kernels are those of the source")
        return Prediction(
            engine=self.name, verified=VERIFIED, settings=dict(settings),
            moments=_moments(found, extra, tuple(mapped)), unmodelled=tuple(unmodelled), notes=tuple(notes),
            details=dict(found.details),
        )  # fmt: skip

    def _model(self, graph: Graph) -> Model:
        path = Path(graph.source)
        if graph.format != "tflite" or not path.is_file():
            raise UsageError(
                "LiteRT is predicted from a .tflite file", where=graph.source, expected="a file that is there"
            )
        model = read_model(path)
        if not model.parts:
            raise GraphError("the file has no subgraph", where=graph.source)
        main = model.parts[0]
        for name in graph.inputs:
            for at in main.inputs:
                there, asked = main.tensors[at], graph.tensors[name].shape
                if there.name != name or asked is None or len(asked) != len(there.shape):
                    continue
                if any(isinstance(size, int) and size != one for size, one in zip(asked, there.shape, strict=True)):
                    raise UsageError(
                        f"{name} is {list(there.shape)} in the file; other sizes are not modelled", where=graph.source
                    )
        return model


def _moments(found: Interpreter, extra: tuple[Holding, ...], outside: tuple[Holding, ...]) -> tuple[Moment, ...]:
    running = (*found.live, *extra, *found.kept)
    moments = [Moment("load", (*found.early, *extra), (*found.peak, *extra), found.peak_at, outside)]
    for phase in PHASES[1:]:
        beside = found.first if phase == PHASES[1] else found.transient
        moments.append(Moment(phase, running, (*running, *beside), found.run_at or found.at, outside))
    return tuple(moments)


PROFILE = LiteRT()
