"""Does it fit: one question asked of one place, what would make it fit, and how far it could grow.

Puts together what stands apart: rooms, answers, knobs, changes and the search among them. Training is asked of
`fitting.training`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from peakmem.errors import PeakmemError, UsageError
from peakmem.fitting.answers import Answers, Stopped
from peakmem.fitting.changes import Site, named, offers
from peakmem.fitting.knobs import Knob, knobs, largest
from peakmem.fitting.likely import likely
from peakmem.fitting.need import checked, read
from peakmem.fitting.place import AS_ASKED, Place, place
from peakmem.fitting.question import Question
from peakmem.fitting.search import Search, tried
from peakmem.fitting.short import bits_per_weight, devices_needed, dtype_of, other_readings
from peakmem.fitting.stored import known_format
from peakmem.passes.assume import DEFAULT_ASSUMPTION
from peakmem.report.fit import Fit, Largest, Tried

if TYPE_CHECKING:
    from peakmem.devices import Device
    from peakmem.engines.prediction import Processor
    from peakmem.training.scenario import Scenario

T = TypeVar("T")
MOST_ANALYSES = 120
MOST_WITH_ENGINE = 16
# of one search; an engine's may convert the model each time
WANTED, WANTED_OF_ENGINE = 5, 2
# sets that fit, after which none is looked for
SPLIT_OVER = ("gpu", "computer", "accelerator", "")
# kinds of device of which one takes several
ALL = 10
# times those, when everything is to be tried


def fit(
    source: object, device: str | Device = "", *, ram: int | str | None = None, storage: int | str | None = None,
    reserve: int | str = 0, runtime: int | str = 0, weights_in_flash: bool | None = None, engine: str = "",
    settings: Iterable[str] = (), train: Scenario | None = None, batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None, dims: Mapping[str, int] | None = None,
    inputs: Sequence[str] = (), dtype: str = "", weights_dtype: str = "", assume: str = DEFAULT_ASSUMPTION,
    form: str = "", options: Mapping[str, str] | None = None, devices: int = 1, file: str = "",
    change: Sequence[str] = (), grow: Sequence[str] | None = None, search: Literal["needed", "all", "none"] = "needed",
    processor: Processor | None = None, processor_said: str = "", device_files: Sequence[str] = (), conf: str = "",
    route: str = "auto", choices: Sequence[str] = (), cache: Path | None = None, timeout: float = 600.0,
    try_for: float = 120.0,
) -> Fit:  # fmt: skip
    """Whether a network fits a device, by how much, how far it could grow, and what would make it fit.

    Args:
        source: what `peakmem.load` takes; for an engine a file or a name.
        device: a name of `peakmem devices`, a row of that table, or a size such as "24GiB" for RAM alone.
        ram, storage: bytes or sizes that stand in for the device's own.
        reserve, runtime: RAM and storage that something else takes.
        weights_in_flash: whether weights are read where they are stored, so that RAM holds the arena alone; as the
            device has it where it is not said.
        engine, settings, processor: predict this engine, see `peakmem.predict`; otherwise the graph alone is asked.
        processor_said: the processor as it is typed, for the commands that show a change.
        train: a training step instead of inference; only what `peakmem.train` takes goes with it.
        batch, shapes, dims, form, options, dtype, assume: see `peakmem.estimate`.
        inputs: of a live model, as text: "1x3x224x224", "ids=1x128:int64".
        weights_dtype: count the stored weights alone in this dtype.
        devices: that hold the weights together, split evenly.
        file: format of the model file that lies in storage; as the source is, or the weights alone, where not said.
        change: changes to try, such as "dtype=int8" or "resolution=96": each alone, then all together.
        grow: knobs of which the largest value is looked for, such as "batch"; without it all that the network has.
        search: look for the cheapest changes when it does not fit ("needed"), in any case and further ("all"), never.
        device_files: files with devices of your own.
        conf, route: of a training step, see `peakmem.train`.
        choices: of a training step: what-ifs that are made first, such as "amp" or "batch=32".
        cache, timeout: of a conversion, see `peakmem.measure`.
        try_for: seconds after which nothing more is asked of an engine.

    Raises:
        UsageError: something that is not there or does not go together.
        PeakmemError: the model cannot be read, or the engine refuses it.
    """
    where = place(
        device, ram=ram, storage=storage, reserve=reserve, runtime=runtime, weights_in_flash=weights_in_flash,
        table=tuple(device_files),
    )  # fmt: skip
    if train is not None:
        return _trained(source, train, where, inputs, shapes, dims, conf, route, choices, search, grow)
    if processor_said:
        where = replace(where, flags=(*where.flags, "--processor", processor_said))
    question = Question(
        source, batch, tuple((name, tuple(shape)) for name, shape in (shapes or {}).items()),
        tuple((dims or {}).items()), (inputs,) if isinstance(inputs, str) else tuple(inputs), dtype, weights_dtype,
        assume, form, tuple((options or {}).items()), engine, tuple(settings), devices, file,
    )  # fmt: skip
    checked(question)
    known_format(file)
    answers = Answers(where, processor=processor, cache=cache, timeout=timeout, seconds=try_for)
    return _answered(answers, question, where, tuple(change), search, grow)


def _trained(
    source: object, train: Scenario, where: Place, inputs: Sequence[str],
    shapes: Mapping[str, Sequence[int]] | None, dims: Mapping[str, int] | None, conf: str, route: str,
    choices: Sequence[str], search: str, grow: Sequence[str] | None,
) -> Fit:  # fmt: skip
    """The same question of a training step, which `fitting.training` answers."""
    from peakmem.fitting.training import fit_training
    from peakmem.fitting.training_largest import KNOBS

    room = where.ram
    if room is None:
        raise UsageError("training needs memory, and only storage is known here", where=where.name, hint="--ram SIZE")
    typed = room.printed and room.said.startswith(AS_ASKED)
    capacity = room.capacity_bytes - where.reserve_bytes if typed or where.reserve_bytes else None
    if capacity is not None and capacity < 1:
        raise UsageError("--reserve leaves nothing", where=where.name, expected="less than the memory")
    return fit_training(
        source, train, where.card, capacity=capacity, inputs=inputs or None, shapes=shapes, dims=dims, conf=conf,
        route=route, changes={"needed": "auto", "all": "all"}.get(search, "none"),  # type: ignore[arg-type]
        knobs=KNOBS if grow is None else tuple(_known(grow, {knob: knob for knob in KNOBS})), choices=choices,
        flags=where.flags,
    )  # fmt: skip


def _answered(
    answers: Answers, question: Question, where: Place, wanted: tuple[str, ...], search: str, grow: Sequence[str] | None
) -> Fit:
    found = answers.of(question)
    turned = _knobs(question, where)
    asked = _asked(turned, grow)
    alone = not question.engine and where.kind in SPLIT_OVER
    share = devices_needed(found, where, question.devices) if alone and not found.holds else None
    site = Site(question, where, turned, _kinds(question), share)
    listed: list[Tried] = []
    said = ""
    if wanted:
        chosen = named(wanted, site)
        sets = [(one,) for one in chosen] + ([chosen] if len(chosen) > 1 else [])
        listed += [tried(answers, question, one, where.flags) for one in sets]
    hopeless = found.outcome == "cannot tell"
    if search == "all" or (search == "needed" and not wanted and not found.holds and not hopeless):
        before = answers.count
        most, enough = (MOST_WITH_ENGINE, WANTED_OF_ENGINE) if question.engine else (MOST_ANALYSES, WANTED)
        times = ALL if search == "all" else 1
        looking = Search(answers, question, offers(site), where.flags, wanted=enough * times, most=most * times,
                         likely=likely(answers, question) if question.engine else None)  # fmt: skip
        listed += looking.run()
        said = _searched(looking, answers.count - before)
    elif hopeless:
        said = "no change was looked for: none of them gives a size to what has none"
    looked_for, left = asked, tuple[str, ...]()
    if found.converted and search != "all" and grow is None and turned:
        names = ", ".join(knob.name for knob in turned)
        looked_for, left = (), (f"the largest {names} was not looked for: the model would be converted for each value "
                                "(--grow NAME asks for it; a file that the engine reads needs none)",)  # fmt: skip
    bits = bits_per_weight(found, question.devices) if found.outcome == "does not fit" else None
    return Fit(
        found.name, where.name, where.title, "inference", question.engine, found.outcome, found.parts,
        tuple(part.name for part in found.parts if part.outcome == "does not fit"), found.gap,
        tuple(other_readings(where, found)), tuple(_largest(answers, question, looked_for)), tuple(listed), share,
        None if bits is None else float(bits), "" if bits is None else dtype_of(bits, answers, question), said,
        (*found.assumptions, *left), found.unknowns,
    )  # fmt: skip


def _knobs(question: Question, where: Place) -> tuple[Knob, ...]:
    try:
        return tuple(knobs(question, has_ram=where.ram is not None))
    except PeakmemError:
        return ()


def _asked(turned: tuple[Knob, ...], grow: Sequence[str] | None) -> tuple[Knob, ...]:
    return turned if grow is None else tuple(_known(grow, {knob.name: knob for knob in turned}))


def _known(grow: Sequence[str], known: Mapping[str, T]) -> Iterator[T]:
    """What is to grow, by name.

    Raises:
        UsageError: a name that is none.
    """
    for name in dict.fromkeys(grow):
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"--grow {near[0] if near else next(iter(known))}" if known else "without --grow"
            raise UsageError(
                f"there is no {name[:40]!r} to grow", expected=", ".join(known) or "nothing here", hint=hint
            )
        yield known[name]


def _kinds(question: Question) -> frozenset[str]:
    """Kinds of the tensors that the network stores or is given."""
    graph = read(question)
    return frozenset(one.dtype.kind for one in graph.tensors.values() if one.dtype is not None)


def _largest(answers: Answers, question: Question, turned: Sequence[Knob]) -> Iterator[Largest]:
    for knob in turned:
        try:
            found = largest(answers, question, knob)
        except Stopped:
            return
        if found is not None:
            yield found


def _searched(search: Search, analyses: int) -> str:
    kinds = ", ".join(family[0].family for family in search.families) or "nothing"
    end = "; there is no other" if search.exhausted else ""
    if search.stopped:
        end = f"; stopped after {search.answers.seconds:g} s"
    if not search.found:
        end = ": none of them fits" if search.exhausted else f": none so far fits{end}"
    if search.left_out:
        end += "; sets that the graph alone says are far from enough were not asked"
    return f"sets of up to 4 changes of {kinds}, cheapest first; {analyses} analyses{end}"
