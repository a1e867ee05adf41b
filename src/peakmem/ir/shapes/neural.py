"""Shape rules of the other layers of neural networks: normalization, recurrence, losses."""

from __future__ import annotations

from peakmem.dtypes import BOOL, FLOAT32
from peakmem.ir.dims import Shape
from peakmem.ir.shapes.call import Call, Specs, rule


@rule("BatchNormalization")
def batch_norm(call: Call) -> Specs:
    count = len(call.op.outputs)
    if count == 1:
        return [(call.shape(), call.dtype())]
    # From operator set 15 on the statistics have a type of their own.
    statistics = (call.shape(3), call.dtype(3 if call.opset >= 14 else 1))
    return [(call.shape(), call.dtype()), *[statistics] * (count - 1)]


@rule(
    "InstanceNormalization", "GroupNormalization", "LpNormalization", "MeanVarianceNormalization", "LRN",
    "RMSNormalization",
)  # fmt: skip
def normalization(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("LayerNormalization", "SimplifiedLayerNormalization")
def layer_norm(call: Call) -> Specs:
    shape = call.shape()
    if len(call.op.outputs) == 1:
        return [(shape, call.dtype())]
    axis = call.axis(call.attr("axis", -1), len(shape))
    statistics: Shape = (*shape[:axis], *([1] * (len(shape) - axis)))
    stash = call.dtype_attr("stash_type", FLOAT32)
    return [(shape, call.dtype()), (statistics, stash), (statistics, stash)]


@rule("LSTM", "GRU", "RNN")
def recurrent(call: Call) -> Specs:
    sequence, recurrence = call.shape(0), call.shape(2)
    directions, hidden = recurrence[0], call.attr("hidden_size") or recurrence[2]
    if call.attr("layout", 0):
        batch, length = sequence[0], sequence[1]
        every: Shape = (batch, length, directions, hidden)
        last: Shape = (batch, directions, hidden)
    else:
        length, batch = sequence[0], sequence[1]
        every, last = (length, directions, batch, hidden), (directions, batch, hidden)
    dtype = call.dtype()
    return [(every, dtype), (last, dtype), (last, dtype)]


@rule("Dropout")
def dropout(call: Call) -> Specs:
    shape = call.shape()
    # The mask was of the data's type before operator set 10.
    return [(shape, call.dtype()), (shape, BOOL if call.opset >= 10 else call.dtype())]


@rule("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
def loss(call: Call) -> Specs:
    total: Shape = call.shape(1) if call.attr("reduction", "mean") == "none" else ()
    if len(call.op.outputs) == 1:
        return [(total, call.dtype())]
    return [(total, call.dtype()), (call.shape(0), call.dtype())]
