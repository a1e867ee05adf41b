"""Shape rules of signal processing: Fourier transforms and their windows."""

from __future__ import annotations

from peakmem.dtypes import FLOAT32
from peakmem.ir.dims import Dim
from peakmem.ir.shapes.call import Call, Specs, rule


@rule("HannWindow", "HammingWindow", "BlackmanWindow")
def window(call: Call) -> Specs:
    size = call.value(0)
    return [((size[0] if size else call.unknown_dim(0),), call.dtype_attr("output_datatype", FLOAT32))]


@rule("MelWeightMatrix")
def mel_weight_matrix(call: Call) -> Specs:
    bands, length = call.value(0), call.value(1)
    rows: Dim = length[0] // 2 + 1 if length else call.unknown_dim(0)
    columns: Dim = bands[0] if bands else call.unknown_dim(1)
    return [((rows, columns), call.dtype_attr("output_datatype", FLOAT32))]


@rule("DFT")
def fourier(call: Call) -> Specs:
    dims = list(call.shape())
    one_sided, inverse = bool(call.attr("onesided", 0)), bool(call.attr("inverse", 0))
    late = call.value(2) if call.has(2) else (-2,)
    if call.opset >= 20 and late is None:
        return [((*call.unknown_shape(len(dims))[:-1], 1 if one_sided and inverse else 2), call.dtype())]
    axis = call.axis(call.attr("axis", 1) if call.opset < 20 or late is None else late[0], len(dims))
    length: Dim = dims[axis]
    if call.has(1):
        value = call.value(1)
        length = value[0] if value else call.unknown_dim(axis)
    elif one_sided and inverse:
        length = (length - 1) * 2
    dims[axis] = length // 2 + 1 if one_sided and not inverse else length
    dims[-1] = 1 if one_sided and inverse else 2
    return [(tuple(dims), call.dtype())]


@rule("STFT")
def short_time_fourier(call: Call) -> Specs:
    signal = call.shape()
    batch, samples = signal[0], signal[1]
    length: Dim = samples
    if call.has(3):
        given = call.value(3)
        length = given[0] if given else (call.shape(2)[0] if call.has(2) else call.unknown_dim(2))
    elif call.has(2):
        length = call.shape(2)[0]
    step = call.value(1)
    frames: Dim = (samples - length) // step[0] + 1 if step else call.unknown_dim(1)
    bins = length // 2 + 1 if call.attr("onesided", 1) else length
    return [((batch, frames, bins, 2), call.dtype())]
