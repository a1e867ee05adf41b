"""From the tree of a file to claims: keys checked, defaults merged, shorthands written out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from peakmem.errors import FormatError, PeakmemError, UsageError
from peakmem.ledger.amount import amounts
from peakmem.ledger.claim import DIGITS, KINDS, Claim, Claims, Reading
from peakmem.ledger.context import KEYS as SETTINGS
from peakmem.ledger.context import Context, changed
from peakmem.ledger.expression import parse
from peakmem.ledger.functions import FUNCTIONS
from peakmem.ledger.read import Node, read
from peakmem.ledger.sentence import understood

TOP = ("source", "title", "context", "claims")
KEYS = (
    "id", "line", "says", "kind", "claim", "unit", "context", "compute", "quantity", "readings", "open", "digits",
    "because", "practice", "answer", "disagrees",
)  # fmt: skip
READING = ("as", "compute", "quantity")
STORED = ("size", "model_size", "storage", "model", "parameter_size", "weight_size")
# words that are used for the parameters and for all that is stored
LOOSE = (
    ("all that it stores, statistics of norms included", "weights()"),
    ("all parameters in that dtype, biases and norms too", "uniform_bytes()"),
)
MOST_CLAIMS = 5000
SEEDS = ("000", "001", "002", "003", "004")
QUANTITIES: Mapping[str, str] = {
    "peak": "live_fused()", "activations": "live_fused()", "peak_activations": "live_fused()",
    "activation_memory": "live_fused()", "largest_layer": "layer_in_out()", "total": "resident_fused()",
    "inference": "resident_fused()", "inference_memory": "resident_fused()", "memory": "resident_fused()",
    "model_size": "parameter_bytes()", "size": "parameter_bytes()", "storage": "parameter_bytes()",
    "model": "parameter_bytes()",
    "parameter_count": "parameters()", "params": "parameters()", "input": "input_bytes()", "output": "output_bytes()",
    "training": 'train("peak")', "training_peak": 'train("peak")', "training_memory": 'train("peak")',
    "all_activations": "sum_outputs()", "saved_activations": 'train("saved")', "gradients": 'train("gradients")',
    "optimizer_state": 'train("optimizer")', "kv_cache": "state()", "cache": "state()",
    "activation": "live_fused()", "peak_activation": "live_fused()",
    "peak_activation_memory": "live_fused()", "live_peak": "live_fused()", "largest_activation": "largest_output()",
    "weights_and_activations": "resident_fused()", "inference_peak": "resident_fused()",
    "parameter_size": "parameter_bytes()", "weight_size": "parameter_bytes()", "training_step": 'train("peak")',
}  # fmt: skip
# what people call things; every convention and function goes by its own name as well
COUNTED = {"parameters()": "parameter_bytes()", "parameter_bytes()": "parameters()"}
# of what is named with one word, the size where a size is claimed and the count where a count is


def built_in() -> tuple[Claims, ...]:
    """The claims of the texts that this project started from."""
    folder = files("peakmem.ledger").joinpath("seeds")
    found = []
    for name in SEEDS:
        path = Path(str(folder.joinpath(f"{name}.yaml")))
        if path.is_file():
            found.append(claims(path, shown=f"built-in {path.name}"))
    unique(found)
    return tuple(found)


def claims(path: Path, shown: str = "") -> Claims:
    """The claims in a file.

    Raises:
        FormatError: it is no file of claims.
        UsageError: a key, a network or a function that is not there, a claim that says nothing.
    """
    where = shown or str(path)
    if path.is_dir():
        raise FormatError("this is a folder", where=where, expected="a file of claims, such as claims.yaml")
    root = read(path, where)
    if root.items is not None:
        root = Node(1, pairs=((Node(1, "claims"), root),))
    if root.pairs is None:
        raise FormatError(f"this is {root.shown} and no list of claims", where=where, expected="claims: [{claim: …}]")
    root = _lifted(root, TOP, where)
    _known(root, TOP, where, "a file of claims")
    listed = root.get("claims")
    if listed is None or not listed.items:
        raise FormatError("there are no claims", where=where, expected="claims: with a list")
    if len(listed.items) > MOST_CLAIMS:
        raise FormatError(f"{len(listed.items):,} claims", where=where, expected=f"{MOST_CLAIMS:,} or fewer")
    base = _context(Context(folder=str(path.parent)), root.get("context"), where)
    found: list[Claim] = []
    used: dict[str, int] = {}
    for position, node in enumerate(listed.items, start=1):
        one = _claim(node, position, base, where)
        if one.id in used:
            raise FormatError(
                f"the id {one.id[:60]!r} is given twice",
                where=f"{where}:{node.line}",
                expected=f"another than on line {used[one.id]}",
            )
        used[one.id] = node.line
        found.append(one)
    return Claims(where, _text(root, "source", where) or path.name, _text(root, "title", where), tuple(found))


def unique(files_of: Sequence[Claims]) -> None:
    """Refuse an id that stands in two files.

    Raises:
        FormatError: one does.
    """
    used: dict[str, str] = {}
    for one in files_of:
        for claim in one.claims:
            if claim.id in used and used[claim.id] != one.file:
                raise FormatError(f"the id {claim.id!r} stands in {used[claim.id]} as well", where=claim.where("id"))
            used[claim.id] = one.file


# -- one claim ---------------------------------------------------------------------------


def _claim(node: Node, position: int, base: Context, where: str) -> Claim:
    here = f"{where}:{node.line}"
    spoken = node.text is not None
    if spoken:
        node = _spoken(node, where)
    if node.pairs is None:
        raise FormatError(f"a claim is {node.shown}", where=here, expected="{claim: 13.4 MiB, quantity: weights}")
    node = _lifted(node, KEYS, where)
    _known(node, KEYS, where, "a claim")
    lines = (("", node.line), *((key.text or "", key.line) for key, _ in node.pairs or ()))
    identity = _text(node, "id", where) or f"claim {position}"
    if len(identity) > 80:
        raise FormatError("the id is too long", where=here)
    kind = _text(node, "kind", where)
    if kind and kind not in KINDS:
        raise _not_one(kind, KINDS, "kind of claim", f"{where}:{dict(lines)['kind']}")
    digits = _text(node, "digits", where)
    if digits and digits not in DIGITS:
        raise _not_one(digits, DIGITS, "way to print digits", f"{where}:{dict(lines)['digits']}")
    practice, claimed = _text(node, "practice", where), _text(node, "claim", where)
    claimed = f"{claimed} {_text(node, 'unit', where)}".strip() if claimed else ""
    line = _text(node, "line", where)
    if line and not (line.isascii() and line.isdigit() and len(line) < 8):
        raise FormatError(f"line is {line[:40]!r}", where=f"{where}:{dict(lines)['line']}", expected="a number")
    context = _context(base, node.get("context"), where, identity)
    compute = _expression(node, where, identity)
    readings = tuple(_reading(one, where, identity) for one in _listed(node, "readings", where))
    if practice and (compute or readings):
        raise FormatError(f"{identity} is practice and computed as well", where=here, expected="one of them")
    if not practice:
        if not claimed:
            raise FormatError(f"{identity} claims nothing", where=here, expected='claim: "13.4 MiB"')
        if not compute:
            raise FormatError(
                f"nothing says what {identity} is compared with", where=here,
                expected="quantity: weights or compute: an expression", hint="quantity: weights",
            )  # fmt: skip
        try:
            first = amounts(claimed)[0]
        except PeakmemError as fault:
            fault.locate(f"{where}:{dict(lines)['claim']}: {identity}")
            raise
        sized = first.sort == "size" and not first.in_billions
        counted = first.sort == "count" or first.in_billions
        wrong_way = compute == ("parameters()" if sized else "parameter_bytes()" if counted else "")
        if wrong_way and node.get("quantity") is not None:
            compute = COUNTED[compute]
    if compute == "parameter_bytes()" and (spoken or _plain(_text(node, "quantity", where)) in STORED):
        given = {one.compute for one in readings}
        readings += tuple(Reading(*one, node.line, loose=True) for one in LOOSE if one[1] not in given)
    because = _text(node, "because", where)
    for text in embedded(because):
        _parsed(text, where, dict(lines).get("because", node.line), identity)
    return Claim(
        identity, int(line or 0), _text(node, "says", where), kind, claimed, compute, readings,
        _text(node, "open", where), digits, because, practice, _text(node, "answer", where),
        _text(node, "disagrees", where), context, where, lines,
    )  # fmt: skip


def _spoken(node: Node, where: str) -> Node:
    """A sentence written out as a claim."""
    try:
        said = understood(node.text or "")
    except PeakmemError as fault:
        fault.locate(f"{where}:{node.line}")
        raise

    def mapped(*pairs: tuple[str, str | Node]) -> Node:
        return Node(
            node.line,
            pairs=tuple(
                (Node(node.line, key), value if isinstance(value, Node) else Node(node.line, value))
                for key, value in pairs
            ),
        )

    first, *others = said.meanings
    readings = tuple(mapped(("as", meaning), ("compute", compute)) for meaning, compute in others)
    return mapped(
        ("says", node.text or ""),
        ("claim", said.claim),
        ("context", mapped(*said.context)),
        ("compute", first[1]),
        ("readings", Node(node.line, items=readings)),
        ("because", f"As it stands it is read as: {first[0]}." if others else ""),
    )


def embedded(text: str) -> list[str]:
    """Expressions in braces of a sentence."""
    return re.findall(r"\{([^{}]+)\}", text)


def _expression(node: Node, where: str, identity: str) -> str:
    """`compute`, or what `quantity` stands for; checked for names."""
    compute, quantity = _text(node, "compute", where), _text(node, "quantity", where)
    if compute and quantity:
        raise FormatError(f"{identity} has both compute and quantity", where=f"{where}:{node.line}", expected="one")
    key = "compute" if compute else "quantity"
    line = next((name.line for name, _ in node.pairs or () if name.text == key), node.line)
    if quantity:
        compute = _quantity(quantity, f"{where}:{line}: {identity}")
    if compute:
        _parsed(compute, where, line, identity)
    return compute


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _quantity(name: str, where: str) -> str:
    plain = _plain(name)
    if plain in QUANTITIES:
        return QUANTITIES[plain]
    if plain in FUNCTIONS:
        return f"{plain}()"
    if "(" in name:
        return name
    known = (*QUANTITIES, *FUNCTIONS)
    near = get_close_matches(plain, known, n=3, cutoff=0.5)
    raise UsageError(
        f"no quantity is called {name[:60]!r}", where=where,
        expected=f"one of {', '.join(near or QUANTITIES)}", hint=f"quantity: {near[0]}" if near else "",
    )  # fmt: skip


def _parsed(text: str, where: str, line: int, identity: str) -> None:
    try:
        parse(text, tuple(FUNCTIONS))
    except PeakmemError as fault:
        fault.locate(f"{where}:{line}: {identity}")
        raise


def _reading(node: Node, where: str, identity: str) -> Reading:
    if node.pairs is None:
        raise FormatError(f"a reading is {node.shown}", where=f"{where}:{node.line}", expected="{as: …, compute: …}")
    _known(node, READING, where, "a reading")
    meaning, compute = _text(node, "as", where), _expression(node, where, identity)
    if not meaning or not compute:
        raise FormatError("a reading needs `as` and `compute`", where=f"{where}:{node.line}: {identity}")
    return Reading(meaning, compute, node.line)


# -- keys --------------------------------------------------------------------------------


def _lifted(node: Node, keys: Sequence[str], where: str) -> Node:
    """Settings that stand beside the other keys, put into `context`; `convention` is a quantity.

    Raises:
        FormatError: a setting stands here and in `context`.
    """
    own, settings = [], []
    for key, value in node.pairs or ():
        name = key.text or ""
        if name == "convention" and "quantity" in keys:
            own.append((replace(key, text="quantity"), value))
        elif name not in keys and name in SETTINGS:
            settings.append((key, value))
        else:
            own.append((key, value))
    if not settings:
        return replace(node, pairs=tuple(own))
    context = next((value for key, value in own if key.text == "context"), None)
    if context is not None and context.pairs is None:
        return replace(node, pairs=tuple(own))  # refused where it is read
    for key, _ in settings:
        if context is not None and context.get(key.text or ""):
            raise FormatError(f"{key.text} stands in the context as well", where=f"{where}:{key.line}", expected="once")
    both = (*(context.pairs or () if context is not None else ()), *settings)
    made = (Node(settings[0][0].line, "context"), Node(settings[0][0].line, pairs=both))
    return replace(node, pairs=(*(pair for pair in own if pair[0].text != "context"), made))


def _known(node: Node, keys: Sequence[str], where: str, what: str) -> None:
    for key, _ in node.pairs or ():
        if key.text in keys:
            continue
        if set(key.text or "") & set("()\"='<>*"):
            raise FormatError(
                f"{(key.text or '')[:60]!r} is a piece of an expression", where=f"{where}:{key.line}",
                expected="expressions with commas quoted within braces", hint="compute: 'weights(batch=8, width=0.5)'",
            )  # fmt: skip
        raise _not_one(key.text or "", keys, f"key of {what}", f"{where}:{key.line}")


def _not_one(name: str, keys: Sequence[str], what: str, where: str) -> FormatError:
    near = get_close_matches(name, keys, n=1, cutoff=0.5)
    return FormatError(
        f"{name[:60]!r} is no {what}", where=where, expected=f"one of {', '.join(keys)}", hint=near[0] if near else ""
    )  # fmt: skip


def _text(node: Node, key: str, where: str) -> str:
    found = node.get(key)
    if found is None:
        return ""
    if found.text is None:
        raise FormatError(f"{key} is {found.shown}", where=f"{where}:{found.line}", expected="a text")
    return " ".join(found.text.split())


def _listed(node: Node, key: str, where: str) -> tuple[Node, ...]:
    found = node.get(key)
    if found is None:
        return ()
    if found.items is None:
        raise FormatError(f"{key} is {found.shown}", where=f"{where}:{found.line}", expected="a list")
    return found.items


def _context(base: Context, node: Node | None, where: str, identity: str = "") -> Context:
    if node is None:
        return base
    if node.pairs is None:
        raise FormatError(f"context is {node.shown}", where=f"{where}:{node.line}", expected="{network: …, batch: 1}")
    pairs = sorted(node.pairs, key=lambda pair: pair[0].text != "network")  # options belong to it
    for key, value in pairs:
        try:
            base = changed(base, {key.text or "": _setting(value, where)})
        except PeakmemError as fault:
            fault.locate(f"{where}:{key.line}" + (f": {identity}" if identity else ""))
            raise
    return base


def _setting(node: Node, where: str) -> object:
    if node.text is not None:
        return node.text
    if node.items is not None:
        return tuple(_setting(one, where) for one in node.items)
    return {key.text or "": _setting(value, where) for key, value in node.pairs or ()}
