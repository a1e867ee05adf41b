"""Which changes are worth asking an engine about: the graph alone, scaled to what the engine said of the unchanged one.

An engine's answer may take a conversion of the model, the graph's takes milliseconds. Nothing here is an answer: it
only says what not to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from peakmem.errors import PeakmemError
from peakmem.fitting.answers import Answers
from peakmem.fitting.changes import Change
from peakmem.fitting.parts import Answer
from peakmem.fitting.question import Question

MARGIN = 1.25
# times the capacity that the scaled need may be
BY_SETTING = 0.5
# of its need that an engine's settings may leave
DTYPES = {"quantise=int8": "int8", "bf16_storage=on": "bfloat16"}
# settings that do what a dtype does


def likely(answers: Answers, question: Question) -> Callable[[Sequence[Change]], bool]:
    """Says of a set of changes whether it may make `question`, which names an engine, fit."""
    plain = replace(question, engine="", settings=())
    alone = Answers(answers.place)
    said = {part.name: part.needed_bytes for part in answers.of(question).parts}
    base = _sizes(alone, _counted(plain, question.settings))

    def judge(chosen: Sequence[Change]) -> bool:
        asked, factor = _counted(plain, question.settings), 1.0
        for one in chosen:
            if one.family == "engine":
                return True
            if one.name in DTYPES:
                asked = replace(asked, dtype=DTYPES[one.name])
            elif one.is_setting:
                factor = BY_SETTING
            else:
                asked = one.made(asked)
        found = _sizes(alone, asked)
        if base is None or found is None:
            return True
        return all(
            found[part.name] / base[part.name] * said[part.name] * factor <= MARGIN * part.capacity_bytes
            for part in answers.of(question).parts
            if base.get(part.name)
        )

    return judge


def _counted(plain: Question, settings: Sequence[str]) -> Question:
    """The graph's question in the dtype that the engine's settings make."""
    chosen = [DTYPES[text] for said in settings for text in said.split(",") if text in DTYPES]
    return replace(plain, dtype=chosen[-1]) if chosen else plain


def _sizes(alone: Answers, question: Question) -> dict[str, int] | None:
    try:
        found: Answer = alone.of(question)
    except PeakmemError:
        return None
    return {part.name: part.needed_bytes for part in found.parts}
