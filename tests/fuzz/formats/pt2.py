"""Damage to PyTorch's exported programs: members, shapes, formulas, names, references, bodies."""

from __future__ import annotations

import io
import json
import random
import zipfile
from typing import Any

from tests.fuzz.mutation import WORDS, number
from tests.unit.frontends import pt2_files

SUFFIX = ".pt2"
_FORMULAS = (
    "s0", "2*s0", "s0//0", "Pow(Integer(9), Pow(Integer(9), Integer(9)))", "s0**s0", "Mod(s0, 0)", "Symbol('')",
    "(" * 500, "+".join(["s0"] * 3000), "Max(" + "s0," * 500 + "1)", "9" * 5000, "-s0", "s0/3", "Mul(s0)", "nan",
    "__import__('os')", "Integer(2) ", "Symbol('s0', positive=True, integer=True", "ModularIndexing(s0, 0, 0)",
)  # fmt: skip


def seeds() -> dict[str, bytes]:
    convolution, weights = pt2_files.convolution()
    condition, table = pt2_files.condition()
    return {
        "convolution": pt2_files.archive(convolution, weights),
        "packed": pt2_files.archive(convolution, weights, compress=True),
        "condition": pt2_files.archive(condition, table),
        "old": pt2_files.archive(convolution, old=True),
    }


def _parts(node: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a document."""
    found = []
    pending = [node]
    while pending:
        part = pending.pop()
        pairs = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, value in pairs:
            found.append((part, key))
            if isinstance(value, dict | list):
                pending.append(value)
    return found


def _value(rng: random.Random) -> Any:
    return rng.choice(
        (
            None, True, number(rng), number(rng), 1e308, rng.choice(WORDS), [], {}, [number(rng)] * 3, "Infinity",
            {"as_int": number(rng)}, {"as_expr": {"expr_str": rng.choice(_FORMULAS), "hint": {"as_int": number(rng)}}},
            {"as_tensor": {"name": rng.choice(WORDS)}}, {"name": "x"}, {"as_tensors": [{"name": "x"}] * 40},
        )
    )  # fmt: skip


def _damage_document(document: Any, rng: random.Random) -> str:
    parts = _parts(document)
    if not parts:
        return "nothing left"
    sizes = [(part, key) for part, key in parts if key in ("as_int", "expr_str", "dtype", "major", "min_val")]
    names = [(part, key) for part, key in parts if key in ("name", "target", "path_name", "nn_module_stack")]
    lists = [part[key] for part, key in parts if isinstance(part[key], list)]
    kind = rng.choice(("size", "size", "name", "any", "any", "drop", "repeat", "swap", "bury"))
    if kind == "size" and sizes:
        part, key = rng.choice(sizes)
        part[key] = rng.choice(_FORMULAS) if key == "expr_str" else number(rng)
    elif kind == "name" and names:
        part, key = rng.choice(names)
        others = [other[k] for other, k in names]
        part[key] = rng.choice([*others, *WORDS])
    elif kind == "drop" and parts:
        part, key = rng.choice(parts)
        del part[key]
    elif kind == "repeat" and lists:
        items = rng.choice(lists)
        if items:
            items.extend([rng.choice(items)] * rng.choice((1, 3, 200)))
    elif kind == "swap" and lists:
        rng.shuffle(rng.choice(lists))
    elif kind == "bury":
        inner = document
        for _ in range(rng.choice((10, 120))):
            inner = {"name": "g", "graph": inner} if rng.random() < 0.5 else [inner]
        part, key = rng.choice(parts)
        part[key] = json.loads(json.dumps(inner))
    else:
        part, key = rng.choice(parts)
        part[key] = _value(rng)
    return kind


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """One archive with its documents or members changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = [(info.filename, file.read(info)) for info in file.infolist()]
    told = []
    if rng.random() < 0.2:
        at = rng.randrange(len(members))
        name, content = members[at]
        what = rng.choice(("remove", "rename", "empty", "twice", "cut"))
        if what == "remove":
            del members[at]
        elif what == "rename":
            members[at] = (rng.choice(("../x", "net/models/other.json", name + "x", "net/models/a/b.json")), content)
        elif what == "twice":
            members.append((name.replace("model", "other"), content))
        else:
            members[at] = (name, b"" if what == "empty" else content[: rng.randrange(len(content) + 1)])
        told.append(f"{what} {name}")
    else:
        documents = [at for at, (name, _) in enumerate(members) if name.endswith(".json")]
        at = rng.choice(documents)
        document = json.loads(members[at][1])
        told = [_damage_document(document, rng) for _ in range(rng.choice((1, 1, 2, 5)))]
        members[at] = (members[at][0], json.dumps(document).encode())
    return pt2_files.zipped(members, compress=rng.random() < 0.5), ", ".join(told)
