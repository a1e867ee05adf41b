"""Layers that prepare inputs: images, numbers, categories, texts."""

from __future__ import annotations

from peakmem import dtypes
from peakmem.frontends.keras.graph import LayerCall
from peakmem.frontends.keras.layers.registry import layer
from peakmem.frontends.keras.layers.windows import sliding

_INDEX = {"Discretization": "int32"}
# dtype of category numbers where it is not int64


@layer("Rescaling")
def rescaling(call: LayerCall) -> str:
    return call.op("Rescaling", call.inputs[:1], dtype=call.compute)


@layer("Normalization")
def normalization(call: LayerCall) -> str:
    """Mean and variance are variables where they were adapted, and settings where they were given."""
    if not call.settings.has("mean"):
        rank = call.rank()
        axes = call.settings.ints("axis") if call.settings.has("axis") else ()
        size = tuple(call.dim(axis) for axis in sorted({axis % rank for axis in axes}))
        call.weight("mean", size)
        call.weight("variance", size)
        call.weight("count", (), dtypes.INT32)
    return call.op("Normalization", call.inputs[:1], dtype=call.compute)


@layer("Resizing", "CenterCrop", "RandomCrop")
def to_size(call: LayerCall) -> str:
    size = (call.settings.whole("height"), call.settings.whole("width"))
    return call.op(
        call.op_type, call.inputs[:1], size=size, dtype=call.compute,
        data_format="channels_first" if call.channels_first else "channels_last",
    )  # fmt: skip


@layer("CategoryEncoding", "Discretization", "Hashing", "HashedCrossing", "StringLookup", "IntegerLookup")
def categories(call: LayerCall) -> str:
    encoding = call.op_type == "CategoryEncoding"
    mode = call.settings.word("output_mode", "multi_hot" if encoding else "int")
    if mode == "int":
        dtype = (
            call.policy.compute.name
            if call.policy.compute.kind in ("int", "uint")
            else _INDEX.get(call.op_type, "int64")
        )
        return call.op(call.op_type, call.inputs[:1], mode="int", dtype=dtype)
    # A lookup computes in the dtype of its words, and encodes in floating numbers.
    dtype = "float32" if call.op_type.endswith("Lookup") else call.compute
    return call.op(call.op_type, call.inputs[:1], mode=mode, depth=_depth(call), dtype=dtype)


def _depth(call: LayerCall) -> int:
    """How many categories an encoded output has."""
    if call.op_type == "CategoryEncoding":
        return call.settings.whole("num_tokens")
    if call.op_type in ("Hashing", "HashedCrossing"):
        return call.settings.whole("num_bins")
    if call.op_type == "Discretization":
        bounds = call.settings.config.get("bin_boundaries")
        return len(bounds) + 1 if isinstance(bounds, list) and bounds else call.settings.whole("num_bins")
    words = call.settings.config.get("vocabulary")
    if call.settings.flag("pad_to_max_tokens", False) or not isinstance(words, list):
        return call.settings.whole("vocabulary_size" if call.settings.has("vocabulary_size") else "max_tokens")
    masked = int(call.settings.has("mask_token"))
    return len(words) + call.settings.whole("num_oov_indices", 1, least=0) + masked


@layer("TextVectorization")
def text(call: LayerCall) -> str:
    mode = call.settings.word("output_mode", "int")
    if mode == "int":
        length = call.settings.whole("output_sequence_length", 0, least=0) or None
        return call.op("TextVectorization", call.inputs[:1], mode="int", depth=length, dtype="int64")
    depth = call.settings.whole("max_tokens") if call.settings.has("max_tokens") else None
    return call.op("TextVectorization", call.inputs[:1], mode=mode, depth=depth, dtype=call.compute)


@layer("STFTSpectrogram")
def spectrogram(call: LayerCall) -> str:
    """Two stored banks of filters, slid over the signal as a convolution does."""
    frame = call.settings.whole("frame_length", 256)
    step = call.settings.whole("frame_step", max(1, frame // 2))
    size = call.settings.whole("fft_length", 1 << (frame - 1).bit_length())
    bank, mode = (frame, 1, size // 2 + 1), call.settings.word("mode", "log")
    inputs = call.inputs[:1]
    if mode != "imag":
        inputs.append(call.weight("real_kernel", bank))
    if mode != "real":
        inputs.append(call.weight("imag_kernel", bank))
    bins = bank[-1] * (2 if mode == "stft" else 1)
    return call.op(
        "STFTSpectrogram", inputs, bins=bins, strides=(step,),
        expand_dims=int(call.settings.flag("expand_dims", False)), dtype=call.compute, **sliding(call, (frame,)),
    )  # fmt: skip


@layer("MelSpectrogram")
def mel_spectrogram(call: LayerCall) -> str:
    """One operator; its banks of filters are computed, not stored."""
    return call.op(
        "MelSpectrogram", call.inputs[:1], bins=call.settings.whole("num_mel_bins", 128),
        stride=call.settings.whole("sequence_stride", 512), dtype=call.compute,
    )  # fmt: skip
