"""Models that Keras itself makes and writes: its shapes, its counts and its files are what we are held against."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch")
keras = pytest.importorskip("keras")
pytest.importorskip("h5py")

import peakmem  # noqa: E402 - after the backend is chosen
from peakmem.binding import bound  # noqa: E402 - as above
from peakmem.errors import UsageError  # noqa: E402 - as above
from peakmem.frontends.keras.reader import read_keras, read_model  # noqa: E402 - as above
from peakmem.ir.graph import Graph  # noqa: E402 - as above
from peakmem.parameters import parameters  # noqa: E402 - as above
from tests.unit.frontends.keras_cases import CASES  # noqa: E402 - as above

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
BATCH = 2
OPEN = 16


def sources(model: Any, folder: Path, *, legacy: bool = True) -> Iterator[tuple[str, Graph]]:
    """The model read live and from every file that Keras writes of it."""
    yield "live", read_model(model)
    for suffix in (".keras", ".h5") if legacy else (".keras",):
        path = folder / f"model{suffix}"
        model.save(path)
        yield suffix, read_keras(path)


def settled(graph: Graph) -> Graph:
    """`graph` at a batch of 2, other open sizes at 16."""
    names = {dim.name for name in graph.inputs for dim in graph.tensors[name].shape or () if not isinstance(dim, int)}
    batch = BATCH if "batch" in names else None
    return bound(graph, batch=batch, dims=dict.fromkeys(names - {"batch"}, OPEN))


def agree(model: Any, graph: Graph) -> None:
    """Outputs, dtypes, numbers and bytes of weights are those of Keras."""
    done = settled(graph)
    assert not done.unknowns
    outputs = keras.tree.flatten(model.outputs)
    assert len(done.outputs) == len(outputs)
    for name, there in zip(done.outputs, outputs, strict=True):
        here = done.tensors[name]
        assert here.shape is not None
        assert len(here.shape) == len(there.shape)
        for axis, (mine, theirs) in enumerate(zip(here.shape, there.shape, strict=True)):
            # Keras leaves a size open where it does not work it out; the batch is ours to give.
            assert theirs is None or mine == theirs, (here.shape, there.shape)
            assert theirs is not None or axis > 0 or mine == BATCH
        assert str(here.dtype) == there.dtype
    stored = [constant for constant in parameters(done).constants if "/literal_" not in constant.name]
    assert sum(constant.elements for constant in stored) == model.count_params()
    assert sum(constant.nbytes for constant in stored) == sum(
        math.prod(weight.shape) * (4 if weight.dtype in ("float32", "int32") else 2) for weight in model.weights
    )


@pytest.mark.parametrize(("name", "make", "shapes", "dtype"), CASES, ids=[case[0] for case in CASES])
def test_layers(tmp_path, name, make, shapes, dtype):
    if name == "spectrogram":
        pytest.importorskip("scipy")
    inputs = [keras.Input(shape, dtype=dtype) for shape in shapes]
    model = keras.Model(inputs, make(keras.layers)(inputs if len(inputs) > 1 else inputs[0]))
    for _, graph in sources(model, tmp_path):
        agree(model, graph)


L, F = keras.layers, keras.ops


def _attention(**config: Any) -> Callable[[Any], Any]:
    return lambda x: L.MultiHeadAttention(2, 5, value_dim=3, **config)(x, x)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: F.relu(x) * 2 + x,
    "minus": lambda x: x - 1,
    "divide": lambda x: x / 3.0,
    "power": lambda x: (-x) ** 2,
    "mean": lambda x: F.mean(x, axis=1),
    "sum": lambda x: F.sum(x, axis=(1, 2), keepdims=True),
    "reshape": lambda x: F.reshape(x, (-1, 4, 2, 3)),
    "transpose": lambda x: F.transpose(x, (0, 2, 1)),
    "expand": lambda x: F.squeeze(F.expand_dims(x, 1), 1),
    "concatenate": lambda x: F.concatenate([x, x], axis=-1),
    "stack": lambda x: F.stack([x, x], axis=1),
    "index": lambda x: x[:, 0],
    "slice": lambda x: x[:, 1:3],
    "slice step": lambda x: x[:, ::2],
    "ellipsis": lambda x: x[..., -1],
    "new axis": lambda x: x[:, :, None],
    "matmul": lambda x: F.matmul(x, F.transpose(x, (0, 2, 1))),
    "matmul array": lambda x: x @ F.ones((6, 3)),
    "einsum": lambda x: F.einsum("abc,abd->acd", x, x),
    "pad": lambda x: F.pad(x, [[0, 0], [1, 2], [0, 3]]),
    "repeat": lambda x: F.repeat(x, 2, axis=1),
    "tile": lambda x: F.tile(x, (1, 2, 1)),
    "softmax": lambda x: F.softmax(x),
    "argmax": lambda x: F.argmax(x, axis=1),
    "maximum": lambda x: F.maximum(x, 0.5),
    "where": lambda x: F.where(x > 0, x, x),
    "split": lambda x: F.split(x, 2, axis=1)[1],
    "take": lambda x: F.take(x, F.array([0, 1]), axis=1),
    "clip": lambda x: F.clip(x, 0, 1),
    "swap": lambda x: F.swapaxes(x, 1, 2),
    "move": lambda x: F.moveaxis(x, 1, 2),
    "resize": lambda x: F.image.resize(F.expand_dims(x, -1), (5, 7)),
    "max pool": lambda x: F.nn.max_pool(x, 2),
    "convolution": lambda x: F.nn.conv(x, F.ones((2, 6, 3)), 1),
    "isnan": lambda x: F.isnan(x),
    "unstack": lambda x: F.unstack(x, axis=1)[1],
    "attention": _attention(),
    "attention without biases": _attention(use_bias=False, output_shape=7),
    "attention causal": lambda x: L.MultiHeadAttention(2, 5)(x, x, use_causal_mask=True),
    "attention scores": lambda x: L.MultiHeadAttention(2, 5)(x, x, return_attention_scores=True),
    "attention by name": lambda x: L.MultiHeadAttention(2, 5)(query=x, value=x),
    "grouped attention": lambda x: L.GroupQueryAttention(5, 4, 2)(x, x),
    "lstm states": lambda x: L.LSTM(5, return_state=True, return_sequences=True)(x),
    "bidirectional states": lambda x: L.Bidirectional(L.GRU(5, return_state=True))(x),
    "over time": lambda x: L.TimeDistributed(L.Dense(3))(L.LSTM(5, return_sequences=True)(x)),
    "masked": lambda x: L.LSTM(3)(L.Masking()(x)),
    "code": lambda x: L.Dense(2)(L.Lambda(lambda y: y[:, 0])(x)),
}
UNREADABLE = frozenset({"matmul array", "convolution", "take"})
# with arrays in the configuration, which Keras does not write to HDF5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_calls(tmp_path, name):
    x = keras.Input((4, 6))
    model = keras.Model(x, FUNCTIONS[name](x))
    for _, graph in sources(model, tmp_path, legacy=name not in UNREADABLE):
        agree(model, graph)


def encoder_decoder() -> Any:
    x = keras.Input((4, 6))
    _, hidden, cell = L.LSTM(5, return_state=True)(x)
    return keras.Model(x, L.LSTM(5, return_sequences=True)(x, initial_state=[hidden, cell]))


def over_time() -> Any:
    x = keras.Input((4, 8, 8, 3))
    return keras.Model(x, L.TimeDistributed(keras.Sequential([L.Conv2D(4, 3), L.Flatten(), L.Dense(2)]))(x))


def open_sizes() -> Any:
    image, line = keras.Input((None, None, 3)), keras.Input((None, 6))
    pooled = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, strides=2, padding="same")(image))
    return keras.Model([image, line], [pooled, L.Bidirectional(L.LSTM(5, return_sequences=True))(line)])


def shared() -> Any:
    x = keras.Input((8, 8, 3))
    conv = L.Conv2D(3, 3, padding="same")
    block = keras.Sequential([L.Conv2D(3, 3, padding="same"), L.ReLU()], name="block")
    return keras.Model(x, L.Concatenate()([conv(x), conv(conv(x)), block(x), block(block(x))]))


def several() -> Any:
    one, two, inner = keras.Input((8, 8, 3)), keras.Input((8, 8, 5)), keras.Input((8, 8, 3))
    split = keras.Model(inner, {"u": L.Conv2D(2, 1)(inner), "v": L.Conv2D(5, 1)(inner)}, name="split")
    parts = split(one)
    return keras.Model({"a": one, "b": two}, [L.Add()([parts["v"], two]), parts["u"]])


def often() -> Any:
    x, inner = keras.Input((3,)), keras.Input((3,))
    sub = keras.Model(inner, L.Dense(3)(inner), name="sub")
    chain = keras.Sequential([L.Dense(3), L.ReLU()], name="chain")
    return keras.Model(x, [L.Dense(2)(sub(x) + sub(sub(x))), chain(chain(sub(x))), sub(chain(x))])


def masked_attention() -> Any:
    x = keras.Input((9,), dtype="int32")
    embedded = L.Embedding(9, 6, mask_zero=True)(x)
    return keras.Model(x, L.MultiHeadAttention(2, 3)(embedded, embedded))


def stateful() -> Any:
    x = keras.Input(batch_shape=(3, 4, 6))
    return keras.Model(x, L.LSTM(5, stateful=True)(x))


def reversible() -> Any:
    x = keras.Input((9,), dtype="int32")
    table = L.ReversibleEmbedding(20, 6)
    return keras.Model(x, table(L.Dense(6)(table(x)), reverse=True))


def mixed() -> Any:
    x = keras.Input((8, 8, 3))
    y = L.Conv2D(3, 3, activation="relu", dtype="mixed_float16")(x)
    y = L.BatchNormalization(dtype="mixed_bfloat16")(y)
    return keras.Model(x, L.Dense(2, dtype="float32")(L.Flatten(dtype="float32")(y)))


MODELS = (encoder_decoder, over_time, open_sizes, shared, several, often, masked_attention, stateful, reversible, mixed)


@pytest.mark.parametrize("make", MODELS)
def test_models(tmp_path, make):
    model = make()
    for _, graph in sources(model, tmp_path):
        agree(model, graph)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_quantised_models(tmp_path, mode):
    model = keras.Sequential([keras.Input((9,), dtype="int32"), L.Embedding(30, 16), L.Dense(8)])
    model.build((None, 9))
    model.quantize(mode)
    widths = {"int8": 1, "float32": 4}
    for _, graph in sources(model, tmp_path, legacy=False):
        found = sum(constant.nbytes for constant in parameters(settled(graph)).constants)
        assert found == sum(math.prod(weight.shape) * widths[weight.dtype] for weight in model.weights)


def test_a_layer_that_stands_in_two_models_is_stored_once(tmp_path):
    inner = keras.Sequential([keras.Input((8,)), L.Dense(8)])
    x = keras.Input((8,))
    model = keras.Model(x, inner(inner(x)) + inner.layers[0](x))
    for _, graph in sources(model, tmp_path, legacy=False):
        agree(model, graph)


def test_a_subclassed_model_is_refused():
    class Net(keras.Model):
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises((UsageError, peakmem.PeakmemError), match=r"model\.export"):
        read_model(Net())


def last_shapes(graph: Graph) -> dict[str, tuple[Any, ...]]:
    """Shape of the last tensor that each layer makes."""
    return {operator.scope: tuple(graph.tensors[operator.outputs[0]].shape or ()) for operator in graph.operators}


@pytest.mark.parametrize(
    ("name", "published"), [("MobileNet", 4_253_864), ("MobileNetV2", 3_538_984), ("ResNet50", 25_636_712)]
)
def test_applications(tmp_path, name, published):
    """The counts are those of keras.io/api/applications."""
    with keras.device("cpu"):
        model = getattr(keras.applications, name)(weights=None)
    for _, graph in sources(model, tmp_path, legacy=False):
        done = settled(graph)
        agree(model, graph)
        assert sum(constant.elements for constant in parameters(done).constants) == published
        shapes = last_shapes(done)
        for layer in model.layers[1:]:
            assert shapes[layer.name] == tuple(BATCH if dim is None else dim for dim in layer.output.shape)


@pytest.mark.parametrize(
    ("name", "twin", "why"),
    [
        # A padding layer before each strided convolution holds what it is given beside the padded copy:
        # 112x112x64 and 113x113x64 for MobileNet, 112x112x96 and 113x113x96 for MobileNetV2.
        ("MobileNet", "mobilenet_v1", 4 * 64 * (112**2 + 113**2)),
        ("MobileNetV2", "mobilenet_v2", 4 * 96 * (112**2 + 113**2)),
        # ResNet50 pads small tensors alone; its peak is the zoo's, in the first residual sum.
        ("ResNet50", "resnet50", 3 * 4 * 56 * 56 * 256),
    ],
)
def test_live_peaks_beside_the_zoo(name, twin, why):
    with keras.device("cpu"):
        model = getattr(keras.applications, name)(weights=None)
    here, there = peakmem.estimate(model), peakmem.estimate(twin)
    assert here.peak_bytes == why
    if name == "ResNet50":
        # The biases of its 53 convolutions are all that its parameters differ by.
        assert here.peak_bytes == there.peak_bytes
        assert here.parameters.with_statistics - there.parameters.with_statistics == 26_560
    else:
        assert here.parameters.elements == {**there.parameters.elements, "other": 0}
