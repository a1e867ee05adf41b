"""Normalizations in training mode (derivatives.yaml and the sources named at each, PyTorch 2.13)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from peakmem.dtypes import FLOAT32, UINT8, DType
from peakmem.training.saved import movement, pointwise
from peakmem.training.saved.eager import Dims, Eager, Value
from peakmem.training.saved.kernels import took


def batch_norm(e: Eager, x: Value, weight: Value | None, bias: Value | None, channels: int) -> Value:
    """Batch statistics: the input, its mean and 1/deviation are kept (native_batch_norm)."""
    name = "aten::cudnn_batch_norm" if e.device == "cuda" else "aten::native_batch_norm"
    return _statistics(e, name, x, weight, bias, (channels,))


def layer_norm(e: Eager, x: Value, weight: Value | None, bias: Value | None, axes: int) -> Value:
    """Statistics of each row, over the last `axes` dimensions (native_layer_norm)."""
    rank = len(x.shape)
    return _statistics(
        e, "aten::native_layer_norm", _contiguous(e, x), weight, bias, (*x.shape[: rank - axes], *(1,) * axes)
    )


def group_norm(e: Eager, x: Value, weight: Value | None, bias: Value | None, groups: int) -> Value:
    """Statistics of each group of each sample (native_group_norm)."""
    return _statistics(e, "aten::native_group_norm", _contiguous(e, x), weight, bias, (x.shape[0], groups))


def instance_norm(e: Eager, x: Value, weight: Value | None, bias: Value | None) -> Value:
    """A batch norm over (1, batch · channels), its weight and bias repeated (Normalization.cpp, `instance_norm`)."""
    batch, channels = x.shape[:2]
    repeated = [movement.repeat(e, value, batch) if value is not None else None for value in (weight, bias)]
    flat = movement.reshape(e, x, (1, batch * channels, *x.shape[2:]))
    y = batch_norm(e, flat, repeated[0], repeated[1], batch * channels)
    return movement.reshape(e, y, x.shape)


def rms_norm(e: Eager, x: Value, weight: Value | None, axes: int = 1, *, written: bool = False) -> Value:
    """The root mean square of each row; written out on the processor (layer_norm.cpp, `rms_norm_composite`).

    `written`: by the code itself, as transformers has it, in float32 up to the product with the weight.
    """
    shape = (*x.shape[: len(x.shape) - axes], *(1,) * axes)
    if e.device == "cuda" and not written:
        return _statistics(e, "aten::_fused_rms_norm", x, weight, None, shape, one=True)
    given = x if x.dtype.bits == 32 else pointwise.cast(e, x, FLOAT32)
    squares = pointwise.power(e, given)
    root = pointwise.unary(e, "Rsqrt", movement.mean(e, squares, shape))
    del squares
    y = pointwise.mul(e, given, root)
    if written:
        y = pointwise.cast(e, y, x.dtype)
    if weight is not None:
        y = pointwise.mul(e, y, weight)
    return pointwise.cast(e, y, x.dtype)


def local_response(e: Eager, x: Value, size: int) -> Value:
    """x / (k + alpha · mean of its neighbours' squares) ** beta (torch/nn/functional.py, `local_response_norm`)."""
    from peakmem.training.saved import windows

    batch, channels, *image = x.shape
    squares = pointwise.mul(e, x, x)
    flat = movement.reshape(e, squares, (batch, 1, channels, image[0], prod(image[1:])))
    flat = windows.pad(e, flat, (batch, 1, channels + size - 1, image[0], prod(image[1:])), "constant")
    flat = windows.average_pool(e, flat, (batch, 1, channels, image[0], prod(image[1:])), 3)
    divisor = movement.reshape(e, flat, x.shape)
    del squares, flat
    divisor = pointwise.unary(e, "Scale", divisor)
    divisor = pointwise.unary(e, "Shift", divisor)
    divisor = pointwise.power(e, divisor)
    return pointwise.div(e, x, divisor)


def _contiguous(e: Eager, x: Value) -> Value:
    return x if x.is_contiguous or len(x.shape) < 2 else movement.clone(e, x)


def _statistics(
    e: Eager, name: str, x: Value, weight: Value | None, bias: Value | None, shape: Dims, *, one: bool = False
) -> Value:
    """A norm that keeps its input, its weight and one or two statistics of `shape`, which are float32 at least."""
    y = e.like(x, name)
    wide: DType = x.dtype if (x.dtype.bits or 0) >= 32 else FLOAT32
    narrow = e.device == "cpu"
    if narrow and (weight is None or weight.dtype is x.dtype):
        wide = x.dtype  # Normalization.cpp, layer_norm.cpp: the statistics are as wide as the weights
    made = [e.new(shape, wide, name) for _ in range(1 if one else 2)]
    if name == "aten::cudnn_batch_norm":
        made.append(e.new((0,), UINT8, name))  # the reserve space, empty outside of channels-last
    took(e, name, (x, weight, bias), [y, *made])
    if e.wants(x, weight, bias):
        kept = [e.keep(value) for value in (x, weight, *made) if value is not None]
        wants = tuple(value is not None and value.wants for value in (x, weight, bias))
        shapes = tuple((value.shape, value.dtype) if value is not None else None for value in (x, weight, bias))

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            held = [saved.get() for saved in kept]
            found: list[Value | None] = [
                e.new(item[0], item[1], f"{name}_backward") if wanted and item is not None else None
                for wanted, item in zip(wants, shapes, strict=True)
            ]
            took(e, f"{name}_backward", (given[0], *_asked(name, held, shape), wants), found)
            del held
            return found

        del made
        e.link(name, [x, weight, bias], [y], run)
    return y


def _asked(name: str, held: Sequence[Value], shape: Dims) -> list[object]:
    """What was kept, in the order in which a norm's backward is called."""
    if len(held) < 4:
        return list(held)
    x, weight, mean, deviation = held[:4]
    if name == "aten::native_batch_norm":
        return [x, weight, None, None, mean, deviation, True, 1e-5]
    if name == "aten::native_layer_norm":
        return [
            x,
            [size for size, kept in zip(x.shape, shape, strict=True) if size != kept],
            mean,
            deviation,
            weight,
            None,
        ]
    if name == "aten::native_group_norm":
        return [x, mean, deviation, weight, x.shape[0], x.shape[1], prod(x.shape[2:]), shape[1]]
    return list(held)
