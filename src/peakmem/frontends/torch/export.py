"""From torch.export's ExportedProgram to a Program. Imported with torch at hand.

Operators stay as the module calls them (convolutions, norms and attention are one call each);
which results share bytes is told by the memory of the fake tensors they were traced with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch._ops import HigherOrderOperator, OpOverload

from peakmem.frontends.torch.program import Argument, Call, Program, Ref, Stored, Value
from peakmem.frontends.torch.pt2_program import Sizes, module_path
from peakmem.frontends.torch.values import dim_of, stored_as, value_of

Named: TypeAlias = "str | tuple[Named, ...] | None"
# names of the tensors in a result, in its structure


def export(module: Any, positional: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """The ExportedProgram of one call on fake tensors."""
    with torch.no_grad():
        return torch.export.export(module, positional, dict(named), strict=False)


def program_of(exported: Any) -> Program:
    """The program that `exported` is."""
    sizes = Sizes()
    reader = _Reader(sizes)
    body = reader.graph(exported.graph_module)
    signature = exported.graph_signature
    stored: dict[str, Stored] = {}
    given: list[str] = []
    for spec in signature.input_specs:
        kind, name = spec.kind.name, getattr(spec.arg, "name", "")
        if name not in body.values:
            continue  # numbers, tokens and custom objects
        if kind == "USER_INPUT":
            given.append(name)
        else:
            form = {"PARAMETER": "parameter", "BUFFER": "buffer"}.get(kind, "constant")
            held = exported.state_dict.get(spec.target, exported.constants.get(spec.target))
            stored[name] = stored_as(held, spec.target or name, form)  # type: ignore[arg-type]
    outputs: list[str] = []
    copies: list[Call] = []
    values = dict(body.values)
    for spec in signature.output_specs:
        name = getattr(spec.arg, "name", "")
        if name not in values:
            continue
        if spec.kind.name in ("USER_OUTPUT", "LOSS_OUTPUT"):
            outputs.append(name)
        elif spec.kind.name.endswith("_MUTATION"):
            target = next((place for place, item in stored.items() if item.name == spec.target), spec.target)
            if target in values:
                made = f"copy_{len(copies)}_of_{name}"
                values[made] = values[target]
                copies.append(
                    Call(made, "aten", "copy_", "default", (("self", Ref(target)), ("src", Ref(name))), (made,))
                )
    return Program(tuple(given), tuple(outputs), (*body.calls, *copies), values, stored, dict(sizes.hints))


class _Reader:
    """Reads graph modules, bodies included."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.kept: list[Any] = []
        # memory of the traced tensors, held so that no number is used twice

    def graph(self, module: Any) -> Program:
        values: dict[str, Value] = {}
        made: dict[Any, Named] = {}
        stored: dict[str, Stored] = {}
        calls: list[Call] = []
        inputs: list[str] = []
        outputs: list[str] = []
        for node in module.graph.nodes:
            if node.op == "placeholder":
                made[node] = self.name(node.meta.get("val"), node.name, values)
                inputs += _flat(made[node])
            elif node.op == "get_attr":
                held = _attribute(module, node.target)
                if isinstance(held, torch.Tensor):
                    made[node] = self.name(held, node.name, values)
                    stored[node.name] = Stored(str(node.target), "constant")
            elif node.op == "call_function":
                if getattr(node.target, "__name__", "") == "getitem" and made.get(node.args[0]) is not None:
                    made[node] = _item(made[node.args[0]], node.args[1])
                    continue
                made[node] = self.name(node.meta.get("val"), node.name, values)
                calls.append(self.call(module, node, made))
            elif node.op == "output":
                outputs += _flat(_structure(node.args[0], made))
        return Program(tuple(inputs), tuple(outputs), tuple(calls), values, stored)

    def name(self, result: Any, base: str, values: dict[str, Value]) -> Named:
        """Names for the tensors in `result`, noted in `values`."""
        if isinstance(result, torch.Tensor):
            values[base] = value_of(result, self.sizes, self.kept)
            return base
        if isinstance(result, list | tuple):
            return tuple(self.name(part, f"{base}.{at}", values) for at, part in enumerate(result))
        return None

    def call(self, module: Any, node: Any, made: Mapping[Any, Named]) -> Call:
        target = node.target
        outputs = tuple(name or "" for name in _flat(made[node], keep=True))
        stack = node.meta.get("nn_module_stack") or {}
        path = module_path(str(next(reversed(stack.values()))[0])) if stack else ""
        if isinstance(target, OpOverload):
            schema = [argument.name for argument in target._schema.arguments]
            pairs = [*zip(schema, node.args, strict=False), *node.kwargs.items()]
            namespace, op, overload = target.namespace, target._opname, target._overloadname
        else:
            pairs = [*(("", argument) for argument in node.args), *node.kwargs.items()]
            higher = isinstance(target, HigherOrderOperator)
            namespace, op, overload = (
                "higher_order" if higher else "python",
                getattr(target, "__name__", str(target)),
                "",
            )
        arguments = tuple((name, self.argument(module, value, made)) for name, value in pairs)
        return Call(node.name, namespace, op, overload, arguments, outputs, path)

    def argument(self, module: Any, value: Any, made: Mapping[Any, Named]) -> Argument:
        if isinstance(value, torch.fx.Node):
            if value.op == "get_attr" and value not in made:
                held = _attribute(module, str(value.target))
                return self.graph(held) if isinstance(held, torch.fx.GraphModule) else None
            named = made.get(value)
            return plain(value.meta.get("val"), self.sizes) if named is None else _references(named)
        if isinstance(value, list | tuple):
            return tuple(self.argument(module, part, made) for part in value)
        if isinstance(value, dict):
            return tuple(self.argument(module, part, made) for part in value.values())
        return plain(value, self.sizes)


def plain(value: Any, sizes: Sizes) -> Argument:
    """A number, a text, or a symbol; dtypes and devices as their names."""
    if isinstance(value, torch.SymInt):
        return dim_of(value, sizes)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.dtype | torch.device | torch.layout | torch.memory_format):
        return str(value).removeprefix("torch.")
    if isinstance(value, list | tuple):
        return tuple(plain(part, sizes) for part in value)
    return None


def _attribute(module: Any, path: str) -> Any:
    for part in str(path).split("."):
        module = getattr(module, part)
    return module


def _item(named: Named, index: Any) -> Named:
    return (
        named[index]
        if isinstance(named, tuple) and isinstance(index, int) and -len(named) <= index < len(named)
        else None
    )


def _flat(named: Named, *, keep: bool = False) -> list[str]:
    return list(_names(named, keep))


def _names(named: Named, keep: bool) -> Iterator[str]:
    if isinstance(named, str):
        yield named
    elif isinstance(named, tuple):
        for part in named:
            yield from _names(part, keep)
    elif keep:
        yield ""


def _references(named: Named) -> Argument:
    if isinstance(named, str):
        return Ref(named)
    return None if named is None else tuple(_references(part) for part in named)


def _structure(value: Any, made: Mapping[Any, Named]) -> Named:
    if isinstance(value, torch.fx.Node):
        return made.get(value)
    if isinstance(value, list | tuple):
        return tuple(_structure(part, made) for part in value)
    if isinstance(value, dict):
        return tuple(_structure(part, made) for part in value.values())
    return None
