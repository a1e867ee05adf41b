"""Convolutions and pools: torch pads both sides alike, ONNX each as it likes, so what differs is padded before."""

from __future__ import annotations

import math

from peakmem.conversion.torch_source.names import literal, short
from peakmem.conversion.torch_source.writer import Call, Refused, rule


def _given(call: Call, name: str, spatial: int, default: int) -> tuple[int, ...]:
    values = call.ints_attr(name) or (default,) * spatial
    if len(values) != spatial:
        raise Refused(f"{name} of {len(values)} numbers")
    return values


def _pads(
    call: Call, sizes: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(in front, behind) of each spatial axis."""
    mode, spatial = call.text("auto_pad", "NOTSET"), len(sizes)
    if mode in ("NOTSET", ""):
        pads = call.ints_attr("pads") or (0,) * (2 * spatial)
        return pads[:spatial], pads[spatial:]
    if mode == "VALID":
        return (0,) * spatial, (0,) * spatial
    front, behind = [], []
    for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size)
        small = total // 2
        front.append(small if mode == "SAME_UPPER" else total - small)
        behind.append(total - front[-1])
    return tuple(front), tuple(behind)


def _padded(x: str, front: tuple[int, ...], behind: tuple[int, ...], value: str = "") -> str:
    """`x` with its last axes padded; F.pad counts axes from the last."""
    if not any((*front, *behind)):
        return x
    pads = [pad for pair in zip(reversed(front), reversed(behind), strict=True) for pad in pair]
    return f"F.pad({x}, {literal(tuple(pads))}{f', value={value}' if value else ''})"


@rule("Conv", "com.microsoft:FusedConv")
def conv(call: Call) -> str:
    call.only()
    if call.has(3):
        raise Refused("with a summand")
    sizes, weight = call.shape()[2:], call.shape(1)
    spatial, kernel = len(sizes), weight[2:]
    if not 1 <= spatial <= 3:
        raise Refused(f"{spatial} spatial dimensions")
    strides, dilations = _given(call, "strides", spatial, 1), _given(call, "dilations", spatial, 1)
    front, behind = _pads(call, sizes, kernel, strides, dilations)
    group, x, padding = int(call.attr("group", 1)), call.read(), (0,) * spatial
    if front == behind and min(front) >= 0:
        padding = front
    else:
        x = _padded(x, front, behind)
    rest = "".join(
        f", {name}={short(values)}"
        for name, values, usual in (("stride", strides, 1), ("padding", padding, 0), ("dilation", dilations, 1))
        if set(values) != {usual}
    )
    rest += f", groups={group}" if group != 1 else ""
    if not call.own(1, 2) or (call.has(2) and call.shape(2) != weight[:1]):
        bias = f", bias={call.read(2)}" if call.has(2) else ""
        return _activated(call, f"F.conv{spatial}d({x}, {call.read(1)}{bias}{rest})")
    code = f"nn.Conv{spatial}d({weight[1] * group}, {weight[0]}, {short(kernel)}{rest}"
    code += ("" if call.has(2) else ", bias=False") + call.writer.typed(call.input(1)) + ")"
    held = [("weight", 1, None), *([("bias", 2, None)] if call.has(2) else [])]
    return _activated(call, f"{call.layer(code, *held)}({x})")


def _activated(call: Call, y: str) -> str:
    """What ONNX Runtime's fused convolution does with its result."""
    if not call.operator.domain:
        return y
    kind, given = call.text("activation", ""), [float(value) for value in call.attr("activation_params", ())]
    if kind in ("", "Relu", "Sigmoid", "Tanh"):
        return f"torch.{kind.lower()}({y})" if kind else y
    if kind == "LeakyRelu" and given:
        return f"F.leaky_relu({y}, {literal(given[0])})"
    if kind == "Clip" and len(given) == 2:
        return f"torch.clamp({y}, {literal(given[0])}, {literal(given[1])})"
    raise Refused("its activation")


@rule("ConvTranspose")
def conv_transpose(call: Call) -> str:
    sizes, weight = call.shape()[2:], call.shape(1)
    spatial, kernel = len(sizes), weight[2:]
    if not 1 <= spatial <= 3:
        raise Refused(f"{spatial} spatial dimensions")
    strides, dilations = _given(call, "strides", spatial, 1), _given(call, "dilations", spatial, 1)
    extra = _given(call, "output_padding", spatial, 0)
    group, made = int(call.attr("group", 1)), call.out_shape()[2:]
    mode, told = call.text("auto_pad", "NOTSET"), call.ints_attr("output_shape")
    full = tuple(
        (size - 1) * stride + (window - 1) * dilation + 1 + more
        for size, stride, window, dilation, more in zip(sizes, strides, kernel, dilations, extra, strict=True)
    )
    if told is None and mode in ("NOTSET", "", "VALID"):
        pads = (call.ints_attr("pads") or (0,) * (2 * spatial)) if mode != "VALID" else (0,) * (2 * spatial)
        front, behind = pads[:spatial], pads[spatial:]
    else:
        totals = [have - want for have, want in zip(full, made, strict=True)]
        half = tuple(total // 2 for total in totals)
        other = tuple(total - small for total, small in zip(totals, half, strict=True))
        front, behind = (half, other) if mode == "SAME_UPPER" else (other, half)
    padding, cut = (0,) * spatial, (front, behind)
    if front == behind and min(front) >= 0:
        padding, cut = front, ((0,) * spatial, (0,) * spatial)
    rest = "".join(
        f", {name}={short(values)}"
        for name, values, usual in (
            ("stride", strides, 1), ("padding", padding, 0), ("output_padding", extra, 0), ("dilation", dilations, 1)
        )
        if set(values) != {usual}
    )  # fmt: skip
    rest += f", groups={group}" if group != 1 else ""
    if call.own(1, 2):
        code = f"nn.ConvTranspose{spatial}d({weight[0]}, {weight[1] * group}, {short(kernel)}{rest}"
        code += ("" if call.has(2) else ", bias=False") + call.writer.typed(call.input(1)) + ")"
        held = [("weight", 1, None), *([("bias", 2, None)] if call.has(2) else [])]
        y = f"{call.layer(code, *held)}({call.read()})"
    else:
        bias = f", bias={call.read(2)}" if call.has(2) else ""
        y = f"F.conv_transpose{spatial}d({call.read()}, {call.read(1)}{bias}{rest})"
    return _padded(y, tuple(-pad for pad in cut[0]), tuple(-pad for pad in cut[1]))


def _pool(call: Call) -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...], list[int], list[int], bool]:
    """(axes, kernel, strides, dilations, front, behind, rounds up); `behind` covers the last window of the result."""
    sizes, made = call.shape()[2:], call.out_shape()[2:]
    spatial = len(sizes)
    if not 1 <= spatial <= 3:
        raise Refused(f"{spatial} spatial dimensions")
    kernel = call.ints_attr("kernel_shape") or ()
    strides, dilations = _given(call, "strides", spatial, 1), _given(call, "dilations", spatial, 1)
    if len(kernel) != spatial:
        raise Refused(f"kernel_shape of {len(kernel)} numbers")
    front, behind = _pads(call, sizes, kernel, strides, dilations)
    reach = [
        (count - 1) * stride + (window - 1) * dilation + 1 - size - before
        for count, stride, window, dilation, size, before in zip(
            made, strides, kernel, dilations, sizes, front, strict=True
        )
    ]
    over = any(need > have for need, have in zip(reach, behind, strict=True))
    return spatial, kernel, strides, dilations, list(front), [*map(max, reach, behind)] if over else list(behind), over


@rule("MaxPool")
def max_pool(call: Call) -> str:
    call.only()
    spatial, kernel, strides, dilations, front, behind, _ = _pool(call)
    x, padding = call.read(), ""
    if front == behind and all(0 <= pad <= window // 2 for pad, window in zip(front, kernel, strict=True)):
        padding = f", padding={short(tuple(front))}" if any(front) else ""
    elif call.kind() == "float":
        x = _padded(x, tuple(front), tuple(behind), "-math.inf")
    else:
        raise Refused("padded integers")
    dilation = f", dilation={short(dilations)}" if set(dilations) != {1} else ""
    return f"F.max_pool{spatial}d({x}, {short(kernel)}, {short(strides)}{padding}{dilation})"


@rule("AveragePool")
def average_pool(call: Call) -> str:
    spatial, kernel, strides, dilations, front, behind, over = _pool(call)
    if set(dilations) != {1}:
        raise Refused("with dilations")
    x, counted = call.read(), bool(call.attr("count_include_pad", 0))
    window = f"{short(kernel)}, {short(strides)}"
    fits = all(0 <= pad <= size // 2 for pad, size in zip(front, kernel, strict=True))
    if front == behind and fits and not over:
        padding = f", padding={short(tuple(front))}" if any(front) else ""
        only = ", count_include_pad=False" if any(front) and not counted else ""
        return f"F.avg_pool{spatial}d({x}, {window}{padding}{only})"
    padded = _padded(x, tuple(front), tuple(behind))
    if counted and not over:
        return f"F.avg_pool{spatial}d({padded}, {window})"
    scale = _shares(call, kernel, strides, front, counted)
    return f"F.avg_pool{spatial}d({padded}, {window}) * {scale}"


def _shares(call: Call, kernel: tuple[int, ...], strides: tuple[int, ...], front: list[int], counted: bool) -> str:
    """A table of window size over counted elements for each place of the result, one axis after the other.

    What is beyond a pad on the right that the operator names is never counted.
    """
    sizes, made = call.shape()[2:], call.out_shape()[2:]
    named = call.ints_attr("pads") or (0,) * (2 * len(sizes))
    if counted and call.text("auto_pad", "NOTSET") not in ("NOTSET", ""):
        raise Refused("auto_pad that counts its pads and rounds up")
    factors = []
    for axis, (size, count, window, stride) in enumerate(zip(sizes, made, kernel, strides, strict=True)):
        low, high = (-front[axis], size + named[len(sizes) + axis]) if counted else (0, size)
        row = []
        for at in range(count):
            start = at * stride - front[axis]
            row.append(window / max(1, min(start + window, high) - max(start, low)))
        shape = tuple(count if other == axis else 1 for other in range(len(sizes)))
        factors.append(call.writer.table(f"{call.name}_shares_{axis}", row, shape, call.dtype()))
    return " * ".join(factors)


@rule("GlobalAveragePool")
def global_average_pool(call: Call) -> str:
    spatial = call.rank() - 2
    if 1 <= spatial <= 3:
        return f"F.adaptive_avg_pool{spatial}d({call.read()}, 1)"
    return f"{call.read()}.mean({literal(tuple(range(2, spatial + 2)))}, keepdim=True)"


@rule("GlobalMaxPool")
def global_max_pool(call: Call) -> str:
    return f"{call.read()}.amax({literal(tuple(range(2, call.rank())))}, keepdim=True)"


@rule("LpPool", "GlobalLpPool")
def lp_pool(call: Call) -> str:
    p = float(call.attr("p", 2))
    if call.operator.op_type == "GlobalLpPool":
        axes = literal(tuple(range(2, call.rank())))
        return f"torch.linalg.vector_norm({call.read()}, {literal(p)}, {axes}, keepdim=True)"
    spatial, kernel, strides, dilations, front, behind, _ = _pool(call)
    if set(dilations) != {1}:
        raise Refused("with dilations")
    x = _padded(call.read(), tuple(front), tuple(behind))
    power = f"{x}.abs().pow({literal(p)})"
    return f"(F.avg_pool{spatial}d({power}, {short(kernel)}, {short(strides)}) * {math.prod(kernel)}).pow({literal(1 / p)})"  # fmt: skip  # noqa: E501


@rule("LRN")
def lrn(call: Call) -> str:
    size = int(call.attr("size", 1))
    if size % 2 == 0:
        raise Refused("an even size, which torch centres elsewhere")
    alpha, beta = float(call.attr("alpha", 1e-4)), float(call.attr("beta", 0.75))
    bias = float(call.attr("bias", 1.0))
    return f"F.local_response_norm({call.read()}, {size}, {literal(alpha)}, {literal(beta)}, {literal(bias)})"
