"""The formats peakmem reads by itself: how each is recognised, what it needs and what it leaves open.

Nothing but names, first bytes and short listings is looked at here; the readers are imported when
a file is theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from peakmem.frontends.frontend import FrontEnd, later
from peakmem.frontends.head import ZIP, Head

_PT2 = re.compile(r"(^|/)(models/[^/]+\.json|serialized_exported_program\.json|archive_format)$")


def _tflite(head: Head) -> bool:
    return head.data[4:8] == b"TFL3"


def _pte(head: Head) -> bool:
    return head.data[4:6] == b"ET" and head.data[6:8].isdigit()


def _mnn(head: Head) -> bool:
    """By its name alone: a flatbuffer without a mark."""
    return head.suffix == ".mnn"


def _ncnn_text(head: Head) -> bool:
    return head.text.lstrip().split("\n", 1)[0].strip() == "7767517"


def _is_pnnx(head: Head) -> bool:
    return _ncnn_text(head) and re.search(r"^pnnx\.(Input|Attribute)\s", head.text, re.MULTILINE) is not None


def _ncnn(head: Head) -> bool:
    if head.data[:4] == (7767517).to_bytes(4, "little"):
        return True
    return _ncnn_text(head) and not _is_pnnx(head)


def _pt2(head: Head) -> bool:
    return any(_PT2.search(name) for name in head.members)


def _checkpoint(head: Head) -> bool:
    if head.data.startswith(ZIP):
        return any(name.endswith("data.pkl") for name in head.members)
    if head.data[257:262] == b"ustar":
        return head.data[:100].rstrip(b"\0").removeprefix(b"./") in (b"sys_info", b"pickle", b"tensors", b"storages")
    return head.data[:1] == b"\x80" and head.data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _keras(head: Head) -> bool:
    if head.data.startswith(ZIP):
        return "config.json" in head.members and "model.weights.h5" in head.members
    if head.data.startswith(b"\x89HDF\r\n"):
        return True
    return isinstance(head.json, dict) and "class_name" in head.json and "config" in head.json


def _safetensors(head: Head) -> bool:
    if head.is_folder:
        return not head.has("config.json") and any(name.endswith(".safetensors") for name in head.files)
    if len(head.data) > 8 and head.data[8:9] == b"{" and int.from_bytes(head.data[:8], "little") < 1 << 40:
        return True
    return isinstance(head.json, dict) and isinstance(head.json.get("weight_map"), dict)


def _gguf(head: Head) -> bool:
    return head.data[:4] in (b"GGUF", b"FUGG")


def _hf_config(head: Head) -> bool:
    if head.is_folder:
        return head.has("config.json")
    return isinstance(head.json, dict) and ("model_type" in head.json or "architectures" in head.json)


def _layer_table(head: Head) -> bool:
    return head.suffix in (".csv", ".tsv", ".md", ".yaml", ".yml") and bool(head.text.strip())


def _onnx(head: Head) -> bool:
    """Whether the file is called ONNX or starts as one does, with field 1, a small version number."""
    return head.suffix == ".onnx" or (head.data[:1] == b"\x08" and 0 < int.from_bytes(head.data[1:2], "little") < 64)


BUILT_IN: tuple[FrontEnd, ...] = (
    FrontEnd(
        "tflite", "TensorFlow Lite", (".tflite",), _tflite, later("peakmem.frontends.tflite.reader:read_tflite"),
        reads="operators, tensors with quantisation, subgraphs, signatures, variable tensors, metadata",
        unknown="workspace of the kernels; sizes that an operator decides while running",
        options={
            "signature": "the function to read, by its key; the first subgraph unless told",
            "subgraph": "the subgraph to read, by number or name",
        },
    ),
    FrontEnd(
        "pte", "ExecuTorch program", (".pte",), _pte, later("peakmem.frontends.pte.reader:read_pte"),
        reads="kernels and delegates in their order, tensors with their place in planned memory, states, constants; "
        "what XNNPACK's delegates compute",
        unknown="what other delegates compute; workspace and repacked weights; sizes that only running tells",
        options={"method": "the method to read; forward, or the first where there is none, unless told"},
    ),
    FrontEnd(
        "ncnn", "ncnn", (".param", ".param.bin"), _ncnn, later("peakmem.frontends.ncnn.reader:read_ncnn"),
        reads="layers and tensors of a text or binary param file; weights from the layers, checked against a .bin",
        unknown="input shapes where the file has none (--shape); workspace and repacked weights",
    ),
    FrontEnd(
        "mnn", "MNN", (".mnn",), _mnn, later("peakmem.frontends.mnn.reader:read_mnn"),
        reads="operators, weights inside them, small constants, sizes of inputs",
        unknown="bodies of loops and branches; workspace and repacked weights",
    ),
    FrontEnd(
        "pnnx", "pnnx", (".pnnx.param",), _is_pnnx, later("peakmem.frontends.ncnn.pnnx:read_pnnx"),
        reads="operators, operands with their recorded shapes, attributes",
        unknown="shapes the file does not record",
    ),
    FrontEnd(
        "pt2", "PyTorch exported program", (".pt2",), _pt2, later("peakmem.frontends.torch.pt2:read_pt2"),
        reads="the exported graph with symbolic dimensions, parameters, buffers and their sharing; no torch needed",
        unknown="what a custom operator allocates inside",
    ),
    FrontEnd(
        "torch_checkpoint", "PyTorch checkpoint", (".pt", ".pth", ".ckpt", ".bin"), _checkpoint,
        later("peakmem.frontends.checkpoint.reader:read_checkpoint"),
        reads="tensors from the archive's directory and a pickle reader that resolves no global",
        unknown="activations: the file holds weights and no operators",
    ),
    FrontEnd(
        "keras", "Keras", (".keras", ".h5", ".json"), _keras, later("peakmem.frontends.keras.reader:read_keras"),
        reads="layers of Sequential and Functional models from their configuration, headers of the weights",
        unknown="custom and Lambda layers without a recorded shape",
    ),
    FrontEnd(
        "safetensors", "safetensors", (".safetensors", ".safetensors.index.json"), _safetensors,
        later("peakmem.frontends.safetensors.reader:read_safetensors"),
        reads="names, dtypes, shapes and offsets of all tensors, over all shards",
        unknown="activations, unless a config.json of a known family lies beside the file",
    ),
    FrontEnd(
        "gguf", "GGUF", (".gguf",), _gguf, later("peakmem.frontends.gguf.reader:read_gguf"),
        reads="names, block formats, shapes and offsets of all tensors, metadata",
        unknown="activations, but for the key-value cache that the metadata allows to compute",
    ),
    FrontEnd(
        "hf_config", "Hugging Face config.json", ("config.json",), _hf_config,
        later("peakmem.frontends.hf.reader:read_hf_config"),
        reads="the network of a known family, its key-value cache; weights of a folder are checked against it",
        unknown="families that are not known are refused",
        options={
            "attention": "fused (the default: an engine's, scores are never held), sdpa (the library's modules with "
            "fused attention) or eager (its eager code, which holds the score matrix)",
            "context": "tokens the key-value cache has room for; the sequence length unless told",
            "kv_dtype": "dtype of the key-value cache; that of the weights unless told",
            "logits": "last (the default: the head is asked for the last token, as in generation) or all",
        },
    ),
    FrontEnd(
        "layer_table", "layer table", (".csv", ".tsv", ".md", ".yaml", ".yml"), _layer_table,
        later("peakmem.frontends.table.reader:read_layer_table"),
        reads="layers as people write them: conv 3x3x3x32 s2 in 224x224x3",
        unknown="branches that no row names",
    ),
)  # fmt: skip
# asked in this order; each knows its own bytes

ONNX = FrontEnd(
    "onnx", "ONNX", (".onnx",), _onnx, later("peakmem.frontends.onnx.reader:read_onnx"),
    reads="operators, shapes, small constants, control flow, functions; weights are stepped over",
    unknown="sizes that depend on the data, unless --dim gives them",
)  # fmt: skip
# its files have no mark of their own, so that it takes what is left

_FOREIGN: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"ORTM", "an ONNX Runtime .ort file, which is not read", "give the .onnx file it was made from"),
    (4, b"ORTM", "an ONNX Runtime .ort file, which is not read", "give the .onnx file it was made from"),
    (0, ZIP, "a zip archive, damaged or without a model that peakmem knows", "peakmem formats"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first"),
)


def foreign(head: Head) -> tuple[str, str]:
    """What a file is that no front end reads, and what to do; two empty texts when it is not known."""
    if head.is_folder:
        if head.has("saved_model.pb"):
            return (
                "a TensorFlow SavedModel, which is not read",
                "convert it to TFLite (tf.lite.TFLiteConverter.from_saved_model) or to ONNX (tf2onnx)",
            )
        return "a folder without a model that peakmem knows", "peakmem formats"
    if head.path.name in ("saved_model.pb", "keras_metadata.pb"):
        return (
            "part of a TensorFlow SavedModel, which is not read",
            "convert it to TFLite (tf.lite.TFLiteConverter.from_saved_model) or to ONNX (tf2onnx)",
        )
    named = head.suffix in (".pt", ".pth", ".ckpt", ".bin", ".pt2", ".keras")
    for offset, magic, what, advice in _FOREIGN:
        if head.data[offset : offset + len(magic)] == magic and not (magic == ZIP and named):
            return what, advice
    if head.json is not None:
        return "a JSON file without a model that peakmem knows", "peakmem formats"
    return "", ""


@dataclass(frozen=True, slots=True)
class Listed:
    """What `peakmem formats` says of a format or of another kind of source."""

    name: str
    title: str
    given_as: tuple[str, ...]
    library: str
    # what has to be importable; empty when nothing has to
    extra: str
    reads: str
    unknown: str
    options: Mapping[str, str]


LIVE: tuple[Listed, ...] = (
    Listed(
        "torch", "PyTorch module", ("package.module:factory", "torch.nn.Module in Python"), "torch", "torch",
        "the graph of one call, captured on tensors without memory; parameters, buffers, sharing, module paths",
        "code that depends on the data; what a custom operator allocates inside",
        {"--input": "what the module is called with: 1x3x224x224, ids=1x128:int64"},
    ),
    Listed(
        "keras_model", "Keras model", ("package.module:factory", "keras.Model in Python"), "keras", "keras",
        "layers of a Sequential or Functional model", "layers of a subclassed model", {},
    ),
    Listed(
        "zoo", "built-in network", ("mobilenet_v1", "mobilenet_v2:width=0.5"), "", "",
        "networks as their papers define them (peakmem zoo)", "nothing but workspace", {},
    ),
)  # fmt: skip


def listed() -> dict[str, Listed]:
    """Everything that can be given, by name: formats with a reader, those of other packages, live models."""
    from peakmem.frontends import front_ends

    own = {front_end.name: front_end for front_end in (ONNX, *BUILT_IN)}
    own.update({name: front_end for name, front_end in front_ends().items() if name not in own})
    rows = [
        Listed(
            one.name, one.title, one.suffixes, one.library or one.extra, one.extra, one.reads, one.unknown, one.options
        )
        for one in own.values()
    ]
    return {row.name: row for row in (*rows, *LIVE)}
