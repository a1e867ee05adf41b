"""Normalizing layers."""

from __future__ import annotations

from peakmem.frontends.keras.graph import LayerCall
from peakmem.frontends.keras.layers.registry import layer


@layer("BatchNormalization", "SyncBatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2")
def batch_norm(call: LayerCall) -> str:
    axis = call.settings.axis("axis", -1)
    size = (call.dim(axis),)
    scaled, centred = call.settings.flag("scale", True), call.settings.flag("center", True)
    gamma = call.weight("gamma", size) if scaled else ""
    beta = call.weight("beta", size) if centred else ""
    mean, variance = call.weight("moving_mean", size), call.weight("moving_variance", size)
    inputs = [call.cast(call.inputs[0]), gamma, beta, mean, variance]
    if call.settings.flag("renorm", False):
        for name in ("moving_stddev", "renorm_mean", "renorm_stddev"):
            call.weight(name, size)
    return call.op("BatchNormalization", inputs, axis=axis)


@layer("LayerNormalization")
def layer_norm(call: LayerCall) -> str:
    value = call.settings.config.get("axis", -1)
    axes = call.settings.ints("axis", (-1,)) if isinstance(value, list) else (call.settings.axis("axis", -1),)
    rank = call.rank(least=1)
    ordered = sorted({axis % rank for axis in axes})
    size = tuple(call.dim(axis) for axis in ordered)
    inputs = [call.cast(call.inputs[0]), "", ""]
    if call.settings.flag("rms_scaling", False):
        inputs[1] = call.weight("gamma", size)
    else:
        inputs[1] = call.weight("gamma", size) if call.settings.flag("scale", True) else ""
        inputs[2] = call.weight("beta", size) if call.settings.flag("center", True) else ""
    return call.op("LayerNormalization", inputs, axes=tuple(ordered))


@layer("RMSNormalization")
def rms_norm(call: LayerCall) -> str:
    axis = call.settings.axis("axis", -1)
    size = (call.dim(axis),)
    return call.op("RMSNormalization", [call.cast(call.inputs[0]), call.weight("scale", size)], axis=axis)


@layer("GroupNormalization")
def group_norm(call: LayerCall) -> str:
    axis = call.settings.axis("axis", -1)
    channels = call.dim(axis)
    groups = call.settings.whole("groups", 32, least=-1)
    if groups == 0 or (groups > 0 and channels % groups):
        raise call.settings.error(f"{channels} channels do not split into {groups} groups")
    gamma = call.weight("gamma", (channels,)) if call.settings.flag("scale", True) else ""
    beta = call.weight("beta", (channels,)) if call.settings.flag("center", True) else ""
    return call.op("GroupNormalization", [call.cast(call.inputs[0]), gamma, beta], axis=axis, groups=groups)


@layer("UnitNormalization")
def unit_norm(call: LayerCall) -> str:
    return call.op("UnitNormalization", [call.cast(call.inputs[0])])


@layer("SpectralNormalization")
def spectral_norm(call: LayerCall) -> list[str]:
    """At inference the wrapped layer alone runs; the vector it keeps for training is stored."""
    inner = call.nested("layer")
    made = call.inside.call(inner, call.path, call.args, call.given, call.policy, call.wanted, call.depth + 1)
    prefix = f"{call.path}/{inner.name}/"
    for suffix in ("kernel", "embeddings"):
        kernel = call.draft.tensors.get(prefix + suffix)
        if kernel is not None and kernel.shape:
            call.weight("vector_u", (1, kernel.shape[-1]))
            call.draft.mirrored.setdefault(call.path.split("/", 1)[0], []).append(
                tuple(dim for dim in kernel.shape if isinstance(dim, int))
            )
            break
    return made
