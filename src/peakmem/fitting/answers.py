"""A question answered for a place: what each room must hold, and whether it does. Each question is worked out once."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from peakmem.engines.tflm.planner import lower_bound
from peakmem.errors import PeakmemError
from peakmem.fitting.engine import answered
from peakmem.fitting.need import Need, checked, needed, packed, rounded
from peakmem.fitting.parts import Answer, arena, part
from peakmem.fitting.place import Place, Room
from peakmem.fitting.question import Question
from peakmem.fitting.stored import file_of, file_part
from peakmem.passes.assume import assumption
from peakmem.report.fit import Part
from peakmem.verdict import beside_cuda

if TYPE_CHECKING:
    from peakmem.engines.prediction import Processor


class Stopped(PeakmemError):
    """The time for looking further is up; what was found stands."""


class Answers:
    """Answers for one place.

    An engine's may have to convert the model first: none but the first is begun after `seconds`.
    """

    def __init__(
        self, place: Place, *, processor: Processor | None = None, cache: Path | None = None, timeout: float = 600.0,
        seconds: float = 120.0,
    ) -> None:  # fmt: skip
        self.place = place
        self.seconds, self._begun = seconds, monotonic()
        self.processor, self.cache, self.timeout = processor, cache, timeout
        self.count = 0
        # analyses that were run
        self._known: dict[tuple[object, ...], Answer | PeakmemError] = {}

    def of(self, question: Question) -> Answer:
        """The answer to `question`, if it makes sense.

        Raises:
            Stopped: no time is left for it.
            PeakmemError: it cannot be answered.
        """
        known = self._known.get(question.key)
        if known is None:
            if question.engine and self._known and monotonic() - self._begun > self.seconds:
                raise Stopped(f"stopped after {self.seconds:g} s", hint="--try-for SECONDS")
            self.count += 1
            try:
                checked(question)
                known = (
                    answered(question, self.place, self.processor, self.cache, self.timeout)
                    if question.engine else self._graph(question)
                )  # fmt: skip
            except PeakmemError as fault:
                known = fault
            self._known[question.key] = known
        if isinstance(known, PeakmemError):
            raise known
        return known

    def is_known(self, question: Question) -> bool:
        """Whether it was worked out already."""
        return question.key in self._known

    def _graph(self, question: Question) -> Answer:
        need, place = needed(question), self.place
        parts = []
        if place.ram is not None and place.weights_in_flash:
            parts.append(_arena(place, place.ram, need, question))
        elif place.ram is not None:
            parts.append(_resident(place, place.ram, need, question))
        if place.storage is not None:
            stored = file_of(question, need, place.kind)
            parts.append(file_part(place.storage, stored, question.devices, place.runtime_bytes))
        return Answer(
            need.name, tuple(parts), need.live_bytes, need.matrix_bytes, need.matrix_elements, need.assumptions,
            need.unknowns,
        )  # fmt: skip


def _arena(place: Place, room: Room, need: Need, question: Question) -> Part:
    """RAM of a device that reads weights where they are stored."""
    buffers = rounded(need.buffers, place.alignment)
    live = lower_bound(buffers)[0]
    shares = (
        ("live peak", need.live_bytes), ("rounding", live - need.live_bytes), ("state", need.state_bytes),
        ("reserve", place.reserve_bytes),
    )  # fmt: skip
    convention = (
        f"arena: live peak [{assumption(question.assume).name}], buffers rounded to {place.alignment} B, and state; "
        "bound: packed by TFLM's greedy planner"
    )
    bound = packed(buffers) + need.state_bytes + place.reserve_bytes
    return arena(room, bound, convention, shares, buffers, sure=not need.unknowns)


def _resident(place: Place, room: Room, need: Need, question: Question) -> Part:
    """RAM that holds the weights, too."""
    split = f" / {question.devices} devices" if question.devices > 1 else ""
    shares = [
        (f"weights{split}", -(-need.weights_bytes // question.devices)), ("state", need.state_bytes),
        ("live peak", need.live_bytes), ("reserve", place.reserve_bytes),
    ]  # fmt: skip
    convention, more, said = f"weights{split} + state + live peak [{assumption(question.assume).name}]", 0, ""
    if place.kind == "gpu":
        beside = beside_cuda(place.card)
        shares.append(("CUDA context", beside.nbytes))
        convention += " + CUDA context"
        more, said = beside.bound_bytes - beside.nbytes, beside.said
    bound = sum(nbytes for _, nbytes in shares) + more
    return part(room, bound, convention, shares, sure=not need.unknowns, said=said)
