"""Profile of LiteRT's interpreter without XNNPACK: the arena that the reference and the built-in kernels share.

What is planned is exact where every operator's temporary tensors are known; the interpreter's own structures are not
modelled yet, and said so. The file is mapped and weights are used from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from peakmem.engines.litert.arena import Planned, Temporary, Tensor, plan, requested
from peakmem.engines.litert.temporaries import NoRule, nbytes_of, temporaries
from peakmem.engines.prediction import Holding, Moment, Prediction, Processor, Unmodelled, Value
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph

if TYPE_CHECKING:
    from peakmem.frontends.tflite.census import Body

VERIFIED = "2.3.0"
# of ai-edge-litert


class LiteRT:
    """The interpreter with kernels=reference or kernels=builtin."""

    name = "litert"
    domain = "tflite"

    def predict(self, graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
        """What the engine's arenas hold with `graph`.

        Raises:
            UsageError: a setting that is not modelled, no .tflite file, or other shapes than the file's.
            GraphError: no subgraph, or a tensor of a type without a size.
        """
        kernels = settings.get("kernels", "xnnpack")
        if settings.get("api", "interpreter") != "interpreter" or kernels == "xnnpack":
            raise UsageError(
                "LiteRT is predicted without XNNPACK so far", expected="api=interpreter kernels=reference or builtin"
            )
        threads = int(settings.get("threads", 1))
        if kernels == "builtin" and threads != 1:
            raise UsageError(f"the built-in kernels with {threads} threads are not modelled", expected="threads=1")
        body, nbytes = self._body(graph)
        unmodelled = [
            Unmodelled("objects", "the interpreter's tensors, nodes and operator data, some hundred bytes each")
        ]
        if kernels == "builtin":
            unmodelled.append(Unmodelled("workspace", "matrices that ruy packs, and keeps, while products run"))
        calls = []
        for at, call in enumerate(body.calls):
            own: list[Temporary] = []
            try:
                own = temporaries(call, body, reference=kernels == "reference")
            except NoRule as reason:
                unmodelled.append(Unmodelled(f"{call.op_type}_{at}", str(reason)))
            calls.append((call.op_type, call.inputs, call.outputs, own))
        if threads != 1 and any(call.op_type == "ADD_N" for call in body.calls):
            unmodelled.append(Unmodelled("ADD_N", f"its sums with {threads} threads"))
        known = ("api", "kernels", "threads", "preserve_all_tensors", "malloc_mmap_threshold", "malloc_trim_threshold",
                 "malloc_arena_max")  # fmt: skip
        for name, value in settings.items():
            if name not in known and value not in (False, "", -1, "pymalloc"):
                unmodelled.append(Unmodelled(f"{name}={value}", "no rule"))
        tensors = [Tensor(0 if one.stored else nbytes_of(one), one.stored, one.variable) for one in body.tensors]
        found = plan(
            tensors, calls, body.inputs, body.outputs, preserve=bool(settings.get("preserve_all_tensors", False))
        )
        notes = [f"the file of {nbytes:,} B is mapped, not on the heap; weights are used from there"]
        if processor.architecture != "x86_64":
            notes.append("tensors are placed alike on every machine; measured on x86_64 only")
        return Prediction(
            engine=self.name, verified=VERIFIED, settings=dict(settings), moments=_moments(found, body),
            unmodelled=tuple(unmodelled),
            notes=tuple(notes),
            details={
                "arena": requested(found.high_water), "persistent arena": requested(found.persistent),
                "high water": found.high_water, "lower bound": found.lower_bound,
            },
        )  # fmt: skip

    def _body(self, graph: Graph) -> tuple[Body, int]:
        from peakmem.frontends.tflite.census import read_census

        path = Path(graph.source)
        if graph.format != "tflite" or not path.is_file():
            raise UsageError(
                "LiteRT is predicted from a .tflite file", where=graph.source, expected="a file that is there"
            )
        census = read_census(path)
        if not census.bodies:
            raise GraphError("the file has no subgraph", where=graph.source)
        main = census.bodies[0]
        for name in graph.inputs:
            for at in main.inputs:
                there, asked = main.tensors[at], graph.tensors[name].shape
                if there.name != name or asked is None or len(asked) != len(there.shape):
                    continue
                if any(isinstance(size, int) and size != one for size, one in zip(asked, there.shape, strict=True)):
                    raise UsageError(
                        f"{name} is {list(there.shape)} in the file; other sizes are not modelled", where=graph.source
                    )
        return main, census.nbytes


def _moments(found: Planned, body: Body) -> tuple[Moment, ...]:
    arena, persistent = requested(found.high_water), requested(found.persistent)
    at = f"{body.calls[found.fullest].op_type}_{found.fullest}" if found.fullest < len(body.calls) else "the inputs"
    alive = min(found.lower_bound, found.high_water)
    held = tuple(
        one
        for one in (
            Holding("activations", alive - found.workspace, f"tensors alive at {at}"),
            Holding("workspace", found.workspace, f"temporary tensors at {at}"),
            Holding("workspace", found.heap, "temporary tensors outside of the arena"),
            Holding("pools", found.high_water - alive, "gaps that the planner leaves"),
            Holding("allocator", arena - found.high_water, "alignment of the arena"),
            Holding("state", persistent, "variable and lasting tensors, an arena of their own"),
        )
        if one.nbytes
    )
    return tuple(Moment(phase, held, held, at) for phase in ("load", "run 1", "steady"))
