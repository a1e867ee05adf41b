"""Knobs of models in memory that are captured for one size: each value is another capture, so nothing remembers."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from peakmem.binding import bound
from peakmem.errors import UsageError
from peakmem.ir.dims import format_shape
from peakmem.ir.graph import Graph
from peakmem.pipeline import is_live, load
from peakmem.scaling.knobs import Knob, Question

_TEXT = re.compile(r"^(?:(?P<name>[A-Za-z_]\w*)=)?(?P<dims>\d+(?:[x×,]\d+)*)(?P<dtype>:[\w.]+)?$")


def captured_knob(asked: Question, given: Graph, name: str) -> Knob:
    """The knob called `name` of a model that is captured again for each of its values; `given` is one capture.

    Raises:
        UsageError: it has none of that name, or its inputs are not given as shapes.
    """
    if isinstance(asked.source, Graph) or not is_live(asked.source):
        shapes = ", ".join(f"{name} {format_shape(given.tensors[name].shape)}" for name in given.inputs)
        raise UsageError(
            f"the program was recorded for one size, so nothing in it depends on {name!r}", where=given.source,
            expected=f"a source other than one for {shapes}", hint="the model itself, which is captured anew",
        )  # fmt: skip
    source = given.name
    inputs = given.inputs

    def knob(meaning: str, usual: int, graph: Callable[[int], Graph]) -> Knob:
        return Knob(name, meaning, 1, None, usual, graph, asked.said, False, given.source, given.format, source)

    if name == "batch":
        shape = given.tensors[inputs[0]].shape if inputs else None
        usual = shape[0] if shape and isinstance(shape[0], int) else 1
        return knob(
            "the first dimension of every input", usual,
            lambda value: bound(load(asked.source, inputs=asked.inputs, batch=value)),
        )  # fmt: skip
    items = [asked.inputs] if isinstance(asked.inputs, str) else list(asked.inputs or ())  # type: ignore[call-overload]
    known: dict[str, tuple[int, tuple[int, ...]]] = {}
    for place, tensor in enumerate(inputs):
        known.update({f"{tensor}.{axis}": (place, (axis,)) for axis in range(len(given.tensors[tensor].shape or ()))})
    images = [place for place, tensor in enumerate(inputs) if len(given.tensors[tensor].shape or ()) == 4]
    if images:
        known["resolution"] = (images[0], (2, 3))
    if name not in known:
        near = get_close_matches(name, ["batch", *known], n=1, cutoff=0.5)
        raise UsageError(
            f"{source} has no size {name!r} to turn", expected=f"one of batch, {', '.join(known)}",
            hint=f"--symbolic {near[0]}" if near else "",
        )  # fmt: skip
    place, axes = known[name]
    if len(items) != len(inputs) or isinstance(asked.inputs, dict):
        raise UsageError(
            "a model in memory is captured again for each size", hint="--input with a shape for each input"
        )
    shape = given.tensors[inputs[place]].shape or ()
    usual = next((dim for axis in axes if isinstance(dim := shape[axis], int)), 1)

    def graph(value: int) -> Graph:
        changed = [_resized(item, axes, value) if at == place else item for at, item in enumerate(items)]
        return bound(load(asked.source, inputs=changed, batch=asked.batch))

    sides = "rows and columns" if len(axes) == 2 else f"axis {axes[0]}"
    return knob(f"{sides} of the input {inputs[place]!r}", usual, graph)


def _resized(item: Any, axes: tuple[int, ...], value: int) -> Any:
    """An input's shape, as text or numbers, with `axes` set to `value`."""
    if isinstance(item, str):
        match = _TEXT.match(item)
        if match is None:
            raise UsageError(f"--input {item!r} has no shape to change", expected="DIMxDIMx…", hint="1x3x224x224")
        dims = [int(dim) for dim in re.split("[x×,]", match["dims"])]
        sizes = [value if axis in axes else dim for axis, dim in enumerate(dims)]
        name = f"{match['name']}=" if match["name"] else ""
        return f"{name}{'x'.join(map(str, sizes))}{match['dtype'] or ''}"
    if isinstance(item, tuple | list) and all(isinstance(dim, int) for dim in item):
        return tuple(value if axis in axes else dim for axis, dim in enumerate(item))
    raise UsageError("example tensors have one size", expected="shapes, such as (1, 3, 224, 224)")
