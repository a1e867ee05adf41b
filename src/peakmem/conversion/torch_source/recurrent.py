"""LSTM, GRU and RNN as torch's layers: gates in another order, directions on another axis.

ONNX: W directions × gates·hidden × inputs, gates i o f c (LSTM) or z r h (GRU); Y time × directions × batch × hidden.
torch: weight_ih gates·hidden × inputs, gates i f g o (LSTM) or r z n (GRU); output time × batch × directions·hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from peakmem.conversion.torch_source.names import literal
from peakmem.conversion.torch_source.writer import Call, Refused, Weight, rule

if TYPE_CHECKING:
    import numpy as np

    from peakmem.conversion.torch_source.writer import Change

GATES: Mapping[str, tuple[int, ...]] = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
# torch's order, as positions in ONNX's
USUAL: Mapping[str, tuple[str, ...]] = {
    "LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)
}  # fmt: skip


def _part(direction: int, start: int, hidden: int, gates: tuple[int, ...]) -> Change:
    """The rows of one direction from `start`, gates in torch's order."""

    def change(array: np.ndarray) -> np.ndarray:
        import numpy

        rows = array[direction]
        return numpy.concatenate([rows[start + at * hidden : start + (at + 1) * hidden] for at in gates])

    return change


@rule("LSTM", "GRU", "RNN")
def recurrent(call: Call) -> Sequence[str]:
    kind = call.operator.op_type
    gates, (directions, rows, inputs) = GATES[kind], call.shape(1)
    hidden = rows // len(gates)
    way = call.text("direction", "forward")
    _check(call, kind, way, directions)
    cell = ""
    if kind == "RNN" and _activations(call, kind) == ("relu",):
        cell = ', nonlinearity="relu"'
    first = bool(call.attr("layout", 0))
    attribute = call.layer(
        f"nn.{kind}({inputs}, {hidden}{'' if call.has(3) else ', bias=False'}{', batch_first=True' if first else ''}"
        f"{', bidirectional=True' if directions == 2 else ''}{cell}{call.writer.typed(call.input(1))})"
    )
    path = attribute.removeprefix("self.")
    for direction in range(directions):
        end = "_l0_reverse" if direction else "_l0"
        held = [("weight_ih", 1, 0), ("weight_hh", 2, 0)]
        held += [("bias_ih", 3, 0), ("bias_hh", 3, rows)] if call.has(3) else []
        call.writer.weights += [
            Weight(f"{path}.{name}{end}", call.input(at), _part(direction, start, hidden, gates))
            for name, at, start in held
        ]
    return _called(call, attribute, kind, way, directions, hidden, first)


def _activations(call: Call, kind: str) -> tuple[str, ...]:
    told = call.attr("activations")
    names = (value.decode() if isinstance(value, bytes) else str(value) for value in told or ())
    return tuple(name.lower() for name in names) or USUAL[kind]


def _check(call: Call, kind: str, way: str, directions: int) -> None:
    """Refuse what torch's layers do not compute."""
    if not call.own(1, 2, 3):
        raise Refused("with weights that others read, or that are computed")
    usual = [USUAL[kind] * directions, USUAL[kind]]
    if kind == "RNN":
        usual += [("relu",), ("relu", "relu")]
    if _activations(call, kind) not in usual:
        raise Refused("with other activations")
    if call.attr("clip") or call.attr("input_forget", 0) or (kind == "LSTM" and call.has(7)):
        raise Refused("with clipping, coupled gates or peepholes")
    if kind == "GRU" and not call.attr("linear_before_reset", 0):
        raise Refused("with linear_before_reset=0; torch resets behind the product")
    if call.has(4):
        time = call.shape()[1 if call.attr("layout", 0) else 0]
        if any(length != time for length in call.values(4)):
            raise Refused("with sequences of different length")
    if way not in ("forward", "reverse", "bidirectional") or (way == "bidirectional") != (directions == 2):
        raise Refused("its direction")


def _called(call: Call, layer: str, kind: str, way: str, directions: int, hidden: int, first: bool) -> Sequence[str]:
    """The call and what ONNX wants of its results."""
    x, states = call.read(), [at for at in ((5, 6) if kind == "LSTM" else (5,)) if call.has(at)]
    batch, time = (0, 1) if first else (1, 0)
    if way == "reverse":
        x = f"{x}.flip({time})"
    given = [call.read(at) + (".transpose(0, 1).contiguous()" if first else "") for at in states]
    if kind == "LSTM" and len(given) == 1:
        other = f"torch.zeros_like({given[0]})"
        given = [given[0], other] if states == [5] else [other, given[0]]
    start = f", ({given[0]}, {given[1]})" if kind == "LSTM" and given else f", {given[0]}" if given else ""
    y, last, memory = call.local("y"), call.local("h"), call.local("c")
    call.say(f"{y}, {f'({last}, {memory})' if kind == 'LSTM' else last} = {layer}({x}{start})")
    if kind != "LSTM":
        call.writer.passing.remove(memory)
    shape = call.shape()
    if way == "reverse":
        y = f"{y}.flip({time})"
    if directions == 1:
        made = f"{y}.unsqueeze({2 if first else 1})"
    else:
        # layout 1 wants batch × time × directions × hidden, which is how torch lies
        made = f"{y}.reshape({literal((shape[0], shape[1], directions, hidden))})"
        made += "" if first else ".transpose(1, 2)"
    turn = ".transpose(0, 1)" if first else ""
    del batch
    return [made, f"{last}{turn}", *([f"{memory}{turn}"] if kind == "LSTM" else [])]
