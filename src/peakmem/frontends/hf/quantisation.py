"""What a quantization_config makes of a linear layer: the dtype of its weight and the scales beside it.

Packed weights keep their logical shape (outputs × inputs) at their true width, so that parameters
are counted as elements; the bytes are those of the packed tensor. A method or a setting that is not
listed here is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peakmem import dtypes
from peakmem.dtypes import DType
from peakmem.frontends.hf.config import Config
from peakmem.ir.dims import Shape

NF4 = DType("nf4", 4, "float")
_INTEGERS = {2: dtypes.INT2, 3: DType("int3", 3, "int"), 4: dtypes.INT4, 8: dtypes.INT8}
_BNB_BLOCK, _BNB_NESTED = 64, 256
# elements that share a scale, and scales that share one in turn (bitsandbytes' defaults)
_PACK = 32
# bits of the words that GPTQ and AWQ pack weights into
KNOWN = "bitsandbytes, gptq, awq, fp8, fbgemm_fp8, mxfp4, compressed-tensors"
_WILD = re.compile(r"[*+^$\\]")
MOST_PATTERNS, MOST_REPEATS = 32, 2
# of modules that are skipped, and of * and + in each: a path is matched in no time
_SIMPLE = re.compile(r"[\w.\\*+$^\[\]0-9-]{1,96}")


@dataclass(frozen=True, slots=True)
class Side:
    """A tensor stored beside a quantised weight."""

    suffix: str
    shape: Shape
    dtype: DType


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the linear layers of a model are stored."""

    title: str
    weight: DType
    suffix: str
    # of the weight's name in the file
    sides: Callable[[int, int], tuple[Side, ...]]
    # (outputs, inputs) -> what stands beside the weight
    skipped: frozenset[str] = frozenset()
    # modules that stay as they are, by any dotted part of their path
    patterns: tuple[re.Pattern[str], ...] = ()
    # and by the beginning of it
    head: bool = False
    # whether the last layer is quantised too, unless it is one of those
    experts_only: bool = False

    def covers(self, path: str) -> bool:
        """Whether the layer at `path` is quantised."""
        parts = path.split(".")
        spans = (parts[first:last] for first in range(len(parts)) for last in range(first + 1, len(parts) + 1))
        if any(".".join(span) in self.skipped for span in spans):
            return False
        return not any(pattern.match(path) for pattern in self.patterns)


def read_scheme(config: Config, dtype: DType) -> Scheme | None:
    """The scheme of a configuration whose other weights are stored as `dtype`; None without one."""
    given = config.part("quantization_config") or config.part("compression_config")
    if given is None:
        return None
    method = given.text("quant_method", default="bitsandbytes" if given.has("load_in_4bit") else None)
    readers: dict[str, Callable[[Config], Scheme | None]] = {
        "bitsandbytes": _bitsandbytes, "gptq": _gptq, "awq": _awq, "fp8": _fp8, "fbgemm_fp8": _fbgemm,
        "mxfp4": _mxfp4, "compressed-tensors": lambda part: _compressed(part, dtype),
    }  # fmt: skip
    if method not in readers:
        raise config.fault(
            f"weights quantised with {method!r} are not known", expected=KNOWN,
            hint="the safetensors file itself, or the module: package.module:factory",
        )  # fmt: skip
    return readers[method](given)


def _skipping(given: Config, *names: str, head: bool = True) -> dict[str, Any]:
    """The fields of a Scheme that say what stays as it is: names, and patterns that are quick to match."""
    found = [item for name in names for item in given.texts(name) or () if item]
    plain = {item for item in found if not item.startswith("re:") and not _WILD.search(item)}
    wild = [item.removeprefix("re:") for item in found if item not in plain]
    if len(wild) > MOST_PATTERNS:
        raise given.fault(f"{len(wild)} patterns of modules that stay as they are", expected=f"at most {MOST_PATTERNS}")
    return {
        "skipped": frozenset(plain | {"lm_head"} if head else plain),
        "patterns": tuple(_pattern(given, item) for item in wild),
        "head": not head,
    }


def _pattern(given: Config, text: str) -> re.Pattern[str]:
    """`text` compiled, refused when it could take for ever."""
    try:
        if _SIMPLE.fullmatch(text) and text.count("*") + text.count("+") <= MOST_REPEATS:
            return re.compile(text)
    except re.error:
        pass
    raise given.fault(f"the pattern {text[:60]!r} is not understood", expected="such as re:.*name$")


def _bitsandbytes(given: Config) -> Scheme | None:
    four = given.flag("load_in_4bit", "_load_in_4bit", default=False)
    eight = given.flag("load_in_8bit", "_load_in_8bit", default=False)
    skipped = _skipping(given, "llm_int8_skip_modules")
    if four == eight:
        raise given.fault("bitsandbytes quantises to 4 or to 8 bits", expected="load_in_4bit or load_in_8bit")
    if eight:
        return Scheme(
            "bitsandbytes, 8 bit, a float32 scale per output", dtypes.INT8, "weight",
            lambda out, _: (Side("SCB", (out,), dtypes.FLOAT32),), **skipped,
        )  # fmt: skip
    kind = given.text("bnb_4bit_quant_type", default="fp4")
    nested = given.flag("bnb_4bit_use_double_quant", default=False)
    if kind not in ("nf4", "fp4"):
        raise given.fault(f"'bnb_4bit_quant_type' is {kind!r}", expected="nf4 or fp4")

    def sides(out: int, inside: int) -> tuple[Side, ...]:
        blocks = -(-out * inside // _BNB_BLOCK)
        table = Side("weight.quant_map", (16,), dtypes.FLOAT32)
        if not nested:
            return Side("weight.absmax", (blocks,), dtypes.FLOAT32), table
        return (
            Side("weight.absmax", (blocks,), dtypes.UINT8), table,
            Side("weight.nested_absmax", (-(-blocks // _BNB_NESTED),), dtypes.FLOAT32),
            Side("weight.nested_quant_map", (256,), dtypes.FLOAT32),
        )  # fmt: skip

    title = f"bitsandbytes, {kind}, a scale per {_BNB_BLOCK} weights{', scales quantised in turn' if nested else ''}"
    return Scheme(title, NF4 if kind == "nf4" else dtypes.FLOAT4E2M1, "weight", sides, **skipped)


def _groups(inside: int, group: int) -> int:
    return 1 if group == -1 else -(-inside // group)


def _gptq(given: Config) -> Scheme:
    given.only("modules_in_block_to_quantize", None, None)
    bits = given.size("bits", most=8)
    group = given.size("group_size", default=128, least=-1)
    if bits not in _INTEGERS or group == 0:
        raise given.fault(f"{bits} bits in groups of {group}", expected="2, 3, 4 or 8 bits; -1 or 1 and more")

    def sides(out: int, inside: int) -> tuple[Side, ...]:
        rows = _groups(inside, group)
        return (
            Side("qzeros", (rows, -(-out * bits // _PACK)), dtypes.INT32),
            Side("scales", (rows, out), dtypes.FLOAT16),
            Side("g_idx", (inside,), dtypes.INT32),
        )

    skipped = _skipping(given, "modules_to_not_convert", head=given.fields.get("lm_head") is not True)
    return Scheme(f"gptq, {bits} bit, groups of {group}", _INTEGERS[bits], "qweight", sides, **skipped)


def _awq(given: Config) -> Scheme:
    bits = given.size("bits", "w_bit", default=4, most=8)
    group = given.size("group_size", "q_group_size", default=128, least=-1)
    if bits != 4 or group == 0:
        raise given.fault(f"{bits} bits in groups of {group}", expected="4 bits; groups of -1 or 1 and more")

    def sides(out: int, inside: int) -> tuple[Side, ...]:
        rows = _groups(inside, group)
        return (
            Side("qzeros", (rows, -(-out * bits // _PACK)), dtypes.INT32),
            Side("scales", (rows, out), dtypes.FLOAT16),
        )

    skipped = _skipping(given, "modules_to_not_convert")
    return Scheme(f"awq, {bits} bit, groups of {group}", dtypes.INT4, "qweight", sides, **skipped)


def _fp8(given: Config) -> Scheme:
    block = given.numbers("weight_block_size")
    skipped = _skipping(given, "modules_to_not_convert", "ignored_layers")
    static = given.text("activation_scheme", default="dynamic") == "static"
    if block is not None and (len(block) != 2 or min(block) < 1):
        raise given.fault(f"'weight_block_size' is {list(block)}", expected="two positive numbers")

    def sides(out: int, inside: int) -> tuple[Side, ...]:
        shape: Shape = () if block is None else (-(-out // block[0]), -(-inside // block[1]))
        found = Side("weight_scale_inv", shape, dtypes.FLOAT32)
        return (found, Side("activation_scale", (), dtypes.FLOAT32)) if static else (found,)

    grain = "a scale per tensor" if block is None else f"a float32 scale per {block[0]}x{block[1]} weights"
    return Scheme(f"fp8 e4m3, {grain}", dtypes.FLOAT8E4M3FN, "weight", sides, **skipped)


def _fbgemm(given: Config) -> Scheme:
    return Scheme(
        "fbgemm fp8 e4m3, a float32 scale per output", dtypes.FLOAT8E4M3FN, "weight",
        lambda out, _: (Side("weight_scale", (out, 1), dtypes.FLOAT32), Side("input_scale_ub", (1,), dtypes.FLOAT32)),
        **_skipping(given, "modules_to_not_convert"),
    )  # fmt: skip


def _mxfp4(given: Config) -> Scheme:
    return Scheme(
        "mxfp4 experts, a scale of one byte per 32 weights", dtypes.FLOAT4E2M1, "blocks",
        lambda out, inside: (Side("scales", (out, -(-inside // 32)), dtypes.FLOAT8E8M0),),
        **_skipping(given, "modules_to_not_convert"), experts_only=True,
    )  # fmt: skip


def _compressed(given: Config, dtype: DType) -> Scheme | None:
    groups = given.part("config_groups")
    if groups is None or len(groups.fields) != 1:
        raise given.fault(
            "compressed tensors with other than one group of layers", expected="one entry in config_groups"
        )
    only = groups.part(next(iter(groups.fields)))
    targets = only.texts("targets") if only is not None else None
    weights = only.part("weights") if only is not None else None
    if only is None or weights is None or tuple(targets or ("Linear",)) != ("Linear",):
        raise given.fault("compressed tensors of another kind", expected="targets ['Linear'] with weights")
    bits, kind = weights.size("num_bits", most=8), weights.text("type", default="int")
    strategy = weights.text("strategy", default="tensor")
    symmetric = weights.flag("symmetric", default=True)
    group = weights.optional("group_size", least=-1)
    block = weights.numbers("block_structure")
    ordered = weights.fields.get("actorder") in ("group", True)
    form = given.text("format", default="")
    inputs = only.part("input_activations")
    static = inputs is not None and not inputs.flag("dynamic", default=False)
    packed = form == "pack-quantized"
    known = (kind, bits) in (("float", 8), ("int", 8), ("int", 4)) and (kind == "int" or not packed)
    grains = {"tensor", "channel", "group", "block"}
    if not known or strategy not in grains or (strategy == "group" and not group) or (strategy == "block" and (
        block is None or len(block) != 2 or min(block) < 1
    )):  # fmt: skip
        raise given.fault(
            f"{kind} weights of {bits} bits by {strategy}, stored as {form!r}",
            expected="float 8, int 8 or int 4 by tensor, channel, group or block",
        )

    def sides(out: int, inside: int) -> tuple[Side, ...]:
        if strategy == "group":
            grid: Shape = (out, _groups(inside, group or -1))
        elif strategy == "block":
            assert block is not None
            grid = (-(-out // block[0]), -(-inside // block[1]))
        else:
            grid = (out, 1) if strategy == "channel" else (1,)
        found = [Side("weight_scale", grid, dtype)]
        if packed:
            found.append(Side("weight_shape", (2,), dtypes.INT64))
        if not symmetric:
            rows = -(-out * bits // _PACK) if packed else out
            zeros: Shape = (rows, *grid[1:])
            found.append(Side("weight_zero_point", zeros, dtypes.INT32 if packed else dtypes.INT8))
        if ordered:
            found.append(Side("weight_g_idx", (inside,), dtypes.INT32))
        if static:
            found.append(Side("input_scale", (1,), dtype))
        return tuple(found)

    skipped = _skipping(given, "ignore", head=False)
    weight = dtypes.FLOAT8E4M3FN if kind == "float" else _INTEGERS[bits]
    title = f"compressed-tensors, {kind} {bits}, scales by {strategy}"
    return Scheme(title, weight, "weight_packed" if packed else "weight", sides, **skipped)
