"""Damage to model files that can be repeated: the same seed gives the same mutant.

A third of the mutations know nothing but bytes; the others know the format and write files that
are well formed and absurd, because damaged bytes rarely get past the reader. Those for ONNX stand
here, those for other formats in `formats`. Nothing here knows peakmem, but for `outcome`, which
asks it, and `questions`, which says what.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

LONGEST_SECONDS = 5.0
MOST_NEW_BYTES = 200 << 20
LARGEST_FILE = 1 << 20
# bytes; what is larger is not made larger still

SMALL = (-2, -1, 0, 1, 2, 3, 4, 5, 8, 17, 64)
HOSTILE = (
    -(2**63), -(2**62), -(2**31) - 1, -(2**31), -65536, 255, 256, 1023, 1025, 4096, 65536, 2**20, 2**24, 2**31 - 1,
    2**31, 2**32, 2**40, 2**48, 2**56, 2**60, 2**62, 2**63 - 1,
)  # fmt: skip
WORDS = (
    "", " ", "x", "\n", "\t", "\x00", "\x1b[31m", "../../etc/passwd", "=", "'", "?", "0", "-1", "é" * 40, "a" * 70_000,
    "batch", "SAME_UPPER", "linear", "nearest", "ij,jk->ik", "...", "->", "i" * 300 + "->", "bq->q,",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What peakmem made of one mutant."""

    kind: str
    # "report", the name of the PeakmemError, or "VIOLATION"
    detail: str
    seconds: float
    new_bytes: int
    # by how much the process' peak resident memory rose


Damage = Callable[[bytes, random.Random], tuple[bytes, str]]
# a file and where chance comes from -> the damaged file, and what was done


# -- bytes -------------------------------------------------------------------------------


def _flip(data: bytearray, rng: random.Random) -> str:
    places = [rng.randrange(len(data)) for _ in range(rng.choice((1, 1, 1, 2, 4, 16)))]
    for at in places:
        data[at] ^= 1 << rng.randrange(8)
    return f"flip a bit at {places}"


def _set(data: bytearray, rng: random.Random) -> str:
    places = [rng.randrange(len(data)) for _ in range(rng.choice((1, 1, 2, 4, 16)))]
    for at in places:
        data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x12, rng.randrange(256)))
    return f"set bytes at {places}"


def _part(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 2, 3, 5, 9, 17, 65, 257, 1025)))


def _delete(data: bytearray, rng: random.Random) -> str:
    start, stop = _part(data, rng)
    del data[start:stop]
    return f"delete {start}:{stop}"


def _duplicate(data: bytearray, rng: random.Random) -> str:
    start, stop = _part(data, rng)
    times = rng.choice((1, 1, 2, 30))
    data[stop:stop] = data[start:stop] * times
    return f"repeat {start}:{stop} {times} times"


def _insert(data: bytearray, rng: random.Random) -> str:
    at = rng.randrange(len(data) + 1)
    content = rng.choice(
        (rng.randbytes(rng.randrange(1, 40)), b"\x00" * 64, b"\xff" * 12, b"\x80" * 11, b"\n" * 2000, b"\x3a\x00")
    )
    data[at:at] = content
    return f"insert {content[:12]!r}, {len(content)} bytes, at {at}"


def _truncate(data: bytearray, rng: random.Random) -> str:
    stop = rng.randrange(len(data))
    del data[stop:]
    return f"truncate at {stop}"


def _inflate(data: bytearray, rng: random.Random) -> str:
    """Overwrite a byte by a long varint: a length, a size or a tag that says far too much."""
    at = rng.randrange(len(data))
    value = rng.choice((2**31 - 1, 2**32, 2**40, 2**63, 2**64 - 1, len(data), len(data) - at))
    data[at : at + 1] = varint(value)
    return f"varint {value} at {at}"


BYTE_MUTATIONS: tuple[Callable[[bytearray, random.Random], str], ...] = (
    _flip, _flip, _set, _set, _delete, _duplicate, _insert, _truncate, _inflate, _inflate,
)  # fmt: skip


def varint(value: int) -> bytes:
    """Protobuf's encoding of a number of up to 64 bits."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def damage_bytes(seeds: dict[str, bytes], name: str, rng: random.Random) -> tuple[bytes, str]:
    data = bytearray(seeds[name])
    if rng.random() < 0.08:
        other = rng.choice(sorted(seeds))
        cut, start = rng.randrange(len(data)), rng.randrange(len(seeds[other]))
        return bytes(data[:cut]) + seeds[other][start:], f"splice {cut} bytes and {other} from {start}"
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if data:
            done.append(rng.choice(BYTE_MUTATIONS)(data, rng))
    return bytes(data), "; ".join(done)


# -- ONNX --------------------------------------------------------------------------------


def number(rng: random.Random) -> int:
    """A size or an index, more often small than absurd."""
    return rng.choice(SMALL) if rng.random() < 0.5 else rng.choice(HOSTILE)


def graphs(model: Any) -> list[Any]:
    """The main graph and all bodies in it."""
    found = [model.graph]
    for graph in found:
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    found.append(attribute.g)
    return found


def _names(graph: Any) -> list[str]:
    names = [value.name for value in (*graph.input, *graph.initializer)]
    return names + [name for node in graph.node for name in node.output]


def _pick(items: Any, rng: random.Random) -> Any:
    return items[rng.randrange(len(items))] if len(items) else None


def _node(model: Any, rng: random.Random) -> Any:
    owner = rng.choice([*graphs(model), *model.functions])
    return _pick(owner.node, rng)


def _dimension(model: Any, rng: random.Random) -> str:
    graph = rng.choice(graphs(model))
    value = _pick([*graph.input, *graph.output, *graph.value_info], rng)
    if value is None:
        return ""
    dims = value.type.tensor_type.shape.dim
    if not dims or rng.random() < 0.1:
        dims.add()
    dim = _pick(dims, rng)
    if rng.random() < 0.7:
        dim.dim_value = number(rng)
    else:
        dim.dim_param = rng.choice(WORDS)
    return f"dimension of {value.name[:40]!r} := {dim.dim_value or dim.dim_param[:40]!r}"


def _rank(model: Any, rng: random.Random) -> str:
    value = _pick(model.graph.input, rng)
    if value is None:
        return ""
    count = rng.choice((0, 1, 3, 9, 65, 1024, 1025, 5000))
    del value.type.tensor_type.shape.dim[:]
    for _ in range(count):
        value.type.tensor_type.shape.dim.add().dim_value = rng.choice((1, 1, 1, 2))
    return f"rank of {value.name[:40]!r} := {count}"


def _initializer(model: Any, rng: random.Random) -> str:
    tensor = _pick(rng.choice(graphs(model)).initializer, rng)
    if tensor is None:
        return ""
    what = rng.randrange(4)
    if what == 0:
        if not tensor.dims:
            tensor.dims.append(1)
        tensor.dims[rng.randrange(len(tensor.dims))] = number(rng)
    elif what == 1:
        tensor.data_type = rng.choice((0, *range(1, 27), 27, 99, 2**31 - 1))
    elif what == 2:
        tensor.ClearField("raw_data")
    else:
        _fill(tensor, rng)
    return f"initializer {tensor.name[:40]!r}: dims {list(tensor.dims)[:6]}, type {tensor.data_type}"


def _fill(tensor: Any, rng: random.Random) -> None:
    """Other content, as integers, such as a shape that an operator reads."""
    name = tensor.name
    count = rng.choice((0, 1, 2, 3, 4, 4, 5, 8))
    values = [number(rng) for _ in range(count)]
    tensor.CopyFrom(helper.make_tensor(name, TensorProto.INT64, [count], values))
    if count == 1 and rng.random() < 0.5:
        del tensor.dims[:]


def _attribute(model: Any, rng: random.Random) -> str:
    node = _node(model, rng)
    if node is None:
        return ""
    attribute = _pick(node.attribute, rng)
    if attribute is None or rng.random() < 0.15:
        name = rng.choice(
            ("axis", "axes", "perm", "group", "kernel_shape", "strides", "pads", "to", "auto_pad", "num_outputs",
             "name", "inputs", "domain", "keepdims", "split", "blocksize", "equation", "hidden_size", "num_scan_inputs")
        )  # fmt: skip
        attribute = node.attribute.add(name=name)
    name = attribute.name
    what = rng.randrange(8)
    if what == 0:
        node.attribute.remove(attribute)
        return f"{node.op_type}: no {name}"
    if what <= 2 and attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = number(rng)
        return f"{node.op_type}.{name} := {list(attribute.ints)[:8]}"
    value: Any = (
        number(rng), number(rng), number(rng), [number(rng) for _ in range(rng.choice((1, 2, 3, 4, 8, 40)))],
        rng.choice((0.0, -1.5, 1e30, float("nan"), float("inf"))), rng.choice(WORDS), [rng.choice(WORDS)], [0.5, -1.0],
    )[what]  # fmt: skip
    attribute.CopyFrom(helper.make_attribute(name, value))
    if rng.random() < 0.1:
        attribute.ref_attr_name = rng.choice(WORDS)
    return f"{node.op_type}.{name} := {str(value)[:60]}"


def _rewire(model: Any, rng: random.Random) -> str:
    owner = rng.choice([*graphs(model), *model.functions])
    node = _pick(owner.node, rng)
    if node is None:
        return ""
    names = _names(owner) if hasattr(owner, "initializer") else [name for n in owner.node for name in n.output]
    names += _names(model.graph)[:50]
    what = rng.randrange(6)
    side = node.output if what == 0 else node.input
    if what == 5 and rng.random() < 0.3:
        del (node.output if rng.random() < 0.3 else node.input)[:]
    elif what == 1 and len(side):
        del side[rng.randrange(len(side))]
    elif what == 2 or not side:
        side.append(rng.choice(names))
    else:
        side[rng.randrange(len(side))] = rng.choice((*names, *names, "", "nowhere"))
    reads, makes = [word[:20] for word in node.input[:6]], [word[:20] for word in node.output[:4]]
    return f"{node.op_type} {node.name[:30]!r}: {reads} -> {makes}"


OP_TYPES = sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""})


def _operator(model: Any, rng: random.Random) -> str:
    node = _node(model, rng)
    if node is None:
        return ""
    before = node.op_type
    node.op_type = rng.choice((rng.choice(OP_TYPES), rng.choice(OP_TYPES), rng.choice(WORDS)))
    if rng.random() < 0.1:
        node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "local", *WORDS))
    return f"{before} became {node.domain}:{node.op_type[:40]!r}"


def _name(model: Any, rng: random.Random) -> str:
    word = rng.choice(WORDS)
    node = _node(model, rng)
    if rng.random() < 0.2:
        word = "n" * 2_000_000
    what = rng.randrange(5)
    if what == 0 and node is not None:
        node.name = word
    elif what == 1 and model.graph.input:
        _pick(model.graph.input, rng).name = word
    elif what == 2 and model.graph.initializer:
        _pick(model.graph.initializer, rng).name = word
    elif what == 3 and node is not None and node.output:
        node.output[0] = word
    elif model.graph.output:
        _pick(model.graph.output, rng).name = word
    return f"name {what} := {word[:30]!r}"


def _repeat(model: Any, rng: random.Random) -> str:
    owner = rng.choice(graphs(model))
    node = _pick(owner.node, rng)
    if node is None:
        return ""
    times = rng.choice((1, 2, 40)) if node.ByteSize() < LARGEST_FILE // 8 else 1
    for turn in range(times):
        copy = owner.node.add()
        copy.CopyFrom(node)
        if rng.random() < 0.7:
            for at, name in enumerate(copy.output):
                copy.output[at] = f"{name}~{turn}"
            if copy.input and turn:
                copy.input[0] = f"{node.output[0]}~{turn - 1}" if node.output else ""
    return f"{node.op_type} repeated {times} times"


def _remove(model: Any, rng: random.Random) -> str:
    owner = rng.choice([*graphs(model), *model.functions])
    field = rng.choice(("node", "input", "output", "initializer", "value_info", "opset_import"))
    items = getattr(owner, field, None)
    if not items:
        return ""
    del items[rng.randrange(len(items))]
    return f"one {field} less"


def _shuffle(model: Any, rng: random.Random) -> str:
    nodes = list(model.graph.node)
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return "nodes shuffled"


def _opset(model: Any, rng: random.Random) -> str:
    version = rng.choice((0, 1, 6, 7, 9, 10, 11, 12, 13, 17, 18, 21, 10**9, 2**63 - 1, -1))
    for entry in model.opset_import:
        entry.version = version
    if rng.random() < 0.2:
        del model.opset_import[:]
    return f"operator set {version}"


def _external(model: Any, rng: random.Random) -> str:
    tensor = _pick(model.graph.initializer, rng)
    if tensor is None:
        return ""
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (
        ("location", rng.choice((*WORDS, "weights.bin", "./weights.bin", "/dev/zero", "/etc/passwd", "."))),
        ("offset", rng.choice((*WORDS, str(number(rng))))),
        ("length", rng.choice((*WORDS, str(number(rng))))),
    ):
        if rng.random() < 0.8:
            tensor.external_data.add(key=key, value=value)
    return f"external {[(e.key, e.value[:30]) for e in tensor.external_data]}"


def _bury(model: Any, rng: random.Random) -> str:
    """Put the whole graph into the body of an If, Loop or Scan, several times over."""
    depth = rng.choice((1, 2, 12)) if model.ByteSize() < LARGEST_FILE // 8 else 1
    # protobuf itself refuses to nest deeper than 100 messages, three a body
    for turn in range(depth):
        inner = onnx.GraphProto()
        inner.CopyFrom(model.graph)
        del model.graph.node[:]
        op_type = rng.choice(("If", "Loop", "Scan"))
        node = model.graph.node.add(op_type=op_type, name=f"buried{turn}")
        node.input.extend(_names(model.graph)[: rng.randrange(5)])
        node.output.extend(value.name for value in inner.output)
        for name in ("then_branch", "else_branch") if op_type == "If" and depth < 3 else ("body",):
            node.attribute.append(helper.make_attribute(name, inner))
    return f"buried {depth} deep"


def _type(model: Any, rng: random.Random) -> str:
    value = _pick([*model.graph.input, *model.graph.output], rng)
    if value is None:
        return ""
    what = rng.randrange(5)
    if what == 0:
        value.ClearField("type")
    elif what == 1:
        inner = value.type.sequence_type.elem_type.tensor_type
        inner.elem_type = 1
    elif what == 2:
        value.type.optional_type.elem_type.tensor_type.elem_type = 1
    else:
        value.type.tensor_type.elem_type = rng.choice((0, *range(1, 27), 27, 1000, -1))
    return f"type {what} of {value.name[:30]!r}"


MODEL_MUTATIONS: tuple[Callable[[Any, random.Random], str], ...] = (
    _dimension, _dimension, _rank, _initializer, _initializer, _initializer, _attribute, _attribute, _attribute,
    _attribute, _rewire, _rewire, _operator, _operator, _operator, _name, _repeat, _remove, _shuffle, _opset, _external,
    _bury, _type,
)  # fmt: skip


def damage_onnx(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    model = onnx.ModelProto.FromString(data)
    done: list[str] = []
    for _ in range(rng.choice((1, 1, 2, 2, 3, 5))):
        if model.ByteSize() < LARGEST_FILE:
            done.append(rng.choice(MODEL_MUTATIONS)(model, rng))
    return model.SerializeToString(), "; ".join(what for what in done if what)


# -- cases -------------------------------------------------------------------------------


def mutant(
    seeds: dict[str, bytes], case: int, seed: int = 0, damage: Damage = damage_onnx, blind: float = 0.35
) -> tuple[bytes, str]:
    """The file of case number `case`, and what was done to which seed; `blind` of them by `damage_bytes`."""
    rng = random.Random(f"{seed}:{case}")
    name = sorted(seeds)[case % len(seeds)]
    if rng.random() < blind:
        data, what = damage_bytes(seeds, name, rng)
    else:
        data, what = damage(seeds[name], rng)
    return data, f"{name}: {what}"


def peak_bytes() -> int:
    """The most memory this process ever had resident."""
    high = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return high if sys.platform == "darwin" else high * 1024


def questions(case: int, seed: int = 0) -> dict[str, Any]:
    """Arguments of `peakmem.estimate` for case number `case`; none for every second one."""
    rng = random.Random(f"{seed}:{case}:questions")
    if rng.random() < 0.5:
        return {}
    chosen: dict[str, Any] = {
        "batch": rng.choice((1, 3, 2**20)),
        "dtype": rng.choice(("float16", "int8", "int4")),
        "assume": rng.choice(("naive", "eager", "inplace", "fused_add")),
        "hold_inputs": True,
        "budget": 1000,
        "convention": "sum_outputs",
        "dims": rng.choice(({"trips": 5}, {"n.1": 3}, {"batch": 2})),
        "shapes": rng.choice(({"x": (2, 3, 8)}, {"": (1, 3, 8, 8)}, {"x": ()}, {"ids": (1, 0)})),
    }
    return {name: value for name, value in chosen.items() if rng.random() < 0.3}


def outcome(path: Path, asked: dict[str, Any] | None = None) -> Outcome:
    """Let peakmem answer for the file at `path`, on screen and as JSON."""
    import peakmem
    from peakmem.render.tables import View, blocks
    from peakmem.render.text import layers_csv, plain

    before, start = peak_bytes(), time.perf_counter()
    try:
        report = peakmem.estimate(path, **asked or {})
        plain(blocks(report, View("iec", layers=True, conventions=True)))
        layers_csv(report)
        report.to_json()
        kind, detail = "report", report.kind
    except peakmem.PeakmemError as fault:
        kind, detail = type(fault).__name__, str(fault)
    except Exception as fault:
        kind, detail = "VIOLATION", f"{type(fault).__name__}: {fault}"
    seconds, grown = time.perf_counter() - start, peak_bytes() - before
    if seconds > LONGEST_SECONDS:
        kind, detail = "VIOLATION", f"took {seconds:.1f} s ({kind}: {detail[:200]})"
    elif grown > MOST_NEW_BYTES:
        kind, detail = "VIOLATION", f"took {grown >> 20} MiB more memory ({kind}: {detail[:200]})"
    return Outcome(kind, detail, seconds, grown)
