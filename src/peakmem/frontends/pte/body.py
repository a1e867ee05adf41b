"""What an XNNPACK delegate computes, as the body of the operator that stands for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peakmem.frontends.pte import xnnpack
from peakmem.frontends.pte.program import Place
from peakmem.ir.graph import Graph, Operator, Tensor

DOMAIN = "xnnpack"


@dataclass(frozen=True, slots=True)
class Body:
    """The graph of a delegate, and the constants of the enclosing graph that it reads."""

    graph: Graph
    constants: tuple[str, ...]


def body(
    blob: xnnpack.Blob,
    title: str,
    outer: dict[str, Tensor],
    owners: dict[Place | str, str],
    unique: Callable[[str], str],
) -> Body:
    """`blob` as a graph whose constants are filed in `outer`."""
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    constants: list[str] = []
    for value in blob.values:
        dtype = xnnpack.DTYPES.get(value.datatype)
        name = unique(f"{title}/{value.id}")
        names[value.id] = name
        if value.constant is not None:
            identity: Place | str = value.constant if value.constant.start else value.name
            owner = owners.setdefault(identity, name)
            outer[name] = Tensor(name, value.shape, dtype, "constant", owner if owner != name else "")
            constants.append(name)
        else:
            role = "input" if value.flags & xnnpack.INPUT else "activation"
            tensors[name] = Tensor(name, value.shape, dtype, role)  # type: ignore[arg-type]
    operators = []
    for step, node in enumerate(blob.nodes):
        inputs = tuple("" if number == xnnpack.NONE else names[number] for number in node.reads)
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        made = tuple(names[number] for number in node.makes)
        operators.append(
            Operator(unique(f"{title}/{node.type}_{step}"), node.type, inputs, made, _attributes(node), DOMAIN, title)
        )
    made_names = {name for operator in operators for name in operator.outputs}
    graph = Graph(
        "body", tensors, tuple(operators),
        tuple(names[one.id] for one in blob.values if one.flags & xnnpack.INPUT),
        tuple(name for one in blob.values if one.flags & xnnpack.OUTPUT and (name := names[one.id]) in made_names),
    )  # fmt: skip
    return Body(graph, tuple(constants))


_PAIRS = (
    ("kernel_shape", "kernel"), ("kernel_shape", "pooling"), ("strides", "subsampling"), ("strides", "stride"),
    ("dilations", "dilation"),
)  # fmt: skip


def _attributes(node: xnnpack.Node) -> dict[str, Any]:
    """Fields in ONNX's words where they mean the same."""
    found: dict[str, Any] = dict(node.fields)
    for name, stem in _PAIRS:
        if f"{stem}_height" in found:
            found[name] = (found.pop(f"{stem}_height"), found.pop(f"{stem}_width"))
    if "padding_top" in found:
        found["pads"] = tuple(found.pop(f"padding_{side}") for side in ("top", "left", "bottom", "right"))
    if "groups" in found:
        found["group"] = found.pop("groups")
    return found
