"""Damage to TensorFlow Lite files that knows what a FlatBuffer is: offsets, lengths, layouts, numbers of the schema."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from tests.fuzz.mutation import WORDS, number
from tests.unit.frontends import tflite_files as made
from tests.unit.frontends.tflite_files import Table, code, f32, i32, ints, model, operator, subgraph, tensor

SUFFIX = ".tflite"
Mutation = Callable[[bytes, random.Random], tuple[bytes, str]]
MOST = 4096
# places of one kind that are looked for in a file


def _chain(count: int) -> bytes:
    listed = [tensor(f"t{at}", (1, 8, 8, 4)) for at in range(count + 1)]
    runs = [operator(at % 3, (at, at) if at % 3 == 0 else (at,), (at + 1,)) for at in range(count)]
    codes = [code(made.ADD), code(made.RELU), code(made.CUSTOM, "Custom")]
    return model([subgraph(listed, (0,), (count,), runs)], codes)


def _bodies() -> bytes:
    main = subgraph(
        [tensor("i", (), made.INT32), tensor("x", (1, 100), signature=(-1, 100)), tensor("n", (), made.INT32),
         tensor("y", (1, 100))],
        (0, 1), (3,), [operator(0, (0, 1), (2, 3), 93, {0: ("i", 1), 1: ("i", 2)})], "main",
    )  # fmt: skip
    cond = subgraph(
        [tensor("i", (), made.INT32), tensor("x", (1, 100)), tensor("go", (), made.BOOL)],
        (0, 1), (2,), [operator(1, (0, 0), (2,))],
    )  # fmt: skip
    body = subgraph(
        [tensor("i", (), made.INT32), tensor("x", (1, 100)), tensor("one", (), made.INT32, 1), tensor("j", ()),
         tensor("v", (1, 100), variable=True), tensor("z", (1, 100))],
        (0, 1), (3, 5), [operator(2, (0, 2), (3,)), operator(2, (1, 4), (5,))],
    )  # fmt: skip
    more = {
        6: [Table({0: "OfflineMemoryAllocation", 1: ("I", 2)})],
        7: [Table({0: [Table({0: "x", 1: ("I", 1)})], 1: [Table({0: "y", 1: ("I", 3)})], 2: "serve", 4: ("I", 0)})],
    }
    buffers = [i32(1), i32(1, 0, 4, 0, 64, -1, 128)]
    return model([main, cond, body], [code(made.WHILE), code(made.LESS), code(made.ADD)], buffers, more)


def _arithmetic() -> bytes:
    listed = [
        tensor("x", (1, 2, 3), signature=(-1, 2, 3)), tensor("shape", (3,), made.INT32),
        tensor("begin", (1,), made.INT32, 1), tensor("end", (1,), made.INT32, 2), tensor("n", (), made.INT32),
        tensor("six", (), made.INT32, 3), tensor("to", (2,), made.INT32), tensor("y", (1, 6), signature=(-1, -1)),
    ]  # fmt: skip
    runs = [
        operator(0, (0,), (1,)), operator(1, (1, 2, 3, 3), (4,), 32, {4: ("i", 1)}),
        operator(2, (4, 5), (6,), 59, {0: ("i", 2)}), operator(3, (0, 6), (7,)),
    ]  # fmt: skip
    codes = [code(made.SHAPE), code(made.STRIDED_SLICE), code(made.PACK), code(made.RESHAPE)]
    return model([subgraph(listed, (0,), (7,), runs)], codes, [i32(0), i32(1), i32(6)])


def _stored() -> bytes:
    sparsity = Table({
        0: ints(0, 1),
        2: [Table({0: ("b", 1), 2: ("B", 1), 3: Table({0: ints(0, 1, 2)}), 4: ("B", 3), 5: Table({0: b"\0\1\2"})})],
    })  # fmt: skip
    listed = [
        tensor("x", (1, 4)), tensor("w", (4, 4), more={6: sparsity}, buffer=1),
        tensor("e", (3, 4), more={10: ("I", 7)}), tensor("h", (1, 4)), tensor("y", (1, 3)),
    ]  # fmt: skip
    runs = [operator(0, (0, 1, -1), (3,), 8, {}), operator(0, (3, 2, -1), (4,), 8, {})]
    more = {8: [Table({0: "weights.bin"})], 9: [Table({0: ("I", 7), 1: ("I", 0), 3: ("Q", 48), 4: ""})]}
    outside = Table({1: ("Q", 64), 2: ("Q", 12)})
    return model([subgraph(listed, (0,), (4,), runs)], [code(made.FULLY_CONNECTED)], [outside, f32(3)], more)


def seeds() -> dict[str, bytes]:
    """Small valid files."""
    return {
        "network": made.network(), "open": made.network(open_batch=True), "chain": _chain(12), "bodies": _bodies(),
        "arithmetic": _arithmetic(), "stored": _stored(),
    }  # fmt: skip


def _words(data: bytes, wanted: Callable[[int, int], bool]) -> list[int]:
    """Places of 32-bit numbers for which `wanted(place, number)` holds."""
    found = []
    for place in range(0, len(data) - 3, 4):
        if wanted(place, struct.unpack_from("<I", data, place)[0]):
            found.append(place)
            if len(found) == MOST:
                break
    return found


def _offsets(data: bytes) -> list[int]:
    return _words(data, lambda place, value: 0 < value < len(data) - place)


def _put(data: bytes, place: int, value: int) -> bytes:
    return data[:place] + struct.pack("<I", value & 0xFFFFFFFF) + data[place + 4 :]


def _offset(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Send a reference elsewhere: back, to itself, to a neighbour, out of the file."""
    places = _offsets(data)
    place = rng.choice(places)
    value = rng.choice(
        (0, 1, 4, -4, -place, len(data) - place - 1, len(data), 2**31, 2**32 - 1, rng.choice(places) - place)
    )
    return _put(data, place, value), f"offset at {place} := {value}"


def _length(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Another length for what looks like a list or a text."""
    places = _words(data, lambda place, value: 0 < value <= 64 and place + value < len(data))
    place = rng.choice(places)
    value = rng.choice((0, 1, 3, 65, 1000, len(data) // 4, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1))
    return _put(data, place, value), f"length at {place} := {value}"


def _value(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Another small number: a size, an index, a code."""
    places = _words(data, lambda _, value: value <= 256 or value > 2**32 - 16)
    place = rng.choice(places)
    value = rng.choice((number(rng), rng.randrange(-2, 12), rng.randrange(0, 256)))
    return _put(data, place, value), f"number at {place} := {value}"


def _layout(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Another entry in a table of field offsets."""
    places = [
        place
        for place in range(8, len(data) - 3, 2)
        if 4 <= struct.unpack_from("<H", data, place)[0] <= 40
        and struct.unpack_from("<H", data, place)[0] % 2 == 0
        and 4 <= struct.unpack_from("<H", data, place + 2)[0] <= 80
    ]
    place = rng.choice(places[:MOST]) + 2 * rng.randrange(0, 12)
    value = rng.choice((0, 4, 6, 8, 12, 16, 40, 0xFFFE, 0xFFFF, rng.randrange(0, 64)))
    return data[:place] + struct.pack("<H", value) + data[place + 2 :], f"layout at {place} := {value}"


def _name(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Another text, cut or repeated to the length there was."""
    places = _words(
        data,
        lambda place, value: 0 < value < 200 and data[place + 4 : place + 4 + value].isascii()
        and data[place + 4 : place + 4 + value].decode("ascii", "replace").isprintable(),
    )  # fmt: skip
    if not places:
        return data, "no text"
    place = rng.choice(places)
    length = struct.unpack_from("<I", data, place)[0]
    word = (rng.choice(WORDS).encode("utf-8", "surrogatepass") or b"\xff") * length
    return data[: place + 4] + word[:length] + data[place + 4 + length :], f"text at {place} := {word[:12]!r}"


def _kind(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Another operator, type of tensor or kind of options: one byte of a small number."""
    places = [place for place in range(8, len(data)) if 0 < data[place] < 160]
    place = rng.choice(places)
    value = rng.choice((rng.randrange(0, 210), 32, 118, 119, 127, 129, 206, 255))
    return data[:place] + bytes([value]) + data[place + 1 :], f"byte at {place} := {value}"


def _bury(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Subgraphs that call each other, more or less often and deep."""
    depth = rng.choice((1, 2, 12, 30, 31, 33))
    graphs = []
    for at in range(depth):
        inner = rng.choice((at + 1, at + 1, at + 1, rng.randrange(0, depth + 1)))
        listed = [tensor("c", (1,), made.BOOL), tensor("x", (4,)), tensor("t", (4,)), tensor("y", (4,))]
        call = {0: ("i", inner), 1: ("i", at + 1)}
        kind = rng.randrange(3)
        runs = [operator(kind, (0, 1), (2,), 92, call), operator(kind, (0, 2), (3,), 92, call)]
        graphs.append(subgraph(listed, (0, 1), (3,), runs))
    graphs.append(subgraph([tensor("x", (4,)), tensor("y", (4,))], (0,), (1,), [operator(3, (0,), (1,))]))
    codes = [code(made.IF), code(made.WHILE), code(made.COMPOSITE), code(made.RELU)]
    return model(graphs, codes), f"{depth} subgraphs that call each other ({len(data)} bytes replaced)"


MUTATIONS = (_offset, _offset, _length, _length, _value, _value, _value, _value, _layout, _name, _kind, _kind)


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A file like `data` with a few things wrong, and what they are."""
    if rng.random() < 0.03:
        return _bury(data, rng)
    return several(data, rng, lambda: rng.choice(MUTATIONS))


def several(data: bytes, rng: random.Random, pick: Callable[[], Mutation]) -> tuple[bytes, str]:
    """One to five mutations, each as `pick` gives it."""
    done = []
    for _ in range(rng.choice((1, 1, 2, 2, 3, 5))):
        try:
            data, what = pick()(data, rng)
        except (IndexError, struct.error):
            continue  # what was done before left nothing of that kind
        done.append(what)
    return data, "; ".join(done)
