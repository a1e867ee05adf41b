"""Keras models to graphs: .keras files, whole-model and weight HDF5 files, configurations, live models.

No layer is deserialised and Keras is never imported for a file: a configuration may name any
module, and loading it as Keras does would run that. Weights are sized, never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from peakmem.errors import FormatError, GraphError, PeakmemError, UsageError
from peakmem.frontends.archive import Archive
from peakmem.frontends.door import door
from peakmem.frontends.head import ZIP
from peakmem.frontends.keras.config import FLOAT32, LARGEST_CONFIG, LayerSpec, Policy, layer_spec, parse, policy
from peakmem.frontends.keras.graph import Draft, known_dtype
from peakmem.frontends.keras.hdf5 import SIGNATURE, Object, Unwritten
from peakmem.frontends.keras.network import Network
from peakmem.frontends.keras.weights import Matching, Stored, file_objects, member_objects, reconcile, unattached
from peakmem.ir.graph import Detail, Graph, Unknown
from peakmem.ir.validate import validate

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
_NO_GRAPH = (
    "its calls are Python code that the configuration does not hold",
    "model.export('model.onnx', format='onnx'), or build it with keras.Model(inputs, outputs)",
)
_ACTIVATION_NOTE = "the activation of a layer is an operator of its own (one tensor more in eager execution)"


def read_keras(path: Path) -> Graph:
    """The graph of a .keras file, an HDF5 model, an HDF5 file of weights or a JSON configuration.

    Raises:
        FormatError: not a Keras model, or a damaged or hostile one.
        GraphError: layers that contradict each other, or a model whose calls are code.
    """
    with door(path, KeyError, IndexError, AttributeError, TypeError, ValueError):
        try:
            return _read(path)
        except PeakmemError as fault:
            if fault.where and not fault.where.startswith(str(path)):
                fault.where = f"{path}: {fault.where}"
                fault.args = (str(fault),)
            raise


def _read(path: Path) -> Graph:
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == ZIP:
        return _archive(path)
    if head == SIGNATURE:
        return _hdf5(path)
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        what = "this is not a Keras model" if head else "the file is empty"
        raise FormatError(what, expected="a .keras archive, an HDF5 file or the JSON of model.to_json()")
    if path.stat().st_size > LARGEST_CONFIG:
        raise FormatError("the file is too large for a configuration")
    return _finished(_model(parse(path.read_bytes(), str(path))), path.stem, str(path), None, [])


def _archive(path: Path) -> Graph:
    with Archive(path) as archive:
        config = parse(archive.read(CONFIG, limit=LARGEST_CONFIG), f"{path}!{CONFIG}")
        details = []
        if METADATA in archive:
            version = parse(archive.read(METADATA, limit=1 << 20), f"{path}!{METADATA}").get("keras_version")
            if isinstance(version, str):
                details.append(Detail("keras version", version[:40]))
        objects: dict[str, Object] | None = None
        note = ""
        if WEIGHTS in archive:
            try:
                objects = member_objects(archive, WEIGHTS)
            except Unwritten as fault:
                note = f"{fault.what}: weights are sized by the configuration"
    graph = _finished(_model(config), path.stem, str(path), objects, details)
    return replace(graph, notes=(*graph.notes, note)) if note else graph


def _hdf5(path: Path) -> Graph:
    objects = file_objects(path)
    root = objects[""]
    text = root.attributes.get("model_config")
    if isinstance(text, str):
        config = parse(text.encode(), f"{path} (model_config)")
        version = root.attributes.get("keras_version")
        details = [Detail("keras version", version[:40])] if isinstance(version, str) else []
        return _finished(_model(config), path.stem, str(path), objects, details)
    tensors, side = unattached(objects)
    if not tensors:
        raise FormatError("this HDF5 file holds neither a Keras model nor weights", expected="what model.save() writes")
    unknown = Unknown(
        path.name, "weights", "the file holds weights and no layers: activations cannot be known",
        "the .keras file or the JSON of model.to_json()",
    )  # fmt: skip
    graph = Graph(
        path.stem, tensors, (), (), (), source=str(path), unknowns=(unknown,), format="keras", details=tuple(side),
        weights_only=True,
    )  # fmt: skip
    validate(graph)
    return graph


def _model(config: Mapping[str, Any]) -> LayerSpec:
    """The model that a configuration describes.

    Raises:
        GraphError: a model without layers, which is one whose calls are code.
    """
    spec = layer_spec(config)
    if not spec.is_model:
        where = f"model {spec.name[:200]!r}"
        raise GraphError(
            f"{spec.class_name[:100]} is a subclassed model; {_NO_GRAPH[0]}", where=where, hint=_NO_GRAPH[1]
        )
    return spec


def _finished(
    spec: LayerSpec, name: str, source: str, objects: Mapping[str, Object] | None, details: list[Detail]
) -> Graph:
    """The graph of a model, its weights checked against those stored."""
    draft = Draft()
    inputs, outputs = _drafted(draft, spec)
    side = reconcile(draft, objects, _layers(spec), source) if objects is not None else []
    _attach(draft)
    return _graph(draft, spec, name, source, inputs, outputs, [*details, *side])


def _drafted(draft: Draft, spec: LayerSpec) -> tuple[list[str], list[str]]:
    default = policy(spec.config.get("dtype"), Policy(FLOAT32, FLOAT32))
    if not spec.known and not spec.config.get("output_layers"):
        draft.note(f"{spec.class_name[:100]} is not Keras' own class; its layers are taken as a Sequential model's")
    elif not spec.known or spec.class_name not in ("Functional", "Sequential", "Model"):
        draft.note(
            f"{spec.class_name[:100]} is not Keras' own class; it is run as the functional model it is written as"
        )
    return Network(draft, default).top(spec)


def _graph(
    draft: Draft, spec: LayerSpec, name: str, source: str, inputs: list[str], outputs: list[str], details: list[Detail]
) -> Graph:
    if any(operator.op_type in _FUSABLE for operator in draft.operators):
        draft.note(_ACTIVATION_NOTE)
    mixed = {operator.op_type for operator in draft.operators if operator.op_type == "Cast"}
    if mixed and any(tensor.role == "constant" and tensor.dtype is FLOAT32 for tensor in draft.tensors.values()):
        draft.note(
            "mixed precision: copies of the weights in the compute dtype, made while a layer runs, are not counted"
        )
    symbols = {
        dim.name
        for tensor in draft.tensors.values()
        if tensor.role in ("input", "state")
        for dim in tensor.shape or ()
        if not isinstance(dim, int)
    }
    graph = Graph(
        spec.name or name, draft.tensors, tuple(draft.operators), tuple(inputs), tuple(outputs),
        defaults={"batch": 1} if "batch" in symbols else {}, source=source, notes=tuple(draft.notes),
        unknowns=tuple(draft.unknowns), format="keras", details=tuple(details),
    )  # fmt: skip
    validate(graph)
    return graph


_FUSABLE = frozenset({"Relu", "Relu6", "Sigmoid", "Tanh", "Softmax", "Silu", "Gelu", "HardSigmoid", "HardSilu"})


def _layers(spec: LayerSpec) -> list[tuple[str, str]]:
    """(name, class name) of the layers at the top, in the order of the configuration."""
    found = []
    for entry in spec.config["layers"]:
        layer = layer_spec({**entry, "inbound_nodes": []})
        found.append((layer.name, layer.class_name))
    return found


def _attach(draft: Draft) -> None:
    """Let a layer of unknown code read the weights that the file has for it."""
    stored: dict[str, list[str]] = {}
    for names in draft.owners.values():
        for full in names:
            owner, _, last = full.rpartition("/")
            if last.startswith("stored_"):
                stored.setdefault(owner, []).append(full)
    if not stored:
        return
    done: set[str] = set()
    for position, operator in enumerate(draft.operators):
        owner = operator.scope
        if owner in stored and owner not in done:
            done.add(owner)
            draft.operators[position] = replace(operator, inputs=(*operator.inputs, *stored[owner]))


# -- live models -------------------------------------------------------------------------


def read_model(model: object) -> Graph:
    """The graph of a live Keras model: its configuration goes the way of a file; weights are not touched.

    Raises:
        UsageError: a subclassed model, or one that was not built.
    """
    where = f"{type(model).__module__}.{type(model).__qualname__}"
    to_json = getattr(model, "to_json", None)
    if not callable(to_json):
        raise UsageError("this is no Keras model", where=where, expected="a keras.Model")
    try:
        text = to_json()
    except Exception as fault:  # a layer of the user's may fail in any way
        raise UsageError(
            f"the model gives no configuration ({type(fault).__name__}: {str(fault)[:200]})", where=where,
            hint=_NO_GRAPH[1],
        ) from fault  # fmt: skip
    spec = _model(parse(text.encode(), where))
    draft = Draft()
    inputs, outputs = _drafted(draft, spec)
    if getattr(model, "built", False):
        _check_live(draft, model, where)
    _attach(draft)
    return _graph(draft, spec, spec.name, where, inputs, outputs, [])


def _check_live(draft: Draft, model: object, where: str) -> None:
    """Hold the variables of a live model against what its layers imply; take over what they have besides."""
    matching = Matching(draft, where)
    homes: dict[str, str] = {}
    # variable -> the constant that stands for it, since a layer may stand in two models
    for layer in getattr(model, "layers", ()):
        stored = []
        for weight in getattr(layer, "weights", ()):
            shape = tuple(int(dim) for dim in weight.shape)
            dtype = known_dtype(str(weight.dtype).rpartition(".")[2], FLOAT32)
            stored.append(Stored(str(id(weight)), shape, dtype, 0))
        for variable, full in matching.layer(str(layer.name), stored).items():
            home = homes.setdefault(variable, full)
            if home != full:
                draft.add(replace(draft.tensors[full], storage=home))


__all__ = ["read_keras", "read_model"]
