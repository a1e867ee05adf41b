"""Damage to pnnx files that knows their grammar: shapes, weights, operands, counts, parameters."""

from __future__ import annotations

import random

from tests.fuzz.mutation import WORDS, number
from tests.unit.frontends.test_pnnx import NET

SUFFIX = ".pnnx.param"
_OPERATORS = (
    "nn.Conv2d", "nn.LSTM", "pnnx.Input", "pnnx.Output", "pnnx.Attribute", "pnnx.Expression", "prim::TupleConstruct",
    "prim::TupleUnpack", "Tensor.size", "torch.cat", "torch.split", "Tensor.reshape", "F.linear", "nn.Linear",
)  # fmt: skip
_MORE = """7767517
7 8
pnnx.Input in 0 1 0 #0=(1,?,%n)f32
pnnx.Attribute pos 0 1 1 @data=(1,4)f32 #1=(1,4)f32
torch.split s 1 2 0 2 3 dim=1 #2=(1,2)f32 #3=(1,2)f32
prim::TupleConstruct t 2 1 2 3 4
prim::TupleUnpack u 1 2 4 5 6
torch.cat c 2 1 5 6 7 dim=1 #7=(1,4)f32
pnnx.Output o 1 0 7
"""


def seeds() -> dict[str, bytes]:
    """Two small networks."""
    return {"net": NET.encode(), "more": _MORE.encode()}


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A file that is well formed in most places and absurd in some."""
    rows = data.decode("utf-8", "replace").splitlines()
    done = []
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        done.append(_damage_row(rows, rng))
    if len(rows) > 2 and rng.random() < 0.8:
        rows[1] = f"{len(rows) - 2} {len(rows)}"
    return "\n".join(rows).encode("utf-8", "replace"), "; ".join(done)


def _shape(rng: random.Random) -> str:
    dims = ",".join(rng.choice((str(number(rng)), "?", "%n", "1", "2")) for _ in range(rng.choice((0, 1, 2, 4, 80))))
    return f"({dims}){rng.choice(('f32', 'i64', 'bool', 'null', 'f99', ''))}"


def _damage_row(rows: list[str], rng: random.Random) -> str:
    what = rng.randrange(8)
    at = rng.randrange(2, len(rows)) if len(rows) > 2 else 0
    words = rows[at].split()
    if what == 0 and len(rows) > 1:
        rows[1] = f"{number(rng)} {number(rng)}"
        return f"counts := {rows[1]}"
    if what == 1:
        rows[at:at] = [rows[at]] * rng.choice((1, 2, 50))
        return f"row {at} repeated"
    if what == 2 and len(rows) > 3:
        del rows[at]
        return f"row {at} removed"
    if what == 3 and words:
        words[0] = rng.choice((*_OPERATORS, *WORDS[1:9]))
    elif what == 4 and len(words) > 3:
        words[rng.choice((2, 3))] = str(number(rng))
    elif what == 5 and len(words) > 4:
        words[rng.randrange(4, len(words))] = rng.choice((*words[4:], "0", "3", *WORDS[1:9]))
    elif what == 6:
        words.append(f"@{rng.choice(('weight', 'bias', 'data', *WORDS[1:6]))}={_shape(rng)}")
    else:
        words.append(
            rng.choice((f"#{rng.randrange(9)}={_shape(rng)}", f"stride=({number(rng)})", "padding=()", "groups=x"))
        )
    rows[at] = " ".join(words)
    return f"row {at} := {rows[at][:80]!r}"
