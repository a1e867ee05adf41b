"""The JSON of an exported program as a Program: operators, sizes, what is stored.

Field names are those of `torch/_export/serde/schema.py` (schema 8.20 of PyTorch 2.13). A union
there is an object with one key that says which kind it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from peakmem import dtypes
from peakmem.dtypes import DType
from peakmem.errors import FormatError
from peakmem.frontends.torch.program import Argument, Call, Program, Ref, Stored, Value
from peakmem.ir.dims import Dim, Symbol
from peakmem.ir.expressions import Formula, names, parse, solved, value, written

MAJORS = range(5, 9)
# of the schema: names and meaning of the fields read here are the same in all of them
DEEPEST = 24
# bodies inside of bodies
MOST_DIMENSIONS = 64
LONGEST_NAME = 1024
MOST_OUTPUTS = 65_536

SCALAR_TYPES: Mapping[int, DType] = {
    1: dtypes.UINT8, 2: dtypes.INT8, 3: dtypes.INT16, 4: dtypes.INT32, 5: dtypes.INT64, 6: dtypes.FLOAT16,
    7: dtypes.FLOAT32, 8: dtypes.FLOAT64, 9: DType("complex32", 32, "complex"), 10: dtypes.COMPLEX64,
    11: dtypes.COMPLEX128, 12: dtypes.BOOL, 13: dtypes.BFLOAT16, 28: dtypes.UINT16, 29: dtypes.FLOAT8E4M3FN,
    30: dtypes.FLOAT8E5M2, 31: dtypes.FLOAT8E4M3FNUZ, 32: dtypes.FLOAT8E5M2FNUZ, 33: dtypes.FLOAT8E8M0,
    34: dtypes.UINT32, 35: dtypes.UINT64,
}  # fmt: skip
_LAYOUTS = {
    1: "sparse_coo",
    2: "sparse_csr",
    3: "sparse_csc",
    4: "sparse_bsr",
    5: "sparse_bsc",
    6: "mkldnn",
    7: "strided",
}
_FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"}
_PLAIN = frozenset(("as_int", "as_float", "as_string", "as_bool", "as_operator"))
_PLAIN_LISTS = frozenset(
    ("as_ints", "as_floats", "as_strings", "as_bools", "as_int_lists", "as_float_lists", "as_string_lists")
)


@dataclass(slots=True)
class Sizes:
    """The symbols of a program: what each was when it was exported, and which formulas are made of them."""

    hints: dict[str, int] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    # formulas that were not understood, by the name that stands for each

    def collect(self, node: Any) -> None:
        """Remember the hints of every symbolic size in a piece of JSON."""
        pending = [node]
        found: list[tuple[Formula, int]] = []
        while pending:
            part = pending.pop()
            if isinstance(part, list):
                pending.extend(part)
            elif isinstance(part, dict):
                text = part.get("expr_str")
                hint = part.get("hint")
                if isinstance(text, str) and isinstance(hint, dict) and _is_int(hint.get("as_int")):
                    formula = parse(text)
                    if formula is not None:
                        found.append((formula, hint["as_int"]))
                else:
                    pending.extend(part.values())
        for formula, hint in found:
            if isinstance(formula, str):
                self.hints.setdefault(formula, hint)
        for formula, hint in found:
            known = solved(formula, hint) if isinstance(formula, int | str) or len(names(formula)) == 1 else None
            if known is not None:
                self.hints.setdefault(*known)

    def dim(self, size: Any) -> Dim:
        """A size: a number, or a symbol named by its formula."""
        kind, content = _union(size)
        if kind == "as_int" and _is_int(content):
            return int(content)
        text = content.get("expr_str") if isinstance(content, dict) else None
        if kind != "as_expr" or not isinstance(text, str):
            raise FormatError(f"{str(size)[:80]!r} is no size", expected="as_int or as_expr")
        formula = parse(text)
        if formula is None:
            name = "?" + blake2b(text.encode(errors="replace"), digest_size=6).hexdigest()
            self.unread[name] = text[:200]
            return Symbol(name)
        if isinstance(formula, int):
            return formula
        if not names(formula):
            return value(formula, {}) or 0
        return Symbol(written(formula))

    def number(self, dim: Dim) -> int:
        """`dim` at the sizes of the export; some number where that is not told, to compare layouts by."""
        if isinstance(dim, int):
            return dim
        formula = parse(dim.name)
        if formula is None:
            return 4099
        others = {name: self.hints.get(name, 4093 + 2 * at) for at, name in enumerate(sorted(names(formula)))}
        found = value(formula, others)
        return 4099 if found is None else found


def _is_int(content: Any) -> bool:
    return isinstance(content, int) and not isinstance(content, bool)


def _union(node: Any) -> tuple[str, Any]:
    """(kind, content) of an object that holds one of several kinds."""
    if isinstance(node, dict):
        for kind, content in node.items():
            if content is not None or len(node) == 1:
                return str(kind), content
    raise FormatError(f"{str(node)[:80]!r} is none of the kinds that stand here", expected="an object with one key")


def _name(node: Any) -> str:
    name = node.get("name") if isinstance(node, dict) else None
    if not isinstance(name, str) or not name or len(name) > LONGEST_NAME:
        raise FormatError(f"{str(node)[:80]!r} has no usable name", expected="a name")
    return name


class ProgramReader:
    """Reads one exported program, its bodies included."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes

    def program(self, document: Mapping[str, Any]) -> Program:
        """The main program with what the module stores; `payload` is left to whoever knows the archive.

        Raises:
            FormatError: a document that is none.
        """
        module = document["graph_module"]
        graph, signature = module["graph"], module["signature"]
        body = self.graph(graph, 0)
        stored: dict[str, Stored] = {}
        given: list[str] = []
        for spec in signature["input_specs"]:
            kind, content = _union(spec)
            if kind == "user_input":
                given += _tensors(content["arg"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                title = content[
                    {"parameter": "parameter_name", "buffer": "buffer_name"}.get(kind, "tensor_constant_name")
                ]
                place = _name(content["arg"])
                if not isinstance(title, str) or len(title) > LONGEST_NAME:
                    raise FormatError(f"a {kind} is called {str(title)[:80]!r}", expected="a name")
                form = {"parameter": "parameter", "buffer": "buffer"}.get(kind, "constant")
                stored[place] = Stored(title or place, form)  # type: ignore[arg-type]
        outputs: list[str] = []
        copies: list[Call] = []
        values = dict(body.values)
        for spec in signature["output_specs"]:
            kind, content = _union(spec)
            if kind in ("user_output", "loss_output"):
                outputs += _tensors(content["arg"]) if kind == "user_output" else [_name(content["arg"])]
            elif kind in ("buffer_mutation", "parameter_mutation", "user_input_mutation"):
                target = _target(kind, content, stored)
                if target:
                    copies.append(self._copy(target, _name(content["arg"]), len(copies), values))
        for place in (*given, *stored, *outputs):
            if place not in values:
                raise FormatError(f"nothing is told of the tensor {place[:80]!r}", expected="an entry in tensor_values")
        return Program(
            tuple(dict.fromkeys(word for word in given if word not in stored)), tuple(outputs), (*body.calls, *copies),
            values, stored, dict(self.sizes.hints),
        )  # fmt: skip

    def _copy(self, target: str, source: str, number: int, values: dict[str, Value]) -> Call:
        """What a module does at its end for a program that has no operator of its own that writes."""
        name = f"copy_{number}_of_{source}"
        values[name] = values[target]
        return Call(name, "aten", "copy_", "default", (("self", Ref(target)), ("src", Ref(source))), (name,))

    def graph(self, graph: Mapping[str, Any], depth: int) -> Program:
        """A graph: its formal inputs, calls and outputs."""
        if depth > DEEPEST:
            raise FormatError(f"bodies are nested deeper than {DEEPEST}")
        values = {name: self.value(meta) for name, meta in graph["tensor_values"].items()}
        integers: dict[str, Dim] = {}
        for name, size in graph.get("sym_int_values", {}).items():
            integers[name] = self.sizes.dim(size)
        calls: list[Call] = []
        taken: set[str] = set()
        for node in graph["nodes"]:
            call = self.call(node, integers, len(calls), depth)
            if call.name in taken:
                call = Call(
                    f"{call.name}#{len(calls)}", call.namespace, call.op, call.overload, call.arguments, call.outputs,
                    call.module,
                )  # fmt: skip
            taken.add(call.name)
            calls.append(call)
        inputs = [word for node in graph["inputs"] for word in _tensors(node)]
        outputs = [word for node in graph["outputs"] for word in _tensors(node)]
        return Program(tuple(inputs), tuple(outputs), tuple(calls), values)

    def value(self, meta: Mapping[str, Any]) -> Value:
        """What is told of a tensor."""
        if len(meta["sizes"]) > MOST_DIMENSIONS or len(meta["strides"]) > MOST_DIMENSIONS:
            raise FormatError(f"a tensor of {len(meta['sizes'])} dimensions", expected=f"at most {MOST_DIMENSIONS}")
        shape = tuple(self.sizes.dim(size) for size in meta["sizes"])
        strides = tuple(self.sizes.number(self.sizes.dim(size)) for size in meta["strides"])
        dtype = meta["dtype"]
        if not _is_int(dtype) or (dtype not in SCALAR_TYPES and dtype != 0):
            raise FormatError(
                f"dtype {str(dtype)[:40]} is not known", expected="a scalar type of PyTorch 2.13 or older"
            )
        sizes = tuple(self.sizes.number(dim) for dim in shape)
        return Value(shape, SCALAR_TYPES.get(dtype), _device(meta.get("device")), sizes, strides)

    def call(self, node: Mapping[str, Any], integers: Mapping[str, Dim], position: int, depth: int) -> Call:
        target = node["target"]
        if not isinstance(target, str) or not target or len(target) > LONGEST_NAME:
            raise FormatError(f"operator {position} calls {str(target)[:80]!r}", expected="the name of an operator")
        namespace, op, overload = _operator(target)
        arguments = []
        for given in node["inputs"]:
            name = given.get("name")
            if not isinstance(name, str):
                raise FormatError(f"an argument of operator {position} ({target[:80]}) has no name")
            arguments.append((name[:LONGEST_NAME], self.argument(given["arg"], integers, depth)))
        outputs = tuple(word for part in node["outputs"] for word in _tensors(part, keep=True))
        if len(outputs) > MOST_OUTPUTS:
            raise FormatError(f"operator {position} ({target[:80]}) has {len(outputs):,} outputs")
        name = node.get("name") or next((word for word in outputs if word), "") or f"{op}#{position}"
        return Call(
            str(name)[:LONGEST_NAME], namespace, op, overload, tuple(arguments), outputs, _module(node.get("metadata"))
        )

    def argument(self, node: Any, integers: Mapping[str, Dim], depth: int) -> Argument:
        """One argument; tensors become references, symbolic numbers symbols, graphs programs."""
        kind, content = _union(node)
        if kind == "as_none" or content is None:
            return None
        if kind in _PLAIN:
            return _plain(content)
        if kind in _PLAIN_LISTS:
            return tuple(_plain(part) for part in content)
        if kind in ("as_tensor", "as_optional_tensor", "as_tensors", "as_optional_tensors", "as_nested_tensors"):
            return _references(content, 0)
        if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            return self._symbolic(content, integers)
        if kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools"):
            return tuple(self._symbolic(part, integers) for part in content)
        if kind == "as_scalar_type":
            found = SCALAR_TYPES.get(content) if _is_int(content) else None
            return None if found is None else found.name
        if kind == "as_memory_format":
            return _FORMATS.get(content, "") if _is_int(content) else None
        if kind == "as_layout":
            return _LAYOUTS.get(content, "") if _is_int(content) else None
        if kind == "as_device":
            return _device(content)
        if kind == "as_graph":
            return self.graph(content["graph"], depth + 1)
        if kind == "as_string_to_argument":
            if depth > DEEPEST:
                raise FormatError(f"arguments are nested deeper than {DEEPEST}")
            return tuple(self.argument(part, integers, depth + 1) for part in content.values())
        return None  # custom objects, complex numbers and what later versions add

    def _symbolic(self, node: Any, integers: Mapping[str, Dim]) -> Argument:
        kind, content = _union(node)
        return integers.get(content, Symbol(content[:96])) if kind == "as_name" else _plain(content)


def _plain(content: Any) -> Argument:
    if isinstance(content, str | bool | float) or _is_int(content):
        return content  # type: ignore[no-any-return]
    if isinstance(content, list):
        return tuple(part for part in content if isinstance(part, str | bool | int | float))
    return None


def _references(content: Any, depth: int) -> Argument:
    """Tensors in the structure they are given in; absent ones are left out."""
    if depth > 4:
        raise FormatError("lists of tensors are nested without end")
    if isinstance(content, list):
        return tuple(part for item in content if (part := _references(item, depth + 1)) is not None)
    if "name" in content:
        return Ref(_name(content))
    kind, inner = _union(content)
    return None if kind == "as_none" else _references(inner, depth + 1)


def _tensors(node: Any, *, keep: bool = False) -> list[str]:
    """Names of the tensors an argument holds; with `keep` an empty name for each part that is none."""
    kind, content = _union(node)
    if kind == "as_tensor":
        return [_name(content)]
    if kind == "as_tensors":
        return [_name(part) for part in content]
    if kind in ("as_optional_tensor", "as_optional_tensors", "as_nested_tensors"):
        return [part.name for part in _walk(_references(content, 0))]
    return [""] if keep else []


def _walk(argument: Argument) -> Iterator[Ref]:
    if isinstance(argument, Ref):
        yield argument
    elif isinstance(argument, tuple):
        for part in argument:
            yield from _walk(part)


def _target(kind: str, content: Mapping[str, Any], stored: Mapping[str, Stored]) -> str:
    """The tensor that a mutation writes on."""
    if kind == "user_input_mutation":
        return str(content["user_input_name"])
    title = content["buffer_name" if kind == "buffer_mutation" else "parameter_name"]
    return next((place for place, item in stored.items() if item.name == title), "")


def _device(node: Any) -> str:
    if not isinstance(node, dict) or not isinstance(node.get("type"), str):
        return ""
    index = node.get("index")
    return f"{node['type'][:32]}:{index}" if _is_int(index) else str(node["type"][:32])


def _operator(target: str) -> tuple[str, str, str]:
    """("aten", "conv2d", "default") of torch.ops.aten.conv2d.default."""
    parts = target.removeprefix("torch.ops.").removeprefix("#").split(".")
    if target.startswith("torch.ops.") and len(parts) >= 2:
        return parts[0], parts[1], ".".join(parts[2:])
    return "python", parts[-1], ""


def _module(metadata: Any) -> str:
    """The path of the module that made a call, from what the exporter noted."""
    stack = metadata.get("nn_module_stack") if isinstance(metadata, dict) else None
    if not isinstance(stack, str) or not stack:
        return ""
    parts = stack.rpartition(";")[2].split(",")
    return module_path(parts[1]) if len(parts) > 1 else ""


def module_path(path: str) -> str:
    """A module's path without what exporters add to it: a number for each further call, an outer "self"."""
    path = path.split("@", 1)[0].removeprefix("L__self__").removeprefix("L['self']").lstrip(".")
    if (
        len(path) > LONGEST_NAME
        or path.startswith("_empty_nn_module_stack")
        or not path.replace(".", "").isidentifier()
    ):
        return path if path and path.replace(".", "").replace("_", "").isalnum() and len(path) <= LONGEST_NAME else ""
    return path
