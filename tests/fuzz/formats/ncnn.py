"""Damage to ncnn param files that knows their grammar: counts, parameters, blobs, layer types, sizes."""

from __future__ import annotations

import random

from peakmem.frontends.ncnn.layers import TYPES
from tests.fuzz.mutation import WORDS, number
from tests.unit.frontends.ncnn_files import CASES, binary

SUFFIX = ".param"
_LONGEST_NAME = 2000
_NET = """7767517
9 11
Input image 0 1 image 0=16 1=16 2=3
Convolution conv 1 1 image c 0=8 1=3 3=2 4=1 5=1 6=216 8=102
Split split 1 2 c a b
Pooling pool 1 1 a p 1=3 2=1 3=1 5=1
BinaryOp add 2 1 p b s 0=0
Interp up 1 1 s u 0=2 1=2.0 2=2.0
Reshape flat 1 1 u f 6="*(0w,0h),0c"
LSTM seq 1 1 f l 0=5 1=5120
InnerProduct fc 1 1 l out 0=10 1=1 2=50
"""


def seeds() -> dict[str, bytes]:
    """One network, one case of each layer, and some of them in binary form."""
    found = {"net": _NET.encode(), "net.bin": binary(_NET, TYPES)}
    for case in CASES:
        found.setdefault(case.op_type, case.text().encode())
    for case in CASES[::40]:
        found[f"{case.op_type}.bin"] = binary(case.text(), TYPES, {("Eltwise", 1)})
    return found


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A param file that is well formed in most places and absurd in some."""
    if data[:7] != b"7767517":
        return _damage_words(data, rng)
    rows = data.decode("utf-8", "replace").splitlines()
    done = []
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        done.append(_damage_row(rows, rng))
    if len(rows) > 2 and rng.random() < 0.8:
        rows[1] = f"{len(rows) - 2} {len(rows)}"
    return "\n".join(rows).encode("utf-8", "replace"), "; ".join(done)


def _damage_row(rows: list[str], rng: random.Random) -> str:
    what = rng.randrange(9)
    at = rng.randrange(2, len(rows)) if len(rows) > 2 else 0
    words = rows[at].split(" ")
    if what == 0 and len(rows) > 1:
        rows[1] = f"{number(rng)} {number(rng)}"
        return f"counts := {rows[1]}"
    if what == 1:
        rows[at:at] = [rows[at]] * rng.choice((1, 2, 50))
        return f"row {at} repeated"
    if what == 2 and len(rows) > 3:
        del rows[at]
        return f"row {at} removed"
    if what == 3:
        words[0] = rng.choice((*TYPES, *WORDS[:10], "pnnx.Expression"))
    elif what == 4 and len(words) > 3:
        words[rng.choice((2, 3))] = str(number(rng))
    elif what == 5 and len(words) > 4:
        place = rng.randrange(4, len(words))
        words[place] = rng.choice((*words[4:], "out", "x" * _LONGEST_NAME, *WORDS[:8]))
    elif what == 6:
        many = rng.choice((0, 1, 3, 40, 5000))
        items = ",".join(str(number(rng)) for _ in range(many))
        length = many if rng.random() < 0.8 else number(rng)
        words.append(f"{-23300 - rng.randrange(33)}={length}{',' * bool(many)}{items}")
    elif what == 7:
        text = rng.choice(
            ("0w", "*(0w,1h)", "/(0w,0)", "pow(99,99)", "+" * 900, "exp(1e9)", "-1,-1,-1", "lshift(1,2147483647)")
        )
        words.append(f'{rng.choice((6, 9, 19, 20, 21))}="{text}"')
    else:
        values = (number(rng), rng.choice((0.5, -1.5, 1e30)), rng.choice(WORDS[:12]))
        words.append(
            f"{rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 18, 30, 31, number(rng)))}={rng.choice(values)}"
        )
    rows[at] = " ".join(words)
    return f"row {at} := {rows[at][:80]!r}"


def _damage_words(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """32-bit words of a binary file set to what they should not be."""
    found = bytearray(data)
    done = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(max(1, len(found) // 4)) * 4
        value = rng.choice((number(rng), -233, -23300, -23306, -23406, -23301, 256, 300)) & 0xFFFFFFFF
        found[at : at + 4] = value.to_bytes(4, "little")
        done.append(f"word {at // 4} := {value}")
    return bytes(found), "; ".join(done)
