"""The largest value that fits, against every value tried one by one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import pytest

from peakmem.errors import UsageError
from peakmem.fitting.answers import Answers
from peakmem.fitting.knobs import knobs, largest
from peakmem.fitting.place import place
from peakmem.fitting.question import Question
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Symbol


def found(source, where, name, **asked):
    answers = Answers(where)
    question = Question(source, **asked)
    knob = next(one for one in knobs(question) if one.name == name)
    return answers, question, knob, largest(answers, question, knob)


@pytest.mark.parametrize(
    ("source", "where", "name", "asked"),
    [
        (
            "squeezenet1_1", place("stm32f446", storage="2MiB"), "resolution",
            {"dtype": "int8", "file": "weights"},
        ),
        ("squeezenet1_1", place("30MiB"), "batch", {}),
        ("lstm_2layer", place("5MiB"), "sequence", {}),
        ("mobilenet_v1", place("7MiB"), "width", {}),
    ],
)  # fmt: skip
def test_every_value_up_to_it_fits_and_the_next_does_not(source, where, name, asked):
    answers, question, knob, it = found(source, where, name, **asked)
    fits = []
    value = knob.least
    while value <= Fraction(str(it.next_value)) + 2 * knob.step:
        with suppress(UsageError):  # SqueezeNet takes no image below 17 x 17
            fits.append((value, answers.of(knob.turned(question, value)).holds))
        value += knob.step
    assert Fraction(str(it.value)) == max(value for value, holds in fits if holds)
    assert Fraction(str(it.next_value)) == min(value for value, holds in fits if not holds)
    parts = answers.of(knob.turned(question, Fraction(str(it.value)))).parts
    part = next(part for part in parts if part.name == it.part)
    assert it.needed_bytes == part.bound_bytes <= part.capacity_bytes < it.next_needed_bytes


def branching(batch):
    """Branches of odd sizes that are joined at the end: an arena for them leaves gaps, and not always more of them."""
    b = GraphBuilder("branching")
    x = b.conv(b.input("image", (batch, 3, 64, 64)), 5, kernel=3, stride=2, pad=1)
    left = b.conv(b.conv(x, 7, kernel=3, pad=1), 3, kernel=3, stride=4, pad=1)
    right = b.conv(b.conv(x, 11, kernel=5, stride=2, pad=2), 13, kernel=3, stride=2, pad=1)
    both = b.concat([left, right])
    made = b.finish(b.linear(b.flatten(b.global_average_pool(both)), 10))
    return replace(made, format="onnx")


@pytest.mark.parametrize("room", ["20KiB", "57KiB", "130KiB", "131313B"])
@pytest.mark.parametrize("name", ["resolution", "batch"])
def test_of_an_arena_no_larger_value_fits_either(name, room):
    """Each value up to twice the largest is packed: gaps and rounding come and go from one value to the next."""
    where = place(ram=room, storage="1MiB", weights_in_flash=True)
    answers, question, knob, it = found(branching(Symbol("batch")), where, name, dtype="int8", batch=1)
    every = [int(knob.least + at * knob.step) for at in range(2 * int(it.value) + 40)]
    fits = [value for value in every if answers.of(knob.turned(question, Fraction(value))).holds]
    assert it.value == max(fits, default=0)
    assert it.proof.startswith("solved from the formula of the live peak")


def test_the_batch_of_a_network_without_control_flow_is_solved():
    """Weights and 602,112 B of image and first output and more a sample: what the formula says is evaluated, too."""
    *_, it = found("resnet50", place("16GiB"), "batch")
    assert it.proof.startswith("solved from the formula")
    weights, live = 102_440_608, 9_633_792
    assert it.value == (16 * 2**30 - weights) // live
    assert it.needed_bytes == weights + live * it.value
    assert it.next_needed_bytes == weights + live * (it.value + 1)


def test_a_state_that_grows_with_the_batch_is_solved_too(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,'
        '"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,'
        '"max_position_embeddings": 128, "torch_dtype": "float32"}'
    )
    asked = {"options": (("context", "128"),), "dims": (("sequence", 64),)}
    answers, question, knob, it = found(str(tmp_path / "config.json"), place("8MiB"), "batch", **asked)
    assert it.proof.startswith("solved")
    assert answers.of(knob.turned(question, Fraction(it.value))).holds
    assert not answers.of(knob.turned(question, Fraction(it.value) + 1)).holds
    names = [one.name for one in knobs(question)]
    assert names == ["batch", "context", "sequence"]


def test_not_even_the_smallest():
    *_, it = found("mobilenet_v2", place("1MiB"), "batch")
    assert (it.value, it.needed_bytes, it.next_value) == (0, 0, 1)
    assert it.next_needed_bytes > 1 << 20


def test_what_the_network_refuses_is_no_value():
    """GPT-2 has 1024 positions: a longer input has none."""
    *_, it = found("gpt2_small", place("8GiB"), "context")
    assert (it.value, it.next_value) == (1024, None)


def test_resolutions_that_a_network_takes():
    """U-Net without padding takes 16n + 12; a vision transformer multiples of its patches."""
    found = {name: {one.name: one for one in knobs(Question(name))} for name in ("unet", "vit_s16")}
    steps = {name: turned["resolution"] for name, turned in found.items()}
    assert (steps["unet"].least, steps["unet"].step) == (188, 16)
    assert (steps["vit_s16"].least, steps["vit_s16"].step) == (16, 16)


def test_a_width_of_which_there_are_four():
    """ShuffleNet v2 is published at 0.5, 1, 1.5 and 2 times: 1.5 times has 3.5 million parameters, 2 times 7.4."""
    *_, knob, it = found("shufflenet_v2", place("24MB"), "width")
    assert (knob.least, knob.step, knob.most, knob.count) == (Fraction(1, 2), Fraction(1, 2), 2, 4)
    assert (it.value, it.next_value) == (1.5, 2)
    assert it.needed_bytes > 4 * 3_500_000
    assert it.next_needed_bytes > 4 * 7_390_000


def test_without_ram_only_what_moves_the_file():
    assert [one.name for one in knobs(Question("mobilenet_v2"), has_ram=False)] == ["width"]
    assert [one.name for one in knobs(Question("resnet50"), has_ram=False)] == []


def test_where_ram_is_in_pieces_the_next_value_says_so():
    """STM32F407: 192 KiB, of which 128 KiB are in one piece; 133,680 B are less than the sum and more than that."""
    *_, it = found("mobilenet_v2:width=0.35,classes=10", place("stm32f407"), "resolution", dtype="int8", file="weights")
    assert (it.value, it.next_value, it.next_needed_bytes) == (92, 93, 133_680)
    assert "no piece of RAM holds the arena whole" in it.proof
