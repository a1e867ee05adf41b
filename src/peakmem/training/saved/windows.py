"""Convolutions, poolings, resizing and padding (derivatives.yaml, PyTorch 2.13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peakmem.dtypes import INT64
from peakmem.training.saved.eager import Dims, Eager, Value
from peakmem.training.saved.kernels import took


@dataclass(frozen=True, slots=True)
class Window:
    """How a convolution moves, as ATen is told."""

    strides: Dims = (1, 1)
    pads: Dims = (0, 0)
    dilations: Dims = (1, 1)
    transposed: bool = False
    extra: Dims = (0, 0)
    groups: int = 1


def convolution(e: Eager, x: Value, weight: Value, bias: Value | None, shape: Dims, window: Window) -> Value:
    """A convolution, transposed or not: input and weight are kept whichever of them wants a gradient.

    The three gradients come from one formula, so that code generation cannot tell which of the two is needed
    (gen_variable_type.py, `guard_for`).
    """
    y = e.new(shape, x.dtype, "aten::convolution")
    how = (window.strides, window.pads, window.dilations, window.transposed, window.extra, window.groups)
    took(e, "aten::convolution", (x, weight, bias, *how), y)
    if e.wants(x, weight, bias):
        kept = e.keep(x), e.keep(weight)
        wants = tuple(value is not None and value.wants for value in (x, weight, bias))
        bias_shape = bias.shape if bias is not None else ()

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            held = [saved.get() for saved in kept]
            name = "aten::convolution_backward"
            found: list[Value | None] = [
                e.like(value, name) if wanted else None for value, wanted in zip(held, wants[:2], strict=True)
            ]
            found.append(e.new(bias_shape, held[1].dtype, name) if wants[2] else None)
            took(e, name, (given[0], *held, bias_shape or None, *how, wants), found)
            del held
            return found

        e.link("aten::convolution", [x, weight, bias], [y], run)
    return y


def max_pool(e: Eager, x: Value, shape: Dims, rank: int = 2) -> Value:
    """A maximum pooling: input and 64-bit indices are kept."""
    name = f"aten::max_pool{max(rank, 2)}d_with_indices"
    y = e.new(shape, x.dtype, name)
    indices = e.new(shape, INT64, name)
    took(e, name, (x,), [y, indices])
    if e.wants(x):
        _linked(e, name, x, y, [x, indices])
    return y


def average_pool(e: Eager, x: Value, shape: Dims, rank: int = 2) -> Value:
    """An average pooling: its formula asks for the input, if only for its shape."""
    name = f"aten::avg_pool{rank}d"
    y = e.new(shape, x.dtype, name)
    if e.wants(x):
        _linked(e, name, x, y, [x])
    return y


def adaptive_pool(e: Eager, x: Value, shape: Dims, rank: int = 2) -> Value:
    """An adaptive average pooling to more than one element: the input is kept."""
    name = f"aten::_adaptive_avg_pool{rank}d"
    y = e.new(shape, x.dtype, name)
    if e.wants(x):
        _linked(e, name, x, y, [x])
    return y


def resize(e: Eager, x: Value, shape: Dims, name: str) -> Value:
    """Nearest, linear or cubic interpolation: only sizes are kept."""
    y = e.new(shape, x.dtype, name)
    if e.wants(x):
        _linked(e, name, x, y, [])
    return y


def pad(e: Eager, x: Value, shape: Dims, mode: str) -> Value:
    """A border: of a constant nothing is kept, of a reflection or an edge the input."""
    constant = mode == "constant"
    name = (
        "aten::constant_pad_nd"
        if constant
        else "aten::reflection_pad"
        if mode == "reflect"
        else "aten::replication_pad"
    )
    y = e.new(shape, x.dtype, name)
    if e.wants(x):
        _linked(e, name, x, y, [] if constant else [x])
    return y


def _linked(e: Eager, name: str, x: Value, y: Value, keeps: Sequence[Value]) -> None:
    kept = [e.keep(value) for value in keeps]
    shape, dtype = x.shape, x.dtype

    def run(given: Sequence[Value | None]) -> list[Value | None]:
        held = [saved.get() for saved in kept]
        found: list[Value | None] = [e.new(shape, dtype, f"{name}_backward")]
        took(e, f"{name}_backward", (given[0], *held), found)
        del held
        return found

    e.link(name, [x], [y], run)
