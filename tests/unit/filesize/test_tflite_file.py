"""TFLite files, against those that litert-torch 0.10 and ai-edge-quantizer 0.10 wrote, norms at random values.

(network, dtype, scheme, bytes of the file); written by benchmarks/file_sizes.py.
"""

import pytest

from peakmem.filesize.predict import file_size

WRITTEN = [
    ("squeezenet1_1", "float32", "", 4957928),
    ("squeezenet1_1", "int8", "static", 1360432),
    ("squeezenet1_1", "int8", "dynamic", 1311184),
    ("mobilenet_v2", "float32", "", 13992816),
    ("mobilenet_v2", "int8", "static", 4021696),
    ("mobilenet_v2", "int8", "dynamic", 3801456),
]


@pytest.mark.parametrize(("name", "dtype", "scheme", "real"), WRITTEN)
def test_what_was_written(name, dtype, scheme, real):
    size = file_size(name, "tflite", dtype, scheme=scheme)
    assert size.low_bytes <= real <= size.high_bytes
    # tensors are exact; tables and names are typical ones: a tenth of a per cent
    assert abs(size.nbytes - real) < real // 1000
    assert sum(part.nbytes for part in size.parts) == size.nbytes


def test_contents_by_hand():
    """SqueezeNet has a bias at each of its 26 convolutions: weights, and as many biases as output channels."""
    size = file_size("squeezenet1_1", "tflite", "int8")
    channels = 3944
    assert size.part("weights") == 1235496 - channels
    assert size.part("biases") == 4 * channels
    # a scale and a zero point for each channel of weights and of biases, and for each activation
    assert size.part("quantisation") - 2 * 12 * channels == 12 * 39


def test_a_tied_table_is_stored_once():
    spec = "gpt2_small:context=16,layers=1,hidden=48,heads=3,vocabulary=500"
    tflite, ncnn = (file_size(spec, name, "float32") for name in ("tflite", "ncnn"))
    assert ncnn.part("weights") - tflite.part("weights") == 4 * 500 * 48


def test_an_untrained_network_may_be_smaller():
    """Biases that are all zero are one constant for each length: ResNet-50 as a fresh module, 102,069,128 B."""
    size = file_size("resnet50", "tflite")
    assert size.low_bytes < 102069128 < size.nbytes
    assert any("same contents" in note for note in size.notes)
