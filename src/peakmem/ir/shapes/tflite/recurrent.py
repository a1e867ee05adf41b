"""Shape rules of recurrent operators; the states they keep are inputs that the file marks as variable."""

from __future__ import annotations

from peakmem.ir.dims import Dim, product
from peakmem.ir.shapes.call import Call, Specs, rule
from peakmem.ir.shapes.tflite.elementwise import names


def _keeps(call: Call, position: int, batch: Dim, width: Dim) -> None:
    """Refuse a state that was made for another batch: engines do not resize it."""
    if not call.has(position):
        return
    state = product(call.shape(position))
    if all(isinstance(one, int) for one in (state, batch, width)) and state != batch * width:
        raise call.error(f"the state has {state} elements, not {batch}x{width}")


@rule("tflite:LSTM")
def lstm(call: Call) -> Specs:
    if call.attr("kernel_type") == "BASIC":
        batch, width = call.shape(1)
        inside = call.shape(0)[1] + width
        kept = (batch, width)
        return [(kept, None), (kept, None), ((batch, inside), None), ((batch, width * 4), None)]
    given, width = call.shape(0), _width(call, 8)
    _keeps(call, 18, given[0], width)
    return [((given[0], width), None)]


def _width(call: Call, position: int) -> Dim:
    """How wide the output is: the inputs of the recurrent weights."""
    return call.shape(position)[-1]


@rule("tflite:UNIDIRECTIONAL_SEQUENCE_LSTM")
def sequence_lstm(call: Call) -> Specs:
    given, width = call.shape(0), _width(call, 8)
    _keeps(call, 18, given[1] if call.attr("time_major") else given[0], width)
    return [((*given[:2], width), None)]


@rule("tflite:BIDIRECTIONAL_SEQUENCE_LSTM")
def two_way_lstm(call: Call) -> Specs:
    given = call.shape(0)
    batch = given[1] if call.attr("time_major", 1) else given[0]
    forward, backward = _width(call, 8), _width(call, 25)
    _keeps(call, 35, batch, forward)
    _keeps(call, 37, batch, backward)
    return _two_way(call, forward, backward)


@rule("tflite:BIDIRECTIONAL_SEQUENCE_RNN")
def two_way_rnn(call: Call) -> Specs:
    given = call.shape(0)
    batch = given[1] if call.attr("time_major") else given[0]
    forward, backward = call.shape(1)[0], call.shape(5)[0]
    _keeps(call, 4, batch, forward)
    _keeps(call, 8, batch, backward)
    return _two_way(call, forward, backward)


def _two_way(call: Call, forward: Dim, backward: Dim) -> Specs:
    steps = call.shape(0)[:2]
    if call.attr("merge_outputs"):
        return [((*steps, forward + backward), None)]
    return [((*steps, forward), None), ((*steps, backward), None)]


@rule(*names("RNN UNIDIRECTIONAL_SEQUENCE_RNN"))
def rnn(call: Call) -> Specs:
    given, units = call.shape(0), call.shape(1)[0]
    _keeps(call, 4, given[1] if call.attr("time_major") else given[0], units)
    return [((*given[:-1], units), None)]


@rule("tflite:SVDF")
def svdf(call: Call) -> Specs:
    batch, filters, memory = call.shape(0)[0], call.shape(1)[0], call.shape(2)[1]
    _keeps(call, 4, batch, filters * memory)
    return [((batch, filters // call.attr("rank")), None)]
