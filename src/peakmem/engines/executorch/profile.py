"""Profile of ExecuTorch: the planned buffers, the method's own structures, XNNPACK's delegates, the Python binding.

With the portable kernels all of it is exact: memory is planned ahead and the file says how. What an XNNPACK delegate
holds comes from the rules of `peakmem.engines.xnnpack`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from peakmem.engines.executorch.delegate import delegate
from peakmem.engines.executorch.method import Requests, requests
from peakmem.engines.executorch.moments import Read, moments
from peakmem.engines.executorch.plan import XNNPACK_PADDING, Plan, plan
from peakmem.engines.prediction import Prediction, Processor, Unmodelled, Value
from peakmem.errors import GraphError, UsageError
from peakmem.frontends.door import door
from peakmem.frontends.pte import schema, xnnpack
from peakmem.frontends.pte.graph import build
from peakmem.frontends.pte.program import Method, Program, TensorValue
from peakmem.frontends.pte.reader import choose
from peakmem.frontends.section import Section
from peakmem.ir.graph import Graph

VERIFIED = "1.4.1"
ARCHITECTURES = ("x86_64", "aarch64")
PAGE = 4096
# of the system
_WITHOUT_EFFECT = (
    "verification", "malloc_mmap_threshold", "malloc_trim_threshold", "malloc_arena_max",
)  # fmt: skip
# on the heap above import
_BLAS = ("aten::bmm", "aten::mm", "aten::linear")
# kernels that call gemm of PyTorch's BLAS (kernels/optimized/cpu)
BLAS_BYTES = 128 * 1024
# at least what it may keep: chosen above the 101,024 and 115,360 B that it kept in two networks
_TEMPORARY = ("aten::topk", "aten::_fft_r2c", "aten::_fft_c2r")
# kernels that ask for memory of their own while they run


class Profile:
    """How ExecuTorch allocates."""

    name = "executorch"
    reads = ("pte",)

    def predict(self, graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
        """What ExecuTorch holds with `graph`.

        Raises:
            UsageError: no .pte file, another architecture, no such method.
            GraphError: a program that ExecuTorch would refuse.
        """
        if processor.architecture not in ARCHITECTURES:
            raise UsageError(
                f"ExecuTorch's structures are not known on {processor.architecture}",
                expected=" or ".join(ARCHITECTURES),
            )
        path = Path(graph.source)
        if graph.format != "pte" or not path.is_file():
            raise UsageError(
                f"ExecuTorch is predicted from a .pte file, this is {graph.format}", where=graph.source,
                hint="peakmem convert MODEL --to pte",
            )  # fmt: skip
        read = _read(path, settings, processor)
        asked = requests(read.method)
        planner = _planner(read)
        return Prediction(
            engine=self.name,
            verified=VERIFIED,
            settings=dict(settings),
            moments=moments(read, asked, str(path), settings),
            unmodelled=_unmodelled(read, settings, processor),
            notes=tuple(_notes(read, planner, processor)),
            details=_details(read, asked, planner),
        )


PROFILE = Profile()


def _read(path: Path, settings: Mapping[str, Value], processor: Processor) -> Read:
    threads = int(settings.get("threads", 1))
    with door(path, IndexError, KeyError, ValueError, TypeError, what="the program"), Section(path) as section:
        program = Program(section)
        method = program.method(choose(program, str(settings.get("method", "forward"))))
        _check(method, str(path))
        built = build(program, method)
        blobs: dict[int, tuple[str, xnnpack.Blob]] = {}
        for title, number, blob in built.delegates:
            if blob is not None:
                blobs.setdefault(number, (title, blob))
        delegates = tuple(delegate(blob, processor, threads, title) for title, blob in blobs.values())
        most = max((len(sizes) for sizes in program.buffers.values()), default=1)
        buffers = tuple(
            max(sizes[number] if number < len(sizes) else 0 for sizes in program.buffers.values())
            for number in range(1, most)
        )
        constants = program.constant_segment
        mapped = _pages(0, program.program_bytes) + (_pages(constants.start, constants.nbytes) if constants else 0)
        mapped += sum(-(-one.kept // PAGE) * PAGE for one in delegates)
        return Read(method, built, delegates, buffers, program.nbytes, mapped)


def _pages(start: int, nbytes: int) -> int:
    return -(-(start + nbytes) // PAGE) * PAGE - start // PAGE * PAGE


def _check(method: Method, where: str) -> None:
    """Refuse what Method::load refuses."""
    for position, value in enumerate(method.values):
        told = value.content
        if isinstance(told, TensorValue):
            if told.dynamism == schema.UNBOUND:
                raise GraphError(
                    f"the tensor at value {position} has a shape that only running tells; it has no place",
                    where=where,
                )
            if told.scalar_type not in schema.TYPES:
                raise GraphError(f"the tensor at value {position} has scalar type {told.scalar_type}", where=where)
            if len(told.shape) > 16:
                raise GraphError(f"the tensor at value {position} has {len(told.shape)} dimensions", where=where)


def _planner(read: Read) -> Plan | None:
    """Our own plan; None where control flow keeps the live ranges from being known, or nothing is planned."""
    jumps = any(one.kind == schema.Call.JUMP_FALSE for chain in read.method.chains for one in chain)
    if jumps or not read.method.planned_bytes:
        return None
    padded = any(one.id == xnnpack.ID for one in read.method.delegates)
    return plan(read.built.graph, read.built.places, padding=XNNPACK_PADDING if padded else 0)


def _unmodelled(read: Read, settings: Mapping[str, Value], processor: Processor) -> tuple[Unmodelled, ...]:
    found = [missing for one in read.delegates for missing in one.unmodelled]
    tensors = read.built.graph.tensors
    for title, number, blob in read.built.delegates:
        if blob is None:
            part = read.method.delegates[number]
            reason = f"the backend {part.id} has no rule: what it keeps of its data and works with"
            found.append(Unmodelled(title, reason, part.place.nbytes))
    for operator in read.built.graph.operators:
        full = f"{operator.domain}::{operator.op_type}"
        if full in _BLAS:
            reason = "buffers that the BLAS of PyTorch keeps from its first product on"
        elif full in _TEMPORARY:
            reason = "what its kernel asks for while it runs"
        elif operator.domain not in ("aten", "dim_order_ops", "executorch", "executorch_prim", "prim"):
            reason = "a kernel of others: what it asks for while it runs is not known"
        else:
            continue
        names = [name for name in (*operator.inputs, *operator.outputs) if name]
        nbytes = sum(tensors[name].nbytes or 0 for name in names if tensors[name].role != "input")
        if full in _BLAS and not any(one.reason == reason for one in found):
            nbytes = max(nbytes, BLAS_BYTES)
        found.append(Unmodelled(operator.name, reason, nbytes))
    if any(isinstance(one.content, TensorValue) and one.content.external for one in read.method.values):
        found.append(Unmodelled("constants in another file", "the data map over a .ptd file"))
    if read.method.devices:
        found.append(Unmodelled("planned buffers of devices", "their memory is not the CPU's"))
    if settings.get("python_malloc", "pymalloc") != "pymalloc":
        found.append(Unmodelled("python_malloc=malloc", "Python's small objects come from the heap as well"))
    modelled = {"load", "face", "clone_outputs", "method", "threads", "python_malloc", *_WITHOUT_EFFECT}
    found += [Unmodelled(f"{name}={value}", "no rule") for name, value in settings.items() if name not in modelled]
    if processor.architecture != "x86_64":
        found.append(
            Unmodelled(processor.architecture, "kernels of XNNPACK as far as its rules know them, not measured")
        )
    return tuple(found)


def _notes(read: Read, planner: Plan | None, processor: Processor) -> list[str]:
    notes = []
    planned = read.method.planned_bytes
    if planner is not None:
        if planned == planner.greedy:
            notes.append("the planned buffers are what ExecuTorch's greedy planner makes of the live ranges")
        elif planned == planner.naive:
            notes.append(
                f"the file was planned naively, a place for each tensor: greedy planning takes {planner.greedy:,} B"
            )
        else:
            notes.append(
                f"another planner made the planned buffers: ExecuTorch's greedy one takes {planner.greedy:,} B"
            )
    if sum(read.buffers) > planned:
        notes.append("the binding takes each buffer as large as any method needs it")
    notes.append("the process locks the mapped file where the system lets it, so that all of its pages are resident")
    if processor.architecture != "x86_64":
        notes.append("measured on x86_64 only; structures are the same with pointers of 8 bytes")
    return notes


def _details(read: Read, asked: Requests, planner: Plan | None) -> dict[str, int]:
    method = read.method
    found = {"planned bytes": method.planned_bytes}
    found.update({f"planned buffer {number}": size for number, size in enumerate(method.buffers) if number})
    if planner is not None:
        found["planned bytes by our planner"] = planner.greedy
        found["planned bytes without sharing"] = planner.naive
        found["lower bound"] = planner.lower_bound
    found["method allocator"] = asked.nbytes
    found["requests of the method allocator"] = asked.count
    if read.delegates:
        found["delegates"] = len(read.delegates)
        found["largest XNNPACK workspace"] = max(one.workspace.nbytes for one in read.delegates)
    return found
