"""Shape rules of Keras layers that run over time."""

from __future__ import annotations

from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.shapes.call import Call, Spec, Specs, rule
from peakmem.ir.shapes.windows import slide


@rule("keras:LSTM", "keras:GRU", "keras:SimpleRNN", "keras:RNN")
def recurrent(call: Call) -> Specs:
    given = call.shape()
    if len(given) != 3:
        raise call.error(f"an input of rank {len(given)} is no sequence of vectors")
    inside, features = call.shape(1)[0], given[-1]
    if isinstance(inside, int) and isinstance(features, int) and inside != features:
        raise call.error(f"the kernel takes {inside} features, the input has {features}")
    dtype = call.dtype_attr("dtype", call.dtype())
    units = call.attr("hidden_size")
    first: Shape = (given[0], given[1], units) if call.attr("return_sequences", 0) else (given[0], units)
    states: list[Spec] = [((given[0], size), dtype) for size in call.attr("state_sizes", ())]
    return [(first, dtype), *(states if call.attr("return_state", 0) else [])]


@rule("keras:ConvLSTM1D", "keras:ConvLSTM2D", "keras:ConvLSTM3D")
def conv_lstm(call: Call) -> Specs:
    given = call.shape()
    ahead = call.attr("data_format") == "channels_first"
    kernel = call.shape(1)[:-2]
    if len(given) != len(kernel) + 3:
        raise call.error(f"an input of rank {len(given)} and a kernel over {len(kernel)} axes do not go together")
    sizes = slide(call, given[3:] if ahead else given[2:-1], kernel)
    filters: Dim = call.attr("hidden_size")
    step: Shape = (filters, *sizes) if ahead else (*sizes, filters)
    first: Shape = (given[0], given[1], *step) if call.attr("return_sequences", 0) else (given[0], *step)
    state: Spec = ((given[0], *step), call.dtype())
    return [(first, call.dtype()), *([state, state] if call.attr("return_state", 0) else [])]


@rule("keras:TimeDistributed")
def over_time(call: Call) -> Specs:
    given = call.shape()
    if call.attr("fold", 0):
        if len(given) < 3:
            raise call.error("there is no time axis")
        return [((given[0] * given[1], *given[2:]), call.dtype())]
    steps: Dim = call.attr("steps") if call.attr("steps") is not None else call.shape(1)[1]
    rows = given[0]
    batch = rows // steps if isinstance(steps, Symbol) or steps else rows
    if isinstance(rows, Symbol) and rows.name.endswith(f"*{steps})") and rows.name.startswith("("):
        batch = Symbol(rows.name[1 : -len(f"*{steps})")])
    return [((batch, steps, *given[1:]), call.dtype())]
