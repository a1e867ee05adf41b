"""What grew between two states of a network: which operators added the bytes, at the peak and in the weights.

Operators are matched by `comparison.pairs`, first with their names, then by their sizes; what both leave over is new or
gone. Every byte of the difference is told: rows and rests sum to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from peakmem._version import __version__
from peakmem.comparison import Found, pairs
from peakmem.dtypes import DType
from peakmem.ir.graph import Graph
from peakmem.passes.assume import DEFAULT_ASSUMPTION
from peakmem.pipeline import estimate
from peakmem.report.comparison import Item
from peakmem.report.growth import (
    AliveSnapshot,
    GrownOperator,
    GrownTensor,
    Growth,
    OperatorSnapshot,
    Quantity,
    Side,
    Snapshot,
    StoredSnapshot,
    Verdict,
)
from peakmem.report.model import Estimate
from peakmem.units import format_bytes

Source = str | Path | Graph | Estimate | Snapshot | object
INPUT = "graph input"
# what makes an input, in the column of operator types


def what_grew(
    a: Source, b: Source, *, batch: int | None = None,
    shapes: tuple[Mapping[str, Sequence[int]] | None, Mapping[str, Sequence[int]] | None] = (None, None),
    dims: Mapping[str, int] | None = None, inputs: object = None, dtype: str | DType | None = None,
    assume: str = DEFAULT_ASSUMPTION,
) -> Growth:  # fmt: skip
    """Which operators added the bytes between `a` and `b`: at the peak, in the weights, in the file.

    Args:
        a, b: what `load` takes, an `Estimate`, or a `Snapshot` of one.
        batch, dims, inputs, dtype, assume: for those of the two that are no finished reports; see `estimate`.
        shapes: whole input shapes by name, for A and for B.

    Raises:
        PeakmemError: see `estimate`.
    """

    def side(source: Source, fixed: Mapping[str, Sequence[int]] | None) -> Snapshot:
        if isinstance(source, Snapshot):
            return source
        if not isinstance(source, Estimate):
            source = estimate(
                source, inputs=inputs, batch=batch, shapes=fixed, dims=dims, dtype=dtype, assume=assume, tensors=True
            )
        return snapshot(source)

    return grown(side(a, shapes[0]), side(b, shapes[1]))


def snapshot(report: Estimate) -> Snapshot:
    """What a later comparison needs of an estimate."""
    return Snapshot(
        report.model.name, report.model.source, report.model.format, report.kind, report.assume, report.dtype,
        tuple(f"{port.name} {'x'.join(map(str, port.shape or ('?',)))} {port.dtype}" for port in report.inputs),
        report.peak.activation_bytes, f"{report.peak.operator} ({report.peak.op_type})" if report.peak.operator else "",
        report.peak.subgraph_bytes, report.peak.weights_bytes, report.peak.state_bytes, report.parameters.trainable,
        report.model.file_bytes,
        tuple(
            OperatorSnapshot(row.name, row.op_type, row.kernel, row.output, row.dtype, row.output_bytes,
                             row.parameter_bytes)
            for row in report.layers
        ),
        tuple(AliveSnapshot(one.name, one.made_by, one.shape, one.dtype, one.nbytes) for one in report.peak.alive),
        tuple(StoredSnapshot(one.name, one.role, one.shape, one.dtype, one.nbytes) for one in report.tensors),
        report.peakmem,
    )  # fmt: skip


def grown(a: Snapshot, b: Snapshot) -> Growth:
    """Two snapshots side by side."""
    matched = _matched(_parts(a), _parts(b))
    rows = [_operator(here, there) for here, there in matched]
    changed = [row for row in rows if row is not None]
    changed.sort(key=lambda row: (-abs(row.added_bytes), -abs(row.peak_b - row.peak_a)))
    weights, peak = b.weights_bytes - a.weights_bytes, b.peak_bytes - a.peak_bytes
    tensors = [*_alive(a, b, matched), *_stored(a, b)]
    return Growth(
        _side(a), _side(b), tuple(_quantities(a, b)), tuple(changed),
        weights - sum(row.weights_b - row.weights_a for row in changed),
        peak - sum(row.peak_b - row.peak_a for row in changed),
        sum(1 for row, (here, there) in zip(rows, matched, strict=True) if row is None and here and there and not
            (here.is_input or there.is_input)),
        tuple(sorted(tensors, key=lambda one: -abs(one.added_bytes))), tuple(_notes(a, b)), peakmem=__version__,
    )  # fmt: skip


def told(row: GrownOperator) -> str:
    """One operator in one sentence."""
    parts = []
    for title, added in (("weights", row.weights_b - row.weights_a), ("at the peak", row.peak_b - row.peak_a)):
        if added:
            parts.append(f"{title} {'+' if added > 0 else '-'}{format_bytes(abs(added))}")
    shapes = f", {row.shape_a} to {row.shape_b}" if row.shape_a and row.shape_b and row.shape_a != row.shape_b else ""
    return f"{row.name} ({row.op_type}, {row.verdict}{shapes}): {', '.join(parts)}"


def _side(one: Snapshot) -> Side:
    return Side(
        one.name, one.source, one.format, one.kind, one.assume, one.dtype, one.inputs, len(one.operators), one.peak_at,
        one.peakmem,
    )  # fmt: skip


def _quantities(a: Snapshot, b: Snapshot) -> Iterable[Quantity]:
    peaks = tuple(one.peak_bytes if one.operators else None for one in (a, b))
    # a source of weights alone says nothing of activations
    yield Quantity("live peak", "bytes", *peaks)
    yield Quantity("weights", "bytes", a.weights_bytes, b.weights_bytes)
    if a.state_bytes or b.state_bytes:
        yield Quantity("state", "bytes", a.state_bytes, b.state_bytes)
    resident = tuple(
        None if peak is None else peak + one.weights_bytes + one.state_bytes
        for peak, one in zip(peaks, (a, b), strict=True)
    )
    yield Quantity("weights + state + live peak", "bytes", *resident)
    yield Quantity("parameters", "elements", a.parameters, b.parameters)
    if a.file_bytes is not None or b.file_bytes is not None:
        yield Quantity("file", "bytes", a.file_bytes, b.file_bytes)


def _notes(a: Snapshot, b: Snapshot) -> Iterable[str]:
    for title, here, there in (
        ("execution assumption", a.assume, b.assume), ("counted dtype", a.dtype, b.dtype),
        ("inputs", ", ".join(a.inputs), ", ".join(b.inputs)), ("peakmem", a.peakmem, b.peakmem),
    ):  # fmt: skip
        if here != there:
            yield f"{title}: {here or 'none'} in A, {there or 'none'} in B; a part of the difference comes from that"
    for letter, one in (("A", a), ("B", b)):
        if not one.operators:
            yield f"{letter} holds weights alone: its activations are not known"
        elif one.kind == "lower bound":
            yield f"{letter} is a lower bound: what has no known size is not counted"


# -- matching ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """An operator or an input, with its bytes at the peak."""

    name: str
    op_type: str
    kernel: str
    shape: str
    dtype: str
    output_bytes: int
    weights_bytes: int
    peak_bytes: int

    @property
    def is_input(self) -> bool:
        """Whether it is an input of the graph."""
        return self.op_type == INPUT


_Key = Callable[[_Part], Hashable]
Matched = list[tuple[_Part | None, _Part | None]]


def _whole(part: _Part) -> Hashable:
    return part.name, part.op_type, part.kernel, part.shape, part.dtype


def _named(part: _Part) -> Hashable:
    return part.name, part.op_type.partition("+")[0]


def _sized(part: _Part) -> Hashable:
    return part.op_type, part.kernel, part.shape


def _typed(part: _Part) -> Hashable:
    return part.op_type


def _parts(one: Snapshot) -> list[_Part]:
    at_peak: Counter[str] = Counter()
    for tensor in one.alive:
        at_peak[tensor.made_by] += tensor.nbytes
    inputs = {tensor.name: tensor.nbytes for tensor in one.alive if not tensor.made_by}
    given = []
    for said in one.inputs:
        name, shape, dtype = said.rsplit(" ", 2)
        nbytes = inputs.pop(name, 0)
        given.append(_Part(name, INPUT, "", shape, dtype, nbytes, 0, nbytes))
    made = [
        _Part(row.name, row.op_type, row.kernel, row.shape, row.dtype, row.output_bytes, row.weights_bytes,
              at_peak.pop(row.name, 0))
        for row in one.operators
    ]  # fmt: skip
    return given + made


def _matched(a: list[_Part], b: list[_Part]) -> Matched:
    """Each part of A beside the one of B that stands for the same thing."""
    found, left, right = _step(a, b, _whole)
    by_name, by_size = (_common(left, right, key) for key in (_named, _sized))
    # Where names are counted through, one operator more renames all behind it; sizes then tell more than names.
    for key in (_named, _sized) if by_name > by_size else (_sized, _named):
        more, left, right = _step(left, right, key)
        found += more
    counts = [Counter(_typed(part) for part in side) for side in (left, right)]
    paired = [name for name in counts[0] if counts[0][name] == counts[1][name]]
    more, _, _ = _step(
        [part for part in left if _typed(part) in paired], [part for part in right if _typed(part) in paired], _typed
    )
    found += more
    gone = {id(part) for pair in more for part in pair}
    found += [(part, None) for part in left if id(part) not in gone]
    return found + [(None, part) for part in right if id(part) not in gone]


def _common(a: list[_Part], b: list[_Part], key: _Key) -> int:
    return (Counter(map(key, a)) & Counter(map(key, b))).total()


def _step(a: list[_Part], b: list[_Part], key: _Key) -> tuple[Matched, list[_Part], list[_Part]]:
    """Those that `comparison.pairs` puts together under `key`, and what is left of both."""
    if not a or not b:
        return [], a, b
    owners: dict[int, _Part] = {}

    def found(part: _Part) -> Found:
        # pairs that are put together far apart have equal shapes and are made by the same: here the same key
        item = Item(part.name, repr(key(part)).replace(" ", ""), part.shape, part.dtype, part.output_bytes)
        owners[id(item)] = part
        return Found(key(part), item, (part.dtype, part.output_bytes))

    left, right = [found(part) for part in a], [found(part) for part in b]
    made: Matched = []
    for pair in pairs(left, right):
        if pair.a is not None and pair.b is not None:
            made.append((owners[id(pair.a)], owners[id(pair.b)]))
    done = {id(part) for pair in made for part in pair}
    return made, [part for part in a if id(part) not in done], [part for part in b if id(part) not in done]


# -- rows --------------------------------------------------------------------------------


def _operator(a: _Part | None, b: _Part | None) -> GrownOperator | None:
    """The row of a pair; None where nothing changed."""
    one = b or a
    assert one is not None
    row = GrownOperator(
        "moved", a.name if a else "", b.name if b else "", one.op_type, a.shape if a else "", b.shape if b else "",
        a.weights_bytes if a else 0, b.weights_bytes if b else 0, a.peak_bytes if a else 0, b.peak_bytes if b else 0,
    )  # fmt: skip
    if (row.weights_a, row.peak_a) == (row.weights_b, row.peak_b):
        return None
    return GrownOperator(
        _verdict(a is None, b is None, row.added_bytes), row.a, row.b, row.op_type, row.shape_a, row.shape_b,
        row.weights_a, row.weights_b, row.peak_a, row.peak_b,
    )  # fmt: skip


def _verdict(new: bool, gone: bool, added: int) -> Verdict:
    if new or gone:
        return "new" if new else "gone"
    return "grown" if added > 0 else "shrunk" if added < 0 else "moved"


def _alive(a: Snapshot, b: Snapshot, matched: Matched) -> Iterable[GrownTensor]:
    """Tensors alive at one of the peaks or both, put together as the operators that make them are."""
    became = {here.name: there.name for here, there in matched if here and there and not here.is_input}
    kept = set(became.values()) | {there.name for here, there in matched if here and there and there.is_input}
    waiting: dict[str, list[AliveSnapshot]] = {}
    for tensor in b.alive:
        waiting.setdefault(tensor.made_by or f"{INPUT} {tensor.name}", []).append(tensor)
    for tensor in a.alive:
        maker = became.get(tensor.made_by, "") if tensor.made_by else f"{INPUT} {tensor.name}"
        others = waiting.get(maker, [])
        other = others.pop(0) if others else None
        row = _tensor("at the peak", tensor.made_by or INPUT, tensor, other)
        if row is not None:
            # what is made still, and is no longer alive at the peak, is not gone
            still = (tensor.made_by in became) if tensor.made_by else tensor.name in kept
            yield replace(row, verdict="shrunk") if row.verdict == "gone" and still else row
    for rest in waiting.values():
        for tensor in rest:
            row = _tensor("at the peak", tensor.made_by or INPUT, None, tensor)
            if row is not None:
                yield replace(row, verdict="grown") if (tensor.made_by or tensor.name) in kept else row


def _stored(a: Snapshot, b: Snapshot) -> Iterable[GrownTensor]:
    """Stored tensors, where both sides list them, matched as operators are."""
    if not (a.stored and b.stored):
        return
    owners: dict[int, StoredSnapshot] = {}
    lists: list[list[_Part]] = []
    for side in (a, b):
        parts = []
        for one in side.stored:
            part = _Part(one.name, one.role, "", one.shape, one.dtype, one.nbytes, one.nbytes, 0)
            owners[id(part)] = one
            parts.append(part)
        lists.append(parts)
    for here, there in _matched(*lists):
        before, after = (owners[id(part)] if part else None for part in (here, there))
        known = after or before
        assert known is not None
        row = _tensor("stored", known.role, before, after)
        if row is not None:
            yield row


def _tensor(
    where: str, role: str, a: AliveSnapshot | StoredSnapshot | None, b: AliveSnapshot | StoredSnapshot | None
) -> GrownTensor | None:
    before, after = a.nbytes if a else 0, b.nbytes if b else 0
    if before == after:
        return None
    return GrownTensor(
        _verdict(a is None, b is None, after - before), "stored" if where == "stored" else "at the peak",
        a.name if a else "", b.name if b else "", role, a.shape if a else "", b.shape if b else "", before, after,
    )  # fmt: skip
