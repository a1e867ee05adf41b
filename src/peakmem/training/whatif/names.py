"""The choices by their names on a command line, each a change of a scenario. Plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches

from peakmem.errors import UsageError
from peakmem.training.scenario import Implementation, Lora, Optimizer, Scenario


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that can be changed about a step."""

    name: str
    what: str
    # one line, for people
    apply: Callable[[Scenario, str], Scenario]
    # the scenario with it; the text behind "="
    value: str = ""
    # what stands behind "=" when nothing is given; "required" where something must


def _implementation(kind: Implementation) -> Callable[[Scenario, str], Scenario]:
    def apply(scenario: Scenario, _: str) -> Scenario:
        return replace(scenario, optimizer=replace(scenario.optimizer or Optimizer(), implementation=kind))

    return apply


def _optimizer(name: str) -> Callable[[Scenario, str], Scenario]:
    def apply(scenario: Scenario, _: str) -> Scenario:
        return replace(scenario, optimizer=Optimizer(name))

    return apply


def _precision(name: str) -> Callable[[Scenario, str], Scenario]:
    return lambda scenario, _: replace(scenario, precision=name)  # type: ignore[arg-type]


def _sharded(stage: int) -> Callable[[Scenario, str], Scenario]:
    return lambda scenario, text: replace(
        scenario,
        sharding=replace(scenario.sharding, stage=stage, ranks=_count(text)),  # type: ignore[arg-type]
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1 << 20:
        raise UsageError(f"{text!r} is no count", expected="a whole number from 1 on")
    return int(text)


def _accumulate(scenario: Scenario, text: str) -> Scenario:
    parts = _count(text)
    if scenario.batch is None:
        return replace(scenario, accumulate=parts)
    if scenario.batch % parts:
        raise UsageError(f"a batch of {scenario.batch} has no {parts} equal parts", expected="a divisor of the batch")
    return replace(scenario, accumulate=parts, batch=scenario.batch // parts)


def _lora(quantised: bool) -> Callable[[Scenario, str], Scenario]:
    return lambda scenario, text: replace(scenario, lora=Lora(rank=_count(text), quantised=quantised))


CHOICES: dict[str, Choice] = {
    choice.name: choice
    for choice in (
        Choice("amp", "autocast to bfloat16; parameters, gradients and optimizer stay wide", _precision("amp-bf16")),
        Choice("amp-fp16", "autocast to float16 with a gradient scaler", _precision("amp-fp16")),
        Choice("bf16", "parameters, gradients and optimizer state in bfloat16", _precision("bf16")),
        Choice("fp16", "parameters, gradients and optimizer state in float16", _precision("fp16")),
        Choice("bf16-master", "parameters and gradients in bfloat16, a float32 copy in the optimizer",
               _precision("bf16-master")),
        Choice("recompute", "each repeated block drops what it saved and runs again in the backward",
               lambda scenario, text: replace(scenario, recompute=text), "blocks"),
        Choice("recompute-every", "every k-th repeated block drops what it saved and runs again in the backward",
               lambda scenario, text: replace(scenario, recompute=f"every-{_count(text)}"), "2"),
        Choice("single", "the optimizer goes through parameters one by one", _implementation("single")),
        Choice("foreach", "the optimizer takes all parameters at once", _implementation("foreach")),
        Choice("fused", "the optimizer's step is one kernel", _implementation("fused")),
        *(Choice(name, f"{name} instead of the optimizer", _optimizer(name)) for name in
          ("sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad", "adafactor", "lion", "adam8bit", "adamw8bit")),
        Choice("accumulate", "the batch in k parts, gradients added up", _accumulate, "2"),
        Choice("keep-gradients", "gradients are filled with zeros instead of being given back",
               lambda scenario, _: replace(scenario, set_to_none=False)),
        Choice("batch", "another batch", lambda scenario, text: replace(scenario, batch=_count(text)), "required"),
        Choice("sequence", "another sequence length",
               lambda scenario, text: replace(scenario, sequence=_count(text)), "required"),
        Choice("resolution", "another resolution",
               lambda scenario, text: replace(scenario, resolution=_count(text)), "required"),
        Choice("freeze", "parameters of this pattern are not trained",
               lambda scenario, text: replace(scenario, freeze=(*scenario.freeze, text)), "required"),
        Choice("lora", "frozen layers with adapters of this rank", _lora(False), "8"),
        Choice("qlora", "frozen layers in NF4 with adapters of this rank", _lora(True), "8"),
        Choice("zero1", "optimizer state split over ranks", _sharded(1), "8"),
        Choice("zero2", "optimizer state and gradients split over ranks", _sharded(2), "8"),
        Choice("zero3", "optimizer state, gradients and parameters split over ranks", _sharded(3), "8"),
        Choice("fsdp", "full shard: as zero3", _sharded(3), "8"),
        Choice("tp", "tensor parallel over ranks, by formula",
               lambda scenario, text: replace(scenario, sharding=replace(scenario.sharding, tensor=_count(text))), "8"),
        Choice("sp", "tensor and sequence parallel over ranks, by formula",
               lambda scenario, text: replace(
                   scenario, sharding=replace(scenario.sharding, tensor=_count(text), sequence=True)), "8"),
    )
}  # fmt: skip


def parse(text: str) -> tuple[str, Callable[[Scenario], Scenario]]:
    """A row's name and its change: `amp`, `accumulate=4`, or several joined by `+`.

    Raises:
        UsageError: no such choice, or a value that it does not take.
    """
    parts = []
    for piece in text.split("+"):
        name, equals, value = piece.strip().partition("=")
        choice = CHOICES.get(name)
        if choice is None:
            near = get_close_matches(name, CHOICES, n=1)
            raise UsageError(
                f"there is no what-if {name!r}", expected=f"one of {', '.join(CHOICES)}",
                hint=f"--what-if {near[0]}" if near else "--what-if amp,recompute,fused",
            )  # fmt: skip
        if equals and not choice.value:
            raise UsageError(f"the what-if {name} takes no value", hint=f"--what-if {name}")
        if choice.value == "required" and not value:
            raise UsageError(f"the what-if {name} needs a value", hint=f"--what-if {name}=…")
        parts.append((choice, value or choice.value))

    def change(scenario: Scenario) -> Scenario:
        for choice, value in parts:
            scenario = choice.apply(scenario, value)
        return scenario

    return text, change
