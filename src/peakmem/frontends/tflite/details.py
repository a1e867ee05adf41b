"""What a TensorFlow Lite file tells beyond its graph: quantisation, signatures, metadata, a plan of offsets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from peakmem.errors import FormatError
from peakmem.frontends.flatbuffer import FlatFile, Table
from peakmem.frontends.tflite import schema
from peakmem.frontends.tflite.tensors import Buffers, Quantised
from peakmem.ir.graph import Detail

OFFLINE_PLAN = "OfflineMemoryAllocation"
_MOST_SHOWN = 8
_LONGEST_VALUE = 32
# bytes; metadata up to here is shown


@dataclass(frozen=True, slots=True)
class Signature:
    """A function of the model: what goes in and comes out by name, and the subgraph that computes it."""

    key: str
    subgraph: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def signatures(model: Table) -> tuple[Signature, ...]:
    """The signatures of a model."""
    return tuple(
        Signature(
            table.text(schema.Signature.KEY),
            table.number(schema.Signature.SUBGRAPH, "I"),
            tuple(one.text(schema.TensorMap.NAME) for one in table.tables(schema.Signature.INPUTS)),
            tuple(one.text(schema.TensorMap.NAME) for one in table.tables(schema.Signature.OUTPUTS)),
        )
        for table in model.tables(schema.Model.SIGNATURES)
    )


def quantisation(quantised: Quantised) -> Iterator[Detail]:
    """How many tensors are quantised, and the bytes of their scales and zero points."""
    counts = (
        (quantised.per_tensor, "per tensor"), (quantised.per_channel, "per channel"), (quantised.blockwise, "by blocks")
    )  # fmt: skip
    shown = ", ".join(f"{count} {how}" for count, how in counts if count)
    if shown:
        text = f"{shown}; scales (float32) and zero points (int64) in the file, not part of the weights"
        yield Detail("quantised tensors", text, quantised.side_bytes)
    if quantised.sparse:
        text = f"{quantised.sparse}; weights as stored, without the zeros; indices, not part of the weights"
        yield Detail("sparse constants", text, quantised.sparse_bytes)


def functions(model: Table, chosen: int) -> Iterator[Detail]:
    """The signatures, and how to have another one read."""
    found = signatures(model)
    for one in found[:_MOST_SHOWN]:
        where = "this graph" if one.subgraph == chosen else f"subgraph {one.subgraph}, --option signature={one.key}"
        yield Detail(f"signature {one.key}", f"{_listed(one.inputs)} -> {_listed(one.outputs)} ({where})")
    if len(found) > _MOST_SHOWN:
        yield Detail("signatures", f"{len(found) - _MOST_SHOWN} more")


def others(model: Table, buffers: Buffers, read: set[int]) -> Iterator[Detail]:
    """Subgraphs that the graph does not run, each with the constants it has."""
    vector, count = model.span(schema.Model.SUBGRAPHS, "I")
    left = [number for number in range(count) if number not in read]
    for number in left[:_MOST_SHOWN]:
        table = model.entry(vector, number)
        stored = {
            one.identity: one.nbytes
            for tensor in table.tables(schema.SubGraph.TENSORS)
            if (one := buffers.at(tensor.number(schema.Tensor.BUFFER, "I"))) is not None
        }
        name = table.text(schema.SubGraph.NAME)
        text = f"{table.count(schema.SubGraph.OPERATORS)} operators, not run by this graph; its constants"
        yield Detail(f"subgraph {number}{f' {name}' if name else ''}", text, sum(stored.values()))
    if len(left) > _MOST_SHOWN:
        yield Detail("subgraphs", f"{len(left) - _MOST_SHOWN} more that this graph does not run")


def metadata(model: Table, file: FlatFile, buffers: Buffers) -> Iterator[Detail]:
    """Names and sizes of what is stored beside the network."""
    tables = list(model.tables(schema.Model.METADATA))
    for table in tables[:_MOST_SHOWN]:
        name = table.text(schema.Metadata.NAME)
        stored = buffers.at(table.number(schema.Metadata.BUFFER, "I"))
        nbytes = stored.nbytes if stored is not None else 0
        text = "stored with the model"
        if stored is not None and stored.start is not None and nbytes <= _LONGEST_VALUE:
            written = file.read(stored.start, nbytes).rstrip(b"\0")
            if written.isascii() and written.decode("ascii").isprintable():
                text = written.decode("ascii")
        if name == OFFLINE_PLAN:
            text = "an offset for every tensor, planned ahead (-1 leaves it to the engine)"
        yield Detail(f"metadata {name}", text, nbytes)
    if len(tables) > _MOST_SHOWN:
        yield Detail("metadata", f"{len(tables) - _MOST_SHOWN} more entries")


def offline_plan(model: Table, file: FlatFile, buffers: Buffers) -> tuple[int, ...]:
    """The offsets that were planned ahead, of all tensors of all subgraphs in order; empty without such a plan.

    Three int32 stand before them: a version, a subgraph (ignored by the engine), their number.
    """
    for table in model.tables(schema.Model.METADATA):
        stored = buffers.at(table.number(schema.Metadata.BUFFER, "I"))
        if table.text(schema.Metadata.NAME) != OFFLINE_PLAN or stored is None or stored.start is None:
            continue
        if stored.nbytes < 12:
            raise FormatError("the plan of offsets is cut off", expected="three numbers before its offsets")
        _, _, count = file.numbers("i", stored.start, 3)
        if not 0 <= count <= stored.nbytes // 4 - 3:
            raise FormatError(f"the plan lists {count} offsets", expected=f"{stored.nbytes // 4 - 3} at most")
        return tuple(file.numbers("i", stored.start + 12, count))
    return ()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_SHOWN])
    return f"{shown}, …" if len(names) > _MOST_SHOWN else shown or "nothing"
