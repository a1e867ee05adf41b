"""The wiring of Keras models: which layer is called when, on what; models in models written out.

The order of calls is that of Keras itself, which runs a functional model by depth: the calls
farthest from an output first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from peakmem.errors import GraphError
from peakmem.frontends.keras.config import (
    MOST_LAYERS,
    LayerSpec,
    Node,
    Policy,
    TensorRef,
    endpoints,
    layer_spec,
    policy,
    shape_of,
)
from peakmem.frontends.keras.graph import Draft, Given, LayerCall, known_dtype, tensors_in
from peakmem.frontends.keras.layers import write_layer
from peakmem.ir.dims import Shape, Symbol
from peakmem.ir.graph import Tensor

DEEPEST_MODEL = 32
# models in models
MOST_CALLS = 15_000
Key = tuple[str, int]
# layer, number of its call


class Wiring:
    """The layers of one model, whichever way it is written, as calls that name each other's results."""

    def __init__(self, spec: LayerSpec, path: str) -> None:
        self.spec = spec
        self.path = path
        entries = spec.config.get("layers")
        if not isinstance(entries, list) or len(entries) > MOST_LAYERS:
            raise GraphError(f"its layers are no list of at most {MOST_LAYERS:,}", where=f"model {spec.name[:200]!r}")
        self.layers: dict[str, LayerSpec] = {}
        for entry in entries:
            layer = layer_spec(entry)
            if layer.name in self.layers:
                raise GraphError(f"two layers are called {layer.name[:200]!r}", where=f"model {spec.name[:200]!r}")
            self.layers[layer.name] = layer
        self.sequential = "output_layers" not in spec.config
        self.inputs: list[TensorRef] = []
        self.outputs: list[TensorRef] = []
        self.nodes: dict[Key, Node] = {}
        if self.sequential:
            self._chain()
        else:
            self._functional()

    def _chain(self) -> None:
        """A Sequential model: each layer is called on the one before."""
        names = [name for name, layer in self.layers.items() if layer.class_name != "InputLayer"]
        first = next((name for name, layer in self.layers.items() if layer.class_name == "InputLayer"), "")
        last = TensorRef(first or "<input>", 0, 0)
        self.inputs = [last]
        for name in names:
            self.nodes[name, 0] = Node((last,), {})
            last = TensorRef(name, 0, 0)
        self.outputs = [last]

    def _functional(self) -> None:
        """A functional model: each layer lists its calls, and each call the tensors it is given.

        A model is born with a call of its own that no file lists. Keras 3 counts it in the inputs and
        outputs of the model around it alone, and for functional models alone; Keras 2 counts it always.
        """
        config = self.spec.config
        old = any(node.old for layer in self.layers.values() for node in layer.nodes)

        def shifted(ref: TensorRef, born: bool) -> TensorRef:
            return replace(ref, node=ref.node - 1) if born and ref.node > 0 else ref

        def endpoint(ref: TensorRef) -> TensorRef:
            layer = self.layers.get(ref.layer)
            return shifted(ref, layer is not None and layer.is_model and (old or "output_layers" in layer.config))

        def inner(ref: TensorRef) -> TensorRef:
            layer = self.layers.get(ref.layer)
            return shifted(ref, old and layer is not None and layer.is_model)

        self.inputs = [endpoint(ref) for ref in endpoints(config.get("input_layers"))]
        self.outputs = [endpoint(ref) for ref in endpoints(config["output_layers"])]
        if not self.outputs:
            raise GraphError("the model has no output", where=self.where)
        for name, layer in self.layers.items():
            for index, node in enumerate(layer.nodes):
                if node.old:
                    node = replace(node, args=_filled(node.args, inner), kwargs=_filled(node.kwargs, inner))
                self.nodes[name, index] = node

    @cached_property
    def order(self) -> list[Key]:
        """The calls in the order in which Keras makes them.

        Raises:
            GraphError: a cycle, or a tensor of no layer.
        """
        given = {(ref.layer, ref.node) for ref in self.inputs}
        done: list[Key] = []
        state: dict[Key, int] = {}
        parents: dict[Key, list[Key]] = {}
        for output in self.outputs:
            stack: list[tuple[Key, int]] = [((output.layer, output.node), 0)]
            while stack:
                key, at = stack.pop()
                if at == 0:
                    if state.get(key) == 2:
                        continue
                    if state.get(key) == 1:
                        raise GraphError(f"its calls form a cycle through {key[0][:200]!r}", where=self.where)
                    state[key] = 1
                    node = None if key in given else self.nodes.get(key)
                    if node is None and key not in given:
                        raise GraphError(f"a layer reads call {key[1]} of {key[0][:200]!r}, which is not there",
                                         where=self.where)  # fmt: skip
                    parents[key] = [] if node is None else [(ref.layer, ref.node) for ref in node.refs]
                if at < len(parents[key]):
                    stack.append((key, at + 1))
                    child = parents[key][at]
                    if state.get(child) == 1:
                        raise GraphError(f"its calls form a cycle through {child[0][:200]!r}", where=self.where)
                    if state.get(child) != 2:
                        stack.append((child, 0))
                    continue
                state[key] = 2
                done.append(key)
        return [key for key in _by_depth(done, parents) if key not in given]

    @property
    def where(self) -> str:
        """The model, for a message."""
        return f"model {self.spec.name[:200]!r}"


def _by_depth(done: Sequence[Key], parents: Mapping[Key, Sequence[Key]]) -> list[Key]:
    """`done` (inputs before outputs) by distance to an output, as keras.ops.Function sorts its nodes."""
    depths: dict[Key, int] = {}
    of_layer: dict[str, int] = {}
    for key in reversed(done):
        depth = max(depths.setdefault(key, 0), of_layer.get(key[0], 0))
        of_layer[key[0]] = depths[key] = depth
        for parent in parents[key]:
            depths[parent] = max(depth + 1, depths.get(parent, 0))
    ranked = sorted(depths, key=lambda key: -depths[key])
    made: set[Key] = set()
    for key in ranked:
        if any(parent not in made for parent in parents[key]):
            return list(done)
        made.add(key)
    return ranked


class Network:
    """Writes a model into a draft, models inside it included."""

    def __init__(self, draft: Draft, default: Policy) -> None:
        self.draft = draft
        self.default = default
        self.wirings: dict[str, Wiring] = {}
        # by path: a model that is called often is read once
        self.calls = 0

    def top(self, spec: LayerSpec) -> tuple[list[str], list[str]]:
        """Inputs and outputs of the whole model."""
        wiring = Wiring(spec, "")
        names = []
        for ref in wiring.inputs:
            layer = wiring.layers.get(ref.layer)
            shape, dtype, name = self._input(spec, wiring, layer)
            if name in self.draft.tensors:
                raise GraphError(f"two inputs are called {name[:200]!r}", where=wiring.where)
            names.append(self.draft.add(Tensor(name, shape, dtype, "input")))
        outputs = self.run(wiring, names, policy(spec.config.get("dtype"), self.default), 0)
        return names, outputs

    def _input(self, spec: LayerSpec, wiring: Wiring, layer: LayerSpec | None) -> tuple[Shape, Any, str]:
        """Shape, dtype and name of an input of the whole model."""
        found: Mapping[str, Any] = {}
        name = "input"
        if layer is not None:
            found, name = layer.config, layer.name
            if layer.class_name != "InputLayer":
                raise GraphError(f"its input {name[:200]!r} is a {layer.class_name[:100]}", where=wiring.where)
            if found.get("ragged") or found.get("sparse"):
                self.draft.note(f"input {name[:100]!r} is sparse or ragged; its size is that of the dense tensor")
        first = next(iter(wiring.layers.values()), None)
        candidates: list[Any] = [found.get("batch_shape"), found.get("batch_input_shape")]
        if wiring.sequential:
            inner = _first_layer(first)
            for one in (first, inner):
                if one is not None:
                    candidates += [one.config.get("batch_shape"), one.config.get("batch_input_shape")]
            candidates += [spec.config.get("build_input_shape"), spec.built.get("input_shape")]
            if first is not None:
                candidates.append(first.built.get("input_shape"))
        shape = next((shape for shape in map(shape_of, candidates) if shape is not None), None)
        if shape is None and any(isinstance(one, list) for one in candidates):
            raise GraphError(f"the shape of its input {name[:200]!r} is no list of sizes", where=wiring.where)
        if shape is None:
            raise GraphError(
                "the model has no input shape: it was saved before it was built",
                where=wiring.where,
                hint="start it with keras.Input(shape=…), or call it once, and save it again",
            )
        dims = tuple(
            (Symbol("batch") if axis == 0 else Symbol(f"{name[:200]}.{axis}")) if dim is None else dim
            for axis, dim in enumerate(shape)
        )
        kind = found.get("dtype")
        if not found and first is not None:
            kind = first.config.get("dtype") if first.class_name != "Embedding" else "float32"
        dtype = known_dtype(kind) if isinstance(kind, str) else policy(kind, self.default).compute
        return dims, dtype, name[:200]

    def run(self, wiring: Wiring, inputs: Sequence[str], outer: Policy, depth: int) -> list[str]:
        """Call every layer of a model on the tensors called `inputs`; the names of its outputs."""
        if depth > DEEPEST_MODEL:
            raise GraphError(f"models are nested deeper than {DEEPEST_MODEL}", where=wiring.where)
        if len(inputs) < len(wiring.inputs):
            raise GraphError(f"is called with {len(inputs)} tensors", where=wiring.where,
                             expected=f"{len(wiring.inputs)}")  # fmt: skip
        results: dict[Key, list[str]] = {}
        for ref, name in zip(wiring.inputs, inputs, strict=False):
            row = results.setdefault((ref.layer, ref.node), [])
            row.extend([name] * (ref.index + 1 - len(row)))
        wanted: dict[Key, int] = {}
        recorded: dict[tuple[Key, int], TensorRef] = {}
        order = wiring.order
        for key in order:
            for ref in wiring.nodes[key].refs:
                at = (ref.layer, ref.node)
                wanted[at] = max(wanted.get(at, 1), ref.index + 1)
                if ref.shape is not None:
                    recorded[at, ref.index] = ref
        for ref in wiring.outputs:
            wanted[ref.layer, ref.node] = max(wanted.get((ref.layer, ref.node), 1), ref.index + 1)

        def look(ref: TensorRef) -> Given:
            row = results.get((ref.layer, ref.node), [])
            if ref.index >= len(row):
                raise GraphError(f"layer {ref.layer[:200]!r} has no output {ref.index}", where=wiring.where)
            return Given(row[ref.index])

        for key in order:
            layer, node = wiring.layers[key[0]], wiring.nodes[key]
            args = _filled(node.args, look)
            given = _filled(node.kwargs, look)
            made = self.call(layer, wiring.path, args, given, outer, wanted.get(key, 1), depth)
            for index, name in enumerate(made):
                said = recorded.get((key, index))
                if said is not None:
                    self.draft.declare(name, said.shape, said.dtype)
            results[key] = made
        return [look(ref) for ref in wiring.outputs]

    def call(
        self, spec: LayerSpec, outer_path: str, args: Any, given: Mapping[str, Any], outer: Policy, wanted: int,
        depth: int,
    ) -> list[str]:  # fmt: skip
        """Call one layer or model; the names of its outputs."""
        path = f"{outer_path}/{spec.name}" if outer_path else spec.name
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise GraphError(f"layers are called more than {MOST_CALLS:,} times", where=f"layer {path[:200]!r}")
        own = policy(spec.config.get("dtype"), outer)
        if spec.is_model:
            wiring = self.wirings.get(path)
            if wiring is None:
                wiring = self.wirings[path] = Wiring(spec, path)
            return self.run(wiring, tensors_in(args) or tensors_in(given), own, depth + 1)
        if depth > DEEPEST_MODEL:
            raise GraphError(f"layers are nested deeper than {DEEPEST_MODEL}", where=f"layer {path[:200]!r}")
        return write_layer(LayerCall(self.draft, self, spec, path, args, given, own, wanted, depth))


def _first_layer(spec: LayerSpec | None) -> LayerSpec | None:
    """The first layer of a model that starts a Sequential one, or what a wrapper holds."""
    for _ in range(DEEPEST_MODEL):
        if spec is None or not spec.is_model or not spec.config["layers"]:
            return None
        spec = layer_spec(spec.config["layers"][0])
        if not spec.is_model:
            return spec
    return None


def _filled(value: Any, look: Callable[[TensorRef], Any]) -> Any:
    """`value` with what `look` says in the place of references."""
    if isinstance(value, TensorRef):
        return look(value)
    if isinstance(value, list | tuple):
        return [_filled(item, look) for item in value]
    if isinstance(value, Mapping):
        return {key: _filled(item, look) for key, item in value.items()}
    return value
