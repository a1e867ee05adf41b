"""The networks as Keras 3 models, channels last, padding "same" where the papers keep the size.

    python benchmarks/networks/in_keras.py FOLDER [--tflite]

writes NAME.keras, and with --tflite NAME.tflite, which needs TensorFlow.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from keras import Model, layers

from networks import FIRES, INVERTED, NAMES, PAIRS, STAGES


def _conv(x: Any, outside: int, kernel: int, stride: int = 1) -> Any:
    x = layers.Conv2D(outside, kernel, stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization()(x)


def _depthwise(x: Any, stride: int) -> Any:
    x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization()(x)


def _head(x: Any) -> Any:
    return layers.Dense(1000)(layers.GlobalAveragePooling2D()(x))


def mobilenet_v1(x: Any) -> Any:
    x = layers.ReLU()(_conv(x, 32, 3, 2))
    for outside, stride in PAIRS:
        x = layers.ReLU()(_depthwise(x, stride))
        x = layers.ReLU()(_conv(x, outside, 1))
    return _head(x)


def mobilenet_v2(x: Any) -> Any:
    x = layers.ReLU(6.0)(_conv(x, 32, 3, 2))
    for expansion, outside, repeats, first in INVERTED:
        for turn in range(repeats):
            stride, inside, y = (first if turn == 0 else 1), x.shape[-1], x
            if expansion > 1:
                y = layers.ReLU(6.0)(_conv(y, inside * expansion, 1))
            y = _conv(layers.ReLU(6.0)(_depthwise(y, stride)), outside, 1)
            x = layers.Add()([x, y]) if stride == 1 and inside == outside else y
    return _head(layers.ReLU(6.0)(_conv(x, 1280, 1)))


def resnet50(x: Any) -> Any:
    x = layers.ReLU()(_conv(x, 64, 7, 2))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, (blocks, channels) in enumerate(STAGES):
        for turn in range(blocks):
            stride = 2 if stage and not turn else 1
            y = layers.ReLU()(_conv(x, channels, 1))
            y = layers.ReLU()(_conv(y, channels, 3, stride))
            y = _conv(y, 4 * channels, 1)
            side = x if turn else _conv(x, 4 * channels, 1, stride)
            x = layers.ReLU()(layers.Add()([y, side]))
    return _head(x)


def squeezenet1_1(x: Any) -> Any:
    x = layers.ReLU()(layers.Conv2D(64, 3, 2)(x))
    x = layers.MaxPooling2D(3, 2)(x)
    for fire in FIRES:
        if fire is None:
            x = layers.MaxPooling2D(3, 2)(x)
            continue
        squeeze, expand = fire
        x = layers.ReLU()(layers.Conv2D(squeeze, 1)(x))
        narrow = layers.ReLU()(layers.Conv2D(expand, 1)(x))
        wide = layers.ReLU()(layers.Conv2D(expand, 3, padding="same")(x))
        x = layers.Concatenate()([narrow, wide])
    return layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Conv2D(1000, 1)(x)))


def build(name: str) -> Model:
    """The network called `name`, no two of its parameters equal (converters merge those)."""
    image = layers.Input((224, 224, 3))
    make = {"mobilenet_v1": mobilenet_v1, "mobilenet_v2": mobilenet_v2, "resnet50": resnet50,
            "squeezenet1_1": squeezenet1_1}[name]  # fmt: skip
    model = Model(image, make(image), name=name)
    chance = np.random.default_rng(0)
    model.set_weights([chance.uniform(0.5, 1.5, weight.shape) for weight in model.get_weights()])
    return model


def main() -> None:
    folder = Path(sys.argv[1])
    for name in NAMES:
        model = build(name)
        model.save(folder / f"{name}.keras")
        if "--tflite" in sys.argv:
            import tensorflow as tf

            (folder / f"{name}.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


if __name__ == "__main__":
    main()
