"""Two readings of one network, tensor by tensor: what is equal, what differs, and by how much.

Names, layouts and operator types differ from format to format, so tensors are matched by what they
hold: stored ones by the window and channels of their kernel in schedule order, activations by their
sizes without the dimensions that are 1. Both sides are compared as they run: fused, constants
folded, views without bytes left out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from peakmem._version import __version__
from peakmem.ir import kinds
from peakmem.ir.dims import Shape, format_shape
from peakmem.ir.graph import Operator, Tensor
from peakmem.layers import weighted
from peakmem.liveness import live_ranges, state_bytes
from peakmem.naming import ParameterRole
from peakmem.parameters import Parameters
from peakmem.passes.assume import ASSUMPTIONS
from peakmem.report.comparison import Comparison, Item, Pair, Quantity, Side, Verdict
from peakmem.study import Study

_HOLD = {1: "holds", 2: "hold"}
SHOWN = 3
# names listed in one sentence
LARGEST_ALIGNMENT = 1_000_000
# tensors of A times tensors of B; aligning takes more than a square of time where blocks repeat


@dataclass(frozen=True, slots=True)
class Found:
    """A tensor to be matched: its signature, and what is shown of it."""

    signature: Hashable
    item: Item
    size: tuple[Hashable, ...]
    # dtype and bytes, compared after matching


def compare_studies(a: Study, b: Study, assume: str) -> Comparison:
    """Two studied graphs side by side under one execution assumption."""
    stored = pairs(_stored(a, assume), _stored(b, assume))
    without = [letter for letter, study in zip("AB", (a, b), strict=True) if study.stored.weights_only]
    activations = () if without else pairs(_activations(a, assume), _activations(b, assume))
    quantities = _quantities(a, b, assume)
    differences = _differences(quantities, stored, activations)
    if without:
        # Nothing runs on that side, so that what is stored has to be the same one by one.
        who = " and ".join(without)
        differences = (f"activations are not compared: {who} {_HOLD[len(without)]} weights only", *differences)
        same = all(pair.verdict == "same" for pair in stored)
    else:
        must = [quantity for quantity in quantities if quantity.name in _DECIDING]
        same = all(quantity.same for quantity in must) and all(pair.verdict == "same" for pair in activations)
    return Comparison(
        _side(a), _side(b), assume, same, quantities, stored, activations, differences, peakmem=__version__
    )


def _side(study: Study) -> Side:
    graph = study.stored
    open_sizes = bool(live_ranges(graph).unsized) or graph.weights_only
    source = graph.name if graph.source in ("", "zoo") else graph.source
    return Side(source, graph.format, len(graph.operators), "lower bound" if open_sizes else "estimate")


# -- quantities ---------------------------------------------------------------------------

_FOLDED = "parameters, norms folded into weights and biases"
_PEAK = "live peak"
_DECIDING = (_FOLDED, _PEAK, "state")


def _quantities(a: Study, b: Study, assume: str) -> tuple[Quantity, ...]:
    of_a, of_b = a.parameters, b.parameters
    rows = [
        Quantity("weights only", "elements", of_a.weights_only, of_b.weights_only),
        Quantity("parameters", "elements", of_a.trainable, of_b.trainable, _parameter_difference(of_a, of_b)),
        Quantity("stored", "bytes", of_a.nbytes(), of_b.nbytes(), _stored_difference(of_a, of_b)),
    ]
    if not (a.stored.weights_only or b.stored.weights_only):
        folded = folded_count(a, assume), folded_count(b, assume)
        rows.append(Quantity("state", "bytes", state_bytes(a.stored), state_bytes(b.stored)))
        rows.insert(2, Quantity(_FOLDED, "elements", *folded, "" if folded[0] == folded[1] else _shared(a, b)))
        for name in ASSUMPTIONS:
            mine = name == assume
            title = _PEAK if mine else f"live peak, {name}"
            peaks = a.peak(name)[0], b.peak(name)[0]
            why = "" if peaks[0] == peaks[1] else _peak_difference(a, b, name)
            rows.append(Quantity(title, "bytes", *peaks, why))
    return tuple(rows)


def folded_count(study: Study, assume: str) -> int:
    """Weights, and one bias for each output channel of a convolution or product that has a bias or a norm.

    What an engine stores after it folded the norms; the same whether a file holds them folded or not.
    """
    graph = study.graph(assume)
    roles = {constant.name: constant for constant in study.parameters.constants}
    seen: set[str] = set()
    total = 0
    for operator in graph.operators:
        names = [name for name in dict.fromkeys((*operator.reads, *operator.absorbed)) if name in graph.tensors]
        found = [roles.get(graph.tensors[name].storage or name) for name in names]
        constants = [constant for constant in found if constant is not None and constant.name not in seen]
        seen.update(constant.name for constant in constants)
        total += sum(constant.elements for constant in constants if constant.role == "weight")
        rest = [constant for constant in constants if constant.role in ("bias", "norm", "statistic")]
        if weighted(operator, graph):
            total += max((constant.elements for constant in rest), default=0)
        else:
            total += sum(constant.elements for constant in rest if constant.role != "statistic")
    left = (constant for constant in study.parameters.constants if constant.name not in seen)
    return total + sum(constant.elements for constant in left if constant.role in ("weight", "bias", "norm"))


def _parameter_difference(a: Parameters, b: Parameters) -> str:
    reasons = []
    titles: dict[ParameterRole, str] = {"weight": "weights", "bias": "biases", "norm": "norm scales and shifts"}
    for role, title in titles.items():
        here, there = a.elements(role), b.elements(role)
        if here != there:
            reasons.append(f"{title}: {here:,} and {there:,}")
    norms = a.elements("norm"), b.elements("norm")
    if reasons and (norms[0] == 0) != (norms[1] == 0):
        reasons.append(f"{'A' if norms[0] == 0 else 'B'} holds its norms folded into weights and biases")
    return "; ".join(reasons)


def _shared(a: Study, b: Study) -> str:
    """Which side reads stored parameters more than once: tied weights, or equal ones that a converter merged."""
    said = []
    for letter, study in (("A", a), ("B", b)):
        elements = {one.name: one.elements for one in study.parameters.constants if one.role in ("weight", "bias")}
        reads: Counter[str] = Counter()
        for operator in study.stored.operators:
            given = (study.stored.tensors.get(name) for name in dict.fromkeys(operator.inputs))
            reads.update(tensor.storage or tensor.name for tensor in given if tensor is not None)
        again = {name: times - 1 for name, times in reads.items() if times > 1 and name in elements}
        if again:
            count = sum(times * elements[name] for name, times in again.items())
            said.append(f"{letter} reads {len(again)} stored parameters more than once ({count:,} elements)")
    return "; ".join(said)


def _stored_difference(a: Parameters, b: Parameters) -> str:
    def by_dtype(stored: Parameters) -> Counter[str]:
        found: Counter[str] = Counter()
        for constant in stored.constants:
            found[str(constant.dtype)] += constant.nbytes
        return found

    here, there = by_dtype(a), by_dtype(b)
    names = sorted(name for name in here.keys() | there.keys() if here[name] != there[name])
    return "; ".join(f"{name}: {here[name]:,} B and {there[name]:,} B" for name in names)


def _peak_difference(a: Study, b: Study, name: str) -> str:
    def place(study: Study, letter: str) -> str:
        line, graph = study.timeline(name), study.graph(name)
        if not graph.operators:
            return f"{letter} has no operators"
        operator = graph.operators[line.peak_step]
        alive = ", ".join(f"{buffer.name} ({buffer.nbytes:,} B)" for buffer in line.alive_at_peak[:SHOWN])
        more = len(line.alive_at_peak) - SHOWN
        rest = f" and {more} more" if more > 0 else ""
        return f"{letter} peaks at {operator.name} ({operator.op_type}) with {alive}{rest}"

    return f"{place(a, 'A')}; {place(b, 'B')}"


# -- tensors ------------------------------------------------------------------------------


def _sizes(shape: Shape | None) -> tuple[Hashable, ...]:
    """The dimensions that are not 1, in ascending order: what a layout does not change."""
    if shape is None:
        return ("?",)
    return tuple(sorted((dim if isinstance(dim, int) else str(dim) for dim in shape if dim != 1), key=str))


def _stored(study: Study, assume: str) -> list[Found]:
    """Stored tensors in the order they are read, then those nobody reads."""
    graph = study.graph(assume)
    roles = {constant.name: constant for constant in study.parameters.constants}
    found: list[Found] = []
    seen: set[str] = set()
    for operator in graph.operators:
        for name in dict.fromkeys((*operator.inputs, *operator.absorbed)):
            tensor = graph.tensors.get(name)
            if tensor is None or tensor.role != "constant":
                continue
            constant = roles.get(tensor.storage or name)
            if constant is None or constant.name in seen or constant.role in ("other", "quantisation"):
                continue
            seen.add(constant.name)
            signature = (constant.role, *_kernel(operator, tensor.shape))
            found.append(Found(signature, _item(tensor, constant.role), (str(tensor.dtype), tensor.nbytes)))
    for constant in study.parameters.constants:
        if constant.name not in seen and constant.role not in ("other", "quantisation"):
            item = Item(
                constant.name, constant.role, format_shape(constant.shape), str(constant.dtype or "?"), constant.nbytes
            )
            found.append(Found((constant.role, *_sizes(constant.shape)), item, (str(constant.dtype), constant.nbytes)))
    return found


def _kernel(operator: Operator, shape: Shape | None) -> tuple[Hashable, ...]:
    written = kinds.kernel(operator, shape) if shape is not None else None
    if written is None:
        return _sizes(shape)
    window = tuple(dim for dim in written.window if dim != 1)
    return (*window, 1 if written.depthwise else written.inside or "?", written.outside or "?")


def _item(tensor: Tensor, made_by: str) -> Item:
    return Item(tensor.name, made_by, format_shape(tensor.shape), str(tensor.dtype or "?"), tensor.nbytes)


def _activations(study: Study, assume: str) -> list[Found]:
    """Inputs and every output with bytes of its own, in schedule order."""
    graph = study.graph(assume)
    found = []
    for name in graph.inputs:
        tensor = graph.tensors[name]
        found.append(
            Found(("input", *_sizes(tensor.shape)), _item(tensor, "input"), (str(tensor.dtype), tensor.nbytes))
        )
    for operator in graph.operators:
        shared = {output for output, _ in operator.aliases}
        title = f"{operator.name} ({'+'.join((operator.op_type, *operator.fused))})"
        for position, name in enumerate(operator.outputs):
            if name and position not in shared:
                tensor = graph.tensors[name]
                size = (str(tensor.dtype), tensor.nbytes)
                found.append(Found(_sizes(tensor.shape), _item(tensor, title), size))
    return found


def pairs(a: list[Found], b: list[Found]) -> tuple[Pair, ...]:
    """Both lists side by side: the longest run of equal signatures first, what is left over on its own."""
    if len(a) * len(b) > LARGEST_ALIGNMENT:
        return _in_order(a, b)
    pairs: list[Pair] = []
    matcher = SequenceMatcher(None, [one.signature for one in a], [one.signature for one in b], autojunk=False)
    for tag, i, i_stop, j, j_stop in matcher.get_opcodes():
        if tag == "equal":
            for here, there in zip(a[i:i_stop], b[j:j_stop], strict=True):
                pairs.append(Pair(_verdict(here, there), here.item, there.item))
            continue
        left, right = list(a[i:i_stop]), list(b[j:j_stop])
        for here in left:
            # The same tensor a little earlier or later: formats order parallel branches in their own ways.
            like = next((one for one in right if one.signature == here.signature), None)
            if like is None:
                pairs.append(Pair("only in A", here.item, None))
            else:
                right.remove(like)
                pairs.append(Pair(_verdict(here, like), here.item, like.item))
        pairs += [Pair("only in B", None, there.item) for there in right]
    return _rejoined(pairs)


def _in_order(a: list[Found], b: list[Found]) -> tuple[Pair, ...]:
    """Both lists side by side where they are too long to be aligned: each with the first of its signature."""
    waiting: dict[Hashable, deque[int]] = {}
    for at, one in enumerate(b):
        waiting.setdefault(one.signature, deque()).append(at)
    pairs: list[Pair] = []
    taken: set[int] = set()
    for here in a:
        places = waiting.get(here.signature)
        if places:
            at = places.popleft()
            taken.add(at)
            pairs.append(Pair(_verdict(here, b[at]), here.item, b[at].item))
        else:
            pairs.append(Pair("only in A", here.item, None))
    pairs += [Pair("only in B", None, there.item) for at, there in enumerate(b) if at not in taken]
    return _rejoined(pairs)


def _rejoined(pairs: list[Pair]) -> tuple[Pair, ...]:
    """Leftovers of both sides with equal shapes, far apart in the schedules, put together; equal dtypes first."""

    def like(item: Item) -> Hashable:
        return tuple(sorted(item.shape.split("x"))), item.made_by if " " not in item.made_by else ""

    def size(item: Item) -> Hashable:
        return item.dtype, item.nbytes

    waiting: dict[Hashable, deque[tuple[int, Item]]] = {}
    # under what they are like, and under that with the size as well
    for at, pair in enumerate(pairs):
        if pair.verdict == "only in B" and pair.b is not None:
            for key in (like(pair.b), (like(pair.b), size(pair.b))):
                waiting.setdefault(key, deque()).append((at, pair.b))
    gone: set[int] = set()

    def nearest(item: Item) -> tuple[int, Item] | None:
        for key in ((like(item), size(item)), like(item)):
            others = waiting.get(key, deque())
            while others:
                found = others.popleft()
                if found[0] not in gone:
                    gone.add(found[0])
                    return found
        return None

    joined: list[Pair] = []
    for pair in pairs:
        found = nearest(pair.a) if pair.verdict == "only in A" and pair.a is not None else None
        if found is not None and pair.a is not None:
            other = found[1]
            differs: Verdict = "size differs" if other.dtype == pair.a.dtype else "dtype differs"
            pair = Pair("same" if size(other) == size(pair.a) else differs, pair.a, other)
        joined.append(pair)
    left = {id(pairs[at]) for at in gone}
    return tuple(pair for pair in joined if id(pair) not in left)


def _verdict(a: Found, b: Found) -> Verdict:
    if a.size == b.size:
        return "same"
    return "dtype differs" if a.size[0] != b.size[0] else "size differs"


def _differences(
    quantities: Sequence[Quantity], stored: Sequence[Pair], activations: Sequence[Pair]
) -> tuple[str, ...]:  # fmt: skip
    said = []
    for quantity in quantities:
        if not quantity.same:
            unit = " B" if quantity.unit == "bytes" else ""
            why = f": {quantity.why}" if quantity.why else ""
            said.append(f"{quantity.name}: {quantity.a:,}{unit} in A, {quantity.b:,}{unit} in B{why}")
    for title, pairs in (("stored tensors", stored), ("activations", activations)):
        groups: dict[str, list[str]] = {}
        for pair in pairs:
            if pair.verdict != "same":
                item = pair.a or pair.b
                assert item is not None
                label = item.made_by if title == "activations" else item.name
                groups.setdefault(pair.verdict, []).append(f"{label} {item.shape}")
        for verdict, names in groups.items():
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            said.append(f"{title}, {verdict}: {len(names)}: {'; '.join(names[:SHOWN])}{more}")
    return tuple(said)
