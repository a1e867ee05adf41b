"""Paths of modules and names of parameters, as PyTorch would have them, from those of a graph; and what repeats."""

from __future__ import annotations

import re
from collections import Counter
from fnmatch import fnmatchcase

from peakmem.ir.graph import Graph, Operator
from peakmem.ir.kinds import BIASES, NORM_AFFINE, WEIGHTS, key

_LEAF = re.compile(r"[./](weight|bias|running_mean|running_var|gamma|beta|kernel|W|R|B)$")
_NUMBERED = re.compile(r"^(.*?(?:^|\.|_)\d+)(?:\.|$)")


def parameter_name(name: str, form: str) -> str:
    """A constant's name as a module's."""
    return name.replace("/", ".").strip(".") if form == "zoo" or "/" in name else name


def module_path(operator: Operator, graph: Graph) -> str:
    """The module that an operator belongs to: by its scope, else that of its parameter."""
    if graph.format in ("zoo", "hf_config"):
        return operator.name.replace("/", ".")
    path = ""
    for part in operator.scope.split("/"):
        if part:
            path = part if not path or part.startswith(path + ".") else f"{path}.{part}"
    return path or _owner(operator, graph)


def _owner(operator: Operator, graph: Graph) -> str:
    kind = key(operator)
    for places in (WEIGHTS, BIASES, NORM_AFFINE):
        for at in places.get(kind, ()):
            tensor = graph.tensors.get(operator.inputs[at]) if at < len(operator.inputs) else None
            match = _LEAF.search(tensor.name) if tensor is not None and tensor.role == "constant" else None
            if tensor is not None and match:
                return tensor.name[: match.start()].replace("/", ".").strip(".")
    return ""


def blocks_of(graph: Graph) -> list[str]:
    """Module paths of the blocks that a graph repeats, in its order."""
    found = blocks([module_path(operator, graph) for operator in graph.operators], "blocks")
    return list(dict.fromkeys(found.values()))


def blocks(paths: list[str], wanted: str) -> dict[str, str]:
    """The block that each path belongs to, of those that a scenario's `recompute` means; empty where none is meant.

    "blocks" means what stands numbered beside others of its kind and holds more than one module.
    """
    if wanted == "blocks" or wanted.startswith("every-"):
        inside: Counter[str] = Counter()
        block_of: dict[str, str] = {}
        for path in dict.fromkeys(paths):
            match = _NUMBERED.match(path)
            if match:
                block_of[path] = match[1]
                inside[match[1]] += path != match[1]
        kept = [block for block in inside if inside[block] > 1]
        if wanted.startswith("every-"):
            kept = kept[:: max(int(wanted.removeprefix("every-")), 1)]
        return {path: block for path, block in block_of.items() if block in set(kept)}
    found = {}
    for path in paths:
        parts = path.split(".")
        for length in range(1, len(parts) + 1):
            if fnmatchcase(".".join(parts[:length]), wanted):
                found[path] = ".".join(parts[:length])
                break
    return found
