"""What moves, cuts, joins and makes tensors; sizes are numbers, fixed when the file was written."""

from __future__ import annotations

import math
from collections.abc import Callable

from peakmem.conversion.torch_source.names import literal
from peakmem.conversion.torch_source.writer import Call, Many, Refused, rule


@rule("Reshape", "Squeeze", "Unsqueeze", "Flatten")
def reshape(call: Call) -> str:
    kind, rank = call.operator.op_type, call.rank()
    if kind == "Flatten" and call.axis("axis", 1) == 1:
        return f"{call.read()}.flatten(1)" if rank > 2 else call.read()
    if kind == "Squeeze" and call.ints(1, "axes"):
        axes = tuple(axis + rank if axis < 0 else axis for axis in call.ints(1, "axes") or ())
        return f"{call.read()}.squeeze({literal(axes[0]) if len(axes) == 1 else literal(axes)})"
    if kind == "Unsqueeze":
        axes = call.ints(1, "axes") or ()
        if len(axes) == 1:
            return f"{call.read()}.unsqueeze({literal(axes[0])})"
    return f"{call.read()}.reshape({literal(call.out_shape())})"


@rule("Transpose")
def transpose(call: Call) -> str:
    perm = call.ints_attr("perm") or tuple(reversed(range(call.rank())))
    moved = [axis for axis, source in enumerate(perm) if axis != source]
    if len(moved) == 2:
        return f"{call.read()}.transpose({moved[0]}, {moved[1]})"
    return f"{call.read()}.permute({literal(perm)})" if moved else call.read()


@rule("Concat")
def concat(call: Call) -> str:
    parts = ", ".join(call.read(at) for at in range(len(call.operator.inputs)))
    return f"torch.cat(({parts},), {call.axis('axis', 0)})"


@rule("Split")
def split(call: Call) -> Many:
    axis = call.axis("axis", 0)
    if not all(call.operator.outputs):
        raise Refused("an unnamed output")
    sizes = [call.out_shape(at)[axis] for at in range(len(call.operator.outputs))]
    return Many(f"torch.split({call.read()}, {literal(sizes)}, {axis})")


@rule("Slice")
def slice_(call: Call) -> str:
    shape, rank = call.shape(), call.rank()
    starts, ends = call.ints(1, "starts") or (), call.ints(2, "ends") or ()
    axes = call.ints(3, "axes") or tuple(range(len(starts)))
    steps = call.ints(4) or (1,) * len(starts)
    cuts, turned = [":"] * rank, []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis + rank if axis < 0 else axis
        if step == 0:
            raise Refused("a step of 0")
        taken = range(shape[axis])[slice(start, end, step)]
        if step < 0:
            taken = taken[::-1]
            turned.append(axis)
        if len(taken) == shape[axis]:
            continue
        first, last = (taken[0], taken[-1] + 1) if taken else (0, 0)
        by = f":{taken.step}" if taken.step != 1 and len(taken) > 1 else ""
        cuts[axis] = f"{first or ''}:{last if last != shape[axis] or not taken else ''}{by}"
    while cuts and cuts[-1] == ":":
        cuts.pop()
    x = f"{call.read()}[{', '.join(cuts)}]" if cuts else call.read()
    return f"{x}.flip({literal(tuple(turned))})" if turned else x


@rule("Pad", "com.microsoft:Pad")
def pad(call: Call) -> str:
    pads, rank, mode = call.ints(1, "pads") or (), call.rank(), call.text("mode", "constant")
    axes = call.ints(3) or tuple(range(rank))
    if len(pads) != 2 * len(axes):
        raise Refused(f"{len(pads)} pads for {len(axes)} axes")
    pairs = {axis % rank: (front, behind) for axis, front, behind in zip(axes, pads, pads[len(axes) :], strict=False)}
    told = [pairs.get(axis, (0, 0)) for axis in range(rank)]
    while told and told[0] == (0, 0):
        told.pop(0)
    if not told:
        return call.read()
    flat = literal(tuple(number for pair in reversed(told) for number in pair))
    if mode == "constant":
        value = call.number(2, "value", 0.0) or 0.0
        number = value if call.kind() == "float" else int(value)
        return f"F.pad({call.read()}, {flat}{f', value={literal(number)}' if value else ''})"
    known = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}.get(mode)
    if known is None or len(told) > 3 or len(told) > rank - 1:
        raise Refused(f"mode {mode[:16]} on these axes" if known else "its mode")
    if rank - len(told) > 2:
        raise Refused(f"mode {mode} on {len(told)} of {rank} axes")
    return f'F.pad({call.read()}, {flat}, mode="{known}")'


@rule("Gather")
def gather(call: Call) -> str:
    axis = call.axis("axis", 0)
    if axis == 0 and call.own(0) and call.rank(0) == 2 and call.writer.known(call.input(1)) is None:
        rows, width = call.shape(0)
        typed = call.writer.typed(call.input(0))
        return f"{call.layer(f'nn.Embedding({rows}, {width}{typed})', ('weight', 0, None))}({call.read(1)})"
    known = call.writer.known(call.input(1))
    if known is not None and call.rank(1) == 0 and known:
        return f"{call.read(0)}.select({axis}, {literal(int(known[0]))})"
    if axis == 0 and call.writer.is_weight(call.input(0)) and call.rank(0) == 2 and known is None:
        return f"F.embedding({call.read(1)}, {call.read(0)})"
    index = call.read(1) if call.dtype(1) == "torch.int64" else f"{call.read(1)}.long()"
    return f"{call.read(0)}[{':, ' * axis}{index}]"


@rule("GatherElements")
def gather_elements(call: Call) -> str:
    index = call.read(1) if call.dtype(1) == "torch.int64" else f"{call.read(1)}.long()"
    return f"torch.gather({call.read(0)}, {call.axis('axis', 0)}, {index})"


@rule("GatherND")
def gather_nd(call: Call) -> str:
    if call.attr("batch_dims", 0):
        raise Refused("with batch axes")
    return f"{call.read(0)}[{call.read(1)}.long().unbind(-1)]"


@rule("ScatterElements", "Scatter")
def scatter_elements(call: Call) -> str:
    how = call.text("reduction", "none")
    axis, index = call.axis("axis", 0), f"{call.read(1)}.long()"
    if how == "none":
        return f"{call.read(0)}.scatter({axis}, {index}, {call.read(2)})"
    known = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}.get(how)
    if known is None:
        raise Refused("its reduction")
    return f'{call.read(0)}.scatter_reduce({axis}, {index}, {call.read(2)}, "{known}")'


@rule("ScatterND")
def scatter_nd(call: Call) -> str:
    how = call.text("reduction", "none")
    if how not in ("none", "add"):
        raise Refused("its reduction")
    more = ", accumulate=True" if how == "add" else ""
    return f"{call.read(0)}.index_put({call.read(1)}.long().unbind(-1), {call.read(2)}{more})"


@rule("Expand")
def expand(call: Call) -> str:
    return f"{call.read()}.expand({literal(call.out_shape())})"


@rule("Tile")
def tile(call: Call) -> str:
    return f"{call.read()}.repeat({literal(call.ints(1) or ())})"


@rule("ConstantOfShape")
def constant_of_shape(call: Call) -> str:
    value = (call.attr("value") or (0,))[0]
    return f"torch.full({literal(call.out_shape())}, {literal(value)}, dtype={call.out_dtype()})"


@rule("Range")
def range_(call: Call) -> str:
    first, last, step = (call.values(at)[0] for at in range(3))
    return f"torch.arange({literal(first)}, {literal(last)}, {literal(step)}, dtype={call.out_dtype()})"


@rule("EyeLike")
def eye_like(call: Call) -> str:
    rows, columns = call.shape()
    ones = f"torch.ones({rows}, {columns}, dtype={call.out_dtype()})"
    k = int(call.attr("k", 0))
    return f"torch.triu(torch.tril({ones}, {k}), {k})"


@rule("Trilu", "com.microsoft:Trilu")
def trilu(call: Call) -> str:
    k = int(call.values(1)[0]) if call.has(1) else 0
    return f"torch.{'triu' if call.attr('upper', 1) else 'tril'}({call.read()}, {literal(k)})"


@rule("OneHot")
def one_hot(call: Call) -> str:
    depth = int(call.values(1)[0])
    axis, rank, (off, on) = int(call.attr("axis", -1)), call.rank(), call.values(2)
    index = f"torch.remainder({call.read()}.long(), {depth})"
    spread = f"F.one_hot({index}, {depth})"
    if axis % (rank + 1) != rank:
        spread += f".movedim(-1, {axis % (rank + 1)})"
    spread += f".to({call.out_dtype()})"
    return spread if (off, on) == (0, 1) else f"{spread} * {literal(on - off)} + {literal(off)}"


@rule("DepthToSpace", "SpaceToDepth")
def blocks(call: Call) -> str:
    size, x = int(call.attr("blocksize", 1)), call.read()
    batch, channels, height, width = call.shape()
    made = literal(call.out_shape())
    if call.operator.op_type == "SpaceToDepth":
        parts = literal((batch, channels, height // size, size, width // size, size))
        return f"{x}.reshape({parts}).permute((0, 3, 5, 1, 2, 4)).reshape({made})"
    if call.text("mode", "DCR") == "CRD":
        return f"F.pixel_shuffle({x}, {size})"
    parts = literal((batch, size, size, channels // size**2, height, width))
    return f"{x}.reshape({parts}).permute((0, 3, 4, 1, 5, 2)).reshape({made})"


@rule("ReverseSequence")
def reverse_sequence(_: Call) -> str:
    raise Refused("whose lengths only running tells")


@rule("GridSample")
def grid_sample(call: Call) -> str:
    mode = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest", "bicubic": "bicubic",
            "cubic": "bicubic"}.get(call.text("mode", "bilinear"))  # fmt: skip
    border = call.text("padding_mode", "zeros")
    if mode is None or border not in ("zeros", "border", "reflection"):
        raise Refused("its mode")
    corners = bool(call.attr("align_corners", 0))
    return f'F.grid_sample({call.read(0)}, {call.read(1)}, "{mode}", "{border}", {corners})'


# -- resizing --------------------------------------------------------------------------------------

_ROUND: dict[str, Callable[[float], int]] = {
    "round_prefer_floor": lambda at: math.ceil(at - 0.5), "round_prefer_ceil": lambda at: math.floor(at + 0.5),
    "floor": math.floor, "ceil": math.ceil,
}  # fmt: skip


@rule("Resize", "Upsample")
def resize(call: Call) -> str:
    shape, made = call.shape(), call.out_shape()
    rank = len(shape)
    old = call.operator.op_type == "Upsample" or call.opset < 11
    mode, coordinates = call.text("mode", "nearest"), call.text("coordinate_transformation_mode", "half_pixel")
    scales = _scales(call, shape, made, old)
    if mode == "nearest":
        rounding = "floor" if old else call.text("nearest_mode", "round_prefer_floor")
        return _nearest(call, scales, "asymmetric" if old else coordinates, rounding)
    changed = [axis for axis in range(rank) if shape[axis] != made[axis]]
    if call.attr("exclude_outside", 0) or coordinates == "tf_crop_and_resize" or mode not in ("linear", "cubic"):
        raise Refused("a rule of sampling that torch does not have")
    if not changed:
        return call.read()
    if min(changed) < 2 or not 3 <= rank <= 5 or (mode == "cubic" and rank != 4):
        raise Refused(f"mode {mode} on these axes")
    if mode == "cubic" and abs(float(call.attr("cubic_coeff_a", -0.75)) + 0.75) > 1e-6:
        raise Refused("another coefficient than torch's")
    whole = all(made[axis] % shape[axis] == 0 or shape[axis] % made[axis] == 0 for axis in changed)
    if coordinates not in ("half_pixel", "pytorch_half_pixel", "align_corners") or old:
        raise Refused(f"mode {mode} with coordinates {'asymmetric' if old else coordinates[:20]}")
    if coordinates == "pytorch_half_pixel" and any(made[axis] == 1 for axis in changed):
        raise Refused("a result of one element on an axis")
    name = {3: "linear", 4: "bilinear", 5: "trilinear"}[rank] if mode == "linear" else "bicubic"
    corners = coordinates == "align_corners"
    target = f"size={literal(made[2:])}"
    if not corners and not whole and any(
        abs(scales[axis] - made[axis] / shape[axis]) > 1e-7 * scales[axis] for axis in changed
    ):  # fmt: skip
        target = f"scale_factor={literal(tuple(scales[2:]))}"
    more = ", antialias=True" if call.attr("antialias", 0) else ""
    return f'F.interpolate({call.read()}, {target}, mode="{name}", align_corners={corners}{more})'


def _scales(call: Call, shape: tuple[int, ...], made: tuple[int, ...], old: bool) -> list[float]:
    """The scale of every axis: told, or from the sizes."""
    position = 1 if old else 2
    axes = call.ints_attr("axes") or tuple(range(len(shape)))
    result = [after / before if before else 1.0 for before, after in zip(shape, made, strict=True)]
    told = call.values(position) if call.has(position) else call.attr("scales") or ()
    if told:
        for axis, scale in zip(axes, told, strict=True):
            result[axis] = float(scale)
    return result


def _nearest(call: Call, scales: list[float], coordinates: str, rounding: str) -> str:
    """torch's own two rules where they take the same elements; else elements are picked by index."""
    shape, made = call.shape(), call.out_shape()
    if rounding not in _ROUND:
        raise Refused("its rounding")
    picked = {}
    for axis, (before, after) in enumerate(zip(shape, made, strict=True)):
        at = [_source(index, before, after, scales[axis], coordinates) for index in range(after)]
        taken = [min(max(_ROUND[rounding](place), 0), before - 1) for place in at]
        if taken != list(range(before)):
            picked[axis] = taken
    if not picked:
        return call.read()
    for mode, offset in (("nearest", 0.0), ("nearest-exact", 0.5)):
        if min(picked) >= 2 and 3 <= len(shape) <= 5 and all(
            taken == [min(int((at + offset) * (shape[axis] / made[axis])), shape[axis] - 1) for at in range(made[axis])]
            for axis, taken in picked.items()
        ):  # fmt: skip
            return f'F.interpolate({call.read()}, size={literal(made[2:])}, mode="{mode}")'
    x = call.read()
    for axis, taken in picked.items():
        table = call.writer.table(f"{call.name}_index_{axis}", taken, (len(taken),), "torch.int64")
        x = f"torch.index_select({x}, {axis}, {table})"
    return x


def _source(index: int, before: int, after: int, scale: float, coordinates: str) -> float:
    """Where in the old axis an element of the new one lies (ONNX, operator Resize)."""
    if coordinates == "half_pixel":
        return (index + 0.5) / scale - 0.5
    if coordinates == "asymmetric":
        return index / scale
    if coordinates == "align_corners":
        return index * (before - 1) / (after - 1) if after > 1 else 0.0
    if coordinates == "pytorch_half_pixel":
        return (index + 0.5) / scale - 0.5 if after > 1 else 0.0
    if coordinates == "half_pixel_symmetric":
        adjusted = after / (scale * before) if before else 1.0
        return before / 2 * (1 - adjusted) + (index + 0.5) / scale - 0.5
    if coordinates == "tf_half_pixel_for_nn":
        return (index + 0.5) / scale
    raise Refused("its coordinates")
