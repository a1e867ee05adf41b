import pytest

torch = pytest.importorskip("torch")

from peakmem.errors import UsageError  # noqa: E402 - needs torch to be there
from peakmem.frontends.torch.inputs import Given, arguments, parse  # noqa: E402


@pytest.mark.parametrize(
    ("inputs", "positional", "named"),
    [
        ((1, 3, 224, 224), [Given((1, 3, 224, 224))], {}),
        ([(1, 3, 224, 224)], [Given((1, 3, 224, 224))], {}),
        ("1x3x8x8", [Given((1, 3, 8, 8))], {}),
        ("ids=1x128:int64", [], {"ids": Given((1, 128), "int64")}),
        (["1x3", "mask=1x3:bool"], [Given((1, 3))], {"mask": Given((1, 3), "bool")}),
        (("1,3:fp16",), [Given((1, 3), "float16")], {}),
        ("scalar:int64", [Given((), "int64")], {}),
        ([((1, 3), torch.int32), ((2,), "bf16")], [Given((1, 3), "int32"), Given((2,), "bfloat16")], {}),
        ({"x": (2, 3), "scale": 2.0, "flag": None}, [], {"x": Given((2, 3)), "scale": 2.0, "flag": None}),
        ([[(1, 2), "3:int8"], 4], [[Given((1, 2)), Given((3,), "int8")], 4], {}),
        (torch.zeros(2, 3, dtype=torch.int16), [Given((2, 3), "int16", (3, 1))], {}),
        ([torch.zeros(2, 3).t()], [Given((3, 2), "float32", (1, 3))], {}),
    ],
)
def test_every_way_of_saying_it(inputs, positional, named):
    found = arguments(inputs)
    assert list(found.positional) == positional
    assert found.named == named


def test_the_batch_stands_first_in_every_tensor():
    found = arguments({"x": (1, 3), "y": [torch.zeros(1, 4), "scalar:int64"], "n": 3}).batched(8)
    assert found.named == {"x": Given((8, 3)), "y": [Given((8, 4), "float32"), Given((), "int64")], "n": 3}


@pytest.mark.parametrize("text", ["", "x", "1x", "x1", "1x-2", "a=b=1", "1x2:int9", "1x2:Tensor", "1 x 2", "1x2:"])
def test_texts_that_are_no_input(text):
    with pytest.raises(UsageError):
        parse(text)


@pytest.mark.parametrize(
    "inputs", [3, object(), [object()], [{"x": object()}], {1: (2,)}, ["a=1", "1x2"], ["a=1", "a=2"]]
)
def test_inputs_that_are_none(inputs):
    with pytest.raises(UsageError):
        arguments(inputs)


def test_sizes_that_no_tensor_has():
    with pytest.raises(UsageError):
        arguments([(1, 2**60)])
    with pytest.raises(UsageError):
        arguments([(-1, 2)])
