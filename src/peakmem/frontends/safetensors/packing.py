"""Quantised checkpoints recognised by the names and shapes of their tensors: what they pack, and into what.

Most of these conventions store several elements in one stored number, so that the shapes in the
file are not those of the weights. A convention is a naming habit of one library, not part of a file
format: what is said here is named after it, and stays open where names leave the packing open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from peakmem.ir.graph import Detail, Tensor
from peakmem.naming import stored_roles

PACK_BITS = 32
# width of the integers that GPTQ, AWQ and compressed-tensors pack into


_LEAVES = frozenset(("weight", "qweight", "weight_packed", "q_weight", "trellis", "W_q"))


@dataclass(frozen=True, slots=True)
class Packed:
    """One quantised weight."""

    convention: str
    elements: int
    # 0: the names and shapes do not tell
    sides: tuple[Tensor, ...]
    # its scales, zero points and tables


def packed_weights(tensors: Sequence[Tensor], contents: Mapping[str, tuple[int, ...]]) -> Iterator[Detail]:
    """One detail per packing convention, and the number of parameters once unpacked.

    Args:
        tensors: all that the model stores.
        contents: values of its `weight_shape` constants, by name.
    """
    by_name = {tensor.name: tensor for tensor in tensors}
    groups: dict[str, list[tuple[Tensor, Packed]]] = {}
    for tensor in tensors:
        told = _packed(tensor, by_name, contents)
        if told is not None:
            groups.setdefault(told.convention, []).append((tensor, told))
    for convention, items in groups.items():
        nbytes = sum(tensor.nbytes or 0 for tensor, _ in items)
        side = sum(other.nbytes or 0 for _, told in items for other in told.sides)
        if not all(told.elements for _, told in items):
            text = f"{len(items):,} weights; how many elements they pack is not told by names and shapes"
        else:
            elements = sum(told.elements for _, told in items)
            numbers = sum(tensor.count or 0 for tensor, _ in items)
            bits = f"{8 * nbytes / elements:.3g}"
            text = f"{len(items):,} weights of {elements:,} elements at {bits} bits, stored as {numbers:,} numbers"
        yield Detail(
            f"quantised weights ({convention})", f"{text}; {side:,} B of scales and the like beside them", nbytes
        )
    known = [item for items in groups.values() for item in items if item[1].elements]
    if known:
        roles = stored_roles(tensors)
        trained = ("weight", "bias", "norm")
        whole = sum(tensor.count or 0 for tensor in tensors if not tensor.storage and roles[tensor.name] in trained)
        more = sum(told.elements - (tensor.count or 0) for tensor, told in known if roles[tensor.name] in trained)
        yield Detail("parameters once unpacked", f"{whole + more:,}; scales, zero points and tables left out")


def _packed(tensor: Tensor, table: Mapping[str, Tensor], contents: Mapping[str, tuple[int, ...]]) -> Packed | None:
    name = tensor.name
    stem, _, leaf = name.rpartition(".")
    if tensor.dtype is None or (leaf not in _LEAVES and not leaf.endswith("_blocks")):
        return None
    count = tensor.count or 0
    if not count or (tensor.dtype.kind == "float" and tensor.dtype.bits != 8):
        return None
    shape = _sizes(tensor)
    code = tensor.dtype.name

    def beside(*leaves: str) -> tuple[Tensor, ...]:
        return tuple(table[f"{stem}.{other}"] for other in leaves if f"{stem}.{other}" in table)

    if leaf == "qweight":
        return _columns(tensor, beside("scales", "qzeros", "g_idx"), stem, table)
    if leaf == "weight_packed":
        sides = beside("weight_scale", "weight_zero_point", "weight_g_idx", "weight_global_scale", "input_global_scale")
        held = contents.get(f"{stem}.weight_shape", ())
        if code == "uint8" and not held:
            return Packed("compressed-tensors, nvfp4", 2 * count, sides)
        elements = prod(held) if held and all(0 < size < 1 << 40 for size in held) else 0
        return Packed("compressed-tensors", elements if elements <= count * PACK_BITS else 0, sides)
    if name.endswith("_blocks") and code == "uint8":
        scales = table.get(name.removesuffix("_blocks") + "_scales")
        return Packed("mxfp4", 2 * count, (scales,)) if scales is not None and _sizes(scales) == shape[:-1] else None
    if leaf != "weight":
        open_ended = {"q_weight": "exl2", "trellis": "exl3", "W_q": "hqq"}
        return Packed(open_ended[leaf], 0, ()) if leaf in open_ended else None
    if f"{name}.absmax" in table:
        sides = tuple(table[side] for side in _bitsandbytes(name) if side in table)
        return Packed("bitsandbytes 4-bit", 2 * count, sides)
    if code == "int8" and beside("SCB"):
        return Packed("bitsandbytes int8", count, beside("SCB", "weight_format"))
    if code == "uint32" and beside("scales"):
        return Packed("mlx", 0, beside("scales", "biases"))
    if code == "uint8" and beside("weight_scale"):
        scale = beside("weight_scale")[0]
        blocks = _sizes(scale)
        if blocks and shape and blocks[:-1] == shape[:-1] and blocks[-1] * 16 == 2 * shape[-1]:
            return Packed("nvfp4", 2 * count, beside("weight_scale", "weight_scale_2", "input_scale"))
        return None
    if code.startswith("float8") or code == "int8":
        sides = beside("weight_scale_inv", "weight_scale", "weight_zero_point", "input_scale", "scale_inv")
        return Packed(f"{code} with {sides[0].name.rpartition('.')[2]}", count, sides) if sides else None
    return None


def _columns(tensor: Tensor, sides: tuple[Tensor, ...], stem: str, table: Mapping[str, Tensor]) -> Packed:
    """GPTQ packs along the inputs, AWQ along the outputs; scales are groups × outputs in both."""
    shape, scales, zeros = (_sizes(table.get(name)) for name in (tensor.name, f"{stem}.scales", f"{stem}.qzeros"))
    if len(shape) != 2 or len(scales) != 2 or not scales[1]:
        return Packed("qweight without scales", 0, sides)
    outputs = scales[1]
    order = _sizes(table.get(f"{stem}.g_idx"))
    if shape[1] == outputs:
        if order:
            return Packed("gptq", order[0] * outputs, sides)
        bits = PACK_BITS * zeros[1] / outputs if len(zeros) == 2 else 0
        return Packed("gptq", round(shape[0] * PACK_BITS / bits) * outputs if bits else 0, sides)
    return Packed("awq", shape[0] * outputs, sides)


def _bitsandbytes(name: str) -> tuple[str, ...]:
    kinds = ("quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4")
    return tuple(f"{name}.{leaf}" for leaf in ("absmax", "quant_map", "nested_absmax", "nested_quant_map", *kinds))


def _sizes(tensor: Tensor | None) -> tuple[int, ...]:
    return tuple(dim for dim in tensor.shape or () if isinstance(dim, int)) if tensor is not None else ()
