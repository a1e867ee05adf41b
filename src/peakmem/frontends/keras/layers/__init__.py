"""What each layer of Keras is made of: its weights, and the operators it runs.

One family a file; a function per class of layers, found by class name. A layer that is not here
(a Lambda, a custom one) becomes one operator without a rule, whose shape can only be a recorded one.
"""

from __future__ import annotations

from peakmem.frontends.keras.config import LayerSpec
from peakmem.frontends.keras.graph import LayerCall
from peakmem.frontends.keras.layers import (
    attention,
    dense,
    functions,
    merging,
    normalization,
    plain,
    preprocessing,
    recurrent,
    reshaping,
    windows,
)
from peakmem.frontends.keras.layers.registry import LAYERS

FAMILIES = (attention, dense, merging, normalization, plain, preprocessing, recurrent, reshaping, windows)
# imported for what they register

NO_MODEL = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})


def write_layer(call: LayerCall) -> list[str]:
    """Write the operators of one call; the names of its outputs."""
    if call.spec.known and (call.spec.is_function or _is_old_function(call.spec)):
        return functions.write(call)
    if call.spec.class_name == "TFOpLambda":
        made = functions.write_tensorflow(call)
        if made is not None:
            return made
    write = LAYERS.get(call.spec.class_name) if call.spec.known else None
    if write is not None:
        result = write(call)
        return result if isinstance(result, list) else [result]
    return unknown(call)


def _is_old_function(spec: LayerSpec) -> bool:
    """Whether an entry without a module, as in HDF5 files, is no layer: those can be trained."""
    return (
        spec.module == "keras" and "trainable" not in spec.config and spec.class_name not in LAYERS and bool(spec.nodes)
    )


def unknown(call: LayerCall) -> list[str]:
    """A layer whose code is not read: its inputs and outputs stay, what is inside is not known."""
    if call.spec.class_name in NO_MODEL or not call.spec.known:
        what = "code of the model's author"
    else:
        what = "layers that peakmem does not know"
    call.draft.note(
        f"{call.spec.class_name[:100]} layers are {what} and were not run: shapes are those the configuration "
        "records, weights those the file holds"
    )
    return call.ops(call.spec.class_name, call.inputs, outputs=call.wanted)


__all__ = ["LAYERS", "write_layer"]
