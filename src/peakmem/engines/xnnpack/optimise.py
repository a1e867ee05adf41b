"""What XNNPACK makes of a subgraph before it creates operators: nodes fused, split and dropped.

From src/subgraph.c (xnn_subgraph_optimize) and src/subgraph/*.c (xnn_define_*) of XNNPACK 75db3c0 (2026-08-21), without
its rewriting for FP16 inference and for sparse weights.
"""

from __future__ import annotations

import math
from dataclasses import replace

from peakmem.engines.prediction import Processor
from peakmem.engines.xnnpack.configs import better, gemm
from peakmem.engines.xnnpack.subgraph import Node, Subgraph, Value, Window
from peakmem.engines.xnnpack.work import Call, Work, fill_gaps

INF = float("inf")
CLAMPING = frozenset((
    "average_pooling_2d", "convolution_2d", "deconvolution_2d", "depthwise_convolution_2d", "fully_connected",
    "max_pooling_2d",
))  # fmt: skip
# has_clamp
EIGHT_BITS = frozenset(("qint8", "quint8"))


def defined(given: Subgraph) -> Work:
    """Nodes as xnn_define_* leaves them."""
    work = Work(given)
    for node in given.nodes:
        if node.type == "convolution_2d":
            work.define(_convolution(work, node))
        elif node.type == "depthwise_convolution_2d" and node.window is not None:
            work.define(_explicit(node, node.window))
        elif node.type == "binary" and node.clamp != (-INF, INF):
            # xnn_insert_clamp_node
            out = work.values[node.outputs[0]].value
            between = work.add_value(replace(out, external_input=False, external_output=False, key=None))
            work.define(replace(node, outputs=(between,), clamp=(-INF, INF)))
            work.define(Node("unary", (between,), node.outputs, "clamp", clamp=node.clamp, name=node.name))
        else:
            work.define(node)
    return work


def _convolution(work: Work, node: Node) -> Node:
    window = node.window or Window()
    point = window.kernel == (1, 1) == window.stride and not any(window.padding) and window.groups == 1
    if point and window.group_input_channels + window.group_output_channels > 2:
        image = work.values[node.inputs[0]]
        if image.value.datatype == "qdint8":
            image.value = replace(image.value, nonbatch=1)
        return replace(node, type="fully_connected", window=None, flags=frozenset())
    return _explicit(node, window)


def _explicit(node: Node, window: Window) -> Node:
    """TensorFlow's SAME with a stride of 1 is padding that is known."""
    if "tensorflow same padding" not in node.flags or window.stride != (1, 1):
        return node
    high, wide = ((kernel - 1) * by for kernel, by in zip(window.kernel, window.dilation, strict=True))
    padding = (high // 2, wide - wide // 2, high - high // 2, wide // 2)
    return replace(node, window=replace(window, padding=padding), flags=node.flags - {"tensorflow same padding"})


def optimise(given: Subgraph, processor: Processor, *, fuse: bool = True, inline: bool = True) -> Work:
    """The subgraph from which operators are created.

    Args:
        given: as its caller defines it.
        processor: what kernels there are decides about inputs that are quantised while it runs.
        fuse: unless XNN_FLAG_NO_OPERATOR_FUSION or XNN_FLAG_SLOW_CONSISTENT_ARITHMETIC.
        inline: unless XNN_FLAG_NO_INLINED_LHS_PACKING.
    """
    work = defined(given)
    work.clean()
    if fuse:
        _fuse(work)
        _tables(work)
        for tensor in work.values:
            tensor.fixed = tensor.fixed or tensor.value.static
        while _common(work):
            work.clean()
    if inline:
        _inline(work, processor)
    _unsigned(work, processor)
    work.analyse()
    return work


def _fuse(work: Work) -> None:
    """xnn_subgraph_fusion: padding into the convolution behind it, copies into their neighbours."""
    for at in range(len(work.values)):
        tensor = work.values[at]
        if tensor.consumers != 1 or tensor.producer < 0 or tensor.first_consumer < 0:
            continue
        maker, user = work.calls[tensor.producer], work.calls[tensor.first_consumer]
        if maker.type == "static_constant_pad" and _absorbs(work, maker, user):
            window = user.node.window or Window()
            top, right, bottom, left = window.padding
            before, after = maker.node.before, maker.node.after
            padding = (top + before[1], right + after[2], bottom + after[1], left + before[2])
            user.node = replace(user.node, window=replace(window, padding=padding))
            _skip(work, maker, user, at)
        if user.type == "copy" and tensor.internal and _free(work, user.outputs[0], tensor):
            out = user.outputs[0]
            work.values[out].producer = tensor.producer
            maker.outputs = [out if one == at else one for one in maker.outputs]
            work.remove(user)
            tensor.valid = False
        elif maker.type == "copy" and tensor.internal and _free(work, maker.inputs[0], tensor):
            _skip(work, maker, user, at)


def _absorbs(work: Work, maker: Call, user: Call) -> bool:
    before, after = maker.node.before, maker.node.after
    return (
        user.type in ("convolution_2d", "depthwise_convolution_2d")
        and len(before) == len(after) == len(work.values[maker.outputs[0]].value.shape) == 4
        and not (before[0] or after[0] or before[3] or after[3])
        and work.values[maker.outputs[0]].value.datatype in ("fp32", "qint8", "quint8")
        and "tensorflow same padding" not in user.node.flags
    )


def _skip(work: Work, maker: Call, user: Call, value: int) -> None:
    """`user` reads what `maker` reads, and `maker` goes."""
    tensor, source = work.values[value], work.values[maker.inputs[0]]
    user.inputs = [maker.inputs[0] if one == value else one for one in user.inputs]
    if source.first_consumer == tensor.producer:
        source.first_consumer = tensor.first_consumer
    work.remove(maker)
    tensor.valid = False


def _free(work: Work, value: int, between: object) -> bool:
    """can_reorder_use: no node between producer and consumer touches the value."""
    tensor = next(one for one in work.values if one is between)
    calls = work.calls[tensor.producer + 1 : tensor.first_consumer]
    return not any(value in call.inputs or value in call.outputs for call in calls)


def _tables(work: Work) -> None:
    """xnn_subgraph_fuse_unary_quantized_into_lut: chains of unary nodes from 8 bits to 8 bits become one table."""
    for start in range(len(work.calls)):
        chain: list[Call] = []
        at = start
        while len(chain) < 16 and work.calls[at].type == "unary" and len(work.calls[at].inputs) == 1:
            chain.append(work.calls[at])
            out = work.values[chain[-1].outputs[0]]
            if out.consumers != 1 or out.first_consumer < 0 or out.value.external_output:
                break
            at = out.first_consumer
        if not chain or work.values[chain[0].inputs[0]].value.datatype not in EIGHT_BITS:
            continue
        while len(chain) > 1 and work.values[chain[-1].outputs[0]].value.datatype not in EIGHT_BITS:
            chain.pop()
        if len(chain) < 2:
            continue
        last, source = chain[-1], chain[0].inputs[0]
        for call in chain[:-1]:
            work.values[call.outputs[0]].valid = False
            work.remove(call)
        table = work.add_value(Value((256,), "qint8", static=True))
        work.values[table].owned = 256 + 16
        last.node = replace(last.node, operator="lut")
        last.inputs = [source, table]


def _common(work: Work) -> int:
    """optimize_common_subgraphs_iter: how many changes."""
    changes = 0
    at = 0
    while at < len(work.calls):
        call = work.calls[at]
        if call.valid:
            _propagate(work, call)
            if call.type == "binary":
                changes += _square(work, at) or _to_clamp(work, at)
            elif call.type == "unary":
                changes += _merge_clamp(work, call)
            elif call.type == "static_reduce":
                changes += _sum_of_squares(work, at)
            elif call.type == "static_broadcast":
                changes += _broadcast(work, at)
            elif call.type in ("static_reshape", "static_expand_dims"):
                changes += _reshapes(work, at)
            elif call.type in ("fully_connected", "batch_matrix_multiply"):
                changes += _transposed(work, at)
        at += 1
    return changes


def _propagate(work: Work, call: Call) -> None:
    if call.type in ("unary", "binary") and all(work.values[one].fixed for one in call.inputs):
        work.values[call.outputs[0]].fixed = True


def _square(work: Work, at: int) -> bool:
    call = work.calls[at]
    if call.node.operator != "multiply" or call.inputs[0] != call.inputs[1]:
        return False
    work.replace(at, Node("unary", (call.inputs[0],), tuple(call.outputs), "square", name=call.node.name))
    return True


def _to_clamp(work: Work, at: int) -> bool:
    call = work.calls[at]
    if call.node.operator not in ("maximum", "minimum"):
        return False
    given, other = call.inputs
    if work.values[given].value.static and work.values[given].count == 1:
        if not (work.values[other].value.static and work.values[other].count == 1):
            given, other = other, given
    elif not (work.values[other].value.static and work.values[other].count == 1):
        return False
    if len(work.values[other].value.shape) > len(work.values[given].value.shape):
        return False
    limit = work.values[other].value.filled
    limit = 0.0 if limit is None else limit
    clamp = (-INF, limit) if call.node.operator == "minimum" else (limit, INF)
    work.replace(at, Node("unary", (given,), tuple(call.outputs), "clamp", clamp=clamp, name=call.node.name))
    return True


def _merge_clamp(work: Work, call: Call) -> int:
    if call.node.operator != "clamp":
        return 0
    tensor = work.values[call.inputs[0]]
    if tensor.consumers == 1 and tensor.producer >= 0:
        maker = work.calls[tensor.producer]
        if maker.type in CLAMPING or (maker.type == "unary" and maker.node.operator == "clamp"):
            maker.outputs[0] = call.outputs[0]
            work.values[call.outputs[0]].producer = tensor.producer
            low, high = call.node.clamp
            clamp = tuple(min(max(one, low), high) for one in maker.node.clamp)
            maker.node = replace(maker.node, clamp=(clamp[0], clamp[1]))
            work.remove(call)
            return 1
    if call.node.clamp == (-INF, INF):
        if work.short_circuit(call.inputs[0], call.outputs[0]):
            work.remove(call)
        else:
            call.node = Node("copy", tuple(call.inputs), tuple(call.outputs), name=call.node.name)
        return 1
    return 0


def _sum_of_squares(work: Work, at: int) -> bool:
    call = work.calls[at]
    tensor = work.values[call.inputs[0]]
    if (
        call.node.operator not in ("sum", "mean")
        or tensor.value.datatype not in ("fp16", "fp32")
        or tensor.producer < 0
    ):
        return False
    maker = work.calls[tensor.producer]
    if maker.type != "unary" or maker.node.operator != "square":
        return False
    node = replace(call.node, operator=f"{call.node.operator}_squared", inputs=(maker.inputs[0],))
    work.replace(at, replace(node, outputs=tuple(call.outputs)))
    return True


def _broadcast(work: Work, at: int) -> bool:
    call = work.calls[at]
    given, result = call.inputs[0], call.outputs[0]
    left = work.values[result].value.external_output
    changed = False
    for user in work.calls:
        if result not in user.inputs:
            continue
        if user.type in ("binary", "batch_matrix_multiply"):
            user.inputs = [given if one == result else one for one in user.inputs]
            changed = True
        else:
            left = True
    if left:
        out = work.values[result].value
        zero = work.add_value(replace(out, static=True, external_input=False, external_output=False, key=None))
        work.values[zero].owned = work.values[zero].nbytes + 16
        work.replace(at, Node("binary", (given, zero), (result,), "add", name=call.node.name))
        return True
    return changed


def _reshapes(work: Work, at: int) -> int:
    call = work.calls[at]
    given, result = call.inputs[0], call.outputs[0]
    if call.type == "static_reshape":
        if not math.prod(call.node.shape):
            return 0
        work.values[result].fixed = True
    changes = 0
    tensor = work.values[given]
    if tensor.producer >= 0 and tensor.consumers == 1:
        maker = work.calls[tensor.producer]
        if maker.type == "static_reshape" and call.type == "static_reshape":
            if maker.inputs:
                call.inputs = list(maker.inputs)
                work.remove(maker)
                changes += 1
        elif maker.type == "static_expand_dims" and call.type == "static_reshape":
            call.inputs = list(maker.inputs)
            work.remove(maker)
            changes += 1
        elif maker.type == "static_reshape" and call.type == "static_expand_dims":
            maker.outputs = list(call.outputs)
            work.values[call.outputs[0]].producer = tensor.producer
            shape = work.values[call.outputs[0]].value.shape
            maker.node = replace(maker.node, shape=shape)
            work.remove(call)
            return 1
        given = call.inputs[0]
        tensor = work.values[given]
        if changes and tensor.first_consumer >= 0 and not work.calls[tensor.first_consumer].valid:
            tensor.first_consumer = at
    if not tensor.fixed or tensor.consumers > 1 or work.values[result].value.external_output:
        return changes
    if call.type == "static_reshape":
        shape = fill_gaps(tensor.count, call.node.shape)
    else:
        shape = work.values[result].value.shape
    if tensor.value.static:
        work.reshape(given, shape)
    elif shape != tensor.value.shape:
        return changes
    changes += work.short_circuit(given, result)
    work.remove(call)
    return changes


def _transposed(work: Work, at: int) -> bool:
    """optimize_common_subgraphs_gemm_rhs_transpose, where only the last two dimensions change places."""
    call = work.calls[at]
    weights = work.values[call.inputs[1]]
    if weights.producer < 0 or weights.consumers != 1:
        return False
    maker = work.calls[weights.producer]
    axes = maker.node.axes
    if maker.type != "static_transpose" or len(axes) < 2:
        return False
    if axes != (*range(len(axes) - 2), len(axes) - 1, len(axes) - 2):
        return False
    call.inputs[1] = maker.inputs[0]
    call.node = replace(call.node, flags=call.node.flags ^ {"transpose weights"})
    return True


def _inline(work: Work, processor: Processor) -> None:
    """xnn_subgraph_optimize_packed_lhs: products quantise their input themselves, without a node before them."""
    work.analyse()
    changed = False
    for call in work.calls:
        if call.type not in ("fully_connected", "batch_matrix_multiply"):
            continue
        image, filters = work.values[call.inputs[0]], work.values[call.inputs[1]]
        if image.value.datatype != "qdint8" or image.producer < 0:
            continue
        maker = work.calls[image.producer]
        if not maker.inputs:
            continue
        source = maker.inputs[0]
        unsigned = _better_unsigned(work.values[source].value.datatype, call.type, filters.value.datatype, processor)
        call.inputs[0] = source
        call.assumed = "qduint8" if unsigned else "qdint8"
        image.consumers -= 1
        if not image.consumers:
            work.remove(maker)
        changed = True
    if changed:
        work.clean()


def _unsigned(work: Work, processor: Processor) -> None:
    """The second loop of xnn_subgraph_optimize_packed_lhs: unsigned where those kernels are of a later level."""
    for call in work.calls:
        if call.type != "unary" or call.node.operator != "convert":
            continue
        out = work.values[call.outputs[0]]
        if out.value.datatype != "qdint8" or out.first_consumer < 0:
            continue
        users = [one for one in work.calls if call.outputs[0] in one.inputs]
        if len({one.type for one in users}) != 1:
            continue
        filters = work.values[users[0].inputs[1]].value.datatype
        if _better_unsigned(work.values[call.inputs[0]].value.datatype, users[0].type, filters, processor):
            out.value = replace(out.value, datatype="qduint8")


def _better_unsigned(image: str, kind: str, filters: str, processor: Processor) -> bool:
    """convert_gemm_to_qduint8."""
    activations = {"fp32": "f32", "fp16": "f16"}.get(image)
    weights = {"qcint8": "qc8w", "qcint4": "qc4w", "qbint4": "qb4w"}.get(filters)
    if activations is None or weights is None:
        return False
    signed = gemm(f"qd8-{activations}-{weights}", processor)
    name = f"qdu8-{activations}-{weights}"
    if name == "qdu8-f32-qc8w":
        name += " igemm" if kind in ("convolution_2d", "deconvolution_2d") else " gemm"
    other = gemm(name, processor)
    return other is not None and (signed is None or better(other, signed))
