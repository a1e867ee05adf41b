"""Shape rules of reductions, searches and selections."""

from __future__ import annotations

from peakmem.ir.shapes.call import Call, Specs, rule
from peakmem.ir.shapes.tflite.elementwise import names


@rule(*names("MEAN SUM REDUCE_PROD REDUCE_MAX REDUCE_MIN REDUCE_ANY REDUCE_ALL"))
def reduce(call: Call) -> Specs:
    given, keep = call.shape(), bool(call.attr("keepdims", 0))
    axes = call.value(1)
    if axes is None:
        if keep:
            return [(call.unknown_shape(len(given)), None)]
        axes = call.known(1)
    gone = {call.axis(axis, len(given)) for axis in axes} if given else set()
    return [(tuple(1 if axis in gone else dim for axis, dim in enumerate(given) if keep or axis not in gone), None)]


@rule(*names("ARG_MAX ARG_MIN"))
def arg(call: Call) -> Specs:
    given = call.shape()
    at = call.axis(call.known(1)[0], len(given))
    return [((*given[:at], *given[at + 1 :]), None)]


@rule("tflite:TOPK_V2")
def top_k(call: Call) -> Specs:
    given, many = call.shape(), call.value(1)
    shape = (*given[:-1], many[0] if many else call.unknown_dim(len(given) - 1))
    return [(shape, None), (shape, None)]


@rule("tflite:WHERE")
def where(call: Call) -> Specs:
    return [((call.unknown_dim(0), len(call.shape())), None)]


@rule("tflite:UNIQUE")
def unique(call: Call) -> Specs:
    return [((call.unknown_dim(0),), None), (call.shape(), None)]


@rule("tflite:NON_MAX_SUPPRESSION_V4")
def suppression(call: Call) -> Specs:
    many = call.value(2)
    return [((many[0] if many else call.unknown_dim(0),), None), ((), None)]


@rule("tflite:NON_MAX_SUPPRESSION_V5")
def suppression_scores(call: Call) -> Specs:
    many = call.value(2)
    chosen = (many[0],) if many else (call.unknown_dim(0),)
    return [(chosen, None), (chosen, None), ((), None)]


@rule("tflite:SEGMENT_SUM")
def segment_sum(call: Call) -> Specs:
    given, segments = call.shape(0), call.value(1)
    return [((segments[-1] + 1 if segments else call.unknown_dim(0), *given[1:]), None)]


@rule(*names("UNSORTED_SEGMENT_SUM UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN"))
def unsorted_segment(call: Call) -> Specs:
    given, segments, many = call.shape(0), call.shape(1), call.value(2)
    return [((many[0] if many else call.unknown_dim(0), *given[len(segments) :]), None)]
