"""Damage to PyTorch checkpoints: pickles that run on and mean something else, archives that lie about their members."""

from __future__ import annotations

import io
import pickletools
import random
import struct
import zipfile

from tests.fuzz.mutation import WORDS, number

SUFFIX = ".pt"
_MAGIC = b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def whole(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def tensor(key: str, kind: str, shape: tuple[int, ...], count: int, *, legacy: bool = False) -> bytes:
    """The opcodes that rebuild a row-major tensor over storage `key`."""
    storage = text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + whole(count)
    reference = b"(" + storage + (b"N" if legacy else b"") + b"tQ"
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    numbers = [b"(" + b"".join(whole(size) for size in sizes) + b"t" for sizes in (shape, reversed(strides))]
    made = b"(" + reference + whole(0) + b"".join(numbers) + b"\x89ccollections\nOrderedDict\n)Rt"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + made + b"R"


def model(*, legacy: bool = False) -> bytes:
    """A state dict, an optimizer's state, a module pickled whole, a NumPy array, and a few odd things."""
    own = b"ccollections\nOrderedDict\n)R(" + text("a.weight") + tensor("0", "FloatStorage", (4, 3), 12, legacy=legacy)
    own += text("a.bias") + tensor("1", "HalfStorage", (4,), 4, legacy=legacy) + b"u"
    moment = tensor("2", "FloatStorage", (4, 3), 12, legacy=legacy)
    state = b"}(" + text("state") + b"}(K\x00}" + text("exp_avg") + moment + b"suu"
    module = b"cmine\nNet\n)\x81}(" + text("_parameters") + b"}" + text("w") + b"h\x00su" + b"b"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01K\x02K\x03\x86"
    array += b"cnumpy\ndtype\n(" + text("f4") + b"\x89\x88tR(K\x03" + text("<") + b"NNN"
    array += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array += b"\x89C\x18" + bytes(24) + b"tb"
    first = tensor("0", "FloatStorage", (2, 3), 12, legacy=legacy) + b"q\x00"
    return (
        b"\x80\x02}(" + text("view") + first + text("model") + own + text("optimizer") + state + text("net") + module
        + text("array") + array + text("more") + b"](K\x01G" + bytes(8) + b"N\x88e" + text("path") + text("x") + b"u."
    )  # fmt: skip


_STORAGES = {"0": 48, "1": 8, "2": 48}


def archive(pickle: bytes, *, deflated: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", pickle)
        file.writestr("archive/byteorder", "little")
        for key, size in _STORAGES.items():
            file.writestr(f"archive/data/{key}", bytes(size))
        file.writestr("archive/version", "3\n")
    return out.getvalue()


def sequence(pickle: bytes) -> bytes:
    """The format before zip archives."""
    system = b"\x80\x02}(" + text("little_endian") + b"\x88u."
    start = b"\x80\x02" + _MAGIC + b"." + b"\x80\x02M\xe9\x03." + system
    keys = b"\x80\x02](" + b"".join(text(key) for key in _STORAGES) + b"e."
    widths = {"0": 4, "1": 2, "2": 4}
    data = b"".join(struct.pack("<q", size // widths[key]) + bytes(size) for key, size in _STORAGES.items())
    return start + pickle + keys + data


def seeds() -> dict[str, bytes]:
    return {
        "archive": archive(model()), "deflated": archive(model(), deflated=True),
        "sequence": sequence(model(legacy=True)),
        "plain": b"\x80\x02}" + text("w") + model()[model().index(b"cnumpy") : model().index(text("more"))] + b"s.",
    }  # fmt: skip


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    if not data.startswith(b"PK"):
        return _opcodes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    name = rng.choice(sorted(members))
    what = rng.randrange(10)
    done = f"member {what} {name}"
    if what == 0:
        del members[name]
    elif what == 1:
        members[name] = members[name][: rng.randrange(len(members[name]) + 1)]
    elif what == 2:
        odd = ("../x", "/etc/passwd", "archive/code/x.py", "archive/constants.pkl", "\\x", "a/" * 90)
        members[rng.choice(odd)] = b"x"
    elif what == 3:
        members["archive/data.pkl"] = _bomb(rng)
        done = "a bomb"
    else:
        members["archive/data.pkl"], done = _opcodes(members["archive/data.pkl"], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as file:
        for member, content in members.items():
            file.writestr(member or "empty", content)
    result = bytearray(out.getvalue())
    if rng.random() < 0.2:
        at = result.rfind(b"PK\x01\x02")
        place = at + rng.choice((20, 24, 42))
        result[place : place + 4] = (number(rng) % 2**32).to_bytes(4, "little")
        done += "; a lie in the directory"
    return bytes(result), done


def _bomb(rng: random.Random) -> bytes:
    """Pickles that mean more than they hold."""
    return rng.choice((
        b"\x80\x04]" + b"2\x86" * 5000 + b".",
        b"\x80\x04]\x94" + b"(h\x00h\x00h\x00h\x00l\x94" + b"".join(
            b"(" + b"h" + bytes((at,)) + b"h" + bytes((at,)) + b"l\x94" for at in range(1, 200)
        ) + b".",
        b"\x80\x04]" * 3000 + b"a" * 2999 + b".",
        b"\x80\x04" + b"}" * 200_000 + b".",
        b"\x80\x04" + b"(" * 200_000 + b".",
        b"\x80\x04" + b"]2a" * 100_000 + b".",
        b"\x80\x04]q\x00(" + b"K\x01K\x02\x86" * 30_000 + b"e" + b"ccollections\nOrderedDict\nh\x00\x85R" * 3000 + b".",
        b"\x80\x04\x8b\xff\xff\xff\x7f" + bytes(100) + b".",
        b"\x80\x04\x8d" + b"\xff" * 8 + b".",
        b"cos\nsystem\n" + text("echo") + b"\x85R.",
        b"\x80\x04}" + b"".join(b"}X\x01\x00\x00\x00a" for _ in range(2000)) + b"K\x00" + b"ss" * 1000 + b".",
    ))  # fmt: skip


def _opcodes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Drop, repeat, swap or replace opcodes, or the number or name in one."""
    places = []
    at = 0
    try:
        while at < len(data) and data[at : at + 1] in (b"\x80", b"}", b"c", b"]"):
            found = [
                (at + (place or 0), code.name, argument) for code, argument, place in pickletools.genops(data[at:])
            ]
            places += found
            at = found[-1][0] + 1
    except ValueError:
        pass
    if len(places) < 3:
        return data[: rng.randrange(len(data))], "cut short"
    index = rng.randrange(len(places) - 1)
    start, name, argument = places[index]
    stop = places[index + 1][0]
    what = rng.randrange(6)
    if what == 0:
        new = b""
    elif what == 1:
        new = data[start:stop] * rng.choice((2, 100, 20_000))
    elif what == 2:
        other = rng.randrange(len(places) - 1)
        new = data[places[other][0] : places[other + 1][0]]
    elif isinstance(argument, int):
        new = whole(number(rng))
    elif isinstance(argument, str):
        word = rng.choice((*WORDS, "0", "1", "storage", "_parameters"))
        module = rng.choice(
            ("os system", "torch DoubleStorage", "torch._utils _rebuild_tensor_v3", "numpy dtype", "a b")
        )
        new = b"c" + module.replace(" ", "\n").encode() + b"\n" if name == "GLOBAL" else text(word)
    else:
        new = rng.choice(
            (b"N", b"(", b"t", b"]", b"}", b"0", b"1", b"2", b"R", b"b", b"\x93", b"h\x00", b"Q", b"\x88", b".")
        )
    return data[:start] + new + data[stop:], f"opcode {name} at {start}: {what}"
