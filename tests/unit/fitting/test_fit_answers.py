"""What a network needs of a place, by hand, and beside `peakmem.estimate`."""

from __future__ import annotations

import pytest

import peakmem
from peakmem.errors import UsageError
from peakmem.fitting.answers import Answers
from peakmem.fitting.place import place
from peakmem.fitting.question import Question
from tests.unit.fitting.networks import LIVE, MATRICES, WEIGHTS, small, unknown


def answer(source, where, **asked):
    return Answers(where).of(Question(source, **asked))


def test_ram_holds_weights_and_the_live_peak():
    found = answer(small(), place("1MiB")).parts[0]
    assert (found.needed_bytes, found.bound_bytes, found.outcome) == (WEIGHTS + LIVE, WEIGHTS + LIVE, "fits")
    assert dict(found.shares) == {"weights": WEIGHTS, "live peak": LIVE}


def test_a_microcontroller_keeps_weights_in_flash():
    found = answer(small(), place("stm32f746", reserve=1000), file="weights").parts
    assert [(part.name, part.needed_bytes) for part in found] == [("RAM", LIVE + 1000), ("flash", WEIGHTS)]


def test_a_program_in_flash_and_something_else_in_ram_add_up():
    found = answer(small(), place("stm32f746", reserve="64KiB", runtime="128KiB"), file="weights").parts
    assert dict(found[0].shares) == {"live peak": LIVE, "reserve": 65536}
    assert dict(found[1].shares) == {"weights": WEIGHTS, "program": 131072}
    assert all(sum(nbytes for _, nbytes in part.shares) == part.needed_bytes for part in found)


def test_weights_alone_in_another_dtype():
    """8 bits a matrix element, a float32 scale for each of 8 + 10 channels, int32 biases as large as float32 ones."""
    found = answer(small(), place("1MiB"), weights="int8").parts[0]
    assert dict(found.shares) == {"weights": MATRICES + 4 * 18 + 4 * 18, "live peak": LIVE}


def test_weights_and_activations_in_another_dtype():
    found = answer(small(), place("1MiB"), dtype="int8").parts[0]
    assert dict(found.shares) == {"weights": MATRICES + 4 * 18 + 4 * 18, "live peak": LIVE // 4}


def test_weights_split_over_devices_round_up():
    found = answer(small(), place("1MiB"), devices=3).parts[0]
    assert dict(found.shares) == {"weights / 3 devices": -(-WEIGHTS // 3), "live peak": LIVE}


def test_a_gpu_without_a_published_context_is_bound_by_the_largest():
    """The V100's row has 1343 MiB, the largest that was published."""
    found = answer(small(), place("a100-40gb")).parts[0]
    assert found.name == "GPU memory"
    assert found.bound_bytes - found.needed_bytes == 1343 << 20
    known = answer(small(), place("v100-16gb")).parts[0]
    assert dict(known.shares)["CUDA context"] == 1343 << 20
    assert known.bound_bytes == known.needed_bytes


def test_an_operator_that_nobody_knows_makes_it_a_lower_bound():
    found = answer(unknown(), place("1MiB"))
    assert (found.outcome, found.parts[0].bound_bytes, found.parts[0].kind) == ("cannot tell", None, "lower bound")
    assert found.unknowns
    assert answer(unknown(), place("1KiB")).outcome == "does not fit"


@pytest.mark.parametrize("dtype", ["", "float16", "int8"])
@pytest.mark.parametrize("assume", ["naive", "eager", "inplace", "fused", "fused_add"])
def test_the_same_bytes_as_estimate(assume, dtype):
    report = peakmem.estimate("mobilenet_v2", batch=2, dtype=dtype or None, assume=assume)
    found = answer("mobilenet_v2", place("1GiB"), batch=2, dtype=dtype, assume=assume)
    assert dict(found.parts[0].shares) == {"weights": report.weights_bytes, "live peak": report.peak_bytes}


def test_mobilenet_v2_in_int8_is_1505280_elements():
    """The live peak of the fused network, in elements of one image: an expansion of 96 channels at 112 x 112 and 24."""
    found = answer("mobilenet_v2", place("stm32f746"), dtype="int8").parts[0]
    assert found.needed_bytes == 96 * 112 * 112 + 96 * 56 * 56 == 1_505_280


def test_one_question_is_worked_out_once():
    answers = Answers(place("1MiB"))
    graph = small()
    first = answers.of(Question(graph))
    assert answers.of(Question(graph)) is first
    assert answers.count == 1


@pytest.mark.parametrize(
    ("where", "engine", "said"),
    [
        ("a100-40gb", "ncnn", "a graphics card"),
        ("stm32f746", "ncnn", "--engine tflm"),
        ("iphone-11", "tflm", "is for microcontrollers"),
    ],
)
def test_an_engine_that_does_not_run_there_is_refused(where, engine, said):
    with pytest.raises(UsageError, match=said):
        answer("mobilenet_v2", place(where), engine=engine)


def test_an_engine_is_asked_of_a_file_not_of_a_graph():
    with pytest.raises(UsageError, match="not for a model in memory"):
        answer(small(), place("1MiB"), engine="ncnn")
