"""Small Keras models written by hand, so that the core is tested without Keras."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from tests.unit.frontends.hdf5_files import hdf5


def layer(
    class_name: str, name: str, inbound: Any = None, module: str = "keras.layers", **config: Any
) -> dict[str, Any]:
    """A layer as Keras 3 writes it; `inbound` lists the names of the layers it is called on, once per call."""
    entry: dict[str, Any] = {
        "module": module, "class_name": class_name, "registered_name": None,
        "config": {"name": name, "trainable": True, "dtype": "float32", **config},
    }  # fmt: skip
    if inbound is not None:
        entry["name"] = name
        entry["inbound_nodes"] = [call(*sources) for sources in inbound]
    return entry


def ref(name: str, node: int = 0, tensor: int = 0, shape: Any = None) -> dict[str, Any]:
    """A symbolic tensor."""
    config = {"shape": shape, "dtype": "float32", "keras_history": [name, node, tensor]}
    return {"class_name": "__keras_tensor__", "config": config}


def call(*sources: Any) -> dict[str, Any]:
    """One call of a layer."""
    refs = [source if isinstance(source, dict) else ref(source) for source in sources]
    return {"args": [refs[0] if len(refs) == 1 else refs], "kwargs": {}}


def entry(name: str, *shape: int | None, inbound: bool = True, dtype: str = "float32") -> dict[str, Any]:
    """An InputLayer."""
    made = layer("InputLayer", name, [] if inbound else None, batch_shape=list(shape))
    made["config"]["dtype"] = dtype
    return made


def functional(layers: list[dict[str, Any]], inputs: Any, outputs: Any, name: str = "net") -> dict[str, Any]:
    """A functional model."""
    config = {"name": name, "trainable": True, "layers": layers, "input_layers": inputs, "output_layers": outputs}
    return {"module": "keras.src.models.functional", "class_name": "Functional", "config": config,
            "registered_name": "Functional"}  # fmt: skip


def sequential(layers: list[dict[str, Any]], name: str = "net") -> dict[str, Any]:
    """A Sequential model."""
    config = {"name": name, "trainable": True, "dtype": "float32", "layers": layers}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}


TINY = sequential(
    [
        entry("image", None, 8, 8, 3, inbound=False),
        layer("Conv2D", "conv", filters=4, kernel_size=[3, 3], strides=[1, 1], padding="valid", activation="relu",
              use_bias=True),
        layer("BatchNormalization", "norm", axis=-1),
        layer("Flatten", "flat"),
        layer("Dense", "head", units=5, activation="softmax", use_bias=True),
    ]
)  # fmt: skip
# 8x8x3 -> 6x6x4 -> 144 -> 5; weights 3*3*3*4 + 4 + 4*4 + 144*5 + 5 = 853

RESIDUAL = functional(
    [
        entry("image", None, 8, 8, 4),
        layer("Conv2D", "a", [["image"]], filters=4, kernel_size=3, padding="same", activation="linear"),
        layer("Add", "sum", [["image", "a"]]),
        layer("ReLU", "relu", [["sum"]]),
        layer("GlobalAveragePooling2D", "pool", [["relu"]]),
        layer("Dense", "head", [["pool"]], units=2, activation="linear"),
    ],
    ["image", 0, 0],
    ["head", 0, 0],
)

TINY_WEIGHTS = {
    "layers": {
        "conv2d": {"vars": {"@name": "conv", "0": ((3, 3, 3, 4), "float32"), "1": ((4,), "float32")}},
        "batch_normalization": {"vars": {"@name": "norm", **{str(i): ((4,), "float32") for i in range(4)}}},
        "flatten": {"vars": {"@name": "flat"}},
        "dense": {"vars": {"@name": "head", "0": ((144, 5), "float32"), "1": ((5,), "float32")}},
    },
    "vars": {"@name": "net"},
}


def keras_file(config: Any = TINY, weights: Any = None, *, method: int = zipfile.ZIP_STORED) -> bytes:
    """A .keras archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1", "date_saved": "2026-01-01"}))
        archive.writestr("config.json", config if isinstance(config, str | bytes) else json.dumps(config))
        archive.writestr("model.weights.h5", weights if isinstance(weights, bytes) else hdf5(weights or TINY_WEIGHTS))
    return stream.getvalue()


def legacy_file(config: Any = TINY) -> bytes:
    """A whole model in HDF5, as Keras 2 and `model.save('x.h5')` write it."""
    weights = {
        "conv": {"conv": {"kernel": ((3, 3, 3, 4), "float32"), "bias": ((4,), "float32")}},
        "norm": {"norm": dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), ((4,), "float32"))},
        "flat": {},
        "head": {"head": {"kernel": ((144, 5), "float32"), "bias": ((5,), "float32")}},
    }
    return hdf5({"@model_config": json.dumps(config), "@keras_version": "2.15.0", "model_weights": weights})
